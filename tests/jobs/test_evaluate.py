"""Whom a policy is compared with, on which prompts, and in whose name."""

import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fresh import fresh_store

from heedful.config import EvaluateConfig, PPOConfig, RewardConfig, SFTConfig, resolve
from heedful.data import testing
from heedful.data.snapshot import Example, Kind, freeze, split_by_prompt
from heedful.errors import DataError, MissingError
from heedful.jobs import models
from heedful.jobs.arms import Answer, compare
from heedful.jobs.asking import Sampling, sample
from heedful.jobs.chatting import write_draft
from heedful.jobs.evaluate import evaluate
from heedful.jobs.fit import FitResult, fit_ppo, fit_reward, fit_sft
from heedful.model.adapter_files import read_card, read_learned
from heedful.store import Store, chat, completions, people, runs
from heedful.store import models as model_table
from heedful.types import ModelVersion, User

FLAGS = {"data": "test", "model": "test"}
SMALL = ["rollouts.num_rollouts=2", "rollouts.prompts_per_rollout=2",
         "rollouts.samples_per_prompt=2", "rollouts.max_new_tokens=4"]  # fmt: skip


def sft(out: Path, *overrides: str, **flags: str) -> FitResult:
    given = ["optimiser.learning_rate=3e-3", "held_out_share=0", *overrides]
    return fit_sft(resolve(SFTConfig, overrides=given, flags=FLAGS | flags), out)


def frozen(rows: Sequence[Example], kind: Kind, directory: Path) -> str:
    return freeze(rows, kind, directory).path


