"""``fit``: SFT, reward model, direct preference and PPO, in one shape.

Each function takes a config and an output directory and returns a result; calling it again on a
finished directory returns the same result, on an unfinished one it resumes exactly.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heedful.config import (
    FitConfig,
    PPOConfig,
    PreferenceConfig,
    RewardConfig,
    SFTConfig,
)
from heedful.data import testing
from heedful.data.chat import encode_prompt
from heedful.data.collate import Tree, collate, micro_batches
from heedful.data.examples import (
    Encoded,
    demonstration_trees,
    last_user_text,
    preference_trees,
)
from heedful.data.snapshot import read_snapshot, split_by_prompt
from heedful.engine.base import Request
from heedful.engine.local import LocalEngine
from heedful.errors import ConfigError, DataError, MissingError
from heedful.jobs import models
from heedful.jobs.progress import progress
from heedful.jobs.rundir import RunDirectory
from heedful.jobs.snapshot import make_snapshot
from heedful.model.adapter_files import load_role, save_role
from heedful.model.forward import forward, logprobs_of
from heedful.model.trunk import Trunk
from heedful.monitor.report import write_report
from heedful.monitor.run_report import run_report
from heedful.reward.probe import warm_start
from heedful.reward.rules import RuleReward
from heedful.reward.trained import TrainedReward, pair_deltas
from heedful.stats.calibration import ece, fit_temperature
from heedful.stats.intervals import wilson
from heedful.store import models as model_table
from heedful.store import runs as run_table
from heedful.store.database import Store
from heedful.tensors import Batch, Step
from heedful.train import algorithms, checkpoint, proofs
from heedful.train.algorithms import Algorithm
from heedful.train.loop import Source, fit
from heedful.train.optim import Optimiser
from heedful.train.rollouts import PromptRow, RolloutSource, add_critic
from heedful.train.sources import ExampleSource
from heedful.types import JSON, ModelVersion, Prompt, Run, SamplingParams, Snapshot

Shown = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """What a fit returns. ``metrics`` are plain numbers; ``model`` is a directory."""

    run: str
    model: str
    path: str
    metrics: dict[str, JSON]


@dataclass(slots=True, kw_only=True)
class Plan:
    """Everything a run needs, built before the first step. ``finish`` measures the outcome."""

    trunk: Trunk
    algorithm: Algorithm
    source: Any
    parents: tuple[ModelVersion, ...]
    shown: Shown
    prove: Callable[[], None]
    finish: Callable[[], dict[str, JSON]]
    normaliser: Callable[[], tuple[float, float]] = lambda: (0.0, 1.0)
    initialise: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Training rows and the snapshot they come from (None for the synthetic test rows)."""

    rows: list[Any]
    snapshot: Snapshot | None


def load_rows(store: Store | None, data: str, kind: Any, directory: Path) -> Rows:
    """Rows of ``kind`` from the data set called ``data``, a snapshot file, or ``test``."""
    if data == testing.NAME:
        made: dict[str, list[Any]] = {
            "preference": list(testing.preferences()),
            "demonstration": list(testing.demonstrations()),
            "prompt": list(testing.prompts()),
        }
        return Rows(rows=made[kind], snapshot=None)
    path = Path(data)
    if path.suffix == ".parquet":
        if not path.exists():
            raise MissingError(f"snapshot {path} does not exist; give an existing file")
        return Rows(rows=list(read_snapshot(path)), snapshot=None)
    if path.is_file():
        raise DataError(
            f"{path} is a file; import it first: heedful import hh {path} (or trl), then use "
            "the data set's name"
        )
    if store is None:
        raise DataError(f"data set {data!r} lives in a store; give --store")
    snapshot = make_snapshot(store, data, kind, directory)
    return Rows(rows=list(read_snapshot(Path(snapshot.path))), snapshot=snapshot)


