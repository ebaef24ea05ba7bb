"""Agreement with its uncertainty: what another set of items would have shown.

Items are resampled, annotators are not: an interval speaks of these annotators. Items of one task,
such as its completions by several criteria, go together: with ``clusters``, one label an item,
whole tasks are resampled. A bound is NaN
where the data show no variation to resample, such as when all agree on all items; a page then
shows the interval of ``raw_agreement``, which stays honest there.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from heedful.stats.agreement import (
    Level,
    alpha_of_counts,
    confusion_cells,
    fleiss_kappa,
    kappa_of_confusion,
)
from heedful.stats.intervals import Interval, share_by_cluster
from heedful.stats.votes import Codes

Array = NDArray[np.float64]


def raw_agreement(
    counts: ArrayLike, *, clusters: ArrayLike | None = None, confidence: float = 0.95
) -> Interval:
    """Chance that two random annotators of a random item agree, 0 to 1, with Wilson's interval.

    ``counts[i, c]`` is how many put item i into category c; items with one label do not count and
    the others count once each, as in Fleiss's observed agreement. Conservative with more than two
    labels an item, whose share of agreeing pairs varies less than the coin that Wilson assumes.
    ``num`` counts items. Raises ``ValueError`` when no item has two labels.
    """
    table, cluster = _paired(counts, clusters)
    num_labels = table.sum(axis=1)
    agreeing = (table * (table - 1)).sum(axis=1) / (num_labels * (num_labels - 1))
    return share_by_cluster(agreeing, cluster, confidence=confidence)


def cohen_kappa_interval(
    first: ArrayLike,
    second: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    rng: np.random.Generator,
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Cohen's kappa of two annotators over the same items, with its bootstrap interval.

    Leave out items that one of them skipped. Raises as ``cohen_kappa``.
    """
    cell, num = confusion_cells(first, second)
    return _bootstrap(
        lambda cells: kappa_of_confusion(cells.reshape(num, num)),
        _Kinds.of(cell, num * num, clusters),
        rng=rng,
        num_resamples=num_resamples,
        confidence=confidence,
    )


def fleiss_kappa_interval(
    counts: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    rng: np.random.Generator,
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Fleiss's kappa with its bootstrap interval; ``counts`` and errors as ``fleiss_kappa``."""
    rows, kind = _distinct_rows(np.asarray(counts, dtype=float))
    return _bootstrap(
        lambda drawn: fleiss_kappa(rows, multiplicity=drawn),
        _Kinds.of(kind, len(rows), clusters),
        rng=rng,
        num_resamples=num_resamples,
        confidence=confidence,
    )


def krippendorff_alpha_interval(
    counts: ArrayLike,
    values: ArrayLike | None = None,
    *,
    clusters: ArrayLike | None = None,
    rng: np.random.Generator,
    level: Level = "nominal",
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Krippendorff's alpha with its bootstrap interval; arguments as ``alpha_of_counts``.

    Krippendorff resamples deviations, which treats the pairs of an item as independent; we
    resample whole items, which is wider and does not. ``num`` counts items with two ratings.
    """
    table, cluster = _paired(counts, clusters)
    rows, kind = _distinct_rows(table)
    return _bootstrap(
        lambda drawn: alpha_of_counts(rows, values, level=level, multiplicity=drawn),
        _Kinds.of(kind, len(rows), cluster),
        rng=rng,
        num_resamples=num_resamples,
        confidence=confidence,
    )


def _paired(counts: ArrayLike, clusters: ArrayLike | None) -> tuple[Array, ArrayLike | None]:
    """Items with two labels, and their clusters."""
    table = np.asarray(counts, dtype=float)
    is_paired = table.sum(axis=1) >= 2
    if not is_paired.any():
        raise ValueError("0 items have two labels; give some items to two annotators")
    return table[is_paired], None if clusters is None else np.asarray(clusters)[is_paired]


def _distinct_rows(table: Array) -> tuple[Array, Codes]:
    rows, kind = np.unique(table, axis=0, return_inverse=True)
    return rows, kind.reshape(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kinds:
    """Items by their kind, for drawing clusters of them: there are few kinds of clusters.

    ``times[c]`` clusters hold ``held[c, k]`` items of kind k.
    """

    held: csr_array
    times: Array

    @classmethod
    def of(cls, kind: Codes, num_kinds: int, clusters: ArrayLike | None) -> "_Kinds":
        """Kinds of items, in clusters of one when ``clusters`` is None."""
        if clusters is None:
            times = np.bincount(kind, minlength=num_kinds).astype(float)
            return cls(held=csr_array(np.eye(num_kinds)), times=times)
        labels = np.asarray(clusters)
        if labels.shape != kind.shape:
            raise ValueError(f"{len(kind)} items with {len(labels)} clusters; give one for each")
        order = np.lexsort((kind, labels))
        starts = np.flatnonzero(labels[order][1:] != labels[order][:-1]) + 1
        alike = Counter(tuple(part.tolist()) for part in np.split(kind[order], starts))
        columns = np.concatenate([np.array(part) for part in alike])
        rows = np.repeat(np.arange(len(alike)), [len(part) for part in alike])
        return cls(
            held=csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(alike), num_kinds)),
            times=np.array(list(alike.values()), dtype=float),
        )

    def counts(self) -> Array:
        """How many items there are of each kind."""
        return np.asarray(self.held.T @ self.times)

    def drawn(self, rng: np.random.Generator, num_resamples: int) -> Iterator[Array]:
        """The same of as many clusters, drawn with replacement: a multinomial draw of kinds."""
        num = int(self.times.sum())
        at_once = max(1, 4_000_000 // len(self.times))  # bounds the memory
        for start in range(0, num_resamples, at_once):
            size = min(at_once, num_resamples - start)
            draws = rng.multinomial(num, self.times / num, size=size)
            yield from (self.held.T @ draws.T).T


def _bootstrap(
    measure: Callable[[Array], float],
    kinds: _Kinds,
    *,
    rng: np.random.Generator,
    num_resamples: int,
    confidence: float,
) -> Interval:
    """Percentile interval of ``measure``, which is told how often each kind of item was drawn.

    Resamples that leave the measure undefined do not count.
    """
    measures = np.array([measure(draw) for draw in kinds.drawn(rng, num_resamples)])
    defined = measures[~np.isnan(measures)]
    low, high = float("nan"), float("nan")
    if len(defined) and defined.min() < defined.max():
        tail = (1 - confidence) / 2
        low, high = (float(bound) for bound in np.quantile(defined, [tail, 1 - tail]))
    counts = kinds.counts()
    return Interval(value=measure(counts), low=low, high=high, num=int(counts.sum()))
