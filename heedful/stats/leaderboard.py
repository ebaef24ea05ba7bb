"""Models ranked by what people prefer, with the uncertainty of every rating.

Ratings are Bradley-Terry strengths on the scale of chess: 400 points are odds of 10 to 1 and the
ranked models average 1000. A tie is half a win for each side. Davidson's model gives ties a
parameter of their own, but then a rating gap no longer says what share of points to expect, votes
of annotators who avoid ties weigh more, and style terms lose their meaning; half wins estimate the
expected points whatever makes people tie, and the sandwich covariance does not believe the model.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csr_array, hstack
from scipy.sparse.csgraph import connected_components

from heedful.stats.comparisons import Comparisons
from heedful.stats.intervals import Interval
from heedful.stats.logistic import fit_logistic
from heedful.stats.votes import Codes, encode

Array = NDArray[np.float64]
POINTS_PER_LOGIT = 400 / math.log(10)
MEAN_RATING = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One line of a leaderboard. Made by ``leaderboard``, shown by pages.

    ``rating.num`` counts the model's comparisons; the rating is NaN for a model outside the largest
    group linked by wins, and its bounds are NaN when all comparisons are of one cluster. ``rank``
    is 1 + the number of models whose interval lies wholly above, None without one.
    ``Standing(candidate="tuned", rank=1, rating=Interval(value=1040.0, low=1010.0, high=1070.0,
    num=300))``
    """

    candidate: str
    rank: int | None
    rating: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """Standings, best first, and what style is worth. Made by ``leaderboard``, shown by pages.

    ``style[s]``: points that one typical difference in feature s is worth, at equal models.
    ``num_used`` comparisons among ranked models. ``Leaderboard(standings=(...,), style=(),
    num_used=900)``
    """

    standings: tuple[Standing, ...]
    style: tuple[Interval, ...]
    num_used: int


def leaderboard(
    comparisons: Comparisons,
    *,
    vote_cap: int | None = None,
    style: ArrayLike | None = None,
    clusters: list[str] | None = None,
    confidence: float = 0.95,
) -> Leaderboard:
    """Ratings with sandwich intervals (Student's), style held equal when ``style`` is given.

    An annotator with more than ``vote_cap`` comparisons has them weighed down to that number, so
    nobody makes a ranking alone. ``style[n, s]`` is the left answer's feature s minus the right
    one's, such as length; each column is divided by its root mean square, and a column of ones
    asks for the side. ``clusters`` names what makes comparisons alike, one entry each: the prompt,
    or the annotator when there are 20 or more. Models that never beat, or never lost to, the
    largest group linked by wins have no finite rating and are listed last, their comparisons
    unused. Raises ``ValueError`` for a cap below 1, lists of different lengths, fewer than two
    linked models or style that the models determine. Ratings: Hunter 2004; covariance: Huber 1967
    as in the Chatbot Arena (arXiv:2403.04132, section 4).
    """
    num_rows = len(comparisons.points)
    style_rows = np.empty((num_rows, 0)) if style is None else np.asarray(style, dtype=float)
    if style_rows.ndim != 2 or len(style_rows) != num_rows or not np.isfinite(style_rows).all():
        raise ValueError(
            f"style has shape {style_rows.shape}; give {num_rows} rows of finite differences"
        )
    if clusters is not None and len(clusters) != num_rows:
        raise ValueError(f"{num_rows} comparisons with {len(clusters)} clusters; give one for each")
    weights = _capped_weights(comparisons, vote_cap)
    ranked, is_used = _linked(comparisons)
    place = np.full(len(comparisons.candidates), -1)
    place[ranked] = np.arange(len(ranked))
    used_style = style_rows[is_used]
    scale = np.sqrt((used_style**2).mean(axis=0))
    scale[scale == 0] = 1.0
    cluster = np.arange(num_rows) if clusters is None else encode(clusters)[1]
    design = _design(
        place[comparisons.left[is_used]],
        place[comparisons.right[is_used]],
        used_style / scale,
        len(ranked),
    )
    fit = fit_logistic(
        design, comparisons.points[is_used], weights=weights[is_used], cluster=cluster[is_used]
    )
    lift = _lift(len(ranked), used_style.shape[1])
    value, reach = lift @ fit.coefficients, fit.reach(lift, confidence)
    shown = np.bincount(
        np.concatenate([comparisons.left, comparisons.right]),
        minlength=len(comparisons.candidates),
    )
    nan = float("nan")
    ratings = [Interval(value=nan, low=nan, high=nan, num=int(num)) for num in shown]
    for i, candidate in enumerate(ranked):
        ratings[candidate] = _points(value[i], reach[i], int(shown[candidate]), MEAN_RATING)
    num_used = int(is_used.sum())
    return Leaderboard(
        standings=_standings(comparisons.candidates, ratings),
        style=tuple(
            _points(v, r, num_used, 0.0)
            for v, r in zip(value[len(ranked) :], reach[len(ranked) :], strict=True)
        ),
        num_used=num_used,
    )


