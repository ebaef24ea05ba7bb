"""Who among the annotators chooses by something else than the others do, judged by intervals."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heedful.jobs.reward_card.people import Background, pair_key
from heedful.monitor.reward_card import FEW_IN_SLICE
from heedful.monitor.reward_checks import Lean, Rule
from heedful.stats.intervals import Interval, share_by_cluster
from heedful.types import Preference

Array = NDArray[np.float64]
NOT_KNOWN = ""


def leanings(
    rows: Sequence[Preference], forms: Sequence[str], words: Array, background: Background
) -> list[Lean]:
    """Annotators who surely lean, in the order of their names.

    ``side``: they choose what they were shown first more or less often than half the time.
    ``length``: their share of longer answers is surely another than that of all the others.
    ``alone``: they agree with the majority of the others surely less often than the others do among
    themselves. Intervals are for as many looks as there are annotators (Bonferroni), take a
    prompt's pairs together, and must lie wholly apart; below 40 pairs nobody is named.
    """
    judges = [said.annotator if (said := background.of(row)) else NOT_KNOWN for row in rows]
    names = sorted(set(judges) - {NOT_KNOWN})
    judge, prompts = np.array(judges), np.array([row.prompt.id for row in rows])
    longer = np.where(words[:, 0] == words[:, 1], np.nan, words[:, 0] > words[:, 1])
    measures: dict[Rule, Array] = {
        "side": _shown_first(rows, background),
        "length": longer.astype(float),
        "alone": _with_others(rows, forms, judges),
    }
    found = []
    for name in names:
        for rule, points in measures.items():
            known = ~np.isnan(points)
            own, others = known & (judge == name), known & (judge != name)
            if own.sum() < FEW_IN_SLICE:
                continue
            confidence = 1 - 0.05 / len(names)
            mine = share_by_cluster(points[own], prompts[own], confidence=confidence)
            usual = None
            if rule != "side":
                if others.sum() < FEW_IN_SLICE:
                    continue
                usual = share_by_cluster(points[others], prompts[others], confidence=confidence)
            if _is_apart(rule, mine, usual):
                found.append(Lean(annotator=name, rule=rule, own=mine, usual=usual))
    return found


def _is_apart(rule: Rule, mine: Interval, usual: Interval | None) -> bool:
    low, high = (0.5, 0.5) if usual is None else (usual.low, usual.high)
    return mine.high < low or (mine.low > high and rule != "alone")


def _shown_first(rows: Sequence[Preference], background: Background) -> Array:
    """1 where the preferred of two answers stood first, NaN where that is not known."""
    points = np.full(len(rows), np.nan)
    seen: set[str] = set()
    for place, row in enumerate(rows):
        said = background.of(row)
        if said is None or said.id in seen or len(said.shown_order) != 2:
            continue
        seen.add(said.id)  # an answer that states several pairs had one first side
        if (preferred := said.payload.get("preferred")) in said.shown_order:
            points[place] = float(said.shown_order[0] == preferred)
    return points


def _with_others(rows: Sequence[Preference], forms: Sequence[str], judges: Sequence[str]) -> Array:
    """1 where a judge chose as the majority of the others, 0.5 where they split evenly, NaN
    without others."""
    stated: dict[str, dict[str, float]] = {}
    keys = [pair_key(row, form) for row, form in zip(rows, forms, strict=True)]
    for (pair, is_first), who in zip(keys, judges, strict=True):
        if who != NOT_KNOWN:
            stated.setdefault(pair, {})[who] = 1.0 if is_first else -1.0
    points = np.full(len(rows), np.nan)
    for place, ((pair, is_first), who) in enumerate(zip(keys, judges, strict=True)):
        others = [value for one, value in stated.get(pair, {}).items() if one != who]
        if who != NOT_KNOWN and others:
            points[place] = (1 + np.sign(sum(others)) * (1 if is_first else -1)) / 2
    return points
