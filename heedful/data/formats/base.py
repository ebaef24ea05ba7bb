"""What a file format is, and the streams that reading and writing one give.

A format is one file: a ``Format`` value and one line in ``FORMATS``; the contract suite in
``tests/contracts/test_formats.py`` then tests both directions. ``parse`` sees one row and returns a
record, or raises ``RowDropped`` with the rule that the row breaks; ``write`` gives the rows of one
item and counts what the format cannot hold.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar, cast, get_args

from heedful.forms import FORMS
from heedful.types import (
    JSON,
    Annotation,
    AnnotationKind,
    Demonstration,
    Item,
    Message,
    Preference,
    Prompt,
    Source,
)

Row = Mapping[str, JSON]
SOURCES = get_args(Source)
KINDS = get_args(AnnotationKind)
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An answer of a row that is judged; ``model`` is empty where the file does not say."""

    messages: tuple[Message, ...]
    model: str = ""
    draw: int = 0
    finish_reason: str = "stop"
    params: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one annotator answered; ``payload`` and ``shown`` name candidates by their labels."""

    payload: Mapping[str, JSON]
    annotator: str = ""
    source: Source = "human"
    shown: tuple[str, ...] = ()
    revision: int = 0
    seconds: float | None = None
    time: datetime | None = None
    kind: AnnotationKind = "answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A task of any form, as a row states it. Made by readers, turned into an item by import.

    ``candidates`` are by label, in the task's order. ``known`` is the answer that is right beyond
    doubt, where the row states one. ``left_out`` are the rule and the detail of answers in the row
    that cannot be used.
    """

    form: str
    prompt: Prompt
    candidates: Mapping[str, Candidate]
    answers: tuple[Answer, ...]
    guideline: str = ""
    slots: int = 1
    priority: float = 0.0
    reason: str = "import"
    known: Mapping[str, JSON] | None = None
    left_out: tuple[tuple[str, str], ...] = ()


Record = Preference | Demonstration | Prompt | Judged


class RowDropped(Exception):  # noqa: N818 - a signal inside the formats, never a user's error
    """A row cannot be used or written; it is counted by ``rule`` and the work goes on."""

    def __init__(self, rule: str, detail: str = "") -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


def usable(values: Iterable[T], read: Callable[[T], U]) -> tuple[list[U], list[tuple[str, str]]]:
    """What ``read`` makes of the values, and rule and detail of those it dropped.

    Raises the first drop when nothing is left: a row of which no answer is sound is dropped whole.
    """
    found: list[U] = []
    drops: list[RowDropped] = []
    for value in values:
        try:
            found.append(read(value))
        except RowDropped as drop:
            drops.append(drop)
    if drops and not found:
        raise drops[0]
    return found, [(drop.rule, drop.detail) for drop in drops]


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


