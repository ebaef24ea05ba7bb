"""Plain JSON of everything: ``{"heedful": 1, "dataset": NAME, "items": [...]}``, an item a line.

An item has ``form``, ``prompt`` (``messages``, ``tools``), ``completions`` with their authors,
``annotations`` (every revision with annotator, source, payload, shown order, seconds, kind, time)
and ``preferences``, which are derived from the newest answers for whoever reads the file; import
ignores them. A bare prompt has ``prompt`` only. Nothing of a data set's items is lost.

A file written by hand may be JSON Lines, one such item a line, and an item may have ``known``: the
payload that is right beyond doubt. Export writes neither: known answers are the project's.

Completion ids in a file are labels: they are derived again when it is read, so an edited file is
read as what it says. An annotation that cannot be read is left out alone, unless it is the only
one. Dropped: ``wrong_item`` and what ``base`` and ``conversation`` drop.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
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
    usable,
)
from heedful.data.formats.reading import bounded, decode, json_rows, opened, refuse_binary
from heedful.errors import DataError
from heedful.forms import FORMS
from heedful.types import JSON, Annotation, Item, Prompt, messages_json

VERSION = 1
KEYS = frozenset(
    {
        "task", "form", "prompt", "completions", "guideline", "slots", "priority", "reason",
        "annotations", "preferences", "known",
    }
)  # fmt: skip
_EXPECTS = 'a file {"heedful": 1, "items": [...]} as heedful export writes it, or an item a line'


def recognises(row: Row) -> bool:
    """An item with its prompt."""
    return isinstance(row.get("prompt"), dict) and "messages" in row["prompt"]


def parse(row: Row) -> Record:
    """The item of a row; raises ``RowDropped``."""
    asked = _of(row, "prompt", dict)
    messages = conversation.turns("prompt.messages", asked.get("messages"), "user")
    prompt = Prompt(messages=messages, tools=conversation.tools(asked.get("tools")))
    if "form" not in row:
        if row.get("known") is not None:
            raise RowDropped("wrong_item", "known is given without form; write form, completions")
        return prompt
    form = _of(row, "form", str)
    if form not in FORMS:
        raise RowDropped("wrong_item", f"form is {form!r:.40}; known: {', '.join(FORMS)}")
    listed = [_candidate(one) for one in _of(row, "completions", list)]
    candidates = dict(listed)
    if len(candidates) < len(listed):
        raise RowDropped("wrong_item", f"of {len(listed)} completions two have the same id")
    answers, left_out = usable(_of(row, "annotations", list, []), _answer)
    return Judged(
        form=form,
        prompt=prompt,
        candidates=candidates,
        answers=tuple(answers),
        guideline=_of(row, "guideline", str, ""),
        slots=_of(row, "slots", int, 1),
        priority=_of(row, "priority", float, 0.0),
        reason=_of(row, "reason", str, "import"),
        known=_of(row, "known", dict, None),
        left_out=tuple(left_out),
    )


def _candidate(one: JSON) -> tuple[str, Candidate]:
    if not isinstance(one, dict):
        raise RowDropped("wrong_item", f"a completion is {one!r:.40}; write an object")
    candidate = Candidate(
        messages=conversation.turns("completion.messages", one.get("messages"), "assistant"),
        model=_of(one, "model", str, ""),
        draw=_of(one, "draw", int, 0),
        finish_reason=_of(one, "finish_reason", str, "stop"),
        params=_of(one, "params", dict, {}),
    )
    check_json(candidate.params, "params")
    return _of(one, "id", str), candidate


def _answer(one: JSON) -> Answer:
    if not isinstance(one, dict):
        raise RowDropped("wrong_item", f"an annotation is {one!r:.40}; write an object")
    shown = _of(one, "shown_order", list, [])
    if not all(isinstance(label, str) for label in shown):
        raise RowDropped("wrong_item", "shown_order lists the ids of completions")
    return answered(
        one,
        _of(one, "payload", dict),
        shown,
        _of(one, "revision", int, 0),
        _of(one, "seconds", float, None),
    )


def _of(row: Mapping[str, JSON], key: str, kind: type, *default: JSON) -> JSON:
    """A value of a type; one that is absent is the default, if there is one."""
    value = row.get(key)
    if value is None and default:
        return default[0]
    if kind is float and type(value) is int and abs(value) < sys.float_info.max:
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise RowDropped("wrong_item", f"{key} is {value!r:.40}; write {kind.__name__}")
    if isinstance(value, str):
        check_name(value, key)
    return value


def write(item: Item, tally: Tally) -> Iterator[Row]:  # noqa: ARG001 - nothing is left out
    """The whole item."""
    row: dict[str, JSON] = {}
    prompt = {"messages": messages_json(item.prompt.messages), "tools": list(item.prompt.tools)}
    task = item.task
    if task is None:
        yield {"prompt": prompt}
        return
    row = {"task": task.id, "form": task.form, "prompt": prompt}
    row["completions"] = [
        {
            "id": one,
            "messages": messages_json(item.completions[one].messages),
            "model": item.completions[one].model,
            "draw": item.completions[one].draw,
            "finish_reason": item.completions[one].finish_reason,
            "params": dict(item.completions[one].params),
        }
        for one in task.completion_ids
    ]
    row |= {name: getattr(task, name) for name in ("guideline", "slots", "priority", "reason")}
    row["annotations"] = [_annotation(item, one) for one in item.annotations]
    row["preferences"] = [
        {
            "chosen": messages_json(one.chosen),
            "rejected": messages_json(one.rejected),
            "margin": one.margin,
            "probability": one.probability,
            "weight": one.weight,
            "annotation": one.annotation_ids[0],
        }
        for answer in item.newest
        for one in FORMS[task.form].to_preferences(task, item.completions, answer)
    ]
    yield row


def _annotation(item: Item, one: Annotation) -> dict[str, JSON]:
    time = item.times.get(one.id)
    return {
        "id": one.id,
        "annotator": one.annotator,
        "source": one.source,
        "payload": dict(one.payload),
        "shown_order": list(one.shown_order),
        "revision": one.revision,
        "kind": one.kind,
        "seconds": one.seconds,
        "time": time.isoformat() if time else None,
    }


def encode(rows: Iterable[Row], about: About) -> Iterator[bytes]:
    """One JSON document, an item on each line."""
    yield f'{{"heedful": {VERSION}, "dataset": {dumps(about.dataset)}, "items": ['.encode()
    comma = "\n"
    for row in rows:
        yield (comma + dumps(row)).encode()
        comma = ",\n"
    yield b"\n]}\n"


def rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The items with their lines; a file that another program laid out is read as a whole."""
    with opened(path) as file:
        refuse_binary(path, file, f"expected {_EXPECTS}")
        lines = bounded(path, file)
        first = decode(path, *next(lines, (1, b"")))
        if first.startswith('{"heedful":') and first.rstrip().endswith('"items": ['):
            _check_version(path, json.loads(first + "]}"))
            yield from _lines(path, lines)
            return
        if _is_item(first):
            yield from json_rows(path)
            return
        whole = first + "".join(decode(path, number, line) for number, line in lines)
    if not whole.strip():
        raise DataError(f"{path} is empty; expected {_EXPECTS}")
    document = _load(path, 1, whole)
    _check_version(path, document)
    items = document.get("items")
    if not isinstance(items, list) or not all(isinstance(one, dict) for one in items):
        raise DataError(f"{path} has no list of items; expected {_EXPECTS}")
    yield from enumerate(items, start=1)


