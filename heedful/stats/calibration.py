"""Do the probabilities of a reward model mean what they say?

A probability is that of the chosen response winning and the outcome is 1 when it did. Data with
the chosen response always first have all outcomes 1, so calibration is measured after folding:
the confidence of the predicted winner against how often that prediction is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, xlog1py, xlogy

from heedful.stats.intervals import Interval, share_by_cluster
from heedful.stats.votes import encode


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBins:
    """Mean confidence, accuracy and size of each bin. Made here, drawn in reports.

    ``ReliabilityBins(confidence=array([0.7]), accuracy=array([0.65]), num=array([40]))``
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    num: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How good the probabilities of some pairs are. Made by ``calibration_by_slice``.

    ``accuracy.num`` counts the pairs; ``ece_floor`` is what perfect calibration would show with so
    few. ``Calibration(accuracy=Interval(...), ece=0.05, ece_floor=0.04, brier=0.21, nll=0.62)``
    """

    accuracy: Interval
    ece: float
    ece_floor: float
    brier: float
    nll: float


def calibration_by_slice(
    probabilities: ArrayLike,
    outcomes: ArrayLike,
    slices: Sequence[str],
    *,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> dict[str, Calibration]:
    """Accuracy with Wilson's interval, ECE, Brier and NLL of each slice, names sorted.

    ``slices`` names one slice a pair, such as its topic; look at several kinds of slices in turn.
    The pairs of one of the ``clusters``, such as a prompt, go together (``share_by_cluster``).
    Raises ``ValueError`` as ``ece`` does, and for lists of different lengths.
    """
    predicted, observed = _checked(probabilities, outcomes)
    if len(slices) != len(predicted):
        raise ValueError(f"{len(predicted)} pairs with {len(slices)} slices; give one per pair")
    names, code = encode(slices)
    labels = np.arange(len(predicted)) if clusters is None else np.asarray(clusters)
    found = {}
    for number, name in enumerate(names):
        rows = code == number
        p, y = predicted[rows], observed[rows]
        found[name] = Calibration(
            accuracy=share_by_cluster(_fold(p, y)[1], labels[rows], confidence=confidence),
            ece=ece(p, y),
            ece_floor=ece_floor(p, rng=rng),
            brier=brier(p, y),
            nll=nll(p, y),
        )
    return found


def confident_mistakes(
    probabilities: ArrayLike, outcomes: ArrayLike, *, most: int = 20
) -> NDArray[np.int64]:
    """Numbers of the wrongly predicted pairs, the surest first, at most ``most`` of them.

    A probability of exactly 0.5 is no prediction and no mistake. Equal ones keep their order.
    """
    confidence, is_right = _fold(*_checked(probabilities, outcomes))
    wrong = np.flatnonzero(is_right < 0.5)
    return wrong[np.argsort(-confidence[wrong], kind="stable")][:most]


def reliability_bins(
    probabilities: ArrayLike, outcomes: ArrayLike, *, num_bins: int = 10
) -> ReliabilityBins:
    """Equal-mass bins over the confidence, from 0.5 to 1; one pair a bin when pairs are few.

    A probability of exactly 0.5 predicts nothing and counts as half right. Pairs of equal
    confidence that a bin ends between are right as often in both, so their order says nothing.
    Raises ``ValueError`` when there are no pairs or a probability is outside [0, 1].
    """
    confidence, is_right = _fold(*_checked(probabilities, outcomes))
    _, level, num = np.unique(confidence, return_inverse=True, return_counts=True)
    is_right = (np.bincount(level, weights=is_right) / num)[level]
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(num_bins, len(order)))
    return ReliabilityBins(
        confidence=np.array([confidence[members].mean() for members in bins]),
        accuracy=np.array([is_right[members].mean() for members in bins]),
        num=np.array([len(members) for members in bins]),
    )


def ece(probabilities: ArrayLike, outcomes: ArrayLike, *, num_bins: int = 10) -> float:
    """Expected calibration error: mean of |accuracy - confidence| over pairs, 0 to 1.

    Biased upward in small samples; read it beside ``ece_floor``. Guo et al. 2017
    (arXiv:1706.04599), equation 3, with equal-mass bins.
    """
    bins = reliability_bins(probabilities, outcomes, num_bins=num_bins)
    return float(np.average(np.abs(bins.accuracy - bins.confidence), weights=bins.num))


def ece_floor(
    probabilities: ArrayLike,
    *,
    rng: np.random.Generator,
    num_bins: int = 10,
    num_resamples: int = 200,
) -> float:
    """The mean ECE that a perfectly calibrated model with these probabilities would show."""
    truth = np.asarray(probabilities, dtype=float)
    draws = rng.random((num_resamples, len(truth))) < truth
    return float(np.mean([ece(truth, drawn, num_bins=num_bins) for drawn in draws]))


def brier(probabilities: ArrayLike, outcomes: ArrayLike) -> float:
    """Mean squared error of the probabilities, 0 to 1; 0.25 for always saying one half."""
    predicted, observed = _checked(probabilities, outcomes)
    return float(np.mean((predicted - observed) ** 2))


def nll(probabilities: ArrayLike, outcomes: ArrayLike) -> float:
    """Mean negative log-likelihood in nats; infinite when a sure prediction fails."""
    predicted, observed = _checked(probabilities, outcomes)
    return float(-np.mean(xlogy(observed, predicted) + xlog1py(1 - observed, -predicted)))


def fit_temperature(deltas: ArrayLike) -> float:
    """The T > 0 that minimises the NLL of ``sigmoid(deltas / T)``, chosen minus rejected scores.

    Fit it on validation pairs, report on test pairs; accuracy cannot change. Raises
    ``ValueError`` when no finite T is best: the mean delta is not positive, or all deltas are
    at least 0. Guo et al. 2017 (arXiv:1706.04599), section 4.2.
    """
    margins = np.asarray(deltas, dtype=float)
    if not margins.mean() > 0:
        raise ValueError(
            f"the mean score difference is {margins.mean():.4g}; it must be above 0 for a "
            "temperature to exist; the model ranks pairs no better than chance"
        )
    if margins.min() >= 0:
        raise ValueError(
            "all pairs are ranked correctly; the best temperature is then 0; use more or harder "
            "validation pairs"
        )

    def slope(inverse_temperature: float) -> float:
        return float(-np.mean(margins * expit(-inverse_temperature * margins)))

    # The NLL is convex in 1/T, so its slope has one zero; widen until it is bracketed.
    high = 1.0 / np.abs(margins).max()
    while slope(high) < 0:
        high *= 2
    return float(1.0 / brentq(slope, 0.0, high, xtol=1e-12))


def scale_by_halves(
    deltas: ArrayLike, is_first: ArrayLike
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Each half of the score differences divided by the temperature that fits the other half.

    So all of them are scaled, and none by what was fitted to it. Also returns the temperatures of
    the first half and of the others. Raises ``ValueError`` as ``fit_temperature``, for either.
    """
    margins, first = np.asarray(deltas, dtype=float), np.asarray(is_first, dtype=bool)
    halves = fit_temperature(margins[first]), fit_temperature(margins[~first])
    return margins / np.where(first, *reversed(halves)), halves