def _capped_weights(comparisons: Comparisons, vote_cap: int | None) -> Array:
    if vote_cap is None:
        return np.ones(len(comparisons.points))
    if vote_cap < 1:
        raise ValueError(f"vote_cap is {vote_cap}; it must be at least 1, or None for no cap")
    num_votes = np.bincount(comparisons.annotator)[comparisons.annotator]
    return np.asarray(np.minimum(1.0, vote_cap / num_votes))


def _linked(comparisons: Comparisons) -> tuple[Codes, NDArray[np.bool_]]:
    """The largest group linked by wins in both directions, and the comparisons within it."""
    left, right, points = comparisons.left, comparisons.right, comparisons.points
    num = len(comparisons.candidates)
    winner = np.concatenate([left[points > 0], right[points < 1]])
    loser = np.concatenate([right[points > 0], left[points < 1]])
    wins = coo_array((np.ones(len(winner)), (winner, loser)), shape=(num, num))
    _, group = connected_components(wins.tocsr(), directed=True, connection="strong")
    is_within = group[left] == group[right]
    sizes = np.bincount(group)
    # Of groups of the same size, the one with the most comparisons.
    busiest = np.lexsort((np.bincount(group[left], is_within, len(sizes)), sizes))[-1]
    if sizes[busiest] < 2:
        raise ValueError(
            "no two models have each beaten the other, or tied; ratings are infinite; collect more "
            "comparisons"
        )
    return np.flatnonzero(group == busiest), is_within & (group[left] == busiest)


def _design(left: Codes, right: Codes, style: Array, num_ranked: int) -> csr_array:
    """One row a comparison: ratings relative to the last model's, then style."""
    rows = np.arange(len(left))
    signs = np.repeat([1.0, -1.0], len(rows))
    sides = csr_array(
        (signs, (np.tile(rows, 2), np.concatenate([left, right]))), shape=(len(rows), num_ranked)
    )
    return hstack([sides[:, : num_ranked - 1], csr_array(style)], format="csr")


def _lift(num_ranked: int, num_style: int) -> Array:
    """The matrix from free numbers, ratings relative to the last model, to centred ratings."""
    lift = np.eye(num_ranked + num_style)
    lift[:num_ranked, :num_ranked] -= 1 / num_ranked
    return np.delete(lift, num_ranked - 1, axis=1)


def _points(value: float, reach: float, num: int, centre: float) -> Interval:
    value, reach = centre + value * POINTS_PER_LOGIT, reach * POINTS_PER_LOGIT
    return Interval(
        value=float(value), low=float(value - reach), high=float(value + reach), num=num
    )


def _standings(candidates: tuple[str, ...], ratings: list[Interval]) -> tuple[Standing, ...]:
    def rank(own: Interval) -> int | None:
        if math.isnan(own.low):
            return None
        return 1 + sum(other.low > own.high for other in ratings)

    lines = [
        Standing(candidate=candidate, rank=rank(rating), rating=rating)
        for candidate, rating in zip(candidates, ratings, strict=True)
    ]
    return tuple(sorted(lines, key=lambda line: -np.nan_to_num(line.rating.value, nan=-np.inf)))
