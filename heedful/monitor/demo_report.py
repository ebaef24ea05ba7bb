"""The demo's report: what was asked, what came of it, and whether to believe it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heedful.monitor import charts
from heedful.monitor.alarms import findings
from heedful.monitor.report import (
    Chain,
    Code,
    Comparison,
    Figure,
    Note,
    Report,
    Section,
    Stat,
    Table,
)
from heedful.stats.calibration import reliability_bins
from heedful.stats.intervals import wilson

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoData:
    """Everything the report shows. Made by the demo, used by ``demo_report`` alone."""

    gold: str
    gold_statement: str
    noise: float
    model: str
    seed: int
    settings: Json
    environment: Mapping[str, str]
    label_counts: Mapping[str, int]
    reward: Json
    reward_curve: Sequence[Json]
    ppo_curve: Sequence[Json]
    evaluation: Json
    gold_parts: Mapping[str, Mapping[str, float]]
    samples: Sequence[Json]
    lengths: Mapping[str, Sequence[int]]
    lineage: Sequence[tuple[str, str]]
    timings: Mapping[str, float]
    seconds: float
    peak_memory_gb: float
    next_commands: Sequence[str]


def demo_report(data: DemoData) -> Report:
    """The page as records."""
    return Report(
        title=f"Preferences in, a better policy out: {data.gold}",
        subtitle=f"{data.model}, seed {data.seed}. Gold preference: {data.gold_statement}",
        notice=(
            "The annotators of this run are simulated. They follow the gold preference above and "
            f"flip {100 * data.noise:.0f} % of their answers; every record names them as simulated."
        ),
        headline=headline(data),
        sections=(
            outcome(data),
            Section(
                title="Before and after",
                text="The first held-out prompts in the order of their content hash; none is "
                "picked. Answers are cut at the length limit of the run.",
                blocks=(Comparison(rows=data.samples),),
            ),
            optimisation(data),
            reward_section(data),
            writing(data),
            lineage_section(data),
        ),
    )


def percent(value: float) -> str:
    """One decimal and the sign."""
    return f"{100 * value:.1f} %"


def between(interval: Sequence[float]) -> str:
    """A 95 % interval in words."""
    return f"95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def headline(data: DemoData) -> tuple[Stat, ...]:
    """The numbers that answer whether it worked."""
    result, reward = data.evaluation, data.reward
    won = result["win_rate_ci"][0] > 0.5
    return (
        Stat(
            label="gold win rate",
            value=percent(result["win_rate"]),
            detail=f"against the start policy; {between(result['win_rate_ci'])}",
            tone="good" if won else "plain",
        ),
        Stat(
            label="reward accuracy",
            value=percent(reward["accuracy"]),
            detail=f"{between(reward['accuracy_ci'])}; ceiling {percent(reward['ceiling'])}; "
            f"ECE {reward['ece']:.3f}",
        ),
        Stat(
            label="KL to the start",
            value=f"{result['kl']:.2f} nats",
            detail=f"per answer; 95 % interval {result['kl_ci'][0]:.2f} to "
            f"{result['kl_ci'][1]:.2f}",
        ),
        Stat(
            label="length ratio",
            value=f"{result['length_ratio']:.2f}",
            detail=f"{result['arms']['start']['tokens']:.0f} to "
            f"{result['arms']['policy']['tokens']:.0f} tokens",
        ),
        Stat(
            label="cost",
            value=f"{data.seconds / 60:.1f} min",
            detail=f"{data.peak_memory_gb:.1f} GB at the peak",
        ),
    )


ARMS = {
    "policy": "PPO policy",
    "best_of_n": "best of n by the reward model",
    "control": "control: start policy again",
}


def outcome(data: DemoData) -> Section:
    """Win rates of every arm, and the alarms."""
    arms = data.evaluation["arms"]
    rows = [
        {
            "name": title,
            "value": arms[name]["win_rate"],
            "low": arms[name]["win_rate_ci"][0],
            "high": arms[name]["win_rate_ci"][1],
            "wins": arms[name]["wins"],
            "ties": arms[name]["ties"],
            "losses": arms[name]["losses"],
        }
        for name, title in ARMS.items()
    ]
    notes = [Note(finding=f) for f in findings(data.ppo_curve, data.evaluation)]
    return Section(
        title="Did it work?",
        text=f"{data.evaluation['num_prompts']} held-out prompts; the gold judges two answers "
        "blind, in random order. The control pits the start policy against itself and must cover "
        "one half.",
        blocks=(
            *notes,
            Figure(
                title="Gold win rate against the start policy",
                caption="Points with 95 % intervals; the dashed line is chance.",
                chart=charts.intervals(rows, reference=0.5, title="win rate"),
                rows=rows,
            ),
        ),
    )


CURVES = (
    ("reward", "proxy reward"),
    ("gold", "gold reward"),
    ("kl_nats", "KL to the start, nats per answer"),
    ("kl_coef", "KL coefficient"),
    ("response_tokens", "answer length, tokens"),
    ("entropy_nats", "entropy, nats per token"),
    ("explained_variance", "critic: explained variance"),
    ("clip_share", "share of tokens clipped"),
    ("value_loss", "value loss"),
)


def optimisation(data: DemoData) -> Section:
    """PPO's curves, and gold against proxy."""
    points = [
        {
            "method": "PPO",
            "sqrt_kl": float(max(row["kl_nats"], 0.0) ** 0.5),
            "gold": row["gold"],
            "proxy": row["reward"],
        }
        for row in data.ppo_curve
    ]
    arms = data.evaluation["arms"]
    for name, method in (("best_of_n", "best of n"), ("start", "start")):
        kl = arms[name]["kl"] if name != "start" else 0.0
        points.append(
            {
                "method": method,
                "sqrt_kl": float(kl**0.5),
                "gold": arms[name]["gold"],
                "proxy": arms[name]["proxy"],
            }
        )
    curve = [{key: row[key] for key, _ in CURVES} | {"rollout": row["rollout"]}
             for row in data.ppo_curve]  # fmt: skip
    return Section(
        title="Optimisation",
        text="One point per rollout. The proxy is the learned reward, normalised to mean 0 and "
        "deviation 1 on answers of the start policy; the gold is what the simulated people prefer.",
        blocks=(
            Figure(
                title="PPO",
                caption="Proxy and gold reward, distance moved, length, entropy and critic.",
                chart=charts.curves(curve, "rollout", CURVES),
                rows=curve,
            ),
            Figure(
                title="Gold and proxy against the distance moved",
                caption="A proxy that rises where the gold falls is over-optimisation. Best of n "
                "stands at its bound on KL, log n - (n - 1)/n.",
                chart=charts.gold_and_proxy(points),
                rows=points,
            ),
        ),
    )