def run_fit(
    kind: str,
    config: FitConfig,
    out: Path,
    store: Store | None,
    data: Rows,
    build: Callable[[], Plan],
) -> FitResult:
    """The shape of every fit: prove, resume, loop, save, measure, register."""
    run = RunDirectory(out, kind, config, snapshot=data.snapshot.id if data.snapshot else None)
    done = run.result()
    if done is not None:
        return result_of(run, done)
    plan = build()
    for parameter in plan.trunk.base.model.parameters():
        parameter.requires_grad_(False)
    trainable = plan.trunk.trainable(*plan.algorithm.trains)
    for parameter in trainable.values():
        parameter.requires_grad_(True)
    optimiser = Optimiser(trainable, config.optimiser)
    proofs.trainable_are_intended(plan.trunk, plan.algorithm.trains)
    found = checkpoint.latest(run.checkpoints)
    if found is None:
        plan.prove()
        plan.initialise()
    first = checkpoint.load(found, optimiser, plan.source) if found else 0
    run.rewind(first)
    checksum = proofs.base_checksum(plan.trunk)
    record(store, run, config, data, "start")
    seconds = train(kind, config, plan, optimiser, run, first)
    if proofs.base_checksum(plan.trunk) != checksum:
        proofs.refuse("frozen weights do not change", "another checksum", "the same")
    mean, std = plan.normaliser()
    weights = save_role(plan.trunk, plan.algorithm.role, run.model, mean=mean, std=std)
    metrics = plan.finish() | {"seconds": round(seconds, 1)}
    version = register(store, run, plan, data, weights)
    outcome = {"metrics": metrics, "model": version, "weights": weights}
    page = run_report(kind, config.model_dump(mode="json"), run.metrics(), metrics)
    write_report(page, out / "report.html")
    run.finish(outcome)
    record(store, run, config, data, "finish")
    return result_of(run, outcome)


def train(
    kind: str,
    config: FitConfig,
    plan: Plan,
    optimiser: Optimiser,
    run: RunDirectory,
    first: int,
) -> float:
    """The loop with progress, metrics and checkpoints; returns seconds."""
    started = time.monotonic()
    since_checkpoint = 0
    with progress(f"fit {kind}", plan.source.num_steps, done=first) as advance:

        def on_step(number: int, metrics: dict[str, float], step: Step) -> None:
            nonlocal since_checkpoint
            run.log(number, metrics)
            since_checkpoint += 1
            if step.resumable and since_checkpoint >= config.checkpoint_every:
                checkpoint.save(run.checkpoints, number + 1, optimiser, plan.source)
                since_checkpoint = 0
            shown = {label: metrics[name] for name, label in plan.shown.items() if name in metrics}
            advance(1, **shown)

        source: Source = plan.source
        fit(
            plan.trunk,
            source,
            plan.algorithm,
            optimiser,
            on_step=on_step,
            first_step=first,
        )
    return time.monotonic() - started


def record(
    store: Store | None, run: RunDirectory, config: FitConfig, data: Rows, event: str
) -> None:
    """Start or finish the run's row in the store."""
    if store is None:
        return
    row = Run(
        kind=run.kind,
        path=str(run.path),
        config=config.model_dump(mode="json") | {"out": str(run.path)},
        snapshot=data.snapshot.id if data.snapshot else None,
    )
    with store.write() as tx:
        if event == "start":
            run_table.start(tx, row)
        else:
            run_table.finish(tx, row.id)


def register(store: Store | None, run: RunDirectory, plan: Plan, data: Rows, weights: str) -> str:
    """The trained model as a version with its lineage; returns its id."""
    role = plan.algorithm.role
    version = ModelVersion(
        role="reward" if role == "reward" else "policy",
        name=run.path.name,
        weights_hash=weights,
        path=str(run.model),
        parents=tuple(parent.id for parent in plan.parents),
        snapshot=data.snapshot.id if data.snapshot else None,
    )
    if store is not None:
        with store.write() as tx:
            model_table.add(tx, version)
    return version.id


