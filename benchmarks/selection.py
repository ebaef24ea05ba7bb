"""How many labels do selection strategies save?

    python benchmarks/selection.py --out benchmarks/results
    python benchmarks/selection.py --data DIR --model smollm2 --seeds 20 --out benchmarks/results

Every strategy labels the same pool with the same budget in every seed's world; a linear reward is
fitted after each batch. ``share`` is the labels after which the mean curve reaches what random
reaches with all of them, as a share of all, interpolated between batches; infinite when it never
does. Intervals resample seeds, the same ones for a strategy and for random.

Without ``--data`` annotators are simulated, and there is no text and no model. With it the labels
are those of people: ``DIR`` holds ``train.jsonl.gz`` and ``dev.jsonl.gz`` in the form of HH. The
features are then the first principal components of what a reward model's head would read of the
base, found without labels; a seed draws half of the training pairs as its pool and which side of
each comes first, and accuracy is the share of dev pairs in the order of the label.
"""

import argparse
import json
import math
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heedful.config import RewardAdapter, RewardConfig
from heedful.data.examples import preference_trees
from heedful.exchange.importing import import_preferences
from heedful.jobs import models
from heedful.jobs.fit.base import frozen_rows
from heedful.jobs.progress import progress
from heedful.reward.probe import differences_of, pooled_states
from heedful.select.simulation import STRATEGIES, Curve, ask_in_rounds, make_world, run
from heedful.store import open_store

Array = NDArray[np.float64]
NUM_PROMPTS, NUM_ANSWERS, DIMENSION = 300, 4, 16
MAX_TOKENS = 1024  # of a pair; longer ones are left out
NUM_LABELS, BATCH = 400, 20
BEST_ACCURACY = 0.75
WORLDS = {
    "even": {"decay": 0.0, "spread": 0.0},
    "uneven": {"decay": 1.0, "spread": 0.5},
}


def labelled_features(data: Path, model: str) -> dict[str, Array]:
    """Features of the chosen less the rejected side of every pair, [P, ``DIMENSION``]."""
    trunk = models.open_trunk(models.find_model(model, None), dtype="auto")
    _, depth = RewardAdapter().span(trunk.num_layers)
    # a new adapter changes nothing: these are the states of the base
    trunk.add_adapter("reward", rank=1, alpha=1, seed=0, depth=depth)
    trunk.add_head("reward", std=0, seed=0, pooling=RewardConfig.model_fields["pooling"].default)
    found = {}
    with tempfile.TemporaryDirectory() as place, open_store(Path(place) / "pairs.db") as store:
        for split in ("train", "dev"):
            import_preferences(store, "hh", [data / f"{split}.jsonl.gz"], dataset=split)
            rows = frozen_rows(store, split, "preference", Path(place)).rows
            trees = preference_trees(trunk.tokenizer, rows, max_tokens=MAX_TOKENS).trees
            with progress(f"read {split}", len(trees)) as advance:
                states = pooled_states(trunk, trees, MAX_TOKENS, advance)
            found[split] = differences_of(states.cpu().numpy(), trees)[0]
    # differences have no direction until they are labelled, so neither has their covariance
    scale = np.linalg.eigh(found["train"].T @ found["train"] / len(found["train"]))
    turn = scale.eigenvectors[:, -DIMENSION:]
    unit = float(np.sqrt(scale.eigenvalues[-DIMENSION:].sum() / DIMENSION))
    return {split: rows @ turn / unit for split, rows in found.items()}


def labelled_curves(features: dict[str, Array], strategy: str, seeds: int) -> list[Curve]:
    """One curve a seed on labels of people; pool and order depend on the seed alone."""
    made = []
    for seed in range(seeds):
        world = np.random.default_rng([seed, 0])
        pool = world.permutation(features["train"])[: len(features["train"]) // 2]
        is_first = world.random(len(pool)) < 0.5
        rounds = ask_in_rounds(
            np.where(is_first[:, None], pool, -pool),
            is_first.__getitem__,
            STRATEGIES[strategy],
            num_labels=NUM_LABELS,
            batch=BATCH,
            rng=np.random.default_rng([seed, 1]),
        )
        measured = [
            (num, float(np.mean((1 + np.sign(features["dev"] @ weights)) / 2)))
            for num, weights in rounds
        ]
        labels, accuracy = zip(*measured, strict=True)
        made.append(Curve(labels=labels, accuracy=accuracy))
    return made


def simulated_curves(world: str, strategy: str, seeds: int) -> list[Curve]:
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


def measure(world: str, found: dict[str, list[Curve]]) -> list[dict[str, object]]:
    """A row for each strategy."""
    seeds = len(found["random"])
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
                **regrets(found[name]),
                "labels": labels.astype(int).tolist(),
                "curve": accuracy.mean(axis=0).round(4).tolist(),
                "curve_ci": [interval(column) for column in resampled.T],
            }
        )
        print(
            world, name, rows[-1]["share"], rows[-1]["share_ci"], rows[-1]["accuracy"], flush=True
        )
    return rows


def regrets(found: list[Curve]) -> dict[str, float]:
    """Means over seeds of the last regrets; nothing where the true reward is not known."""
    if not found[0].mean_regret:
        return {}
    means = np.mean([(one.mean_regret[-1], one.max_regret[-1]) for one in found], axis=0)
    return dict(zip(("mean_regret", "max_regret"), means.round(4).tolist(), strict=True))


def main() -> None:
    """Measure both simulated worlds, or people's labels, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="simulated when it is left out")
    parser.add_argument("--model", default="smollm2", help="whose states are the features")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--seeds", type=int, default=50)
    given = parser.parse_args()
    if given.data is None:
        name = "selection"
        rows = [
            row
            for world in WORLDS
            for row in measure(
                world, {one: simulated_curves(world, one, given.seeds) for one in STRATEGIES}
            )
        ]
    else:
        name = "selection_people"
        features = labelled_features(given.data, given.model)
        rows = measure(
            given.data.name,
            {one: labelled_curves(features, one, given.seeds) for one in STRATEGIES},
        )
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (given.out / f"{name}.jsonl").write_text(text)


if __name__ == "__main__":
    main()
