"""What a file format is, and the stream that reading one gives.

A format is one file: a ``Format`` value and one line in ``FORMATS``. ``parse`` sees one JSON
object and returns a record, or raises ``RowDropped`` with the rule that the row breaks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from heedful.types import JSON, Demonstration, Preference, Prompt

Record = Preference | Demonstration | Prompt


class RowDropped(Exception):  # noqa: N818 - a signal inside the readers, never a user's error
    """A row cannot be used; it is counted by ``rule`` and the import goes on."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A row that was left out. Made by readers, counted and listed by import."""

    rule: str
    file: str
    line: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A row that was read, with where it stood and the keys that mean nothing to the format.

    Made by readers, used by import.
    """

    record: Record
    file: str
    line: int
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How one kind of JSON Lines file is read. Registered in ``FORMATS``.

    ``recognises`` looks at a row's keys and types only; ``keys`` are those that ``parse`` uses.
    """

    name: str
    expects: str
    keys: frozenset[str]
    recognises: Callable[[Mapping[str, JSON]], bool]
    parse: Callable[[Mapping[str, JSON]], Record]


def check_text(text: str, where: str) -> None:
    """Drop text that UTF-8 cannot hold: half of a surrogate pair, which JSON can spell."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise RowDropped("invalid_text", f"{where} has half of a surrogate pair")


def check_sides(chosen: str, rejected: str) -> None:
    """Drop a pair with nothing on one side, or with nothing between them."""
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if not side.strip():
            raise RowDropped("empty_side", f"{name} has no answer")
    if chosen == rejected:
        raise RowDropped("identical_sides", f"both sides are {excerpt(chosen)}")


def excerpt(text: str) -> str:
    """The start of a text on one line, quoted."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
