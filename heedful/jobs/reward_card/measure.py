"""Scores of pairs to the figures of a card. Formulas are those of ``heedful.stats``."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from heedful.annotators.features import words as words_of
from heedful.annotators.text_patterns import PATTERNS, describe
from heedful.data.collate import Advance, silent
from heedful.data.examples import last_user_text
from heedful.data.snapshot import split_by_prompt
from heedful.errors import DataError
from heedful.jobs.quality.plain import attempt
from heedful.jobs.reward_card.annotators import judged_annotators
from heedful.jobs.reward_card.bias import leanings
from heedful.jobs.reward_card.nearness import measured_apart
from heedful.jobs.reward_card.people import (
    Background,
    agreement_of_people,
    count_contradicted,
    pair_key,
    text_of,
)
from heedful.jobs.reward_card.scoring import Orders
from heedful.jobs.reward_card.slices import Kind, slices_of
from heedful.jobs.reward_card.writers import writers_of
from heedful.monitor.answer_figures import AnswerFigures
from heedful.monitor.demo_figures import calibration_rows
from heedful.monitor.reward_card import (
    Doubt,
    Mistake,
    RewardCard,
    Scaling,
    Slice,
    WithoutLength,
)
from heedful.monitor.reward_checks import Rewording
from heedful.reward.scorers import Scored
from heedful.stats.calibration import (
    Calibration,
    calibration_by_slice,
    confident_mistakes,
    fit_temperature,
    scale_by_halves,
)
from heedful.stats.intervals import Interval, share_by_cluster
from heedful.stats.shortcuts import (
    matched_accuracy,
    style_share,
    within_correlation,
    without_curve,
)
from heedful.stats.uncertainty import error_by_bin, error_detection, risk_coverage
from heedful.stats.votes import encode
from heedful.types import Preference

Array = NDArray[np.float64]
NUM_RESAMPLES = 500  # of each of many features
NUM_MISTAKES = 20
FREE_OF_FEATURE = 3  # answers beyond the first of each prompt, for each feature that is fitted
SMALLEST_LEAD = 1e-9  # of the largest score; below it is the rounding of what was taken off
ALL = "all"
PAIRWISE = "pairwise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Further:
    """What else is known of the pairs, besides their scores. ``forms[n]`` is how pair n was asked
    for; ``orders`` are the scores by a scorer that reads pairs, with the chosen side first and
    last; ``near`` are learned prompts by the ids of prompts that are nearly equal, None: not
    compared; ``notes`` say what could not be measured."""

    forms: Sequence[str] = ()
    orders: Orders | None = None
    answers: Sequence[AnswerFigures] = ()
    rewordings: Sequence[Rewording] = ()
    moments: tuple[float, float] | None = None
    near: Mapping[str, str] | None = None
    learned_writers: frozenset[str] | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a card is of: names for its head, and what was left out before anything was scored.

    ``reliability`` is that of annotators by id, as the model's fit learned it.
    """

    model: str
    data: str
    scale: str
    seed: int
    num_learned: int | None
    without_pair: Mapping[str, int] = field(default_factory=dict)
    reliability: Mapping[str, Interval] = field(default_factory=dict)


def measure(
    about: About,
    rows: Sequence[Preference],
    scored: Scored,
    background: Background,
    *,
    further: Further | None = None,
    advance: Advance = silent,
) -> RewardCard:
    """The card of scored pairs; ``rows`` are all that were given to the scorer.

    ``advance`` hears of the features of style. What the data do not allow is left out with a note.
    """
    further = further or Further()
    kept = [rows[number] for number in scored.pairs]
    forms = further.forms or [PAIRWISE] * len(rows)
    form = [forms[number] for number in scored.pairs]
    rngs = generators(about.seed)
    notes = list(further.notes)
    deltas = scored.deltas
    _, prompts = encode([row.prompt.id for row in kept])
    right = (np.sign(deltas) + 1) / 2
    words = words_of_sides(kept)
    correlations, style = follow_style(kept, scored, notes, rngs[1], advance)
    return RewardCard(
        model=about.model,
        data=about.data,
        scale=about.scale,
        seed=about.seed,
        num_prompts=len(np.unique(prompts)),
        num_learned=about.num_learned,
        near=measured_apart(kept, right, further.near),
        num_contradicted=count_contradicted(kept, form),
        without_pair=dict(about.without_pair),
        drops=dict(scored.drops),
        measured=calibrated(deltas, prompts, rngs[0]),
        reliability=calibration_rows(deltas),
        num_alike=int((deltas == 0).sum()),
        matched=attempt(
            notes,
            "length-matched accuracy",
            lambda: matched_accuracy(
                right, words[:, 0] - words[:, 1], rng=rngs[2], clusters=prompts
            ),
        ),
        correlations=correlations,
        style=style,
        without_length=attempt(
            notes,
            "scores without length",
            lambda: without_length(kept, scored, words, rngs[8]),
        ),
        annotators=judged_annotators(kept, deltas, background, about.reliability, notes),
        people=agreement_of_people(kept, form, deltas, background, notes, rng=rngs[3]),
        scaling=scale(kept, deltas, prompts, about.seed, notes, rngs[4]),
        slices=[
            one
            for kind in slices_of(kept, form, words, background, notes, rng=rngs[5])
            for one in measured_slices(kind, deltas, prompts, rngs[6])
        ],
        swap=consistent(rows, further.orders, notes),
        doubt=doubt_against_error(scored, deltas, prompts, notes, rngs[7]),
        mistakes=surest_mistakes(kept, deltas),
        notes=notes,
        forms=dict(Counter(form).most_common()),
        answers=further.answers,
        rewordings=further.rewordings,
        writers=writers_of(
            rows,
            scored,
            background,
            moments=further.moments,
            learned=further.learned_writers,
        ),
        leans=leanings(kept, form, words, background),
    )


