"""Answers to "which of these two", as arrays of codes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.stats.votes import Codes, encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparisons:
    """Who preferred what to what. Made by ``encode_comparisons``, used by rankings.

    Row n: annotator ``annotators[annotator[n]]`` saw ``candidates[left[n]]`` on the left of
    ``candidates[right[n]]`` and gave the left one ``points[n]``: 1 better, 0 worse, 0.5 a tie.
    Names are sorted, and some may have no row. ``Comparisons(left=array([0]), right=array([1]),
    points=array([1.0]), annotator=array([0]), candidates=("base", "tuned"),
    annotators=("ann",))``
    """

    left: Codes
    right: Codes
    points: NDArray[np.float64]
    annotator: Codes
    candidates: tuple[str, ...]
    annotators: tuple[str, ...]


def encode_comparisons(
    left: Sequence[str], right: Sequence[str], points: ArrayLike, annotators: Sequence[str]
) -> Comparisons:
    """Comparisons from four lists of equal length; candidates are models, or single completions.

    "Both bad" is no tie: it says that both are poor, not that they are alike. Leave it out, or
    give 0.5 and say so. Raises ``ValueError`` for no rows, lists of different lengths, points
    outside [0, 1] or a candidate compared with itself.
    """
    gained = np.asarray(points, dtype=float)
    if not len(left) == len(right) == len(annotators) == gained.size or gained.size == 0:
        raise ValueError(
            f"{len(left)} left, {len(right)} right, {gained.size} points and {len(annotators)} "
            "annotators; give one of each per comparison and at least 1 comparison"
        )
    if not ((gained >= 0) & (gained <= 1)).all():
        raise ValueError("points are outside 0 to 1; give 1 for left better, 0.5 a tie, 0 right")
    candidates, codes = encode([*left, *right])
    lefts, rights = codes[: len(left)], codes[len(left) :]
    if (lefts == rights).any():
        same = candidates[lefts[np.flatnonzero(lefts == rights)[0]]]
        raise ValueError(f"{same!r} is compared with itself; leave such comparisons out")
    people, annotator = encode(annotators)
    return Comparisons(
        left=lefts,
        right=rights,
        points=gained,
        annotator=annotator,
        candidates=candidates,
        annotators=people,
    )
