"""The charts of reports as bare Altair specs. Altair is imported when a chart is made.

Sizes are chosen for legibility at both ends: a panel of ``PANEL`` is a third of a desktop page or
a whole phone, one of ``HALF`` half a desktop page. Names of rows stand above their marks, so that
long ones do not squeeze the scale.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from heedful.monitor.records import Row, Span, Stat
from heedful.monitor.svg import PALETTE

PANEL = 320
HALF = 360
ROW_HEIGHT = 44
MIN_SMOOTHED = 12
MAX_DOTTED = 60
PERCENT_LABEL = "format(100 * datum.value, 'd') + ' %'"


def inline(rows: Sequence[Row]) -> Any:
    """Rows as data inside the spec; what is not a finite number is missing."""
    import altair as alt

    values = [{key: _finite(value) for key, value in row.items()} for row in rows]
    return alt.Data(values=values)  # type: ignore[no-untyped-call]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def moving_average(values: Sequence[float]) -> list[float]:
    """Centred mean over a tenth of the values and at least five, over fewer at the ends."""
    reach = max(5, len(values) // 10) // 2
    parts = [values[max(0, i - reach) : i + reach + 1] for i in range(len(values))]
    return [sum(part) / len(part) for part in parts]


def number(value: float) -> str:
    """Three significant digits, a true minus, no exponent for ordinary sizes."""
    if value and not 1e-3 <= abs(value) < 1e6:
        text = f"{value:.1e}" if abs(value) >= 1e-6 else "0"
    else:
        text = f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}" if value else "0"
    return text.replace("-", "\N{MINUS SIGN}")


def fixed(value: float, digits: int = 1) -> str:
    """So many decimals, thousands apart, a true minus, and none before a zero."""
    text = f"{value:,.{digits}f}"
    if not text.strip("-0.,"):
        text = text.removeprefix("-")
    return text.replace("-", "\N{MINUS SIGN}")


def curve(
    rows: Sequence[Row],
    x: str,
    field: str,
    title: str,
    *,
    marks: Mapping[str, float] | None = None,
    colour: str = "accent",
) -> Any:
    """A quantity over ``x``: bold moving average over the faint raw line when points are many.

    ``marks`` are named horizontal lines; one that would squash the curve is left out.
    """
    import altair as alt

    known = [row for row in rows if _finite(row.get(field)) is not None]
    values = [float(row[field]) for row in known]
    smoothed = len(values) >= MIN_SMOOTHED
    means = moving_average(values) if smoothed else values
    data = [
        {"x": row[x], "value": value, "mean": mean}
        for row, value, mean in zip(known, values, means, strict=True)
    ]
    across = alt.X("x:Q", title=x, axis=alt.Axis(grid=False, tickCount=5, tickMinStep=1))
    axis = alt.Axis(tickCount=4, domain=False, ticks=False, minExtent=34)
    base = alt.Chart(inline(data)).encode(x=across)
    up = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False, nice=True), axis=axis)
    ink = PALETTE[colour]
    layers = [
        *_horizontals(values, marks or {}),
        base.mark_line(color=ink, strokeWidth=1.2, opacity=0.35 if smoothed else 1).encode(y=up),
    ]
    if len(values) <= MAX_DOTTED:
        layers.append(base.mark_point(color=ink, size=12, filled=True, opacity=0.5).encode(y=up))
    if smoothed:
        layers.append(base.mark_line(color=ink, strokeWidth=2.4).encode(y="mean:Q"))
    heading = alt.TitleParams(title, subtitle=_from_to(means))
    return alt.layer(*layers, title=heading).properties(width=PANEL, height=150)


def _from_to(values: Sequence[float]) -> str:
    if not values:
        return "no values"
    return f"{number(values[0])} \N{RIGHTWARDS ARROW} {number(values[-1])}"


def _horizontals(values: Sequence[float], marks: Mapping[str, float]) -> list[Any]:
    """Dashed lines with names, where they stand near the values."""
    import altair as alt

    low, high = min(values, default=0.0), max(values, default=0.0)
    room = 0.8 * (high - low)
    near = [
        {"name": name, "value": value}
        for name, value in marks.items()
        if low - room <= value <= high + room
    ]
    if not near:
        return []
    base = alt.Chart(inline(near)).encode(y="value:Q")
    names = base.encode(x=alt.value("width"), text="name:N")
    soft = PALETTE["soft"]
    return [
        base.mark_rule(strokeDash=[4, 4], color=soft),
        *_written(names, align="right", dx=-2, dy=-7, color=soft, fontSize=10.5),
    ]


def _written(base: Any, **style: Any) -> list[Any]:
    """Text that stays legible where it crosses a line: on a halo of paper."""
    halo = {**style, "color": PALETTE["paper"], "stroke": PALETTE["paper"], "strokeWidth": 4}
    return [base.mark_text(**halo), base.mark_text(**style)]


def _named_rows(rows: Sequence[Row], text: Sequence[str]) -> tuple[Any, list[Any]]:
    """The band scale of a chart of named rows, and the layers that write name and value."""
    import altair as alt

    band = alt.Y("name:N", title=None, sort=None, axis=None)
    data = inline(
        [{"name": row["name"], "text": words} for row, words in zip(rows, text, strict=True)]
    )
    base = alt.Chart(data).encode(y=band)
    names = base.encode(x=alt.value(0), text="name:N")
    texts = base.encode(x=alt.value("width"), text="text:N")
    return band, [
        *_written(names, align="left", dy=-14, fontSize=11.5, color=PALETTE["ink"]),
        *_written(texts, align="right", dy=-14, fontSize=11.5, color=PALETTE["soft"]),
    ]


def _verticals(marks: Mapping[str, float]) -> list[Any]:
    """Dashed lines with names at the top."""
    import altair as alt

    if not marks:
        return []
    base = alt.Chart(inline([{"name": k, "at": v} for k, v in marks.items()])).encode(x="at:Q")
    soft = PALETTE["soft"]
    return [
        base.mark_rule(strokeDash=[4, 4], color=soft),
        base.mark_text(color=soft, fontSize=10.5, baseline="bottom").encode(
            y=alt.value(-4), text="name:N"
        ),
    ]


def percent(value: float, digits: int = 1) -> str:
    """A share with the sign."""
    return f"{fixed(100 * value, digits)} %"


def percents(low: float, high: float, digits: int = 1) -> str:
    """Two shares with one sign: ``42.1 to 60.5 %``."""
    return f"{fixed(100 * low, digits)} to {percent(high, digits)}"


def between(low: float, high: float) -> str:
    """A 95 % interval of a share in words."""
    return f"95 % interval {percents(low, high)}"


def share(
    label: str, value: float, low: float, high: float, *, marks: Sequence[tuple[float, str]]
) -> Stat:
    """A share with its 95 % interval, in words and as a bar with ``marks``."""
    return Stat(
        label=label,
        value=percent(value),
        detail=between(low, high),
        span=Span(low=low, value=value, high=high, marks=marks),
    )


def intervals(rows: Sequence[Row], *, title: str, marks: Mapping[str, float]) -> Any:
    """Shares with their 95 % intervals by ``name``; dashed lines at ``marks``.

    The axis goes from 0 to 1, and further down where a measure is below chance.
    """
    import altair as alt

    text = [
        f"{percent(row['value'])}  ({_ends(row['low'], row['high'])})"
        if row["high"] > row["low"]
        else percent(row["value"])
        for row in rows
    ]
    band, labels = _named_rows(rows, text)
    axis = alt.Axis(labelExpr=PERCENT_LABEL, tickCount=5, grid=False)
    lowest = min((row["low"] for row in rows), default=0.0)
    scale = alt.Scale(domain=[min(0.0, math.floor(5 * lowest) / 5), 1])
    base = alt.Chart(inline(rows)).encode(y=band)
    accent = PALETTE["accent"]
    bars = base.mark_rule(strokeWidth=7, opacity=0.3, color=accent, strokeCap="round").encode(
        x=alt.X("low:Q", title=title, scale=scale, axis=axis), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=95, color=accent, opacity=1).encode(x="value:Q")
    chart = alt.layer(*_verticals(marks), bars, points, *labels)
    return chart.properties(width=HALF, height=ROW_HEIGHT * len(rows))


def _ends(low: float, high: float) -> str:
    """The ends of an interval of shares in percent; a dash beside a minus would be misread."""
    joined = " to " if low < 0 else "\N{EN DASH}"
    return f"{fixed(100 * low, 0)}{joined}{fixed(100 * high, 0)}"


def ratings(rows: Sequence[Row], *, title: str) -> Any:
    """Numbers of any size with their 95 % intervals by ``name``, on an axis around them."""
    import altair as alt

    text = [
        f"{fixed(row['value'], 0)}  ({fixed(row['low'], 0)}\N{EN DASH}{fixed(row['high'], 0)})"
        for row in rows
    ]
    band, labels = _named_rows(rows, text)
    base = alt.Chart(inline(rows)).encode(y=band)
    scale, axis = alt.Scale(zero=False, nice=True), alt.Axis(tickCount=5, grid=True)
    accent = PALETTE["accent"]
    bars = base.mark_rule(strokeWidth=7, opacity=0.3, color=accent, strokeCap="round").encode(
        x=alt.X("low:Q", title=title, scale=scale, axis=axis), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=95, color=accent, opacity=1).encode(x="value:Q")
    return alt.layer(bars, points, *labels).properties(width=HALF, height=ROW_HEIGHT * len(rows))


def changes(rows: Sequence[Row], *, title: str) -> Any:
    """Before (hollow) and after (full) by ``name``, joined by a line."""
    import altair as alt

    arrow = "\N{RIGHTWARDS ARROW}"
    text = [f"{number(row['before'])} {arrow} {number(row['after'])}" for row in rows]
    band, labels = _named_rows(rows, text)
    base = alt.Chart(inline(rows)).encode(y=band)
    across = alt.X("before:Q", title=title, axis=alt.Axis(tickCount=5, grid=False))
    accent = PALETTE["accent"]
    layers = [
        base.mark_rule(strokeWidth=3, opacity=0.35, color=accent).encode(x=across, x2="after:Q"),
        base.mark_point(
            filled=True, size=70, opacity=1, fill=PALETTE["paper"], stroke=PALETTE["soft"]
        ).encode(x="before:Q"),
        base.mark_point(filled=True, size=95, opacity=1, color=accent).encode(x="after:Q"),
    ]
    return alt.layer(*layers, *labels).properties(width=HALF, height=ROW_HEIGHT * len(rows))


def bars(rows: Sequence[Row], *, title: str, unit: str) -> Any:
    """Amounts by ``name`` from 0."""
    import altair as alt

    total = sum(row["value"] for row in rows) or 1.0
    text = [f"{row['value']:,.1f} {unit}, {100 * row['value'] / total:.0f} %" for row in rows]
    band, labels = _named_rows(rows, text)
    marks = (
        alt.Chart(inline(rows))
        .mark_bar(height=8, color=PALETTE["accent"], cornerRadiusEnd=3)
        .encode(y=band, x=alt.X("value:Q", title=title, axis=alt.Axis(tickCount=5, grid=False)))
    )
    return alt.layer(marks, *labels).properties(width=HALF, height=ROW_HEIGHT * len(rows))


METHODS = ("PPO", "best of n", "start")


def against_distance(rows: Sequence[Row], field: str, title: str) -> Any:
    """A reward against the square root of KL: the path of PPO, best of n, and the start."""
    import altair as alt

    scale = alt.Scale(domain=METHODS, range=[PALETTE[name] for name in ("accent", "b", "ink")])
    shapes = alt.Scale(domain=METHODS, range=["circle", "diamond", "square"])
    across = alt.X(
        "sqrt_kl:Q", title="square root of KL, nats", scale=alt.Scale(zero=True), axis=_few()
    )
    place: dict[str, Any] = {
        "x": across,
        "y": alt.Y(f"{field}:Q", title=None, scale=alt.Scale(zero=False), axis=_few()),
        "color": alt.Color("method:N", scale=scale, legend=None),
    }
    joined = _path(rows, field)
    path = alt.Chart(inline(joined)).mark_line(strokeWidth=2.4).encode(**place, order="order:Q")
    points = (
        alt.Chart(inline(rows))
        .mark_point(filled=True, size=44)
        .encode(
            **place,
            shape=alt.Shape("method:N", scale=shapes, legend=None),
            opacity=alt.condition("datum.method == 'PPO'", alt.value(0.5), alt.value(1)),
        )
    )
    written = [
        text
        for labels, style in _labels(rows, joined)
        for text in _written(
            alt.Chart(inline(labels)).encode(**place, text="label:N"), fontSize=11, **style
        )
    ]
    return alt.layer(path, points, *written, title=title).properties(width=HALF, height=230)


def _labels(
    rows: Sequence[Row], joined: Sequence[Row]
) -> list[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Names with their places: below the start and the end of PPO, above best of n."""
    path = [{**row, "label": "PPO"} for row in joined if row["method"] == "PPO"]
    best = [
        {**row, "label": f"best of {row.get('n', 'n')}"}
        for row in rows
        if row["method"] == "best of n" and row.get("n") != 1
    ]
    start = [{**row, "label": "start"} for row in rows if row["method"] == "start"]
    return [
        (path[-1:], {"align": "right", "dy": -13}),
        (best, {"align": "right", "dx": -6, "dy": -7}),
        (start, {"align": "left", "dx": 7, "dy": 9}),
    ]


