import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from heedful.cli import main
from heedful.config import (
    EvaluateConfig,
    GRPOConfig,
    PPOConfig,
    PreferenceConfig,
    RewardConfig,
    SFTConfig,
    resolve,
)
from heedful.data import testing
from heedful.data.collate import Tree
from heedful.data.examples import answer
from heedful.data.snapshot import split_by_prompt
from heedful.errors import ConfigError, DataError, MissingError, NumericsError, ProofError
from heedful.jobs import models
from heedful.jobs.evaluate import evaluate
from heedful.jobs.fit import (
    FitResult,
    fit_grpo,
    fit_ppo,
    fit_preference,
    fit_reward,
    fit_sft,
    measuring,
)
from heedful.jobs.fit.accuracy import accuracy_of
from heedful.jobs.fit.measuring import reward_metrics
from heedful.jobs.rundir import RunDirectory
from heedful.model.adapter_files import HEAD, WEIGHTS
from heedful.stats.intervals import wilson
from heedful.train import checkpoint
from heedful.types import Demonstration, Preference

FAST = ["optimiser.learning_rate=3e-3", "checkpoint_every=2"]
FLAGS = {"data": "test", "model": "test"}


def reward_config(*overrides: str) -> RewardConfig:
    return resolve(
        RewardConfig, overrides=[*FAST, "epochs=3", "held_out_share=0.3", *overrides], flags=FLAGS
    )


def sft_config(*overrides: str) -> SFTConfig:
    return resolve(SFTConfig, overrides=[*FAST, "epochs=2", *overrides], flags=FLAGS)


def dpo_config(*overrides: str) -> PreferenceConfig:
    return resolve(PreferenceConfig, overrides=[*FAST, "epochs=2", *overrides], flags=FLAGS)


SMALL = [
    "rollouts.num_rollouts=3",
    "rollouts.prompts_per_rollout=4",
    "rollouts.samples_per_prompt=2",
    "rollouts.max_new_tokens=8",
]


def ppo_config(reward: str, *overrides: str) -> PPOConfig:
    return resolve(
        PPOConfig, overrides=[*FAST, *SMALL, *overrides], flags=FLAGS | {"reward": reward}
    )


def grpo_config(reward: str, *overrides: str) -> GRPOConfig:
    return resolve(
        GRPOConfig, overrides=[*FAST, *SMALL, *overrides], flags=FLAGS | {"reward": reward}
    )


def weights(result: FitResult) -> dict[str, torch.Tensor]:
    tensors = load_file(Path(result.path) / WEIGHTS)
    if (Path(result.path) / HEAD).exists():
        tensors |= load_file(Path(result.path) / HEAD)
    return tensors


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left | right)