def result_of(run: RunDirectory, outcome: dict[str, Any]) -> FitResult:
    """The result record of a finished run."""
    return FitResult(
        run=str(run.path),
        model=outcome["model"],
        path=str(run.model),
        metrics=outcome["metrics"],
    )


def parents_of(store: Store | None, trunk: Trunk, *refs: models.ModelRef) -> tuple[Any, ...]:
    """Registered versions of the models that a run builds on."""
    if store is None:
        return ()
    return tuple(models.version_of(store, trunk, ref) for ref in refs)


def example_source(
    trees: Sequence[Tree],
    config: Any,
    trunk: Trunk,
    unit: str,
    enrich: Callable[[Batch], Batch] | None = None,
) -> ExampleSource:
    """Shuffled epochs with the config's batching."""
    return ExampleSource(
        trees,
        unit=unit,
        examples_per_step=config.batch.examples_per_step,
        tokens_per_micro_step=config.batch.tokens_per_micro_step,
        epochs=config.epochs,
        seed=config.seed,
        device=trunk.device,
        enrich=enrich,
    )


def open_for(config: FitConfig, store: Store | None) -> tuple[models.ModelRef, Trunk, str | None]:
    """The start model's trunk and its reference role."""
    ref = models.find_model(config.model, store)
    trunk = models.open_trunk(ref, dtype=config.dtype)
    return ref, trunk, models.start_policy(trunk, ref)


def add_policy(config: FitConfig, trunk: Trunk, reference: str | None) -> None:
    """The policy adapter as the config wants it."""
    if config.adapter.depth is not None:
        raise ConfigError(
            f"adapter.depth is {config.adapter.depth}; only a reward model can end early, a policy "
            "needs all layers"
        )
    models.new_policy(
        trunk,
        reference,
        rank=config.adapter.rank,
        alpha=config.adapter.alpha,
        first_layer=config.adapter.first_layer,
        seed=config.seed,
    )


def split(encoded: Encoded, rows: Sequence[Any], held_out: Sequence[Any]) -> tuple[Any, Any]:
    """Encoded trees of the training and the held-out prompts."""
    train_ids = {row.prompt.id for row in rows}
    held_ids = {row.prompt.id for row in held_out}
    return (
        [tree for tree in encoded.trees if tree.id in train_ids],
        [tree for tree in encoded.trees if tree.id in held_ids],
    )


def fit_sft(config: SFTConfig, out: Path, *, store: Store | None = None) -> FitResult:
    """Supervised fine-tuning on demonstrations; reports held-out NLL before and after."""
    data = load_rows(store, config.data, "demonstration", out)

    def build() -> Plan:
        ref, trunk, reference = open_for(config, store)
        add_policy(config, trunk, reference)
        encoded = demonstration_trees(
            trunk.tokenizer, data.rows, max_tokens=config.batch.max_tokens
        ).require("demonstrations")
        kept, held = split(encoded, *split_by_prompt(data.rows, config.held_out_share, config.seed))
        source = example_source(kept, config, trunk, "tokens")
        limit = config.batch.tokens_per_micro_step

        def finish() -> dict[str, JSON]:
            return {
                "num_train": len(kept),
                "num_held_out": len(held),
                "drops": dict(encoded.drops),
                "held_out_nll": mean_nll(trunk, held, "policy", limit),
                "held_out_nll_start": mean_nll(trunk, held, reference, limit),
            }

        return Plan(
            trunk=trunk,
            algorithm=algorithms.sft(),
            source=source,
            parents=parents_of(store, trunk, ref),
            shown={"policy/nll_nats": "nll", "policy/entropy_nats": "entropy"},
            prove=lambda: prove_policy(trunk, kept, reference),
            finish=finish,
        )

    return run_fit("sft", config, out, store, data, build)


@torch.no_grad()
def mean_nll(
    trunk: Trunk, trees: Sequence[Tree], role: str | None, max_tokens: int
) -> float | None:
    """Token-mean NLL of responses; None without any."""
    total, count = 0.0, 0
    for group in micro_batches(trees, max_tokens):
        batch = collate(group, trunk.device)
        total -= logprobs_of(trunk, batch, role).sum().item()
        count += batch.num_tokens
    return total / count if count else None


