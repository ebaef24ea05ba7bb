"""What pages and API tell about a run: its row in the store and the files of its directory."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from heedful.config import listed
from heedful.monitor.charts import fixed
from heedful.monitor.records import Stat
from heedful.monitor.run_report import headline, readable, shown
from heedful.store import run_files
from heedful.store.run_files import Plan
from heedful.store.runs import TimedRun
from heedful.types import JSON

State = Literal["running", "finished", "failed", "interrupted"]
Row = Mapping[str, Any]
MAX_DRAWN = 400  # points of a curve; more are averaged
SAMPLES = 12
TITLES = {
    "evaluate": "Evaluation",
    "reward": "Reward model",
    "reward_card": "Reward card",
    "ppo": "PPO",
    "grpo": "GRPO",
    "sft": "SFT",
    "dpo": "DPO",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run as it stands now. ``headline`` is its result, or its newest metrics while it runs.

    ``num_steps`` and ``seconds_left`` are None where the run has not said.
    """

    id: str
    kind: str
    name: str
    state: State
    model: str
    data: str
    path: str
    snapshot: str | None
    started_at: datetime
    seconds: float
    seconds_left: float | None
    num_done: int
    num_steps: int | None
    headline: Sequence[Stat]

    @property
    def title(self) -> str:
        """What it is in words."""
        return TITLES.get(self.kind, self.kind.replace("_", " "))

    @property
    def own_name(self) -> str:
        """The name of its directory where that says more than what it is."""
        said = {self.kind, *self.title.lower().split()}
        return "" if self.name.lower() in said else self.name

    def to_json(self) -> dict[str, JSON]:
        """The view for the API."""
        names = ("id", "kind", "name", "state", "model", "data", "path", "snapshot", "seconds")
        return {name: getattr(self, name) for name in names} | {
            "started_at": self.started_at.isoformat(),
            "seconds_left": self.seconds_left,
            "num_done": self.num_done,
            "num_steps": self.num_steps,
            "headline": [
                {"label": stat.label, "value": stat.value, "detail": stat.detail}
                for stat in self.headline
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A prompt and what was answered: label, text and numbers of each answer."""

    prompt: str
    answers: Sequence[tuple[str, str, str]]


def run_view(row: TimedRun) -> RunView:
    """The run of a row, with what its directory says. A directory elsewhere says nothing."""
    path = Path(row.run.path)
    plan, num_done, last_at = read_pace(path)
    state = state_of(row, path)
    now = time.time()
    left = None
    if state == "running" and plan is not None:
        left = plan.seconds_left(num_done, last_at, now)
    return RunView(
        id=row.id,
        kind=row.run.kind,
        name=path.name,
        state=state,
        model=str(row.run.config.get("model", "")),
        data=listed(row.run.config.get("data")),
        path=row.run.path,
        snapshot=row.run.snapshot,
        started_at=row.started_at,
        seconds=seconds_of(row, state, path, last_at, now),
        seconds_left=left,
        num_done=num_done,
        num_steps=plan.num_steps if plan else None,
        headline=stats_of(path, plan),
    )


def state_of(row: TimedRun, path: Path) -> State:
    """The outcome in the store; of a run that has none, whether its process lives."""
    if row.run.status != "running":
        return row.run.status
    if not path.is_dir() or run_files.is_held(path):  # on another machine the store has to do
        return "running"
    return "finished" if (path / run_files.RESULT).exists() else "interrupted"


def seconds_of(row: TimedRun, state: State, path: Path, last_at: float, now: float) -> float:
    """How long it took: by its own account, else from start to end, or to the last sign of life."""
    result = cached_result(path)
    own = (result or {}).get("metrics", {}).get("seconds")
    if own is not None:
        return float(own)
    end = row.finished_at.timestamp() if row.finished_at else now
    if state == "interrupted":
        end = last_at or row.started_at.timestamp()
    return max(0.0, end - row.started_at.timestamp())


def read_pace(path: Path) -> tuple[Plan | None, int, float]:
    """The plan, how many steps are done, and when the last one was."""
    file = path / run_files.METRICS
    try:
        last_at = file.stat().st_mtime
        with file.open("rb") as stream:
            num_done = sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
    except OSError:
        last_at, num_done = 0.0, 0
    return run_files.read_plan(path), num_done, last_at


def stats_of(path: Path, plan: Plan | None) -> Sequence[Stat]:
    """The result's headline, or the newest of the metrics that the run shows."""
    result = cached_result(path)
    if result is not None:  # how long it took stands elsewhere
        stats = [stat for stat in headline(claims(result)) if stat.label != "seconds"]
        judge = result.get("judge")
        return [
            replace(stat, label=f"win rate, judged by {judge}")
            if judge and stat.label == "win rate"
            else stat
            for stat in stats
        ]
    rows = last_rows(path)
    if not rows:
        return ()
    names = [name for name in (plan.shown if plan else {}) if name in rows[-1]]
    return [Stat(label=readable(name), value=shown(float(rows[-1][name]))) for name in names]


def claims(result: Mapping[str, JSON]) -> dict[str, JSON]:
    """The plain numbers and intervals of a result: of a fit its metrics, else its own."""
    values = result.get("metrics", result)
    return {
        key: value
        for key, value in values.items()
        if isinstance(value, int | float) or (isinstance(value, list) and key.endswith("_ci"))
    }


def last_rows(path: Path) -> list[Row]:
    """The newest whole row of the metrics, without reading the others."""
    file = path / run_files.METRICS
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - 65_536))
            lines = stream.read().decode(errors="replace").split("\n")
    except OSError:
        return []
    return [json.loads(lines[-2])] if len(lines) > 1 and lines[-2].startswith("{") else []


