"""A report is records; rendered it is one static page that needs nothing else.

Figures are inline SVG whose colours follow the page's light or dark scheme; every figure carries
its data as a table, as a download and in one JSON block that ``read_report_data`` reads back.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from heedful.errors import DataError, MissingError
from heedful.monitor import html
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

__all__ = [
    "Block",
    "Chain",
    "Code",
    "Comparison",
    "Figure",
    "KeyValues",
    "Link",
    "Note",
    "Pair",
    "Report",
    "Row",
    "Section",
    "Span",
    "Stat",
    "Table",
    "picture",
    "read_report_data",
    "render",
    "write_report",
]


def render(report: Report) -> str:
    """The page as HTML. Raises ``ValueError`` when two figures share a title."""
    return html.page(report)


def write_report(report: Report, path: Path) -> None:
    """Write the page whole or not at all."""
    _replace(path, render(report).encode())


def picture(report: Report, path: Path) -> None:
    """The headline and the ``pictured`` figures as one PNG or SVG, by the name of ``path``."""
    from heedful.monitor import picture as drawing

    _replace(path, drawing.draw(report, path.suffix))


def read_report_data(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of every figure of a written report, by title.

    Raises ``MissingError`` when there is no file and ``DataError`` when it is no report.
    """
    if not path.is_file():
        raise MissingError(f"there is no report at {path}; give a report.html that Heedful wrote")
    found = re.search(
        rf'<script type="application/json" id="{html.DATA_ID}">(.*?)</script>',
        path.read_text(encoding="utf-8"),
        re.DOTALL,
    )
    if not found:
        raise DataError(f"{path} holds no report data; give a report.html that Heedful wrote")
    data: dict[str, list[dict[str, Any]]] = json.loads(found.group(1))
    return data


def _replace(path: Path, content: bytes) -> None:
    """Write under another name, then rename: a reader sees the old file or the new one, whole."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
