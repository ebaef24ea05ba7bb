"""Whose labels a reward agrees with, each annotator against all the others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heedful.jobs.models import ModelRef
from heedful.jobs.reward_card.people import Background
from heedful.model.adapter_files import weights_hash
from heedful.monitor.reward_card import FEW_OF_ANNOTATOR, Judged
from heedful.stats.intervals import Interval, difference_of_shares, share_by_cluster
from heedful.store import run_files
from heedful.types import Preference

Array = NDArray[np.float64]


def judged_annotators(
    rows: Sequence[Preference],
    deltas: Array,
    background: Background,
    reliability: Mapping[str, Interval],
    notes: list[str],
) -> list[Judged]:
    """Every annotator whom the store knows, by id; none where there are not two of them.

    ``deltas`` are the score differences of the rows, chosen minus rejected. Intervals take the
    pairs of a prompt together. Those of ``lead`` are of confidence ``1 - 0.05 / n`` for the n
    annotators with enough pairs (Bonferroni), so that one of twenty cards warns by chance.
    """
    said = [background.of(row) for row in rows]
    judges = np.array([one.annotator if one else "" for one in said])
    counts = Counter(judges.tolist())
    counts.pop("", None)
    if len(counts) < 2:
        notes.append(
            "No figures by annotator: the pairs are those of one annotator, or it is not known "
            "who judged them."
        )
        return []
    right = (np.sign(deltas) + 1) / 2
    prompts = np.array([row.prompt.id for row in rows])
    num_tested = sum(num >= FEW_OF_ANNOTATOR for num in counts.values())
    confidence = 1 - 0.05 / max(num_tested, 1)

    def share(which: NDArray[np.bool_], sure: float = 0.95) -> Interval:
        return share_by_cluster(right[which], prompts[which], confidence=sure)

    found = []
    for name in sorted(counts):
        own = judges == name
        enough = own.sum() >= FEW_OF_ANNOTATOR and (~own).sum() >= FEW_OF_ANNOTATOR
        source = next(one.source for one in said if one is not None and one.annotator == name)
        found.append(
            Judged(
                annotator=name,
                source=source,
                agreement=share(own),
                lead=difference_of_shares(share(own, confidence), share(~own, confidence))
                if enough
                else None,
                learned=reliability.get(name),
            )
        )
    return found


def learned_reliability(ref: ModelRef | None) -> dict[str, Interval]:
    """Reliabilities by annotator from the result of the run that made the model, if it is there."""
    if ref is None or ref.adapter is None:
        return {}
    result: Any = run_files.read_result(ref.adapter.parent)
    if not isinstance(result, dict) or result.get("weights") != weights_hash(ref.adapter):
        return {}
    return {
        one["annotator"]: Interval(
            value=one["reliability"],
            low=one["reliability_ci"][0],
            high=one["reliability_ci"][1],
            num=one["num_pairs"],
        )
        for one in result.get("metrics", {}).get("annotators", ())
    }
