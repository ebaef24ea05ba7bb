"""``fit reward --backbone features``: a reward from numbers about the answer, without a model."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heedful.annotators.text_patterns import describe
from heedful.config import RewardConfig, Section
from heedful.data.collate import Tree
from heedful.data.examples import feedback_trees
from heedful.data.plain import MAX_TOKENS, PLAIN
from heedful.data.reading import compared, single_values, tally, without_unused
from heedful.data.snapshot import split_by_prompt
from heedful.errors import ConfigError
from heedful.jobs.fit.accuracy import concordances_of, measured_of
from heedful.jobs.fit.base import FitResult, learned_from, result_of, split, usable
from heedful.jobs.fit.lesson import Lesson, lesson_of
from heedful.jobs.fit.sets import Sets, by_set
from heedful.jobs.progress import progress
from heedful.jobs.recording import recorded, run_record
from heedful.jobs.rundir import RunDirectory
from heedful.jobs.text_rewards import ON_FEATURES, write_network
from heedful.model.adapter_files import (
    CARD,
    LEARNED,
    AdapterCard,
    weights_hash,
    write_directory,
    write_json,
)
from heedful.monitor.report import write_report
from heedful.monitor.run_report import run_report
from heedful.reward.probe import pair_places, pair_weights
from heedful.stats.feature_network import FeatureNetwork, fit_feature_network
from heedful.store import models as model_table
from heedful.store.database import Store
from heedful.types import JSON, ModelVersion

Array = NDArray[np.float64]
Score = Callable[[Sequence[Tree]], list[list[float]]]
USED = {"data", "model", "seed", "held_out_share", "backbone", "loss", "remedies"}
USED_OF_LOSS = {
    "form_weights", "source_weights", "dataset_weights", "ratings", "criterion", "thumbs",
}  # fmt: skip


def check_features(config: RewardConfig) -> None:
    """Refuse settings that a network of features has no use for."""
    loss, remedies = config.loss, config.remedies
    asked = [name for name in changed(config) if name not in USED]
    asked += [f"loss.{name}" for name in changed(loss) if name not in USED_OF_LOSS]
    if remedies.length_penalty:
        asked.append("remedies.length_penalty")
    if remedies.covariates != "none":
        asked.append("remedies.covariates")
    if remedies.length_head:
        asked.append("remedies.length_head")
    if asked:
        raise ConfigError(
            f"{asked[0]} is set and backbone is 'features', which learns from pairs by two layers "
            f"on {len(describe(''))} features; leave {asked[0]} out, or take backbone=adapter"
        )


def changed(section: Section) -> list[str]:
    """The keys that have another value than their default; a saved config names all of them."""
    fields = type(section).model_fields
    return [
        name
        for name, field in fields.items()
        if getattr(section, name) != field.get_default(call_default_factory=True)
    ]


def fit_features(
    config: RewardConfig, sets: Sets, out: Path, *, store: Store | None = None
) -> FitResult:
    """A feature network on all pairs that the feedback implies; reports as ``fit_reward`` does."""
    data = sets.rows
    snapshot = data.snapshot.id if data.snapshot else None
    run = RunDirectory(out, "reward", config, snapshot=snapshot)
    done = run.result()
    if done is not None:
        return result_of(run, done)
    model_table.check_name(run.name)
    row = run_record(run, config, snapshot)
    with run.held(), recorded(store, row):
        started = time.monotonic()
        read = feedback_trees(PLAIN, data.rows, max_tokens=MAX_TOKENS, datasets=sets.of_row)
        encoded = usable(read, "feedback")
        kept, held = split(encoded, *split_by_prompt(data.rows, config.held_out_share, config.seed))
        lesson = lesson_of(config, kept, PLAIN)
        reading, taught = lesson.reading, lesson.taught
        used = [one for tree in held if (one := without_unused(tree, reading))]
        features = described([*taught, *lesson.paired, *used])
        network = fit_network(lesson, features, config.seed)

        def score(trees: Sequence[Tree]) -> list[list[float]]:
            table = [network.score(np.array([features[one] for one in t.responses])) for t in trees]
            return [row.tolist() for row in table]

        def measure(trees: Sequence[Tree]) -> dict[str, JSON]:
            return metrics_of(trees, score, config.seed)

        weights = save(run, network, score(taught), learned_from((), data.rows, held))
        parts = by_set(sets, encoded, reading, taught, used, measure) if sets.parts else {}
        metrics = (
            measure(used)
            | ({"datasets": parts} if parts else {})
            | {"num_train": sum(len(tree.said) for tree in taught), "feedback": tally(kept)}
            | {"unused": dict(reading.drops), "drops": dict(encoded.drops)}
            | {"seconds": round(time.monotonic() - started, 1)}
        )
        version = ModelVersion(
            role="reward",
            name=run.name,
            weights_hash=weights,
            path=str(run.model.resolve()),
            snapshot=snapshot,
            run=row.id if store is not None else None,
        )
        if store is not None:
            with store.write() as tx:
                model_table.add(tx, version)
        page = run_report("reward", config.model_dump(mode="json"), (), metrics)
        write_report(page, run.path / "report.html")
        outcome: dict[str, JSON] = {
            "metrics": metrics, "model": version.id, "weights": weights, "profile": {},
        }  # fmt: skip
        run.finish(outcome)
    return result_of(run, outcome)


def described(trees: Sequence[Tree]) -> dict[tuple[int, ...], list[float]]:
    """The features of every distinct answer, by its characters."""
    answers = dict.fromkeys(response for tree in trees for response in tree.responses)
    found = {}
    with progress("features of answers", len(answers)) as advance:
        for answer in answers:
            found[answer] = describe(PLAIN.decode(answer))
            advance(1)
    return found


def fit_network(
    lesson: Lesson, features: dict[tuple[int, ...], list[float]], seed: int
) -> FeatureNetwork:
    """The network of the pairs that a lesson implies, by their weight.

    Answers judged alone are compared with some to other prompts, as for the probe of a head.
    """
    table: Array = np.array([features[one] for tree in lesson.paired for one in tree.responses])
    places = pair_places(lesson.paired, lesson.across)
    return fit_feature_network(
        table[places[:, 0]],
        table[places[:, 1]],
        weights=pair_weights(lesson.paired, len(lesson.across)),
        rng=np.random.default_rng(seed),
    )


def metrics_of(trees: Sequence[Tree], score: Score, seed: int) -> dict[str, JSON]:
    """Held-out agreement with what was said, as ``fit_reward`` reports it."""
    paired = [tree for tree in map(compared, trees) if tree.pairs]
    deltas = [
        scores[chosen] - scores[rejected]
        for tree, scores in zip(paired, score(paired), strict=True)
        for chosen, rejected in tree.pairs
    ]
    metrics = measured_of(deltas, paired)
    singles = single_values(trees)
    flat = [one for row in score(trees) for one in row] if singles else []
    return metrics | concordances_of(flat, singles, seed=seed, is_alone="accuracy" not in metrics)


def save(
    run: RunDirectory,
    network: FeatureNetwork,
    scores: Sequence[Sequence[float]],
    learned: frozenset[str] | None,
) -> str:
    """Write the model directory; returns the hash of its weights.

    Scores of training answers give the mean and deviation that rewards are normalised by.
    """
    flat = [one for row in scores for one in row]
    card = AdapterCard(
        role="reward",
        base="",
        base_hash="",
        has_head=False,
        mean=float(np.mean(flat)),
        std=max(float(np.std(flat)), 1e-3),
        backbone=ON_FEATURES,
    )

    def write(directory: Path) -> None:
        write_network(network, directory)
        write_json(directory / CARD, asdict(card))
        write_json(directory / LEARNED, {"prompts": sorted(learned or ())})

    write_directory(run.model, write)
    return weights_hash(run.model)
