import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from heedful.monitor import charts


def test_moving_average_is_the_mean_of_its_window() -> None:
    assert charts.moving_average([1, 2, 3, 4, 5, 6]) == [2, 2.5, 3, 4, 4.5, 5]


def test_moving_average_of_many_values_is_over_a_tenth_of_them() -> None:
    spike = [0.0] * 100
    spike[50] = 1.0
    assert sum(value > 0 for value in charts.moving_average(spike)) == 11


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (12.345, "12.3"),
        (-1.5, "\N{MINUS SIGN}1.50"),
        (1234.5, "1234"),
        (0.00123, "0.00123"),
    ],
)
def test_number_has_three_digits(value: float, text: str) -> None:
    assert charts.number(value) == text


def test_bins_hold_every_number_once() -> None:
    rows = charts.binned({"start": [3, 3, 4, 90], "policy": [5]})
    counts = {
        arm: sum(row["count"] for row in rows if row["arm"] == arm) for arm in ("start", "policy")
    }
    assert counts == {"start": 4, "policy": 1}
    edges = [row["from"] for row in rows if row["arm"] == "start"]
    assert rows[0]["count"] == 0
    assert edges[-1] > 90
    assert len(edges) <= charts.MAX_BINS + 3


def test_data_of_charts_hold_no_odd_numbers() -> None:
    values = charts.inline([{"x": math.nan, "y": 1.0}, {"x": math.inf, "y": 2.0}]).to_dict()
    assert values == {"values": [{"x": None, "y": 1.0}, {"x": None, "y": 2.0}]}


SHARES = [{"name": "a", "value": 0.6, "low": 0.5, "high": 0.7}]
POINTS = [
    {"method": method, "sqrt_kl": 1.0, "gold": 0.5, "n": 4} for method in charts.METHODS
]  # fmt: skip
BINS = [{"confidence": 0.57, "accuracy": 0.6, "low": 0.5, "high": 0.7}]


@pytest.mark.parametrize(
    "draw",
    [
        partial(charts.curve, [{"x": i, "y": i} for i in range(20)], "x", "y", "y", marks={"m": 9}),
        partial(charts.curve, [], "x", "y", "nothing"),
        partial(charts.intervals, SHARES, title="share", marks={"chance": 0.5}),
        partial(charts.changes, [{"name": "a", "before": 0.1, "after": 0.2}], title="part"),
        partial(charts.bars, SHARES, title="seconds", unit="s"),
        partial(charts.against_distance, POINTS, "gold", "gold"),
        partial(charts.reliability, BINS),
        partial(charts.histogram, {"start": [1, 2], "policy": [3]}, title="words", unit="answers"),
    ],
)
def test_every_chart_is_valid_vega_lite(draw: Callable[[], Any]) -> None:
    assert draw().to_dict()["$schema"]  # raises when the schema is not met


@pytest.mark.parametrize(("confidence", "end"), [(0.57, 0.6), (0.6, 0.7), (0.95, 1.0), (1.0, 1.0)])
def test_the_confidence_axis_ends_above_the_surest_bin(confidence: float, end: float) -> None:
    chart = charts.reliability([{**BINS[0], "confidence": confidence}]).to_dict()
    assert chart["layer"][1]["encoding"]["x"]["scale"]["domain"] == [0.5, end]


def drawn_marks(marks: dict[str, float]) -> str:
    rows = [{"step": i, "kl": 0.1 * i} for i in range(20)]
    return str(charts.curve(rows, "step", "kl", "KL", marks=marks).to_dict())


def test_a_mark_near_the_curve_is_drawn_and_one_that_would_squash_it_is_not() -> None:
    chart = drawn_marks({"target": 2.5, "limit": 40.0})
    assert "target" in chart
    assert "limit" not in chart


def test_numbers_have_a_true_minus_and_no_minus_before_a_zero() -> None:
    minus = "\N{MINUS SIGN}"
    assert charts.fixed(-1234.56) == f"{minus}1,234.6"
    assert charts.fixed(-0.004, 2) == charts.fixed(0.0, 2) == "0.00"
    assert charts.fixed(-0.4, 0) == "0"
    assert charts.percents(0.3, 0.414, 0) == "30 to 41 %"


def test_shares_below_zero_are_drawn_and_written_as_they_are() -> None:
    rows = [{"name": "alpha", "value": -0.012, "low": -0.23, "high": 0.19}]
    chart = charts.intervals(rows, title="agreement", marks={}).to_dict()
    scale = next(
        layer["encoding"]["x"]["scale"]
        for layer in chart["layer"]
        if "scale" in layer["encoding"].get("x", {})
    )
    assert scale["domain"] == [-0.4, 1]
    minus = "\N{MINUS SIGN}"
    assert f"{minus}1.2 %  ({minus}23 to 19)" in str(chart)
