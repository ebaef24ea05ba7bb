"""How much an ensemble of reward models disagrees about a task."""

import numpy as np
from numpy.typing import ArrayLike


def margin_variance(scores: ArrayLike) -> float:
    """Variance over the members of the margin between two answers, mean over all pairs.

    ``scores`` has shape [members, answers], on a common scale; the variance is that of a sample
    (divided by members - 1). A member that adds a constant to every answer changes nothing. Raises
    ``ValueError`` below 2 members or 2 answers. Christiano et al. 2017, arXiv 1706.03741, section
    2.2.4, there for pairs.
    """
    scores_KC = np.asarray(scores, dtype=float)
    if scores_KC.ndim != 2 or min(scores_KC.shape) < 2:
        raise ValueError(
            f"scores have shape {scores_KC.shape}; give at least 2 members and 2 answers"
        )
    num_answers = scores_KC.shape[1]
    first, second = np.triu_indices(num_answers, k=1)
    margins_KP = scores_KC[:, first] - scores_KC[:, second]
    return float(margins_KP.var(axis=0, ddof=1).mean())
