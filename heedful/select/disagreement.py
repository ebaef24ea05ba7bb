"""How much reward models leave open about a task: among themselves, or each for itself."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, xlogy

Array = NDArray[np.float64]


def margin_variance(scores: ArrayLike) -> float:
    """Variance over the members of the margin between two answers, mean over all pairs.

    ``scores`` has shape [members, answers], on a common scale; the variance is that of a sample
    (divided by members - 1). A member that adds a constant to every answer changes nothing. Raises
    ``ValueError`` below 2 members or 2 answers. Christiano et al. 2017, arXiv 1706.03741, section
    2.2.4, there for pairs.
    """
    return float(variance_of_margins(_margins(scores, least_members=2)).mean())


def bald(scores: ArrayLike) -> float:
    """What one answer would tell about the ensemble, in nats: 0 to log 2, mean over all pairs.

    ``H(mean_k p_k) - mean_k H(p_k)`` with ``p_k`` the chance that member k gives the first answer
    of a pair over the second. Unlike a small margin it is 0 where members agree on a toss: noise
    that no label removes. ``scores`` and errors as ``margin_variance``. Houlsby et al. 2011, arXiv
    1112.5745, with an ensemble for the posterior.
    """
    return float(bald_of_margins(_margins(scores, least_members=2)).mean())


def closeness(scores: ArrayLike) -> float:
    """Minus the absolute margin of the mean member between two answers, mean over pairs.

    0 is closest. ``scores`` has shape [members, answers]; one member will do. What is close may be
    a toss for everybody: see ``bald``. Raises ``ValueError`` below 1 member or 2 answers.
    """
    return float(closeness_of_margins(_margins(scores, least_members=1)).mean())


def variance_of_margins(margins_KP: Array) -> Array:
    """``margin_variance`` of each pair, from its margin by every member."""
    return np.asarray(margins_KP.var(axis=0, ddof=1))


def bald_of_margins(margins_KP: Array) -> Array:
    """``bald`` of each pair, from its margin by every member."""
    chance_KP = expit(margins_KP)
    told = _entropy(chance_KP.mean(axis=0)) - _entropy(chance_KP).mean(axis=0)
    return np.asarray(np.maximum(told, 0.0))  # rounding alone takes it below


def closeness_of_margins(margins_KP: Array) -> Array:
    """``closeness`` of each pair, from its margin by every member."""
    return np.asarray(-np.abs(margins_KP.mean(axis=0)))


def _margins(scores: ArrayLike, *, least_members: int) -> Array:
    """The first answer's score less the second's, by member and pair."""
    scores_KC = np.asarray(scores, dtype=float)
    if scores_KC.ndim != 2 or scores_KC.shape[0] < least_members or scores_KC.shape[1] < 2:
        raise ValueError(
            f"scores have shape {scores_KC.shape}; give at least {least_members} members and 2 "
            "answers"
        )
    first, second = np.triu_indices(scores_KC.shape[1], k=1)
    return np.asarray(scores_KC[:, first] - scores_KC[:, second])


def _entropy(chance: Array) -> Array:
    return np.asarray(-xlogy(chance, chance) - xlogy(1 - chance, 1 - chance))
