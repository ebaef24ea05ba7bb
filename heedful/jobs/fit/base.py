"""The shape of every fit: load, prove, resume, loop, save, measure, register."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heedful.config import FitConfig
from heedful.data import testing
from heedful.data.collate import Tree
from heedful.data.examples import Encoded
from heedful.data.snapshot import prompt_of, read_snapshot
from heedful.errors import ConfigError, DataError, MissingError
from heedful.jobs import models
from heedful.jobs.fit.memory import announce_memory
from heedful.jobs.progress import progress
from heedful.jobs.recording import recorded, run_record
from heedful.jobs.rundir import RunDirectory
from heedful.jobs.snapshot import make_snapshot
from heedful.model.adapter_files import read_learned, save_role
from heedful.model.compiled import compile_layers, compile_seconds
from heedful.model.device import default_device
from heedful.model.flops import matrix_product_peak
from heedful.model.trunk import Trunk
from heedful.monitor.profile import packing_density, phase_costs
from heedful.monitor.report import write_report
from heedful.monitor.run_report import run_report
from heedful.store import datasets, snapshots
from heedful.store import models as model_table
from heedful.store.database import Store
from heedful.train import checkpoint, proofs
from heedful.train.algorithms import Algorithm
from heedful.train.loop import Source, fit
from heedful.train.optim import Optimiser
from heedful.train.sources import Enrich, ExampleSource, Pack
from heedful.types import JSON, Feedback, ModelVersion, Preference, Run, Snapshot

Shown = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """What a fit returns. ``metrics`` are plain numbers; ``model`` is a directory.

    ``profile`` holds ``phases``, ``packing`` and, if it was asked for, ``peak_gflops``.
    """

    run: str
    model: str
    path: str
    metrics: dict[str, JSON]
    profile: dict[str, JSON]


@dataclass(slots=True, kw_only=True)
class Plan:
    """Everything a run needs, built before the first step. ``finish`` measures the outcome.

    ``refs`` are the models that the run builds on: its start, and the reward that it serves.
    ``held_out`` are the trees that it measures on and learns nothing from. ``save`` writes what was
    trained and returns its hash.
    """

    trunk: Trunk
    algorithm: Algorithm
    source: Any
    refs: tuple[models.ModelRef, ...]
    shown: Shown
    prove: Callable[[], None]
    finish: Callable[[], dict[str, JSON]]
    normaliser: Callable[[], tuple[float, float]] = lambda: (0.0, 1.0)
    initialise: Callable[[], None] = lambda: None
    held_out: Sequence[Tree] = ()
    save: Callable[..., str] = save_role


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Training rows and the snapshot they come from (None for the synthetic test rows)."""

    rows: list[Any]
    snapshot: Snapshot | None


def load_rows(store: Store | None, data: str, kind: Any, directory: Path) -> Rows:
    """Rows of ``kind`` from the data set called ``data``, a snapshot file, or ``test``.

    A name of the store's stands for its data set and for nothing else, whatever it looks like.
    """
    if store is not None and is_in_store(store, data):
        return frozen_rows(store, data, kind, directory)
    if data == testing.NAME:
        made: dict[str, Callable[[], list[Any]]] = {
            "feedback": lambda: [row.as_feedback() for row in testing.preferences()],
            "preference": testing.preferences,
            "demonstration": testing.demonstrations,
            "prompt": testing.prompts,
        }
        return Rows(rows=made[kind](), snapshot=None)
    path = Path(data)
    if path.suffix == ".parquet":
        if not path.exists():
            raise MissingError(f"snapshot {path} does not exist; give an existing file")
        rows = fitting(list(read_snapshot(path)), kind, path)
        return Rows(rows=rows, snapshot=known_snapshot(store, data))
    if path.is_file():
        raise DataError(
            f"{path} is a file; import it first: heedful import hh {path} (or trl), then use "
            "the data set's name"
        )
    if store is None:
        raise DataError(f"data set {data!r} lives in a store; give --store")
    return frozen_rows(store, data, kind, directory)


def fitting(rows: list[Any], kind: Any, path: Path) -> list[Any]:
    """The rows of a file as feedback where that is needed; refuses rows that cannot be it, or are.

    A pair is feedback; feedback is no list of pairs or demonstrations, which forms derive.
    """
    if kind == "feedback":
        rows = [row.as_feedback() if isinstance(row, Preference) else row for row in rows]
    others = [row for row in rows if isinstance(row, Feedback) != (kind == "feedback")]
    if others:
        seen = type(others[0]).__name__.lower()
        raise DataError(
            f"{path} has {seen} rows, this command needs {kind} rows; make them with heedful "
            f"snapshot DATASET --kind {kind}"
        )
    return rows