def reward_section(data: DemoData) -> Section:
    """Training curve, calibration, and the ceiling."""
    reward = data.reward
    ceiling = [
        {
            "name": "reward model, held-out pairs",
            "value": reward["accuracy"],
            "low": reward["accuracy_ci"][0],
            "high": reward["accuracy_ci"][1],
        },
        {
            "name": "ceiling set by label noise",
            "value": reward["ceiling"],
            "low": reward["ceiling"],
            "high": reward["ceiling"],
        },
    ]
    calibration = calibration_rows(reward["deltas"])
    curve = [
        {
            "step": row["step"],
            "loss": row["reward/loss_nats"],
            "accuracy": row["reward/accuracy_rate"],
        }
        for row in data.reward_curve
    ]
    return Section(
        title="Reward model",
        text=f"Bradley-Terry on {reward['num_train']} comparisons, measured on "
        f"{reward['num_held_out']} of other prompts. Labels: "
        + ", ".join(f"{count} {name}" for name, count in data.label_counts.items())
        + ".",
        blocks=(
            Figure(
                title="Accuracy against its ceiling",
                caption="Labels are flipped at the stated rate, so no model can do better.",
                chart=charts.intervals(ceiling, reference=0.5, title="accuracy"),
                rows=ceiling,
            ),
            Figure(
                title="Training of the reward model",
                caption="Loss in nats per pair and accuracy, per optimiser step.",
                chart=charts.curves(
                    curve, "step", (("loss", "loss"), ("accuracy", "accuracy")), columns=2
                ),
                rows=curve,
            ),
            Figure(
                title="Calibration",
                caption="Accuracy by confidence with 95 % intervals; the diagonal is perfect.",
                chart=charts.reliability(calibration),
                rows=calibration,
            ),
        ),
    )


def calibration_rows(deltas: Sequence[float]) -> list[Json]:
    """Reliability bins of score differences, chosen minus rejected."""
    probabilities = 1 / (1 + np.exp(-np.asarray(deltas, dtype=float)))
    bins = reliability_bins(probabilities, np.ones(len(probabilities)), num_bins=8)
    rows = []
    for confidence, accuracy, num in zip(bins.confidence, bins.accuracy, bins.num, strict=True):
        interval = wilson(float(accuracy * num), int(num))
        rows.append(
            {
                "confidence": float(confidence),
                "accuracy": float(accuracy),
                "low": float(interval.low),
                "high": float(interval.high),
                "pairs": int(num),
            }
        )
    return rows


def writing(data: DemoData) -> Section:
    """How the answers changed: parts of the gold, length, diversity."""
    lengths = [{"arm": arm, "words": n} for arm, ns in data.lengths.items() for n in ns]
    arms = data.evaluation["arms"]
    names = ("start", "policy", "best_of_n")
    fields = ("gold", "proxy", "tokens", "finished_rate", "distinct_1", "distinct_2", "unique_rate")
    parts = data.gold_parts
    return Section(
        title="How the answers changed",
        blocks=(
            Table(
                title="Parts of the gold, mean over held-out prompts",
                columns=("part", "start", "policy"),
                rows=[
                    (name, float(parts["start"][name]), float(parts["policy"][name]))
                    for name in parts["start"]
                ],
            ),
            Table(
                title="Length and diversity",
                columns=("measure", *names),
                rows=[(field, *(arms[name].get(field) for name in names)) for field in fields],
            ),
            Figure(
                title="Answer length in words",
                caption="Distribution over held-out prompts, start and policy.",
                chart=charts.histogram(lengths, "words", "words"),
                rows=lengths,
            ),
        ),
    )


def lineage_section(data: DemoData) -> Section:
    """Where everything came from, with what settings, at what cost, and what to do next."""
    return Section(
        title="Lineage and settings",
        text="heedful trace ID follows any of these records down to the single answers.",
        blocks=(
            Chain(items=data.lineage),
            Table(
                title="Seconds per stage",
                columns=("stage", "seconds"),
                rows=[(name, float(value)) for name, value in data.timings.items()],
            ),
            Table(
                title="Environment", columns=("what", "value"), rows=list(data.environment.items())
            ),
            Table(title="Settings", columns=("key", "value"), rows=list(data.settings.items())),
            Code(text="\n".join(data.next_commands)),
        ),
    )