def prove_policy(trunk: Trunk, trees: Sequence[Tree], reference: str | None) -> None:
    """The proofs of every run that trains a policy."""
    few = sorted(trees, key=lambda tree: tree.num_tokens)[:2]
    proofs.packing_changes_nothing(trunk, few, reference)
    proofs.policy_equals_reference(trunk, collate(few, trunk.device), reference)


def fit_reward(config: RewardConfig, out: Path, *, store: Store | None = None) -> FitResult:
    """Bradley-Terry reward model; reports held-out accuracy with its interval, and ECE."""
    data = load_rows(store, config.data, "preference", out)

    def build() -> Plan:
        algorithm = algorithms.reward(loss=config.loss, params=config.params)
        ref, trunk, _ = open_for(config, store)
        trunk.add_adapter(
            "reward",
            rank=config.adapter.rank,
            alpha=config.adapter.alpha,
            first_layer=config.adapter.first_layer,
            depth=config.adapter.depth,
            seed=config.seed,
        )
        trunk.add_head(
            "reward",
            std=1 / math.sqrt(trunk.width + 1),
            seed=config.seed,
            pooling=config.pooling,
        )
        encoded = preference_trees(
            trunk.tokenizer, data.rows, max_tokens=config.batch.max_tokens
        ).require("preferences")
        kept, held = split(encoded, *split_by_prompt(data.rows, config.held_out_share, config.seed))
        if not kept:
            raise DataError(
                f"{len(encoded.trees)} prompts leave none to train on at held_out_share "
                f"{config.held_out_share}; lower it"
            )
        limit = config.batch.tokens_per_micro_step

        def prove() -> None:
            few = sorted(kept, key=lambda tree: tree.num_tokens)[:2]
            proofs.packing_changes_no_score(trunk, few)
            proofs.swap_flips_sign(trunk, few[0])

        def initialise() -> None:
            if config.warm_start:
                warm_start(trunk, kept, max_tokens=limit)

        return Plan(
            trunk=trunk,
            algorithm=algorithm,
            source=example_source(kept, config, trunk, "pairs"),
            initialise=initialise,
            parents=parents_of(store, trunk, ref),
            shown={"reward/loss_nats": "loss", "reward/accuracy_rate": "accuracy"},
            prove=prove,
            finish=lambda: (
                reward_metrics(trunk, held, limit)
                | {"num_train": sum(len(tree.pairs) for tree in kept)}
                | {"drops": dict(encoded.drops)}
            ),
            normaliser=lambda: reward_moments(trunk, kept, limit),
        )

    return run_fit("reward", config, out, store, data, build)


