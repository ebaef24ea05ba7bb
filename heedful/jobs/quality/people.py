"""Each annotator: pace, skill, side, cycles; and who stands out beyond doubt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heedful.jobs.quality.copies import MIN_PEOPLE, find
from heedful.jobs.quality.levels import levels
from heedful.jobs.quality.plain import attempt
from heedful.jobs.quality.reading import Answers
from heedful.monitor.charts import fixed, percent, percents
from heedful.stats.comparisons import Comparisons
from heedful.stats.consensus import Consensus, majority
from heedful.stats.copying import PairAgreement, drop_copies
from heedful.stats.cycles import count_cycles
from heedful.stats.dawid_skene import dawid_skene
from heedful.stats.intervals import Interval, share_by_cluster, wilson
from heedful.stats.noisy_bradley_terry import NoisyBradleyTerry, noisy_bradley_terry
from heedful.stats.pace import pace
from heedful.stats.rates import Rates, is_surely_below, side_bias, side_bias_p_values
from heedful.stats.votes import Codes
from heedful.store.extras import Tally

Row = dict[str, Any]
Array = NDArray[np.float64]
MIN_NUM = 20
MAX_CANDIDATES = 800  # the fit takes time with the cube of their number
LOW_SHARE = 0.7  # of repeats answered alike, of gold items answered right
LOW_SKILL = 0.5  # of a typical person's
FAST = 1 / 3  # of the project's median
FAR = 0.5  # points above or below the usual person
ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """What is known of people's skill. None where the data do not allow it."""

    others: Consensus | None
    dawid_skene: Consensus | None
    bradley_terry: NoisyBradleyTerry | None
    copies: tuple[PairAgreement, ...]


def skill(answers: Answers, notes: list[str]) -> Skill:
    """Skill by agreement with others, Dawid-Skene without copies, and noisy Bradley-Terry."""
    votes = answers.votes
    others: Consensus | None = None
    by_votes: Consensus | None = None
    copies: tuple[PairAgreement, ...] = ()
    if votes is not None and (np.bincount(votes.item) >= 2).any():
        others = majority(votes)
        if len(votes.annotators) < MIN_PEOPLE:
            notes.append(f"No Dawid-Skene skill: it takes {MIN_PEOPLE} people to see who is right.")
        elif len(votes.categories) < 2:
            notes.append("No Dawid-Skene skill: all answers are alike.")
        else:
            copies = find(answers, notes)
            distinct = drop_copies(votes, tuple(one.annotators for one in copies))
            by_votes = attempt(notes, "Dawid-Skene skill", lambda: dawid_skene(distinct))
    comparisons = _comparisons(answers)
    by_scores = None
    if comparisons is not None and len(answers.annotators) >= 2:
        by_scores = attempt(
            notes, "noisy Bradley-Terry skill", lambda: noisy_bradley_terry(comparisons)
        )
    return Skill(others=others, dawid_skene=by_votes, bradley_terry=by_scores, copies=copies)


def _comparisons(answers: Answers) -> Comparisons | None:
    """Models compared, or completions when there is one author and few of them."""
    if answers.comparisons is not None:
        return answers.comparisons
    pairs = answers.pairs
    used, codes = np.unique(np.concatenate([pairs.first, pairs.second]), return_inverse=True)
    if not 2 <= len(used) <= MAX_CANDIDATES:
        return None
    first, second = codes[: len(pairs.first)], codes[len(pairs.first) :]
    is_left = pairs.is_first_left
    return Comparisons(
        left=np.where(is_left, first, second),
        right=np.where(is_left, second, first),
        points=np.where(is_left, pairs.points, 1 - pairs.points),
        annotator=answers.annotator[pairs.answer],
        candidates=tuple(answers.shown.completions[code] for code in used),
        annotators=answers.annotators,
    )


def sides(answers: Answers) -> Rates | None:
    """Share of left among decided answers about two; None when there are none."""
    pairs = answers.pairs
    decided = np.flatnonzero(pairs.points != 0.5)
    if answers.form.num_completions != (2, 2) or not len(decided):
        return None
    chose_left = (pairs.points[decided] == 1) == pairs.is_first_left[decided]
    people = answers.annotator[pairs.answer[decided]]
    return side_bias([answers.annotators[code] for code in people], chose_left)


