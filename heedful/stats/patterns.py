"""What preferred answers have more of than the ones they were preferred to."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.stats import t as student

from heedful.stats.intervals import Interval
from heedful.stats.logistic import fit_logistic
from heedful.stats.multiple import holm
from heedful.stats.votes import Codes

Array = NDArray[np.float64]
NAN = float("nan")
# pairs that differ in a feature: of fewer, resampling sees too little to say how far off it may be
MIN_APART = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """How one feature goes with being preferred. Made by ``feature_effects``, shown on pages.

    ``more`` is the share of pairs, of those that differ, in which the preferred answer has more;
    ``effect`` the mean difference over its standard deviation; ``p_value`` of no difference,
    ``adjusted`` by Holm over all features. Undefined numbers are NaN, and so are the bounds of a
    feature in which fewer than ``MIN_APART`` pairs differ. ``Effect(more=Interval(
    value=0.7, low=0.6, high=0.8, num=100), effect=Interval(...), p_value=0.001, adjusted=0.01)``
    """

    more: Interval
    effect: Interval
    p_value: float
    adjusted: float


def feature_effects(
    differences: ArrayLike,
    clusters: Codes,
    *,
    rng: np.random.Generator,
    num_resamples: int = 2000,
    num_flips: int = 9999,
    confidence: float = 0.95,
) -> tuple[Effect, ...]:
    """Effects of features from ``differences[n, f]``, preferred minus rejected.

    Pairs of one cluster, such as a prompt, go together: intervals resample clusters (percentile
    bootstrap), and the p-value is that of flipping which answer was preferred, cluster by cluster,
    which is exact when features do not matter. Raises ``ValueError`` for fewer than 2 clusters or
    differences that are not finite.
    """
    table = np.asarray(differences, dtype=float)
    if table.ndim != 2 or len(table) != len(clusters) or not np.isfinite(table).all():
        raise ValueError(f"differences have shape {table.shape}; give {len(clusters)} finite rows")
    _, cluster = np.unique(clusters, return_inverse=True)
    num_clusters = int(cluster.max()) + 1
    if num_clusters < 2:
        raise ValueError("there is 1 cluster; an interval needs at least 2; judge more prompts")
    rows = np.arange(len(table))
    member = csr_array((np.ones(len(rows)), (cluster, rows)), shape=(num_clusters, len(rows)))
    sizes = member @ np.ones(len(rows))
    parts = {
        "sum": member @ table,
        "square": member @ table**2,
        "above": member @ (table > 0).astype(float),
        "apart": member @ (table != 0).astype(float),
    }
    draws = rng.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), num_resamples)
    seen = _measures({name: part.sum(axis=0) for name, part in parts.items()}, sizes.sum())
    drawn = _measures(
        {name: draws @ part for name, part in parts.items()}, (draws @ sizes)[:, None]
    )
    p_values = _flip_p_values(parts["sum"], rng, num_flips)
    adjusted = holm(p_values)
    num_apart = parts["apart"].sum(axis=0)
    for name in drawn:
        drawn[name][:, num_apart < MIN_APART] = NAN
    return tuple(
        Effect(
            more=_interval(seen["more"][f], drawn["more"][:, f], int(num_apart[f]), confidence),
            effect=_interval(seen["effect"][f], drawn["effect"][:, f], len(table), confidence),
            p_value=float(p_values[f]),
            adjusted=float(adjusted[f]),
        )
        for f in range(table.shape[1])
    )


def _measures(sums: dict[str, Array], num: Array | float) -> dict[str, Array]:
    mean = sums["sum"] / num
    deviation = np.sqrt(np.maximum(sums["square"] / num - mean**2, 0))
    return {"more": _over(sums["above"], sums["apart"]), "effect": _over(mean, deviation)}


def _over(top: Array, bottom: Array) -> Array:
    out = np.full(np.broadcast(top, bottom).shape, NAN)
    # a deviation that is rounding error of a constant is none
    return np.asarray(np.divide(top, bottom, out=out, where=bottom > 1e-12))


def _interval(value: float, draws: Array, num: int, confidence: float) -> Interval:
    defined = draws[~np.isnan(draws)]
    low, high = NAN, NAN
    if len(defined) and defined.min() < defined.max():
        tail = (1 - confidence) / 2
        low, high = (float(bound) for bound in np.quantile(defined, [tail, 1 - tail]))
    return Interval(value=float(value), low=low, high=high, num=num)


def _flip_p_values(sums: Array, rng: np.random.Generator, num_flips: int) -> Array:
    """Share of random sign patterns whose sums are as far from 0; NaN for a feature without any."""
    observed = np.abs(sums.sum(axis=0))
    as_far = np.zeros(sums.shape[1])
    at_once = max(1, 4_000_000 // len(sums))  # bounds the memory
    for start in range(0, num_flips, at_once):
        size = (min(at_once, num_flips - start), len(sums))
        signs = rng.integers(0, 2, size=size, dtype=np.int8) * 2.0 - 1.0
        as_far += (np.abs(signs @ sums) >= observed * (1 - 1e-9)).sum(axis=0)
    p_values = (as_far + 1) / (num_flips + 1)
    return np.where((sums != 0).any(axis=0), p_values, NAN)


def effects_at_equal(
    differences: ArrayLike, control: ArrayLike, clusters: Codes, *, confidence: float = 0.95
) -> tuple[tuple[Interval, float], ...]:
    """Log-odds of being preferred per standard deviation of each feature, ``control`` held equal.

    One logistic regression a feature, with the control's difference (such as length) beside it
    and a covariance that lets pairs of a cluster go together; with each interval its p-value by
    Holm, both Student's with one degree of freedom less than clusters. NaN where a fit has no
    finite maximum, and for the control itself; bounds and p-values are NaN with one cluster, or
    fewer than ``MIN_APART`` pairs that differ in the feature.
    """
    table, held = np.asarray(differences, dtype=float), np.asarray(control, dtype=float)
    own = np.array([[1.0, 0.0]])  # the feature beside its control
    found = []
    for column in table.T:
        interval, p_value = Interval(value=NAN, low=NAN, high=NAN, num=len(table)), NAN
        design = np.stack([column, held], axis=1)
        scale = np.sqrt((design**2).mean(axis=0))
        if (scale > 0).all():
            try:
                fit = fit_logistic(
                    csr_array(design / scale),
                    np.ones(len(table)),
                    weights=np.ones(len(table)),
                    cluster=clusters,
                )
                value, reach = float(fit.coefficients[0]), float(fit.reach(own, confidence)[0])
                is_rare = (column != 0).sum() < MIN_APART
                reach = NAN if is_rare else reach
                interval = Interval(
                    value=value, low=value - reach, high=value + reach, num=len(table)
                )
                distance = abs(value) / fit.errors(own)[0]
                if not is_rare:
                    p_value = float(2 * student.sf(distance, fit.num_clusters - 1))
            except ValueError:
                pass  # separable: said by NaN
        found.append((interval, p_value))
    adjusted = holm([p for _, p in found])
    return tuple((one, float(p)) for (one, _), p in zip(found, adjusted, strict=True))
