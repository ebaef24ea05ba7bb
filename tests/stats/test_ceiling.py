import math

import numpy as np
import pytest

from heedful.stats.ceiling import accuracy_ceiling, human_ceiling, rating_ceiling
from heedful.stats.intervals import Interval
from heedful.stats.votes import encode_votes

from .simulate import crowd


def exact(value: float) -> Interval:
    return Interval(value=value, low=value, high=value, num=1000)


def test_human_ceiling_equals_a_hand_computed_example():
    """x x y: the x agree with a tie of the others by half, the y with neither; then y y y."""
    votes = encode_votes(list("111222"), list("abcabc"), list("xxyyyy"))
    found = human_ceiling(votes, {"1": "x", "2": "y"}, rng=np.random.default_rng(0))
    assert found.human.value == pytest.approx((0.5 + 0.5 + 0 + 3) / 6)
    # The references are: half x, half x, x; then y.
    assert found.model.value == pytest.approx((0.5 + 0.5 + 1 + 3) / 6)
    assert found.lead.value == pytest.approx(found.model.value - found.human.value)
    assert found.human.num == 6


def test_human_ceiling_of_independent_annotators_matches_its_closed_form():
    """Three people, each right with 0.8: agree with one of two others with a^2 + (1-a)^2."""
    covered = 0
    expected = 0.8**2 + 0.2**2
    for seed in range(40):
        people = crowd(seed, num_items=150, num_annotators=3, overlap=3, skill=(0.8, 0.8))
        found = human_ceiling(people.votes, rng=np.random.default_rng(seed)).human
        covered += found.low <= expected <= found.high
    assert covered >= 34


def test_human_ceiling_can_be_passed_by_a_model_that_knows_the_truth():
    people = crowd(0, num_items=600, overlap=3, skill=(0.7, 0.8))
    names = people.votes.items
    truth = {name: ("first", "second")[int(people.truth[int(name[-4:])])] for name in names}
    found = human_ceiling(people.votes, truth, rng=np.random.default_rng(0))
    assert found.lead.low > 0
    coin = dict.fromkeys(names, "first")
    assert human_ceiling(people.votes, coin, rng=np.random.default_rng(0)).lead.high < 0


def test_human_ceiling_leaves_out_who_has_no_other_beside_them():
    votes = encode_votes(list("11223"), list("ababa"), list("xxyyx"))
    assert human_ceiling(votes, rng=np.random.default_rng(0)).human.num == 4
    with pytest.raises(ValueError, match="1 items have answers of two people"):
        human_ceiling(
            encode_votes(list("112"), list("aba"), list("xxy")), rng=np.random.default_rng(0)
        )


def test_human_ceiling_refuses_missing_predictions():
    votes = encode_votes(list("1122"), list("abab"), list("xxyy"))
    with pytest.raises(ValueError, match="1 items have no prediction, such as '2'"):
        human_ceiling(votes, {"1": "x"}, rng=np.random.default_rng(0))


def test_accuracy_ceiling_holds_for_any_mixture_of_hard_and_easy_items():
    rng = np.random.default_rng(0)
    for _ in range(200):
        q = 0.5 + rng.random(rng.integers(1, 6)) / 2
        shares = rng.dirichlet(np.ones(len(q)))
        low, high = accuracy_ceiling(exact(float(shares @ (q**2 + (1 - q) ** 2))))
        assert low.value - 1e-12 <= shares @ q <= high.value + 1e-12


@pytest.mark.parametrize(("q", "shares", "side"), [([0.9], [1], 1), ([0.5, 1], [0.4, 0.6], 0)])
def test_accuracy_ceiling_reaches_both_ends(q, shares, side):
    chance = np.array(q)
    agreement = float(np.array(shares) @ (chance**2 + (1 - chance) ** 2))
    assert accuracy_ceiling(exact(agreement))[side].value == pytest.approx(np.dot(shares, q))


def test_accuracy_ceiling_of_tosses_is_one_half():
    low, high = accuracy_ceiling(Interval(value=0.48, low=0.4, high=0.52, num=90))
    assert (low.value, high.value) == (0.5, 0.5)
    assert high.high == pytest.approx((1 + math.sqrt(0.04)) / 2)


def test_rating_ceiling_of_normal_raters_matches_its_closed_form():
    """A person's ratings are truth plus noise of variance 1, so are the other two: the Pearson
    correlation of one with the mean of two is 1 / sqrt(2 * 1.5), and of the truth 1 / sqrt(1.5)."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=3000)
    items = np.repeat(np.arange(3000), 3)
    ratings = truth[items] + rng.normal(size=9000)
    people = np.tile(["a", "b", "c"], 3000).tolist()
    found = rating_ceiling(items.tolist(), people, ratings, truth[items], rng=rng, num_resamples=60)

    def spearman(pearson: float) -> float:  # of a normal pair
        return 6 / math.pi * math.asin(pearson / 2)

    assert found.human.value == pytest.approx(spearman(1 / math.sqrt(3)), abs=0.02)
    assert found.model.value == pytest.approx(spearman(1 / math.sqrt(1.5)), abs=0.02)
    assert found.lead.low > 0
    assert found.human.num == 9000


def test_rating_ceiling_leaves_out_who_has_no_other_beside_them():
    """One person's second rating of an item is not another person's."""
    rng = np.random.default_rng(0)
    items, people = list("112233"), list("abaaab")
    found = rating_ceiling(items, people, [1, 2, 3, 4, 5, 4], [1, 1, 2, 2, 3, 3], rng=rng)
    assert found.human.num == 4
    with pytest.raises(ValueError, match="1 items have ratings of two people"):
        rating_ceiling(items[:4], people[:4], [1, 2, 3, 4], [1, 1, 2, 2], rng=rng)
