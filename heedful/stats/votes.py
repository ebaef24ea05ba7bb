"""Labels that annotators gave to items, as arrays of codes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """Who gave which item which label. Made by ``encode_votes``, used by the consensus and checks.

    Vote n is the label ``categories[label[n]]`` of annotator ``annotators[annotator[n]]`` for item
    ``items[item[n]]``; names are sorted. Missing answers are absent votes; an annotator may answer
    an item twice. ``Votes(item=array([0]), annotator=array([1]), label=array([0]),
    items=("task_1",), annotators=("ann", "bob"), categories=("cmp_1",))``
    """

    item: Codes
    annotator: Codes
    label: Codes
    items: tuple[str, ...]
    annotators: tuple[str, ...]
    categories: tuple[str, ...]

    def counts(self) -> NDArray[np.float64]:
        """``counts[i, c]``: how many votes item i has for category c."""
        num_categories = len(self.categories)
        cells = np.bincount(
            self.item * num_categories + self.label, minlength=len(self.items) * num_categories
        )
        return cells.reshape(len(self.items), num_categories).astype(float)


def encode(names: Sequence[str]) -> tuple[tuple[str, ...], Codes]:
    """The distinct names, sorted, and the position of each name among them."""
    distinct = tuple(sorted(set(names)))
    code = {name: i for i, name in enumerate(distinct)}
    return distinct, np.fromiter((code[name] for name in names), dtype=np.int64, count=len(names))


def encode_votes(items: Sequence[str], annotators: Sequence[str], labels: Sequence[str]) -> Votes:
    """Votes from three lists of equal length, one entry a vote.

    A label of a pairwise answer names what was chosen, never its side. Labels need the same
    meaning on every item for skill and agreement beyond chance, such as "first" for the completion
    that comes first in the task, whatever side it was shown on. Raises ``ValueError`` for no votes
    or lists of different lengths.
    """
    if not len(items) == len(annotators) == len(labels) or len(items) == 0:
        raise ValueError(
            f"{len(items)} items, {len(annotators)} annotators and {len(labels)} labels; give one "
            "of each per vote and at least 1 vote"
        )
    (item_names, item), (people, annotator), (categories, label) = map(
        encode, (items, annotators, labels)
    )
    return Votes(
        item=item,
        annotator=annotator,
        label=label,
        items=item_names,
        annotators=people,
        categories=categories,
    )
