import base64
import csv
import io
import re
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from synthetic_results import HOSTILE

from heedful.errors import ConfigError, DataError, MissingError
from heedful.monitor import charts
from heedful.monitor.html import cell, in_words
from heedful.monitor.report import (
    Chain,
    Code,
    Comparison,
    Figure,
    KeyValues,
    Link,
    Note,
    Pair,
    Report,
    Section,
    Span,
    Stat,
    Table,
    picture,
    read_report_data,
    render,
    write_report,
)
from heedful.types import Finding

ROWS = [{"step": i, "loss": 1.0 / (1 + i), HOSTILE: HOSTILE} for i in range(50)]
MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
LONG = "All of a long answer is kept. " * 200 + "The end."


def figure(title: str = HOSTILE, **changes: Any) -> Figure:
    fields: dict[str, Any] = {
        "title": title,
        "caption": HOSTILE,
        "panels": [partial(charts.curve, ROWS, "step", "loss", HOSTILE)],
        "rows": ROWS,
        "pictured": (0,),
    }
    return Figure(**fields | changes)


def hostile_report() -> Report:
    finding = Finding(rule="r", level="warning", value=1.0, cause=HOSTILE, remedy=HOSTILE)
    pair = Pair(prompt=HOSTILE, before=HOSTILE, after=LONG, score_before=0.1, score_after=0.2)
    blocks = (
        figure(),
        Table(title=HOSTILE, columns=(HOSTILE, "n"), rows=[(HOSTILE, 1.5)], caption=HOSTILE),
        KeyValues(title=HOSTILE, items={HOSTILE: HOSTILE}),
        KeyValues(title=HOSTILE, items={HOSTILE: None}, is_folded=True),
        Comparison(title=HOSTILE, pairs=[pair], score_name=HOSTILE),
        Note(finding=finding),
        Code(title=HOSTILE, text=HOSTILE),
        Chain(title=HOSTILE, links=[Link(label=HOSTILE, detail=HOSTILE, id=HOSTILE)]),
    )
    span = Span(low=0.1, value=0.2, high=0.3, marks=((0.5, HOSTILE),))
    return Report(
        title=HOSTILE,
        subtitle=HOSTILE,
        verdict=HOSTILE,
        notice=HOSTILE,
        headline=[Stat(label=HOSTILE, value=HOSTILE, detail=HOSTILE, span=span)],
        sections=[Section(title=HOSTILE, text=HOSTILE, blocks=blocks, short=HOSTILE)],
    )


