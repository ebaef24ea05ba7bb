"""Find the model and the pairs, score, measure, write the run directory and the model's record."""

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heedful.config import RewardCardConfig
from heedful.data.formats import FORMATS
from heedful.errors import DataError, MissingError
from heedful.exchange.importing import import_preferences
from heedful.jobs import models
from heedful.jobs.evaluate import leave_out_learned
from heedful.jobs.fit.base import frozen_rows, is_in_store, load_rows
from heedful.jobs.progress import progress, steps
from heedful.jobs.quality.plain import plain
from heedful.jobs.recording import recorded, run_record
from heedful.jobs.reward_card.measure import About, measure, text_of
from heedful.jobs.reward_card.people import Background, read_background
from heedful.jobs.rundir import RunDirectory
from heedful.model.adapter_files import load_role, write_text
from heedful.model.trunk import Trunk
from heedful.monitor.report import write_report
from heedful.monitor.reward_card import RewardCard, findings
from heedful.monitor.reward_report import main_figures, reward_report
from heedful.reward.scorers import ImplicitScorer, Scored, Scorer, TrainedScorer
from heedful.stats.intervals import Interval
from heedful.store import open_store
from heedful.store import runs as run_table
from heedful.store.database import Store
from heedful.types import JSON, Evidence, Preference, Run

