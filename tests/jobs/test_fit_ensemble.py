"""An ensemble through the whole chain: fitted, stopped, scored, measured, and optimised against."""

import json
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from heedful.config import (
    EvaluateConfig,
    PPOConfig,
    RewardCardConfig,
    RewardConfig,
    RewardLoss,
    resolve,
)
from heedful.data import testing
from heedful.data.collate import Tree
from heedful.data.examples import feedback_trees
from heedful.data.plain import PLAIN
from heedful.data.snapshot import freeze
from heedful.errors import ConfigError, DataError
from heedful.jobs.evaluate import evaluate
from heedful.jobs.fit import FitResult, fit_ppo, fit_reward
from heedful.jobs.fit.ensemble import check_ensemble, start_members
from heedful.jobs.fit.lesson import lesson_of
from heedful.jobs.fit.memory import Means, memory_lines
from heedful.jobs.models import ModelRef, open_trunk
from heedful.jobs.reward_card import reward_card
from heedful.jobs.rewards import open_reward
from heedful.jobs.rundir import RunDirectory
from heedful.jobs.scoring import score_file
from heedful.model import budget
from heedful.model.adapter_files import read_card, read_learned
from heedful.reward.ensemble import EnsembleReward
from heedful.reward.reading import answers_tree
from heedful.store import Store, open_store
from heedful.store import models as model_table
from heedful.train import checkpoint
from heedful.train.members import Member
from heedful.train.objectives import feedback_reward
from heedful.train.rollouts import RolloutSource
from heedful.types import Feedback, Message, Prompt

FLAGS = {"data": "test", "model": "test"}
FAST = ["optimiser.learning_rate=3e-3", "checkpoint_every=2", "held_out_share=0.3"]
# the tiny model has two layers: the first is shared, the second adapted
FOUR = [*FAST, "ensemble.members=4", "adapter.depth=2"]


def config(*overrides: str) -> RewardConfig:
    return resolve(RewardConfig, overrides=[*FOUR, *overrides], flags=FLAGS)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(tmp_path_factory.mktemp("store") / "s.db") as opened:
        yield opened


