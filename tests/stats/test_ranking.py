import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from heedful.stats.ranking import bradley_terry_strengths

# A-B 2:3, A-D 1:4, B-C 5:3, C-D 1:3
GOLDEN = np.array([[0, 2, 0, 1], [3, 0, 5, 0], [0, 3, 0, 1], [4, 0, 3, 0]])


def test_strengths_match_golden_numbers():
    expected = [0.640, 1.043, 0.660, 2.270]
    np.testing.assert_allclose(bradley_terry_strengths(GOLDEN), expected, atol=5e-4)


def test_strengths_have_geometric_mean_one():
    assert np.log(bradley_terry_strengths(GOLDEN)).mean() == pytest.approx(0, abs=1e-12)


def test_strengths_of_two_are_the_odds_of_their_games():
    strengths = bradley_terry_strengths([[0, 9], [4, 0]])
    assert strengths[0] / strengths[1] == pytest.approx(9 / 4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), num=st.integers(2, 6))
def test_strengths_balance_won_and_expected_games(seed, num):
    wins = np.random.default_rng(seed).integers(1, 20, size=(num, num))
    np.fill_diagonal(wins, 0)
    strengths = bradley_terry_strengths(wins)
    probability = strengths[:, None] / (strengths[:, None] + strengths)
    np.testing.assert_allclose(((wins + wins.T) * probability).sum(1), wins.sum(1), rtol=1e-6)


def test_strengths_equal_logistic_regression():
    rows, labels = [], []
    for i, j in np.argwhere(GOLDEN):
        game = np.eye(4)[i] - np.eye(4)[j]
        rows += [game, -game] * GOLDEN[i, j]
        labels += [1, 0] * GOLDEN[i, j]
    peer = LogisticRegression(C=1e8, fit_intercept=False, tol=1e-10, max_iter=1000)
    log_strengths = peer.fit(rows, labels).coef_[0]
    expected = np.exp(log_strengths - log_strengths.mean())
    np.testing.assert_allclose(bradley_terry_strengths(GOLDEN), expected, rtol=1e-4)


def test_strengths_follow_a_relabelling():
    order = np.array([2, 0, 3, 1])
    relabelled = bradley_terry_strengths(GOLDEN[np.ix_(order, order)])
    np.testing.assert_allclose(relabelled, bradley_terry_strengths(GOLDEN)[order], rtol=1e-6)


def test_strengths_refuse_a_candidate_that_never_wins():
    with pytest.raises(ValueError, match="2 groups"):
        bradley_terry_strengths([[0, 1, 2], [1, 0, 3], [0, 0, 0]])


@pytest.mark.parametrize("wins", [[[0, 1]], [[0, -1], [1, 0]], [[0, np.nan], [1, 0]]])
def test_strengths_refuse_what_is_no_table_of_counts(wins):
    with pytest.raises(ValueError, match="must be square"):
        bradley_terry_strengths(wins)


def test_strengths_say_when_the_steps_do_not_suffice():
    with pytest.raises(ArithmeticError, match="after 2 steps"):
        bradley_terry_strengths(GOLDEN, max_steps=2)
