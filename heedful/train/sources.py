"""Sources of optimiser steps from fixed examples; rollouts have a file of their own."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from heedful.data.collate import Tree, collate, micro_batches
from heedful.tensors import Batch, Step
from heedful.train.phases import Phases

Enrich = Callable[[Sequence[Batch], Phases], list[Batch]]
Pack = Callable[[Sequence[Tree], Phases], list[Batch]]


class ExampleSource:
    """Shuffled epochs over trees. The order depends on the seed and the epoch only.

    ``enrich`` adds to the batches of a step what has to be computed with the model as it is then,
    such as reference log-probabilities.
    ``pack`` makes the batches of a step where several roles learn apart.
    """

    def __init__(
        self,
        trees: Sequence[Tree],
        *,
        unit: str,
        examples_per_step: int,
        tokens_per_micro_step: int,
        epochs: int,
        seed: int,
        device: torch.device,
        enrich: Enrich | None = None,
        pack: Pack | None = None,
    ) -> None:
        self.trees = list(trees)
        self.unit = unit
        self.examples_per_step = examples_per_step
        self.tokens_per_micro_step = tokens_per_micro_step
        self.epochs = epochs
        self.seed = seed
        self.device = device
        self.enrich = enrich
        self.pack = pack
        self.position = 0
        self.phases = Phases(device)
        self.resumable = True

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one epoch; the last may be smaller."""
        return math.ceil(len(self.trees) / self.examples_per_step)

    @property
    def num_steps(self) -> int:
        """Optimiser steps in the whole run."""
        return self.steps_per_epoch * self.epochs

    def __iter__(self) -> Iterator[Step]:
        """Steps from the current position to the end."""
        while self.position < self.num_steps:
            epoch, number = divmod(self.position, self.steps_per_epoch)
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.trees))
            start = number * self.examples_per_step
            chosen = [self.trees[i] for i in order[start : start + self.examples_per_step]]
            progress = self.position / self.num_steps
            self.position += 1
            yield self.step(chosen, progress)

    def step(self, trees: Sequence[Tree], progress: float) -> Step:
        """Pack trees into the micro-batches of one optimiser step."""
        if self.pack is not None:
            return apart(self.pack(trees, self.phases), self.unit, progress)
        with self.phases("data"):
            batches = [
                collate(group, self.device)
                for group in micro_batches(trees, self.tokens_per_micro_step)
            ]
        if self.enrich is not None:
            batches = self.enrich(batches, self.phases)
        return Step(
            micro_batches=tuple(batches), count=count(batches, self.unit), progress=progress
        )

    def observe(self, metrics: dict[str, float]) -> None:
        """Fixed examples learn nothing from metrics."""

    def state(self) -> dict[str, float]:
        """The data cursor."""
        return {"position": self.position}

    def load(self, state: dict[str, float]) -> None:
        """Continue at a saved cursor."""
        self.position = int(state["position"])


WEIGHTS: dict[str, Callable[[Batch], float]] = {
    "tokens": lambda batch: batch.token_weight,
    "pairs": lambda batch: batch.pair_weight,
    "judgements": lambda batch: batch.judgement_weight,
}


def count(batches: Sequence[Batch], unit: str) -> float:
    """The one normaliser of a step: response tokens, pairs or judgements, by weight."""
    return sum(WEIGHTS[unit](batch) for batch in batches)


def apart(batches: Sequence[Batch], unit: str, progress: float) -> Step:
    """A step of roles that learn apart: each has the normaliser that it would have alone."""
    by_role: dict[str, list[Batch]] = {}
    for batch in batches:
        assert batch.role is not None
        by_role.setdefault(batch.role, []).append(batch)
    counts = {role: count(own, unit) for role, own in by_role.items()}
    return Step(
        micro_batches=tuple(batches),
        count=sum(counts.values()),
        progress=progress,
        counts=counts,
    )
