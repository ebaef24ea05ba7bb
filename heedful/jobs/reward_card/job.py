"""Find the model and the feedback, score, measure, write the run directory and the record."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from heedful.config import RewardCardConfig
from heedful.errors import DataError
from heedful.jobs import models
from heedful.jobs.evaluate import leave_out_learned
from heedful.jobs.fit.base import learned_from
from heedful.jobs.progress import progress
from heedful.jobs.quality.plain import attempt, plain
from heedful.jobs.recording import recorded, run_record
from heedful.jobs.reward_card.annotators import learned_reliability
from heedful.jobs.reward_card.feedback import Singles, pairs_of, singles_of
from heedful.jobs.reward_card.loading import Loaded, load_feedback
from heedful.jobs.reward_card.measure import About, Further, measure
from heedful.jobs.reward_card.nearness import near_learned
from heedful.jobs.reward_card.parts import measure_parts
from heedful.jobs.reward_card.people import text_of
from heedful.jobs.reward_card.rewriting import reworded
from heedful.jobs.reward_card.scoring import (
    Subject,
    find_subject,
    mix_of,
    open_scorer,
    score_pairs,
)
from heedful.jobs.reward_card.writers import learned_writers
from heedful.jobs.rundir import RunDirectory
from heedful.model.adapter_files import write_text
from heedful.model.trunk import Trunk
from heedful.monitor.report import write_report
from heedful.monitor.reward_card import RewardCard, findings
from heedful.monitor.reward_report import main_figures, reward_report
from heedful.reward.scorers import Rater, Scored, Scorer
from heedful.stats.concordance import concordance
from heedful.stats.intervals import Interval
from heedful.store import runs as run_table
from heedful.store.database import Store
from heedful.types import JSON, Evidence, Feedback, Preference, Run

SCORES = "scores.jsonl"


class NoPairsError(DataError):
    """The feedback tells no two answers to a prompt apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutPairs:
    """The pairs to measure on, by their numbers among all pairs of the data, and rated answers.

    ``said`` is all feedback on their prompts, and on others that nothing was learned from.
    ``num_learned`` pairs were left out, None when it is not known what the model learned from.
    """

    rows: list[Preference]
    numbers: list[int]
    forms: list[str]
    said: Sequence[Feedback]
    singles: Singles
    num_learned: int | None
    without_pair: dict[str, int]


def reward_card(
    config: RewardCardConfig, out: Path, *, store: Store | None = None
) -> dict[str, JSON]:
    """Measure a reward and write ``report.html``, ``result.json`` and ``scores.jsonl`` to ``out``.

    Returns the result. Prompts that the model or its parents were fitted to are left out. Raises
    ``DataError`` for what is no reward, ``NoPairsError`` for feedback without pairs,
    ``MissingError`` for data that are not there.
    """
    subject = find_subject(config, store)
    loaded = load_feedback(config, store, out)
    pairs = held_out_pairs(config, subject, loaded)
    run = RunDirectory(out, "reward_card", config, snapshot=loaded.hash)
    done = run.result()
    if done is not None:
        return done
    row = run_record(run, config, loaded.snapshot)
    with run.held(), recorded(store, row):
        opened = open_scorer(config, subject, store, run.path)
        scorer = opened.scorer
        scored, orders = score_pairs(scorer, pairs.rows)
        notes: list[str] = []
        is_known = pairs.num_learned is not None
        learned = learned_from([subject.ref], ()) if is_known and subject.ref else None
        further = Further(
            forms=pairs.forms,
            orders=orders,
            concordance=concordances(scorer, pairs.singles, config.seed, notes),
            rewordings=reworded(
                scorer,
                pairs.rows,
                scored,
                notes,
                num_pairs=config.num_rewritten,
                seed=config.seed,
            ),
            moments=moments_of(config, subject),
            near=near_learned(store, learned, pairs.rows, notes),
            learned_writers=learned_writers(store, subject.ref),
        )
        about = About(
            model=config.model,
            data=config.data,
            scale=scorer.scale,
            seed=config.seed,
            num_learned=pairs.num_learned,
            without_pair=pairs.without_pair,
            reliability=learned_reliability(subject.ref),
        )
        with progress("style of answers", num_answers(pairs.rows, scored)) as advance:
            card = measure(
                about,
                pairs.rows,
                scored,
                loaded.background,
                further=replace(further, notes=notes),
                advance=advance,
            )
        if opened.trunk is not None and config.beta is None:
            parts = measure_parts(config, opened.trunk, pairs.said)
            card = replace(card, parts=parts, mix=mix_of(opened.trunk) if parts else None)
        write_scores(run.path / SCORES, pairs, scored)
        write_report(reward_report(card), run.path / "report.html")
        result = result_of(card)
        if store is not None and subject.ref is not None and subject.ref.adapter is not None:
            save_evidence(store, opened.trunk, subject.ref, card, row)
        run.finish(result)
    return result


