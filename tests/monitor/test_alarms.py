from typing import Any

import numpy as np
import pytest
from synthetic_results import curve, evaluation

from heedful.monitor.alarms import findings, on_curve, significance

NUM = 20


def rules(rows: list[dict[str, Any]], result: dict[str, Any] | None = None) -> set[str]:
    return {finding.rule for finding in findings(rows, result)}


@pytest.mark.parametrize("seed", range(20))
def test_a_healthy_run_raises_no_alarm(seed: int) -> None:
    assert findings(curve(NUM, seed=seed), evaluation()) == []


@pytest.mark.parametrize(
    ("planted", "rule"),
    [
        ({"kl_nats": np.linspace(0, 41, NUM)}, "kl_above_limit"),
        ({"entropy_nats": np.linspace(1.8, 0.5, NUM)}, "entropy_collapse"),
        ({"response_tokens": np.linspace(20, 60, NUM)}, "length_drift"),
        ({"response_tokens": np.linspace(60, 20, NUM)}, "length_drift"),
        ({"clip_share": np.linspace(0, 0.31, NUM)}, "heavy_clipping"),
        ({"equal_groups_share": np.linspace(0.2, 0.9, NUM)}, "equal_groups"),
        ({"distinct_2": np.linspace(0.9, 0.3, NUM)}, "collapsed_diversity"),
        ({"gold": 0.6 - np.abs(np.linspace(-0.2, 0.3, NUM))}, "over_optimisation"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found_and_nothing_else(planted: dict[str, Any], rule: str) -> None:
    assert rules(curve(NUM, **planted)) == {rule}


@pytest.mark.parametrize(
    "planted",
    [
        {"kl_nats": np.linspace(0, 40, NUM)},
        {"entropy_nats": np.linspace(1.8, 1.0, NUM)},
        {"response_tokens": np.linspace(20, 39, NUM)},
        {"clip_share": np.full(NUM, 0.3)},
        {"equal_groups_share": np.full(NUM, 0.5)},
        {"distinct_2": np.linspace(0.9, 0.5, NUM)},
    ],
)
def test_a_value_at_its_bound_raises_no_alarm(planted: dict[str, Any]) -> None:
    assert rules(curve(NUM, **planted)) == set()


def test_one_noisy_row_at_the_end_is_no_collapse() -> None:
    rows = curve(NUM)
    rows[-1] |= {"entropy_nats": 0.1, "response_tokens": 3.0, "gold": 0.0}
    assert rules(rows) == set()


def test_the_kl_limit_is_the_one_of_the_run() -> None:
    rows = curve(NUM, kl_nats=np.linspace(0, 12, NUM))
    (found,) = findings(rows, kl_limit=10.0)
    assert (found.rule, found.level, found.value) == ("kl_above_limit", "error", 12.0)
    assert "limit is 10" in found.cause
    assert found.remedy


def test_a_proxy_that_rises_over_a_flat_gold_seldom_alarms() -> None:
    rng = np.random.default_rng(0)
    flat = [
        curve(NUM, gold=0.4 + 0.02 * rng.normal(size=NUM), reward=np.linspace(0, 2, NUM))
        for _ in range(300)
    ]
    assert sum("over_optimisation" in rules(rows) for rows in flat) <= 15  # one in twenty


def test_a_gold_that_falls_with_its_proxy_is_not_over_optimisation() -> None:
    falling = np.linspace(1, 0, NUM)
    assert rules(curve(NUM, gold=falling, reward=falling)) == set()


def test_missing_quantities_and_short_curves_are_silent() -> None:
    assert on_curve([]) == []
    assert on_curve([{"step": i, "loss": 1.0} for i in range(9)]) == []
    assert on_curve(curve(3, entropy_nats=np.array([2.0, 0.1, 0.1]))) == []


def test_what_is_not_finite_is_left_out() -> None:
    rows = curve(NUM)
    rows[3]["kl_nats"] = float("nan")
    rows[4]["clip_share"] = float("inf")
    assert rules(rows) == set()


def test_faults_of_the_evaluation_are_found() -> None:
    result = evaluation()
    result["arms"]["policy"] |= {"distinct_2": 0.3, "tokens": 90.0}
    result["arms"]["control"]["win_rate_ci"] = [0.55, 0.7]
    expected = {"length_drift", "collapsed_diversity", "control_off_half"}
    assert rules(curve(NUM), result) == expected


def test_held_out_prompts_count_for_the_kl_limit() -> None:
    (found,) = findings(curve(NUM), evaluation(kl=41.0))
    assert (found.rule, found.value) == ("kl_above_limit", 41.0)
    assert findings(curve(NUM), evaluation(kl=41.0), kl_limit=42.0) == []


def test_the_evaluation_speaks_before_the_curve() -> None:
    result = evaluation()
    result["arms"]["policy"]["tokens"] = 384.0
    (found,) = findings(curve(NUM, response_tokens=np.linspace(20, 60, NUM)), result)
    assert found.value == pytest.approx(10.0)


def test_significance_is_welch_t() -> None:
    # means 2 and 5, variances 1 and 4: 3 / sqrt(1/3 + 4/3)
    assert significance([1, 2, 3], [3, 5, 7]) == pytest.approx(3 / (5 / 3) ** 0.5)
    assert significance([2, 2], [2, 2]) == 0.0
    assert significance([2, 2], [1, 1]) == -np.inf
