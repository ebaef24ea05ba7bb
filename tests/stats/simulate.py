"""Annotators with known faults, as planted truth for the tests of this folder."""

from dataclasses import dataclass

import numpy as np

from heedful.stats.votes import Votes, encode_votes

SIDES = np.array(["first", "second"])


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """Pairwise answers: which completion was chosen, which side it was shown on, what is right."""

    item: np.ndarray
    annotator: np.ndarray
    choice: np.ndarray  # 0 the first completion of the task, 1 the second
    chose_left: np.ndarray
    truth: np.ndarray
    is_random: np.ndarray
    copies: tuple[int, int] | None

    @property
    def votes(self) -> Votes:
        return encode_votes(
            [f"item_{i:04}" for i in self.item],
            self.names(self.annotator),
            [str(side) for side in SIDES[self.choice]],
        )

    def names(self, codes):
        return [f"ann_{a:03}" for a in codes]

    def accuracy(self, labels) -> float:
        """Share of right labels; a tie, None, is half right."""
        right = SIDES[self.truth[np.unique(self.item)]]
        points = [0.5 if ours is None else ours == r for ours, r in zip(labels, right, strict=True)]
        return float(np.mean(points))


def crowd(
    seed: int,
    *,
    num_items: int = 300,
    num_annotators: int = 20,
    overlap: int = 5,
    skill: tuple[float, float] = (0.75, 0.9),
    random_share: float = 0.0,
    left_points: float = 0.0,
    copy_share: float | None = None,
    hard_share: float = 0.0,
) -> Crowd:
    """``overlap`` annotators answer each item, right with their skill, 1/2 for random ones.

    ``left_points`` of 100 answers are moved to the left side whatever it shows; on hard items all
    are right with 0.55 only; annotator 1 copies annotator 0 in ``copy_share`` of common items.
    """
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, num_items)
    skills = rng.uniform(*skill, num_annotators)
    num_random = round(random_share * num_annotators)
    is_random = np.arange(num_annotators) >= num_annotators - num_random
    skills[is_random] = 0.5
    is_hard = rng.random(num_items) < hard_share
    item = np.repeat(np.arange(num_items), overlap)
    annotator = np.concatenate(
        [rng.choice(num_annotators, overlap, replace=False) for _ in range(num_items)]
    )
    if copy_share is not None:
        # The two share every third item, as people who work side by side would.
        visits = annotator.reshape(num_items, overlap)
        for row in visits[::3]:
            row[:2] = [0, 1]
            row[2:] = rng.choice(np.arange(2, num_annotators), overlap - 2, replace=False)
        annotator = visits.ravel()
    chance = np.where(is_hard[item] & ~is_random[annotator], 0.55, skills[annotator])
    is_right = rng.random(len(item)) < chance
    choice = np.where(is_right, truth[item], 1 - truth[item])
    left_shows = rng.integers(0, 2, len(item))
    # An answer pulled left changes only if it was right-hand, so pull twice the points.
    is_pulled = rng.random(len(item)) < 2 * left_points / 100
    choice = np.where(is_pulled, left_shows, choice)
    if copy_share is not None:
        rows = choice.reshape(num_items, overlap)
        people = annotator.reshape(num_items, overlap)
        for i in range(num_items):
            if {0, 1} <= set(people[i]) and rng.random() < copy_share:
                rows[i, people[i] == 1] = rows[i, people[i] == 0]
        choice = rows.ravel()
    return Crowd(
        item=item,
        annotator=annotator,
        choice=choice,
        chose_left=choice == left_shows,
        truth=truth,
        is_random=is_random,
        copies=None if copy_share is None else (0, 1),
    )
