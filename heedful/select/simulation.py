"""A simulated contextual linear dueling bandit: people who prefer by a linear reward, with noise.

Prompts have answers with features; the reward is linear in them; a simulated annotator, shown two
answers to one prompt, prefers the first with probability ``sigmoid(reward difference)``. Nothing
here is a person. Scheid et al. 2024 (arXiv:2410.17055); their features and weights lie
in the unit ball, ours are scaled so that the best possible accuracy on random pairs is a given one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from heedful.select.d_optimal import design_gains, pair_information
from heedful.select.disagreement import (
    bald_of_margins,
    closeness_of_margins,
    variance_of_margins,
)
from heedful.select.optimal import label_sequence, optimal_design

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
RIDGE = 1.0
NUM_MEMBERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Answers to be labelled, answers to be tested on and the reward. Made by ``make_world``.

    ``pool[p, k]`` and ``test[p, k]`` are features of answer k to prompt p, ``weights`` the reward.
    """

    pool: Array
    test: Array
    weights: Array

    def answers(self, differences: Array, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Whether a simulated annotator prefers the first of each pair."""
        return np.asarray(rng.random(len(differences)) < expit(differences @ self.weights))


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How well a reward does after so many labels. Made by ``run``.

    ``accuracy`` is the share of test pairs in the order of the true reward; ``mean_regret`` and
    ``max_regret`` over test prompts are what the answer picked by the learned reward lacks to the
    best, in deviations of the true reward within prompts; empty where that is not known.
    """

    labels: tuple[int, ...]
    accuracy: tuple[float, ...]
    mean_regret: tuple[float, ...] = ()
    max_regret: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a strategy may look at: pairs of the pool and the labels so far. Made by ``run``."""

    pairs: Array
    chosen: Codes
    is_first: NDArray[np.bool_]
    weights: Array
    num_left: int
    rng: np.random.Generator


# Pairs in the order in which to ask them: the number wanted, or a plan for all labels left.
Strategy = Callable[[Asked, int], Codes]


def make_world(
    rng: np.random.Generator,
    *,
    num_prompts: int,
    num_answers: int,
    dimension: int,
    decay: float = 0.0,
    spread: float = 0.0,
    best_accuracy: float = 0.75,
) -> World:
    """Answers around their prompt's mean, as many for the test, and a random reward.

    Feature i has variance ``i^-decay`` within a prompt: 0 is alike in all directions, 1 falls as
    in text embeddings. ``spread`` is the deviation of the log of how far a prompt's answers lie
    apart: above 0 some prompts have answers that are all but the same. Weights are scaled so that
    who knows them predicts answers on random pairs with ``best_accuracy``.
    """

    def draw() -> Array:
        scale = np.arange(1, dimension + 1) ** (-decay / 2)
        apart = np.exp(spread * rng.normal(size=(num_prompts, 1, 1)))
        return np.asarray(apart * scale * rng.normal(size=(num_prompts, num_answers, dimension)))

    pool, test = draw(), draw()
    direction = rng.normal(size=dimension)
    margins = np.abs(pair_differences(pool) @ direction)
    # expit(|margin|) is the chance of the commoner answer.
    size = brentq(lambda s: float(expit(s * margins).mean()) - best_accuracy, 0.0, 1e4)
    return World(pool=pool, test=test, weights=size * direction)


def pair_differences(answers: Array) -> Array:
    """Features of the first less the second, for every pair of answers within every prompt."""
    first, second = np.transpose(list(combinations(range(answers.shape[1]), 2)))
    return np.asarray((answers[:, first] - answers[:, second]).reshape(-1, answers.shape[2]))


def fit_weights(
    differences: Array,
    is_first: NDArray[np.bool_],
    *,
    ridge: float = RIDGE,
    prior: Array | None = None,
) -> Array:
    """The most probable Bradley-Terry weights under a normal prior of precision ``ridge``.

    ``prior`` is its mean, 0 when not given. Newton's method with halved steps.
    """
    signed = np.where(is_first[:, None], differences, -differences)
    centre = np.zeros(differences.shape[1]) if prior is None else prior
    weights = centre

    def loss(at: Array) -> float:
        apart = at - centre
        return float(np.logaddexp(0, -signed @ at).sum() + ridge / 2 * apart @ apart)

    for _ in range(50):
        wrong = expit(-signed @ weights)
        gradient = ridge * (weights - centre) - signed.T @ wrong
        information = signed.T @ ((wrong * (1 - wrong))[:, None] * signed)
        step = np.linalg.solve(information + ridge * np.eye(len(centre)), -gradient)
        if np.abs(step).max() < 1e-8:
            break
        before = loss(weights)
        while loss(weights + step) > before + 1e-12 * (1 + before):
            step = step / 2
        weights = weights + step
    return weights


def ask_in_rounds(
    pairs: Array,
    answer: Callable[[Codes], NDArray[np.bool_]],
    strategy: Strategy,
    *,
    num_labels: int,
    batch: int,
    rng: np.random.Generator,
) -> Iterator[tuple[int, Array]]:
    """Ask ``batch`` labels at a time and fit after each: the labels so far, and the weights.

    ``pairs`` [P, D] are feature differences, first answer less the second; ``answer`` says of
    asked pairs whether the first is preferred.
    """
    chosen, is_first = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
    weights, plan = np.zeros(pairs.shape[1]), chosen
    while len(chosen) < num_labels:
        if not len(plan):
            left = num_labels - len(chosen)
            asked = Asked(
                pairs=pairs,
                chosen=chosen,
                is_first=is_first,
                weights=weights,
                num_left=left,
                rng=rng,
            )
            plan = strategy(asked, min(batch, left))
        new, plan = plan[:batch], plan[batch:]
        chosen = np.concatenate([chosen, new])
        is_first = np.concatenate([is_first, answer(new)])
        weights = fit_weights(pairs[chosen], is_first)
        yield len(chosen), weights


def run(
    world: World,
    strategy: Strategy,
    *,
    num_labels: int,
    batch: int,
    rng: np.random.Generator,
) -> Curve:
    """Ask simulated annotators, and measure on the test prompts after each batch."""
    pairs = pair_differences(world.pool)
    rounds = ask_in_rounds(
        pairs,
        lambda asked: world.answers(pairs[asked], rng),
        strategy,
        num_labels=num_labels,
        batch=batch,
        rng=rng,
    )
    measured = [(num, accuracy(world, found), *regrets(world, found)) for num, found in rounds]
    labels, right, mean_regret, max_regret = zip(*measured, strict=True)
    return Curve(labels=labels, accuracy=right, mean_regret=mean_regret, max_regret=max_regret)


def accuracy(world: World, weights: Array) -> float:
    """Share of test pairs that ``weights`` order as the true reward does; ties count half."""
    pairs = pair_differences(world.test)
    agree = np.sign(pairs @ weights) * np.sign(pairs @ world.weights)
    return float(np.mean((1 + agree) / 2))


def regrets(world: World, weights: Array) -> tuple[float, float]:
    """Mean and largest regret over test prompts, in deviations of the reward within prompts."""
    truth = world.test @ world.weights
    picked = (world.test @ weights).argmax(axis=1)
    lost = truth.max(axis=1) - truth[np.arange(len(truth)), picked]
    unit = float(np.sqrt(truth.var(axis=1, ddof=1).mean()))
    return float(lost.mean() / unit), float(lost.max() / unit)


def at_random(asked: Asked, num: int) -> Codes:
    """Pairs that were not asked yet, any with the same chance."""
    return asked.rng.choice(_fresh(asked), size=num, replace=False)


def by_margin(asked: Asked, num: int) -> Codes:
    """Pairs whose predicted margin is smallest."""
    return _best(asked, num, asked.weights[None], closeness_of_margins)


def by_disagreement(asked: Asked, num: int) -> Codes:
    """Pairs on whose margin an ensemble varies most."""
    return _best(asked, num, _ensemble(asked), variance_of_margins)


def by_bald(asked: Asked, num: int) -> Codes:
    """Pairs whose answer tells most about an ensemble."""
    return _best(asked, num, _ensemble(asked), bald_of_margins)


def by_greedy_design(asked: Asked, num: int) -> Codes:  # noqa: ARG001 - a strategy's signature
    """Pairs in the order of a greedy D-optimal design: all at once, as it looks at no label."""
    gains = design_gains([pair[None] for pair in asked.pairs])
    return np.argsort(-gains, kind="stable")[: asked.num_left]


def by_optimal_design(asked: Asked, num: int) -> Codes:  # noqa: ARG001 - a strategy's signature
    """The exact D-optimal design: few pairs, asked again and again, and by no label."""
    return label_sequence(optimal_design(asked.pairs), asked.num_left)


def by_local_design(asked: Asked, num: int) -> Codes:
    """Greedy D-optimal with each pair weighted by ``p (1 - p)`` under the reward so far.

    The information that a label of a pair has in logistic regression; the design goes on from what
    the labels so far have given.
    """
    rows = np.sqrt(pair_information(asked.pairs @ asked.weights) / 4)[:, None] * asked.pairs
    known = rows[asked.chosen]
    inverse = np.linalg.inv(RIDGE * np.eye(rows.shape[1]) + known.T @ known)
    variance = np.einsum("nd,de,ne->n", rows, inverse, rows)
    fresh = np.zeros(len(rows), dtype=bool)
    fresh[_fresh(asked)] = True
    taken = []
    for _ in range(num):
        best = int(np.argmax(np.where(fresh, variance, -np.inf)))
        along = inverse @ rows[best]
        scale = 1 + variance[best]
        inverse = inverse - np.outer(along, along) / scale
        variance = variance - (rows @ along) ** 2 / scale
        fresh[best] = False
        taken.append(best)
    return np.array(taken, dtype=np.int64)


def _fresh(asked: Asked) -> Codes:
    """Pairs without a label."""
    return np.setdiff1d(np.arange(len(asked.pairs)), asked.chosen)


def _best(asked: Asked, num: int, members: Array, score: Callable[[Array], Array]) -> Codes:
    """The fresh pairs with the highest score; any before the first label."""
    if not len(asked.chosen):
        return at_random(asked, num)
    fresh = _fresh(asked)
    scores = score(members @ asked.pairs[fresh].T)
    return fresh[np.argsort(-scores, kind="stable")[:num]]


def _ensemble(asked: Asked) -> Array:
    """Weights of members that differ in their resample of the labels and in their prior's mean.

    The prior's draw keeps members apart where there are no labels: Osband et al. 2018
    (arXiv:1806.03335).
    """
    num, dimension = len(asked.chosen), asked.pairs.shape[1]
    members = []
    for _ in range(NUM_MEMBERS):
        drawn = asked.rng.integers(num, size=num)
        prior = asked.rng.normal(size=dimension) / RIDGE**0.5
        rows = asked.pairs[asked.chosen[drawn]]
        members.append(fit_weights(rows, asked.is_first[drawn], prior=prior))
    return np.array(members)


STRATEGIES: dict[str, Strategy] = {
    "random": at_random,
    "margin": by_margin,
    "disagreement": by_disagreement,
    "BALD": by_bald,
    "greedy D-optimal": by_greedy_design,
    "exact D-optimal": by_optimal_design,
    "local D-optimal": by_local_design,
}