def cycles(answers: Answers) -> Rates | None:
    """Share of triples of a person's preferences that run in a circle; None without triples.

    Triples of one prompt share preferences, so they go together.
    """
    pairs, shown = answers.pairs, answers.shown
    decided = np.flatnonzero(pairs.points != 0.5)
    if answers.form.num_completions != (2, 2) or not len(decided):
        return None
    won = pairs.points[decided] == 1
    better = np.where(won, pairs.first[decided], pairs.second[decided])
    worse = np.where(won, pairs.second[decided], pairs.first[decided])
    prompt, person = shown.prompt[better], answers.annotator[pairs.answer[decided]]
    # three preferences of one person on one prompt are the least that make a triple
    visit = prompt * len(answers.annotators) + person
    visits, index, num = np.unique(visit, return_inverse=True, return_counts=True)
    rows_of = np.split(np.argsort(index, kind="stable"), np.cumsum(num)[:-1])
    points, triples = [np.empty(0)], np.zeros(len(visits), dtype=np.int64)
    for code in np.flatnonzero(num >= 3):
        rows = rows_of[code]
        found = count_cycles(*([str(one) for one in ids[rows]] for ids in (prompt, better, worse)))
        triples[code] = found.num_triples
        points.append((np.arange(found.num_triples) < found.num_cyclic).astype(float))
    is_cyclic, visit = np.concatenate(points), np.repeat(visits, triples)
    return _by_person(is_cyclic, *np.divmod(visit, len(answers.annotators)), answers.annotators)


def _by_person(points: Array, prompt: Codes, person: Codes, names: Sequence[str]) -> Rates | None:
    if not len(points):
        return None
    return Rates(
        overall=share_by_cluster(points, prompt),
        by_annotator={
            names[code]: share_by_cluster(points[person == code], prompt[person == code])
            for code in np.unique(person)
        },
    )


def shares_right(tallies: Mapping[str, Tally]) -> Rates | None:
    """Rates of known answers or repeats, by annotator; None without a trial."""
    known = {name: one for name, one in sorted(tallies.items()) if one.trials}
    if not known:
        return None
    return Rates(
        overall=wilson(
            sum(one.hits for one in known.values()), sum(one.trials for one in known.values())
        ),
        by_annotator={name: wilson(one.hits, one.trials) for name, one in known.items()},
    )


def people(
    answers: Answers,
    known: Skill,
    *,
    names: Mapping[str, str],
    gold: Rates | None = None,
    repeats: Rates | None = None,
) -> list[Row]:
    """A row for every annotator, those with most answers first."""
    left = sides(answers)
    by_side = side_bias_p_values(left) if left else {}
    circles, heights = cycles(answers), levels(answers)
    num_answers = np.bincount(answers.annotator, minlength=len(answers.annotators))
    rows = []
    for code, person in enumerate(answers.annotators):
        seconds = answers.seconds[answers.annotator == code]
        seconds = seconds[~np.isnan(seconds)]
        row: Row = {
            "person": person,
            "name": names.get(person, person),
            "num_answers": int(num_answers[code]),
            "pace": pace(seconds) if len(seconds) else None,
            "others": _of(known.others, code),
            "dawid_skene": _of(known.dawid_skene, code),
            "bradley_terry": _of(known.bradley_terry, code),
            "confusion": known.dawid_skene.confusion[code] if known.dawid_skene else None,
            "left": left.by_annotator.get(person) if left else None,
            "left_p": by_side.get(person),
            "cycles": circles.by_annotator.get(person) if circles else None,
            "level": heights.by_annotator.get(person) if heights else None,
            "gold": gold.by_annotator.get(person) if gold else None,
            "repeats": repeats.by_annotator.get(person) if repeats else None,
        }
        rows.append(row)
    rows.sort(key=lambda row: (-row["num_answers"], row["person"]))
    return _flagged(rows, known, names)


def _of(model: Consensus | NoisyBradleyTerry | None, code: int) -> Interval | None:
    """An annotator's skill with its interval; None where nothing is known of them."""
    if model is None or model.skill is None or model.skill[code].num == 0:
        return None
    return model.skill[code]


