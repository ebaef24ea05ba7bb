"""Who rates higher or lower than others rate the same answers."""

import numpy as np

from heedful.forms.rating import RatingForm
from heedful.jobs.quality.reading import Answers
from heedful.stats.raters import RaterOffsets, rater_offsets


def levels(answers: Answers) -> RaterOffsets | None:
    """How many points above others each person rates, by annotator.

    A rating counts less the mean of what others gave that answer on that criterion, and a person's
    answer to a task counts once, as the mean over what it rates: its ratings share a mood. Who
    is always paired with somebody strict looks generous. None for other forms, and where fewer
    than two people rated the same or nobody did so twice.
    """
    votes = answers.votes
    if votes is None or not isinstance(answers.form, RatingForm):
        return None
    points = np.array([float(name) for name in votes.categories])[votes.label]
    num, total = np.bincount(votes.item), np.bincount(votes.item, weights=points)
    rated = np.flatnonzero(num[votes.item] >= 2)
    if not len(rated):
        return None
    item, own = votes.item[rated], points[rated]
    above = own - (total[item] - own) / (num[item] - 1)
    answer, place, times = np.unique(
        answers.vote_answer[rated], return_inverse=True, return_counts=True
    )
    person = answers.annotator[answer]
    if len(np.unique(person)) < 2 or np.bincount(person).max() < 2:
        return None
    return rater_offsets(
        [answers.annotators[code] for code in person],
        np.bincount(place, weights=above) / times,
    )