def measure(data: str, model: str, **settings: object) -> EvaluateConfig:
    return EvaluateConfig(
        data=data, model=model, gold="concise", max_new_tokens=6, best_of=1, **settings
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with fresh_store(tmp_path / "s.db") as opened:
        with opened.write() as tx:
            people.add(tx, User(id="ada", name="Ada", role="owner"))
        yield opened


@pytest.fixture
def halves(tmp_path: Path) -> tuple[str, str]:
    """Two files of prompts that share none."""
    rows = testing.prompts()
    return frozen(rows[:16], "prompt", tmp_path), frozen(rows[16:], "prompt", tmp_path)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[FitResult, FitResult]:
    """A policy after SFT, and one that went on from it without moving."""
    root = tmp_path_factory.mktemp("chain")
    first = sft(root / "sft", "epochs=3")
    second = sft(root / "still", "optimiser.learning_rate=1e-12", model=first.run)
    return first, second


def test_a_policy_is_compared_with_the_policy_that_it_started_from(
    chain: tuple[FitResult, FitResult], store: Store, tmp_path: Path
) -> None:
    first, second = chain
    result = evaluate(measure("test", first.run), tmp_path / "first")
    assert result["start"] == "test"
    assert abs(result["kl"]) > 0.1
    result = evaluate(measure("test", second.run), tmp_path / "second", store=store)
    assert result["start"] == first.path
    assert abs(result["kl"]) < 1e-3
    with store.read() as tx:
        known = {version.path: version for version in model_table.list_all(tx)}
        assert len(list(completions.by_models(tx, known[first.path].id))) == 2 * 32
        assert len(list(completions.by_models(tx, known[second.path].id))) == 32


def test_a_rule_scores_answers_and_chooses_the_best_of_several(
    chain: tuple[FitResult, FitResult], tmp_path: Path
) -> None:
    settings = {"max_new_tokens": 6, "best_of": 2, "num_prompts": 4}
    asked = EvaluateConfig(data="test", model=chain[0].run, reward="gold:concise", **settings)
    result = evaluate(asked, tmp_path / "rule")
    by_arm: dict[str, list[float]] = {}
    for one in result["samples"]:
        by_arm.setdefault(one["arm"], []).append(one["proxy"])
    both = zip(by_arm["start_1"], by_arm["start_2"], strict=True)
    assert by_arm["best_of_n"] == [max(pair) for pair in both]
    assert len(set(by_arm["policy"])) > 1
    with pytest.raises(DataError, match="nothing to judge with"):
        evaluate(EvaluateConfig(data="test", model=chain[0].run), tmp_path / "none")


def arm(name: str, *kl: float) -> list[Answer]:
    """One answer of a few tokens to every prompt."""
    return [
        Answer(arm=name, prompt="q", text=f"{name} {number}", token_ids=(1, 2), kl_nats=nats,
               finish_reason="stop", proxy=nats)
        for number, nats in enumerate(kl)
    ]  # fmt: skip


def test_a_distance_has_an_interval_only_where_it_was_measured_more_than_once() -> None:
    arms = {name: arm(name, 0, 0) for name in ("start", "start_1", "best_of_n")}
    config = EvaluateConfig(data="test", model="test", reward="r", best_of=4)
    found = compare(config, arms | {"policy": arm("policy", 1, 3)}, None)
    # 1.96 standard errors of two values that lie 2 apart
    assert found["kl_ci"] == pytest.approx([2 - 1.96, 2 + 1.96])
    best = found["arms"]["best_of_n"]
    assert (best["kl"], best["kl_ci"]) == (pytest.approx(0.636294, abs=1e-6), None)
    one = {name: arm(name, 3) for name in ("start", "start_1", "policy")}
    assert compare(config, one, None)["kl_ci"] is None


def test_a_moved_policy_still_knows_its_start_and_misses_one_that_was_fitted_again(
    chain: tuple[FitResult, FitResult], tmp_path: Path
) -> None:
    first, second = chain
    shutil.copytree(first.run, tmp_path / "sft")
    moved = sft(tmp_path / "still", model=str(tmp_path / "sft"))
    shutil.move(moved.run, tmp_path / "elsewhere")
    ref = models.find_model(str(tmp_path / "elsewhere"), None)
    assert models.start_of(ref, None).adapter == tmp_path / "sft" / "model"
    shutil.rmtree(tmp_path / "sft" / "model")
    shutil.copytree(second.path, tmp_path / "sft" / "model")
    with pytest.raises(MissingError, match="gone or was fitted again"):
        models.start_of(ref, None)


def test_prompts_that_a_model_learned_from_are_left_out_and_counted(
    halves: tuple[str, str], store: Store, tmp_path: Path
) -> None:
    learned, _ = halves
    rows = testing.demonstrations()[:16]
    policy = sft(tmp_path / "sft", data=frozen(rows, "demonstration", tmp_path))
    with pytest.raises(DataError, match=r"fitted to the prompts of all 16 rows.*another data set"):
        evaluate(measure(learned, policy.run), tmp_path / "a", store=store)
    mixed = frozen(testing.prompts()[12:], "prompt", tmp_path)
    result = evaluate(measure(mixed, policy.run), tmp_path / "b", store=store)
    assert (result["num_prompts"], result["num_learned"]) == (16, 4)
    with store.read() as tx:
        version = model_table.at_path(tx, str(Path(policy.run).resolve()))
        assert version is not None
        (claim,) = runs.evidence_of(tx, version)
    assert claim.test == "win_rate on held-out data"


def test_the_prompts_that_a_fit_held_out_are_left_to_evaluate_it_on(tmp_path: Path) -> None:
    rows = testing.preferences()[:16]
    pairs = frozen(rows, "preference", tmp_path)
    overrides = ["held_out_share=0.25", "warm_start=false"]
    config = resolve(RewardConfig, overrides=overrides, flags={"data": pairs, "model": "test"})
    reward = fit_reward(config, tmp_path / "reward")
    train, held_out = split_by_prompt(rows, 0.25, config.seed)
    assert read_learned(Path(reward.path)) == {row.prompt.id for row in train}
    result = evaluate(EvaluateConfig(data=pairs, model=reward.run), tmp_path / "pairs")
    assert (result["num_learned"], result["num_held_out"]) == (len(train), len(held_out))


def test_what_the_reward_model_learned_from_counts_as_learned(
    halves: tuple[str, str], tmp_path: Path
) -> None:
    rows = testing.preferences()[:16]
    pairs = frozen(rows, "preference", tmp_path)
    config = resolve(
        RewardConfig, overrides=["held_out_share=0"], flags={"data": pairs, "model": "test"}
    )
    reward = fit_reward(config, tmp_path / "reward")
    with pytest.raises(DataError, match="evaluate on another data set"):
        evaluate(EvaluateConfig(data=pairs, model=reward.run), tmp_path / "pairs")
    flags = {"data": halves[1], "model": "test", "reward": reward.run}
    policy = fit_ppo(resolve(PPOConfig, overrides=SMALL, flags=flags), tmp_path / "ppo")
    assert read_learned(Path(policy.path)) == {row.id for row in testing.prompts()}
    for half in halves:
        with pytest.raises(DataError, match="a model that it builds on or its judge"):
            evaluate(measure(half, policy.run), tmp_path / "evaluation")


def test_what_the_judge_learned_from_is_left_out_too(
    halves: tuple[str, str], tmp_path: Path
) -> None:
    pairs = frozen(testing.preferences()[:16], "preference", tmp_path)
    config = resolve(
        RewardConfig,
        overrides=["held_out_share=0", "warm_start=false"],
        flags={"data": pairs, "model": "test"},
    )
    judge = fit_reward(config, tmp_path / "reward")
    with pytest.raises(DataError, match="or its judge"):
        evaluate(measure(halves[0], "test", reward=judge.run), tmp_path / "evaluation")


def test_evidence_claims_held_out_data_only_where_that_was_checked(
    chain: tuple[FitResult, FitResult],
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = evaluate(measure("test", chain[0].run), tmp_path / "test", store=store)
    assert result["num_learned"] is None
    assert "no claim about held-out data" in capsys.readouterr().err
    with store.read() as tx:
        version = model_table.at_path(tx, chain[0].run)
        assert version is not None
        (claim,) = runs.evidence_of(tx, version)
    assert claim.test == "win_rate on data it may have learned from"


def test_an_adapter_that_the_store_does_not_know_answers_in_its_own_name(
    chain: tuple[FitResult, FitResult], store: Store
) -> None:
    first, second = chain
    (given,) = sample(
        store, second.run, testing.prompts()[:1], Sampling(num_samples=1, max_new_tokens=4)
    )
    with store.read() as tx:
        version = model_table.get(tx, given.model)
        start = model_table.get(tx, version.parents[0])
        base = model_table.get(tx, start.parents[0])
    assert (version.role, version.path, version.name) == ("policy", second.path, "still")
    assert (start.role, start.path) == ("policy", first.path)
    assert base.role == "base"


def test_an_unknown_reward_model_is_registered_as_a_reward(store: Store, tmp_path: Path) -> None:
    config = resolve(RewardConfig, overrides=["held_out_share=0.3"], flags=FLAGS)
    reward = fit_reward(config, tmp_path / "reward")
    flags = FLAGS | {"reward": reward.run}
    policy = fit_ppo(
        resolve(PPOConfig, overrides=SMALL, flags=flags), tmp_path / "ppo", store=store
    )
    with store.read() as tx:
        parents = [model_table.get(tx, one) for one in model_table.get(tx, policy.model).parents]
    assert [parent.role for parent in parents] == ["base", "reward"]
    assert parents[1].path == reward.path
    (named,) = read_card(Path(policy.path)).parents
    assert (named.role, named.path) == ("reward", reward.path)


def test_a_directory_that_was_fitted_again_does_not_talk_as_the_old_version(
    chain: tuple[FitResult, FitResult], store: Store, tmp_path: Path
) -> None:
    first, second = chain
    shutil.copytree(first.path, tmp_path / "model")
    ref = models.ModelRef(base="test", adapter=tmp_path / "model")
    version = models.version_of(store, models.open_trunk(ref, dtype="auto"), ref)
    answered = draft_of(store, version)
    assert write_draft(store, answered)["completion"]
    waiting = draft_of(store, version)
    shutil.rmtree(tmp_path / "model")
    shutil.copytree(second.path, tmp_path / "model")
    with pytest.raises(DataError, match="fitted again; talk to the newest model"):
        write_draft(store, waiting)


def draft_of(store: Store, version: ModelVersion) -> str:
    """A draft that waits for the version to answer."""
    with store.write() as tx:
        talk = chat.start(tx, "ada", [version.id], max_new_tokens=4)
        turn = chat.say(tx, talk, "Hello?", random.Random(0))
    return turn.drafts[0].id