SCORES = "scores.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """The pairs to measure on, the hash that names them, and what is known of who judged them.

    ``snapshot`` is that of the store, None for pairs that are not in it. ``without_pair`` counts by
    rule the answers, and the rows of a file, that gave no pair.
    """

    rows: list[Preference]
    hash: str | None
    snapshot: str | None
    background: Background
    without_pair: Mapping[str, int]


def reward_card(
    config: RewardCardConfig, out: Path, *, store: Store | None = None
) -> dict[str, JSON]:
    """Measure a reward and write ``report.html``, ``result.json`` and ``scores.jsonl`` to ``out``.

    Returns the result. Prompts that the model or its parents were fitted to are left out. Raises
    ``DataError`` for what is no reward, or when no pair is left; ``MissingError`` for data that are
    not there.
    """
    ref = models.find_model(config.model, store)
    check_reward(config, ref)
    pairs = load_pairs(config, store, out)
    held_out = leave_out_learned(pairs.rows, config, ref)
    run = RunDirectory(out, "reward_card", config, snapshot=pairs.hash)
    done = run.result()
    if done is not None:
        return done
    row = run_record(run, config, pairs.snapshot)
    with run.held(), recorded(store, row):
        trunk = models.open_trunk(ref, dtype=config.dtype)
        scorer = open_scorer(config, trunk, ref, store)
        scored, swapped = score_pairs(scorer, held_out.rows)
        about = About(
            model=config.model,
            data=config.data,
            scale=scorer.scale,
            seed=config.seed,
            num_learned=held_out.num_learned,
            without_pair=pairs.without_pair,
        )
        with progress("style of answers", num_answers(held_out.rows, scored)) as advance:
            card = measure(
                about, held_out.rows, scored, pairs.background, swapped=swapped, advance=advance
            )
        write_scores(run.path / SCORES, held_out.rows, scored)
        write_report(reward_report(card), run.path / "report.html")
        result = result_of(card)
        if store is not None:
            save_evidence(store, trunk, ref, card, row)
        run.finish(result)
    return result


def check_reward(config: RewardCardConfig, ref: models.ModelRef) -> None:
    """Refuse what cannot score before anything is loaded."""
    card = ref.card()
    if card is None:
        raise DataError(
            f"{config.model} is no reward model: it is neither the directory of a fit nor a "
            "registered adapter; give a run of heedful fit reward"
        )
    if card.role == "reward" and config.beta is not None:
        raise DataError(
            f"{config.model} is a reward model and beta is {config.beta}; beta makes a policy the "
            "reward, leave it out"
        )
    if card.role != "reward" and config.beta is None:
        raise DataError(
            f"{config.model} is a {card.role} and no reward model; give a run of heedful fit "
            "reward, or measure the reward that a policy implies with --beta, the one that it was "
            "fitted with"
        )


def load_pairs(config: RewardCardConfig, store: Store | None, out: Path) -> Pairs:
    """Preferences of a data set, a snapshot, or a file in a format, which is not imported."""
    if config.format is None:
        is_named = store is not None and is_in_store(store, config.data)
        if not is_named and Path(config.data).is_file() and Path(config.data).suffix != ".parquet":
            raise DataError(
                f"{config.data} is a file; say how it is written with --format, one of "
                f"{', '.join(FORMATS)}"
            )
        data = load_rows(store, config.data, "preference", out)
        kinds = {type(row).__name__.lower() for row in data.rows} - {"preference"}
        if kinds:
            raise DataError(
                f"{config.data} holds {kinds.pop()} rows; a reward is measured on preferences"
            )
        background = read_background(store, data.rows) if store is not None else Background()
        snapshot = data.snapshot.id if data.snapshot else None
        return Pairs(
            rows=data.rows,
            hash=snapshot,
            snapshot=snapshot,
            background=background,
            without_pair=data.snapshot.drops if data.snapshot else {},
        )
    FORMATS[config.format]
    if not Path(config.data).is_file():
        raise MissingError(f"file {config.data} does not exist; give a file, or leave out --format")
    with (
        tempfile.TemporaryDirectory() as directory,
        open_store(Path(directory) / "pairs.db") as scratch,
    ):
        with progress("read pairs", 0) as advance:
            result = import_preferences(
                scratch, config.format, [config.data], progress=steps(advance)
            )
        data = frozen_rows(scratch, result.dataset, "preference", out)
        background = read_background(scratch, data.rows)
    assert data.snapshot is not None
    return Pairs(
        rows=data.rows,
        hash=data.snapshot.id,
        snapshot=None,
        background=background,
        without_pair=Counter(result.drops_by_rule) + Counter(data.snapshot.drops),
    )


def open_scorer(
    config: RewardCardConfig, trunk: Trunk, ref: models.ModelRef, store: Store | None
) -> Scorer:
    """The reward model's head, or with ``beta`` the policy's log-ratio to its start."""
    assert ref.adapter is not None
    limit = config.tokens_per_micro_step
    if config.beta is None:
        load_role(trunk, ref.adapter, "reward")
        return TrainedScorer(trunk, max_tokens=limit)
    reference = models.start_policy(trunk, models.start_of(ref, store))
    load_role(trunk, ref.adapter, "policy")
    return ImplicitScorer(trunk, beta=config.beta, reference=reference, max_tokens=limit)


def score_pairs(scorer: Scorer, rows: Sequence[Preference]) -> tuple[Scored, Scored | None]:
    """Scores of the pairs, and of a scorer that reads pairs also those with the sides changed."""
    num_prompts = len({row.prompt.id for row in rows})
    with progress("score pairs", num_prompts) as advance:
        scored = scorer.score(rows, advance)
    if not scored.pairs:
        rules = ", ".join(f"{rule}: {num}" for rule, num in scored.drops.items()) or "none"
        raise DataError(
            f"none of {len(rows)} pairs can be scored; dropped by rule: {rules}; give pairs whose "
            "two answers differ, or raise tokens_per_micro_step for long ones"
        )
    if not np.isfinite(scored.chosen).all() or not np.isfinite(scored.rejected).all():
        raise DataError("a score is not finite; fit the model again")
    if not scorer.reads_pairs:
        return scored, None
    with progress("score swapped", num_prompts) as advance:
        return scored, scorer.score([row.swap() for row in rows], advance)


def num_answers(rows: Sequence[Preference], scored: Scored) -> int:
    """How many distinct answers were scored."""
    kept = [rows[number] for number in scored.pairs]
    sides = {(row.prompt.id, text_of(side)) for row in kept for side in (row.chosen, row.rejected)}
    return len(sides)


def write_scores(path: Path, rows: Sequence[Preference], scored: Scored) -> None:
    """One line a pair: ids and what each member gave its two sides. No texts."""
    lines = [
        json.dumps(
            {
                "prompt": rows[number].prompt.id,
                "annotations": list(rows[number].annotation_ids),
                "chosen": [round(float(one), 6) for one in chosen],
                "rejected": [round(float(one), 6) for one in rejected],
            }
        )
        for number, chosen, rejected in zip(
            scored.pairs, scored.chosen, scored.rejected, strict=True
        )
    ]
    write_text(path, "".join(f"{line}\n" for line in lines))


def result_of(card: RewardCard) -> dict[str, JSON]:
    """The card as JSON: the main numbers by the names that evaluations use, then everything."""
    result: dict[str, Any] = {"num_held_out": card.accuracy.num}
    result |= named("accuracy", card.accuracy)
    result |= {"num_learned": card.num_learned, "num_prompts": card.num_prompts}
    if card.matched is not None:
        result |= named("length_matched_accuracy", card.matched.accuracy)
    if card.people is not None and card.people.ceiling is not None:
        result |= named("human_accuracy", card.people.ceiling.human)
    if card.style is not None:
        result |= named("style_share", card.style)
    result |= {name: getattr(card.measured, name) for name in ("ece", "brier", "nll")}
    if card.scaling is not None and card.scaling.after is not None:
        result |= {"ece_scaled": card.scaling.after.ece, "temperature": card.scaling.temperature}
    result |= {"without_pair": dict(card.without_pair), "drops": dict(card.drops)}
    result["warnings"] = [asdict(one) for one in findings(card)]
    result["card"] = asdict(card)
    whole: dict[str, JSON] = plain(result)
    return whole


def named(name: str, one: Interval) -> dict[str, JSON]:
    """A number and its interval under the names of results."""
    return {name: one.value, f"{name}_ci": [one.low, one.high]}


def save_evidence(
    store: Store, trunk: Trunk, ref: models.ModelRef, card: RewardCard, run: Run
) -> None:
    """Accuracy, and accuracy without length, as Evidence about the model, with the card."""
    version = models.version_of(store, trunk, ref)
    on = "data it may have learned from" if card.num_learned is None else "held-out data"
    measured = {"accuracy": card.accuracy}
    if card.matched is not None:
        measured["length-matched accuracy"] = card.matched.accuracy
    about: dict[str, JSON] = {"data": card.data, "run": run.id}
    details = {"accuracy": about | {"card": main_figures(card)}}
    found = [
        Evidence(
            model=version.id,
            test=f"{name} on {on}",
            value=one.value,
            low=one.low,
            high=one.high,
            num=one.num,
            detail=details.get(name, about),
        )
        for name, one in measured.items()
        if np.isfinite([one.value, one.low, one.high]).all()
    ]
    with store.write() as tx:
        for one in found:
            run_table.add_evidence(tx, one)
