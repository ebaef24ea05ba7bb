import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from heedful.select.simulation import (
    STRATEGIES,
    Asked,
    accuracy,
    by_bald,
    by_local_design,
    by_margin,
    fit_weights,
    make_world,
    pair_differences,
    regrets,
    run,
)


def world(seed: int = 0, **options):
    sizes = {"num_prompts": 40, "num_answers": 4, "dimension": 8}
    return make_world(np.random.default_rng(seed), **sizes, **options)


def test_simulated_annotators_are_as_right_as_the_world_says():
    made = world(best_accuracy=0.8)
    pairs = pair_differences(made.pool)
    assert pairs.shape == (240, 8)
    chance = expit(pairs @ made.weights)
    assert np.maximum(chance, 1 - chance).mean() == pytest.approx(0.8)
    rng = np.random.default_rng(1)
    told = np.mean([made.answers(pairs, rng) for _ in range(4000)], axis=0)
    # Four standard errors of a share of 4000.
    assert np.abs(told - chance).max() < 4 * 0.5 / 4000**0.5


def test_pairs_are_of_answers_to_one_prompt():
    answers = np.arange(2 * 3 * 1, dtype=float).reshape(2, 3, 1)
    assert pair_differences(answers).ravel().tolist() == [-1, -2, -1] * 2


def test_fit_weights_equals_penalised_logistic_regression():
    made, rng = world(), np.random.default_rng(0)
    pairs = pair_differences(made.pool)
    is_first = made.answers(pairs, rng)
    peer = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-10).fit(pairs, is_first)
    np.testing.assert_allclose(fit_weights(pairs, is_first, ridge=2.0), peer.coef_[0], atol=1e-5)


def test_fit_weights_without_labels_are_the_prior():
    prior = np.array([1.0, -2.0])
    found = fit_weights(np.zeros((0, 2)), np.zeros(0, dtype=bool), prior=prior)
    np.testing.assert_allclose(found, prior)


def test_who_knows_the_reward_has_no_regret_and_orders_all_pairs():
    made = world()
    assert accuracy(made, made.weights) == 1
    assert regrets(made, made.weights) == (0, 0)
    assert accuracy(made, -made.weights) == 0
    mean, largest = regrets(made, -made.weights)
    # The range of four normal draws is 2.06 deviations.
    assert mean == pytest.approx(2.06, abs=0.3)
    assert largest > mean


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_asks_for_its_budget_and_learns(name):
    made = world()
    curve = run(made, STRATEGIES[name], num_labels=110, batch=20, rng=np.random.default_rng(0))
    assert curve.labels == (20, 40, 60, 80, 100, 110)
    assert curve.accuracy[-1] > 0.7


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "exact D-optimal"])
def test_strategies_but_the_exact_design_ask_no_pair_twice(name):
    made, seen = world(), []

    def watched(asked: Asked, num: int):
        seen.append(asked.chosen)
        return STRATEGIES[name](asked, num)

    run(made, watched, num_labels=100, batch=20, rng=np.random.default_rng(0))
    assert all(len(set(chosen)) == len(chosen) for chosen in seen)


def asked(pairs, chosen, is_first, weights) -> Asked:
    return Asked(
        pairs=pairs,
        chosen=np.array(chosen),
        is_first=np.array(is_first),
        weights=weights,
        num_left=100,
        rng=np.random.default_rng(0),
    )


def test_margin_asks_about_tosses_and_bald_about_what_is_unknown():
    """Half of the pairs differ in a direction known to be worth 0: tosses for ever."""
    rng = np.random.default_rng(0)
    pairs = np.zeros((400, 2))
    pairs[:200, 0], pairs[200:, 1] = rng.normal(size=200), 2 + rng.random(200)
    known = np.repeat(np.arange(100), 10)
    state = asked(pairs, known, rng.random(len(known)) < 0.5, np.array([0.0, 0.5]))
    wasted = [np.mean(pairs[strategy(state, 40), 1] == 0) for strategy in (by_margin, by_bald)]
    assert wasted[0] > 0.5
    assert wasted[1] < 0.2


def test_local_design_equals_a_greedy_one_by_determinants():
    made = world()
    pairs = pair_differences(made.pool)[:30]
    state = asked(pairs, [0, 1], [True, False], made.weights)
    chance = expit(pairs @ made.weights)
    rows = np.sqrt(chance * (1 - chance))[:, None] * pairs
    information = np.eye(8) + rows[:2].T @ rows[:2]
    taken = []
    for _ in range(5):
        values = {
            n: np.linalg.slogdet(information + np.outer(rows[n], rows[n]))[1]
            for n in range(2, 30)
            if n not in taken
        }
        best = max(values, key=lambda n: values[n])
        information += np.outer(rows[best], rows[best])
        taken.append(best)
    assert by_local_design(state, 5).tolist() == taken


def test_exact_design_has_less_regret_than_random():
    """The card's sizes, 8 dimensions and 40 prompts of 4 answers, with 100 labels of 240 pairs."""
    lost = np.array(
        [
            [
                run(
                    world(seed),
                    STRATEGIES[name],
                    num_labels=100,
                    batch=100,
                    rng=np.random.default_rng(seed),
                ).mean_regret[-1]
                for name in ("random", "exact D-optimal")
            ]
            for seed in range(60)
        ]
    )
    gain = lost[:, 0] - lost[:, 1]
    assert gain.mean() > 2 * gain.std() / len(gain) ** 0.5


def test_regret_falls_with_labels():
    found = [
        [
            run(
                make_world(
                    np.random.default_rng(seed), num_prompts=300, num_answers=4, dimension=8
                ),
                STRATEGIES["random"],
                num_labels=num,
                batch=num,
                rng=np.random.default_rng(seed),
            ).mean_regret[-1]
            for num in (100, 1600)
        ]
        for seed in range(10)
    ]
    few, many = np.mean(found, axis=0)
    # Worst-case theory has 1 / sqrt(labels), a factor 4; it may fall faster and must not slower.
    assert few > 3 * many
