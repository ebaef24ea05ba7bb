"""What preferred answers have in common, and a small network that learns it."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heedful.annotators.text_patterns import PATTERNS, WORDS, describe
from heedful.jobs.quality import figures
from heedful.jobs.quality.plain import attempt
from heedful.jobs.quality.reading import Answers
from heedful.stats.feature_network import cross_validate
from heedful.stats.patterns import effects_at_equal, feature_effects
from heedful.stats.votes import Codes
from heedful.store import Transaction, columns

Row = dict[str, Any]
Array = NDArray[np.float64]
MIN_PREFERENCES = 20
MAX_PREFERENCES = 5000  # read; more sharpen nothing that a page shows
NAMES = tuple(PATTERNS)
LENGTH = NAMES.index("length")
SEED = 0
ALPHA = 0.05


def summarise(tx: Transaction, answers: Answers) -> Row:
    """Effects of every feature, and the network, from ``MIN_PREFERENCES`` preferences on."""
    notes: list[str] = []
    chosen, rejected = decided_pairs(answers)
    data: Row = {
        "form": answers.form.name,
        "needed": MIN_PREFERENCES,
        "num_preferences": len(chosen),
        "num_read": 0,
        "features": [],
        "network": None,
        "figures": [],
        "notes": notes,
    }
    if len(chosen) < MIN_PREFERENCES:
        return data
    rng = np.random.default_rng(SEED)
    drawn = np.sort(rng.permutation(len(chosen))[:MAX_PREFERENCES])
    chosen, rejected = chosen[drawn], rejected[drawn]
    values = _described(tx, answers, np.concatenate([chosen, rejected]))
    better, worse = values[: len(chosen)], values[len(chosen) :]
    prompts = answers.shown.prompt[chosen]
    data["num_read"], data["num_prompts"] = len(chosen), len(np.unique(prompts))
    rows = attempt(notes, "effects", lambda: _effects(better - worse, prompts, rng)) or []
    data["features"] = rows
    data["sure"] = [row["in_words"] for row in rows if row["adjusted"] < ALPHA]
    data["network"] = attempt(
        notes, "feature network", lambda: _network(better, worse, prompts, rng)
    )
    data["figures"] = [*_more_figure(rows), *_importance_figure(data["network"])]
    return data


def decided_pairs(answers: Answers) -> tuple[Codes, Codes]:
    """Preferred and rejected completion of every pair of a task that its annotators decide.

    A pair that several judged counts once, by who of the two gained more points.
    """
    pairs = answers.pairs
    if not len(pairs.points):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    first, second = np.minimum(pairs.first, pairs.second), np.maximum(pairs.first, pairs.second)
    gained = np.where(first == pairs.first, pairs.points, 1 - pairs.points) - 0.5
    both, index = np.unique(first * len(answers.shown.completions) + second, return_inverse=True)
    net = np.bincount(index, weights=gained, minlength=len(both))
    low, high = np.divmod(both, len(answers.shown.completions))
    decided = np.flatnonzero(net)
    ids = np.array(answers.shown.completions)
    # in the order of names, so that the same answers give the same numbers
    decided = decided[np.lexsort((ids[high[decided]], ids[low[decided]]))]
    wins = net[decided] > 0
    return (
        np.where(wins, low[decided], high[decided]),
        np.where(wins, high[decided], low[decided]),
    )


def _described(tx: Transaction, answers: Answers, codes: Codes) -> Array:
    ids = answers.shown.completions
    wanted = sorted({ids[code] for code in codes})
    found = {one: _features(text) for one, text in columns.completion_texts(tx, wanted)}
    return np.array([found[ids[code]] for code in codes])


@lru_cache(maxsize=2 * MAX_PREFERENCES)
def _features(text: str) -> list[float]:
    return describe(text)


def _effects(differences: Array, prompts: Codes, rng: np.random.Generator) -> list[Row]:
    effects = feature_effects(differences, prompts, rng=rng)
    at_equal = effects_at_equal(differences, differences[:, LENGTH], prompts)
    rows = [
        {
            "feature": name,
            "in_words": WORDS[name][one.effect.value < 0],
            "more": one.more,
            "effect": one.effect,
            "p_value": one.p_value,
            "adjusted": one.adjusted,
            "at_equal_length": interval if name != "length" else None,
            "adjusted_at_equal_length": adjusted if name != "length" else None,
        }
        for name, one, (interval, adjusted) in zip(NAMES, effects, at_equal, strict=True)
    ]
    return sorted(rows, key=lambda row: -abs(np.nan_to_num(row["effect"].value)))


def _network(better: Array, worse: Array, prompts: Codes, rng: np.random.Generator) -> Row:
    held = cross_validate(better, worse, prompts, baseline=LENGTH, rng=rng)
    looks = sorted(
        ({"feature": name, "lost": one} for name, one in zip(NAMES, held.importance, strict=True)),
        key=lambda row: -row["lost"].value,  # type: ignore[attr-defined]
    )
    return {"accuracy": held.accuracy, "baseline": held.baseline, "looks_at": looks}


def _more_figure(rows: list[Row]) -> list[Row]:
    drawn = [
        figures.row_of(row["feature"], row["more"])
        for row in rows
        if row["adjusted"] == row["adjusted"]
    ]
    return figures.shares(
        "more",
        "The preferred answer has more of it",
        "Share of the pairs that differ, with 95 % intervals. At the dashed line it makes no "
        "difference.",
        "share of pairs",
        drawn,
        {"no difference": 0.5},
    )


def _importance_figure(network: Row | None) -> list[Row]:
    if network is None:
        return []
    rows = [
        figures.row_of("network", network["accuracy"]),
        figures.row_of("length alone", network["baseline"]),
    ]
    return figures.shares(
        "accuracy",
        "Right about prompts it never saw",
        "Share of held-out pairs in which the preferred answer scores higher, 95 % intervals.",
        "accuracy",
        rows,
        {"chance": 0.5},
    )