def is_in_store(store: Store, name: str) -> bool:
    """Does the store have a data set of this name?"""
    with store.read() as tx:
        return datasets.exists(tx, name)


def frozen_rows(store: Store, dataset: str, kind: Any, directory: Path) -> Rows:
    """Rows of a data set, as a snapshot in ``directory``."""
    snapshot = make_snapshot(store, dataset, kind, directory)
    return Rows(rows=list(read_snapshot(Path(snapshot.path))), snapshot=snapshot)


def known_snapshot(store: Store | None, path: str) -> Snapshot | None:
    """The snapshot behind a file, when the store made it."""
    if store is None:
        return None
    with store.read() as tx:
        return snapshots.at_path(tx, path)


def run_fit(
    kind: str,
    config: FitConfig,
    out: Path,
    store: Store | None,
    data: Rows,
    build: Callable[[], Plan],
    *,
    profile: bool,
) -> FitResult:
    """The shape of every fit: prove, resume, loop, save, measure, register.

    ``profile`` also measures memory by phase and the machine's matrix products.
    """
    run = RunDirectory(out, kind, config, snapshot=data.snapshot.id if data.snapshot else None)
    done = run.result()
    if done is not None:
        return result_of(run, done)
    model_table.check_name(run.name)
    with run.held():
        return work(kind, config, run, store, data, build, profile=profile)


def work(
    kind: str,
    config: FitConfig,
    run: RunDirectory,
    store: Store | None,
    data: Rows,
    build: Callable[[], Plan],
    *,
    profile: bool,
) -> FitResult:
    """Everything of a fit that is not finished."""
    means = announce_memory(kind, config, store, data.rows)
    plan = build()
    plan.trunk.recomputes = means.recomputes
    if means.lays_out:
        plan.trunk.lay_out(*plan.algorithm.trains)
    if config.compile:
        compile_layers(plan.trunk)
    for parameter in plan.trunk.base.model.parameters():
        parameter.requires_grad_(False)
    trainable = plan.trunk.trainable(*plan.algorithm.trains)
    for parameter in trainable.values():
        parameter.requires_grad_(True)
    optimiser = Optimiser(trainable, config.optimiser, apart=plan.algorithm.apart)
    proofs.trainable_are_intended(plan.trunk, plan.algorithm.trains)
    found = checkpoint.latest(run.checkpoints)
    started = time.monotonic()
    if found is None:
        plan.prove()
        plan.initialise()
    first, spent = checkpoint.load(found, optimiser, plan.source) if found else (0, 0.0)
    started -= spent
    run.rewind(first)
    checksum = proofs.base_checksum(plan.trunk)
    row = run_record(run, config, data.snapshot.id if data.snapshot else None)
    with recorded(store, row):
        run.write_plan(plan.source.num_steps, first, plan.shown)
        with plan.source.phases.watching() if profile else nullcontext():
            train(kind, config, plan, optimiser, run, first, started)
        seconds = time.monotonic() - started  # with the probe that the head starts from
        if proofs.base_checksum(plan.trunk) != checksum:
            proofs.refuse("frozen weights do not change", "another checksum", "the same")
        return conclude(kind, config, run, store, data, plan, row, seconds=seconds, profile=profile)


def conclude(
    kind: str,
    config: FitConfig,
    run: RunDirectory,
    store: Store | None,
    data: Rows,
    plan: Plan,
    row: Run,
    *,
    seconds: float,
    profile: bool,
) -> FitResult:
    """Save, measure, register and report what was trained."""
    mean, std = plan.normaliser()
    weights = plan.save(
        plan.trunk,
        plan.algorithm.role,
        run.model,
        mean=mean,
        std=std,
        parents=tuple(parent for ref in plan.refs if (parent := ref.as_parent())),
        learned=learned_from(plan.refs, data.rows, plan.held_out),
    )
    metrics = plan.finish() | {"seconds": round(seconds, 1)}
    version = register(store, run, plan, row, weights)
    if config.compile:
        metrics["compile_seconds"] = round(compile_seconds(), 1)
        print(
            f"torch.compile took {metrics['compile_seconds']} s of {metrics['seconds']} s",
            file=sys.stderr,
        )
    costs = profile_of(plan.trunk, run.metrics(), profile)
    outcome = {"metrics": metrics, "model": version, "weights": weights, "profile": costs}
    page = run_report(kind, config.model_dump(mode="json"), run.metrics(), metrics, profile=costs)
    write_report(page, run.path / "report.html")
    run.finish(outcome)
    return result_of(run, outcome)


