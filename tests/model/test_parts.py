"""One reward of several named outputs, against written-out numpy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import expit

from heedful.data.collate import Tree, collate
from heedful.errors import DataError
from heedful.model.adapter_files import HEAD, load_role, save_role
from heedful.model.base import load_base
from heedful.model.forward import forward
from heedful.model.parts import Mix, Parts
from heedful.model.trunk import Trunk
from heedful.reward.trained import TrainedReward
from heedful.types import Part

NAMES = (
    Part("overall", "score"), Part("honest", "score"), Part("polite", "score"),
    Part("bias", "flag"), Part("unsafe", "flag"),
)  # fmt: skip
SAMPLE = np.random.default_rng(0).normal([2, 0, -5, -1, -2], [3, 1, 0.2, 1, 2], size=(200, 5))
OUTPUTS = np.random.default_rng(1).normal([2, 0, -5, -1, -2], [3, 1, 0.2, 1, 2], size=(50, 5))


def parts(**mix: dict[str, float]) -> Parts:
    return Parts(parts=NAMES, mix=Mix(**mix), sample=torch.tensor(SAMPLE, dtype=torch.float32))


def total(found: Parts, outputs: np.ndarray = OUTPUTS) -> np.ndarray:
    return found.total(torch.tensor(outputs, dtype=torch.float32)).numpy()


def by_hand(outputs: np.ndarray, weights: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    z = (outputs[:, :3] - SAMPLE[:, :3].mean(0)) / SAMPLE[:, :3].std(0)
    return SAMPLE[:, 0].std() * (z @ weights - expit(outputs[:, 3:]) @ penalties)


def test_the_reward_is_the_weighted_sum_of_deviations_less_the_penalties() -> None:
    found = parts(weights={"honest": 2.0, "polite": -0.5}, penalties={"unsafe": 3.0})
    wanted = by_hand(OUTPUTS, np.array([0, 2, -0.5]), np.array([0, 3]))
    np.testing.assert_allclose(total(found), wanted, atol=1e-4)
    totals = by_hand(SAMPLE, np.array([0, 2, -0.5]), np.array([0, 3]))
    np.testing.assert_allclose(found.moments(), (totals.mean(), totals.std()), atol=1e-4)


def test_the_overall_score_alone_stays_log_odds_up_to_a_constant() -> None:
    alone = parts(weights={"overall": 1.0})
    assert alone.is_log_odds
    assert not parts(weights={"overall": 1.0, "honest": 0.1}).is_log_odds
    found = total(alone)
    np.testing.assert_allclose(np.diff(found), np.diff(OUTPUTS[:, 0]), atol=1e-4)


def test_the_overall_score_is_found_by_its_name_wherever_it_stands() -> None:
    turned = Parts(parts=NAMES[::-1], mix=Mix(), sample=torch.tensor(SAMPLE[:, ::-1].copy()))
    assert (parts().overall, turned.overall) == (0, 4)
    assert Parts(parts=NAMES[1:], mix=Mix(), sample=torch.tensor(SAMPLE[:, 1:])).overall is None


def test_without_scores_the_reward_is_what_is_not_wrong() -> None:
    flags = Parts(
        parts=NAMES[3:],
        mix=Mix(penalties={"bias": 2.0}),
        sample=torch.tensor(SAMPLE[:, 3:], dtype=torch.float32),
    )
    np.testing.assert_allclose(total(flags, OUTPUTS[:, 3:]), -2 * expit(OUTPUTS[:, 3]), atol=1e-5)
    assert flags.moments()[1] == pytest.approx(2 * expit(SAMPLE[:, 3]).std(), abs=1e-5)


def test_a_veto_holds_an_answer_four_deviations_below_the_mean_however_good_the_rest() -> None:
    found = parts(weights={"overall": 1.0}, penalties={"bias": 1.0}, limits={"unsafe": 0.6})
    before = by_hand(OUTPUTS, np.array([1, 0, 0]), np.array([1, 0]))
    sample = by_hand(SAMPLE, np.array([1, 0, 0]), np.array([1, 0]))
    floor = sample.mean() - 4 * sample.std()
    is_vetoed = expit(OUTPUTS[:, 4]) > 0.6
    assert 0 < is_vetoed.sum() < 50
    wanted = np.where(is_vetoed, np.minimum(before, floor), before)
    np.testing.assert_allclose(total(found), wanted, atol=1e-4)
    named = found.vetoes(torch.tensor(OUTPUTS, dtype=torch.float32))
    assert named == [("unsafe",) if one else () for one in is_vetoed]


def test_where_two_criteria_conflict_the_mix_decides_the_order_and_turns_it_once() -> None:
    # of two answers one is a deviation more honest, the other a deviation more polite
    mean, std = SAMPLE.mean(0), SAMPLE.std(0)
    pair = np.tile(mean, (2, 1))
    pair[0, 1] += std[1]
    pair[1, 2] += std[2]
    leads = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        honest, polite = total(parts(weights={"honest": share, "polite": 1 - share}), pair)
        leads.append((honest - polite) / std[0])
    np.testing.assert_allclose(leads, [-1, -0.5, 0, 0.5, 1], atol=1e-4)


def test_a_larger_penalty_lowers_the_flag_rate_of_the_best_answers() -> None:
    rates = []
    for penalty in (0.0, 0.5, 2.0, 8.0):
        best = total(parts(weights={"overall": 1.0}, penalties={"bias": penalty}))
        picked = [group[np.argmax(best[group])] for group in np.split(np.arange(50), 10)]
        rates.append(expit(OUTPUTS[picked, 3]).mean())
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[-1]


def test_a_linear_reward_is_its_coefficients() -> None:
    found = parts(weights={"overall": 1.0, "polite": 0.5})
    coefficients, constant = found.linear()
    np.testing.assert_allclose(OUTPUTS @ coefficients.numpy() + constant, total(found), atol=1e-4)
    assert not parts(penalties={"bias": 1.0}).mix.is_linear
    assert not parts(limits={"bias": 0.5}).mix.is_linear


def test_people_are_shown_deviations_and_probabilities() -> None:
    shown = parts().shown(torch.tensor(OUTPUTS, dtype=torch.float32)).numpy()
    z = (OUTPUTS[:, :3] - SAMPLE[:, :3].mean(0)) / SAMPLE[:, :3].std(0)
    np.testing.assert_allclose(shown, np.hstack([z, expit(OUTPUTS[:, 3:])]), atol=1e-4)


TREES = [
    Tree(id="a", prompt=(5, 6, 7), responses=((8, 9, 10, 1), (12, 1))),
    Tree(id="b", prompt=(20, 21), responses=((22, 23, 24, 1),)),
]


@pytest.fixture(scope="module")
def trunk() -> Trunk:
    torch.manual_seed(0)
    made = Trunk(load_base("test"))
    made.add_adapter("reward", rank=4, alpha=8.0, seed=0, depth=1)
    for name, value in made.adapter_parameters("reward").items():
        if name.endswith("lora_b"):
            torch.nn.init.normal_(value, std=0.1)
    made.add_head("reward", std=0.3, seed=0, pooling="mean", num_outputs=len(NAMES))
    made.parts["reward"] = parts(weights={"overall": 1.0, "polite": 0.5}, limits={"unsafe": 0.4})
    return made


def test_parts_are_saved_and_come_back_to_the_bit(trunk: Trunk, tmp_path: Path) -> None:
    mean, std = trunk.parts["reward"].moments()
    save_role(trunk, "reward", tmp_path / "model", mean=mean, std=std)
    again = Trunk(load_base("test"))
    card = load_role(again, tmp_path / "model", "reward")
    assert (card.parts, card.mix) == (NAMES, trunk.parts["reward"].mix)
    assert torch.equal(again.parts["reward"].sample, trunk.parts["reward"].sample)
    assert again.parts["reward"].moments() == (mean, std)
    batch = collate(TREES, trunk.device)
    left, right = (forward(one, batch, "reward", {"scores"}).parts for one in (trunk, again))
    assert list(left) == [part.name for part in NAMES]
    assert all(torch.equal(left[name], right[name]) for name in left)
    scores = [TrainedReward(one, mean=mean, std=std).score_trees(TREES, 64)
              for one in (trunk, again)]  # fmt: skip
    assert scores[0] == scores[1]


@pytest.mark.parametrize("pooling", ["mean", "last"])
@torch.no_grad()
def test_the_score_so_far_mixes_the_parts_of_the_answer_cut_there(
    trunk: Trunk, pooling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heedful.model.forward import hidden_states
    from heedful.reward.trained import HALF_SHRUNK

    monkeypatch.setitem(trunk.pooling, "reward", pooling)
    monkeypatch.setitem(
        trunk.parts, "reward", parts(weights={"honest": 1.0}, penalties={"bias": 2.0})
    )
    reward = TrainedReward(trunk, mean=0.2, std=1.7)
    batch = collate(TREES, trunk.device)
    so_far = reward.score_so_far(batch, hidden_states(trunk, batch, "reward"))
    wanted = []
    for tree in TREES:
        for response in tree.responses:
            wanted.append(0.0)
            for n in range(1, len(response)):
                cut = collate([replace(tree, responses=(response[:n],))], trunk.device)
                score = reward.score(cut, hidden_states(trunk, cut, "reward"), ()).item()
                wanted.append(score * n / (n + HALF_SHRUNK))
    torch.testing.assert_close(so_far, torch.tensor(wanted), atol=1e-4, rtol=1e-4)
    assert len({round(value, 3) for value in wanted}) > 5


def test_a_head_that_does_not_fit_its_card_is_refused(trunk: Trunk, tmp_path: Path) -> None:
    save_role(trunk, "reward", tmp_path / "model")
    tensors = load_file(tmp_path / "model" / HEAD)
    broken = tensors | {"weight": tensors["weight"][:2], "bias": tensors["bias"][:2]}
    save_file({k: v.contiguous() for k, v in broken.items()}, tmp_path / "model" / HEAD)
    with pytest.raises(DataError, match=r"has 2 outputs .* the card names 5 parts"):
        load_role(Trunk(load_base("test")), tmp_path / "model", "reward")


def test_rewards_that_score_apart_have_hashes_apart(trunk: Trunk, tmp_path: Path) -> None:
    def hashed(name: str) -> str:
        return save_role(trunk, "reward", tmp_path / name)

    found = [hashed("a")]
    assert hashed("again") == found[0]
    mixed = trunk.parts["reward"]
    trunk.parts["reward"] = replace(mixed, mix=replace(mixed.mix, limits={"unsafe": 0.6}))
    found.append(hashed("another mix"))
    trunk.parts["reward"] = mixed
    trunk.length_penalty["reward"] = 0.01
    found.append(hashed("shorter"))
    del trunk.length_penalty["reward"]
    assert len(set(found)) == 3
