r"""CSV: one line for each answer, with a header; for spreadsheets.

Columns are ``form``, ``prompt``, ``tools``, ``answer_1`` ..., ``judgement``, ``strength``,
``probability``, ``written``, ``comment``, ``annotator``, ``source``, ``shown``, ``seconds``,
``revision``, ``time``, ``kind``, ``model_1`` ..., ``sampling_1`` ..., ``guideline`` and ``task``.
Only ``prompt`` and ``answer_1`` are needed; an empty ``form`` is a pair, or a prompt when there is
no answer. ``judgement`` is ``1``, ``2``, ``tie`` or ``both_bad`` for a pair, ``1 > 2 = 3`` for a
ranking, and JSON about the answers' numbers for the other forms. A prompt or answer that is more
than one plain text, or holds NUL, stands as JSON messages. ``sampling_1`` is JSON of how the first
answer was drawn (``draw``, ``params``, ``finish_reason``) and ``task`` of ``slots``, ``priority``
and ``reason``, where they are not what reading supposes. Nothing of a data set's items is lost.
``known``, which is read only, is the judgement that is right beyond doubt.

A cell that starts with ``= + - @``, a tab or a line end would be a formula in a spreadsheet: it
gets an apostrophe in front, and so does a cell that starts with an apostrophe before one of these
or before an apostrophe. Reading takes away exactly that apostrophe, so every text comes back.

Dropped when read: ``missing_key``, ``unsupported_content``, ``wrong_judgement``,
``wrong_sampling``, ``wrong_task``, ``unknown_form``, ``wrong_number``, and what ``base`` and
``conversation`` drop.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from heedful.data.formats import conversation
from heedful.data.formats.base import (
    About,
    Answer,
    Candidate,
    Format,
    Judged,
    Record,
    Row,
    RowDropped,
    Tally,
    answered,
    check_json,
    check_name,
    dumps,
    excerpt,
    labelled,
    labels,
    only,
)
from heedful.data.formats.conversation import Turns
from heedful.data.formats.reading import MAX_LINE, bounded, opened, refuse_binary
from heedful.errors import DataError
from heedful.forms import FORMS
from heedful.forms.base import MAX_SHOWN
from heedful.forms.pairwise import BOTH_BAD
from heedful.types import JSON, Annotation, Completion, Item, Prompt, Role, Task, messages_json

_FORMULA = "=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20"  # the last four are the full-width ones
_NEEDS_APOSTROPHE = re.compile(f"[{_FORMULA}]|'[{_FORMULA}']")
_HAS_APOSTROPHE = re.compile(f"'[{_FORMULA}']")
_FRONT = ("form", "prompt", "tools")
_BACK = (
    "judgement", "strength", "probability", "written", "comment", "annotator", "source", "shown",
    "seconds", "revision", "time", "kind",
)  # fmt: skip
_ANSWERS = [f"answer_{label}" for label in labels(MAX_SHOWN)]
_MODELS = [f"model_{label}" for label in labels(MAX_SHOWN)]
_SAMPLINGS = [f"sampling_{label}" for label in labels(MAX_SHOWN)]
_TASK = ("guideline", "task")
# The values of a cell of JSON, with what an absent one means.
_SAMPLING: Mapping[str, JSON] = {"draw": 0, "params": {}, "finish_reason": "stop"}
_SETTINGS: Mapping[str, JSON] = {"slots": 1, "priority": 0.0, "reason": "import"}


def guarded(text: str) -> str:
    """The cell of a text, harmless in a spreadsheet."""
    return f"'{text}" if _NEEDS_APOSTROPHE.match(text) else text


def unguarded(cell: str) -> str:
    """Inverse of ``guarded``."""
    return cell[1:] if _HAS_APOSTROPHE.match(cell) else cell


def recognises(row: Row) -> bool:
    """A prompt column."""
    return "prompt" in row


def parse(row: Row) -> Record:
    """The answer of a line; raises ``RowDropped``."""
    cells = {key: value for key, value in row.items() if value not in (None, "")}
    for key, value in cells.items():
        check_name(value, key)
    if "prompt" not in cells:
        raise RowDropped("missing_key", "prompt is empty")
    tools = tuple(_json_list("tools", cells["tools"])) if "tools" in cells else ()
    prompt = Prompt(messages=_turns("prompt", cells["prompt"], "user"), tools=tools)
    answers = [name for name in _ANSWERS if name in cells]
    if answers != _ANSWERS[: len(answers)]:
        raise RowDropped("missing_key", f"its answers are {answers}; number them from 1")
    if not answers:
        if "known" in cells:
            raise RowDropped("missing_key", "known is given without answer_1")
        return prompt
    form = cells.get("form", "pairwise")
    if form not in FORMS:
        raise RowDropped("unknown_form", f"form is {form!r:.40}; known: {', '.join(FORMS)}")
    return Judged(
        form=form,
        prompt=prompt,
        candidates={
            label: Candidate(
                messages=_turns(name, cells[name], "assistant"),
                model=cells.get(f"model_{label}", ""),
                **_values(cells, f"sampling_{label}", _SAMPLING),
            )
            for label, name in zip(labels(len(answers)), answers, strict=True)
        },
        answers=(_answer(form, cells),) if _is_answered(cells) else (),
        known=_judgement(form, cells["known"], "known") if "known" in cells else None,
        guideline=cells.get("guideline", ""),
        **_values(cells, "task", _SETTINGS),
    )


def _is_answered(cells: Mapping[str, str]) -> bool:
    return any(key in cells for key in ("judgement", "written", "annotator"))


def _answer(form: str, cells: Mapping[str, str]) -> Answer:
    payload = _judgement(form, cells.get("judgement", ""))
    if "strength" in cells:
        payload["strength"] = _number("strength", cells["strength"], int)
    if "probability" in cells:
        payload["probability"] = _number("probability", cells["probability"], float)
    payload |= {key: cells[key] for key in ("written", "comment") if key in cells}
    return answered(
        cells,
        payload,
        cells.get("shown", "").split(),
        int(_number("revision", cells.get("revision", "0"), int)),
        _number("seconds", cells["seconds"], float) if "seconds" in cells else None,
    )


def _values(cells: Mapping[str, str], key: str, defaults: Mapping[str, JSON]) -> dict[str, JSON]:
    """The values that a cell of JSON states, and the defaults of the others."""
    stated = _object(key, cells[key], _wrong(key)) if key in cells else {}
    for name, value in stated.items():
        if name not in defaults:
            raise RowDropped(_wrong(key), f"{key} has {name!r:.40}; known: {', '.join(defaults)}")
        wanted = type(defaults[name])
        if type(value) is not wanted:
            raise RowDropped(_wrong(key), f"{name} is {value!r:.40}; write {wanted.__name__}")
        if isinstance(value, str):
            check_name(value, name)
    check_json(stated, key)
    return {**defaults, **stated}


def _wrong(key: str) -> str:
    """The rule of a cell that cannot be read: ``wrong_sampling`` for ``sampling_1``."""
    return f"wrong_{key.partition('_')[0]}"


def _judgement(form: str, text: str, column: str = "judgement") -> dict[str, JSON]:
    """A payload about labels."""
    if form == "pairwise":
        if text not in ("1", "2", "tie", BOTH_BAD):
            raise RowDropped("wrong_judgement", f"{column} is {text!r:.40}; 1, 2, tie, both_bad")
        return {"preferred": None if text == "tie" else text}
    if form == "ranking":
        groups = [group.split("=") for group in text.split(">")]
        return {"ranks": [[one.strip() for one in group] for group in groups]}
    return _object(column, text, "wrong_judgement") if text else {}


def _object(column: str, text: str, rule: str) -> dict[str, JSON]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RowDropped(rule, f"{column} is {excerpt(text)}; write a JSON object")
    return value


def _number(key: str, text: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(text)
    except (ValueError, OverflowError) as error:
        raise RowDropped("wrong_number", f"{key} is {text!r:.40}; write a number") from error


def _turns(key: str, cell: str, role: Role) -> Turns:
    rows = _messages(cell)
    return conversation.said(key, cell if rows is None else rows, role)


def _messages(cell: str) -> list[JSON] | None:
    """The messages that a cell states as JSON, or None for a plain text such as ``[]``."""
    if not cell.startswith("["):
        return None
    try:
        rows = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    is_list = isinstance(rows, list) and all(isinstance(one, dict) for one in rows)
    return rows if is_list and rows and all("role" in one for one in rows) else None


def _json_list(key: str, cell: str) -> list[str]:
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise RowDropped("unsupported_content", f"{key} is {excerpt(cell)}; write a JSON list")
    return value


def write(item: Item, tally: Tally) -> Iterator[Row]:  # noqa: ARG001 - nothing is left out
    """A line for each revision of each answer, or one for an item without answers."""
    row = {"prompt": _cell(item.prompt.messages, "user")}
    if item.prompt.tools:
        row["tools"] = dumps(list(item.prompt.tools))
    if item.task is None:
        yield row
        return
    row["form"] = item.task.form
    row |= {"guideline": item.task.guideline, "task": _differing(item.task, _SETTINGS)}
    names = labelled(item)
    for one, label in names.items():
        shown = item.completions[one]
        row[f"answer_{label}"] = _cell(shown.messages, "assistant")
        row[f"model_{label}"] = shown.model
        row[f"sampling_{label}"] = _differing(shown, _SAMPLING)
    for answer in item.annotations:
        yield row | _answer_cells(item, answer, names)
    if not item.annotations:
        yield row


def _differing(record: Task | Completion, defaults: Mapping[str, JSON]) -> str:
    """JSON of the values that are not the defaults; empty when all are."""
    values = {name: getattr(record, name) for name in defaults}
    other = {name: value for name, value in values.items() if value != defaults[name]}
    return dumps(other) if other else ""


def _answer_cells(item: Item, answer: Annotation, names: Mapping[str, str]) -> dict[str, str]:
    assert item.task is not None
    payload = FORMS[item.task.form].renamed(answer.payload, names)
    cells: dict[str, str] = {
        key: payload.pop(key) for key in ("written", "comment") if key in payload
    }
    if "strength" in payload:
        cells["strength"] = str(payload.pop("strength"))
    if "probability" in payload:
        cells["probability"] = repr(payload.pop("probability"))
    time = item.times.get(answer.id)
    return cells | {
        "judgement": _spell(item.task.form, payload),
        "annotator": answer.annotator,
        "source": answer.source,
        "shown": " ".join(names[one] for one in answer.shown_order),
        "seconds": "" if answer.seconds is None else repr(answer.seconds),
        "revision": str(answer.revision),
        "time": time.isoformat() if time else "",
        "kind": answer.kind,
    }


def _spell(form: str, payload: Mapping[str, JSON]) -> str:
    if form == "pairwise":
        preferred: str | None = payload["preferred"]
        return "tie" if preferred is None else preferred
    if form == "ranking":
        return " > ".join(" = ".join(group) for group in payload["ranks"])
    return dumps(dict(payload))


def _cell(messages: Turns, role: Role) -> str:
    text = only(messages, role)
    if text and "\0" not in text and _messages(text) is None:
        return text
    return dumps(messages_json(messages))


def encode(rows: Iterable[Row], about: About) -> Iterator[bytes]:
    """The header and the lines."""
    num = about.num_candidates
    columns = [*_FRONT, *_ANSWERS[:num], *_BACK, *_MODELS[:num], *_SAMPLINGS[:num], *_TASK]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")

    def line(cells: Sequence[str]) -> bytes:
        buffer.seek(0)
        buffer.truncate()
        writer.writerow(cells)
        return buffer.getvalue().encode()

    yield line(columns)
    for row in rows:
        yield line([guarded(row.get(column, "")) for column in columns])


def rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The lines as dicts by column, with the number of the line at which each ends."""
    csv.field_size_limit(MAX_LINE)
    with opened(path) as file:
        refuse_binary(path, file, "save it as CSV UTF-8")
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        reader = csv.reader((line for _, line in bounded(path, text)), strict=True)
        try:
            header = next(reader, [])
            _check_header(path, header)
            for cells in reader:
                if cells:
                    _check_width(path, reader.line_num, cells, header)
                    values = map(unguarded, cells)
                    yield reader.line_num, dict(zip(header, values, strict=True))
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path} after line {reader.line_num} is not UTF-8 ({error.reason}); "
                "save it as CSV UTF-8"
            ) from error
        except csv.Error as error:
            raise DataError(f"{path} line {reader.line_num} is broken CSV ({error})") from error
        finally:
            text.detach()


def _check_header(path: Path, header: list[str]) -> None:
    if "prompt" not in header:
        columns = f"has the columns {', '.join(header)}" if header else "is empty"
        commas = ", separated by commas" if len(header) == 1 else ""
        raise DataError(f"{path} {columns:.200}; expected {CSV.expects}{commas}")
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        raise DataError(f"{path} has the column {sorted(twice)[0]!r} twice; name each column once")


def _check_width(path: Path, line: int, cells: list[str], header: list[str]) -> None:
    if len(cells) != len(header):
        raise DataError(
            f"{path} line {line} has {len(cells)} cells, its header {len(header)}; "
            "quote cells that hold commas"
        )


CSV = Format(
    name="csv",
    title="CSV, one line for each answer",
    expects="the columns prompt, answer_1, answer_2 and judgement",
    keys=frozenset({*_FRONT, *_ANSWERS, *_BACK, *_MODELS, *_SAMPLINGS, *_TASK, "known"}),
    recognises=recognises,
    parse=parse,
    write=write,
    loses=(),
    rows=rows,
    encode=encode,
    suffix=".csv",
    media_type="text/csv; charset=utf-8",
)