def generators(seed: int) -> list[np.random.Generator]:
    """One for each part of a card, so that none depends on what others draw."""
    return [np.random.default_rng(one) for one in np.random.SeedSequence([seed, 6]).spawn(9)]


def words_of_sides(rows: Sequence[Preference]) -> Array:
    """Words of the chosen and the rejected answers, shape [pairs, 2]."""
    sides = [[len(words_of(text_of(side))) for side in (one.chosen, one.rejected)] for one in rows]
    return np.array(sides, dtype=float)


def surest_mistakes(rows: Sequence[Preference], deltas: Array) -> list[Mistake]:
    """The surest mistakes, a pair that several people judged, or by several criteria, only once."""
    order = confident_mistakes(expit(deltas), np.ones(len(deltas)), most=len(deltas))
    pairs: dict[str, int] = {}
    for n in order.tolist():
        pairs.setdefault(pair_key(rows[n], "")[0], n)
    return [
        Mistake(
            prompt=last_user_text(rows[n].prompt),
            chosen=text_of(rows[n].chosen),
            rejected=text_of(rows[n].rejected),
            confidence=float(expit(-deltas[n])),
            annotations=rows[n].annotation_ids,
        )
        for n in list(pairs.values())[:NUM_MISTAKES]
    ]


def calibrated(deltas: Array, prompts: NDArray[np.int64], rng: np.random.Generator) -> Calibration:
    """Accuracy and calibration of score differences; the chosen side always won."""
    probabilities, won = expit(deltas), np.ones(len(deltas))
    names = [ALL] * len(deltas)
    return calibration_by_slice(probabilities, won, names, rng=rng, clusters=prompts)[ALL]


def measured_slices(
    kind: Kind, deltas: Array, prompts: NDArray[np.int64], rng: np.random.Generator
) -> list[Slice]:
    """The figures of every slice of a kind, in its order."""
    probabilities, won = expit(deltas), np.ones(len(deltas))
    found = calibration_by_slice(probabilities, won, kind.of, rng=rng, clusters=prompts)
    return [Slice(kind=kind.name, name=name, measured=found[name]) for name in kind.names]


def scale(
    rows: Sequence[Preference],
    deltas: Array,
    prompts: NDArray[np.int64],
    seed: int,
    notes: list[str],
    rng: np.random.Generator,
) -> Scaling | None:
    """Calibration of all pairs, each half of the prompts scaled by what fits the other half."""
    try:
        _, held = split_by_prompt(rows, 0.5, seed)
    except DataError as error:
        notes.append(f"No temperature: {error}.")
        return None
    ids = {row.prompt.id for row in held}
    is_held = np.array([row.prompt.id in ids for row in rows])
    found = attempt(notes, "temperature", lambda: scale_by_halves(deltas, is_held))
    if found is None:
        return None
    scaled, halves = found
    return Scaling(
        temperature=fit_temperature(deltas),
        halves=halves,
        after=calibrated(scaled, prompts, rng),
        reliability=calibration_rows(scaled),
    )


