"""Further checks of a reward: other wordings, other writers, annotators who lean; with warnings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from heedful.monitor.charts import number, percent
from heedful.stats.intervals import Interval
from heedful.types import Finding

REWORDED_ALIKE = 0.9
CHEBYSHEV = 0.25  # the most that can lie two deviations from the mean, of any distribution
FEW_ANSWERS = 20
Rule = Literal["side", "length", "alone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewording:
    """One other wording of both sides of some pairs. Made by ``jobs.reward_card``.

    ``kept`` is the share of pairs whose order stays, ``change`` the mean absolute change of the
    score of an answer that it changes, ``typical`` the mean absolute difference of two sides.
    """

    name: str
    kept: Interval
    change: Interval | None
    typical: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """The scores of the answers that one model wrote: mean, and quantiles 0.05, 0.5 and 0.95.

    ``beyond`` is the share that lies more than two deviations from the mean of the answers of the
    fit, None where that is not known; ``is_learned``: did the fit see answers of this model?
    """

    name: str
    num: int
    mean: float
    low: float
    middle: float
    high: float
    beyond: Interval | None
    is_learned: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lean:
    """An annotator whose share lies wholly apart from that of the others, or from one half.

    ``side``: of answers shown first; ``length``: of longer answers; ``alone``: of agreement with
    the majority of the others.
    """

    annotator: str
    rule: Rule
    own: Interval
    usual: Interval | None


def spread(interval: Interval) -> str:
    """``71.2 % (66.0 to 75.9)``, without the bounds where there are none."""
    if interval.low != interval.low:  # NaN
        return percent(interval.value)
    return f"{percent(interval.value)} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def correlation_in_words(one: Interval) -> str:
    """``0.31 (0.22 to 0.4)``, without bounds where there are none."""
    if one.value != one.value:  # NaN
        return "no variation"
    if one.low != one.low:
        return number(one.value)
    return f"{number(one.value)} ({number(one.low)} to {number(one.high)})"


def wording_findings(found: Sequence[Rewording]) -> Iterator[Finding]:
    """Wordings that surely change too many orders."""
    moved = [one for one in found if one.kept.high < REWORDED_ALIKE]
    if moved:
        told = "; ".join(f"{one.name}: {spread(one.kept)}" for one in moved)
        yield Finding(
            rule="rewording",
            level="warning",
            value=min(one.kept.value for one in moved),
            cause=f"A change of form alone turns orders around. Kept are under {told}.",
            remedy="A policy can win by form: fit with answers of varied form, or write answers "
            "in one form before they are scored.",
        )


def writer_findings(found: Sequence[Writer]) -> Iterator[Finding]:
    """Writers whose answers get scores that those of the fit cannot have had so often."""
    for one in found:
        beyond = one.beyond
        if beyond is None or one.num < FEW_ANSWERS or beyond.low <= CHEBYSHEV:
            continue
        yield Finding(
            rule="off_policy",
            level="warning",
            value=beyond.value,
            cause=f"{spread(beyond)} of the answers by {one.name} score more than two deviations "
            "from the mean of the answers that the model was fitted to; of those at most a quarter "
            "can.",
            remedy=f"Do not trust it on {one.name}: collect preferences about its answers first.",
        )


def lean_findings(found: Sequence[Lean]) -> Iterator[Finding]:
    """Annotators who lean, each in a sentence."""
    for one in found:
        usual = f", the others {spread(one.usual)}" if one.usual else "; even would be 50 %"
        said = {
            "side": "chooses the answer shown first in",
            "length": "chooses the longer answer in",
            "alone": "agrees with the majority of the others in",
        }[one.rule]
        yield Finding(
            rule="biased_annotator",
            level="warning",
            value=one.own.value,
            cause=f"{one.annotator} {said} {spread(one.own)} of {one.own.num:,} pairs{usual}.",
            remedy="Look at their answers; leave them out, or weigh them down, if that is no "
            "judgement.",
        )
