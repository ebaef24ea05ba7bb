import math

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import brier_score_loss, log_loss

from heedful.stats.calibration import (
    brier,
    calibration_by_slice,
    confident_mistakes,
    ece,
    ece_by_halves,
    ece_floor,
    fit_temperature,
    nll,
    reliability_bins,
    scale_by_halves,
)


def simulate(num: int, seed: int = 0):
    """True probabilities that the first of two wins, and who won."""
    rng = np.random.default_rng(seed)
    probabilities = expit(rng.normal(0, 1.5, size=num))
    return probabilities, (rng.random(num) < probabilities).astype(float)


def chosen_first(probabilities, outcomes):
    return np.where(outcomes == 1, probabilities, 1 - probabilities), np.ones_like(outcomes)


def test_reliability_bins_match_a_hand_computed_example():
    bins = reliability_bins([0.9, 0.2, 0.6, 0.7], [1, 1, 0, 1], num_bins=2)
    np.testing.assert_allclose(bins.confidence, [0.65, 0.85])
    np.testing.assert_allclose(bins.accuracy, [0.5, 0.5])
    assert bins.num.tolist() == [2, 2]


def test_ece_matches_a_hand_computed_example():
    assert ece([0.9, 0.2, 0.6, 0.7], [1, 1, 0, 1], num_bins=2) == pytest.approx(0.25)


def test_ece_does_not_depend_on_which_side_is_first():
    probabilities, outcomes = simulate(1000)
    folded = ece(*chosen_first(probabilities, outcomes))
    assert folded == pytest.approx(ece(probabilities, outcomes))
    assert ece(1 - probabilities, 1 - outcomes) == pytest.approx(folded)


def test_ece_does_not_depend_on_the_order_of_equal_probabilities():
    """Bins of equal mass end between pairs of one confidence."""
    rng = np.random.default_rng(0)
    predicted, happened = rng.choice([0.55, 0.6, 0.8], size=95), rng.random(95) < 0.6
    seen = {round(ece(predicted[order], happened[order]), 12)
            for order in (rng.permutation(95) for _ in range(20))}  # fmt: skip
    assert len(seen) == 1


def test_ece_of_a_calibrated_model_is_its_floor():
    probabilities, outcomes = simulate(5000)
    floor = ece_floor(probabilities, rng=np.random.default_rng(1), num_resamples=50)
    # The ECE of one calibrated sample scatters by about a third of its mean.
    assert ece(probabilities, outcomes) < 2 * floor
    assert floor < 0.03


def test_ece_of_a_coin_that_knows_it_is_zero():
    assert ece([0.5] * 7, [1] * 7) == 0


def test_ece_of_a_sure_and_wrong_model_is_one():
    assert ece([1.0, 0.0], [0, 1]) == 1


def test_reliability_bins_of_few_pairs_hold_one_pair_each():
    assert reliability_bins([0.9, 0.8, 0.7], [1, 1, 1]).num.tolist() == [1, 1, 1]


def test_temperature_undoes_a_planted_scale():
    probabilities, outcomes = simulate(20_000)
    deltas = np.log(probabilities / (1 - probabilities)) * np.where(outcomes == 1, 1, -1)
    temperature = fit_temperature(3 * deltas)
    assert temperature == pytest.approx(3, abs=0.1)
    ones = np.ones_like(deltas)
    before, after = expit(3 * deltas), expit(3 * deltas / temperature)
    assert ((before > 0.5) == (after > 0.5)).all()
    floor = ece_floor(after, rng=np.random.default_rng(1), num_resamples=20)
    assert ece(before, ones) > 0.08
    assert ece(after, ones) < 2 * floor


def test_temperature_minimises_the_nll():
    deltas = np.random.default_rng(0).normal(0.5, 1, size=200)
    temperature = fit_temperature(deltas)
    best, *others = (
        nll(expit(deltas / (factor * temperature)), np.ones(200)) for factor in (1, 0.99, 1.01)
    )
    assert best < min(others)


