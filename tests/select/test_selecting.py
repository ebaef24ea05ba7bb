"""Scores of tasks against brute force."""

import itertools

import numpy as np
import pytest

from heedful.select import bald, closeness, design_gains, margin_variance, pair_information
from heedful.select.d_optimal import LARGEST_NORM_QUANTILE, RIDGE


def log_det(blocks: list[np.ndarray], scale: float) -> float:
    """By the definition: every difference of every block."""
    information = RIDGE * np.eye(blocks[0].shape[1]) if blocks else np.zeros((1, 1))
    for block in blocks:
        for one, other in itertools.combinations(block, 2):
            information = information + np.outer(one - other, one - other) / scale**2
    return float(np.linalg.slogdet(information)[1])


def total_norm(block: np.ndarray) -> float:
    pairs = itertools.combinations(block, 2)
    return float(np.sqrt(sum(((one - other) ** 2).sum() for one, other in pairs)))


@pytest.mark.parametrize(("seed", "num_answers"), [(0, 2), (1, 2), (2, 3), (3, 4)])
def test_gains_equal_a_greedy_design_by_determinants(seed: int, num_answers: int) -> None:
    rng = np.random.default_rng(seed)
    blocks = [rng.standard_normal((num_answers, 3)) for _ in range(7)]
    limit = float(np.quantile([total_norm(block) for block in blocks], LARGEST_NORM_QUANTILE))
    # clipping by hand, so that the oracle needs one scale only
    clipped = [block * min(1.0, limit / total_norm(block)) for block in blocks]
    taken: list[int] = []
    expected = np.zeros(len(blocks))
    before = 3 * np.log(RIDGE)
    while len(taken) < len(blocks):
        values = {
            number: log_det([clipped[one] for one in [*taken, number]], limit)
            for number in range(len(blocks))
            if number not in taken
        }
        best = max(values, key=lambda number: values[number])
        expected[best], before = values[best] - before, values[best]
        taken.append(best)
    gains = design_gains(blocks)
    np.testing.assert_allclose(gains, expected, atol=1e-8)
    assert list(np.argsort(-gains)) == taken


def test_greedy_reaches_its_guarantee_against_the_best_set() -> None:
    """At least 1 - 1/e of the best gain of any set of the same size."""
    rng = np.random.default_rng(4)
    blocks = [rng.standard_normal((2, 3)) for _ in range(8)]
    limit = float(np.quantile([total_norm(block) for block in blocks], LARGEST_NORM_QUANTILE))
    clipped = [block * min(1.0, limit / total_norm(block)) for block in blocks]
    start = 3 * np.log(RIDGE)
    order = np.argsort(-design_gains(blocks))[:4]
    greedy = log_det([clipped[one] for one in order], limit) - start
    best = max(
        log_det([clipped[one] for one in chosen], limit) - start
        for chosen in itertools.combinations(range(8), 4)
    )
    assert (1 - 1 / np.e) * best <= greedy <= best + 1e-9


def test_a_direction_asked_before_is_worth_less() -> None:
    one, two = np.eye(2)
    zero = np.zeros(2)
    gains = design_gains([[one, zero], [zero, one], [two, zero]])
    assert sorted([gains[0], gains[2]]) == pytest.approx([np.log1p(1 / RIDGE)] * 2)
    assert gains[1] == pytest.approx(np.log1p(1 / (1 + RIDGE)))


def test_a_design_goes_on_from_what_was_asked() -> None:
    rng = np.random.default_rng(5)
    blocks = [rng.standard_normal((2, 6)) for _ in range(9)]
    weights = rng.uniform(0.1, 1.0, 9)
    whole = design_gains(blocks, weights=weights)
    order = np.argsort(-whole)
    ordered = [blocks[one] for one in order]
    rest = design_gains(ordered, weights=weights[order], num_asked=4)
    assert not rest[:4].any()
    np.testing.assert_allclose(rest[4:], whole[order[4:]], atol=1e-9)


def test_a_pair_tells_what_its_answer_says_of_the_weights() -> None:
    margin = 1.3

    def loss(at: np.ndarray, label: float) -> float:
        chance = 1 / (1 + np.exp(-(margin + at @ features)))
        return float(-label * np.log(chance) - (1 - label) * np.log(1 - chance))

    features, step = np.array([1.0, 0.0]), 1e-4
    zero, ahead = np.zeros(2), np.array([step, 0.0])
    # the second derivative of the negative log-likelihood, which no label changes
    for label in (0.0, 1.0):
        second = (loss(ahead, label) - 2 * loss(zero, label) + loss(-ahead, label)) / step**2
        assert pair_information(margin) == pytest.approx(4 * second, rel=1e-3)
    assert pair_information(0.0) == 1.0
    # of two tasks with features alike, the one whose answer is open is asked first
    gains = design_gains([np.eye(2), np.eye(2)], weights=pair_information([3.0, 0.1]))
    assert gains[1] > gains[0]


def test_features_of_two_models_do_not_mix() -> None:
    with pytest.raises(ValueError, match="different dimensions"):
        design_gains([np.ones((2, 3)), np.ones((2, 4))])
    with pytest.raises(ValueError, match="not finite"):
        design_gains([np.full((2, 3), np.nan)])
    assert design_gains([]).shape == (0,)


def test_margin_variance_is_that_of_every_pair() -> None:
    scores = np.array([[0.0, 1.0, 3.0], [2.0, 2.0, 2.0], [1.0, -1.0, 0.5]])
    margins = [
        [row[one] - row[other] for row in scores]
        for one, other in itertools.combinations(range(3), 2)
    ]
    slow = []
    for values in margins:
        mean = sum(values) / 3
        slow.append(sum((value - mean) ** 2 for value in values) / 2)
    assert margin_variance(scores) == pytest.approx(sum(slow) / 3)


def test_members_that_agree_but_for_a_constant_do_not_disagree() -> None:
    scores = np.array([0.3, -1.0, 2.0])
    assert margin_variance([scores, scores + 7, scores - 2]) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="at least 2 members"):
        margin_variance([scores])


def test_bald_equals_its_definition_by_enumerated_answers() -> None:
    """The mutual information of the answer and the member, from their joint table."""
    scores = np.random.default_rng(0).standard_normal((5, 3))
    told = []
    for one, other in itertools.combinations(range(3), 2):
        chance = 1 / (1 + np.exp(-(scores[:, one] - scores[:, other])))
        joint = np.stack([chance, 1 - chance], axis=1) / 5
        independent = joint.sum(axis=0) * joint.sum(axis=1, keepdims=True)
        told.append(float((joint * np.log(joint / independent)).sum()))
    assert bald(scores) == pytest.approx(np.mean(told))


def test_bald_of_members_that_agree_on_a_toss_is_zero_and_of_opposites_log_two() -> None:
    assert bald([[1.0, 1.0], [2.0, 2.0]]) == pytest.approx(0, abs=1e-12)
    assert bald([[99.0, 0.0], [0.0, 99.0]]) == pytest.approx(np.log(2))
    with pytest.raises(ValueError, match="at least 2 members"):
        bald([[1.0, 2.0]])


def test_closeness_is_highest_where_the_mean_member_sees_no_difference() -> None:
    assert closeness([[1.0, 1.0]]) == 0
    assert closeness([[1.0, 0.0], [0.0, 1.0]]) == 0
    assert closeness([[3.0, 1.0, 0.0]]) == pytest.approx(-(2 + 3 + 1) / 3)
    with pytest.raises(ValueError, match="2 answers"):
        closeness([[1.0]])