@pytest.fixture(scope="module")
def reward_run(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return fit_reward(reward_config(), tmp_path_factory.mktemp("reward") / "run")


def test_accuracy_counts_prompts_where_they_have_several_pairs() -> None:
    def trees(num: int, pairs: int) -> list[Tree]:
        return [
            Tree(id=str(i), prompt=(1,), responses=((2,), (3,)), pairs=((0, 1),) * pairs)
            for i in range(num)
        ]

    deltas = np.where(np.arange(30) % 3, 1.0, -1.0)
    alone = accuracy_of(deltas.tolist(), trees(30, 1))
    low, high = alone["accuracy_ci"]
    assert [low, high] == [wilson(20, 30).low, wilson(20, 30).high]
    many = accuracy_of(np.repeat(deltas, 6).tolist(), trees(30, 6))
    assert many["num_held_out"] == 180
    assert many["accuracy_ci"][1] - many["accuracy_ci"][0] == pytest.approx(high - low, rel=0.1)
    assert accuracy_of((), []) == {"num_held_out": 0}


@pytest.mark.parametrize("deltas", [[0.0, 1.0], [1.0, 2.0], [0.0, 0.0], [-2.0, 1.0]])
def test_rankings_without_a_best_temperature_are_measured_all_the_same(
    deltas: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "pair_deltas", lambda *_, **__: deltas)
    trees = [Tree(id=str(i), prompt=(1,), responses=((2,), (3,)), pairs=((0, 1),)) for i in (0, 1)]
    found = reward_metrics(None, trees, 100)  # type: ignore[arg-type]
    assert found["temperature"] is None
    assert found["accuracy"] == np.mean((np.sign(deltas) + 1) / 2)


def test_reward_model_learns_a_learnable_preference(reward_run: FitResult) -> None:
    assert reward_run.metrics["accuracy"] >= 0.9
    assert reward_run.metrics["num_held_out"] >= 5


def test_reward_model_with_shuffled_labels_stays_at_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = testing.preferences()
    flips = np.random.default_rng(0).permutation(len(rows)) % 2
    swapped = [row.swap() if flip else row for row, flip in zip(rows, flips, strict=True)]
    monkeypatch.setattr(testing, "preferences", lambda: swapped)
    result = fit_reward(reward_config("held_out_share=0.5"), tmp_path / "run")
    low, high = result.metrics["accuracy_ci"]
    assert low <= 0.5 <= high


def test_sft_lowers_held_out_nll(tmp_path: Path) -> None:
    result = fit_sft(sft_config("held_out_share=0.3"), tmp_path / "run")
    assert result.metrics["held_out_nll"] < result.metrics["held_out_nll_start"] - 0.1


def test_dpo_prefers_the_chosen_side_of_held_out_pairs(tmp_path: Path) -> None:
    result = fit_preference(dpo_config("held_out_share=0.3"), tmp_path / "run")
    assert result.metrics["accuracy"] >= 0.9


def test_dpo_starts_at_log_two(tmp_path: Path) -> None:
    fit_preference(dpo_config(), tmp_path / "run")
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["preference/loss_nats"] == pytest.approx(0.693147, abs=1e-5)


def test_ppo_starts_at_ratio_one_and_kl_zero(reward_run: FitResult, tmp_path: Path) -> None:
    fit_ppo(ppo_config(reward_run.run), tmp_path / "run")
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert abs(first["rollout/kl_nats"]) < 1e-4
    assert abs(first["policy/step_kl_nats"]) < 1e-6
    assert first["policy/clip_share"] == 0


@pytest.mark.parametrize(
    ("fit", "config", "weak_kl"),
    [
        (fit_ppo, ppo_config, "kl.coef=0.001"),
        (fit_grpo, grpo_config, "grpo.kl_coef=0.001"),
    ],
)
def test_the_policy_earns_more_of_the_reward_it_optimises(
    fit: Any, config: Any, weak_kl: str, reward_run: FitResult, tmp_path: Path
) -> None:
    settings = config(
        reward_run.run,
        "rollouts.num_rollouts=30",
        "rollouts.prompts_per_rollout=8",
        "rollouts.samples_per_prompt=4",
        "optimiser.learning_rate=1e-2",
        weak_kl,
    )
    fit(settings, tmp_path / "run")
    curve = [row["rollout/reward"] for row in RunDirectory.read_metrics(tmp_path / "run")]
    assert np.mean(curve[-10:]) - np.mean(curve[:10]) > 0.2


class StoppedError(Exception):
    pass


def break_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process end right after the checkpoint that is written after ``steps`` steps."""
    save = checkpoint.save

    def save_and_stop(directory: Path, step: int, *rest: Any) -> None:
        save(directory, step, *rest)
        if step >= steps:
            raise StoppedError

    monkeypatch.setattr(checkpoint, "save", save_and_stop)


@pytest.mark.parametrize("kind", ["sft", "reward", "preference", "ppo", "grpo"])
def test_a_resumed_run_equals_an_unbroken_one(
    kind: str, reward_run: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: dict[str, Callable[[Path], FitResult]] = {
        "sft": lambda out: fit_sft(sft_config(), out),
        "reward": lambda out: fit_reward(reward_config(), out),
        "preference": lambda out: fit_preference(dpo_config(), out),
        "ppo": lambda out: fit_ppo(ppo_config(reward_run.run), out),
        "grpo": lambda out: fit_grpo(grpo_config(reward_run.run), out),
    }
    unbroken = runs[kind](tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        break_after(2, patch)
        with pytest.raises(StoppedError):
            runs[kind](tmp_path / "broken")
    resumed = runs[kind](tmp_path / "broken")
    assert same(weights(unbroken), weights(resumed))
    steps = [
        [row["step"] for row in RunDirectory.read_metrics(tmp_path / name)]
        for name in ("unbroken", "broken")
    ]
    assert steps[0] == steps[1] == list(range(len(steps[0])))


def test_the_seconds_of_a_resumed_run_are_those_of_all_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        break_after(2, patch)
        with pytest.raises(StoppedError):
            fit_reward(reward_config(), tmp_path / "run")
    found = checkpoint.latest(tmp_path / "run" / "checkpoints")
    assert found is not None
    state = json.loads((found / "state.json").read_text())
    assert state["seconds"] > 0
    (found / "state.json").write_text(json.dumps(state | {"seconds": 1000.0}))
    assert 1000 < fit_reward(reward_config(), tmp_path / "run").metrics["seconds"] < 1100


@pytest.mark.parametrize(("fit", "config"), [(fit_ppo, ppo_config), (fit_grpo, grpo_config)])
def test_a_run_whose_rollouts_all_stop_early_is_checkpointed_and_resumes_exactly(
    fit: Any, config: Any, reward_run: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = "ppo" if fit is fit_ppo else "grpo"
    settings = config(
        reward_run.run, "kl.step_limit=1e-12", f"{method}.minibatches=4", "checkpoint_every=1"
    )
    unbroken = fit(settings, tmp_path / "unbroken")
    rows = RunDirectory.read_metrics(tmp_path / "unbroken")
    assert len(rows) < 3 * 4
    with monkeypatch.context() as patch:
        break_after(2, patch)
        with pytest.raises(StoppedError):
            fit(settings, tmp_path / "broken")
    assert same(weights(unbroken), weights(fit(settings, tmp_path / "broken")))
    assert len(RunDirectory.read_metrics(tmp_path / "broken")) == len(rows)


KILLED_WHILE_IT_WRITES_STEP_6 = """
import os, signal
from heedful.cli import main
from heedful.train import checkpoint

write_json = checkpoint.write_json

def killed(path, state):
    if state["step"] == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    write_json(path, state)

checkpoint.write_json = killed
main()
"""


def test_kill_9_in_the_middle_resumes_to_the_same_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def arguments(name: str) -> list[str]:
        return ["fit", "reward", "--data", "test", "--model", "test", "epochs=10",
                "held_out_share=0.3", "checkpoint_every=3", "--store", str(tmp_path / "s.db"),
                "--out", str(tmp_path / name)]  # fmt: skip

    def run(name: str) -> None:
        monkeypatch.setattr(sys, "argv", ["heedful", *arguments(name)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code

    run("unbroken")
    command = [sys.executable, "-c", KILLED_WHILE_IT_WRITES_STEP_6, *arguments("broken")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    whole = (tmp_path / "broken" / "checkpoints").glob("step-*")
    assert [path.name for path in whole] == ["step-000003"]
    assert not (tmp_path / "broken" / "result.json").exists()
    run("broken")
    left, right = (load_file(tmp_path / n / "model" / WEIGHTS) for n in ("unbroken", "broken"))
    assert same(left, right)


def test_micro_batching_changes_nothing(tmp_path: Path) -> None:
    one = fit_reward(reward_config("batch.tokens_per_micro_step=4096"), tmp_path / "one")
    many = fit_reward(reward_config("batch.tokens_per_micro_step=120"), tmp_path / "many")
    left, right = weights(one), weights(many)
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(("fit", "config"), [(fit_ppo, ppo_config), (fit_grpo, grpo_config)])
def test_splitting_groups_of_answers_changes_nothing(
    fit: Any, config: Any, reward_run: FitResult, tmp_path: Path
) -> None:
    more = ["rollouts.samples_per_prompt=4", "rollouts.max_new_tokens=16"]
    runs = []
    for tokens in (4096, 120):  # one row for all prompts; less than one prompt's four answers
        size = f"batch.tokens_per_micro_step={tokens}"
        runs.append(fit(config(reward_run.run, size, *more), tmp_path / str(tokens)))
    whole, split = (weights(run) for run in runs)
    for name, value in whole.items():
        torch.testing.assert_close(value, split[name], atol=3e-4, rtol=1e-3)


def test_a_run_that_would_not_fit_recomputes_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from heedful.model import budget

    roomy = fit_sft(sft_config(), tmp_path / "roomy")
    assert "recomputed" not in capsys.readouterr().err
    needed = budget.RUNTIME_BYTES + 40 * 2**20
    monkeypatch.setattr(budget, "total_bytes", lambda _: needed)
    monkeypatch.setattr(budget, "available_bytes", lambda _: needed - 1)
    monkeypatch.setattr(budget, "refuse_what_cannot_fit", lambda *_: None)
    tight = fit_sft(sft_config(), tmp_path / "tight")
    assert "activations are recomputed" in capsys.readouterr().err
    assert same(weights(roomy), weights(tight))


def test_a_finished_run_is_returned_without_work(reward_run: FitResult) -> None:
    before = (Path(reward_run.run) / "metrics.jsonl").stat().st_mtime_ns
    again = fit_reward(reward_config(), Path(reward_run.run))
    assert again == reward_run
    assert (Path(reward_run.run) / "metrics.jsonl").stat().st_mtime_ns == before


def test_another_config_in_the_same_directory_is_refused(reward_run: FitResult) -> None:
    with pytest.raises(ConfigError, match="epochs = 3, this one has 4"):
        fit_reward(reward_config("epochs=4"), Path(reward_run.run))


def test_the_trained_policy_can_be_the_start_of_the_next_run(tmp_path: Path) -> None:
    first = fit_sft(sft_config(), tmp_path / "sft")
    config = dpo_config().model_copy(update={"model": first.run})
    second = fit_preference(config, tmp_path / "dpo")
    step = json.loads((tmp_path / "dpo" / "metrics.jsonl").read_text().splitlines()[0])
    assert step["preference/loss_nats"] == pytest.approx(0.693147, abs=1e-5)
    assert not same(weights(first), weights(second))


def test_a_policy_goes_on_with_the_adapter_of_its_start_and_refuses_another(
    tmp_path: Path,
) -> None:
    first = fit_sft(sft_config("adapter.rank=4", "adapter.first_layer=1"), tmp_path / "sft")
    again = dpo_config().model_copy(update={"model": first.run})
    fit_preference(again, tmp_path / "dpo")
    recorded = json.loads((tmp_path / "dpo" / "config.json").read_text())["config"]["adapter"]
    assert recorded == {"rank": 4, "alpha": 32.0, "first_layer": 1}
    for asked in ("adapter.rank=8", "adapter.first_layer=0", "adapter.alpha=1.0"):
        config = resolve(
            PreferenceConfig, overrides=[asked], flags={"data": "test", "model": first.run}
        )
        with pytest.raises(ConfigError, match=r"leave adapter\..* out, or start from a base"):
            fit_preference(config, tmp_path / "other")
    same_again = resolve(
        PreferenceConfig,
        overrides=["adapter.first_layer=middle"],
        flags=FLAGS | {"model": first.run},
    )
    assert fit_preference(same_again, tmp_path / "same").model


@pytest.mark.parametrize("kind", ["ppo", "grpo"])
def test_examples_per_step_is_no_setting_of_rollouts(kind: str) -> None:
    config = {"ppo": ppo_config, "grpo": grpo_config}[kind]
    with pytest.raises(ConfigError, match=r"unknown config key 'batch.examples_per_step'"):
        config("gold:kind", "batch.examples_per_step=4")


def test_a_rollout_of_one_answer_leaves_metrics_that_json_can_hold(
    reward_run: FitResult, tmp_path: Path
) -> None:
    one = ["rollouts.prompts_per_rollout=1", "rollouts.samples_per_prompt=1", "ppo.minibatches=1"]
    fit_ppo(ppo_config(reward_run.run, *one), tmp_path / "run")

    def refuse(name: str) -> None:
        raise AssertionError(name)

    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line, parse_constant=refuse)
        assert row["rollout/reward_std"] == 0


def test_a_demonstration_of_twice_the_weight_counts_as_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = testing.demonstrations()[:3]
    settings = sft_config("held_out_share=0", "batch.examples_per_step=4", "epochs=1")
    monkeypatch.setattr(testing, "demonstrations", lambda: [*rows, rows[0]])
    twice = fit_sft(settings, tmp_path / "twice")
    weighed = [replace(rows[0], weight=2.0), *rows[1:]]
    monkeypatch.setattr(testing, "demonstrations", lambda: weighed)
    once = fit_sft(settings, tmp_path / "once")
    for name, value in weights(twice).items():
        torch.testing.assert_close(value, weights(once)[name], atol=1e-6, rtol=1e-4)
    losses = [RunDirectory.read_metrics(tmp_path / name) for name in ("twice", "once")]
    for name in ("policy/nll_nats", "policy/entropy_nats"):
        assert losses[0][0][name] == pytest.approx(losses[1][0][name], abs=1e-5)


def test_a_policy_is_refused_as_a_reward(tmp_path: Path) -> None:
    policy = fit_sft(sft_config(), tmp_path / "sft")
    with pytest.raises(DataError, match="a reward model is needed"):
        fit_ppo(ppo_config(policy.run), tmp_path / "ppo")


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    from heedful.model.tiny import write_model

    write_model(tmp_path / "bare")
    (tmp_path / "bare" / "chat_template.jinja").unlink()
    config = reward_config().model_copy(update={"model": str(tmp_path / "bare")})
    with pytest.raises(DataError, match="has no chat template"):
        fit_reward(config, tmp_path / "run")


def test_an_unknown_reward_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="is no reward model that lies here or is registered"):
        fit_ppo(ppo_config("test"), tmp_path / "ppo")


def test_a_rule_can_be_the_reward(tmp_path: Path) -> None:
    result = fit_ppo(ppo_config("gold:concise"), tmp_path / "ppo")
    assert 0 <= result.metrics["rollout/reward_first"] <= 1


def test_a_rule_without_a_critic_costs_no_pass_through_the_trunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("states that nobody reads")

    monkeypatch.setattr("heedful.train.rollouts.hidden_states", refuse)
    result = fit_grpo(grpo_config("gold:concise"), tmp_path / "grpo")
    assert 0 <= result.metrics["rollout/reward_first"] <= 1


def test_grpo_starts_at_ratio_one_and_kl_zero_and_has_no_critic(
    reward_run: FitResult, tmp_path: Path
) -> None:
    result = fit_grpo(grpo_config(reward_run.run), tmp_path / "run")
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert abs(first["policy/kl_k3_nats"]) < 1e-6
    assert abs(first["policy/step_kl_nats"]) < 1e-6
    assert first["policy/clip_share"] == 0
    assert "critic/value_loss" not in first
    assert not (Path(result.path) / HEAD).exists()
    rows = RunDirectory.read_rollouts(tmp_path / "run")
    assert len(rows) == 3 * 4 * 2
    assert all(row["value_first"] is None for row in rows)


def test_grpo_refuses_one_answer_a_prompt_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs at least 2"):
        fit_grpo(grpo_config("gold:kind", "rollouts.samples_per_prompt=1"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("critic", ["reward", "policy", "adapter"])
def test_every_form_of_the_critic_starts_as_the_score_so_far_and_learns(
    critic: str, reward_run: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ppo_config(reward_run.run, f"ppo.critic={critic}", "ppo.value_coef=1")
    unbroken = fit_ppo(config, tmp_path / "unbroken")
    rows = RunDirectory.read_rollouts(tmp_path / "unbroken")
    # before the first token there is no score so far, and the head reads nothing else yet
    assert all(row["value_first"] == 0 for row in rows if row["rollout"] == 0)
    assert any(row["value_first"] != 0 for row in rows if row["rollout"] == 2)
    with monkeypatch.context() as patch:
        break_after(2, patch)
        with pytest.raises(StoppedError):
            fit_ppo(config, tmp_path / "broken")
    assert same(weights(unbroken), weights(fit_ppo(config, tmp_path / "broken")))


def test_every_rollout_is_kept_as_rows(reward_run: FitResult, tmp_path: Path) -> None:
    fit_ppo(ppo_config(reward_run.run), tmp_path / "run")
    rows = RunDirectory.read_rollouts(tmp_path / "run")
    assert len(rows) == 3 * 4 * 2
    assert {row["rollout"] for row in rows} == {0, 1, 2}


def test_nan_loss_stops_and_names_the_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [replace(row, weight=float("nan")) for row in testing.demonstrations()[:4]]
    monkeypatch.setattr(testing, "demonstrations", lambda: broken)
    with pytest.raises(NumericsError, match=r"loss is nan at step 0, examples prm_"):
        fit_sft(sft_config("held_out_share=0"), tmp_path / "run")


def test_a_weight_that_is_no_number_is_refused_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [replace(row, weight=float("nan")) for row in testing.preferences()[:4]]
    monkeypatch.setattr(testing, "preferences", lambda: broken)
    for fit, config in ((fit_reward, reward_config()), (fit_preference, dpo_config())):
        with pytest.raises(DataError, match="weight nan; give finite numbers"):
            fit(config, tmp_path / fit.__name__)


def test_training_a_wrong_parameter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = models.open_trunk

    def with_second_head(ref: Any, *, dtype: str) -> Any:
        trunk = original(ref, dtype=dtype)
        trunk.add_head("stray", std=0.1, seed=0).requires_grad_(True)
        return trunk

    monkeypatch.setattr(models, "open_trunk", with_second_head)
    with pytest.raises(ProofError, match="only reward are trainable; seen 2 others trainable"):
        fit_reward(reward_config(), tmp_path / "run")


def shift_sampled_logprobs(monkeypatch: pytest.MonkeyPatch, nats: float) -> None:
    from heedful.engine import local

    draw = local.draw_tokens

    def shifted(*args: Any) -> Any:
        tokens, logprobs = draw(*args)
        return tokens, logprobs - nats

    monkeypatch.setattr(local, "draw_tokens", shifted)


def test_a_sampler_that_no_rounding_explains_is_refused(
    reward_run: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shift_sampled_logprobs(monkeypatch, 1.5)
    with pytest.raises(ProofError, match="ratio = 1"):
        fit_ppo(ppo_config(reward_run.run), tmp_path / "run")


@pytest.mark.parametrize(("fit", "config_of"), [(fit_ppo, ppo_config), (fit_grpo, grpo_config)])
def test_old_logprobs_are_recomputed_when_the_samplers_are_coarse(
    fit: Any,
    config_of: Any,
    reward_run: FitResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    exact = fit(config_of(reward_run.run), tmp_path / "exact")
    assert "recomputed" not in capsys.readouterr().err
    shift_sampled_logprobs(monkeypatch, 0.1)
    config = config_of(reward_run.run)
    with monkeypatch.context() as patch:
        break_after(2, patch)
        with pytest.raises(StoppedError):
            fit(config, tmp_path / "coarse")
    assert "differ by up to 0.1 nats" in capsys.readouterr().err
    coarse = fit(config, tmp_path / "coarse")  # a resumed run recomputes too
    left, right = weights(exact), weights(coarse)
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], atol=1e-4, rtol=1e-3)
    assert "old" in {phase["phase"] for phase in coarse.profile["phases"]}


def test_a_single_step_without_a_critic_needs_no_old_logprobs(
    reward_run: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = grpo_config(reward_run.run, "grpo.minibatches=1")
    exact = fit_grpo(config, tmp_path / "exact")
    shift_sampled_logprobs(monkeypatch, 0.1)
    coarse = fit_grpo(config, tmp_path / "coarse")
    left, right = weights(exact), weights(coarse)
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], atol=1e-4, rtol=1e-3)
    assert "old" not in {phase["phase"] for phase in coarse.profile["phases"]}


def test_examples_that_do_not_fit_are_dropped_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = fit_sft(sft_config("batch.max_tokens=40"), tmp_path / "run")
    num = result.metrics["drops"]["too_long"]
    assert num > 0
    said = capsys.readouterr().err
    assert f"left out: {num} too_long for 40 tokens (batch.max_tokens)" in said
    assert said.index("left out") < said.index("fit sft")  # before the expensive part


def test_nothing_left_to_train_on_says_which_rule_dropped_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no feedback left .* too_long: 32"):
        fit_reward(reward_config("batch.max_tokens=5"), tmp_path / "run")


SIDES = {Demonstration: "response", Preference: "chosen"}


@pytest.mark.parametrize(
    ("fit", "config", "rows"),
    [
        (fit_sft, sft_config, testing.demonstrations()),
        (fit_reward, reward_config, testing.preferences()),
        (fit_preference, dpo_config, testing.preferences()),
    ],
    ids=["sft", "reward", "preference"],
)
def test_nothing_left_on_the_training_side_is_refused_by_every_fit(
    fit: Any, config: Any, rows: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config("held_out_share=0.3", "batch.max_tokens=150")
    train, _ = split_by_prompt(rows, 0.3, settings.seed)
    train_ids = {row.prompt.id for row in train}
    changed = [
        replace(row, **{SIDES[type(row)]: answer("y" * 500)}) if row.prompt.id in train_ids else row
        for row in rows
    ]
    for name in ("demonstrations", "preferences"):
        monkeypatch.setattr(testing, name, lambda: changed)
    with pytest.raises(DataError, match=r"leave no example and .* too_long: .*max_tokens"):
        fit(settings, tmp_path / "run")


def test_evaluate_measures_a_reward_model_on_pairs(reward_run: FitResult, tmp_path: Path) -> None:
    # 60 tokens hold any one conversation of the set, but not both sides of a pair
    config = EvaluateConfig(data="test", model=reward_run.run, tokens_per_micro_step=60)
    result = evaluate(config, tmp_path / "evaluation")
    assert result["num_held_out"] + sum(result["drops"].values()) == 32
    assert result["accuracy"] > 0.9
