"""The objective of reward models against written-out numpy, form by form."""

import numpy as np
import pytest
import torch
from scipy.special import expit, logsumexp

from heedful.config import RewardLoss, check
from heedful.data.collate import Mark, Ranking, Tree, collate
from heedful.errors import ConfigError
from heedful.tensors import Outputs
from heedful.train.objectives import Share, feedback_reward
from heedful.train.sources import count

CPU = torch.device("cpu")
LINKS = {
    "tie": torch.tensor(0.3),
    "thumb/log_slope": torch.tensor(0.2),
    "thumb/threshold": torch.tensor(-0.4),
    "rating/honest/log_slope": torch.tensor(-0.1),
    "rating/honest/shift": torch.tensor(0.5),
    "rating/honest/gaps": torch.tensor([0.1, 0.7]),
}
FIRST = Tree(
    id="a",
    prompt=(1,),
    responses=((2,), (3,), (4,), (5,)),
    pairs=((0, 1), (2, 0)),
    weights=(1.0, 0.5),
    margins=(0.0, 2.0),
    ties=((1, 3),),
    tie_weights=(0.25,),
    rankings=(Ranking((3, 0, 2), 1, 2.0),),
)
SECOND = Tree(
    id="b",
    prompt=(1,),
    responses=((6,), (7,), (8,)),
    rankings=(Ranking((2, 1, 0), 2, 1.0), Ranking((1, 0), 1, 1.0)),
    ratings={"honest": (Mark(0, 3, 1.0), Mark(2, 0, 0.5))},
    thumbs=(Mark(1, 1.0, 1.0), Mark(2, 0.0, 3.0)),
)
SCORES = np.array([0.3, -1.2, 0.8, 2.0, -0.5, 1.5, 0.1])


def run(loss: RewardLoss, trees: list[Tree], scores: np.ndarray) -> tuple[float, dict]:
    batch = collate(trees, CPU)
    given = Outputs(scores=torch.tensor(scores), links=LINKS)
    total, metrics = feedback_reward(loss)(given, batch)
    return total.item(), metrics


def by_hand(ties: str) -> dict[str, float]:
    s, second = SCORES[:4], SCORES[4:]
    eta, nu = np.logaddexp(0, 0.3), np.exp(0.3)

    def win(delta: float) -> float:
        if ties == "rao_kupper":
            return float(expit(delta - eta))
        return float(1 / (1 + np.exp(-delta) + nu * np.exp(-delta / 2)))

    def tie(delta: float) -> float:
        if ties == "rao_kupper":
            return float(expit(delta + eta) - expit(delta - eta))
        return float(nu / (np.exp(delta / 2) + np.exp(-delta / 2) + nu))

    slope, shift = np.exp(-0.1), 0.5
    steps = np.cumsum([0, *np.logaddexp(0, [0.1, 0.7])])
    edges = steps - steps.mean()

    def below(k: int, score: float) -> float:
        return 0.0 if k < 0 else 1.0 if k > 2 else float(expit(edges[k] - slope * score - shift))

    def rated(k: int, score: float) -> float:
        return -np.log(below(k, score) - below(k - 1, score))

    thumb = np.exp(0.2) * second + 0.4
    return {
        "pair": -np.log(win(s[0] - s[1])) - 0.5 * np.log(win(s[2] - s[0] - 2.0)),
        "tie": -0.25 * np.log(tie(s[1] - s[3])),
        "ranking": 2 * (logsumexp(s[[3, 0, 2]]) - s[3])
        + (logsumexp(second) - second[2] + logsumexp(second[:2]) - second[1])
        + (logsumexp(second[:2]) - second[1]),
        "rating_honest": rated(3, second[0]) + 0.5 * rated(0, second[2]),
        "thumb": -np.log(expit(thumb[1])) - 3 * np.log(expit(-thumb[2])),
    }


@pytest.mark.parametrize("ties", ["rao_kupper", "davidson"])
def test_every_form_adds_its_likelihood(ties: str) -> None:
    total, metrics = run(check(RewardLoss, {"ties": ties}), [FIRST, SECOND], SCORES)
    expected = by_hand(ties)
    for name, value in expected.items():
        part = metrics[f"reward/{name}_loss"]
        assert isinstance(part, Share)
        np.testing.assert_allclose(part.total.item(), value, rtol=1e-6)
    np.testing.assert_allclose(total, sum(expected.values()), rtol=1e-6)


def test_the_sum_does_not_depend_on_how_trees_are_batched() -> None:
    loss = RewardLoss(ties="davidson", centring=0.1)
    whole, _ = run(loss, [FIRST, SECOND], SCORES)
    parts = run(loss, [FIRST], SCORES[:4])[0] + run(loss, [SECOND], SCORES[4:])[0]
    np.testing.assert_allclose(whole, parts, rtol=1e-6)
    batches = [collate([one], CPU) for one in (FIRST, SECOND)]
    weight = 1.5 + 0.25 + 2 + 2 + 1.5 + 4
    assert count(batches, "judgements") == count([collate([FIRST, SECOND], CPU)], "judgements")
    assert count(batches, "judgements") == weight


def test_regression_and_centring_are_added_as_they_are_defined() -> None:
    total, _ = run(RewardLoss(ratings="regression"), [SECOND], SCORES[4:])
    ordinal, metrics = run(RewardLoss(), [SECOND], SCORES[4:])
    found = np.exp(-0.1) * SCORES[[4, 6]] + 0.5 - np.array([3.0, 0.0])
    squares = (found**2 * [1, 0.5]).sum()
    rest = ordinal - metrics["reward/rating_honest_loss"].total.item()
    np.testing.assert_allclose(total, rest + squares, rtol=1e-6)
    pairs = Tree(id="p", prompt=(1,), responses=((2,), (3,)), pairs=((0, 1),))
    plain, _ = run(RewardLoss(), [pairs], SCORES[:2])
    centred, _ = run(RewardLoss(centring=0.1), [pairs], SCORES[:2])
    np.testing.assert_allclose(centred - plain, 0.1 * (SCORES[0] + SCORES[1]) ** 2, rtol=1e-6)


def test_contradictory_pairs_are_the_soft_label_of_their_shares() -> None:
    votes = Tree(
        id="v", prompt=(1,), responses=((2,), (3,)), pairs=((0, 1), (0, 1), (0, 1), (1, 0))
    )
    total, _ = run(RewardLoss(), [votes], SCORES[:2])
    delta = SCORES[0] - SCORES[1]
    soft = -0.75 * np.log(expit(delta)) - 0.25 * np.log(expit(-delta))
    np.testing.assert_allclose(total / 4, soft, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"pairs": "bradly_terry"}, "did you mean 'bradley_terry'"),
        ({"params": {"label_smoothing": 0.7}}, "below 0.5"),
        ({"params": {"smoothing": 0.1}}, "has no parameter 'smoothing'"),
        ({"params": {"margin": 1.0}}, "set that"),
        ({"ties": "davidson", "pairs": "constant_error"}, "its own likelihood of pairs"),
        ({"ties": "davidson", "params": {"label_smoothing": 0.1}}, "its own likelihood"),
    ],
)
def test_a_loss_that_cannot_be_is_refused_before_anything_is_loaded(
    settings: dict, match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        feedback_reward(check(RewardLoss, settings))
