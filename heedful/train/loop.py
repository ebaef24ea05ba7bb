"""The only training loop. Records come in, ``on_step(step, metrics)`` goes out."""

import time
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from heedful.errors import NumericsError
from heedful.model.flops import update_flops
from heedful.model.forward import forward
from heedful.model.trunk import Trunk
from heedful.tensors import Step
from heedful.train.algorithms import Algorithm
from heedful.train.objectives import Share
from heedful.train.optim import Optimiser
from heedful.train.phases import Phases

StepMetrics = dict[str, float]


class Source(Protocol):
    """Yields optimiser steps; what it learns from their metrics stays inside it.

    ``phases`` measures the source's own work and the loop's.
    """

    phases: Phases

    @property
    def resumable(self) -> bool:
        """Whether a checkpoint can be continued exactly now; asked after ``observe``."""
        ...

    def __iter__(self) -> Iterator[Step]:
        """Steps from the current state on."""
        ...

    def observe(self, metrics: StepMetrics) -> None:
        """Called after every step: adaptive KL and early stops live in the source."""
        ...

    def state(self) -> dict[str, float]:
        """What a checkpoint needs to continue exactly."""
        ...

    def load(self, state: dict[str, float]) -> None:
        """Inverse of ``state``."""
        ...


def fit(
    trunk: Trunk,
    source: Source,
    algorithm: Algorithm,
    optimiser: Optimiser,
    *,
    on_step: Callable[[int, StepMetrics], None],
    first_step: int = 0,
) -> None:
    """Run ``source`` to its end. Raises ``NumericsError`` at the first loss that is not finite."""
    reads_logits = "logprobs" in algorithm.needs
    started = time.perf_counter()
    for step_number, step in enumerate(source, start=first_step):
        sums: dict[str, Tensor] = {}
        weights: dict[str, Tensor] = {}  # of metrics about a part of the unit
        for batch in step.micro_batches:
            role = batch.role or algorithm.role
            count = step.counts.get(role, step.count)
            tokens, logits = batch.num_packed, batch.num_tokens if reads_logits else 0
            flops = update_flops(trunk, role, tokens, logits, first=batch.num_passed)
            source.phases.add("update_padded_tokens", batch.num_padded)
            with source.phases("update", tokens=tokens, flops=flops):
                outputs = forward(
                    trunk, batch, role, algorithm.needs, temperature=algorithm.temperature
                )
                loss, metrics = algorithm.objective(outputs, batch)
                if not torch.isfinite(loss):
                    raise NumericsError(
                        f"loss is {loss.item()} at step {step_number}, examples "
                        f"{', '.join(batch.ids[:8])}; check them, or lower the learning rate"
                    )
                (loss / count).backward()  # type: ignore[no-untyped-call]
            # of a mean over roles that learn apart, each by its own count
            share = step.count / (count * len(step.counts)) if step.counts else 1.0
            for name, value in {"train/loss": loss.detach(), **metrics}.items():
                if isinstance(value, Share):
                    weights[name] = weights.get(name, torch.zeros(())) + value.weight
                    sums[name] = sums.get(name, torch.zeros(())) + value.total
                else:
                    sums[name] = sums.get(name, torch.zeros(())) + value * share
        with source.phases("optimiser"):
            norm = optimiser.step(step.progress)
        means = {
            name: (value / weights.get(name, step.count)).item() for name, value in sums.items()
        }
        means |= {"train/grad_norm": norm, **step.metrics}
        now = time.perf_counter()  # the step's own time with what its examples cost to make
        means |= {"train/step_seconds": now - started, **source.phases.take()}
        source.observe(means)
        on_step(step_number, means)
        started = time.perf_counter()
