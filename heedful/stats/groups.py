"""Do groups of annotators prefer different things?

Answers of one person go together, so the annotator is the unit: a group of three people who
answered a thousand times is still three people.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from heedful.stats.intervals import Interval, student_quantile
from heedful.stats.multiple import holm
from heedful.stats.votes import encode

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDifference:
    """Two groups and how their shares differ. Made by ``compare_groups``, shown on quality pages.

    ``difference`` is the first's share minus the second's, -1 to 1, ``num`` the annotators of
    both; ``adjusted`` is the p-value by Holm over all pairs. Bounds and p-values are NaN when a
    group has one annotator. ``GroupDifference(groups=("expert", "lay"),
    difference=Interval(value=0.1, low=0.02, high=0.18, num=40), p_value=0.02, adjusted=0.06)``
    """

    groups: tuple[str, str]
    difference: Interval
    p_value: float
    adjusted: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupComparison:
    """Shares by group and the difference of each pair. Made by ``compare_groups``.

    ``num`` of a share counts annotators. ``GroupComparison(shares={"lay": Interval(...)},
    differences=(GroupDifference(...),))``
    """

    shares: dict[str, Interval]
    differences: tuple[GroupDifference, ...]


def compare_groups(
    groups: Sequence[str],
    annotators: Sequence[str],
    points: ArrayLike,
    *,
    confidence: float = 0.95,
) -> GroupComparison:
    """Share of ``points`` (1 preferred, 0 not, 0.5 a tie) by the annotator's group.

    One entry an answer; each annotator belongs to one group. Student's intervals on the spread
    between annotators, weighted by their answers (a ratio estimate), with the degrees of freedom
    of Welch for a difference; never narrower than independent answers would allow, so that a few
    annotators who happen to be alike do not look certain. Answers on the same prompts make a
    difference look less sure than it is. Raises ``ValueError`` for lists of different lengths, no
    answers, points outside [0, 1] or an annotator in two groups.
    """
    values = np.asarray(points, dtype=float)
    if not len(groups) == len(annotators) == values.size or values.size == 0:
        raise ValueError(
            f"{len(groups)} groups, {len(annotators)} annotators and {values.size} points; give "
            "one of each per answer and at least 1 answer"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("points are outside 0 to 1; leave missing answers out")
    _refuse_two_groups(groups, annotators)
    (names, group), (_, person) = encode(groups), encode(annotators)
    shares = [_GroupShare.of(values[group == g], person[group == g]) for g in range(len(names))]
    pairs = list(combinations(range(len(names)), 2))
    differences = [_difference(shares[a], shares[b], confidence) for a, b in pairs]
    adjusted = holm([p for _, p in differences])
    return GroupComparison(
        shares={
            name: share.interval(confidence) for name, share in zip(names, shares, strict=True)
        },
        differences=tuple(
            GroupDifference(
                groups=(names[a], names[b]), difference=interval, p_value=p, adjusted=float(q)
            )
            for (a, b), (interval, p), q in zip(pairs, differences, adjusted, strict=True)
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _GroupShare:
    value: float
    variance: float
    num_people: int

    @classmethod
    def of(cls, values: Array, person: NDArray[np.int64]) -> "_GroupShare":
        _, member = np.unique(person, return_inverse=True)
        sums, sizes = np.bincount(member, weights=values), np.bincount(member)
        num, num_people = len(values), len(sums)
        share = float(values.mean())
        if num_people < 2:
            return cls(value=share, variance=float("nan"), num_people=num_people)
        between = num_people / (num_people - 1) * float(((sums - share * sizes) ** 2).sum())
        # Agresti and Caffo's added answers keep the floor above 0 when all are alike.
        padded = (values.sum() + 1) / (num + 2)
        floor = padded * (1 - padded) / (num + 2)
        return cls(value=share, variance=max(between / num**2, floor), num_people=num_people)

    def interval(self, confidence: float) -> Interval:
        reach = student_quantile(confidence, self.num_people - 1) * self.variance**0.5
        return Interval(
            value=self.value,
            low=_within(self.value - reach, 0.0, 1.0),
            high=_within(self.value + reach, 0.0, 1.0),
            num=self.num_people,
        )


def _difference(
    first: _GroupShare, second: _GroupShare, confidence: float
) -> tuple[Interval, float]:
    value, variance = first.value - second.value, first.variance + second.variance
    num = first.num_people + second.num_people
    if np.isnan(variance):
        nan = float("nan")
        return Interval(value=value, low=nan, high=nan, num=num), nan
    freedom = variance**2 / (
        first.variance**2 / (first.num_people - 1) + second.variance**2 / (second.num_people - 1)
    )
    reach = student_quantile(confidence, freedom) * variance**0.5
    p_value = float(2 * student.sf(abs(value) / variance**0.5, freedom))
    low, high = (_within(value + sign * reach, -1.0, 1.0) for sign in (-1, 1))
    return Interval(value=value, low=low, high=high, num=num), p_value


def _within(bound: float, low: float, high: float) -> float:
    return bound if np.isnan(bound) else float(min(max(bound, low), high))


def _refuse_two_groups(groups: Sequence[str], annotators: Sequence[str]) -> None:
    group_of: dict[str, str] = {}
    for group, annotator in zip(groups, annotators, strict=True):
        if group_of.setdefault(annotator, group) != group:
            raise ValueError(
                f"annotator {annotator!r} is in groups {group_of[annotator]!r} and {group!r}; "
                "compare one attribute at a time"
            )
