"""Scores by who wrote the answers: is the reward out of its depth on answers of other models?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heedful.jobs.models import ModelRef
from heedful.jobs.reward_card.people import Background, side_key
from heedful.monitor.reward_checks import Writer
from heedful.reward.scorers import Scored
from heedful.stats.intervals import share_by_cluster
from heedful.store import Store, snapshots
from heedful.store import models as model_table
from heedful.types import Preference

Array = NDArray[np.float64]
FAR = 2.0  # deviations: at most a quarter of anything lies so far from its mean (Chebyshev)


def writers_of(
    rows: Sequence[Preference],
    scored: Scored,
    background: Background,
    *,
    moments: tuple[float, float] | None,
    learned: frozenset[str] | None,
) -> list[Writer]:
    """The scores of each writer's distinct answers, most answers first; empty for one writer.

    ``moments`` are the mean and deviation of the score on answers of the fit, ``learned`` who wrote
    those; None: not known.
    """
    found: dict[str, dict[tuple[str, str], float]] = {}
    for place, number in enumerate(scored.pairs):
        row = rows[number]
        for side, scores in (
            (row.chosen, scored.chosen[place]),
            (row.rejected, scored.rejected[place]),
        ):
            key = side_key(row.prompt, side)
            if key in background.writers:
                by = found.setdefault(background.writers[key], {})
                by.setdefault(key, float(scores.mean()))
    return [
        _writer(background.names.get(who, who), who, answers, moments, learned)
        for who, answers in sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _writer(
    name: str,
    who: str,
    answers: dict[tuple[str, str], float],
    moments: tuple[float, float] | None,
    learned: frozenset[str] | None,
) -> Writer:
    scores = np.array(list(answers.values()))
    low, middle, high = np.quantile(scores, [0.05, 0.5, 0.95])
    beyond = None
    if moments is not None:
        mean, deviation = moments
        is_far = np.abs(scores - mean) > FAR * deviation
        prompts = np.array([prompt for prompt, _ in answers])
        beyond = share_by_cluster(is_far.astype(float), prompts)
    return Writer(
        name=name,
        num=len(scores),
        mean=float(scores.mean()),
        low=float(low),
        middle=float(middle),
        high=float(high),
        beyond=beyond,
        is_learned=None if learned is None else who in learned,
    )


def learned_writers(store: Store | None, ref: ModelRef | None) -> frozenset[str] | None:
    """Who wrote the answers that a model was fitted to, by model id; None: not known."""
    if store is None or ref is None or ref.adapter is None:
        return None
    with store.read() as tx:
        version = model_table.at_path(tx, str(ref.adapter.resolve()))
        snapshot = model_table.get(tx, version).snapshot if version else None
        return frozenset(snapshots.writers(tx, snapshot)) or None if snapshot else None