def test_temperature_refuses_a_model_no_better_than_chance():
    with pytest.raises(ValueError, match="must be above 0"):
        fit_temperature([1.0, -2.0])


def test_temperature_refuses_a_model_without_an_error():
    with pytest.raises(ValueError, match="all pairs are ranked correctly"):
        fit_temperature([1.0, 2.0])


def test_no_half_is_scaled_by_its_own_temperature():
    deltas = np.random.default_rng(0).normal(0.5, 1, size=400)
    is_first = np.arange(400) < 150
    deltas[is_first] *= 4
    scaled, (first, others) = scale_by_halves(deltas, is_first)
    assert (first, others) == (fit_temperature(deltas[:150]), fit_temperature(deltas[150:]))
    np.testing.assert_allclose(scaled[:150] * others, deltas[:150])
    np.testing.assert_allclose(scaled[150:] * first, deltas[150:])


def test_halves_of_two_scales_are_calibrated_by_each_other_alone():
    p = np.random.default_rng(1).uniform(0.05, 0.95, size=4000)
    won = np.random.default_rng(2).random(4000) < p
    deltas = np.where(won, 1, -1) * np.log(p / (1 - p))
    is_first = np.arange(4000) % 2 == 0
    same, floor = ece_by_halves(3 * deltas, is_first)
    assert same < 2 * floor
    assert ece(expit(3 * deltas), np.ones(4000)) > 5 * same
    assert ece_by_halves(np.where(is_first, 3, 1) * deltas, is_first)[0] > 5 * same


def test_brier_and_nll_equal_sklearn():
    probabilities, outcomes = simulate(300)
    assert brier(probabilities, outcomes) == pytest.approx(
        brier_score_loss(outcomes, probabilities)
    )
    assert nll(probabilities, outcomes) == pytest.approx(log_loss(outcomes, probabilities))


def test_nll_of_a_sure_and_wrong_model_is_infinite():
    assert nll([1.0, 0.5], [0, 1]) == math.inf
    assert nll([1.0, 0.0], [1, 0]) == 0


def test_calibration_by_slice_is_that_of_its_pairs_alone():
    probabilities, outcomes = simulate(300)
    slices = ["short" if n % 3 else "long" for n in range(300)]
    found = calibration_by_slice(probabilities, outcomes, slices, rng=np.random.default_rng(0))
    assert list(found) == ["long", "short"]
    p, y = probabilities[::3], outcomes[::3]
    long = found["long"]
    assert (long.ece, long.brier, long.nll) == pytest.approx((ece(p, y), brier(p, y), nll(p, y)))
    assert long.accuracy.value == pytest.approx(((p > 0.5) == y).mean())
    assert long.accuracy.num == 100
    # A calibrated sample's ECE is near its floor: within half of it for 100 and 200 pairs.
    assert all(one.ece < 1.6 * one.ece_floor for one in found.values())


def test_calibration_by_slice_refuses_a_slice_too_few():
    with pytest.raises(ValueError, match="2 pairs with 1 slices"):
        calibration_by_slice([0.5, 0.6], [1, 1], ["a"], rng=np.random.default_rng(0))


def test_confident_mistakes_are_the_surest_first():
    found = confident_mistakes([0.9, 0.1, 0.5, 0.4, 0.95, 0.3], [1, 1, 0, 1, 0, 1])
    assert found.tolist() == [4, 1, 5, 3]
    assert confident_mistakes([0.9, 0.1], [0, 1], most=1).tolist() == [0]


@pytest.mark.parametrize(
    ("probabilities", "outcomes", "message"),
    [
        ([], [], "at least 1 pair"),
        ([0.5], [1, 0], "1 probabilities with 2"),
        ([1.2], [1], "outside"),
    ],
)
def test_calibration_refuses_malformed_input(probabilities, outcomes, message):
    for measure in (ece, brier, nll):
        with pytest.raises(ValueError, match=message):
            measure(probabilities, outcomes)
