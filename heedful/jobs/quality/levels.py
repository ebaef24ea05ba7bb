"""Who rates higher or lower than others rate the same answers."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from heedful.forms.rating import RatingForm
from heedful.jobs.quality.reading import Answers
from heedful.stats.intervals import Interval
from heedful.stats.raters import RaterOffsets, rater_offsets
from heedful.stats.votes import Codes

MAX_ROUNDS = 200
SMALL_STEP = 1e-4  # points

Array = NDArray[np.float64]


def levels(answers: Answers) -> RaterOffsets | None:
    """How many points above the usual person each one rates, by annotator.

    A rating is the worth of an answer by a criterion plus its annotator's level plus noise; both
    are fitted by least squares, so that one generous person does not make the others look strict.
    The usual person is the median of all who are linked by answers that they share. A person's
    answer to a task counts once, as the mean over what it rates: its ratings share a mood. None
    for other forms, and where fewer than two people rated the same or nobody did so twice.
    """
    votes = answers.votes
    if votes is None or not isinstance(answers.form, RatingForm):
        return None
    points = np.array([float(name) for name in votes.categories])[votes.label]
    rated = np.flatnonzero(np.bincount(votes.item)[votes.item] >= 2)
    _, item = np.unique(votes.item[rated], return_inverse=True)
    codes, person = np.unique(votes.annotator[rated], return_inverse=True)
    answer, place = np.unique(answers.vote_answer[rated], return_inverse=True)
    owner = np.zeros(len(answer), dtype=np.int64)
    owner[place] = person
    if len(codes) < 2 or np.bincount(owner).max() < 2:
        return None
    above = above_others(points[rated], item, person)
    residuals = np.bincount(place, weights=above) / np.bincount(place)
    names = [answers.annotators[code] for code in codes]
    found = rater_offsets([names[one] for one in owner], residuals)
    return replace(found, by_annotator=centred(found.by_annotator, names, linked(item, person)))


def above_others(points: Array, item: Codes, person: Codes) -> Array:
    """Each rating less the mean of what others gave the item, each of them less their level.

    Levels by alternating least squares: items of one rater are not allowed.
    """
    num_raters, num_rated = np.bincount(item), np.bincount(person)
    level = np.zeros(len(num_rated))
    for _ in range(MAX_ROUNDS):
        worth = np.bincount(item, weights=points - level[person]) / num_raters
        before, level = level, np.bincount(person, weights=points - worth[item]) / num_rated
        if np.abs(level - before).max() < SMALL_STEP:
            break
    without_level = points - level[person]
    of_others = np.bincount(item, weights=without_level)[item] - without_level
    return points - of_others / (num_raters[item] - 1)


def linked(item: Codes, person: Codes) -> Codes:
    """The group of every person, of those whom chains of shared items link."""
    num_people, num_items = person.max() + 1, item.max() + 1
    size = num_people + num_items
    graph = coo_array((np.ones(len(item)), (person, num_people + item)), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1][:num_people])


def centred(
    by_annotator: dict[str, Interval], names: list[str], group: Codes
) -> dict[str, Interval]:
    """The levels less the median of each one's group."""
    values = np.array([by_annotator[name].value for name in names])
    usual = {code: float(np.median(values[group == code])) for code in np.unique(group)}
    found = {}
    for name, code in zip(names, group, strict=True):
        one, middle = by_annotator[name], usual[code]
        found[name] = replace(
            one, value=one.value - middle, low=one.low - middle, high=one.high - middle
        )
    return found
