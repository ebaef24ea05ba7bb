"""``evaluate``: a policy against its start, blind and order-randomised; or a reward model on pairs.

Prompts that the model or its parents were fitted to are left out.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heedful.config import EvaluateConfig, RewardCardConfig
from heedful.data import testing
from heedful.data.examples import answer, feedback_trees
from heedful.data.snapshot import prompt_of
from heedful.errors import ConfigError, DataError
from heedful.jobs import fit, models, rewards
from heedful.jobs.arms import (
    Answer,
    best_of,
    compare,
    gold_judge,
    sample_arms,
    with_proxy,
    with_proxy_apart,
)
from heedful.jobs.recording import recorded, run_record
from heedful.jobs.rundir import RunDirectory
from heedful.model.adapter_files import AdapterCard, load_role
from heedful.model.trunk import Trunk
from heedful.reward.ensemble import EnsembleReward, load_reward
from heedful.reward.mixing import check_mix
from heedful.reward.texts import ApartReward
from heedful.store import completions as completion_table
from heedful.store import runs as run_table
from heedful.store.database import Store
from heedful.types import (
    JSON,
    Completion,
    Evidence,
    ModelVersion,
    Prompt,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Rows to evaluate on; ``num_learned`` were left out, None when that could not be told."""

    rows: list[Any]
    num_learned: int | None


def evaluate(config: EvaluateConfig, out: Path, *, store: Store | None = None) -> dict[str, JSON]:
    """Evaluate whatever ``config.model`` is; returns the result that is also written to ``out``."""
    ref = models.find_model(config.model, store)
    card = ref.card()
    is_reward = card is not None and card.role == "reward"
    check_mixes(config, card if is_reward else None, store)
    kind = "feedback" if is_reward else "prompt"
    data = fit.load_rows(store, config.data, kind, out)
    snapshot = data.snapshot.id if data.snapshot else None
    judges = [] if is_reward else judges_of(config, store)
    is_known = config.reward is None or not rewards.is_classifier(config.reward, store)
    held_out = leave_out_learned(data.rows, config, ref, *judges, is_known=is_known)
    run = RunDirectory(out, "evaluate", config, snapshot=snapshot)
    done = run.result()
    if done is not None:
        return done
    measure = evaluate_reward if is_reward else evaluate_policy
    with run.held(), recorded(store, run_record(run, config, snapshot)):
        trunk = models.open_trunk(ref, dtype=config.dtype)
        result = measure(config, trunk, ref, held_out.rows, run, store)
        result["num_learned"] = held_out.num_learned
        if store is not None:
            save_evidence(store, trunk, ref, result)
        run.finish(result)
    return result


def check_mixes(config: EvaluateConfig, card: AdapterCard | None, store: Store | None) -> None:
    """Refuse a mix that the model, or the reward that judges it, cannot have."""
    if card is not None:
        check_mix(card, config.model, config.mix)
    elif config.mix is not None and config.reward is None:
        raise ConfigError(f"mix is {config.mix!r} and there is no reward to mix; give --reward")
    elif config.reward is not None:
        rewards.check_reward(config.reward, store, config.mix)


def judges_of(config: EvaluateConfig, store: Store | None) -> list[models.ModelRef]:
    """The reward model that judges or chooses answers, where there is one."""
    if config.reward is None or not rewards.is_ours(config.reward, store):
        return []
    return [models.find_model(config.reward, store)]


def leave_out_learned(
    rows: Sequence[Any],
    config: EvaluateConfig | RewardCardConfig,
    *refs: models.ModelRef,
    is_known: bool = True,
) -> HeldOut:
    """The rows whose prompts none of the models and their parents was fitted to.

    Without ``is_known`` another model has a say of which nobody knows what it learned from: then
    there is no claim about held-out data.
    ``test`` is there to try the commands and is kept whole, without a claim. Raises ``DataError``
    when no row is left.
    """
    learned = fit.learned_from(refs, ())
    if learned is None or config.data == testing.NAME:
        print(
            f"not checked whether {config.model} has learned from {config.data}: no claim about "
            "held-out data",
            file=sys.stderr,
        )
        return HeldOut(rows=list(rows), num_learned=None)
    kept = [row for row in rows if prompt_of(row).id not in learned]
    if not kept:
        raise DataError(
            f"{config.model}, a model that it builds on or its judge was fitted to the prompts of "
            f"all {len(rows)} rows of {config.data}; evaluate on another data set with --data"
        )
    num_learned = len(rows) - len(kept)
    if not is_known:
        print("not known what the reward has learned from: no claim about held-out data",
              file=sys.stderr)  # fmt: skip
    if num_learned:
        print(
            f"{num_learned} of {len(rows)} rows are left out: their prompts were learned from",
            file=sys.stderr,
        )
    return HeldOut(rows=kept, num_learned=num_learned if is_known else None)


