"""Records to HTML: every text escaped, every figure with its data, nothing loaded."""

import base64
import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape as escape_markup
from importlib.resources import files
from itertools import count
from typing import Any

from heedful.monitor.charts import number
from heedful.monitor.records import (
    Block,
    Chain,
    Code,
    Comparison,
    Figure,
    KeyValues,
    Link,
    Note,
    Pair,
    Report,
    Row,
    Section,
    Span,
    Stat,
    Table,
)
from heedful.monitor.svg import to_svg

NUMBER_IN_WORDS = re.compile(r"[-\u2212]?\d[\d.,]*(?: %)?(?: \([^()]*\))?|\u2013")
MAX_TABLE_ROWS = 40
DATA_ID = "report-data"
# Proof on the page itself: a browser refuses whatever is not in the file.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


# HTML allows no control characters, and models write some: shown as pictures of them (U+2400 on).
PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {0x7F: 0x2421}
UNKNOWN = re.compile("[\x80-\x9f\ud800-\udfff]")


def escape(text: str) -> str:
    """Any string as text of the page: nothing is markup, and everything can be encoded."""
    return escape_markup(UNKNOWN.sub("\N{REPLACEMENT CHARACTER}", text).translate(PICTURES))


def page(report: Report) -> str:
    """The whole page."""
    sections = "".join(_section(number, part) for number, part in enumerate(report.sections))
    return (
        f"<!doctype html>\n{_head(report)}"
        f'<a class="skip" href="#main">Skip to the report</a>{_menu(report)}'
        f'<main id="main">{_opening(report)}{sections}'
        f"<footer><p>{_footer(report)}</p></footer></main>"
        f'<script type="application/json" id="{DATA_ID}">{_data(report)}</script></body></html>\n'
    )


def _head(report: Report) -> str:
    style = files(__name__.rpartition(".")[0]).joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(report.title)}</title><style>{style}</style></head><body>"
    )


def _menu(report: Report) -> str:
    links = "".join(
        f'<a href="#s{number}">{escape(section.short or section.title)}</a>'
        for number, section in enumerate(report.sections)
    )
    return (
        '<header class="top"><span class="brand">heed<b>ful</b></span>'
        f'<nav aria-label="Sections">{links}</nav></header>'
    )


def _opening(report: Report) -> str:
    verdict = notice = stats = ""
    if report.verdict:
        verdict = f'<p class="verdict {report.tone}">{escape(report.verdict)}</p>'
    if report.notice:
        notice = f'<p class="notice" role="note">{escape(report.notice)}</p>'
    if report.headline:
        stats = f'<ul class="stats">{"".join(map(_stat, report.headline))}</ul>'
    return (
        f'<h1>{escape(report.title)}</h1><p class="lead">{escape(report.subtitle)}</p>'
        f"{notice}{verdict}{stats}"
    )


def _footer(report: Report) -> str:
    num = len(report.figures())
    return (
        f"{num} figure{'' if num == 1 else 's'}. The page is one file that loads nothing; the rows "
        "of every figure are under Data, as a download and in the page itself, from where "
        "<code>heedful.monitor.report.read_report_data</code> reads them back."
    )


