"""Does length, or another feature of style, do the work of a reward model?

Prompts differ in how long and how good their answers are, so correlations are taken within a
prompt. That a feature explains a reward does not make it a fault: people may want it.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.stats.intervals import Interval, bootstrap

Array = NDArray[np.float64]
# Answers a coefficient, above those that the prompts' levels take: what a curve then invents costs
# scores that do not follow the feature about a point of accuracy.
FREE_OF_COLUMN = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedAccuracy:
    """Accuracy where a feature cannot help. Made by ``matched_accuracy``, shown on reward cards.

    ``larger_wins`` is the share of all pairs whose chosen answer has more of the feature; once
    matched it is 0.5. ``num_matched`` counts the pairs that matching keeps, ``num_unmatched`` those
    in strata of one kind only. ``MatchedAccuracy(accuracy=Interval(value=0.61, low=0.55, high=0.67,
    num=300), larger_wins=0.64, num_matched=212, num_unmatched=3)``
    """

    accuracy: Interval
    larger_wins: float
    num_matched: int
    num_unmatched: int


def matched_accuracy(
    is_right: ArrayLike,
    differences: ArrayLike,
    *,
    rng: np.random.Generator,
    num_strata: int = 5,
    clusters: ArrayLike | None = None,
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> MatchedAccuracy:
    """Accuracy over pairs matched so that the sign of a feature's difference predicts nothing.

    ``is_right[n]`` is 1, 0 or 0.5 for a tie of scores, ``differences[n]`` the feature of the chosen
    minus that of the rejected answer, such as tokens. Pairs fall into ``num_strata`` of equal size
    by the absolute difference. In each, every pair whose chosen answer is longer is matched with
    one whose chosen answer is shorter, as far as they go: the result is the mean over all such
    matchings, so the stratum weighs twice the smaller of the two numbers. Pairs without a
    difference all count. "The longer wins" then scores exactly 0.5, and so does any rule that looks
    at the difference up to its stratum. Within a stratum sizes may still differ, and features that
    go with length are not matched. Where people do like length, quality shows most in the pairs
    they chose against it, so a model that ignores length may do better here than on all pairs:
    compare models on matched pairs, not one model's two figures.

    The interval resamples pairs, or ``clusters`` such as prompts, with the strata held. Raises
    ``ValueError`` for shapes that differ, values that are not finite, or no stratum of both kinds.
    """
    right, gap = np.asarray(is_right, dtype=float), np.asarray(differences, dtype=float)
    if right.shape != gap.shape or right.ndim != 1:
        raise ValueError(f"{right.size} answers with {gap.size} differences; give one per pair")
    _refuse_missing("a difference or is_right", np.stack([right, gap]))
    stratum = _strata(np.abs(gap), num_strata)
    cell = 2 * stratum + (gap > 0)
    num_cells = 2 * (num_strata + 1)

    def totals(rows: NDArray[np.int64]) -> tuple[Array, Array]:
        """Pairs and right ones by stratum and sign; pairs without a difference are both kinds."""
        num = np.bincount(cell[rows], minlength=num_cells).astype(float)
        hits = np.bincount(cell[rows], weights=right[rows], minlength=num_cells).astype(float)
        num[:2], hits[:2] = num[:2].sum() / 2, hits[:2].sum() / 2
        return np.reshape(num, (-1, 2)), np.reshape(hits, (-1, 2))

    def accuracy(rows: NDArray[np.int64]) -> float:
        num, hits = totals(rows)
        weight = num.min(axis=1)
        shares = np.divide(hits, num, out=np.zeros_like(hits), where=num > 0).mean(axis=1)
        return float(weight @ shares / weight.sum()) if weight.any() else float("nan")

    num, _ = totals(np.arange(len(gap)))
    weight = num.min(axis=1)
    if not weight.any():
        raise ValueError(
            f"of {len(gap)} pairs {int((gap > 0).sum())} have the larger answer chosen, and no "
            "stratum has pairs of both kinds; matching needs both; use fewer strata or more pairs"
        )
    return MatchedAccuracy(
        accuracy=bootstrap(
            accuracy,
            len(gap),
            rng=rng,
            num_resamples=num_resamples,
            clusters=clusters,
            confidence=confidence,
        ),
        larger_wins=float(np.mean((gap > 0) + 0.5 * (gap == 0))),
        num_matched=round(2 * weight.sum()),
        num_unmatched=round(num[weight == 0].sum()),
    )


def balancing_weights(
    differences: ArrayLike, weights: ArrayLike | None = None, *, num_strata: int = 5
) -> Array:
    """Weights of pairs under which the sign of a feature's difference predicts nothing.

    Strata are those of ``matched_accuracy``. In each, pairs whose chosen answer has more of the
    feature get half of the stratum's weight and those whose rejected answer has more the other
    half; a stratum of one kind only gets none. Pairs without a difference keep theirs. ``weights``
    [N], at least 0, are those to begin with, 1 each by default. Raises ``ValueError`` for shapes
    that differ, values that are not finite, or no stratum of both kinds.
    """
    gap = np.asarray(differences, dtype=float)
    given = np.ones_like(gap) if weights is None else np.asarray(weights, dtype=float)
    if gap.shape != given.shape or gap.ndim != 1:
        raise ValueError(f"{gap.size} differences with {given.size} weights; give one per pair")
    _refuse_missing("a difference or a weight", np.stack([gap, given]))
    stratum = _strata(np.abs(gap), num_strata)
    cell = 2 * stratum + (gap > 0)
    sums = np.bincount(cell, weights=given, minlength=2 * (num_strata + 1)).reshape(-1, 2)
    is_mixed = np.asarray((sums > 0).all(axis=1))
    if (gap != 0).any() and not is_mixed[1:].any():
        raise ValueError(
            f"of {len(gap)} pairs {int((gap > 0).sum())} have the larger answer chosen, and no "
            "stratum has pairs of both kinds; balancing needs both; use fewer strata or more pairs"
        )
    half = sums.sum(axis=1, keepdims=True) / 2
    factors = np.divide(half, sums, out=np.zeros_like(sums), where=is_mixed[:, None])
    factors[0] = 1.0
    return np.asarray(given * factors.ravel()[cell])


def within_slope(scores: ArrayLike, feature: ArrayLike, prompts: ArrayLike) -> float:
    """Least-squares slope of scores on a feature within prompts.

    ``scores - slope * feature`` has no correlation with the feature within prompts. Raises
    ``ValueError`` when the feature does not vary within a prompt.
    """
    y, x = _within(scores, prompts)[:, 0], _within(feature, prompts)[:, 0]
    if not x.any():
        raise ValueError("the feature does not vary within a prompt; give several answers to one")
    return float(x @ y / (x @ x))


def without_curve(
    scores: ArrayLike,
    feature: ArrayLike,
    prompts: ArrayLike,
    *,
    rng: np.random.Generator,
    num_knots: int = 5,
    num_folds: int = 5,
) -> Array:
    """Scores [N] less the curve by which they follow a feature, such as length, within prompts.

    One entry an answer. The curve is a natural cubic spline of the feature (``spline_basis``), by
    least squares with a level of its own for each prompt, on the other folds of prompts: nothing is
    taken off an answer by a curve that was fitted to it. No label is read, so what people like
    about a feature goes too: a reward of length alone keeps nothing. Only differences within a
    prompt mean something. A curve of few answers would put noise into the scores, so each column of
    the spline takes 40 answers above those that are as many as prompts: fewer than ``num_knots``
    knots below that, and a line at 40. Raises ``ValueError`` for fewer, for fewer prompts than
    folds, values that are not finite, or a feature that does not vary within a prompt.

    Huang et al. 2024 (arXiv:2409.17407), there by local regression over all answers; prompts that
    take long answers are then taken for longer answers.
    """
    given = np.asarray(scores, dtype=float)
    num_free = len(given) - len(np.unique(prompts))
    table = spline_basis(feature, num_knots=min(num_knots, 1 + num_free // FREE_OF_COLUMN))
    y, x = _within(given, prompts)[:, 0], _within(table, prompts)
    if not x[:, 0].any():
        raise ValueError("the feature does not vary within a prompt; give several answers to one")
    fold = _folds(prompts, num_folds, rng)
    if num_free < FREE_OF_COLUMN:
        raise ValueError(
            f"there are {num_free} answers more than prompts; a curve needs {FREE_OF_COLUMN}"
        )
    found = np.empty_like(given)
    for held in range(num_folds):
        out = fold == held
        found[out] = given[out] - table[out] @ np.linalg.lstsq(x[~out], y[~out], rcond=None)[0]
    return found


def spline_basis(feature: ArrayLike, *, num_knots: int = 5) -> Array:
    """Columns whose sums are the natural cubic splines of a feature, the constant left out.

    Shape [N, K - 1] for K knots at even quantiles from 0.05 to 0.95, of which equal ones count
    once; the feature alone below three. The first column is the feature; beyond the outer knots
    every column is straight, so that long answers are not at the mercy of a cubic. Raises
    ``ValueError`` for values that are not finite. Stone and Koo 1985; Harrell 2001, section 2.4.5.
    """
    x = np.asarray(feature, dtype=float)
    _refuse_missing("a feature", x)
    knots = np.unique(np.quantile(x, np.linspace(0.05, 0.95, num_knots)))
    columns = [x]
    if len(knots) >= 3:
        *inner, before, last = knots.tolist()
        unit = (last - knots[0]) ** 2

        def cubed(knot: float) -> Array:
            return np.asarray(np.maximum(x - knot, 0.0) ** 3)

        columns += [
            (
                cubed(knot)
                - cubed(before) * (last - knot) / (last - before)
                + cubed(last) * (before - knot) / (last - before)
            )
            / unit
            for knot in inner
        ]
    return np.stack(columns, axis=1)


def within_correlation(
    scores: ArrayLike,
    feature: ArrayLike,
    prompts: ArrayLike,
    *,
    rng: np.random.Generator,
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Pearson's correlation of scores and a feature within prompts, -1 to 1.

    One entry an answer; each is taken as its distance from its prompt's mean, so a prompt with one
    answer says nothing. NaN when either does not vary. The interval resamples prompts.
    """
    x, y = _within(scores, prompts)[:, 0], _within(feature, prompts)[:, 0]
    sums = _sums_by_prompt(np.stack([x * y, x * x, y * y], axis=1), prompts)

    def correlation(drawn: NDArray[np.int64]) -> float:
        both, one, other = sums[drawn].sum(axis=0)
        scale = np.sqrt(one * other)
        return float(both / scale) if scale > 0 else float("nan")

    found = bootstrap(
        correlation, len(sums), rng=rng, num_resamples=num_resamples, confidence=confidence
    )
    return replace(found, num=len(x))