def ece_by_halves(deltas: ArrayLike, is_first: ArrayLike) -> tuple[float, float]:
    """ECE of score differences that ``scale_by_halves`` scaled, and the floor of its sample.

    ``deltas`` are of chosen over rejected, so every outcome is a win. Raises as
    ``scale_by_halves``.
    """
    p_chosen = expit(scale_by_halves(deltas, is_first)[0])
    floor = ece_floor(p_chosen, rng=np.random.default_rng(0))
    return ece(p_chosen, np.ones_like(p_chosen)), floor


def _checked(
    probabilities: ArrayLike, outcomes: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    predicted, observed = np.asarray(probabilities, float), np.asarray(outcomes, float)
    if predicted.size == 0 or predicted.shape != observed.shape:
        raise ValueError(
            f"{predicted.size} probabilities with {observed.size} outcomes; give one outcome per "
            "probability and at least 1 pair"
        )
    if not ((predicted >= 0) & (predicted <= 1)).all():
        raise ValueError("a probability is NaN or outside [0, 1]; pass sigmoid(score difference)")
    return predicted, observed


def _fold(
    probabilities: NDArray[np.float64], outcomes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    confidence = np.maximum(probabilities, 1 - probabilities)
    is_right = np.where(probabilities > 0.5, outcomes, 1 - outcomes)
    return confidence, np.where(probabilities == 0.5, 0.5, is_right)
