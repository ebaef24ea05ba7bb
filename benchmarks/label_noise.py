"""What wrong labels cost, and what losses that know of them save. Simulated annotators, no text.

    python benchmarks/label_noise.py --out benchmarks/results

A linear reward is fitted to pairs that simulated annotators judged: the truth is drawn from the
Bradley-Terry model of a random linear reward, and then spoiled as the world says. Everything but
the scores is what ``heedful fit reward`` runs: reading, batch, objective and learned links. The
same seed has the same pairs and the same true labels in every world. Nothing here is a person.

``lost`` is the accuracy that a loss lacks to the plain one on the labels before they were spoiled,
``share`` that of the plain one's loss on the spoiled labels. Intervals resample seeds.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from heedful.config import RewardLoss
from heedful.data.collate import Said, Tree, collate
from heedful.data.reading import learned, plan_reading
from heedful.select.simulation import World, accuracy, make_world
from heedful.tensors import Batch, Outputs
from heedful.train import crowd
from heedful.train.links import new_links
from heedful.train.objectives import feedback_reward

Array = NDArray[np.float64]
Ends = list[float]
NUM_PROMPTS, DIMENSION, NUM_ANNOTATORS = 1000, 32, 20
BEST_ACCURACY, HARD = 0.85, 0.75  # who knows the true reward, on unspoiled labels
FLIPPED, RIDGE, NEAR = 0.3, 1.0, 0.05
CPU = torch.device("cpu")
LOSSES = {
    "plain": RewardLoss(),
    "label smoothing 0.1": RewardLoss(params={"label_smoothing": 0.1}),
    "constant error, rate known": RewardLoss(
        pairs="constant_error", params={"constant_error": 2 * FLIPPED}
    ),
    "unbiased, rate known": RewardLoss(pairs="unbiased", params={"flip_rate": FLIPPED}),
    "annotators' reliability": RewardLoss(annotators="reliability"),
}


@dataclass(frozen=True)
class Labels:
    """One pair a prompt: who judged it, the truth, and what was said."""

    who: NDArray[np.int64]
    true: NDArray[np.bool_]
    said: NDArray[np.bool_]


def make(seed: int, num_prompts: int = NUM_PROMPTS, best_accuracy: float = BEST_ACCURACY) -> World:
    """Two answers a prompt, some pairs far apart and some close."""
    return make_world(
        np.random.default_rng([seed, 0]),
        num_prompts=num_prompts,
        num_answers=2,
        dimension=DIMENSION,
        spread=0.5,
        best_accuracy=best_accuracy,
    )


def flip_rates(world: str) -> Array:
    """How often each simulated annotator says the opposite of the truth; 30 % over all."""
    place = np.arange(NUM_ANNOTATORS)
    return {
        "alike": np.full(NUM_ANNOTATORS, FLIPPED),
        "hard": np.full(NUM_ANNOTATORS, FLIPPED),
        "uneven": np.linspace(0.1, 0.5, NUM_ANNOTATORS),
        "guessers": np.where(place < 2 * FLIPPED * NUM_ANNOTATORS, 0.5, 0.0),
        "reversed": np.where(place < FLIPPED * NUM_ANNOTATORS, 1.0, 0.0),
    }[world]


def label(world: World, kind: str, seed: int) -> Labels:
    """Labels of all pairs, each by one annotator."""
    rng = np.random.default_rng([seed, 1])
    apart = world.pool[:, 0] - world.pool[:, 1]
    who = rng.permutation(np.arange(len(apart)) % NUM_ANNOTATORS)
    true = rng.random(len(apart)) < expit(apart @ world.weights)
    if kind == "shortcut":  # who guesses there follows one feature instead, as all the others do
        hurried = flip_rates("guessers")[who] > 0
        return Labels(who, true, np.where(hurried, apart[:, 0] > 0, true))
    flipped = rng.random(len(apart)) < flip_rates(kind)[who]
    return Labels(who, true, true ^ flipped)


def batch_of(
    loss: RewardLoss, who: NDArray[np.int64], first: NDArray[np.bool_]
) -> tuple[Batch, dict[str, Tensor]]:
    """The batch that a fit makes of these statements, and the links that it starts with."""
    trees = [
        Tree(
            id=str(number),
            prompt=(1,),
            responses=((2,), (3,)),
            said=(
                Said(
                    scale="order",
                    responses=(0, 1) if is_first else (1, 0),
                    values=(0.0, 1.0),
                    annotator=int(person),
                ),
            ),
        )
        for number, (person, is_first) in enumerate(zip(who, first, strict=True))
    ]
    reading = plan_reading(loss, trees)
    read = [one for tree in trees if (one := learned(tree, reading))]
    return collate(read, CPU), new_links(loss, reading)


def fit(
    loss: RewardLoss, features: Array, who: NDArray[np.int64], first: NDArray[np.bool_]
) -> tuple[Array, Batch, Tensor]:
    """The most probable weights under a normal prior; also the batch and the pairs' leads."""
    batch, links = batch_of(loss, who, first)
    objective = feedback_reward(loss)
    answers = torch.tensor(features.reshape(-1, features.shape[-1]))
    weights = torch.zeros(answers.shape[1], dtype=torch.float64, requires_grad=True)
    own = {name: value.double().requires_grad_(True) for name, value in links.items()}
    search = torch.optim.LBFGS(
        [weights, *own.values()], max_iter=200, tolerance_grad=1e-3, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        search.zero_grad()
        outputs = Outputs(scores=answers @ weights, links=own)
        value = objective(outputs, batch)[0] + RIDGE / 2 * weights.square().sum()
        value.backward()
        return value

    search.step(closure)
    found = weights.detach()
    scores = answers @ found
    return found.numpy(), batch, scores[batch.pairs[:, 0]] - scores[batch.pairs[:, 1]]


WORLDS = {
    "alike": "everybody errs in 30 %",
    "hard": "the same, harder question",
    "uneven": "people err in 10 to 50 %",
    "guessers": "60 % of people toss coins",
    "reversed": "30 % of people mean the opposite",
    "shortcut": "60 % of people follow one feature",
}
SIZES = (50, 100, 200, 400)  # labels of each annotator


def interval(values: Array, of: Callable[[Array], Array] = lambda drawn: drawn.mean(-1)) -> Ends:
    """The middle 95 % of a statistic over resampled seeds, the last axis."""
    draws = np.random.default_rng(0).integers(values.shape[-1], size=(2000, values.shape[-1]))
    low, high = np.quantile(of(values[..., draws]), [0.025, 0.975])
    return [round(float(low), 4), round(float(high), 4)]


def named(name: str, value: float, ends: Ends) -> dict[str, object]:
    """A number and its interval."""
    return {name: round(float(value), 4), f"{name}_ci": ends}


def effects(kind: str, seeds: int) -> Iterator[dict[str, object]]:
    """A row for each loss: what it lacks to the plain loss on labels that nobody spoiled."""
    best = HARD if kind == "hard" else BEST_ACCURACY
    worlds = [make(seed, best_accuracy=best) for seed in range(seeds)]
    labels = [label(world, kind, seed) for seed, world in enumerate(worlds)]

    def accuracies(loss: RewardLoss, *, spoiled: bool = True) -> Array:
        return np.array(
            [
                accuracy(w, fit(loss, w.pool, one.who, one.said if spoiled else one.true)[0])
                for w, one in zip(worlds, labels, strict=True)
            ]
        )

    clean = accuracies(LOSSES["plain"], spoiled=False)
    found = {name: accuracies(loss) for name, loss in LOSSES.items()}
    plain = clean - found["plain"]
    for name, each in found.items():
        lost = clean - each
        share = interval(np.array([lost, plain]), lambda x: x[0].mean(-1) / x[1].mean(-1))
        yield (
            {
                "what": "effect",
                "world": WORLDS[kind],
                "loss": name,
                "seeds": seeds,
                "pairs": NUM_PROMPTS,
                "flipped": round(float(np.mean([(o.true != o.said).mean() for o in labels])), 4),
            }
            | named("clean", clean.mean(), interval(clean))
            | named("accuracy", each.mean(), interval(each))
            | named("lost", lost.mean(), interval(lost))
            | named("share", lost.mean() / plain.mean(), share)
        )


def recovery(num_labels: int, seeds: int) -> dict[str, object]:
    """How near learned reliabilities come to those of simulated annotators, and their intervals."""
    errors, bias, near, held = [], [], [], []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 2])
        world = make(seed, num_labels * NUM_ANNOTATORS)
        drawn = label(world, "alike", seed)
        truth = rng.uniform(0.55, 0.98, size=NUM_ANNOTATORS)
        said = drawn.true ^ (rng.random(len(drawn.true)) > truth[drawn.who])
        _, batch, leads = fit(LOSSES["annotators' reliability"], world.pool, drawn.who, said)
        assert batch.judges is not None
        assert batch.weights is not None
        found, _ = crowd.reliabilities(
            leads, batch.judges.skills, batch.weights, num_annotators=NUM_ANNOTATORS
        )
        off = np.array([one.value for one in found]) - truth
        errors.append(np.abs(off).mean())
        bias.append(off.mean())
        near.append((np.abs(off) <= NEAR).mean())
        held.append(np.mean([o.low <= t <= o.high for o, t in zip(found, truth, strict=True)]))
    return (
        {"what": "recovery", "labels": num_labels, "annotators": NUM_ANNOTATORS, "seeds": seeds}
        | named("error", np.mean(errors), interval(np.array(errors)))
        | named("bias", np.mean(bias), interval(np.array(bias)))
        | named("near", np.mean(near), interval(np.array(near)))
        | named("covered", np.mean(held), interval(np.array(held)))
    )


def main() -> None:
    """Measure all worlds and sizes, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--seeds", type=int, default=12)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for kind in WORLDS:
        for row in effects(kind, given.seeds):
            rows.append(row)
            print(json.dumps(row), flush=True)
    for size in SIZES:
        rows.append(recovery(size, given.seeds))
        print(json.dumps(rows[-1]), flush=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (given.out / "label_noise.jsonl").write_text(text)


if __name__ == "__main__":
    main()
