"""Where the time goes: seconds, tokens and peak memory of every phase of a run."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

STATM = Path("/proc/self/statm")
WATCH_SECONDS = 0.02


class Phases:
    """A stopwatch per phase. Phases do not nest, so seconds add up to at most the wall time.

    ``take`` returns what happened since the last call, as metrics ``profile/NAME_seconds``,
    ``profile/NAME_tokens``, ``profile/NAME_flops`` and, inside ``watching()``,
    ``profile/NAME_peak_gb``.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.sums: dict[str, float] = {}
        self.running: str | None = None
        self.peaks: dict[str, int] = {}
        self.watched = False

    @contextmanager
    def __call__(self, name: str, *, tokens: int = 0, flops: float = 0.0) -> Iterator[None]:
        """Count the block as phase ``name``, in which ``tokens`` are computed with ``flops``."""
        if self.running is not None:
            raise RuntimeError(f"phase {name!r} starts inside phase {self.running!r}")
        self.running = name
        if self.watched and self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        started = time.perf_counter()
        try:
            yield
        finally:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.add(f"{name}_seconds", time.perf_counter() - started)
            self.add(f"{name}_tokens", tokens)
            self.add(f"{name}_flops", flops)
            self.look()
            self.running = None

    def add(self, key: str, value: float) -> None:
        """Add to a sum of the current step."""
        self.sums[key] = self.sums.get(key, 0.0) + value

    def take(self) -> dict[str, float]:
        """The sums since the last call as metrics; they start again at zero."""
        metrics = {f"profile/{key}": value for key, value in self.sums.items()}
        metrics |= {f"profile/{name}_peak_gb": peak / 2**30 for name, peak in self.peaks.items()}
        self.sums, self.peaks = {}, {}
        return metrics

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Also follow memory: of the process, sampled by a thread, or of the GPU."""
        self.watched = True
        done = threading.Event()

        def watch() -> None:
            while not done.wait(WATCH_SECONDS):
                self.look()

        thread = threading.Thread(target=watch, daemon=True)
        if self.device.type == "cpu":
            thread.start()
        try:
            yield
        finally:
            self.watched = False
            done.set()
            if thread.ident is not None:
                thread.join()

    def look(self) -> None:
        """Note the memory in use for the running phase."""
        name = self.running
        if self.watched and name is not None:
            self.peaks[name] = max(self.peaks.get(name, 0), memory_in_use(self.device))


def memory_in_use(device: torch.device) -> int:
    """Bytes: the peak of the device since its last reset, or the resident size of the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if not STATM.exists():  # only Linux tells cheaply
        return 0
    return int(STATM.read_text().split()[1]) * 4096