@dataclass(slots=True)
class Tally:
    """What an export wrote, left out and changed, by rule. Filled by writers, shown by export."""

    num_rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)

    def describe(self) -> str:
        """``312 left out: 300 tie, 12 both_bad``, and what was changed; empty when nothing was."""
        parts = []
        for what, rules in (("left out", self.left_out), ("changed", self.changed)):
            if rules:
                listed = ", ".join(f"{num} {rule}" for rule, num in sorted(rules.items()))
                parts.append(f"{rules.total()} {what}: {listed}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a writer knows of all rows before the first: for headers."""

    dataset: str
    num_candidates: int


def json_lines(rows: Iterable[Row], about: About) -> Iterator[bytes]:  # noqa: ARG001 - an encoder
    """One JSON object on each line."""
    for row in rows:
        yield dumps(row).encode() + b"\n"


def dumps(value: JSON) -> str:
    """JSON on one line, in the order of the keys."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How one kind of file is read and written. Registered in ``FORMATS``.

    ``recognises`` looks at a row's keys and types only; ``keys`` are those that ``parse`` uses.
    ``write`` gives the rows of one item. ``loses`` names what a row has no place for. ``rows``
    reads a file as numbered rows (None: JSON Lines) and refuses what is no such file, also when it
    has no rows; ``encode`` turns rows into the bytes of a file. ``unused`` names what has a known
    key and yet says nothing to ``parse``.
    """

    name: str
    title: str
    expects: str
    keys: frozenset[str]
    recognises: Callable[[Row], bool]
    parse: Callable[[Row], Record]
    write: Callable[[Item, Tally], Iterator[Row]]
    loses: tuple[str, ...]
    rows: Callable[[Path], Iterator[tuple[int, Row]]] | None = None
    encode: Callable[[Iterable[Row], About], Iterator[bytes]] = json_lines
    unused: Callable[[Row], Iterable[str]] = lambda row: ()  # noqa: ARG005 - most use everything
    suffix: str = ".jsonl"
    media_type: str = "application/jsonl"


LOSES_OF_TASKS = ("model", "sampling", "guideline")
LOSES_ALL_BUT_PAIRS = (
    "ties", "probability", "weight", "revisions", "annotator", "source", "shown order", "seconds",
    "time", "comment", *LOSES_OF_TASKS,
)  # fmt: skip


def answers_of(item: Item, tally: Tally) -> tuple[Annotation, ...]:
    """The newest answers; what a format of newest answers leaves out is counted."""
    if item.task is None:
        tally.left_out["bare_prompt"] += 1
    elif not item.annotations:
        tally.left_out["unanswered"] += 1
    newest = item.newest
    votes = [one for one in item.annotations if one.kind == "answer"]
    checks = sum(one.kind in ("repeat", "gold") for one in item.annotations)
    if checks:
        tally.left_out["check_of_annotator"] += checks
    rule = "earlier_revision"
    if any(one.kind == "adjudication" for one in newest):
        rule, votes = "adjudicated", [*votes, *newest]
    if len(newest) < len(votes):
        tally.left_out[rule] += len(votes) - len(newest)
    return newest


def preferences_of(item: Item, tally: Tally) -> Iterator[Preference]:
    """The preferences that the newest answers state; the answers that state none are counted."""
    for answer in answers_of(item, tally):
        assert item.task is not None
        form = FORMS[item.task.form]
        derived = form.to_preferences(item.task, item.completions, answer)
        if not derived:
            tally.left_out[form.undecided(answer.payload) or f"{form.name}_is_no_preference"] += 1
        yield from derived


def bare(preference: Preference, *, margin: float = 0.0) -> Preference:
    """A preference without what pairs in files do not say: weight and annotations."""
    return Preference(
        prompt=preference.prompt,
        chosen=preference.chosen,
        rejected=preference.rejected,
        margin=margin,
    )


def proven(
    row: Row, expected: Record, parse: Callable[[Row], Record], tally: Tally
) -> Iterator[Row]:
    """The row if reading it gives back what was written; otherwise it is counted as left out."""
    try:
        same = parse(row) == expected
    except RowDropped as drop:
        tally.left_out[drop.rule] += 1
        return
    if same:
        yield row
    else:
        tally.left_out["reads_back_otherwise"] += 1


def labels(count: int) -> list[str]:
    """The labels of candidates in a file: ``1``, ``2``, ..."""
    return [str(number) for number in range(1, count + 1)]


def labelled(item: Item) -> dict[str, str]:
    """The label of each completion of a task, by id."""
    assert item.task is not None
    ids = item.task.completion_ids
    return dict(zip(ids, labels(len(ids)), strict=True))


def answered(
    row: Row,
    payload: Mapping[str, JSON],
    shown: Iterable[str],
    revision: int,
    seconds: float | None,
) -> Answer:
    """The answer of a row that says who gave it and when; raises ``RowDropped``."""
    return Answer(
        payload=payload,
        annotator=text_or_nothing(row, "annotator"),
        source=source_of(row.get("source")),
        shown=tuple(shown),
        revision=revision,
        seconds=seconds,
        time=time_of(row.get("time")),
        kind=kind_of(row.get("kind")),
    )


def time_of(value: JSON) -> datetime | None:
    """A time in ISO 8601, in UTC unless it says otherwise; raises ``RowDropped``."""
    if value in (None, ""):
        return None
    try:
        found = datetime.fromisoformat(value)
        found = (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise RowDropped("wrong_time", f"the time is {value!r:.40}; write ISO 8601") from error
    if not datetime.min.year < found.year < datetime.max.year:  # no clock's zone leaves the range
        raise RowDropped("wrong_time", f"the time is {value!r:.40}; write a year from 2 to 9998")
    return found


def source_of(value: JSON) -> Source:
    """A source by name, ``human`` when none is given; raises ``RowDropped``."""
    if value in (None, ""):
        return "human"
    if value not in SOURCES:
        raise RowDropped("unknown_source", f"source is {value!r:.40}; known: {', '.join(SOURCES)}")
    return cast(Source, value)


def kind_of(value: JSON) -> AnnotationKind:
    """A kind of answer by name, ``answer`` when none is given; raises ``RowDropped``."""
    if value in (None, ""):
        return "answer"
    if value not in KINDS:
        raise RowDropped("unknown_kind", f"kind is {value!r:.40}; known: {', '.join(KINDS)}")
    return cast(AnnotationKind, value)


def text_or_nothing(row: Row, key: str) -> str:
    """A text that may be absent."""
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowDropped("unsupported_content", f"{key} is {value!r:.40}; write a text")
    check_name(value, key)
    return value


def check_json(value: JSON, where: str) -> None:
    """Drop what JSON in UTF-8 cannot hold: NaN, infinity and half of a surrogate pair."""
    try:
        dumps(value).encode()
    except (ValueError, RecursionError) as error:
        raise RowDropped("wrong_item", f"{where} is not storable as JSON ({error})") from error


def check_text(text: str, where: str) -> None:
    """Drop text that UTF-8 cannot hold: half of a surrogate pair, which JSON can spell."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RowDropped("invalid_text", f"{where} has half of a surrogate pair") from None


def check_name(text: str, where: str) -> None:
    """Drop what a column of text cannot hold: also NUL."""
    check_text(text, where)
    if "\0" in text:
        raise RowDropped("invalid_text", f"{where} has the character NUL")


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


def only(messages: Sequence[Message], role: str) -> str | None:
    """The text of a single plain message of a role; None for anything else."""
    if len(messages) != 1:
        return None
    plain = Message(role=messages[0].role, content=messages[0].content)
    return plain.content if messages[0] == plain and plain.role == role else None