def style_share(
    scores: ArrayLike,
    features: ArrayLike,
    prompts: ArrayLike,
    *,
    rng: np.random.Generator,
    num_folds: int = 5,
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Share of the variance of scores within prompts that a linear model of style foretells.

    ``features`` has shape [answers, features]. The model is least squares on the other folds of
    prompts, so useless features take the share to 0 or a little below instead of up: it is R^2 on
    prompts that the fit never saw. What features explain together in curves is not counted. The
    interval resamples prompts with the fits held. Raises ``ValueError`` for fewer prompts than
    folds or scores that do not vary within a prompt.
    """
    y, x = _within(scores, prompts)[:, 0], _within(features, prompts)
    fold = _folds(prompts, num_folds, rng)
    if not y.any():
        raise ValueError("scores do not vary within a prompt; give several answers to a prompt")
    error = np.empty_like(y)
    for held in range(num_folds):
        out = fold == held
        weights = np.linalg.lstsq(x[~out], y[~out], rcond=None)[0]
        error[out] = y[out] - x[out] @ weights

    sums = _sums_by_prompt(np.stack([error**2, y**2], axis=1), prompts)

    def share(drawn: NDArray[np.int64]) -> float:
        unexplained, total = sums[drawn].sum(axis=0)
        return float(1 - unexplained / total) if total > 0 else float("nan")

    found = bootstrap(share, len(sums), rng=rng, num_resamples=num_resamples, confidence=confidence)
    return replace(found, num=len(y))


def _folds(prompts: ArrayLike, num_folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The fold of each answer, the same for all answers to a prompt."""
    _, prompt = np.unique(prompts, return_inverse=True)
    num_prompts = int(prompt.max()) + 1
    if num_prompts < num_folds:
        raise ValueError(f"there are {num_prompts} prompts; {num_folds} folds need as many")
    return np.asarray(rng.permutation(num_prompts)[prompt] % num_folds)


def _strata(sizes: Array, num_strata: int) -> NDArray[np.int64]:
    """0 for no difference, then 1 to ``num_strata`` by quantiles of the others."""
    differs = sizes > 0
    stratum = np.zeros(len(sizes), dtype=np.int64)
    if differs.any():
        edges = np.quantile(sizes[differs], np.arange(1, num_strata) / num_strata)
        stratum[differs] = 1 + np.searchsorted(edges, sizes[differs], side="left")
    return stratum


def _refuse_missing(what: str, values: Array) -> None:
    """NaN compares as no difference and no variation, so it would count as an answer."""
    if not np.isfinite(values).all():
        raise ValueError(f"{what} is NaN or infinite; leave out what was not measured")


def _within(values: ArrayLike, prompts: ArrayLike) -> Array:
    """Distances from the mean of the prompt, as a table of columns."""
    table = np.asarray(values, dtype=float)
    table = table[:, None] if table.ndim == 1 else table
    _, prompt = np.unique(prompts, return_inverse=True)
    if len(prompt) != len(table):
        raise ValueError(f"{len(table)} answers with {len(prompt)} prompts; give one per answer")
    _refuse_missing("a score or a feature", table)
    centred = table - (_sums_by_prompt(table, prompt) / np.bincount(prompt)[:, None])[prompt]
    # Rounding must not pass for variation where all answers of all prompts are alike.
    noise = 1e-12 * np.abs(table).max(axis=0, initial=0.0)
    return np.where(np.abs(centred) > noise, centred, 0.0)


def _sums_by_prompt(table: Array, prompts: ArrayLike) -> Array:
    """Sums of the rows of each prompt: all that a resample of prompts needs."""
    _, prompt = np.unique(prompts, return_inverse=True)
    sums = np.zeros((int(prompt.max()) + 1, table.shape[1]))
    np.add.at(sums, prompt, table)
    return sums
