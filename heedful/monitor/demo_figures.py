"""The figures of the demo's report: rows, charts, and what they show in words."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from heedful.monitor import charts
from heedful.monitor.charts import between, number, percent
from heedful.monitor.records import Figure, Width
from heedful.stats.calibration import ece_floor, reliability_bins
from heedful.stats.intervals import wilson

Json = dict[str, Any]
ARMS = {
    "policy": "PPO policy",
    "best_of_n": "best of n by reward",
    "control": "control: start policy again",
}
CURVES = (
    ("reward", "proxy reward"),
    ("gold", "gold reward"),
    ("kl_nats", "KL to the start, nats per answer"),
    ("kl_coef", "KL coefficient"),
    ("response_tokens", "answer length, tokens"),
    ("finished_rate", "share that ended by itself"),
    ("entropy_nats", "entropy, nats per token"),
    ("explained_variance", "critic: variance explained"),
    ("clip_share", "share of tokens clipped"),
    ("clipped_loss", "policy loss, clipped"),
    ("value_loss", "value loss"),
    ("grad_norm", "gradient norm"),
)


def win_rates(evaluation: Json, judge: str = "Gold") -> Figure:
    """Win rates of every arm against the start policy."""
    arms = evaluation["arms"]
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
        if name in arms
    ]
    return Figure(
        title=f"{judge} win rate against the start policy",
        caption="Points with 95 % intervals; a tie counts one half. The dashed line is chance.",
        panels=[partial(charts.intervals, rows, title="win rate", marks={"chance": 0.5})],
        rows=rows,
        words=shares_in_words(rows),
        width="half",
        pictured=(0,),
    )


def shares_in_words(rows: Sequence[Json]) -> str:
    """Each share with its interval."""
    return (
        "; ".join(
            f"{row['name']}: {percent(row['value'])}"
            + (f", {between(row['low'], row['high'])}" if row["high"] > row["low"] else "")
            for row in rows
        )
        + "."
    )


def parts(gold_parts: Mapping[str, Mapping[str, float]]) -> Figure:
    """What the gold is made of, before and after."""
    before, after = gold_parts["start"], gold_parts["policy"]
    rows: list[Json] = [
        {"name": name, "before": float(before[name]), "after": float(after[name])}
        for name in before
    ]
    words = "; ".join(
        f"{row['name']} from {number(row['before'])} to {number(row['after'])}" for row in rows
    )
    return Figure(
        title="What the gold saw",
        caption="Parts of the gold preference, mean over held-out prompts: hollow before, "
        "full after.",
        panels=[partial(charts.changes, rows, title="mean score of the part")],
        rows=rows,
        words=f"{words}.",
        width="half",
    )


def ppo(curve: Sequence[Json], settings: Json) -> Figure:
    """PPO as small multiples."""
    known = [(name, title) for name, title in CURVES if any(name in row for row in curve)]
    names = ["rollout", *(name for name, _ in known)]
    rows = [{name: row.get(name) for name in names} for row in curve]
    target, limit = settings.get("policy.kl.target"), settings.get("policy.kl.limit")
    marks = {
        f"{word} {value:g}": float(value)
        for word, value in (("target", target), ("limit", limit))
        if value
    }
    panels = [
        partial(
            charts.curve, rows, "rollout", name, title, marks=marks if name == "kl_nats" else None
        )
        for name, title in known
    ]
    caption = (
        "One point per rollout, means over its steps. Bold: centred moving average; above "
        "each panel, where it starts and ends."
    )
    if marks:
        caption += f" KL has {' and '.join(marks)} nats."
    pictured = [i for i, (name, _) in enumerate(known) if name in ("reward", "kl_nats")]
    return Figure(title="PPO", caption=caption, panels=panels, rows=rows, pictured=pictured)


def distance(curve: Sequence[Json], arms: Mapping[str, Json], best_of_n: Sequence[Json]) -> Figure:
    """Gold and proxy against the square root of KL."""
    rows = [
        _point("PPO", row["kl_nats"], row["gold"], row["reward"], rollout=row["rollout"])
        for row in curve
    ]
    if best_of_n:
        rows += [
            _point("best of n", row["kl"], row["gold"], row["proxy"], n=row["n"])
            for row in best_of_n
        ]
    elif "best_of_n" in arms:
        arm = arms["best_of_n"]
        rows.append(_point("best of n", arm["kl"], arm["gold"], arm["proxy"]))
    start = arms["start"]
    rows.append(_point("start", 0.0, start["gold"], start["proxy"]))
    return Figure(
        title="Gold and proxy against the distance moved",
        caption="Where the proxy keeps rising and the gold turns, the reward model is being "
        "exploited. Lines join moving averages in the order of training; best of n stands at its "
        "bound on KL, log n \N{MINUS SIGN} (n \N{MINUS SIGN} 1)/n. PPO is measured on the prompts "
        "it trains on, the others on held-out ones.",
        panels=[
            partial(charts.against_distance, rows, "gold", "gold reward by distance moved"),
            partial(charts.against_distance, rows, "proxy", "proxy reward by distance moved"),
        ],
        rows=rows,
        pictured=(0, 1),
    )


def _point(method: str, kl: float, gold: float, proxy: float, **more: int) -> Json:
    # a KL estimated from few samples may fall below 0, where it has no root
    root = float(max(kl, 0.0) ** 0.5)
    return {"method": method, "sqrt_kl": root, "gold": gold, "proxy": proxy, **more}


def ceiling(reward: Json) -> Figure:
    """Accuracy beside the ceiling that label noise sets."""
    low, high = reward["accuracy_ci"]
    row = {"name": "reward model", "value": reward["accuracy"], "low": low,
           "high": high, "ceiling": float(reward["ceiling"])}  # fmt: skip
    return Figure(
        title="Accuracy against its ceiling",
        caption="Share of held-out labels that the reward model agrees with. Labels are flipped "
        "at the stated rate, so no model can be expected above the ceiling.",
        panels=[
            partial(
                charts.intervals,
                [row],
                title="accuracy",
                marks={"chance": 0.5, "ceiling": row["ceiling"]},
            )
        ],
        rows=[row],
        words=f"{shares_in_words([row])} The ceiling is {percent(row['ceiling'])}.",
        width="half",
    )


def reward_training(curve: Sequence[Json]) -> Figure:
    """Loss and accuracy over the steps of the reward model."""
    rows = [
        {
            "step": row["step"],
            "loss": row["reward/loss_nats"],
            "accuracy": row["reward/accuracy_rate"],
        }
        for row in curve
    ]
    return Figure(
        title="Training of the reward model",
        caption="Loss in nats per pair and accuracy on the pairs of each step, before the step "
        "learned from them. Bold: centred moving average.",
        panels=[
            partial(
                charts.curve, rows, "step", "loss", "loss, nats per pair", marks={"chance": 0.6931}
            ),
            partial(charts.curve, rows, "step", "accuracy", "accuracy", marks={"chance": 0.5}),
        ],
        rows=rows,
    )


def calibration(metrics: Mapping[str, Any], seed: int, *, width: Width = "full") -> Figure:
    """Confidence against accuracy, with the error that chance alone would show."""
    deltas = metrics["deltas"]
    rows = calibration_rows(deltas)
    probabilities = 1 / (1 + np.exp(-np.asarray(deltas, dtype=float)))
    floor = ece_floor(probabilities, rng=np.random.default_rng(seed))
    found = f"ECE {metrics['ece']:.3f}; " if metrics.get("ece") is not None else ""
    best = metrics.get("temperature")
    scaled = f" Scores divided by {number(best)} would be calibrated best." if best else ""
    return Figure(
        title="Calibration",
        caption=f"How often the reward model is right, by how sure it is, with 95 % intervals; "
        f"the diagonal is perfect. {found}a perfect model would show {floor:.3f} on so few pairs."
        f"{scaled}",
        panels=[partial(charts.reliability, rows)],
        rows=rows,
        width=width,
        pictured=(0,),
    )


def calibration_rows(deltas: ArrayLike) -> list[Json]:
    """Reliability bins of score differences, chosen minus rejected: those of the ECE."""
    probabilities = 1 / (1 + np.exp(-np.asarray(deltas, dtype=float)))
    bins = reliability_bins(probabilities, np.ones(len(probabilities)))
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


def lengths(words: Mapping[str, Sequence[int]]) -> Figure:
    """Answer lengths before and after."""
    rows = [{"arm": arm, "words": n} for arm, counts in words.items() for n in counts]
    middle = "; ".join(
        f"{arm}: median {np.median(counts):g} words, from {min(counts)} to {max(counts)}"
        for arm, counts in words.items()
    )
    return Figure(
        title="Answer length in words",
        caption="Answers to held-out prompts, the start policy as an outline, the new one filled.",
        panels=[partial(charts.histogram, words, title="words", unit="answers")],
        rows=rows,
        words=f"{middle}.",
        width="half",
    )


def stages(timings: Mapping[str, float]) -> Figure:
    """Where the time went."""
    rows = [{"name": name, "value": float(value)} for name, value in timings.items()]
    return Figure(
        title="Where the time went",
        caption="Seconds of wall time per stage, over all interruptions.",
        panels=[partial(charts.bars, rows, title="seconds", unit="s")],
        rows=rows,
        words="; ".join(f"{row['name']}: {row['value']:.1f} seconds" for row in rows) + ".",
        width="half",
    )