def cached_result(path: Path) -> dict[str, JSON] | None:
    """The result of a run; read again when the file changes."""
    try:
        stamp = (path / run_files.RESULT).stat().st_mtime_ns
    except OSError:
        return None
    return _result(path, stamp)


@lru_cache(maxsize=128)
def _result(path: Path, stamp: int) -> dict[str, JSON] | None:
    del stamp
    return run_files.read_result(path)


def samples_of(path: Path, number: int | None) -> tuple[list[Sampled], list[int]]:
    """Answers of rollout ``number`` (None: the newest) or of an evaluation, and all rollouts."""
    numbers = run_files.rollout_numbers(path)
    if numbers:
        chosen = number if number in numbers else numbers[-1]
        rows = run_files.read_rollout(path, chosen)
        return [of_rollout(group) for group in by_prompt(rows)][:SAMPLES], numbers
    result = cached_result(path) or {}
    return of_evaluation(result.get("samples") or [])[:SAMPLES], []


def by_prompt(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of one prompt together, in the order of their first."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["prompt_id"], []).append(row)
    return list(groups.values())


def of_rollout(rows: Sequence[Row]) -> Sampled:
    """The best and the worst answer of a prompt, by reward."""
    best = max(rows, key=lambda row: row["reward"])
    worst = min(rows, key=lambda row: row["reward"])
    kept = [("highest reward", best), ("lowest reward", worst)] if len(rows) > 1 else [("", best)]
    return Sampled(
        prompt=rows[0]["prompt"],
        answers=[
            (
                label,
                row["response"],
                f"reward {fixed(row['reward'], 2)} · KL {fixed(row['kl_nats'], 2)} nats · "
                f"{row['num_tokens']} tokens",
            )
            for label, row in kept
        ],
    )


def of_evaluation(rows: Sequence[Row]) -> list[Sampled]:
    """Start and policy beside each other."""
    arms = {name: [row for row in rows if row["arm"] == name] for name in ("start", "policy")}
    return [
        Sampled(
            prompt=start["prompt"],
            answers=[
                (
                    row["arm"],
                    row["text"],
                    "" if row["proxy"] is None else f"reward {fixed(row['proxy'], 2)}",
                )
                for row in (start, policy)
            ],
        )
        for start, policy in zip(arms["start"], arms["policy"], strict=True)
    ]


def drawn(rows: Sequence[Row], names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows to draw: of these metrics only, averaged in groups when there are very many."""
    kept = [
        {
            key: value
            for key, value in row.items()
            if names is None or key in names or key in ("step", "rollout/number")
        }
        for row in rows
    ]
    size = -(-len(kept) // MAX_DRAWN)
    if size <= 1:
        return kept
    groups = [kept[at : at + size] for at in range(0, len(kept), size)]
    return [
        {
            key: value if key == "step" else sum(row.get(key, value) for row in group) / len(group)
            for key, value in group[0].items()
            if key != "rollout/number"
        }
        for group in groups
    ]


def watched(rows: Sequence[Row], plan: Plan | None) -> list[str]:
    """The metrics that are drawn first: those that the run shows beside its bar."""
    known = {key for row in rows[:1] for key in row}
    named = [name for name in (plan.shown if plan else {}) if name in known]
    return named or [name for name in known if name.startswith(("rollout/reward", "train/loss"))]


def duration(seconds: float | None) -> str:
    """``47 s``, ``3 min 20 s``, ``2 h 5 min``; a dash for what is not known."""
    if seconds is None:
        return "\N{EN DASH}"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def when(time_: datetime) -> str:
    """A moment for reading, in UTC."""
    return time_.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