def profile_of(trunk: Trunk, rows: Sequence[dict[str, float]], measured: bool) -> dict[str, JSON]:
    """Where the run's time went; ``measured`` compares it with what the machine can do."""
    peak = matrix_product_peak(trunk.device, trunk.base.model.dtype) if measured else None
    return {
        "phases": [asdict(cost) for cost in phase_costs(rows, peak_flops=peak)],
        "packing": packing_density(rows),
        "peak_gflops": peak / 1e9 if peak else None,
    }


def train(
    kind: str,
    config: FitConfig,
    plan: Plan,
    optimiser: Optimiser,
    run: RunDirectory,
    first: int,
    started: float,
) -> None:
    """The loop with progress, metrics and checkpoints; ``started`` is on the monotonic clock."""
    since_checkpoint = 0
    with progress(f"fit {kind}", plan.source.num_steps, done=first) as advance:

        def on_step(number: int, metrics: dict[str, float]) -> None:
            nonlocal since_checkpoint
            run.log(number, metrics)
            since_checkpoint += 1
            if plan.source.resumable and since_checkpoint >= config.checkpoint_every:
                spent = time.monotonic() - started
                checkpoint.save(run.checkpoints, number + 1, optimiser, plan.source, spent)
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


def register(store: Store | None, run: RunDirectory, plan: Plan, row: Run, weights: str) -> str:
    """The trained model as a version with its lineage; returns its id."""
    role = plan.algorithm.role.partition("/")[0]
    version = ModelVersion(
        role="reward" if role == "reward" else "policy",
        name=run.name,
        weights_hash=weights,
        path=str(run.model.resolve()),
        parents=tuple(models.version_of(store, plan.trunk, ref).id for ref in plan.refs)
        if store is not None
        else (),
        snapshot=row.snapshot,
        run=row.id if store is not None else None,
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
        profile=outcome["profile"],
    )


def learned_from(
    refs: Sequence[models.ModelRef], rows: Sequence[Any], held_out: Sequence[Tree] = ()
) -> frozenset[str] | None:
    """Ids of the prompts of these rows and of all that the models learned; None: not known.

    Without the prompts that the run held out, unless one of the models learned from them.
    """
    learned = {prompt_of(row).id for row in rows} - {tree.id for tree in held_out}
    for ref in refs:
        if ref.adapter is not None:
            known = read_learned(ref.adapter)
            if known is None:
                return None
            learned |= known
    return frozenset(learned)


def example_source(
    trees: Sequence[Tree],
    config: Any,
    trunk: Trunk,
    unit: str,
    enrich: Enrich | None = None,
    pack: Pack | None = None,
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
        pack=pack,
    )


def open_for(config: FitConfig, store: Store | None) -> tuple[models.ModelRef, Trunk, str | None]:
    """The start model's trunk and its reference role."""
    device = default_device()
    if config.attention == "flex" and device.type != "cuda":
        raise ConfigError(
            f"attention is 'flex', which has no backward pass on this {device.type}; use sdpa"
        )
    ref = models.find_model(config.model, store)
    trunk = models.open_trunk(ref, dtype=config.dtype)
    trunk.attention = config.attention
    return ref, trunk, models.start_policy(trunk, ref)


def longest_text(config: FitConfig, trunk: Trunk) -> int:
    """Tokens of the longest conversation that is kept."""
    return min(config.batch.max_tokens, trunk.max_tokens)


def usable(encoded: Encoded, what: str, longest: int | None = None) -> Encoded:
    """What is left to learn from; says on stderr, before anything expensive, what is not.

    Raises ``DataError`` when nothing is.
    """
    say_dropped(encoded.drops, longest)
    return encoded.require(what)


def say_dropped(drops: Mapping[str, int], longest: int | None) -> None:
    """Say which rules left out how many rows; ``longest`` tokens are what the setting lets in."""
    for rule, num in sorted(drops.items()):
        is_set = rule == "too_long" and longest is not None
        why = f" for {longest:,} tokens (batch.max_tokens)" if is_set else ""
        print(f"left out: {num:,} {rule}{why}", file=sys.stderr)


def split(encoded: Encoded, rows: Sequence[Any], held_out: Sequence[Any]) -> tuple[Any, Any]:
    """Encoded trees of the training and the held-out prompts.

    Raises ``DataError`` when none is left to train on.
    """
    train_ids = {row.prompt.id for row in rows}
    held_ids = {row.prompt.id for row in held_out}
    train = [tree for tree in encoded.trees if tree.id in train_ids]
    held = [tree for tree in encoded.trees if tree.id in held_ids]
    if not train:
        rules = ", ".join(f"{rule}: {count}" for rule, count in encoded.drops.items()) or "none"
        raise DataError(
            f"{len(rows)} rows to train on leave no example and {len(held)} are held out; dropped "
            f"by rule: {rules}; raise batch.max_tokens or lower held_out_share"
        )
    return train, held