def _flagged(rows: list[Row], known: Skill, names: Mapping[str, str]) -> list[Row]:
    """The rows with what stands out about each, judged by whole intervals."""
    num_labels = len(known.dawid_skene.categories) if known.dawid_skene else 2
    floor = skill_floor([row["dawid_skene"] for row in rows], num_labels)
    medians = [row["pace"].value for row in rows if row["pace"] and row["pace"].num >= MIN_NUM]
    usual = float(np.median(medians)) if len(medians) >= MIN_PEOPLE else 0.0
    for row in rows:
        level = _level(row)
        row["flags"] = [
            *_seldom_right(row, floor, rates_apart=bool(level)),
            *_blind(row),
            *_low_shares(row),
            *_side(row),
            *_fast(row, usual),
            *level,
            *(
                f"agrees with {names.get(other, other)} more than skill explains: "
                f"{pair.num_agreed} of {pair.num_common}, expected {percent(pair.expected, 0)}"
                for pair in known.copies
                for other in _partner(pair, row["person"])
            ),
        ]
    return rows


def skill_floor(skills: Sequence[Interval | None], num_labels: int) -> float:
    """Half way between guessing and the median skill of people with enough answers."""
    values = [one.value for one in skills if one is not None and one.num >= MIN_NUM]
    guessing = 1 / num_labels
    return guessing + LOW_SKILL * (float(np.median(values)) - guessing) if values else 0.0


def _seldom_right(row: Row, floor: float, *, rates_apart: bool) -> list[str]:
    right = row["dawid_skene"]
    if right is None or not is_surely_below(right, floor, min_num=MIN_NUM):
        return []
    why = (
        "by guessing, or because their ratings lie apart"
        if rates_apart
        else "nearer to guessing than to the typical person"
    )
    share = percents(right.low, right.high, 0)
    return [f"right in {share} of answers, below {percent(floor, 0)}: {why}"]


def _blind(row: Row) -> list[str]:
    weight = row["bradley_terry"]
    if weight is None or not is_surely_below(weight, LOW_SKILL, min_num=MIN_NUM):
        return []
    return [
        f"tells better from worse {fixed(weight.low, 2)} to {fixed(weight.high, 2)} times as "
        f"well as the typical person, below {LOW_SKILL}"
    ]


def _low_shares(row: Row) -> list[str]:
    words = {"gold": "gold items right", "repeats": "repeats answered alike"}
    return [
        f"{what}: {percents(row[key].low, row[key].high, 0)}, below {percent(LOW_SHARE, 0)}"
        for key, what in words.items()
        if row[key] is not None and is_surely_below(row[key], LOW_SHARE, min_num=MIN_NUM)
    ]


def _side(row: Row) -> list[str]:
    left = row["left"]
    if left is None or left.num < MIN_NUM or row["left_p"] >= ALPHA or left.low <= 0.5 <= left.high:
        return []
    side = "left" if left.value > 0.5 else "right"
    share = left if side == "left" else Interval(
        value=1 - left.value, low=1 - left.high, high=1 - left.low, num=left.num
    )  # fmt: skip
    return [f"leans to the {side}: {percents(share.low, share.high, 0)}, where half is even"]


def _fast(row: Row, usual: float) -> list[str]:
    seconds = row["pace"]
    if seconds is None or not is_surely_below(seconds, FAST * usual, min_num=MIN_NUM):
        return []
    return [
        f"takes {seconds.low:.1f} to {seconds.high:.1f} s an item, less than a third of the usual "
        f"{usual:.1f} s"
    ]


def _level(row: Row) -> list[str]:
    level = row["level"]
    if level is None or level.num < MIN_NUM:
        return []
    if level.low <= FAR and level.high >= -FAR:
        return []
    near, far = sorted((abs(level.low), abs(level.high)))
    side = "above" if level.value > 0 else "below"
    return [
        f"rates {fixed(near, 1)} to {fixed(far, 1)} points {side} the usual on the same answers"
    ]


def _partner(pair: PairAgreement, person: str) -> list[str]:
    first, second = pair.annotators
    return {first: [second], second: [first]}.get(person, [])
