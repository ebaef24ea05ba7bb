"""``fit reward``: a reward model of everything that people said, and how it is measured."""

import math
from collections.abc import Sequence
from pathlib import Path

from heedful.config import RewardConfig, RewardLoss
from heedful.data.collate import Tree
from heedful.data.examples import feedback_trees
from heedful.data.parts import without_flags
from heedful.data.reading import tally, without_unused
from heedful.data.snapshot import split_by_prompt
from heedful.errors import ConfigError, DataError
from heedful.forms import FORMS
from heedful.jobs.fit.annotators import announce, offsets_of, reliabilities_of
from heedful.jobs.fit.base import (
    FitResult,
    Plan,
    example_source,
    longest_text,
    open_for,
    run_fit,
    split,
    usable,
)
from heedful.jobs.fit.ensemble import (
    check_ensemble,
    members_of,
    new_ensemble,
    roles_and_seeds,
    start_members,
)
from heedful.jobs.fit.features import check_features, fit_features
from heedful.jobs.fit.groups import grouped
from heedful.jobs.fit.lesson import Lesson, lesson_of, num_judgements, with_something
from heedful.jobs.fit.measuring import feedback_metrics, links_of, reward_moments
from heedful.jobs.fit.parts import add_parts, flag_weights, start_heads
from heedful.jobs.fit.remedies import penalise, style_links
from heedful.jobs.fit.sets import by_set, check_dataset_weights, keeping, load_sets
from heedful.jobs.progress import progress
from heedful.model.adapter_files import save_role
from heedful.model.trunk import Trunk
from heedful.registry import nearest
from heedful.reward.ensemble import roles_of, saver
from heedful.reward.probe import warm_start
from heedful.store.database import Store
from heedful.train import algorithms, proofs
from heedful.train.length_head import LengthHead
from heedful.train.links import new_links, start_links
from heedful.train.members import MemberBatches
from heedful.train.objectives import Objective
from heedful.types import JSON, SOURCES


def fit_reward(
    config: RewardConfig, out: Path, *, store: Store | None = None, profile: bool = False
) -> FitResult:
    """Reward model of all feedback; reports held-out accuracy with its interval, and ECE."""
    check_weights(config.loss)
    check_dataset_weights(config.loss, config.datasets)
    if config.backbone == "features":
        check_features(config)
    check_ensemble(config)
    roles = roles_of(config.ensemble.members)
    algorithms.reward(config.loss)
    sets = load_sets(store, config.datasets, "feedback", out)
    data = sets.rows
    rows, num_flags = without_flags(data.rows, config.loss)
    if num_flags and not rows:
        raise DataError(
            f"all {num_flags} rows of feedback are flags and loss.flags is 'drop'; learn them with "
            "loss.flags=penalty, or add comparisons, ratings or thumbs"
        )
    sets = keeping(sets, rows)
    if config.backbone == "features":
        return fit_features(config, sets, out, store=store)

    def build() -> Plan:
        ref, trunk, _ = open_for(config, store)
        longest = longest_text(config, trunk)
        read = feedback_trees(trunk.tokenizer, rows, max_tokens=longest, datasets=sets.of_row)
        encoded = grouped(usable(read, "feedback", longest), config.loss, store)
        kept, held = split(encoded, *split_by_prompt(rows, config.held_out_share, config.seed))
        lesson = lesson_of(config, kept, trunk.tokenizer, num_flags)
        taught, reading = lesson.taught, lesson.reading
        announce(taught, reading)
        algorithm = algorithms.reward(
            config.loss,
            flag_weights(taught, reading),
            roles=roles,
            length_head=config.remedies.length_head,
        )
        add_roles(config, trunk, lesson)
        limit = config.batch.tokens_per_micro_step
        ensemble = new_ensemble(config, trunk)
        members = members_of(config, taught) if ensemble else []

        def prove() -> None:
            few = sorted(taught, key=lambda tree: tree.num_tokens)[:2]
            for role in roles:
                proofs.packing_changes_no_score(trunk, few, role)
                proofs.swap_flips_sign(trunk, few[0], role)

        def initialise() -> None:
            if ensemble is None:
                start(config, trunk, lesson, algorithm.objective)
                return
            start_members(
                config, trunk, members, taught, lesson.paired, lesson.across, algorithm.objective
            )

        def measure(trees: Sequence[Tree]) -> dict[str, JSON]:
            return feedback_metrics(trunk, trees, limit, seed=config.seed, ensemble=ensemble)

        def finish() -> dict[str, JSON]:
            used = with_something(without_unused(tree, reading) for tree in held)
            parts = by_set(sets, encoded, reading, taught, used, measure) if sets.parts else {}
            return (
                measure(used)
                | ({"datasets": parts} if parts else {})
                | {"num_train": sum(map(num_judgements, taught))}
                | {"feedback": tally(kept), "unused": dict(reading.drops)}
                | {"drops": dict(encoded.drops)}
                | ({"num_unbalanced": lesson.num_unbalanced} if config.remedies.length_bins else {})
                | links_of(trunk, roles)
                | reliabilities_of(
                    trunk, taught, reading, encoded.annotators, rows, max_tokens=limit
                )
                | offsets_of(
                    trunk, config.loss, taught, reading, encoded.annotators, rows, max_tokens=limit
                )
            )

        def moments() -> tuple[float, float]:
            if config.remedies.length_penalty:
                penalise(config.remedies, trunk, taught, limit)
            return reward_moments(trunk, taught, limit, ensemble)

        return Plan(
            trunk=trunk,
            algorithm=algorithm,
            held_out=held,
            source=example_source(
                taught,
                config,
                trunk,
                algorithm.unit,
                LengthHead(trunk) if config.remedies.length_head else None,
                pack=MemberBatches(trunk, members, max_tokens=limit) if ensemble else None,
            ),
            initialise=initialise,
            refs=(ref,),
            shown={"reward/loss_nats": "loss", "reward/accuracy_rate": "accuracy"},
            prove=prove,
            finish=finish,
            normaliser=moments,
            save=saver(ensemble) if ensemble else save_role,
        )

    return run_fit("reward", config, out, store, data, build, profile=profile)


def add_roles(config: RewardConfig, trunk: Trunk, lesson: Lesson) -> None:
    """The adapter, the head and the links of the reward, or of each member."""
    reading = lesson.reading
    first_layer, depth = config.span(trunk.num_layers)
    for role, seed in roles_and_seeds(config):
        trunk.add_adapter(
            role,
            rank=config.adapter.rank,
            alpha=config.adapter.alpha,
            first_layer=first_layer,
            depth=depth,
            seed=seed,
        )
        trunk.add_head(
            role,
            std=1 / math.sqrt(trunk.width + 1),
            seed=seed,
            pooling=config.pooling,
            num_outputs=max(len(reading.parts), 1),
        )
        trunk.add_links(role, new_links(config.loss, reading) | style_links(lesson.taught))
    add_parts(trunk, config.loss, reading.parts)
    if config.remedies.length_head:
        trunk.add_head("length", std=1 / math.sqrt(trunk.width + 1), seed=config.seed + 1)


def start(config: RewardConfig, trunk: Trunk, lesson: Lesson, objective: Objective) -> None:
    """Set the head to the probe, and then the thresholds to their best for its scores."""
    limit = config.batch.tokens_per_micro_step
    if config.warm_start and lesson.reading.parts:
        start_heads(config, trunk, lesson.taught, lesson.reading.parts)
    elif config.warm_start:
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