class Tags(HTMLParser):
    """Every tag with its attributes; complains about what is closed in the wrong order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.seen if name == tag]


@pytest.fixture(scope="module")
def page() -> str:
    return render(hostile_report())


@pytest.fixture(scope="module")
def tags(page: str) -> Tags:
    return Tags(page)


def test_the_page_is_well_formed(tags: Tags) -> None:
    assert tags.open == []


def test_hostile_text_is_shown_and_never_run(page: str, tags: Tags) -> None:
    assert tags.named("script") == [{"type": "application/json", "id": "report-data"}]
    assert len(tags.named("style")) == 1
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert") > 20


def test_text_that_html_forbids_is_shown_and_encodes(tmp_path: Path) -> None:
    odd = "a\x00b\x1bc\x7f\x81\ud800d\te\nf"
    pair = Pair(prompt=odd, before=odd, after=odd, score_before=0.1, score_after=0.1)
    block = Comparison(title="odd", pairs=[pair])
    report = Report(title=odd, subtitle="", sections=[Section(title="s", blocks=[block])])
    write_report(report, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", page)
    assert page.count("a\u2400b\u241bc\u2421\ufffd\ufffdd\te\nf") == 5  # head, heading, three texts


def test_scores_are_told_apart_and_equal_ones_are_counted() -> None:
    close = Pair(prompt="p", before="b", after="a", score_before=0.031, score_after=0.034)
    equal = Pair(prompt="p", before="b", after="a", score_before=0.2, score_after=0.2)
    block = Comparison(title="c", pairs=[close, equal])
    page = render(Report(title="t", subtitle="", sections=[Section(title="s", blocks=[block])]))
    assert "1 of 2 became better, 0 worse, 1 scored the same." in page
    assert "score 0.031" in page
    assert "score 0.034" in page
    assert page.count(">preferred<") == 1


def test_the_page_loads_nothing(page: str, tags: Tags) -> None:
    for tag, attributes in tags.seen:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "image", "use")
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?://|@import|url\((?!#)", page)
    policy = [m["content"] for m in tags.named("meta") if "http-equiv" in m]
    assert policy[0] is not None
    assert policy[0].startswith("default-src 'none'")


def test_ids_are_unique_and_references_lead_to_them() -> None:
    panels = [partial(charts.reliability, [])] * 2
    many = [figure(f"figure {i}", panels=panels) for i in range(2)]
    report = Report(title="t", subtitle="s", sections=[Section(title="s", blocks=many)])
    text = render(report)
    ids = [attributes["id"] for _, attributes in Tags(text).seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in (attributes for _, attributes in Tags(text).seen):
        for name in ("aria-labelledby", "href"):
            value = attributes.get(name) or ""
            if value and not value.startswith("data:"):
                assert value.lstrip("#") in ids
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)


def test_every_figure_has_words_a_table_a_download_and_data(page: str, tags: Tags) -> None:
    plots = [a for _, a in tags.seen if a.get("role") == "img"]
    assert len(plots) == 1
    assert "loss: 1 to 0.0200, lowest 0.0200, highest 1" in (plots[0]["aria-label"] or "")
    assert "and 10 rows more in the download" in page
    links = [a for a in tags.named("a") if a.get("download")]
    assert len(links) == 2  # the figure and the comparison
    content = base64.b64decode((links[0]["href"] or "").partition("base64,")[2]).decode()
    read = list(csv.reader(io.StringIO(content)))
    assert read[0] == ["step", "loss", HOSTILE]
    assert [float(row[1]) for row in read[1:]] == [row["loss"] for row in ROWS]


def test_long_answers_are_kept_whole(page: str) -> None:
    assert LONG in page


def test_headings_descend_one_level_at_a_time(tags: Tags) -> None:
    levels = [int(tag[1]) for tag, _ in tags.seen if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_header_cell_has_a_scope(tags: Tags) -> None:
    scopes = [attributes.get("scope") for attributes in tags.named("th")]
    assert scopes
    assert set(scopes) == {"col", "row"}


def test_the_first_link_skips_to_the_report(tags: Tags) -> None:
    assert tags.named("a")[0]["href"] == "#main"
    assert [attributes.get("id") for attributes in tags.named("main")] == ["main"]


def test_written_data_reads_back_equal(tmp_path: Path) -> None:
    write_report(hostile_report(), tmp_path / "report.html")
    assert read_report_data(tmp_path / "report.html") == {HOSTILE: ROWS}
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    rows = [{"x": 0, "y": float("nan")}, {"x": 1, "y": float("inf")}, {"x": 2, "y": 1.0}]
    chart = partial(charts.curve, rows, "x", "y", "y")
    report = Report(
        title="t",
        subtitle="",
        sections=[Section(title="s", blocks=[figure("odd", rows=rows, panels=[chart])])],
    )
    write_report(report, tmp_path / "report.html")
    read = read_report_data(tmp_path / "report.html")["odd"]
    assert [row["y"] for row in read] == [None, None, 1.0]


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    twice = Section(title="s", blocks=[figure("same", panels=[]), figure("same", panels=[])])
    with pytest.raises(ValueError, match="one title"):
        write_report(Report(title="t", subtitle="", sections=[twice]), path)
    assert path.read_text() == "old"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    with pytest.raises(OSError, match="folder"):
        write_report(Report(title="t", subtitle=""), tmp_path / "folder")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "report.html"]


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no report at"):
        read_report_data(tmp_path / "none.html")
    (tmp_path / "other.html").write_text("<html></html>")
    with pytest.raises(DataError, match="holds no report data"):
        read_report_data(tmp_path / "other.html")


def test_chart_colours_are_the_variables_of_the_page(page: str) -> None:
    body = page.split("</style>")[1]
    assert 'stroke="var(--accent)"' in body
    assert 'fill="var(--soft)"' in body
    assert set(re.findall(r'(?:fill|stroke)="(#[^"]+)"', body)) == set()


def palettes() -> dict[str, dict[str, str]]:
    style = files("heedful.monitor").joinpath("report.css").read_text()
    light, dark = (dict(re.findall(r"--(\w+):(#\w{6})", part)) for part in
                   re.findall(r":root\{(.*?)\}", style, re.DOTALL))  # fmt: skip
    return {"light": light, "dark": light | dark}


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("ink", ["ink", "soft", "accent", "good", "warn", "bad", "a", "b"])
@pytest.mark.parametrize("ground", ["bg", "paper"])
def test_text_contrast_reaches_aa(scheme: str, ink: str, ground: str) -> None:
    palette = palettes()[scheme]
    low, high = sorted((luminance(palette[ink]), luminance(palette[ground])))
    assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG 2.2, 1.4.3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, DASH), (float("nan"), DASH), (True, "yes"), (1234567, "1,234,567"),
        (-3, f"{MINUS}3"), (2.0, "2"), (0.123456, "0.123"), (-0.5, f"{MINUS}0.500"), (1e-7, "0"),
        (4.56e-5, f"4.6e{MINUS}05"), ("text", "text"),
    ],
)  # fmt: skip
def test_cells_are_written_for_reading(value: Any, text: str) -> None:
    assert cell(value) == text


def test_words_say_first_last_and_extremes() -> None:
    rows = [{"name": "a", "x": 3}, {"name": "b", "x": 1}, {"x": 2, "y": None}]
    assert in_words(rows) == "3 rows. x: 3 to 2, lowest 1, highest 3."
    assert in_words([]) == "0 rows."


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<svg")])
def test_the_picture_is_of_the_kind_of_its_name(suffix: str, start: bytes, tmp_path: Path) -> None:
    picture(hostile_report(), tmp_path / f"report{suffix}")
    assert (tmp_path / f"report{suffix}").read_bytes().startswith(start)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_picture_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"use \.png or \.svg"):
        picture(hostile_report(), tmp_path / "report.gif")


def test_importing_the_monitor_loads_no_chart_library() -> None:
    code = (
        "import heedful.monitor.demo_report, heedful.monitor.run_report, sys;"
        "sys.exit(bool({'altair', 'vl_convert', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