@pytest.fixture(scope="module")
def fitted(store: Store, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return fit_reward(config(), tmp_path_factory.mktemp("four") / "run", store=store)


def tensors(result: FitResult) -> dict[str, torch.Tensor]:
    found = {}
    for file in sorted(Path(result.path).rglob("*.safetensors")):
        place = file.relative_to(result.path)
        found |= {f"{place}/{name}": value for name, value in load_file(file).items()}
    return found


def test_an_ensemble_is_one_registered_reward_model(fitted: FitResult, store: Store) -> None:
    with store.read() as tx:
        (version,) = [one for one in model_table.list_all(tx) if one.role == "reward"]
    assert (version.id, version.path) == (fitted.model, str(Path(fitted.path).resolve()))
    card = read_card(Path(fitted.path))
    assert (card.role, card.members, card.aggregate) == ("reward", 4, "mean")
    assert fitted.metrics["accuracy"] >= 0.9
    assert len(fitted.metrics["member_accuracy"]) == 4
    rows = RunDirectory.read_metrics(Path(fitted.run))
    assert all(np.isfinite(value) for row in rows for value in row.values())
    assert rows[0]["profile/stem_tokens"] > 0


def test_a_member_by_itself_knows_what_it_learned_from(fitted: FitResult) -> None:
    known = read_learned(Path(fitted.path))
    assert known
    assert all(read_learned(Path(fitted.path) / "members" / str(n)) == known for n in range(4))


def test_members_differ_in_every_parameter(fitted: FitResult) -> None:
    found = tensors(fitted)
    names = [name.removeprefix("members/0/") for name in found if name.startswith("members/0/")]
    assert names
    for name in (one for one in names if not one.endswith("bias")):
        each = [found[f"members/{number}/{name}"] for number in range(4)]
        assert all(not torch.equal(each[0], other) for other in each[1:]), name


def test_a_stopped_fit_goes_on_to_the_same_members(
    fitted: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoppedError(Exception):
        pass

    save = checkpoint.save

    def save_and_stop(*given: Any) -> None:
        save(*given)
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save_and_stop)
        with pytest.raises(StoppedError):
            fit_reward(config(), tmp_path / "run")
    (last,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    held = load_file(last / "parameters.safetensors")
    assert {name.partition(":")[0] for name in held} == {f"reward/{n}" for n in range(4)}
    again, unbroken = tensors(fit_reward(config(), tmp_path / "run")), tensors(fitted)
    assert again.keys() == unbroken.keys()
    assert all(torch.equal(again[name], unbroken[name]) for name in unbroken)


def test_scores_of_a_file_have_the_deviation_of_the_members(
    fitted: FitResult, tmp_path: Path
) -> None:
    file = tmp_path / "asked.jsonl"
    rows: list[dict[str, Any]] = [
        {"prompt": "hi", "completions": ["hello", "go away"]},
        {"prompt": "why?", "completions": ["because"]},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = open_reward(fitted.run, None)
    lines: list[str] = []
    result = score_file(lambda: model, file, write=lines.append)
    assert result.num_scored == 3
    found = [json.loads(line) for line in lines]
    assert [set(one) for one in found] == [{"line", "completion", "reward", "uncertainty"}] * 3
    reward = model.reward
    assert isinstance(reward, EnsembleReward)
    trees = [
        answers_tree(
            model.trunk.tokenizer,
            "a",
            Prompt.of(row["prompt"]),
            [[Message(role="assistant", content=text)] for text in row["completions"]],
        )
        for row in rows
    ]
    members = np.array([flat(one.score_trees(trees, 512)) for one in reward.members])
    given = [[one[name] for one in found] for name in ("reward", "uncertainty")]
    np.testing.assert_allclose(given[0], (members.mean(0) - reward.mean) / reward.std, atol=1e-5)
    np.testing.assert_allclose(given[1], members.std(0, ddof=1) / reward.std, atol=1e-5)
    assert min(given[1]) > 0


def flat(rows: list[list[float]]) -> list[float]:
    return [value for row in rows for value in row]


def test_the_card_and_the_evaluation_read_the_aggregate(
    fitted: FitResult, store: Store, tmp_path: Path
) -> None:
    settings = RewardCardConfig(data="test", model=fitted.run)
    result = reward_card(settings, tmp_path / "card", store=store)
    rows = [
        json.loads(line) for line in (tmp_path / "card" / "scores.jsonl").read_text().splitlines()
    ]
    assert {len(row["chosen"]) for row in rows} == {4}
    for row in rows:
        spread = np.std(np.subtract(row["chosen"], row["rejected"]), ddof=1)
        assert row["uncertainty"] == pytest.approx(spread, abs=1e-5)
    assert "ensemble of 4 reward models, mean" in result["card"]["scale"]
    measured = evaluate(EvaluateConfig(data="test", model=fitted.run), tmp_path / "dev")
    means = [np.mean(np.subtract(row["chosen"], row["rejected"])) for row in rows]
    assert sorted(measured["deltas"]) == pytest.approx(sorted(means), abs=1e-3)
    assert measured["accuracy"] == pytest.approx(result["accuracy"])


def test_a_policy_is_optimised_against_the_aggregate(
    fitted: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["rollouts.num_rollouts=1", "rollouts.prompts_per_rollout=4",
             "rollouts.samples_per_prompt=2", "rollouts.max_new_tokens=8"]  # fmt: skip
    settings = resolve(PPOConfig, overrides=small, flags=FLAGS | {"reward": fitted.run})
    seen: list[tuple[Tree, list[float]]] = []
    judge = RolloutSource.judge

    def noted(source: RolloutSource, trees: Any, rows: Any, **given: Any) -> Any:
        batch, scores = judge(source, trees, rows, **given)
        rest = iter(scores)
        seen.extend((tree, [next(rest).item() for _ in tree.responses]) for tree in trees)
        # the critic starts as the ensemble's score so far
        assert batch.features is not None
        assert batch.old_values is not None
        so_far = batch.features[:, -1]
        torch.testing.assert_close(so_far, batch.old_values[batch.rows, batch.columns])
        assert (so_far != 0).sum() > len(scores)
        return batch, scores

    monkeypatch.setattr(RolloutSource, "judge", noted)
    done = fit_ppo(settings, tmp_path / "run")
    (parent,) = [one for one in read_card(Path(done.path)).parents if one.role == "reward"]
    assert parent.path == str(Path(fitted.path).resolve())
    reward = open_reward(fitted.run, None).reward
    wanted = reward.score_trees([tree for tree, _ in seen], 512)
    np.testing.assert_allclose([row for _, row in seen], wanted, atol=1e-4)


def test_every_member_is_in_the_budget_and_activations_once() -> None:
    rows = testing.preferences()
    four = memory_lines("reward", config(), None, rows, Means(lays_out=False))
    one = memory_lines(
        "reward", config("ensemble.members=1", "adapter.first_layer=1"), None, rows,
        Means(lays_out=False),
    )  # fmt: skip
    assert [line.role for line in four] == ["base", *(f"reward/{n}" for n in range(4))]
    assert [line.role for line in one] == ["base", "reward"]
    more = budget.total_bytes(four) - budget.total_bytes(one)
    assert more == 3 * one[1].num_bytes


def test_members_learn_every_form_with_thresholds_of_their_own(tmp_path: Path) -> None:
    rows = [
        Feedback(
            prompt=row.prompt,
            responses=(row.chosen, row.rejected),
            scale="thumb" if number % 2 else "order",
            values=(1, 0) if number % 2 else (0, 1),
        )
        for number, row in enumerate(testing.preferences())
    ]
    file = freeze(rows, "feedback", tmp_path).path
    done = fit_reward(
        config("ensemble.aggregate=worst_case").model_copy(update={"data": file}), tmp_path / "run"
    )
    links = done.metrics["links"]
    assert len(links) == 4
    assert len({one["thumb/threshold"] for one in links}) == 4
    assert done.metrics["accuracy"] >= 0.9
    assert done.metrics["concordance_thumbs"] >= 0.9
    trunk = open_reward(done.run, None).trunk
    for number, own in enumerate(links):
        loaded = {name: value.item() for name, value in trunk.links[f"reward/{number}"].items()}
        assert loaded == own


def test_balanced_members_learn_from_prompts_that_have_no_pair_left(tmp_path: Path) -> None:
    forms = [("thumb", (1, 0)), ("order", (0, 1)), ("order", (1, 0)), ("order", (0, 0))]
    rows = [
        Feedback(
            prompt=row.prompt,
            responses=(row.chosen, row.rejected),
            scale=scale,  # type: ignore[arg-type]
            values=values,
        )
        for row, (scale, values) in zip(testing.preferences(), cycle(forms), strict=False)
    ]
    file = freeze(rows, "feedback", tmp_path).path
    given = config("remedies.length_bins=2", "loss.ties=davidson", "held_out_share=0")
    lesson = lesson_of(given, feedback_trees(PLAIN, rows, max_tokens=9999).trees, PLAIN)
    assert [one.id for one in lesson.taught] == [one.id for one in lesson.paired]
    assert {len(one.pairs) for one in lesson.taught} == {0, 1}
    done = fit_reward(given.model_copy(update={"data": file}), tmp_path / "run")
    assert len(done.metrics["links"]) == 4


def test_an_ensemble_is_a_section_and_its_default_adapts_the_upper_third() -> None:
    with pytest.raises(ConfigError, match=r"write ensemble\.members=4"):
        resolve(RewardConfig, overrides=["ensemble=4"], flags=FLAGS)
    one, four = (
        resolve(RewardConfig, overrides=[f"ensemble.members={n}"], flags=FLAGS) for n in (1, 4)
    )
    assert (one.span(30), four.span(30)) == ((0, 15), (10, 15))
    wide = resolve(
        RewardConfig, overrides=["ensemble.members=4", "adapter.first_layer=0"], flags=FLAGS
    )
    assert wide.span(30) == (0, 15)


@pytest.mark.parametrize("parts", ["loss.heads=criteria", "loss.flags=veto", "loss.mix=a=1"])
def test_parts_are_refused_beside_members_before_anything_is_read(parts: str) -> None:
    with pytest.raises(ConfigError, match="an ensemble has one score"):
        check_ensemble(config(parts))
    check_ensemble(config(parts, "ensemble.members=1"))


def test_reliability_is_refused_beside_members_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match="learn the reliability with one model"):
        check_ensemble(config("loss.annotators=reliability"))


def test_a_sample_without_a_pair_is_refused_with_the_way_out() -> None:
    trunk = open_trunk(ModelRef(base="test"), dtype="float32")
    tree = Tree(id="a", prompt=(5,), responses=((6,), (7,)), pairs=((0, 1),))
    trunk.add_adapter("reward/0", rank=2, alpha=4.0, seed=0)
    trunk.add_head("reward/0", std=0.1, seed=0)
    trunk.add_links("reward/0", {})
    member = Member(role="reward/0", trees={}, counts=(0,))
    with pytest.raises(DataError, match=r"set ensemble\.bootstrap=false"):
        start_members(config(), trunk, [member], [tree], [tree], [], feedback_reward(RewardLoss()))
