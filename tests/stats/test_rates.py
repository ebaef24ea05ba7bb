import math

import numpy as np
import pytest
from scipy.stats import binomtest

from heedful.stats.intervals import Interval, wilson
from heedful.stats.rates import (
    gold_accuracy,
    is_surely_below,
    rates,
    self_consistency,
    side_bias,
    side_bias_p_values,
)
from heedful.stats.votes import encode_votes

from .simulate import crowd


def test_rates_are_wilson_overall_and_per_annotator():
    ours = rates(["b", "a", "b", "b"], [True, False, True, False])
    assert ours.overall == wilson(2, 4)
    assert ours.by_annotator == {"a": wilson(0, 1), "b": wilson(2, 3)}


def test_side_bias_of_five_points_is_found_and_none_is_not():
    found, false_alarms = 0, 0
    for seed in range(20):
        biased, fair = crowd(seed, num_items=600, left_points=5), crowd(seed, num_items=600)
        ours = side_bias(biased.names(biased.annotator), biased.chose_left).overall
        found += ours.low > 0.5
        assert ours.value == pytest.approx(0.55, abs=0.03)  # standard error 0.009
        fair_share = side_bias(fair.names(fair.annotator), fair.chose_left).overall
        false_alarms += not fair_share.low <= 0.5 <= fair_share.high
    assert found == 20
    assert false_alarms <= 4  # 1 expected


def test_side_bias_names_the_one_who_always_clicks_left():
    people = ["ann"] * 40 + ["bob"] * 40
    p_values = side_bias_p_values(side_bias(people, [True] * 40 + [True, False] * 20))
    assert p_values["ann"] == pytest.approx(2 * binomtest(40, 40).pvalue)
    assert p_values["bob"] == 1


def test_self_consistency_counts_items_answered_twice():
    votes = encode_votes(list("iijjkk"), list("aaaabb"), list("xxxyyy"))
    ours = self_consistency(votes)
    assert ours.by_annotator == {"a": wilson(1, 2), "b": wilson(1, 1)}
    assert ours.overall == wilson(2, 3)


def test_self_consistency_of_three_answers_is_the_share_of_equal_pairs():
    votes = encode_votes(["i"] * 3, ["a"] * 3, ["x", "x", "y"])
    assert self_consistency(votes).overall.value == pytest.approx(1 / 3)


def test_self_consistency_refuses_answers_without_repeats():
    with pytest.raises(ValueError, match="nobody answered an item twice"):
        self_consistency(encode_votes(["i", "j"], ["a", "a"], ["x", "y"]))


def test_a_flag_needs_the_whole_interval_and_enough_answers():
    assert is_surely_below(wilson(10, 30), 0.6)
    assert not is_surely_below(wilson(16, 30), 0.6)  # 0.53, but up to 0.70
    assert not is_surely_below(wilson(2, 10), 0.6)  # sure, but of ten
    nan = math.nan
    assert not is_surely_below(Interval(value=nan, low=nan, high=nan, num=30), 0.6)


def test_gold_items_flag_guessers_and_spare_careful_annotators():
    rng = np.random.default_rng(0)
    people = [f"{a:03}" for a in range(200) for _ in range(40)]
    chance = np.repeat([0.5, 0.9], 100)[np.repeat(np.arange(200), 40)]
    ours = gold_accuracy(people, rng.random(8000) < chance).by_annotator
    flagged = np.array([is_surely_below(ours[name], 0.75) for name in sorted(ours)])
    assert flagged[:100].mean() > 0.85
    assert not flagged[100:].any()


@pytest.mark.parametrize("outcomes", [[], [0.5, 2], [math.nan, 1], [1]])
def test_rates_refuse_what_are_no_outcomes(outcomes):
    with pytest.raises(ValueError, match="outcome"):
        rates(["a", "b"] if outcomes else [], outcomes)
