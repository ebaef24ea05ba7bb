"""Charts of the pages: Vega-Lite specs, drawn here so that the server need not draw."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from heedful.monitor import charts
from heedful.monitor.charts import fixed, percent
from heedful.monitor.svg import themed, to_svg
from heedful.stats.intervals import Interval

Row = dict[str, Any]
MAX_ROWS = 24  # of a chart; the table has all


def figure(
    name: str, title: str, caption: str, words: str, chart: Any, rows: Sequence[Mapping[str, Any]]
) -> Row:
    """A chart as its spec and as SVG whose colours are the page's, with its rows and its words."""
    svg = to_svg(chart, name)
    return {
        "name": name,
        "title": title,
        "caption": caption,
        "words": words,
        "rows": list(rows),
        "spec": themed(chart),
        # pages refuse inline styles; their style sheet says how wide a chart may be
        "svg": re.sub(r' style="[^"]*"', "", svg),
    }


def shares(
    name: str, title: str, caption: str, axis: str, rows: Sequence[Row], marks: Mapping[str, float]
) -> list[Row]:
    """A figure of shares with intervals; none without rows whose interval is known."""
    known = [row for row in rows if row["low"] == row["low"]][:MAX_ROWS]
    if not known:
        return []
    words = (
        "; ".join(
            f"{row['name']}: {percent(row['value'])}, 95 % interval "
            f"{fixed(100 * row['low'], 0)} to {fixed(100 * row['high'], 0)}"
            for row in known
        )
        + "."
    )
    chart = charts.intervals(known, title=axis, marks=marks)
    return [figure(name, title, caption, words, chart, known)]


def row_of(name: str, interval: Interval) -> Row:
    """A row of a chart of intervals."""
    return {
        "name": name,
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "num": interval.num,
    }


def agreement(measures: Sequence[Row]) -> list[Row]:
    """Every measure of agreement."""
    rows = [row_of(one["name"], one["interval"]) for one in measures]
    return shares(
        "agreement",
        "How far people agree",
        "Points with 95 % intervals over items. Kappa and alpha take chance away: 0 is chance.",
        "agreement",
        rows,
        {"chance": 0.0} if any(row["low"] < 0 for row in rows) else {},
    )
