"""How often a model puts the chosen side of held-out pairs ahead."""

from collections.abc import Sequence

import numpy as np

from heedful.data.collate import Tree
from heedful.stats.intervals import share_by_cluster
from heedful.types import JSON


def accuracy_of(deltas: Sequence[float], trees: Sequence[Tree]) -> dict[str, JSON]:
    """Share of pairs whose delta is above 0, a tie one half; pairs of a prompt go together.

    ``deltas`` are chosen minus rejected, one per pair of the trees, in their order.
    """
    if not len(deltas):
        return {"num_held_out": 0}
    right = (np.sign(deltas) + 1) / 2
    prompts = np.repeat(np.arange(len(trees)), [len(tree.pairs) for tree in trees])
    accuracy = share_by_cluster(right, prompts)
    return {
        "num_held_out": accuracy.num,
        "accuracy": accuracy.value,
        "accuracy_ci": [accuracy.low, accuracy.high],
    }