def _is_item(line: str) -> bool:
    """Whether a file's first line is an item, so that the file is JSON Lines."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and "heedful" not in row and recognises(row)


def _lines(path: Path, lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, Row]]:
    number, is_closed = 1, False
    for number, line in lines:
        text = decode(path, number, line).rstrip("\r\n")
        if text == "]}":
            is_closed = True
        elif text and not is_closed:
            yield number, _load(path, number, text.removesuffix(","))
        elif text:
            raise DataError(f"{path} line {number} follows the end of the items; remove it")
    if not is_closed:
        raise DataError(f"{path} ends in the middle, after line {number}; export it again")


def _load(path: Path, number: int, text: str) -> Row:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} line {number} is broken JSON ({error}); expected {_EXPECTS}"
        ) from error
    if not isinstance(value, dict):
        raise DataError(f"{path} line {number} is no JSON object; expected {_EXPECTS}")
    return value


def _check_version(path: Path, document: Row) -> None:
    if document.get("heedful") != VERSION:
        seen = document.get("heedful")
        raise DataError(f"{path} says heedful {seen!r:.40}; expected {_EXPECTS}")


JSON_FORMAT = Format(
    name="json",
    title="plain JSON of everything",
    expects=_EXPECTS,
    keys=KEYS,
    recognises=recognises,
    parse=parse,
    write=write,
    loses=(),
    rows=rows,
    encode=encode,
    suffix=".json",
    media_type="application/json",
)
