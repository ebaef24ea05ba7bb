"""A run directory owns everything about a run: config, metrics, rollouts, checkpoints, result.

OUT/config.json       resolved config, code version, snapshot; running it again repeats the run
OUT/plan.json         how many steps it set out to do, and when
OUT/metrics.jsonl     one row per optimiser step
OUT/rollouts/*.parquet  every sampled answer of PPO with its reward
OUT/checkpoints/      the two newest whole checkpoints
OUT/model/            the adapter and head that came out
OUT/result.json       written last: the run is finished
OUT/report.html       what to look at
"""

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import heedful
from heedful.config import Section
from heedful.errors import ConfigError, ResourceError
from heedful.model.adapter_files import write_text
from heedful.store import run_files
from heedful.types import JSON

FREE_BYTES_NEEDED = 200 * 2**20
MADE = {"checkpoints", "metrics.jsonl", "model", "report.html", "result.json"}


class RunDirectory:
    """Opens a new run or one to be resumed; refuses a directory that holds another run."""

    def __init__(self, path: Path, kind: str, config: Section, *, snapshot: str | None) -> None:
        self.path = path
        self.kind = kind
        self.record: dict[str, Any] = {
            "kind": kind,
            "config": config.model_dump(mode="json"),
            "snapshot": snapshot,
            "heedful": heedful.__version__,
        }
        try:
            path.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(path).free
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be a run directory: {error.strerror}; choose another --out"
            ) from None
        if free < FREE_BYTES_NEEDED:
            raise ResourceError(
                f"{path} has {free / 2**20:.0f} MiB free; a run needs at least "
                f"{FREE_BYTES_NEEDED / 2**20:.0f} MiB: free some space or choose another --out"
            )
        if self._is_free():
            with run_files.hold(path):  # two that start at once must not both believe it is theirs
                if self._is_free():
                    write_text(path / run_files.CONFIG, json.dumps(self.record, indent=2) + "\n")
        self._refuse_other()

    def _is_free(self) -> bool:
        """Is there nothing of a run, or of one that was refused before it left anything?"""
        names = {one.name for one in self.path.iterdir()}
        if run_files.CONFIG not in names:
            return not names & MADE
        left = names - {run_files.CONFIG, run_files.LOCK}
        return self._found() is not None and all(name.endswith(".parquet") for name in left)

    def _found(self) -> dict[str, Any] | None:
        """The record of the run that is here; None where there is none that can be read."""
        try:
            found = json.loads((self.path / run_files.CONFIG).read_text())
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) and set(self.record) <= set(found) else None

    def _refuse_other(self) -> None:
        found = self._found()
        if found is None:
            raise ConfigError(
                f"{self.path} holds files of something else and no {run_files.CONFIG} of a run; "
                "choose another --out"
            )
        for key in ("kind", "snapshot"):
            if found[key] != self.record[key]:
                raise ConfigError(
                    f"{self.path} holds a run with {key} {found[key]!r}, this one has "
                    f"{self.record[key]!r}; choose another --out"
                )
        differing = _difference(found["config"], self.record["config"])
        if differing:
            key, old, new = differing
            raise ConfigError(
                f"{self.path} holds a run with {key} = {old!r}, this one has {new!r}; choose "
                "another --out, or repeat the old settings to resume it"
            )

    @property
    def name(self) -> str:
        """The name of the model that comes out: the directory's own, also of ``.``."""
        return self.path.resolve().name

    @property
    def model(self) -> Path:
        """Where the trained adapter goes."""
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints go."""
        return self.path / "checkpoints"

    def result(self) -> dict[str, Any] | None:
        """The result of a finished run."""
        return run_files.read_result(self.path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep others off the directory; raises ``ResourceError`` when one is at it."""
        with run_files.hold(self.path):
            self._refuse_other()  # another may have come in between
            yield

    def write_plan(self, num_steps: int, first_step: int, shown: Mapping[str, str]) -> None:
        """Say what is ahead, so that whoever watches can tell the time left."""
        plan = run_files.Plan(
            num_steps=num_steps, first_step=first_step, started_at=time.time(), shown=shown
        )
        write_text(self.path / run_files.PLAN, plan.to_json())

    def finish(self, result: Mapping[str, JSON]) -> None:
        """Write the result; from now on the run is finished."""
        write_text(self.path / "result.json", json.dumps(dict(result), indent=2) + "\n")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one row of metrics."""
        with (self.path / "metrics.jsonl").open("a") as stream:
            stream.write(json_line({"step": step, **metrics}))

    def metrics(self) -> list[dict[str, float]]:
        """All rows so far."""
        return run_files.read_metrics(self.path)

    read_metrics = staticmethod(run_files.read_metrics)
    read_rollouts = staticmethod(run_files.read_rollouts)

    def rewind(self, num_steps: int) -> None:
        """Forget metrics of steps that will be run again."""
        kept = [row for row in self.metrics() if row["step"] < num_steps]
        write_text(self.path / "metrics.jsonl", "".join(json_line(row) for row in kept))

    @staticmethod
    def rollout_writer(path: Path) -> Callable[[int, Sequence[Any]], None]:
        """Writes one Parquet file per rollout; dataclass records become columns."""

        def write(number: int, rows: Sequence[Any]) -> None:
            import pyarrow as pa
            import pyarrow.parquet as pq

            target = run_files.rollout_file(path, number)
            target.parent.mkdir(exist_ok=True)
            partial = target.with_name(f".{target.name}")
            table = pa.Table.from_pylist([dataclasses.asdict(row) for row in rows])
            pq.write_table(table, partial)
            partial.replace(target)

        return write


def json_line(row: Mapping[str, float]) -> str:
    """One line of JSON, which has no NaN: what is not finite is null."""
    known = {k: v if v is not None and math.isfinite(v) else None for k, v in row.items()}
    return json.dumps(known, allow_nan=False) + "\n"


def _difference(
    old: Mapping[str, Any], new: Mapping[str, Any], path: str = ""
) -> tuple[str, Any, Any] | None:
    """The first key whose value differs, dotted."""
    for key in sorted(set(old) | set(new)):
        left, right = old.get(key), new.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            inner = _difference(left, right, f"{path}{key}.")
            if inner:
                return inner
        elif left != right:
            return f"{path}{key}", left, right
    return None