def _data(report: Report) -> str:
    """All rows by figure as JSON; ``<`` is escaped so that no text can close the element."""
    figures = report.figures()
    data = {figure.title: [plain(row) for row in figure.rows] for figure in figures}
    if len(data) < len(figures):
        raise ValueError("two figures of the report have one title; their data would be mixed up")
    return json.dumps(data, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")


def plain(row: Row) -> dict[str, Any]:
    """The row as JSON holds it: what is not a finite number becomes null."""
    return {key: None if _is_odd(value) else value for key, value in row.items()}


def _is_odd(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _stat(stat: Stat) -> str:
    return (
        f'<li class="card stat {stat.tone}"><span class="who">{escape(stat.label)}</span>'
        f'<b class="num">{escape(stat.value)}</b>{_span(stat.span) if stat.span else ""}'
        f'<span class="soft">{escape(stat.detail)}</span></li>'
    )


def _span(span: Span) -> str:
    """The interval as a bar, with ticks; the words beside it say the same."""

    def place(value: float) -> float:
        share = (value - span.start) / (span.end - span.start)
        return round(100 * min(1.0, max(0.0, share)), 2)

    low, high = place(span.low), place(span.high)
    ticks = "".join(
        f'<s style="left:{place(at)}%"></s><em style="left:{place(at)}%">{escape(name)}</em>'
        for at, name in span.marks
    )
    return (
        f'<span class="range" aria-hidden="true"><i style="left:{low}%;width:{high - low:.2f}%">'
        f'</i>{ticks}<u style="left:{place(span.value)}%"></u></span>'
    )


def _section(number: int, section: Section) -> str:
    names = (f"f{number}-{place}" for place in count())
    blocks = "".join(render_block(block, next(names)) for block in section.blocks)
    text = f'<p class="lead">{escape(section.text)}</p>' if section.text else ""
    return (
        f'<section id="s{number}" aria-labelledby="h{number}"><h2 id="h{number}">'
        f'{escape(section.title)}</h2>{text}<div class="grid">{blocks}</div></section>'
    )


def render_block(block: Block, name: str) -> str:
    """One block of a section as HTML; ``name`` keeps its ids apart from those of others."""
    return RENDERERS[type(block)](block, name)


def _figure(figure: Figure, name: str) -> str:
    words = figure.words or in_words(figure.rows)
    columns = columns_of(figure.rows)
    plots = "".join(to_svg(panel(), f"{name}-{i}") for i, panel in enumerate(figure.panels))
    many = " many" if len(figure.panels) > 2 else ""
    cells = [[row.get(column) for column in columns] for row in figure.rows]
    return (
        f'<figure class="card {figure.width}" aria-labelledby="{name}-t"><figcaption>'
        f'<h3 id="{name}-t">{escape(figure.title)}</h3><p class="soft">{escape(figure.caption)}'
        f'</p></figcaption><div class="plots{many}" role="img" '
        f'aria-label="{escape(figure.title)}. {escape(words)}">{plots}</div>'
        f"<details><summary>Data, {_rows(len(figure.rows))}</summary>"
        f"<p>{escape(words)}</p>"
        f"<p>{_download(figure.title, columns, figure.rows)}</p>"
        f"{_grid(figure.title, columns, cells)}</details></figure>"
    )


def _rows(num: int) -> str:
    return f"{num:,} row{'' if num == 1 else 's'}"


def columns_of(rows: Sequence[Row]) -> list[str]:
    """The keys of all rows in the order of their first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def in_words(rows: Sequence[Row]) -> str:
    """Every quantity from its first to its last value, with its extremes."""
    said = []
    for name in columns_of(rows):
        values: list[Any] = [row.get(name) for row in rows]
        known = [v for v in values if _is_number(v) and not _is_odd(v)]
        if known:
            said.append(
                f"{name}: {cell(known[0])} to {cell(known[-1])}, "
                f"lowest {cell(min(known))}, highest {cell(max(known))}"
            )
    return f"{_rows(len(rows))}. {'; '.join(said)}." if said else f"{_rows(len(rows))}."


def _download(title: str, columns: Sequence[str], rows: Sequence[Row]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(columns)
    writer.writerows([plain(row).get(column) for column in columns] for row in rows)
    encoded = base64.b64encode(stream.getvalue().encode(errors="replace")).decode()
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return (
        f'<a download="{name}.csv" href="data:text/csv;charset=utf-8;base64,{encoded}">'
        f'Download {_rows(len(rows))} as CSV<span class="unseen"> of {escape(title)}</span></a>'
    )


def _grid(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table that scrolls on its own when the page is narrow."""
    numeric = [_is_numeric([row[i] for row in rows]) for i in range(len(columns))]
    head = "".join(
        f'<th scope="col"{_num(is_number)}>{escape(str(name))}</th>'
        for name, is_number in zip(columns, numeric, strict=True)
    )
    body = "".join(f"<tr>{_cells(row, numeric)}</tr>" for row in rows[:MAX_TABLE_ROWS])
    hidden = len(rows) - MAX_TABLE_ROWS
    more = f'<p class="soft">and {_rows(hidden)} more in the download</p>' if hidden > 0 else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}, table">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{more}"
    )


def _cells(row: Sequence[Any], numeric: Sequence[bool]) -> str:
    first, *rest = (
        f"{_num(is_number)}>{escape(cell(value))}"
        for value, is_number in zip(row, numeric, strict=True)
    )
    return f'<th scope="row"{first}</th>' + "".join(f"<td{text}</td>" for text in rest)


def _num(is_number: bool) -> str:
    return ' class="num"' if is_number else ""


def _is_numeric(column: Sequence[Any]) -> bool:
    """Numbers, or texts that all read as one, such as ``71.2 % (66.0 to 75.9)``."""
    is_written = bool(column) and all(
        isinstance(one, str) and NUMBER_IN_WORDS.fullmatch(one) for one in column
    )
    return is_written or any(map(_is_number, column))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def cell(value: Any) -> str:
    """A value for reading: three significant digits, thousands apart, a dash for nothing."""
    if value is None or _is_odd(value):
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "\N{MINUS SIGN}")
    if isinstance(value, float):
        return cell(int(value)) if value.is_integer() else number(value)
    return str(value)


