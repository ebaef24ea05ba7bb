import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from heedful.errors import ConfigError, MissingError
from heedful.jobs.bench import WORKLOADS, Settings, run_bench, runner, side, too_slow
from heedful.jobs.bench.runner import SideError, one_process, peer_of
from heedful.jobs.bench.work import Job, make_job
from heedful.model.base import resolve

SETTINGS = Settings(
    workloads=("generate",),
    against=None,
    model="test",
    dtype="float32",
    rounds=1,
    steps=2,
    warmup=1,
    seed=0,
    data=None,
)


def job(workload: str, *, seed: int = 0, data: Path | None = None) -> Job:
    path, _ = resolve("test")
    made = make_job(
        WORKLOADS[workload],
        model=str(path),
        tokenizer=AutoTokenizer.from_pretrained(path),
        dtype="float32",
        adapter="lora",
        seed=seed,
        steps=2,
        warmup=1,
        data=data,
    )
    return replace(made, max_new_tokens=min(made.max_new_tokens, 6))


@pytest.mark.parametrize("workload", [name for name in WORKLOADS if name != "generate"])
def test_a_training_workload_gives_seconds_for_every_step(workload: str, tmp_path: Path) -> None:
    seconds, detail = side.train(job(workload), tmp_path)
    assert len(seconds) == 3
    assert all(second > 0 for second in seconds)
    phases = detail["phases"]
    assert phases["update"] > 0
    # the phases cover the steps: nothing expensive goes unnamed
    assert 0.5 * sum(seconds) < sum(phases.values()) <= 1.05 * sum(seconds)


def test_jobs_of_two_rounds_have_different_examples_and_one_round_the_same(tmp_path: Path) -> None:
    first, again, second = job("dpo"), job("dpo"), job("dpo", seed=1)
    assert first == again
    assert first.pairs != second.pairs
    assert len(first.pairs) == 3 * 8
    assert len({json.dumps(pair["prompt"]) for pair in first.pairs}) == 3 * 8
    path = tmp_path / "job.json"
    path.write_text(json.dumps(asdict(first)))
    assert Job.read(path) == first


def test_a_file_of_transcripts_is_what_both_sides_get(tmp_path: Path) -> None:
    rows = [
        {
            "chosen": f"\n\nHuman: How do I plant tree number {i}?\n\nAssistant: Dig a hole.",
            "rejected": f"\n\nHuman: How do I plant tree number {i}?\n\nAssistant: No idea.",
        }
        for i in range(60)
    ]
    file = tmp_path / "hh.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = job("reward", data=file)
    assert made.pairs[0]["prompt"][-1]["content"].startswith("How do I plant")
    assert made.pairs[0]["chosen"] == [{"role": "assistant", "content": "Dig a hole."}]
    assert len(job("ppo", data=file).prompts) == 3 * 16


def test_the_engine_and_generate_take_turns_in_processes_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = replace(WORKLOADS["generate"], count=16, max_new_tokens=4)
    monkeypatch.setattr(runner, "WORKLOADS", {"generate": small})
    said: list[str] = []
    result = run_bench(replace(SETTINGS, against="trl", steps=1), say=said.append)
    (row,) = result["rows"]
    assert row["ours"]["version"].startswith("heedful")
    assert row["peers"]["none"]["version"].startswith("transformers")
    assert row["speed_ratio"] == pytest.approx(
        row["peers"]["none"]["median_seconds"] / row["ours"]["median_seconds"]
    )
    assert "times as fast" in said[-1]
    json.dumps(result)


def test_a_side_that_fails_is_quoted() -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such luck')"]
    with pytest.raises(SideError, match="workload dpo: no such luck"):
        one_process(command, asdict(job("dpo")))


def test_comparisons_need_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runner, "PEERS", tmp_path)
    with pytest.raises(MissingError, match="need a source checkout"):
        runner.environment(peer_of("dpo"), print)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workloads": ("gpro",)}, "did you mean 'grpo'"),
        ({"against": "verl"}, "choose trl"),
    ],
)
def test_what_cannot_be_run_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_bench(replace(SETTINGS, **changes), say=print)


def test_limits_name_what_is_worse() -> None:
    rows = [
        {"workload": "dpo", "speed_ratio": 2.0, "ours": {"peak_gb": 3.5}},
        {"workload": "sft", "ours": {"peak_gb": 1.0}},
        {"workload": "ppo", "speed_ratio": 0.5, "ours": {"peak_gb": 9.0}},
    ]
    limits = {"dpo": {"speed_ratio": 3.0, "peak_gb": 3.0}, "sft": {"speed_ratio": 2.0}}
    worse = too_slow(rows, limits)
    assert worse == [
        "dpo is 2.00 times as fast as the peer, the limit is 3",
        "dpo takes 3.50 GB, the limit is 3",
    ]
