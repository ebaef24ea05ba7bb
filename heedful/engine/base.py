"""The sampling interface that rollouts, evaluation and serving share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from heedful.types import Sample, SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One answer wanted. Made by jobs and sources, used by engines.

    ``Request(prompt=(1, 2, 3), params=SamplingParams(max_new_tokens=8, seed=7))``
    """

    prompt: tuple[int, ...]
    params: SamplingParams


class Engine(Protocol):
    """Anything that turns requests into samples, in the order of the requests."""

    def sample(
        self,
        requests: Sequence[Request],
        *,
        role: str | None = None,
        on_finish: Callable[[int, Sample], None] | None = None,
    ) -> list[Sample]:
        """Answer every request as ``role``; ``on_finish(index, sample)`` as each one ends."""
        ...
