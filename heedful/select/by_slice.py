"""Ask where a reward model surely errs most: by what is known of slices of earlier questions."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from heedful.stats.intervals import Interval

Array = NDArray[np.float64]
Slice = tuple[str, str]  # kind and name, such as ("turns", "2 turns")
TIE = 1e-3  # weight of all slices together, beside that of the worst one


def slice_scores(tasks: Sequence[Sequence[Slice]], accuracy: Mapping[Slice, Interval]) -> Array:
    """How much each task is worth asking, 0 to about 1, from the slices that it falls into.

    The score is the lower bound of the error rate (1 less the upper bound of ``accuracy``) of the
    worst slice of the task, so that a slice with few answers is not sought for its noise; equal
    ones are ordered by the mean bound over their slices. Slices that nothing is known of do not
    count, and a task without a known one scores 0.
    """
    scores = np.zeros(len(tasks))
    for place, slices in enumerate(tasks):
        errors = [1 - accuracy[one].high for one in slices if one in accuracy]
        if errors:
            scores[place] = max(errors) + TIE * float(np.mean(errors))
    return scores