def reward_moments(trunk: Trunk, trees: Sequence[Tree], max_tokens: int) -> tuple[float, float]:
    """Mean and deviation of the reward on up to 256 training answers (card: centred rewards).

    In the demo these answers are samples of the start policy.
    """
    some = list(trees)[: max(1, 256 // max(len(trees[0].responses), 1))]
    scored = TrainedReward(trunk).score_trees(some, max_tokens)
    values = np.array([score for scores in scored for score in scores])
    return float(values.mean()), max(float(values.std()), 1e-3)


def reward_metrics(trunk: Trunk, trees: Sequence[Tree], max_tokens: int) -> dict[str, JSON]:
    """Held-out accuracy (Wilson), ECE and temperature from score differences."""
    if not trees:
        return {"num_held_out": 0}
    deltas = np.array(pair_deltas(trunk, trees, max_tokens=max_tokens))
    accuracy = wilson(float((deltas > 0).sum() + 0.5 * (deltas == 0).sum()), len(deltas))
    probabilities = 1 / (1 + np.exp(-deltas))
    return {
        "num_held_out": len(deltas),
        "accuracy": float(accuracy.value),
        "accuracy_ci": [float(accuracy.low), float(accuracy.high)],
        "ece": float(ece(probabilities, np.ones(len(deltas)))),
        # perfect and worse than random rankings have no temperature
        "temperature": float(fit_temperature(deltas))
        if (deltas <= 0).any() and deltas.mean() > 0
        else None,
        "deltas": [round(float(delta), 5) for delta in deltas],
    }


def fit_preference(config: PreferenceConfig, out: Path, *, store: Store | None = None) -> FitResult:
    """Direct preference optimisation; reports held-out implicit-reward accuracy."""
    data = load_rows(store, config.data, "preference", out)

    def build() -> Plan:
        algorithm = algorithms.direct(loss=config.loss, params=config.params)
        ref, trunk, reference = open_for(config, store)
        add_policy(config, trunk, reference)
        encoded = preference_trees(
            trunk.tokenizer, data.rows, max_tokens=config.batch.max_tokens
        ).require("preferences")
        kept, held = split(encoded, *split_by_prompt(data.rows, config.held_out_share, config.seed))

        def enrich(batch: Batch) -> Batch:
            return replace(batch, ref_logprobs=logprobs_of(trunk, batch, reference))

        return Plan(
            trunk=trunk,
            algorithm=algorithm,
            source=example_source(kept, config, trunk, "pairs", enrich),
            parents=parents_of(store, trunk, ref),
            shown={
                "preference/loss_nats": "loss",
                "preference/accuracy_rate": "accuracy",
                "preference/margin_nats": "margin",
            },
            prove=lambda: prove_policy(trunk, kept, reference),
            finish=lambda: (
                implicit_accuracy(trunk, held, reference, config.batch.tokens_per_micro_step)
                | {"drops": dict(encoded.drops)}
            ),
        )

    return run_fit("preference", config, out, store, data, build)


@torch.no_grad()
def implicit_accuracy(
    trunk: Trunk, trees: Sequence[Tree], reference: str | None, max_tokens: int
) -> dict[str, JSON]:
    """Share of held-out pairs whose chosen side gained more log-probability."""
    right = 0.0
    total = 0
    for group in micro_batches(trees, max_tokens):
        batch = collate(group, trunk.device)
        own = forward(trunk, batch, "policy", {"logprobs"}).logprobs
        assert own is not None
        assert batch.pairs is not None
        gain = (own - logprobs_of(trunk, batch, reference)).sum(dim=1)
        difference = gain[batch.pairs[:, 0]] - gain[batch.pairs[:, 1]]
        right += float((difference > 0).sum() + 0.5 * (difference == 0).sum())
        total += len(difference)
    if not total:
        return {"num_held_out": 0}
    accuracy = wilson(right, total)
    return {
        "num_held_out": total,
        "accuracy": float(accuracy.value),
        "accuracy_ci": [float(accuracy.low), float(accuracy.high)],
    }


def fit_ppo(config: PPOConfig, out: Path, *, store: Store | None = None) -> FitResult:
    """PPO with a critic against a trained reward model, or a rule (``gold:NAME``)."""
    data = load_rows(store, config.data, "prompt", out)

    def build() -> Plan:
        ref, trunk, reference = open_for(config, store)
        add_policy(config, trunk, reference)
        reward, reward_ref = open_reward(config.reward, trunk, store, reference)
        add_critic(trunk, config.seed)
        prompts, drops = prompt_rows(trunk, data.rows, config)
        ppo = config.ppo
        source = RolloutSource(
            trunk,
            LocalEngine(trunk, num_slots=config.rollouts.num_slots),
            reward,
            prompts,
            config,
            reference_role=reference,
            on_rollout=RunDirectory.rollout_writer(out),
        )
        refs = (ref, reward_ref) if reward_ref else (ref,)
        return Plan(
            trunk=trunk,
            algorithm=algorithms.proximal(
                clip_range=ppo.clip_range,
                value_clip_range=ppo.value_clip_range,
                value_coef=ppo.value_coef,
                temperature=config.rollouts.temperature,
            ),
            source=source,
            parents=parents_of(store, trunk, *refs),
            shown={
                "ppo/reward": "reward",
                "ppo/kl_nats": "kl",
                "ppo/response_tokens": "length",
                "policy/entropy_nats": "entropy",
            },
            prove=lambda: prove_ppo(trunk, source, prompts, config, reference),
            finish=lambda: ppo_metrics(out) | {"drops": dict(drops)},
        )

    return run_fit("ppo", config, out, store, data, build)


def open_reward(
    name: str, trunk: Trunk, store: Store | None, reference: str | None
) -> tuple[Any, models.ModelRef | None]:
    """A trained reward as role ``reward``, or the rule behind ``gold:NAME``."""
    if name.startswith("gold:"):
        from heedful.annotators.golds import resolve_gold

        gold = resolve_gold(name.removeprefix("gold:"))
        return RuleReward(gold.score, feature_role=reference), None
    ref = models.find_model(name, store)
    if ref.adapter is None:
        raise MissingError(f"reward {name!r} is not a trained reward model; run heedful fit reward")
    card = load_role(trunk, ref.adapter, "reward")
    if card.role != "reward":
        raise DataError(f"{ref.adapter} is a {card.role} model; a reward model is needed")
    return TrainedReward(trunk, mean=card.mean, std=card.std), ref


def prompt_rows(
    trunk: Trunk, prompts: Sequence[Prompt], config: PPOConfig
) -> tuple[list[PromptRow], Counter[str]]:
    """Prompts as tokens; one that leaves no room for an answer is dropped and counted."""
    room = min(config.batch.max_tokens, trunk.max_tokens) - config.rollouts.max_new_tokens
    rows: list[PromptRow] = []
    drops: Counter[str] = Counter()
    for prompt in prompts:
        tokens = encode_prompt(trunk.tokenizer, prompt)
        if len(tokens) > room:
            drops["too_long"] += 1
            continue
        rows.append(PromptRow(id=prompt.id, text=last_user_text(prompt), token_ids=tokens))
    if not rows:
        raise DataError(f"no prompt leaves room for an answer; dropped {dict(drops)}")
    return rows, drops


def prove_ppo(
    trunk: Trunk,
    source: RolloutSource,
    prompts: Sequence[PromptRow],
    config: PPOConfig,
    reference: str | None,
) -> None:
    """On two short answers: sampler = trainer, policy = reference, reward on the last token."""
    params = SamplingParams(
        max_new_tokens=min(8, config.rollouts.max_new_tokens),
        temperature=config.rollouts.temperature,
        seed=config.seed,
    )
    few = list(prompts[:2])
    samples = source.engine.sample(
        [Request(prompt=row.token_ids, params=params) for row in few], role="policy"
    )
    trees = [
        Tree(id=row.id, prompt=row.token_ids, responses=(sample.token_ids,))
        for row, sample in zip(few, samples, strict=True)
    ]
    batch = collate(trees, trunk.device)
    proofs.rewards_sit_on_the_last_token(batch, samples, trunk.base.stop_ids)
    proofs.packing_changes_nothing(trunk, trees, reference)
    proofs.policy_equals_reference(trunk, batch, reference)
    own = logprobs_of(trunk, batch, "policy", temperature=params.temperature)
    said = torch.tensor([logprob for sample in samples for logprob in sample.logprobs])
    difference = (own[batch.rows, batch.columns].cpu() - said).abs().max().item()
    proofs.agree("sampler and trainer log-probabilities agree (ratio = 1)", difference, trunk)


def ppo_metrics(out: Path) -> dict[str, JSON]:
    """First and last rollout side by side."""
    rows = RunDirectory.read_metrics(out)
    if not rows:
        return {}
    first, last = rows[0], rows[-1]
    names = ("ppo/reward", "ppo/kl_nats", "ppo/response_tokens", "policy/entropy_nats")
    return {f"{name}_first": first[name] for name in names} | {
        f"{name}_last": last[name] for name in names
    }
