"""Thresholds start where the likelihood of what was said is largest at the given scores."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from heedful.config import RewardLoss
from heedful.data.collate import Mark, Tree
from heedful.data.reading import Reading
from heedful.maths.judgements import cumulative_link, ordered_thresholds
from heedful.tensors import Outputs
from heedful.train import links
from heedful.train.objectives import feedback_reward


def started(
    loss: RewardLoss,
    reading: Reading,
    trees: list[Tree],
    scores: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, torch.Tensor]:
    """The links for trees of two responses whose scores stand in order."""
    given = iter(torch.tensor(scores).split(2 * 50))
    monkeypatch.setattr(links, "forward", lambda *_: Outputs(scores=next(given)))
    made = links.new_links(loss, reading)
    trunk: Any = SimpleNamespace(
        device=torch.device("cpu"),
        links={
            "reward": {
                name: torch.nn.Parameter(value, requires_grad=False) for name, value in made.items()
            }
        },
    )
    links.start_links(trunk, trees, feedback_reward(loss), role="reward", max_tokens=150)
    found: dict[str, torch.Tensor] = trunk.links["reward"]
    return found


def trees_of(num: int, **what: Any) -> list[Tree]:
    return [
        Tree(
            id=str(number),
            prompt=(1,),
            responses=((2,), (3,)),
            **{name: make(number) for name, make in what.items()},
        )
        for number in range(num)
    ]


def test_the_threshold_of_ties_is_that_of_the_simulated_people(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 1, size=(2000, 2))
    delta = scores[:, 0] - scores[:, 1]
    first, second = expit(delta - 0.7), expit(-delta - 0.7)
    draws = rng.uniform(size=2000)
    pairs: list[tuple[tuple[int, int], ...]] = []
    for draw, one, two in zip(draws, first, second, strict=True):
        pairs.append(((0, 1),) if draw < one else ((1, 0),) if draw < one + two else ())
    trees = trees_of(2000, pairs=lambda n: pairs[n], ties=lambda n: () if pairs[n] else ((0, 1),))
    loss = RewardLoss(ties="rao_kupper")
    found = started(loss, Reading(loss=loss), trees, scores.ravel(), monkeypatch)
    threshold = float(torch.nn.functional.softplus(found["tie"]))
    is_tie = np.array([not one for one in pairs])
    lead = np.where([one == ((1, 0),) for one in pairs], -delta, delta)

    def nll(eta: float) -> float:
        tie = expit(lead + eta) - expit(lead - eta)
        return float(-np.log(np.where(is_tie, tie, expit(lead - eta))).mean())

    best = minimize_scalar(nll, bounds=(0.01, 3), method="bounded").x
    assert threshold == pytest.approx(best, abs=0.01)
    assert threshold == pytest.approx(0.7, abs=0.1)


def test_the_threshold_of_thumbs_is_that_of_logistic_regression(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 1, size=2000)
    good = rng.uniform(size=2000) < expit(1.5 * scores - 0.8)
    trees = trees_of(
        1000, thumbs=lambda n: tuple(Mark(i, float(good[2 * n + i]), 1.0) for i in (0, 1))
    )
    loss = RewardLoss()
    found = started(loss, Reading(loss=loss, thumbs=True), trees, scores, monkeypatch)
    oracle = LogisticRegression(C=np.inf).fit(scores[:, None], good)
    slope = float(found["thumb/log_slope"].exp())
    assert slope == pytest.approx(oracle.coef_.item(), abs=0.02)
    assert float(found["thumb/threshold"]) == pytest.approx(-oracle.intercept_.item(), abs=0.02)


def test_thresholds_of_ratings_give_each_class_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(0, 1, size=3000)
    latent = 2 * scores + rng.logistic(size=3000)
    classes = np.digitize(latent, [-3.0, 0.5, 1.0])  # uneven steps
    trees = trees_of(
        1500,
        ratings=lambda n: {"kind": tuple(Mark(i, float(classes[2 * n + i]), 1.0) for i in (0, 1))},
    )
    loss = RewardLoss()
    reading = Reading(loss=loss, levels={"kind": (1.0, 2.0, 4.0, 5.0)})
    found = started(loss, reading, trees, scores, monkeypatch)
    edges = ordered_thresholds(found["rating/kind/gaps"]) - found["rating/kind/shift"]
    np.testing.assert_allclose(edges.detach(), [-3.0, 0.5, 1.0], atol=0.25)
    scaled = torch.tensor(scores) * found["rating/kind/log_slope"].exp()
    shares = cumulative_link(scaled, edges).exp().mean(dim=0).detach()
    np.testing.assert_allclose(shares, np.bincount(classes) / 3000, atol=0.01)


def test_a_run_without_ties_ratings_and_thumbs_has_no_links() -> None:
    assert links.new_links(RewardLoss(), Reading(loss=RewardLoss())) == {}
