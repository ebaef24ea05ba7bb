import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from heedful.config import DemoConfig
from heedful.errors import ConfigError
from heedful.jobs import demo
from heedful.jobs.demo import run_demo
from heedful.monitor.report import read_report_data
from heedful.store import annotations, open_store
from heedful.store.tracing import trace


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    out = tmp_path_factory.mktemp("demo") / "out"
    said: list[str] = []
    config = DemoConfig(model="test", budget="small")
    return out, run_demo(config, out, say=said.append), said


def test_demo_returns_what_it_promises(finished: tuple[Path, dict[str, Any], list[str]]) -> None:
    _, result, _ = finished
    for key in ("win_rate", "win_rate_ci", "kl", "length_ratio", "reward_accuracy",
                "reward_accuracy_ci", "report", "seconds"):  # fmt: skip
        assert key in result
    low, high = result["win_rate_ci"]
    assert low <= result["win_rate"] <= high
    json.dumps(result)


def test_demo_says_that_its_annotators_are_simulated(
    finished: tuple[Path, dict[str, Any], list[str]],
) -> None:
    out, _, said = finished
    assert any("SIMULATED" in line for line in said)
    assert "annotators of this run are simulated" in (out / "report.html").read_text()
    with open_store(out / "heedful.db") as store, store.read() as tx:
        by_task = annotations.latest_by_dataset(tx, "demo")
    rows = [row for group in by_task.values() for row in group]
    assert rows
    assert all(r.source == "simulated" and r.annotator.startswith("simulated:") for r in rows)


def test_frozen_policy_wins_half_within_its_interval(
    finished: tuple[Path, dict[str, Any], list[str]],
) -> None:
    low, high = finished[1]["control_win_rate_ci"]
    assert low <= 0.5 <= high


def test_report_carries_the_data_of_its_figures(
    finished: tuple[Path, dict[str, Any], list[str]],
) -> None:
    out, result, _ = finished
    data = read_report_data(out / "report.html")
    win = data["Gold win rate against the start policy"][0]
    assert win["value"] == result["win_rate"]
    assert len(data["PPO"]) == demo.BUDGETS["small"].num_rollouts


def test_policy_traces_back_to_simulated_annotations(
    finished: tuple[Path, dict[str, Any], list[str]],
) -> None:
    out, result, _ = finished
    with open_store(out / "heedful.db") as store:
        text = trace(store, result["policy"]).render()
    assert result["reward_model"] in text
    assert "simulated:kind" in text


def test_finished_demo_shows_its_result_again_without_work(
    finished: tuple[Path, dict[str, Any], list[str]],
) -> None:
    out, result, _ = finished
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    again = run_demo(DemoConfig(model="test", budget="small"), out, say=lambda _: None)
    assert again == result
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before


def test_demo_with_another_seed_in_the_same_directory_is_refused(
    finished: tuple[Path, dict[str, Any], list[str]],
) -> None:
    with pytest.raises(ConfigError, match="seed = 0, this one has 1"):
        run_demo(DemoConfig(model="test", budget="small", seed=1), finished[0], say=print)


class StoppedError(Exception):
    pass


def stop_at(stage: str, patch: pytest.MonkeyPatch, *, after: int) -> None:
    """Let the demo end when a stage is entered after some times."""
    original, calls = getattr(demo, stage), count()

    def stopped(*args: Any, **kwargs: Any) -> Any:
        if next(calls) >= after:
            raise StoppedError
        return original(*args, **kwargs)

    patch.setattr(demo, stage, stopped)


def test_demo_interrupted_at_every_stage_ends_like_an_unbroken_one(
    finished: tuple[Path, dict[str, Any], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = DemoConfig(model="test", budget="small")
    # each run begins where the one before it was stopped, with nothing but what is on the disk
    for stage in ("compare_chunk", "fit_reward", "fit_ppo", "evaluate", "summary"):
        with monkeypatch.context() as patch:
            stop_at(stage, patch, after=1 if stage == "compare_chunk" else 0)
            with pytest.raises(StoppedError):
                run_demo(config, tmp_path / "out", say=lambda _: None)
    result = run_demo(config, tmp_path / "out", say=lambda _: None)
    varying = ("seconds", "stages", "report", "peak_memory_gb")
    assert {k: v for k, v in result.items() if k not in varying} == {
        k: v for k, v in finished[1].items() if k not in varying
    }