def follow_style(
    rows: Sequence[Preference],
    scored: Scored,
    notes: list[str],
    rng: np.random.Generator,
    advance: Advance,
) -> tuple[dict[str, Interval], Interval | None]:
    """Correlation of scores with features of style within prompts, and the share style explains.

    Each distinct answer of a prompt counts once.
    """
    answers: dict[tuple[str, str], float] = {}
    for row, scores in zip(rows, scored.sides.tolist(), strict=True):
        for side, one in zip((row.chosen, row.rejected), scores, strict=True):
            answers.setdefault((row.prompt.id, text_of(side)), one)
    described: dict[str, list[float]] = {}
    features = []
    for _, text in answers:
        if text not in described:
            described[text] = describe(text)
        features.append(described[text])
        advance(1)
    table, values = np.array(features), np.array(list(answers.values()))
    prompts = np.array([prompt for prompt, _ in answers])
    found = {}
    for place, name in enumerate(PATTERNS):
        one = attempt(
            notes,
            f"correlation with {name}",
            lambda place=place: within_correlation(  # type: ignore[misc]
                values, table[:, place], prompts, rng=rng, num_resamples=NUM_RESAMPLES
            ),
        )
        if one is not None:
            found[name] = one
    num_free = len(answers) - len(np.unique(prompts))
    num_varying = int((np.ptp(table, axis=0) > 0).sum())
    if num_free < FREE_OF_FEATURE * num_varying:
        notes.append(
            f"No share of style: {len(answers)} answers of {len(answers) - num_free} prompts are "
            f"too few to fit {num_varying} features."
        )
        return found, None
    share = attempt(notes, "share of style", lambda: style_share(values, table, prompts, rng=rng))
    return found, share


def without_length(
    rows: Sequence[Preference], scored: Scored, words: Array, rng: np.random.Generator
) -> WithoutLength:
    """What is left of the scores when the curve of length is taken off.

    Each distinct answer of a prompt counts once in the curve. Raises as ``without_curve``.
    """
    place: dict[tuple[str, str], int] = {}
    scores: list[float] = []
    lengths: list[float] = []
    sides = np.empty((len(rows), 2), dtype=np.int64)
    for n, row in enumerate(rows):
        for side, answer in enumerate((row.chosen, row.rejected)):
            key = (row.prompt.id, text_of(answer))
            if key not in place:
                place[key] = len(scores)
                scores.append(float(scored.sides[n, side]))
                lengths.append(float(np.log1p(words[n, side])))
            sides[n, side] = place[key]
    prompts = np.array([prompt for prompt, _ in place])
    left = without_curve(scores, lengths, prompts, rng=rng)
    # a judge of pairs gives an answer another score in every pair; its length is always the same
    kept = scored.sides - (np.array(scores) - left)[sides]
    gap = kept[:, 0] - kept[:, 1]
    rounding = SMALLEST_LEAD * np.abs(scored.sides).max()
    right = (np.sign(np.where(np.abs(gap) > rounding, gap, 0.0)) + 1) / 2
    _, clusters = encode([row.prompt.id for row in rows])
    gaps = words[:, 0] - words[:, 1]
    before, after = (
        within_correlation(one, lengths, prompts, rng=rng, num_resamples=NUM_RESAMPLES)
        for one in (scores, left)
    )
    return WithoutLength(
        before=before,
        after=after,
        accuracy=share_by_cluster(right, clusters),
        matched=attempt([], "", lambda: matched_accuracy(right, gaps, rng=rng, clusters=clusters)),
    )


def consistent(
    rows: Sequence[Preference], orders: Orders | None, notes: list[str]
) -> Interval | None:
    """Share of pairs that are judged the same with their sides changed."""
    if orders is None:
        notes.append(
            "No swap consistency: every answer is scored by itself, so the order of two answers "
            "cannot change their scores."
        )
        return None
    # what was rejected is called chosen there, and a judge that is consistent says the opposite
    here, there = (dict(zip(one.pairs, _signs(one), strict=True)) for one in orders)
    both = sorted(here.keys() & there.keys())
    if not both:
        notes.append("No swap consistency: no pair was scored both ways.")
        return None
    _, prompts = encode([rows[n].prompt.id for n in both])
    return share_by_cluster([float(here[n] == -there[n]) for n in both], prompts)


def _signs(scored: Scored) -> Array:
    return np.asarray(np.sign(scored.deltas))


def doubt_against_error(
    scored: Scored,
    deltas: Array,
    prompts: NDArray[np.int64],
    notes: list[str],
    rng: np.random.Generator,
) -> Doubt | None:
    """Whether the members disagree where their mean errs."""
    num_members = scored.chosen.shape[1]
    if num_members < 2:
        notes.append(
            "No uncertainty against error: the model has one head and states no uncertainty."
        )
        return None
    clear = deltas != 0
    spread = (scored.chosen - scored.rejected).std(axis=1, ddof=1)[clear]
    is_right = (deltas[clear] > 0).astype(float)
    if len(np.unique(is_right)) < 2:
        notes.append("No uncertainty against error: all pairs are right, or all are wrong.")
        return None
    return attempt(
        notes,
        "uncertainty against error",
        lambda: Doubt(
            num_members=num_members,
            detection=error_detection(spread, is_right, rng=rng, clusters=prompts[clear]),
            curve=risk_coverage(spread, is_right),
            bins=error_by_bin(spread, is_right, clusters=prompts[clear]),
        ),
    )