def held_out_pairs(config: RewardCardConfig, subject: Subject, loaded: Loaded) -> HeldOutPairs:
    """The pairs of prompts that nothing was learned from; raises ``NoPairsError`` without any."""
    given = pairs_of(loaded.rows)
    without = dict(Counter(loaded.drops) + Counter(given.without_pair))
    rows: Sequence[Feedback] = loaded.rows
    num_learned = None
    if subject.ref is None:
        print(
            f"not known whether {config.model} has learned from {config.data}: no claim about "
            "held-out data",
            file=sys.stderr,
        )
    else:
        held_out = leave_out_learned(loaded.rows, config, subject.ref)
        rows, num_learned = held_out.rows, held_out.num_learned
    prompts = {row.prompt.id for row in rows}
    numbers = [n for n, pair in enumerate(given.pairs) if pair.prompt.id in prompts]
    if not numbers:
        rules = ", ".join(f"{num} {rule}" for rule, num in sorted(without.items())) or "none"
        raise NoPairsError(
            f"{config.data} has no two answers to a prompt that were told apart, in {len(rows)} "
            f"statements; without a pair: {rules}; heedful evaluate --model {config.model} --data "
            f"{config.data} measures ratings and thumbs alone"
        )
    return HeldOutPairs(
        rows=[given.pairs[n] for n in numbers],
        numbers=numbers,
        forms=[given.forms[n] for n in numbers],
        said=rows,
        singles=singles_of(rows),
        num_learned=None if num_learned is None else len(given.pairs) - len(numbers),
        without_pair=without,
    )


def concordances(
    scorer: Scorer, singles: Singles, seed: int, notes: list[str]
) -> dict[str, Interval]:
    """How often scores put two rated answers in the order of their ratings, over all prompts."""
    told_apart = {
        name: found for name, found in singles.values.items() if len(set(found.values)) > 1
    }
    if not told_apart:
        return {}
    if not isinstance(scorer, Rater):
        notes.append(
            "No concordance with ratings and thumbs: these scores compare answers to one prompt "
            "only."
        )
        return {}
    with progress("score rated answers", len(singles.answers)) as advance:
        rated = scorer.rate(singles.answers, advance)
    result = {}
    for name, found in told_apart.items():
        kept = [n for n, response in enumerate(found.responses) if response in rated.scores]
        one = attempt(
            notes,
            f"concordance with {name}",
            lambda found=found, kept=kept: concordance(  # type: ignore[misc]
                [rated.scores[found.responses[n]] for n in kept],
                [found.values[n] for n in kept],
                clusters=[found.trees[n] for n in kept],
                rng=np.random.default_rng(seed),
            ),
        )
        if one is not None:
            result[name] = one
    return result


def moments_of(config: RewardCardConfig, subject: Subject) -> tuple[float, float] | None:
    """Mean and deviation of a reward model's scores on answers that it was fitted to."""
    card = subject.ref.card() if subject.ref is not None else None
    return (card.mean, card.std) if card is not None and config.beta is None else None


def num_answers(rows: Sequence[Preference], scored: Scored) -> int:
    """How many distinct answers were scored."""
    kept = [rows[number] for number in scored.pairs]
    sides = {(row.prompt.id, text_of(side)) for row in kept for side in (row.chosen, row.rejected)}
    return len(sides)


def write_scores(path: Path, pairs: HeldOutPairs, scored: Scored) -> None:
    """One line a pair: its number in the data, ids and what each member gave its two sides.

    No texts. ``delta`` is chosen minus rejected, of members their aggregate; with several members
    there is also the deviation of their differences.
    """
    lines = [
        json.dumps(
            {
                "pair": pairs.numbers[number],
                "form": pairs.forms[number],
                "prompt": pairs.rows[number].prompt.id,
                "annotations": list(pairs.rows[number].annotation_ids),
                "chosen": [round(float(one), 6) for one in chosen],
                "rejected": [round(float(one), 6) for one in rejected],
                "delta": round(float(delta), 6),
            }
            | (
                {"uncertainty": round(float((chosen - rejected).std(ddof=1)), 6)}
                if len(chosen) > 1
                else {}
            )
        )
        for number, chosen, rejected, delta in zip(
            scored.pairs, scored.chosen, scored.rejected, scored.deltas, strict=True
        )
    ]
    write_text(path, "".join(f"{line}\n" for line in lines))


def result_of(card: RewardCard) -> dict[str, JSON]:
    """The card as JSON: the main numbers by the names that evaluations use, then everything."""
    result: dict[str, Any] = {"num_held_out": card.accuracy.num}
    result |= named("accuracy", card.accuracy)
    result |= {"num_learned": card.num_learned, "num_prompts": card.num_prompts}
    if card.near is not None:
        result["num_nearly_learned"] = card.near.num
    if card.mean_of_subsets is not None:
        result |= named("mean_of_subsets", card.mean_of_subsets)
    if card.matched is not None:
        result |= named("length_matched_accuracy", card.matched.accuracy)
    if card.people is not None and card.people.ceiling is not None:
        result |= named("human_accuracy", card.people.ceiling.human)
    if card.style is not None:
        result |= named("style_share", card.style)
    result |= {name: getattr(card.measured, name) for name in ("ece", "brier", "nll")}
    if card.scaling is not None:
        result |= {"ece_scaled": card.scaling.after.ece, "temperature": card.scaling.temperature}
    if card.mix is not None:
        result["mix"] = card.mix
    for name, one in card.concordance.items():
        result |= named(f"concordance_{name}", one)
    result |= {"forms": dict(card.forms)}
    result |= {"without_pair": dict(card.without_pair), "drops": dict(card.drops)}
    result["warnings"] = [asdict(one) for one in findings(card)]
    result["card"] = asdict(card)
    whole: dict[str, JSON] = plain(result)
    return whole


def named(name: str, one: Interval) -> dict[str, JSON]:
    """A number and its interval under the names of results."""
    return {name: one.value, f"{name}_ci": [one.low, one.high]}


def save_evidence(
    store: Store, trunk: Trunk | None, ref: models.ModelRef, card: RewardCard, run: Run
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
