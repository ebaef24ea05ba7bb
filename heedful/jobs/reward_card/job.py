"""Find the model and the feedback, score, measure, write the run directory and the record."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from heedful.config import RewardCardConfig
from heedful.jobs import models
from heedful.jobs.fit.base import learned_from
from heedful.jobs.progress import progress
from heedful.jobs.recording import recorded, run_record
from heedful.jobs.reward_card.annotators import learned_reliability
from heedful.jobs.reward_card.answers import measure_answers
from heedful.jobs.reward_card.feedback import SINGLE
from heedful.jobs.reward_card.held_out import HeldOutFeedback, NoPairsError, held_out_feedback
from heedful.jobs.reward_card.loading import Loaded, load_feedback
from heedful.jobs.reward_card.measure import About, Further, measure
from heedful.jobs.reward_card.nearness import near_learned
from heedful.jobs.reward_card.parts import measure_parts
from heedful.jobs.reward_card.people import text_of
from heedful.jobs.reward_card.result import answer_result, claims_of, result_of
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
from heedful.monitor.answer_card import (
    AnswerCard,
    answer_figures_in_words,
    answer_report,
)
from heedful.monitor.answer_figures import AnswerFigures
from heedful.monitor.report import write_report
from heedful.monitor.reward_card import PartFigures, RewardCard
from heedful.monitor.reward_report import main_figures, reward_report
from heedful.reward.scorers import Scored, Scorer
from heedful.stats.intervals import Interval
from heedful.store import runs as run_table
from heedful.store.database import Store
from heedful.types import JSON, Evidence, Preference

SCORES = "scores.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What both kinds of card have."""

    answers: Sequence[AnswerFigures]
    parts: Sequence[PartFigures]
    mix: str | None
    notes: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CardOfPairs:
    """A card and the scores that it was made from."""

    card: RewardCard
    scored: Scored


def reward_card(
    config: RewardCardConfig, out: Path, *, store: Store | None = None
) -> dict[str, JSON]:
    """Measure a reward; write ``report.html``, ``result.json`` and ``scores.jsonl`` to ``out``.

    Where no two answers to a prompt are told apart the card is one of ratings, thumbs and flags,
    and there are no scores of pairs. Returns the result. Prompts that the model or its parents were
    fitted to are left out. Raises ``DataError`` for what is no reward, ``NoPairsError`` for
    feedback with nothing to measure, ``MissingError`` for data that are not there.
    """
    subject = find_subject(config, store)
    loaded = load_feedback(config, store, out)
    held = held_out_feedback(config, subject, loaded)
    run = RunDirectory(out, "reward_card", config, snapshot=loaded.hash)
    done = run.result()
    if done is not None:
        return done
    row = run_record(run, config, loaded.snapshot)
    with run.held(), recorded(store, row):
        opened = open_scorer(config, subject, store, run.path)
        notes: list[str] = []
        answers = measure_answers(opened.scorer, held.singles, config.seed, notes)
        parts: list[PartFigures] = []
        if opened.trunk is not None and config.beta is None:
            parts = measure_parts(config, opened.trunk, held.said)
        measured = Measured(
            answers=answers,
            parts=parts,
            mix=mix_of(opened.trunk) if parts and opened.trunk is not None else None,
            notes=notes,
        )
        if held.rows:
            card = card_of_pairs(config, subject, loaded, held, opened.scorer, measured, store)
            page, result = reward_report(card.card), result_of(card.card)
            claims, figures = claims_of(card.card), main_figures(card.card)
            write_scores(run.path / SCORES, held, card.scored)
        else:
            alone = card_of_answers(config, subject, held, opened.scorer, measured, store)
            page, result = answer_report(alone), answer_result(alone)
            claims = {f"concordance with {one.name}": one.concordance for one in alone.answers}
            figures = answer_figures_in_words(alone)
        write_report(page, run.path / "report.html")
        if store is not None and subject.ref is not None and subject.ref.adapter is not None:
            is_held_out = held.num_learned is not None
            about: dict[str, JSON] = {"data": config.data, "run": row.id}
            version = models.version_of(store, opened.trunk, subject.ref)
            save_evidence(store, version.id, claims, figures, about, is_held_out=is_held_out)
        run.finish(result)
    return result


