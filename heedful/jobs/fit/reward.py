"""``fit reward``: a reward model of everything that people said, and how it is measured."""

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from heedful.config import RewardConfig, RewardLoss
from heedful.data.collate import Tree
from heedful.data.examples import feedback_trees
from heedful.data.reading import Reading, compared, learned, plan_reading, single_values, tally
from heedful.data.snapshot import split_by_prompt
from heedful.errors import ConfigError, DataError
from heedful.forms import FORMS
from heedful.jobs.fit.accuracy import accuracy_of
from heedful.jobs.fit.base import (
    FitResult,
    Plan,
    example_source,
    load_rows,
    longest_text,
    open_for,
    run_fit,
    split,
)
from heedful.jobs.progress import progress
from heedful.model.trunk import Trunk
from heedful.registry import nearest
from heedful.reward.probe import warm_start
from heedful.reward.trained import TrainedReward, pair_deltas
from heedful.stats.calibration import ece, fit_temperature
from heedful.stats.concordance import concordance
from heedful.store.database import Store
from heedful.train import algorithms, proofs
from heedful.train.links import new_links, start_links
from heedful.train.objectives import Objective
from heedful.types import JSON, SOURCES

NUM_PARTNERS = 4  # answers to other prompts that an answer judged alone is compared with at first


