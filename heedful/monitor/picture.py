"""A report as one picture for documents: the headline in words, then the pictured charts."""

from collections.abc import Sequence
from typing import Any

from heedful.errors import ConfigError
from heedful.monitor.charts import inline
from heedful.monitor.records import Report, Stat
from heedful.monitor.svg import PALETTE, themed

COLUMNS = 3
PANEL = (290, 150)
# between plots, not between their labels: room for axes on the left, below, and for titles
GAP = {"column": 62, "row": 104}
WIDTH = COLUMNS * PANEL[0] + (COLUMNS - 1) * GAP["column"]
TONES = {"good": "#2f7d4f", "bad": "#b3372f", "warn": "#8a5300", "plain": PALETTE["ink"]}


def draw(report: Report, suffix: str) -> bytes:
    """PNG at twice the size, or SVG. Raises ``ConfigError`` for another suffix."""
    import vl_convert

    if suffix not in (".png", ".svg"):
        raise ConfigError(f"a picture ends in {suffix or 'nothing'}; use .png or .svg")
    spec = themed(composite(report), background=PALETTE["paper"], padding=28)
    if suffix == ".svg":
        return str(vl_convert.vegalite_to_svg(spec)).encode()
    return bytes(vl_convert.vegalite_to_png(spec, scale=2))


def composite(report: Report) -> Any:
    """Headline above a grid of the pictured charts, on paper."""
    import altair as alt

    panels = [
        _sized(figure.panels[place](), figure.title if len(figure.panels) == 1 else None)
        for figure in report.figures()
        for place in figure.pictured
    ]
    parts = [_headline(report), alt.concat(*panels, columns=COLUMNS, bounds="flush", spacing=GAP)]
    return alt.vconcat(*parts, spacing=40)


def _sized(chart: Any, title: str | None) -> Any:
    """The chart under a title that stands at one height, whatever labels the chart has above it."""
    import altair as alt

    own = chart.title if isinstance(chart.title, str) else getattr(chart.title, "text", "")
    sized = chart.properties(width=PANEL[0], height=PANEL[1])
    sized.title = alt.Undefined
    heading = (
        alt.Chart(inline([{"text": title or own}]))
        .mark_text(align="left", fontSize=12.5, fontWeight="bold", color=PALETTE["ink"])
        .encode(x=alt.value(0), y=alt.value(-34), text="text:N")
    )
    return sized + heading


def _headline(report: Report) -> Any:
    import altair as alt

    soft, ink = PALETTE["soft"], PALETTE["ink"]
    lines = [
        _text([{"x": 0, "text": report.title}], 10, 22, ink, bold=True),
        _text([{"x": 0, "text": report.verdict}], 36, 13, soft),
        # its first sentence: who judged
        _text([{"x": 0, "text": report.notice.partition(". ")[0].rstrip(".")}], 56, 11, soft),
        *_stats(report.headline[:COLUMNS + 1]),
    ]  # fmt: skip
    return alt.layer(*lines).properties(width=WIDTH, height=130)


def _stats(stats: Sequence[Stat]) -> list[Any]:
    layers = []
    for place, stat in enumerate(stats):
        x = place * WIDTH / len(stats)
        layers += [
            _text([{"x": x, "text": stat.label}], 88, 11, PALETTE["soft"]),
            _text([{"x": x, "text": stat.value}], 112, 24, TONES[stat.tone], bold=True),
        ]
    return layers


def _text(
    rows: list[dict[str, Any]], y: float, size: float, colour: str, *, bold: bool = False
) -> Any:
    import altair as alt

    return (
        alt.Chart(inline(rows))
        .mark_text(
            align="left",
            baseline="middle",
            fontSize=size,
            color=colour,
            fontWeight="bold" if bold else "normal",
        )
        .encode(
            x=alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, WIDTH], nice=False)),
            y=alt.value(y),
            text="text:N",
        )
    )