def _table(table: Table, name: str) -> str:
    caption = f'<p class="soft">{escape(table.caption)}</p>' if table.caption else ""
    del name
    return (
        f'<div class="card {table.width}"><h3>{escape(table.title)}</h3>{caption}'
        f"{_grid(table.title, table.columns, table.rows)}</div>"
    )


def _key_values(block: KeyValues, name: str) -> str:
    del name
    items = "".join(
        f"<div><dt>{escape(str(key))}</dt><dd>{escape(_exact(value))}</dd></div>"
        for key, value in block.items.items()
    )
    facts, title = f'<dl class="facts">{items}</dl>', escape(block.title)
    if block.is_folded:
        number = f'<span class="soft">, {len(block.items)}</span>'
        return (
            f'<details class="card {block.width}"><summary><h3>{title}</h3>{number}</summary>'
            f"{facts}</details>"
        )
    return f'<div class="card {block.width}"><h3>{title}</h3>{facts}</div>'


def _exact(value: Any) -> str:
    """A setting as it is, nothing rounded."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _comparison(block: Comparison, name: str) -> str:
    pairs = "".join(_pair(pair, block.score_name) for pair in block.pairs)
    better = sum(pair.score_after > pair.score_before for pair in block.pairs)
    worse = sum(pair.score_after < pair.score_before for pair in block.pairs)
    same = len(block.pairs) - better - worse
    equal = f", {same} scored the same" if same else ""
    rows: list[Mapping[str, Any]] = [
        {
            "prompt": pair.prompt,
            "before": pair.before,
            "after": pair.after,
            "score_before": pair.score_before,
            "score_after": pair.score_after,
        }
        for pair in block.pairs
    ]
    del name
    return (
        f'<div class="full"><h3>{escape(block.title)}</h3><p class="soft">By the '
        f"{escape(block.score_name)}, {better} of {len(rows)} became better, {worse} worse{equal}. "
        f"{_download(block.title, columns_of(rows), rows)}</p>{pairs}</div>"
    )


def _pair(pair: Pair, score_name: str) -> str:
    change = pair.score_after - pair.score_before
    before = _side("Before", pair.before, pair.score_before, score_name, change < 0)
    after = _side("After", pair.after, pair.score_after, score_name, change > 0)
    return (
        '<article class="card pair"><div class="prompt"><h4 class="who">Prompt</h4>'
        f'<p class="text" dir="auto">{escape(pair.prompt)}</p></div>{before}{after}</article>'
    )


def _side(label: str, text: str, score: float, score_name: str, is_better: bool) -> str:
    chosen = " chosen" if is_better else ""
    mark = ' <span class="won">preferred</span>' if is_better else ""
    shown = escape(text) if text.strip() else '<i class="soft">(no text)</i>'
    return (
        f'<div class="answer{chosen}"><h4 class="who">{label} \N{MIDDLE DOT} <span class="num">'
        f"{escape(score_name)} {score:.3f}</span>{mark}</h4>"
        f'<p class="text" dir="auto">{shown}</p></div>'
    )


def _note(note: Note, name: str) -> str:
    finding = note.finding
    level = {"info": "ok", "warning": "look", "error": "stop"}[finding.level]
    del name
    return (
        f'<p class="alarm full {finding.level}"><b class="lvl">{level}</b><span>'
        f'{escape(finding.cause)} <span class="soft">{escape(finding.remedy)}</span></span></p>'
    )


def _code(code: Code, name: str) -> str:
    del name
    return (
        f'<div class="full"><h3>{escape(code.title)}</h3>'
        f'<pre tabindex="0"><code>{escape(code.text)}</code></pre></div>'
    )


def _chain(chain: Chain, name: str) -> str:
    del name
    return (
        f'<ol class="chain full" aria-label="{escape(chain.title)}">'
        f"{''.join(map(_link, chain.links))}</ol>"
    )


def _link(link: Link) -> str:
    detail = f'<span class="soft">{escape(link.detail)}</span>' if link.detail else ""
    code = f"<code>{escape(link.id)}</code>" if link.id else ""
    return f"<li><b>{escape(link.label)}</b>{detail}{code}</li>"


RENDERERS: dict[type, Callable[[Any, str], str]] = {
    Figure: _figure,
    Table: _table,
    KeyValues: _key_values,
    Comparison: _comparison,
    Note: _note,
    Code: _code,
    Chain: _chain,
}