def _few() -> Any:
    import altair as alt

    return alt.Axis(tickCount=5)


def _path(rows: Sequence[Row], field: str) -> list[Row]:
    """Points to be joined: each method's own, the noisy ones of PPO as moving averages."""
    joined: list[Row] = []
    for method in METHODS:
        own = [row for row in rows if row["method"] == method]
        ups, acrosses = ([float(row[name]) for row in own] for name in (field, "sqrt_kl"))
        if len(own) >= MIN_SMOOTHED:
            ups, acrosses = moving_average(ups), moving_average(acrosses)
        joined += [
            {"method": method, "order": i, field: up, "sqrt_kl": across}
            for i, (up, across) in enumerate(zip(ups, acrosses, strict=True))
        ]
    return joined


def reliability(rows: Sequence[Row]) -> Any:
    """Accuracy against confidence with the diagonal of perfect calibration."""
    import altair as alt

    share = alt.Axis(labelExpr=PERCENT_LABEL, tickCount=5)
    end = _tenth_above(max((row["confidence"] for row in rows), default=1.0))
    x = alt.X(
        "confidence:Q",
        title="confidence of the reward model",
        scale=alt.Scale(domain=[0.5, end]),
        axis=share,
    )
    y = alt.Y("low:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=share)
    base = alt.Chart(inline(rows)).encode(x=x)
    accent = PALETTE["accent"]
    diagonal = (
        alt.Chart(inline([{"x": 0.5, "y": 0.5}, {"x": end, "y": end}]))
        .mark_line(strokeDash=[4, 4], color=PALETTE["soft"], strokeWidth=1.2)
        .encode(x="x:Q", y="y:Q")
    )
    bars = base.mark_rule(strokeWidth=7, opacity=0.3, color=accent, strokeCap="round").encode(
        y=y, y2="high:Q"
    )
    points = base.mark_point(filled=True, size=95, color=accent, opacity=1).encode(y="accuracy:Q")
    return alt.layer(diagonal, bars, points).properties(width=HALF, height=230)


def _tenth_above(value: float) -> float:
    return min(1.0, math.floor(10 * value + 1) / 10)


MAX_BINS = 24


def histogram(counts: Mapping[str, Sequence[int]], *, title: str, unit: str) -> Any:
    """Distributions of whole numbers on one scale: the first as an outline, the last filled."""
    import altair as alt

    names = list(counts)
    rows = binned(counts)
    scale = alt.Scale(domain=names, range=[PALETTE["soft"], PALETTE["accent"]])
    legend = alt.Legend(symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=3)
    base = alt.Chart(inline(rows)).encode(
        x=alt.X("from:Q", title=title, scale=alt.Scale(zero=False, nice=False), axis=_few()),
        y=alt.Y("count:Q", title=unit, stack=None, axis=_few()),
        color=alt.Color("arm:N", scale=scale, legend=legend),
    )
    filled = base.transform_filter(f"datum.arm === {json.dumps(names[-1])}")
    layers = [
        filled.mark_area(interpolate="step-after", opacity=0.22),
        base.mark_line(interpolate="step-after", strokeWidth=2),
    ]
    return alt.layer(*layers).properties(width=HALF, height=230)


def binned(counts: Mapping[str, Sequence[int]]) -> list[Row]:
    """How many numbers fall into bins of whole width, with an empty bin at either end."""
    everything = [value for group in counts.values() for value in group]
    low, high = min(everything), max(everything)
    width = math.ceil((high - low + 1) / MAX_BINS)
    edges = range(low - width, high + 2 * width, width)
    return [
        {"arm": name, "from": at, "count": sum(at <= value < at + width for value in group)}
        for name, group in counts.items()
        for at in edges
    ]
