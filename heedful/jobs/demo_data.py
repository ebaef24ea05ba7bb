"""The demo's results as the record that its report is drawn from."""

import platform
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

import heedful
from heedful.annotators.golds import Gold, resolve_gold
from heedful.annotators.simulated import label_ceiling
from heedful.config import DemoConfig
from heedful.jobs.fit import FitResult
from heedful.jobs.rundir import RunDirectory
from heedful.monitor.demo_report import DemoData, demo_report
from heedful.monitor.human_report import human_report
from heedful.monitor.profile import PREFIX
from heedful.monitor.report import write_report
from heedful.store.database import Store
from heedful.types import JSON

NUM_SAMPLES = 12


def write_demo_report(
    config: DemoConfig,
    out: Path,
    result: dict[str, JSON],
    reward: FitResult,
    evaluation: dict[str, Any],
    store: Store,
) -> None:
    """``report.html`` in the demo's directory, of simulated annotators with their gold."""
    gold = resolve_gold(config.gold)
    answers = by_arm(evaluation["samples"])
    with_gold(evaluation, answers, gold)
    data = DemoData(
        gold=gold.name,
        gold_statement=gold.statement,
        noise=config.noise,
        reward=reward.metrics | {"ceiling": label_ceiling(config.noise)},
        ppo_curve=ppo_curve(out / "policy", gold),
        evaluation={k: v for k, v in evaluation.items() if k != "samples"},
        gold_parts={arm: mean_parts(gold, answers[arm]) for arm in ("start", "policy")},
        samples=sample_table(answers, lambda row: gold.score(row["prompt"], row["text"])),
        **shared(config, out, result, answers, store),
    )
    write_report(demo_report(data), out / "report.html")


def write_human_report(
    config: DemoConfig,
    out: Path,
    result: dict[str, JSON],
    reward: FitResult,
    evaluation: dict[str, Any],
    store: Store,
) -> None:
    """``report.html`` in the demo's directory, of people who stated no gold."""
    answers = by_arm(evaluation["samples"])
    data = DemoData(
        reward=reward.metrics,
        ppo_curve=ppo_curve(out / "policy", None),
        evaluation={k: v for k, v in evaluation.items() if k != "samples"},
        samples=sample_table(answers, itemgetter("proxy")),
        **shared(config, out, result, answers, store),
    )
    write_report(human_report(data), out / "report.html")


def shared(
    config: DemoConfig,
    out: Path,
    result: dict[str, JSON],
    answers: dict[str, list[dict[str, Any]]],
    store: Store,
) -> dict[str, Any]:
    """What both reports show."""
    from heedful.jobs.demo import next_commands

    return {
        "model": config.model,
        "seed": config.seed,
        "settings": settings_of(out),
        "environment": environment(),
        "label_counts": result["labels"],
        "reward_curve": metrics_of(out / "reward"),
        "lengths": {arm: lengths(answers[arm]) for arm in ("start", "policy")},
        "lineage": lineage(store, result),
        "timings": result["stages"],
        "seconds": sum(result["stages"].values()),
        "peak_memory_gb": result["peak_memory_gb"],
        "next_commands": next_commands(result),
    }


def by_arm(samples: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Answers of the evaluation by arm, in the order of the prompts."""
    arms: dict[str, list[dict[str, Any]]] = {}
    for sample in samples:
        arms.setdefault(sample["arm"], []).append(sample)
    return arms


def with_gold(
    evaluation: dict[str, Any], answers: dict[str, list[dict[str, Any]]], gold: Gold
) -> None:
    """Add every arm's mean gold score to the evaluation."""
    answers = answers | {"control": answers["start_1"]}
    for arm, values in evaluation["arms"].items():
        values["gold"] = float(
            np.mean([gold.score(row["prompt"], row["text"]) for row in answers[arm]])
        )


def mean_parts(gold: Gold, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean of every part of the gold over an arm."""
    parts = [gold.parts(row["prompt"], row["text"]) for row in rows]
    return {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}


def sample_table(
    answers: dict[str, list[dict[str, Any]]], score: Callable[[dict[str, Any]], float]
) -> list[dict[str, Any]]:
    """The first held-out prompts in file order, before and after, scored; nothing is picked."""
    pairs = list(zip(answers["start"], answers["policy"], strict=True))[:NUM_SAMPLES]
    return [
        {
            "prompt": before["prompt"],
            "before": before["text"],
            "after": after["text"],
            "score_before": score(before),
            "score_after": score(after),
        }
        for before, after in pairs
    ]


def lengths(rows: Sequence[dict[str, Any]]) -> list[int]:
    """Answer lengths in words."""
    return [len(row["text"].split()) for row in rows]


def metrics_of(path: Path) -> list[dict[str, Any]]:
    """The metrics rows of a run directory."""
    return RunDirectory.read_metrics(path)


def ppo_curve(path: Path, gold: Gold | None) -> list[dict[str, Any]]:
    """One row per rollout: means over its optimiser steps, and the gold of its answers."""
    scores: dict[int, list[float]] = {}
    if gold is not None:
        for row in RunDirectory.read_rollouts(path):
            scores.setdefault(row["rollout"], []).append(gold.score(row["prompt"], row["response"]))
    steps: dict[int, list[dict[str, float]]] = {}
    for row in metrics_of(path):
        short = {
            name.rpartition("/")[2]: value
            for name, value in row.items()
            if not name.startswith(PREFIX)
        }
        steps.setdefault(int(row["rollout/number"]), []).append(short)
    return [
        {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        | {"rollout": number}
        | ({"gold": float(np.mean(scores[number]))} if gold else {})
        for number, rows in steps.items()
    ]


def settings_of(out: Path) -> dict[str, Any]:
    """The resolved settings of the stages, dotted."""
    import json

    settings: dict[str, Any] = {}
    for stage in ("reward", "policy", "evaluation"):
        config = json.loads((out / stage / "config.json").read_text())["config"]
        for key, value in config.items():
            inner = value if isinstance(value, dict) else {"": value}
            for name, leaf in inner.items():
                settings[".".join(part for part in (stage, key, name) if part)] = leaf
    return settings


def environment() -> dict[str, str]:
    """Machine and versions."""
    import torch
    import transformers

    return {
        "heedful": heedful.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": f"{platform.system()} {platform.machine()}, threads: {torch.get_num_threads()}",
        "matrix kernels": torch.backends.cpu.get_cpu_capability(),
    }


def lineage(store: Store, result: dict[str, JSON]) -> list[tuple[str, str]]:
    """The chain from data to policy as (label, id)."""
    from heedful.store import models as model_table

    with store.read() as tx:
        policy = model_table.get(tx, result["policy"])
        reward = model_table.get(tx, result["reward_model"])
    base = next(parent for parent in reward.parents)
    return [
        ("base model", base),
        ("preference snapshot", reward.snapshot or ""),
        ("reward model", reward.id),
        ("prompt snapshot", policy.snapshot or ""),
        ("policy", policy.id),
    ]
