"""How many labels do selection strategies save? Simulated annotators, no text, no model.

    python benchmarks/selection.py --out benchmarks/results

Every strategy labels the same pool with the same budget in every seed's world; a linear reward is
fitted after each batch. ``share`` is the labels after which the mean curve reaches what random
reaches with all of them, as a share of all, interpolated between batches; infinite when it never
does. Intervals resample seeds, the same ones for a strategy and for random.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heedful.select.simulation import STRATEGIES, Curve, make_world, run

Array = NDArray[np.float64]
NUM_PROMPTS, NUM_ANSWERS, DIMENSION = 300, 4, 16
NUM_LABELS, BATCH = 400, 20
BEST_ACCURACY = 0.75
WORLDS = {
    "even": {"decay": 0.0, "spread": 0.0},
    "uneven": {"decay": 1.0, "spread": 0.5},
}


def curves(world: str, strategy: str, seeds: int) -> list[Curve]:
    """One curve a seed; the world depends on the seed alone, not on the strategy."""
    return [
        run(
            make_world(
                np.random.default_rng([seed, 0]),
                num_prompts=NUM_PROMPTS,
                num_answers=NUM_ANSWERS,
                dimension=DIMENSION,
                best_accuracy=BEST_ACCURACY,
                **WORLDS[world],
            ),
            STRATEGIES[strategy],
            num_labels=NUM_LABELS,
            batch=BATCH,
            rng=np.random.default_rng([seed, 1]),
        )
        for seed in range(seeds)
    ]


def labels_needed(labels: Array, accuracy: Array, goal: float) -> float:
    """Where a curve first reaches ``goal``, on the line between two batches; infinite if never."""
    reached = np.flatnonzero(accuracy >= goal)
    if not len(reached):
        return math.inf
    first = int(reached[0])
    if first == 0:
        return float(labels[0])
    low, high = accuracy[first - 1], accuracy[first]
    return float(np.interp(goal, [low, high], labels[first - 1 : first + 1]))


def interval(draws: Array) -> list[float | None]:
    """The middle 95 %; None for a bound that is infinite."""
    ends = np.quantile(draws, [0.025, 0.975], method="inverted_cdf")
    return [round(float(end), 4) if math.isfinite(end) else None for end in ends]


def measure(world: str, seeds: int) -> list[dict[str, object]]:
    """A row for each strategy."""
    found = {name: curves(world, name, seeds) for name in STRATEGIES}
    labels = np.array(found["random"][0].labels, dtype=float)
    table = {name: np.array([curve.accuracy for curve in each]) for name, each in found.items()}
    draws = np.random.default_rng(0).integers(seeds, size=(2000, seeds))
    rows: list[dict[str, object]] = []
    for name, accuracy in table.items():
        shares = [
            labels_needed(labels, accuracy[d].mean(0), table["random"][d].mean(0)[-1]) / NUM_LABELS
            for d in [np.arange(seeds), *draws]
        ]
        resampled = accuracy[draws].mean(axis=1)
        rows.append(
            {
                "world": world,
                "strategy": name,
                "seeds": seeds,
                "share": round(shares[0], 4) if math.isfinite(shares[0]) else None,
                "share_ci": interval(np.array(shares[1:])),
                "accuracy": round(float(accuracy[:, -1].mean()), 4),
                "accuracy_ci": interval(resampled[:, -1]),
                "lead": round(float((accuracy - table["random"])[:, -1].mean()), 4),
                "lead_ci": interval((accuracy - table["random"])[:, -1][draws].mean(axis=1)),
                "mean_regret": round(float(np.mean([c.mean_regret[-1] for c in found[name]])), 4),
                "max_regret": round(float(np.mean([c.max_regret[-1] for c in found[name]])), 4),
                "labels": labels.astype(int).tolist(),
                "curve": accuracy.mean(axis=0).round(4).tolist(),
                "curve_ci": [interval(column) for column in resampled.T],
            }
        )
        print(
            world, name, rows[-1]["share"], rows[-1]["share_ci"], rows[-1]["accuracy"], flush=True
        )
    return rows


def main() -> None:
    """Measure both worlds and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--seeds", type=int, default=50)
    given = parser.parse_args()
    rows = [row for world in WORLDS for row in measure(world, given.seeds)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (given.out / "selection.jsonl").write_text(text)


if __name__ == "__main__":
    main()
