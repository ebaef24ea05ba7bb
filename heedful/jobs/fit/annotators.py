"""What a fit says of the reliability of annotators: before it starts, and in its result."""

import sys
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from heedful.data.collate import Advance, Tree, packed
from heedful.data.reading import Reading
from heedful.jobs.progress import progress
from heedful.model.forward import forward
from heedful.model.trunk import Trunk
from heedful.monitor.reward_card import FEW_OF_ANNOTATOR
from heedful.stats.intervals import Interval
from heedful.train import crowd
from heedful.train.objectives import chosen_and_rejected
from heedful.types import JSON, Feedback


def announce(taught: Sequence[Tree], num_annotators: int) -> None:
    """Say whose reliability is learned, and of how many there is little to learn it from."""
    if not num_annotators:
        return
    counts = Counter(judge.skill for tree in taught for judge in tree.judges)
    few = sum(num < FEW_OF_ANNOTATOR for num in counts.values())
    said = f"reliability of {num_annotators} annotators is learned from {counts.total()} pairs"
    if few:
        said += f"; {few} gave fewer than {FEW_OF_ANNOTATOR} and stay near the mean of all"
    print(said, file=sys.stderr)


def reliabilities_of(
    trunk: Trunk,
    taught: Sequence[Tree],
    reading: Reading,
    names: Sequence[str],
    rows: Sequence[Feedback],
    *,
    max_tokens: int,
) -> dict[str, JSON]:
    """The reliability of each annotator given the final scores, on the pairs that were learned.

    ``names`` are the ids behind the numbers in the reading. Empty where none is learned.
    """
    if not reading.crowd:
        return {}
    trees = [tree for tree in taught if tree.pairs]
    with progress("reliability", len(trees)) as advance:
        leads = pair_leads(trunk, trees, max_tokens, advance)
    each, mean = crowd.reliabilities(
        leads,
        torch.tensor([judge.skill for tree in trees for judge in tree.judges]),
        torch.tensor([weight for tree in trees for weight in tree.weights]),
        num_annotators=len(reading.crowd),
        probabilities=torch.tensor([one for tree in trees for one in tree.probabilities]),
    )
    sources = {row.annotator: row.source for row in rows}
    found: list[JSON] = [
        {
            "annotator": names[number],
            "source": sources[names[number]],
            **named("reliability", one),
            "num_pairs": one.num,
        }
        for number, one in zip(reading.crowd, each, strict=True)
    ]
    return {**named("mean_reliability", mean), "annotators": found}


@torch.no_grad()
def pair_leads(trunk: Trunk, trees: Sequence[Tree], max_tokens: int, advance: Advance) -> Tensor:
    """The lead of each pair over its margin, by the score that pairs are learned with."""
    leads = []
    for batch in packed(trees, trunk.device, max_tokens, advance):
        chosen, rejected = chosen_and_rejected(
            forward(trunk, batch, "reward", {"scores"}).scores, batch
        )
        assert batch.margins is not None
        leads.append((chosen - rejected - batch.margins).cpu())
    return torch.cat(leads)


def named(name: str, one: Interval) -> dict[str, JSON]:
    """A number and its interval under the names of results."""
    return {name: round(one.value, 4), f"{name}_ci": [round(one.low, 4), round(one.high, 4)]}