def fit_reward(
    config: RewardConfig, out: Path, *, store: Store | None = None, profile: bool = False
) -> FitResult:
    """Reward model of all feedback; reports held-out accuracy with its interval, and ECE."""
    check_weights(config.loss)
    algorithm = algorithms.reward(config.loss)
    data = load_rows(store, config.data, "feedback", out)

    def build() -> Plan:
        ref, trunk, _ = open_for(config, store)
        encoded = feedback_trees(
            trunk.tokenizer, data.rows, max_tokens=longest_text(config, trunk)
        ).require("feedback")
        kept, held = split(encoded, *split_by_prompt(data.rows, config.held_out_share, config.seed))
        lesson = lesson_of(config, kept)
        taught, reading = lesson.taught, lesson.reading
        first_layer, depth = config.adapter.span(trunk.num_layers)
        trunk.add_adapter(
            "reward",
            rank=config.adapter.rank,
            alpha=config.adapter.alpha,
            first_layer=first_layer,
            depth=depth,
            seed=config.seed,
        )
        trunk.add_head(
            "reward",
            std=1 / math.sqrt(trunk.width + 1),
            seed=config.seed,
            pooling=config.pooling,
        )
        trunk.add_links("reward", new_links(config.loss, reading))
        limit = config.batch.tokens_per_micro_step

        def prove() -> None:
            few = sorted(taught, key=lambda tree: tree.num_tokens)[:2]
            proofs.packing_changes_no_score(trunk, few)
            proofs.swap_flips_sign(trunk, few[0])

        def finish() -> dict[str, JSON]:
            used = with_something(without_unused(tree, reading) for tree in held)
            return (
                feedback_metrics(trunk, used, limit, seed=config.seed)
                | {"num_train": sum(map(num_judgements, taught))}
                | {"feedback": tally(kept), "unused": dict(reading.drops)}
                | {"drops": dict(encoded.drops)}
                | links_of(trunk)
            )

        return Plan(
            trunk=trunk,
            algorithm=algorithm,
            held_out=held,
            source=example_source(taught, config, trunk, algorithm.unit),
            initialise=lambda: start(config, trunk, lesson, algorithm.objective),
            refs=(ref,),
            shown={"reward/loss_nats": "loss", "reward/accuracy_rate": "accuracy"},
            prove=prove,
            finish=finish,
            normaliser=lambda: reward_moments(trunk, taught, limit),
        )

    return run_fit("reward", config, out, store, data, build, profile=profile)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What a run learns: its reading, the trees so read, and pairs that the head starts from.

    ``across`` are pairs between the answers of different prompts.
    """

    reading: Reading
    taught: list[Tree]
    paired: list[Tree]
    across: list[tuple[int, int]]


def lesson_of(config: RewardConfig, trees: Sequence[Tree]) -> Lesson:
    """The lesson of the training trees; says on stderr what is left out of it, and why.

    Raises ``DataError`` when no two answers were told apart.
    """
    reading = plan_reading(config.loss, trees)
    taught = with_something(learned(tree, reading) for tree in trees)
    for rule, num in reading.drops.items():
        print(f"not learned from: {num} {rule}", file=sys.stderr)
    paired, across = [compared(tree) for tree in taught], pairs_across(taught, config.seed)
    if not across and not any(tree.pairs for tree in paired):
        raise DataError(
            f"{len(taught)} prompts have no two answers that were told apart, so there is no "
            "reward to learn; ask for comparisons, or for ratings and thumbs of more answers"
        )
    return Lesson(reading=reading, taught=taught, paired=paired, across=across)


def start(config: RewardConfig, trunk: Trunk, lesson: Lesson, objective: Objective) -> None:
    """Set the head to the probe, and then the thresholds to their best for its scores."""
    limit = config.batch.tokens_per_micro_step
    if config.warm_start:
        with progress("probe", len(lesson.paired)) as advance:
            warm_start(
                trunk, lesson.paired, max_tokens=limit, across=lesson.across, advance=advance
            )
    if trunk.links["reward"]:
        with progress("thresholds", len(lesson.taught)) as advance:
            start_links(
                trunk, lesson.taught, objective, role="reward", max_tokens=limit, advance=advance
            )


def check_weights(loss: RewardLoss) -> None:
    """Refuse a weight of a form or source that does not exist."""
    for key, weights, names in (
        ("form_weights", loss.form_weights, list(FORMS)),
        ("source_weights", loss.source_weights, list(SOURCES)),
    ):
        for name in weights:
            if name not in names:
                raise ConfigError(f"loss.{key} has {name!r}; {nearest(name, names)}")


def with_something(trees: Iterable[Tree | None]) -> list[Tree]:
    """The trees that are there."""
    return [tree for tree in trees if tree is not None]


def without_unused(tree: Tree, reading: Reading) -> Tree | None:
    """A held-out tree with the statements on scales that were learned; None without any."""
    used = tuple(one for one in tree.said if reading.uses(one))
    return replace(tree, said=used) if used else None


def num_judgements(tree: Tree) -> int:
    """Terms of the loss."""
    marks = sum(map(len, tree.ratings.values())) + len(tree.thumbs)
    return len(tree.pairs) + len(tree.ties) + len(tree.rankings) + marks


def pairs_across(trees: Sequence[Tree], seed: int) -> list[tuple[int, int]]:
    """Pairs (better, worse) of answers judged alone, each with a few others, over all prompts.

    The probe that the head starts from reads pairs; the losses read ratings and thumbs as they are.
    """
    rng = np.random.default_rng([seed, len(trees)])
    pairs: list[tuple[int, int]] = []
    for found in single_values(trees).values():
        values, responses = np.array(found.values), np.array(found.responses)
        for number, value in enumerate(values):
            others = np.flatnonzero((values != value) & (responses != responses[number]))
            for other in rng.permutation(others)[:NUM_PARTNERS]:
                better, worse = (number, other) if value > values[other] else (other, number)
                pairs.append((int(responses[better]), int(responses[worse])))
    return pairs


def links_of(trunk: Trunk) -> dict[str, JSON]:
    """The learned thresholds and slopes, as they are saved; nothing for pairs alone."""
    links = trunk.links["reward"]
    if not links:
        return {}
    values = {name: value.detach().cpu().tolist() for name, value in links.items()}
    return {"links": values}


def feedback_metrics(
    trunk: Trunk, trees: Sequence[Tree], max_tokens: int, *, seed: int
) -> dict[str, JSON]:
    """Held-out agreement with what was said, whatever its form.

    ``accuracy`` and what rests on it are about pairs of answers to one prompt. Ratings and thumbs
    also have a ``concordance``, over all pairs of prompts; it is the ``accuracy`` when no prompt
    has two answers that were told apart.
    """
    paired = [tree for tree in map(compared, trees) if tree.pairs]
    metrics = reward_metrics(trunk, paired, max_tokens)
    singles = single_values(trees)
    if not singles:
        return metrics
    with progress("held-out answers", len(trees)) as advance:
        scored = TrainedReward(trunk).score_trees(trees, max_tokens, advance)
    scores = np.array([score for of_tree in scored for score in of_tree])
    for name, found in singles.items():
        if len(set(found.values)) < 2 or len(set(found.trees)) < 2:
            continue
        agreement = concordance(
            scores[found.responses],
            found.values,
            clusters=found.trees,
            rng=np.random.default_rng(seed),
        )
        interval = [agreement.low, agreement.high]
        metrics[f"concordance_{name}"] = agreement.value
        metrics[f"concordance_{name}_ci"] = interval
        if "accuracy" not in metrics:
            metrics["num_held_out"] = agreement.num
            metrics |= {"accuracy": agreement.value, "accuracy_ci": interval}
            metrics["accuracy_is"] = f"concordance_{name}"
    return metrics


def reward_moments(trunk: Trunk, trees: Sequence[Tree], max_tokens: int) -> tuple[float, float]:
    """Mean and deviation of the reward on up to 256 training answers (card: centred rewards).

    In the demo these answers are samples of the start policy.
    """
    some = list(trees)[: max(1, 256 // max(len(trees[0].responses), 1))]
    with progress("centre scores", len(some)) as advance:
        scored = TrainedReward(trunk).score_trees(some, max_tokens, advance)
    values = np.array([score for scores in scored for score in scores])
    return float(values.mean()), max(float(values.std()), 1e-3)


def reward_metrics(trunk: Trunk, trees: Sequence[Tree], max_tokens: int) -> dict[str, JSON]:
    """Held-out accuracy, ECE and temperature from score differences."""
    if not trees:
        return accuracy_of((), trees)
    with progress("held-out pairs", len(trees)) as advance:
        deltas = np.array(pair_deltas(trunk, trees, max_tokens=max_tokens, advance=advance))
    probabilities = 1 / (1 + np.exp(-deltas))
    return accuracy_of(deltas.tolist(), trees) | {
        "ece": float(ece(probabilities, np.ones(len(deltas)))),
        # rankings without a wrong pair and worse than random ones have no temperature
        "temperature": float(fit_temperature(deltas))
        if (deltas < 0).any() and deltas.mean() > 0
        else None,
        "deltas": [round(float(delta), 5) for delta in deltas],
    }