def card_of_pairs(
    config: RewardCardConfig,
    subject: Subject,
    loaded: Loaded,
    held: HeldOutFeedback,
    scorer: Scorer,
    measured: Measured,
    store: Store | None,
) -> CardOfPairs:
    """Score the pairs and measure all that they allow."""
    scored, orders = score_pairs(scorer, held.rows)
    notes = list(measured.notes)
    further = Further(
        forms=held.forms,
        orders=orders,
        answers=measured.answers,
        rewordings=reworded(
            scorer,
            held.rows,
            scored,
            notes,
            num_pairs=config.num_rewritten,
            seed=config.seed,
        ),
        moments=moments_of(config, subject),
        near=near_learned(store, learned_prompts(subject, held), held.rows, notes),
        learned_writers=learned_writers(store, subject.ref),
    )
    about = About(
        model=config.model,
        data=config.data,
        scale=scorer.scale,
        seed=config.seed,
        num_learned=held.num_learned,
        without_pair=held.without_pair,
        reliability=learned_reliability(subject.ref),
    )
    with progress("style of answers", num_answers(held.rows, scored)) as advance:
        card = measure(
            about,
            held.rows,
            scored,
            loaded.background,
            further=replace(further, notes=notes),
            advance=advance,
        )
    return CardOfPairs(card=replace(card, parts=measured.parts, mix=measured.mix), scored=scored)


def learned_prompts(subject: Subject, held: HeldOutFeedback) -> frozenset[str] | None:
    """The prompts that the model learned from; None where that is not known."""
    if held.num_learned is None or subject.ref is None:
        return None
    return learned_from([subject.ref], ())


def card_of_answers(
    config: RewardCardConfig,
    subject: Subject,
    held: HeldOutFeedback,
    scorer: Scorer,
    measured: Measured,
    store: Store | None,
) -> AnswerCard:
    """The card without pairs; raises ``NoPairsError`` when no answer could be scored."""
    if not measured.answers:
        raise NoPairsError(
            f"{config.data} has no two answers to a prompt that were told apart, and its ratings, "
            f"thumbs and flags cannot be measured: {' '.join(measured.notes)}"
        )
    notes = list(measured.notes)
    rated = [row for row in held.said if row.scale in SINGLE]
    near = near_learned(store, learned_prompts(subject, held), rated, notes)
    return AnswerCard(
        model=config.model,
        data=config.data,
        scale=scorer.scale,
        seed=config.seed,
        num_learned=held.num_learned,
        num_near=None if near is None else sum(row.prompt.id in near for row in rated),
        answers=measured.answers,
        without_pair=held.without_pair,
        notes=notes,
        mix=measured.mix,
        parts=measured.parts,
    )


def moments_of(config: RewardCardConfig, subject: Subject) -> tuple[float, float] | None:
    """Mean and deviation of a reward model's scores on answers that it was fitted to."""
    card = subject.ref.card() if subject.ref is not None else None
    return (card.mean, card.std) if card is not None and config.beta is None else None


def num_answers(rows: Sequence[Preference], scored: Scored) -> int:
    """How many distinct answers were scored."""
    kept = [rows[number] for number in scored.pairs]
    sides = {(row.prompt.id, text_of(side)) for row in kept for side in (row.chosen, row.rejected)}
    return len(sides)


def write_scores(path: Path, pairs: HeldOutFeedback, scored: Scored) -> None:
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


def save_evidence(
    store: Store,
    version: str,
    claims: Mapping[str, Interval],
    figures: Mapping[str, str],
    about: Mapping[str, JSON],
    *,
    is_held_out: bool,
) -> None:
    """The claims as Evidence about the model, the first with the card's main ``figures``."""
    on = "held-out data" if is_held_out else "data it may have learned from"
    card: dict[str, JSON] = {"card": dict(figures)}
    found = [
        Evidence(
            model=version,
            test=f"{name} on {on}",
            value=one.value,
            low=one.low,
            high=one.high,
            num=one.num,
            detail={**about, **(card if name == next(iter(claims)) else {})},
        )
        for name, one in claims.items()
        if np.isfinite([one.value, one.low, one.high]).all()
    ]
    with store.write() as tx:
        for one in found:
            run_table.add_evidence(tx, one)
