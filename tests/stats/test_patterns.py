"""Features of preferred answers: planted ones are found, others are not."""

from itertools import product

import numpy as np
import pytest

from heedful.stats.patterns import effects_at_equal, feature_effects


def planted(seed, *, num=400, shift=0.4, per_prompt=1):
    """Differences of three features; only the first goes with being preferred."""
    rng = np.random.default_rng(seed)
    differences = rng.normal(size=(num, 3))
    differences[num // 2 :] = -differences[: num // 2]  # their means are 0, not only nearly
    differences[:, 0] += shift
    return differences, np.arange(num) // per_prompt, rng


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_feature_is_found_and_the_others_are_not(seed):
    differences, prompts, rng = planted(seed)
    found = feature_effects(differences, prompts, rng=rng)
    assert found[0].adjusted < 0.001
    assert min(one.adjusted for one in found[1:]) > 0.01
    assert found[0].effect.low < 0.4 < found[0].effect.high
    assert found[0].more.value == pytest.approx((differences[:, 0] > 0).mean())
    assert found[1].more.low < 0.5 < found[1].more.high


def test_false_alarms_stay_at_their_level_when_pairs_of_a_prompt_are_copies():
    alarms = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        differences = np.repeat(rng.normal(size=(30, 2)), 10, axis=0)
        found = feature_effects(
            differences, np.arange(300) // 10, rng=rng, num_resamples=50, num_flips=199
        )
        alarms += any(one.adjusted < 0.05 for one in found)
    assert alarms <= 8  # 3 are expected; as independent pairs most of the 60 would alarm


def test_the_p_value_is_that_of_all_sign_patterns():
    sums = np.array([[3.0], [1.0], [2.0], [-0.5], [1.5], [0.5], [2.5]])
    exact = np.mean([abs(np.dot(s, sums[:, 0])) >= 10 for s in product((1, -1), repeat=7)])
    found = feature_effects(sums, np.arange(7), rng=np.random.default_rng(0), num_flips=50_000)
    assert found[0].p_value == pytest.approx(exact, rel=0.1)


def test_a_feature_that_never_differs_is_unknown_and_costs_the_others_nothing():
    differences, prompts, _ = planted(0)
    alone = feature_effects(differences[:, :1], prompts, rng=np.random.default_rng(1))
    beside = feature_effects(
        np.column_stack([differences[:, 0], np.zeros(400)]), prompts, rng=np.random.default_rng(1)
    )
    assert beside[0].adjusted == pytest.approx(alone[0].adjusted, abs=1e-3)
    assert np.isnan([beside[1].more.value, beside[1].effect.value, beside[1].adjusted]).all()


@pytest.mark.parametrize("num_apart", [9, 10])
def test_a_rare_feature_has_an_interval_from_ten_pairs_on(num_apart):
    differences, prompts, _ = planted(0)
    rare = np.zeros(400)
    rare[:num_apart] = np.linspace(-1, 2.5, num_apart)
    table = np.column_stack([differences[:, 0], rare])
    ordinary, one = feature_effects(table, prompts, rng=np.random.default_rng(1))
    assert np.isfinite([ordinary.effect.low, one.effect.value, one.more.value]).all()
    bounds = [one.effect.low, one.effect.high, one.more.low, one.more.high]
    assert np.isnan(bounds).all() == (num_apart < 10)
    (_, _), (at_equal, p_value) = effects_at_equal(table, differences[:, 1], prompts)
    assert np.isfinite(at_equal.value)
    assert np.isnan([at_equal.low, p_value]).all() == (num_apart < 10)


def test_what_only_goes_with_length_vanishes_at_equal_length():
    rng = np.random.default_rng(3)
    length = rng.normal(size=1500)
    lists = 0.8 * length + rng.normal(size=1500)
    kind = rng.normal(size=1500)
    sign = np.where(rng.random(1500) < 1 / (1 + np.exp(-length - 0.5 * kind)), 1.0, -1.0)
    table = np.column_stack([lists, kind]) * sign[:, None]
    (listed, by_lists), (kindness, by_kind) = effects_at_equal(
        table, length * sign, np.arange(1500)
    )
    assert feature_effects(table, np.arange(1500), rng=rng)[0].adjusted < 0.01
    assert listed.low < 0 < listed.high
    assert by_lists > 0.05
    assert kindness.low < 0.5 < kindness.high
    assert by_kind < 0.01


def test_with_few_prompts_nothing_is_surely_there_at_equal_length():
    alarms = dict.fromkeys((1, 2, 4), 0)
    for num in alarms:
        for seed in range(100):
            rng = np.random.default_rng([num, seed])
            prompt = np.repeat(np.arange(num), 20)
            table = rng.normal(size=(len(prompt), 1)) + rng.normal(size=num)[prompt, None]
            length = rng.normal(size=len(prompt))
            ((interval, p_value),) = effects_at_equal(table, length, prompt)
            alarms[num] += p_value < 0.05
            assert num > 1 or np.isnan([interval.low, interval.high, p_value]).all()
    # 5 are expected of each 100
    assert alarms[1] == 0
    assert max(alarms.values()) <= 12, alarms


def test_one_cluster_or_infinite_differences_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="1 cluster"):
        feature_effects(np.ones((3, 1)), np.zeros(3, int), rng=rng)
    with pytest.raises(ValueError, match="finite"):
        feature_effects([[np.inf]], np.zeros(1, int), rng=rng)