def evaluate_reward(
    config: EvaluateConfig,
    trunk: Trunk,
    ref: models.ModelRef,
    rows: Sequence[Any],
    run: RunDirectory,
    store: Store | None,
) -> dict[str, JSON]:
    """Accuracy, ECE and score differences of a reward model on feedback it has not seen."""
    del run, store
    assert ref.adapter is not None
    reward, _ = load_reward(trunk, ref.adapter, mix=config.mix)
    ensemble = reward if isinstance(reward, EnsembleReward) else None
    limit = config.tokens_per_micro_step
    encoded = feedback_trees(trunk.tokenizer, rows, max_tokens=trunk.max_tokens)
    trees = encoded.require("feedback").trees
    metrics = fit.feedback_metrics(trunk, trees, limit, seed=config.seed, ensemble=ensemble)
    if "accuracy" not in metrics:
        raise DataError(
            f"{config.data} has no two answers that were told apart, in {len(rows)} rows; evaluate "
            "on feedback that prefers one answer to another"
        )
    return metrics | {"drops": dict(encoded.drops)}


def evaluate_policy(
    config: EvaluateConfig,
    trunk: Trunk,
    ref: models.ModelRef,
    rows: Sequence[Prompt],
    run: RunDirectory,
    store: Store | None,
) -> dict[str, JSON]:
    """Sample all arms on the same prompts, judge them blind, and measure the distance moved."""
    prompts = rows[: config.num_prompts]
    start = models.start_of(ref, store)
    start_role = models.start_policy(trunk, start)
    if ref.adapter is not None:
        load_role(trunk, ref.adapter, "policy")
    reward: Any = None
    if config.reward is not None:
        reward, _ = fit.open_reward(config.reward, trunk, store, None, config.mix)
    judge = gold_judge(config.gold) if config.gold else None
    if judge is None and reward is None:
        raise DataError("nothing to judge with; give gold=NAME or reward=MODEL")
    arms = sample_arms(config, trunk, prompts, run, start_role)
    if isinstance(reward, ApartReward):
        arms = with_proxy_apart(arms, prompts, reward)
    elif reward is not None:
        arms = with_proxy(arms, trunk, prompts, reward, config.tokens_per_micro_step)
    if reward is not None:
        arms["best_of_n"] = best_of(arms, config.best_of)
    result = compare(config, arms, judge)
    result["start"] = str(start.adapter or start.base)
    result["samples"] = [asdict(answer) | {"token_ids": None} for arm in arms.values()
                         for answer in arm]  # fmt: skip
    if store is not None:
        authors = {"start": models.version_of(store, trunk, start)}
        authors["policy"] = models.version_of(store, trunk, ref)
        save_completions(store, authors, prompts, arms, config)
    return result


def save_completions(
    store: Store,
    authors: Mapping[str, ModelVersion],
    prompts: Sequence[Prompt],
    arms: dict[str, list[Answer]],
    config: EvaluateConfig,
) -> None:
    """Every sampled answer as a Completion of the model that wrote it: the policy or its start."""
    rows = [
        Completion(
            prompt=prompt,
            messages=answer(given.text),
            model=authors["policy" if name == "policy" else "start"].id,
            draw=number,
            finish_reason=given.finish_reason,
            params={"temperature": config.temperature, "seed": config.seed, "evaluation": True},
        )
        for number, (name, arm) in enumerate(arms.items())
        if name != "best_of_n"
        for prompt, given in zip(prompts, arm, strict=True)
    ]
    with store.write() as tx:
        completion_table.add_prompts(tx, prompts)
        completion_table.add(tx, rows)


def save_evidence(
    store: Store, trunk: Trunk, ref: models.ModelRef, result: dict[str, JSON]
) -> None:
    """The headline claim as Evidence about the model."""
    name, ci = ("win_rate", "win_rate_ci") if "win_rate" in result else ("accuracy", "accuracy_ci")
    if name not in result:
        return
    version = models.version_of(store, trunk, ref)
    # what the reward model says of the policy that was trained to please it is no win rate
    by = (
        ", by the reward model (proxy)"
        if str(result.get("judge", "")).startswith("reward ")
        else ""
    )
    on = "data it may have learned from" if result["num_learned"] is None else "held-out data"
    evidence = Evidence(
        model=version.id,
        test=f"{name} on {on}{by}",
        value=float(result[name]),
        low=float(result[ci][0]),
        high=float(result[ci][1]),
        num=int(result["num_prompts" if name == "win_rate" else "num_held_out"]),
        detail={k: v for k, v in result.items() if k not in ("samples", "deltas", "arms")},
    )
    with store.write() as tx:
        run_table.add_evidence(tx, evidence)
