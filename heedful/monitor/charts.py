"""The charts of reports as Altair specs in one theme. Altair is imported when a chart is made."""

from collections.abc import Sequence
from typing import Any

from heedful.monitor.report import Row

# Colours that the page replaces by its variables of the same name; each occurs nowhere else.
PALETTE = {
    "accent": "#0d6e6f",
    "soft": "#59636b",
    "line": "#e3e0d9",
    "a": "#3559b9",
    "b": "#a4531c",
    "ink": "#1f2429",
}
WIDTH = 960


def themed(chart: Any) -> Any:
    """The house style: quiet axes, transparent ground, colours from the palette."""
    soft, line = PALETTE["soft"], PALETTE["line"]
    axis = {
        "labelColor": soft,
        "titleColor": soft,
        "gridColor": line,
        "domainColor": line,
        "tickColor": line,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": 500,
    }
    return (
        chart.configure(background="transparent", font="Inter, system-ui, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(**axis)
        .configure_title(color=PALETTE["ink"], fontSize=12, fontWeight=600, anchor="start")
        .configure_legend(labelColor=soft, titleColor=soft, orient="top", title=None)
        .configure_header(labelColor=PALETTE["ink"], title=None)
    )


def inline(rows: Sequence[Row]) -> Any:
    """Rows as data inside the spec."""
    import altair as alt

    return alt.Data(values=list(rows))  # type: ignore[no-untyped-call]


def curves(rows: Sequence[Row], x: str, names: Sequence[tuple[str, str]], columns: int = 3) -> Any:
    """Small multiples: one panel per (field, title), all over ``x``."""
    import altair as alt

    data = inline(rows)
    panels = []
    for field, title in names:
        # a dot is a path and a slash is awkward in Vega field names; brackets quote both
        quoted = f"['{field}']"
        base = alt.Chart(data, title=title, width=(WIDTH - 60 * columns) // columns, height=120)
        panels.append(
            base.mark_line(
                color=PALETTE["accent"],
                strokeWidth=2,
                point={"size": 14, "fill": PALETTE["accent"]},
            ).encode(
                x=alt.X(f"{x}:Q", title=x, axis=alt.Axis(tickMinStep=1, grid=False)),
                y=alt.Y(f"{quoted}:Q", title=None, scale=alt.Scale(zero=False)),
            )
        )
    return themed(alt.concat(*panels, columns=columns))


def intervals(rows: Sequence[Row], *, reference: float, title: str) -> Any:
    """Points with 95 % intervals by ``name``; a line at ``reference``."""
    import altair as alt

    base = alt.Chart(inline(rows), width=WIDTH - 230, height=34 * len(rows))
    y = alt.Y("name:N", title=None, sort=None, axis=alt.Axis(labelLimit=320))
    bars = base.mark_rule(strokeWidth=6, opacity=0.35, color=PALETTE["accent"]).encode(
        y=y,
        x=alt.X("low:Q", title=title, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
        x2="high:Q",
    )
    points = base.mark_point(filled=True, size=90, color=PALETTE["accent"], opacity=1).encode(
        y=y, x="value:Q"
    )
    line = (
        alt.Chart(inline([{"at": reference}]))
        .mark_rule(strokeDash=[4, 4], color=PALETTE["soft"])
        .encode(x="at:Q")
    )
    return themed(line + bars + points)


def gold_and_proxy(rows: Sequence[Row]) -> Any:
    """Gold (true) and proxy (learned) reward against the square root of KL, by method."""
    import altair as alt

    panels = [
        alt.Chart(inline(rows), title=title, width=(WIDTH - 150) // 2, height=210)
        .mark_point(filled=True, size=60, opacity=0.9)
        .encode(
            x=alt.X("sqrt_kl:Q", title="square root of KL (nats)"),
            y=alt.Y(f"{field}:Q", title=None, scale=alt.Scale(zero=False)),
            color=alt.Color("method:N", scale=_scale()),
            shape=alt.Shape("method:N"),
        )
        for field, title in (("gold", "gold reward"), ("proxy", "proxy reward"))
    ]
    return themed(alt.hconcat(*panels))


def reliability(rows: Sequence[Row]) -> Any:
    """Accuracy against confidence with the diagonal of perfect calibration."""
    import altair as alt

    base = alt.Chart(inline(rows), width=420, height=260)
    x = alt.X("confidence:Q", scale=alt.Scale(domain=[0.5, 1]), axis=alt.Axis(format="%"))
    bars = base.mark_rule(strokeWidth=5, opacity=0.35, color=PALETTE["accent"]).encode(
        x=x,
        y=alt.Y(
            "low:Q", title="accuracy", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")
        ),
        y2="high:Q",
    )
    points = base.mark_point(filled=True, size=70, color=PALETTE["accent"], opacity=1).encode(
        x=x, y="accuracy:Q"
    )
    diagonal = (
        alt.Chart(inline([{"x": 0.5, "y": 0.5}, {"x": 1.0, "y": 1.0}]))
        .mark_line(strokeDash=[4, 4], color=PALETTE["soft"])
        .encode(x="x:Q", y="y:Q")
    )
    return themed(diagonal + bars + points)


def histogram(rows: Sequence[Row], x: str, title: str) -> Any:
    """Distributions of ``x`` by ``arm``, side by side."""
    import altair as alt

    chart = (
        alt.Chart(inline(rows), width=WIDTH - 120, height=150)
        .mark_bar(opacity=0.55)
        .encode(
            x=alt.X(f"{x}:Q", bin=alt.Bin(maxbins=24), title=title),
            y=alt.Y("count():Q", stack=None, title="answers"),
            color=alt.Color("arm:N", scale=_scale()),
        )
    )
    return themed(chart)


def _scale() -> Any:
    import altair as alt

    return alt.Scale(range=[PALETTE["accent"], PALETTE["b"], PALETTE["a"]])
