"""The files of a run directory, for whoever reads them: pages, reports, jobs. Needs no torch.

``jobs.rundir`` writes them. A directory that is being worked on is locked by its process, so a
process that died is noticed at once, and two never work on one run.
"""

import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from heedful.errors import DataError, MissingError, ResourceError
from heedful.types import JSON

METRICS = "metrics.jsonl"
CONFIG = "config.json"
RESULT = "result.json"
REPORT = "report.html"
PLAN = "plan.json"
LOCK = ".lock"
READABLE = (CONFIG, METRICS, RESULT, REPORT)
LOCK_SECONDS = 2.0  # a reader who looks whether the lock is free holds it for an instant
MAX_BYTES = 256 * 2**20


class HeldError(ResourceError):
    """Another process works on the directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run set out to do. ``shown`` names the metrics to watch; times are POSIX seconds."""

    num_steps: int
    first_step: int
    started_at: float
    shown: Mapping[str, str]

    def to_json(self) -> str:
        """The plan as it is kept in the directory."""
        return json.dumps(
            {
                "num_steps": self.num_steps,
                "first_step": self.first_step,
                "started_at": self.started_at,
                "shown": dict(self.shown),
            }
        )

    def seconds_left(self, num_done: int, last_at: float, now: float) -> float | None:
        """From the pace since the start: what remains; None before the first step."""
        done = num_done - self.first_step
        if done <= 0:
            return None
        pace = (last_at - self.started_at) / done
        return max(0.0, pace * (self.num_steps - num_done) - (now - last_at))


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a run's metrics; a row torn by a crash is left out."""
    file = path / METRICS
    if not file.exists():
        return []
    lines = file.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def rollout_numbers(path: Path) -> list[int]:
    """Which rollouts a run has written, in order."""
    return sorted(int(file.stem) for file in (path / "rollouts").glob("[0-9]*.parquet"))


def read_rollout(path: Path, number: int) -> list[dict[str, Any]]:
    """The rows of one rollout."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(rollout_file(path, number)).to_pylist()
    return rows


def rollout_file(path: Path, number: int) -> Path:
    """Where a rollout's rows are."""
    return path / "rollouts" / f"{number:06d}.parquet"


def read_rollouts(path: Path) -> list[dict[str, Any]]:
    """All rollout rows of a run directory, in order."""
    return [row for number in rollout_numbers(path) for row in read_rollout(path, number)]


def read_result(path: Path) -> dict[str, JSON] | None:
    """The result of a finished run; None before it is written."""
    file = path / RESULT
    return json.loads(file.read_text()) if file.exists() else None


def read_plan(path: Path) -> Plan | None:
    """What the run set out to do; None when it has not come so far."""
    file = path / PLAN
    return Plan(**json.loads(file.read_text())) if file.exists() else None


def read_file(path: Path, name: str) -> bytes:
    """One of the files that may leave a run directory; raises ``MissingError`` for any other."""
    if name not in READABLE:
        raise MissingError(f"{name!r:.60} is not a file of a run; choose {', '.join(READABLE)}")
    file = path / name
    if not file.is_file():
        raise MissingError(f"the run has no {name} yet")
    if file.is_symlink() or file.stat().st_size > MAX_BYTES:
        raise DataError(f"{name} is a link or larger than {MAX_BYTES} bytes; look into {path}")
    return file.read_bytes()


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Mark the directory as being worked on, for as long as this process lives.

    Raises ``HeldError`` when another process works on it.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    with (path / LOCK).open("a") as stream:
        while not _lock(stream, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise HeldError(
                    f"another process works on {path}; wait for it, or choose another --out"
                )
            time.sleep(0.02)
        yield


def is_held(path: Path) -> bool:
    """Whether a process of this machine works on the directory."""
    try:
        with (path / LOCK).open() as stream:
            return not _lock(stream, fcntl.LOCK_SH)
    except OSError:
        return False


def _lock(stream: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
