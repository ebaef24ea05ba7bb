"""What a report is made of: frozen records, no HTML. Imports nothing heavy.

A ``Report`` has a headline of ``Stat`` and sections of blocks; ``report.render`` makes the page.
Charts are carried as functions that make them, so that a report without readers costs nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from heedful.types import Finding

Row = Mapping[str, Any]
Tone = Literal["plain", "good", "warn", "bad"]
# half: one of two columns; tall: the same, beside two rows of halves
Width = Literal["half", "tall", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """An interval drawn under a headline number, on an axis from ``start`` to ``end``.

    ``marks`` are (place, name) of what to compare with: chance, a ceiling, a target.
    ``Span(low=0.66, value=0.71, high=0.77, marks=((0.5, "chance"),))``
    """

    low: float
    value: float
    high: float
    start: float = 0.0
    end: float = 1.0
    marks: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """A headline number in words, its uncertainty, and whether it is good news."""

    label: str
    value: str
    detail: str = ""
    tone: Tone = "plain"
    span: Span | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One or several charts with all the data that they show.

    Each of ``panels`` is called for an Altair chart, which becomes one inline SVG. ``caption``
    says how to read the figure, ``words`` says what it shows, for those who cannot see it (empty:
    written from ``rows``). The titles of a report's figures differ. ``pictured`` lists the panels
    that ``picture`` takes.
    """

    title: str
    caption: str
    panels: Sequence[Callable[[], Any]]
    rows: Sequence[Row]
    words: str = ""
    width: Width = "full"
    pictured: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under named columns; the first column names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    width: Width = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyValues:
    """Settings or facts. ``is_folded`` hides them behind their title."""

    title: str
    items: Mapping[str, Any]
    is_folded: bool = False
    width: Width = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two answers to one prompt with their scores; the higher score is the better answer."""

    prompt: str
    before: str
    after: str
    score_before: float
    score_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Answers before and after, whole. ``score_name`` names who scores."""

    title: str
    pairs: Sequence[Pair]
    score_name: str = "score"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A finding in words."""

    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Commands to copy."""

    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One member of a chain: what it is, a line about it, and its id when it has one."""

    label: str
    detail: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Steps or ancestors, from left to right. ``title`` is for those who cannot see."""

    title: str
    links: Sequence[Link]


Block = Figure | Table | KeyValues | Comparison | Note | Code | Chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading, a sentence or two, and blocks. ``short`` is its name in the menu."""

    title: str
    text: str = ""
    blocks: Sequence[Block] = ()
    short: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A page. Made by the functions beside this file, written by ``report.write_report``.

    ``verdict`` is the answer in one sentence, ``notice`` what every reader has to know first.
    """

    title: str
    subtitle: str
    verdict: str = ""
    tone: Tone = "plain"
    notice: str = ""
    headline: Sequence[Stat] = ()
    sections: Sequence[Section] = field(default_factory=tuple)

    def figures(self) -> list[Figure]:
        """Every figure of the page in order."""
        return [b for section in self.sections for b in section.blocks if isinstance(b, Figure)]
