"""Several reward models as one: the aggregates by numpy, what is shared, and what is saved."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from heedful.data import testing
from heedful.data.collate import Tree, collate
from heedful.errors import ConfigError, DataError, MissingError
from heedful.jobs.models import ModelRef, open_trunk, start_policy
from heedful.jobs.rewards import export_classifier
from heedful.model.adapter_files import MEMBERS, load_role, read_card, weights_hash
from heedful.model.forward import hidden_states, states_by_role
from heedful.reward.ensemble import (
    AGGREGATES,
    EnsembleReward,
    EnsembleScorer,
    bootstrap_counts,
    load_reward,
    member_seed,
    roles_of,
    save_ensemble,
)
from heedful.reward.trained import HALF_SHRUNK, TrainedReward

TREES = [
    Tree(id="a", prompt=(5, 6, 7), responses=((8, 9, 10, 11, 1), (12, 1))),
    Tree(id="b", prompt=(20, 21), responses=((22, 23, 24),)),
]


def flat(rows: list[list[float]]) -> list[float]:
    return [value for row in rows for value in row]


def new(aggregate: str = "mean", num: int = 4, first_layer: int = 1) -> EnsembleReward:
    """An ensemble whose members are drawn at random, each with moments of its own."""
    trunk = open_trunk(ModelRef(base="test"), dtype="float32")
    members = []
    for number, role in enumerate(roles_of(num)):
        trunk.add_adapter(role, rank=4, alpha=8.0, seed=number, first_layer=first_layer)
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for name, value in trunk.adapter_parameters(role).items():
                if name.endswith("lora_b"):
                    value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
        trunk.add_head(role, std=0.4, seed=number, pooling="mean")
        trunk.add_links(role, {"tie": torch.tensor(float(number))})
        members.append(TrainedReward(trunk, role=role, mean=0.1 * number, std=0.8))
    return EnsembleReward(trunk, members, aggregate=aggregate, penalty=0.7, mean=0.3, std=1.4)


@pytest.fixture(scope="module")
def ensemble() -> EnsembleReward:
    return new()


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_the_reward_is_the_aggregate_of_what_members_give_alone(
    ensemble: EnsembleReward, aggregate: str
) -> None:
    own = EnsembleReward(
        ensemble.trunk, ensemble.members, aggregate=aggregate, penalty=0.7, mean=0.3, std=1.4
    )
    each = np.array(
        [
            [score for row in member.score_trees(TREES, 512) for score in row]
            for member in own.members
        ]
    )
    wanted = {
        "mean": each.mean(axis=0),
        "worst_case": each.min(axis=0),
        "mean_minus_variance": each.mean(axis=0) - 0.7 * each.var(axis=0, ddof=1),
    }[aggregate]
    rewards, doubts = own.judge_trees(TREES, 512)
    assert [len(row) for row in rewards] == [2, 1]
    np.testing.assert_allclose(flat(rewards), (wanted - 0.3) / 1.4, atol=1e-5)
    np.testing.assert_allclose(flat(doubts), each.std(axis=0, ddof=1) / 1.4, atol=1e-5)
    assert own.score_trees(TREES, 512) == rewards
    assert each.std(axis=0).min() > 0.05


@pytest.mark.parametrize("aggregate", AGGREGATES)
@torch.no_grad()
def test_the_score_so_far_is_the_shrunk_reward_of_the_answer_cut_there(
    ensemble: EnsembleReward, aggregate: str
) -> None:
    own = EnsembleReward(
        ensemble.trunk, ensemble.members, aggregate=aggregate, penalty=0.7, mean=0.3, std=1.4
    )

    def read(trees: list[Tree]) -> tuple[object, torch.Tensor]:
        batch = collate(trees, own.trunk.device)
        return batch, torch.stack(states_by_role(own.trunk, batch, own.roles))

    batch, states = read(TREES)
    expected = []
    for tree in TREES:
        for response in tree.responses:
            expected.append(0.0)
            for n in range(1, len(response)):
                cut = replace(tree, responses=(response[:n],))
                expected.append(own.score(*read([cut]), ()).item() * n / (n + HALF_SHRUNK))  # type: ignore[arg-type]
    torch.testing.assert_close(
        own.score_so_far(batch, states),  # type: ignore[arg-type]
        torch.tensor(expected),
        atol=1e-5,
        rtol=1e-5,
    )


def test_layers_below_the_first_adapted_one_run_once_for_all_members(
    ensemble: EnsembleReward, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk, num_runs = ensemble.trunk, [0, 0]
    for number, layer in enumerate(trunk.decoder_layers):
        run = layer.mlp.forward

        def counted(*given: object, number: int = number, run: object = run) -> object:
            num_runs[number] += 1
            return run(*given)  # type: ignore[operator]

        monkeypatch.setattr(layer.mlp, "forward", counted)
    batch = collate(TREES, trunk.device)
    shared = states_by_role(trunk, batch, ensemble.roles)
    assert num_runs == [1, 4]
    for role, states in zip(ensemble.roles, shared, strict=True):
        torch.testing.assert_close(states, hidden_states(trunk, batch, role))


def test_normalised_on_answers_an_ensemble_has_mean_0_and_deviation_1() -> None:
    own = new("mean_minus_variance")
    raw = np.array(
        [[s for row in TrainedReward(own.trunk, role=role).score_trees(TREES, 512) for s in row]
         for role in own.roles]
    )  # fmt: skip
    own.normalise(TREES, 512)
    rewards = np.array(flat(own.score_trees(TREES, 512)))
    assert rewards.mean() == pytest.approx(0, abs=1e-5)
    assert rewards.std() == pytest.approx(1, abs=1e-5)
    centred = raw - raw.mean(axis=1, keepdims=True)
    std = np.sqrt((centred**2).mean())
    assert [member.std for member in own.members] == pytest.approx([std] * 4)
    members = own.read_trees(TREES, 512).numpy()
    np.testing.assert_allclose(members.T, centred / std, atol=1e-5)


def test_a_saved_ensemble_scores_the_same_and_its_members_are_adapters(tmp_path: Path) -> None:
    own = new("worst_case")
    given = save_ensemble(own, tmp_path / "model", learned=frozenset({"p"}))
    assert given == weights_hash(tmp_path / "model")
    trunk = open_trunk(ModelRef(base="test"), dtype="float32")
    loaded, card = load_reward(trunk, tmp_path / "model")
    assert isinstance(loaded, EnsembleReward)
    assert (card.role, card.members, card.aggregate, card.penalty) == (
        "reward", 4, "worst_case", 0.7,
    )  # fmt: skip
    assert loaded.judge_trees(TREES, 512) == own.judge_trees(TREES, 512)
    assert float(trunk.links["reward/3"]["tie"]) == 3.0
    assert load_role(trunk, tmp_path / "model" / MEMBERS / "2", "reward").mean == 0.2


def test_the_hash_of_an_ensemble_is_of_every_member_and_the_aggregate(tmp_path: Path) -> None:
    own = new()
    hashes = {save_ensemble(own, tmp_path / "a")}
    with torch.no_grad():
        own.trunk.heads["reward/3"].bias.add_(1.0)
    hashes.add(save_ensemble(own, tmp_path / "b"))
    own.aggregate = "worst_case"
    hashes.add(save_ensemble(own, tmp_path / "c"))
    assert len(hashes) == 3


def test_what_an_ensemble_is_not_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "model"
    save_ensemble(new(), path)
    trunk = open_trunk(ModelRef(base="test"), dtype="float32")
    with pytest.raises(DataError, match="ensemble of 4 reward models and one adapter is needed"):
        start_policy(trunk, ModelRef(base="test", adapter=path))
    with pytest.raises(ConfigError, match="no average of the members' weights"):
        export_classifier(str(path), None, tmp_path / "classifier")
    assert not (tmp_path / "classifier").exists()
    (path / MEMBERS / "1").rename(tmp_path / "gone")
    with pytest.raises(MissingError, match="ensemble of 4 and holds members 0, 2, 3"):
        load_reward(trunk, path)
    assert read_card(path).members == 4


def test_pairs_are_scored_by_each_member_and_by_the_aggregate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = new("worst_case")
    scored = EnsembleScorer(own, max_tokens=256).score(testing.preferences()[:5])
    assert scored.chosen.shape == scored.rejected.shape == (5, 4)
    assert scored.total is not None
    # in log-odds: the deviation that all members are divided by is taken back
    lowest = np.stack([scored.chosen.min(axis=1), scored.rejected.min(axis=1)], axis=1)
    np.testing.assert_allclose(scored.total, lowest, atol=1e-6)
    np.testing.assert_allclose(scored.deltas, lowest[:, 0] - lowest[:, 1], atol=1e-6)
    small = EnsembleScorer(own, max_tokens=2).score(testing.preferences()[:5])
    np.testing.assert_allclose(small.chosen, scored.chosen, atol=1e-5)
    monkeypatch.setattr(type(own.trunk), "max_tokens", 2)
    nothing = EnsembleScorer(own, max_tokens=256).score(testing.preferences()[:2])
    assert (nothing.pairs, nothing.chosen.shape) == ((), (0, 1))


def test_a_bootstrap_sample_has_as_many_draws_as_there_are_prompts() -> None:
    counts = np.array([bootstrap_counts(5000, 3, member) for member in range(4)])
    assert counts.sum(axis=1).tolist() == [5000] * 4
    # 1 - 1/e are drawn at least once; the standard error over 5,000 prompts is below 0.5 %
    np.testing.assert_allclose((counts > 0).mean(axis=1), 1 - np.exp(-1), atol=0.02)
    assert np.abs(np.corrcoef(counts) - np.eye(4)).max() < 0.06
    assert len({member_seed(seed, member) for seed in range(3) for member in range(4)}) == 12
