"""Alarms on a training curve and an evaluation: pure rules, each with a cause and a remedy."""

from collections.abc import Mapping, Sequence
from typing import Any

from heedful.types import Finding

Row = Mapping[str, Any]


def findings(curve: Sequence[Row], evaluation: Mapping[str, Any]) -> list[Finding]:
    """What a careful reader would notice; empty when nothing is odd."""
    found = [*on_curve(curve), *on_evaluation(evaluation)]
    return found or [
        Finding(
            rule="none",
            level="info",
            value=0.0,
            cause="No alarm: KL, entropy, length, diversity and gold are within their bounds.",
            remedy="",
        )
    ]


def on_curve(curve: Sequence[Row]) -> list[Finding]:
    """Entropy collapse, heavy clipping, and a proxy that rises while the gold falls."""
    if len(curve) < 4:
        return []
    found = []
    first, last = curve[0], curve[-1]
    if last["entropy_nats"] < 0.5 * first["entropy_nats"]:
        found.append(
            _warning(
                "entropy_collapse",
                last["entropy_nats"],
                f"Entropy was {first['entropy_nats']:.2f} nats, now {last['entropy_nats']:.2f}.",
                "Raise kl.coef or lower the learning rate.",
            )
        )
    clipped = max(row["clip_share"] for row in curve)
    if clipped > 0.3:
        found.append(
            _warning(
                "heavy_clipping",
                clipped,
                f"Up to {100 * clipped:.0f} % of the tokens were clipped.",
                "Lower the learning rate or ppo.epochs.",
            )
        )
    gains = {name: _half_gain(curve, name) for name in ("reward", "gold")}
    if gains["reward"] > 0.1 and gains["gold"] < -0.02:
        found.append(
            _warning(
                "over_optimisation",
                gains["gold"],
                "The proxy reward rose while the gold reward fell.",
                "Stop earlier, raise kl.coef or collect more preferences.",
            )
        )
    return found


def _half_gain(curve: Sequence[Row], name: str) -> float:
    """Mean of the second half minus mean of the first."""
    middle = len(curve) // 2
    halves = [[float(row[name]) for row in part] for part in (curve[:middle], curve[middle:])]
    return sum(halves[1]) / len(halves[1]) - sum(halves[0]) / len(halves[0])


def on_evaluation(evaluation: Mapping[str, Any]) -> list[Finding]:
    """Length drift, collapsed diversity, and a control that does not cover one half."""
    found = []
    arms = evaluation["arms"]
    ratio = evaluation["length_ratio"]
    if not 0.5 <= ratio <= 2.0:
        found.append(
            _warning(
                "length_drift",
                ratio,
                f"Answers are {ratio:.2f} times as long as before.",
                "Read the samples: is length what was asked for?",
            )
        )
    before, after = arms["start"]["distinct_2"], arms["policy"]["distinct_2"]
    if after < 0.5 * before:
        found.append(
            _warning(
                "collapsed_diversity",
                after,
                f"Distinct-2 fell from {before:.2f} to {after:.2f}.",
                "Raise kl.coef or stop earlier.",
            )
        )
    low, high = arms["control"]["win_rate_ci"]
    if not low <= 0.5 <= high:
        found.append(
            _warning(
                "control_off_half",
                arms["control"]["win_rate"],
                f"The start policy against itself wins {100 * arms['control']['win_rate']:.0f} %, "
                "an interval that misses one half; by chance this happens once in twenty runs.",
                "Repeat the evaluation with more prompts before believing the win rate.",
            )
        )
    return found


def _warning(rule: str, value: float, cause: str, remedy: str) -> Finding:
    return Finding(rule=rule, level="warning", value=float(value), cause=cause, remedy=remedy)
