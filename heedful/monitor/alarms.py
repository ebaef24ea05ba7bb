"""Alarms on a training curve and an evaluation: pure rules, each with a cause and a remedy.

A row of a curve may hold ``reward`` (the proxy), ``gold``, ``kl_nats`` (per answer),
``entropy_nats`` (per token), ``response_tokens``, ``clip_share``, ``equal_groups_share`` and
``distinct_2``; a rule whose quantities are missing stays silent. First and last are means over a
fifth of the rows, at most five, so that one noisy row raises nothing.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from heedful.types import Finding

Row = Mapping[str, Any]
KL_LIMIT = 40.0  # nats per answer; the default of kl.limit
ENTROPY_SHARE = 0.5
LENGTH_RATIOS = (0.5, 2.0)
CLIP_SHARE = 0.3
EQUAL_GROUPS_SHARE = 0.5
DIVERSITY_SHARE = 0.5
TURN_ERRORS = 2.5  # standard errors between the best and the last third of a curve


def findings(
    curve: Sequence[Row], evaluation: Mapping[str, Any] | None = None, *, kl_limit: float = KL_LIMIT
) -> list[Finding]:
    """What a careful reader would notice, one finding a rule; empty when nothing is odd.

    The evaluation comes first: what held-out prompts show is not said again about the curve.
    """
    found: dict[str, Finding] = {}
    for finding in [
        *(on_evaluation(evaluation, kl_limit=kl_limit) if evaluation else []),
        *on_curve(curve, kl_limit=kl_limit),
    ]:
        found.setdefault(finding.rule, finding)
    return list(found.values())


def on_curve(curve: Sequence[Row], *, kl_limit: float = KL_LIMIT) -> list[Finding]:
    """KL, entropy, length, clipping, groups, diversity, and a proxy that rises as gold falls."""
    found = [
        kl_above_limit(column(curve, "kl_nats"), kl_limit),
        entropy_collapse(column(curve, "entropy_nats")),
        length_drift(*ends(column(curve, "response_tokens"))),
        heavy_clipping(column(curve, "clip_share")),
        equal_groups(column(curve, "equal_groups_share")),
        collapsed_diversity(*ends(column(curve, "distinct_2"))),
        over_optimisation(column(curve, "reward"), column(curve, "gold")),
    ]
    return [finding for finding in found if finding]


def on_evaluation(evaluation: Mapping[str, Any], *, kl_limit: float = KL_LIMIT) -> list[Finding]:
    """KL, length drift, collapsed diversity, and a control that does not cover one half.

    Needs ``kl``, and ``arms`` with ``start``, ``policy`` (``tokens``, ``distinct_2``) and
    ``control`` (``win_rate``, ``win_rate_ci``).
    """
    arms = evaluation["arms"]
    start, policy, control = arms["start"], arms["policy"], arms["control"]
    found = [
        kl_above_limit([evaluation["kl"]], kl_limit),
        length_drift(start["tokens"], policy["tokens"]),
        collapsed_diversity(start["distinct_2"], policy["distinct_2"]),
        control_off_half(control["win_rate"], *control["win_rate_ci"]),
    ]
    return [finding for finding in found if finding]


def column(curve: Sequence[Row], name: str) -> list[float]:
    """The finite values of a quantity in order."""
    values = [float(row[name]) for row in curve if row.get(name) is not None]
    return [value for value in values if math.isfinite(value)]


def ends(values: Sequence[float]) -> tuple[float, float]:
    """Mean over the first and the last fifth of the values; NaN when there are fewer than 4."""
    if len(values) < 4:
        return math.nan, math.nan
    width = min(5, max(1, len(values) // 5))
    return mean(values[:width]), mean(values[-width:])


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def kl_above_limit(kl: Sequence[float], limit: float) -> Finding | None:
    """The policy went further from its start than was allowed."""
    if max(kl, default=0.0) <= limit:
        return None
    return _finding(
        "kl_above_limit",
        max(kl),
        f"KL to the start reached {max(kl):.1f} nats per answer; the limit is {limit:g}.",
        "Raise kl.coef, lower kl.target or the learning rate, and use an earlier checkpoint.",
        level="error",
    )


def entropy_collapse(entropy: Sequence[float]) -> Finding | None:
    """The policy became sure of everything."""
    first, last = ends(entropy)
    if not last < ENTROPY_SHARE * first:
        return None
    return _finding(
        "entropy_collapse",
        last,
        f"Entropy fell from {first:.2f} to {last:.2f} nats per token, to less than half.",
        "Raise kl.coef or lower the learning rate.",
    )


def length_drift(before: float, after: float) -> Finding | None:
    """Answers became much longer or much shorter."""
    low, high = LENGTH_RATIOS
    if math.isnan(before) or before <= 0 or low <= after / before <= high:
        return None
    return _finding(
        "length_drift",
        after / before,
        f"Answers are {after / before:.2f} times as long as at the start, outside {low:g} to "
        f"{high:g}.",
        "Read the samples: is length what was asked for?",
    )


def heavy_clipping(clip_share: Sequence[float]) -> Finding | None:
    """Updates so large that many tokens were clipped."""
    most = max(clip_share, default=0.0)
    if most <= CLIP_SHARE:
        return None
    return _finding(
        "heavy_clipping",
        most,
        f"Up to {100 * most:.0f} % of the tokens were clipped in a step; expected is below "
        f"{100 * CLIP_SHARE:.0f} %.",
        "Lower the learning rate or ppo.epochs.",
    )


def equal_groups(shares: Sequence[float]) -> Finding | None:
    """Groups whose answers all score the same teach nothing (Yu 2025, arXiv:2503.14476)."""
    if not shares or mean(shares) <= EQUAL_GROUPS_SHARE:
        return None
    return _finding(
        "equal_groups",
        mean(shares),
        f"In {100 * mean(shares):.0f} % of the groups all answers scored the same; these taught "
        "nothing.",
        "Use a finer reward, prompts of middling difficulty or more samples_per_prompt.",
    )


def collapsed_diversity(before: float, after: float) -> Finding | None:
    """Different prompts get the same words."""
    if not after < DIVERSITY_SHARE * before:
        return None
    return _finding(
        "collapsed_diversity",
        after,
        f"Distinct-2 fell from {before:.2f} to {after:.2f}, to less than half.",
        "Raise kl.coef or stop earlier.",
    )


def over_optimisation(proxy: Sequence[float], gold: Sequence[float]) -> Finding | None:
    """The proxy rose from gold's best third of the run to the last, while gold fell.

    Both by more than ``TURN_ERRORS`` standard errors of the difference of two means; needs 9 rows.
    """
    if len(gold) < 9 or len(proxy) != len(gold):
        return None
    width = len(gold) // 3
    first = max((0, width, len(gold) - width), key=lambda at: mean(gold[at : at + width]))
    fall = significance(gold[first : first + width], gold[-width:])
    rise = significance(proxy[first : first + width], proxy[-width:])
    if fall > -TURN_ERRORS or rise < TURN_ERRORS:
        return None
    before, after = mean(gold[first : first + width]), mean(gold[-width:])
    return _finding(
        "over_optimisation",
        after - before,
        f"Gold fell from {before:.3f} to {after:.3f} while the proxy reward kept rising.",
        "Use an earlier checkpoint, raise kl.coef or collect more preferences.",
    )


def significance(before: Sequence[float], after: Sequence[float]) -> float:
    """Change of the mean in standard errors (Welch); 0 for equal means without spread."""
    change = mean(after) - mean(before)
    error = math.sqrt(sum(_variance(part) / len(part) for part in (before, after)))
    if error == 0.0:
        return math.copysign(math.inf, change) if change else 0.0
    return change / error


def _variance(values: Sequence[float]) -> float:
    centre = mean(values)
    return sum((value - centre) ** 2 for value in values) / max(1, len(values) - 1)


def control_off_half(value: float, low: float, high: float) -> Finding | None:
    """The start policy against itself does not win one half."""
    if low <= 0.5 <= high:
        return None
    return _finding(
        "control_off_half",
        value,
        f"The start policy against itself wins {100 * value:.0f} %, an interval that misses one "
        "half; by chance this happens once in twenty runs.",
        "Repeat the evaluation with more prompts before believing the win rate.",
    )


def _finding(
    rule: str,
    value: float,
    cause: str,
    remedy: str,
    *,
    level: Literal["warning", "error"] = "warning",
) -> Finding:
    return Finding(rule=rule, level=level, value=float(value), cause=cause, remedy=remedy)
