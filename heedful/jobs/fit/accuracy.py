"""How well a model agrees with held-out feedback, from its scores."""

from collections.abc import Mapping, Sequence

import numpy as np

from heedful.data.collate import Tree
from heedful.data.reading import Values
from heedful.stats.calibration import ece, fit_temperature
from heedful.stats.concordance import concordance
from heedful.stats.intervals import share_by_cluster
from heedful.types import JSON


def accuracy_of(deltas: Sequence[float], trees: Sequence[Tree]) -> dict[str, JSON]:
    """Share of pairs whose delta is above 0, a tie one half; pairs of a prompt go together.

    Ties are counted (``num_scored_alike``). ``deltas`` are chosen minus rejected, one per pair of
    the trees, in their order.
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
    } | ({"num_scored_alike": num_alike} if (num_alike := int(np.sum(right == 0.5))) else {})


def measured_of(deltas: Sequence[float], trees: Sequence[Tree]) -> dict[str, JSON]:
    """Accuracy, ECE and temperature of score differences in log-odds, and the differences."""
    if not len(deltas):
        return accuracy_of((), trees)
    given = np.asarray(deltas, dtype=float)
    return accuracy_of(given.tolist(), trees) | {
        "ece": float(ece(1 / (1 + np.exp(-given)), np.ones(len(given)))),
        # rankings without a wrong pair and worse than random ones have no temperature
        "temperature": float(fit_temperature(given))
        if (given < 0).any() and given.mean() > 0
        else None,
        "deltas": [round(float(delta), 5) for delta in given],
    }


def concordances_of(
    scores: Sequence[float], singles: Mapping[str, Values], *, seed: int, is_alone: bool
) -> dict[str, JSON]:
    """Concordance of scores, one a response, with ratings and thumbs, over pairs of prompts.

    With ``is_alone`` the first is also the ``accuracy``: no prompt has two answers told apart.
    """
    metrics: dict[str, JSON] = {}
    for name, found in singles.items():
        if len(set(found.values)) < 2 or len(set(found.trees)) < 2:
            continue
        agreement = concordance(
            np.asarray(scores)[found.responses],
            found.values,
            clusters=found.trees,
            rng=np.random.default_rng(seed),
        )
        interval = [agreement.low, agreement.high]
        metrics[f"concordance_{name}"] = agreement.value
        metrics[f"concordance_{name}_ci"] = interval
        if is_alone and "accuracy" not in metrics:
            metrics["num_held_out"] = agreement.num
            metrics |= {"accuracy": agreement.value, "accuracy_ci": interval}
            metrics["accuracy_is"] = f"concordance_{name}"
    return metrics
