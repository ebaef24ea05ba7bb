"""A report is records; rendered it is one static page that needs nothing else.

Figures are inline SVG whose colours follow the page's light or dark scheme; every figure carries
its data as a table, as a download and in one JSON block that ``read_report_data`` reads back.
"""

import base64
import csv
import io
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from heedful.types import Finding

Row = Mapping[str, Any]
MAX_TABLE_ROWS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """A headline number. ``tone`` is plain, good or bad."""

    label: str
    value: str
    detail: str = ""
    tone: str = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart with its data. ``chart`` is an Altair chart; ``caption`` is its text alternative."""

    title: str
    caption: str
    chart: Any
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under named columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Answers before and after, whole. Each row: prompt, before, after, gold_before, gold_after."""

    rows: Sequence[Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A finding in words."""

    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Commands to copy."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Lineage as a row of (label, id)."""

    items: Sequence[tuple[str, str]]


Block = Figure | Table | Comparison | Note | Code | Chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading, a sentence or two, and blocks."""

    title: str
    text: str = ""
    blocks: Sequence[Block] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A page. Made by the functions beside this file, written by ``write_report``."""

    title: str
    subtitle: str
    notice: str = ""
    headline: Sequence[Stat] = ()
    sections: Sequence[Section] = ()


def write_report(report: Report, path: Path) -> None:
    """Write the page whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(render(report), encoding="utf-8")
    os.replace(partial, path)


def read_report_data(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of every figure of a written report, by title."""
    found = re.search(
        r'<script type="application/json" id="report-data">(.*?)</script>',
        path.read_text(encoding="utf-8"),
        re.DOTALL,
    )
    if not found:
        raise ValueError(f"{path} holds no report data; it is not a report")
    data: dict[str, list[dict[str, Any]]] = json.loads(found.group(1))
    return data


def render(report: Report) -> str:
    """The whole page as HTML."""
    sections = "".join(_section(number, section) for number, section in enumerate(report.sections))
    links = "".join(
        f'<a href="#s{number}">{escape(section.title)}</a>'
        for number, section in enumerate(report.sections)
    )
    data = {f.title: list(f.rows) for s in report.sections for f in s.blocks
            if isinstance(f, Figure)}  # fmt: skip
    # "<" is escaped so that no text can close the script element
    block = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c")
    notice = f'<p class="notice">{escape(report.notice)}</p>' if report.notice else ""
    stats = "".join(map(_stat, report.headline))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{_style()}</style></head><body>"
        '<a class="skip" href="#main">Skip to the report</a>'
        f'<header class="top"><span class="brand">heed<b>ful</b></span><nav>{links}</nav></header>'
        f'<main id="main"><h1>{escape(report.title)}</h1><p class="soft">'
        f'{escape(report.subtitle)}</p>{notice}<div class="stats">{stats}</div>{sections}</main>'
        f'<script type="application/json" id="report-data">{block}</script></body></html>\n'
    )


def _style() -> str:
    return files(__name__.rpartition(".")[0]).joinpath("report.css").read_text(encoding="utf-8")


def _stat(stat: Stat) -> str:
    return (
        f'<div class="card stat {escape(stat.tone)}"><span class="who">{escape(stat.label)}</span>'
        f'<b class="num">{escape(stat.value)}</b><span class="soft">{escape(stat.detail)}</span>'
        "</div>"
    )


def _section(number: int, section: Section) -> str:
    blocks = "".join(RENDERERS[type(block)](block) for block in section.blocks)
    text = f"<p class='lead'>{escape(section.text)}</p>" if section.text else ""
    return (
        f'<section id="s{number}" aria-labelledby="h{number}">'
        f'<h2 id="h{number}">{escape(section.title)}</h2>{text}{blocks}</section>'
    )


def _figure(figure: Figure) -> str:
    columns = list(figure.rows[0]) if figure.rows else []
    table = _plain_table(columns, [[row.get(c) for c in columns] for row in figure.rows])
    name = re.sub(r"\W+", "-", figure.title.lower()).strip("-")
    return (
        f'<figure class="card"><figcaption><b>{escape(figure.title)}</b> '
        f'<span class="soft">{escape(figure.caption)}</span></figcaption>'
        f'<div class="plot" role="img" aria-label="{escape(figure.title)}. '
        f'{escape(figure.caption)}">{to_svg(figure.chart)}</div>'
        f"<details><summary>Data ({len(figure.rows)} rows)</summary>"
        f'<p><a download="{name}.csv" href="{_csv_link(columns, figure.rows)}">Download as CSV</a>'
        f"</p>{table}</details></figure>"
    )


def _csv_link(columns: Sequence[str], rows: Sequence[Row]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(columns)
    writer.writerows([row.get(column) for column in columns] for row in rows)
    encoded = base64.b64encode(stream.getvalue().encode()).decode()
    return f"data:text/csv;base64,{encoded}"


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f'<th scope="col">{escape(str(column))}</th>' for column in columns)
    body = "".join(
        "<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows[:MAX_TABLE_ROWS]
    )
    hidden = len(rows) - MAX_TABLE_ROWS
    more = f'<p class="soft">and {hidden} more rows in the download</p>' if hidden > 0 else ""
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        f"</div>{more}"
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"<td>{escape('' if value is None else str(value))}</td>"
    text = f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
    return f'<td class="num">{text}</td>'


def _table(table: Table) -> str:
    title = f"<h3>{escape(table.title)}</h3>" if table.title else ""
    return f'<div class="card">{title}{_plain_table(table.columns, table.rows)}</div>'


def _comparison(comparison: Comparison) -> str:
    return "".join(
        '<article class="card pairing">'
        f'<p class="prompt"><span class="who">Prompt</span>{escape(row["prompt"])}</p>'
        f"{_side('Before', row['before'], row['gold_before'], row['gold_after'])}"
        f"{_side('After', row['after'], row['gold_after'], row['gold_before'])}</article>"
        for row in comparison.rows
    )


def _side(label: str, text: str, score: float, other: float) -> str:
    better = " chosen" if score > other else ""
    mark = " · preferred" if better else ""
    return (
        f'<div class="answer{better}"><span class="who">{label} · gold {score:.2f}{mark}</span>'
        f"<p>{escape(text)}</p></div>"
    )


def _note(note: Note) -> str:
    finding = note.finding
    return (
        f'<p class="alarm {escape(finding.level)}"><b>{escape(finding.level)}</b> '
        f"{escape(finding.cause)} <span class='soft'>{escape(finding.remedy)}</span></p>"
    )


def _code(code: Code) -> str:
    return f"<pre>{escape(code.text)}</pre>"


def _chain(chain: Chain) -> str:
    items = "".join(
        f'<li><span class="who">{escape(label)}</span><code>{escape(name)}</code></li>'
        for label, name in chain.items
    )
    return f'<ol class="chain">{items}</ol>'


RENDERERS: dict[type, Callable[[Any], str]] = {
    Figure: _figure,
    Table: _table,
    Comparison: _comparison,
    Note: _note,
    Code: _code,
    Chain: _chain,
}


def to_svg(chart: Any) -> str:
    """The chart as inline SVG whose palette follows the page's CSS variables."""
    import vl_convert

    from heedful.monitor.charts import PALETTE

    svg: str = vl_convert.vegalite_to_svg(chart.to_json())
    for variable, colour in PALETTE.items():
        svg = svg.replace(colour, f"var(--{variable})")
    # the size becomes the view box's, so that the page can shrink the figure
    return re.sub(r'<svg([^>]*?) width="[\d.]+" height="[\d.]+"', r"<svg\1", svg, count=1)
