"""Lanes: the rows of a decode step in parts, each on one thread.

A product of a few rows with a weight matrix is too thin to be worth two threads, and the many small
operations between such products do not use them at all. Rows are independent, so on a CPU with few
cores every core takes some of them through the whole model.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

import torch

T = TypeVar("T")

MIN_ROWS = 4  # of a lane
MAX_THREADS = 4  # beyond it the lanes would compete for the memory that the weights are read from


class Lanes:
    """A pool of threads for one call of the engine; ``with`` ends them."""

    def __init__(self, device: torch.device) -> None:
        self.num_threads = torch.get_num_threads()
        shared = device.type == "cpu" and self.num_threads <= MAX_THREADS
        self.num_lanes = self.num_threads if shared else 1
        self.pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        """Start the threads, if rows are to be shared out at all."""
        if self.num_lanes > 1:
            self.pool = ThreadPoolExecutor(self.num_lanes)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the threads."""
        if self.pool is not None:
            self.pool.shutdown()

    def over(self, num_rows: int, work: Callable[[slice], T]) -> list[T]:
        """``work`` on consecutive parts of the rows, in order; without gradients."""
        lanes = max(1, min(self.num_lanes, num_rows // MIN_ROWS))
        if lanes == 1 or self.pool is None:
            return [work(slice(0, num_rows))]
        bounds = [num_rows * lane // lanes for lane in range(lanes + 1)]
        parts = [slice(bounds[lane], bounds[lane + 1]) for lane in range(lanes)]

        def alone(part: slice) -> T:
            torch.set_num_threads(1)
            with torch.no_grad():
                return work(part)

        try:
            return list(self.pool.map(alone, parts))
        finally:
            torch.set_num_threads(self.num_threads)
