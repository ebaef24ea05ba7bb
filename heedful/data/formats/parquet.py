"""Parquet of everything: the items of ``json``, a row each, with native columns.

``payload`` of annotations and ``params`` of completions are JSON texts, as their keys differ from
row to row; everything else has a type. A column ``known`` of such texts is read as well. The file
compresses itself and is not gzipped.
"""

import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from heedful.data.formats import plain_json
from heedful.data.formats.base import About, Format, Record, Row, RowDropped, dumps
from heedful.errors import DataError, MissingError
from heedful.types import JSON, messages_from_json, messages_json

_GROUP = 1000  # rows held in memory at once
_TEXTS = pa.list_(pa.string())
_MESSAGES = pa.list_(
    pa.struct(
        [
            ("role", pa.string()),
            ("content", pa.string()),
            ("tool_calls", _TEXTS),
            ("tool_call_id", pa.string()),
            ("name", pa.string()),
        ]
    )
)
SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("form", pa.string()),
        ("prompt", pa.struct([("messages", _MESSAGES), ("tools", _TEXTS)])),
        (
            "completions",
            pa.list_(
                pa.struct(
                    [
                        ("id", pa.string()),
                        ("messages", _MESSAGES),
                        ("model", pa.string()),
                        ("draw", pa.int64()),
                        ("finish_reason", pa.string()),
                        ("params", pa.string()),
                    ]
                )
            ),
        ),
        ("guideline", pa.string()),
        ("slots", pa.int64()),
        ("priority", pa.float64()),
        ("reason", pa.string()),
        (
            "annotations",
            pa.list_(
                pa.struct(
                    [
                        ("id", pa.string()),
                        ("annotator", pa.string()),
                        ("source", pa.string()),
                        ("payload", pa.string()),
                        ("shown_order", _TEXTS),
                        ("revision", pa.int64()),
                        ("kind", pa.string()),
                        ("seconds", pa.float64()),
                        ("time", pa.string()),
                    ]
                )
            ),
        ),
        (
            "preferences",
            pa.list_(
                pa.struct(
                    [
                        ("chosen", _MESSAGES),
                        ("rejected", _MESSAGES),
                        ("margin", pa.float64()),
                        ("probability", pa.float64()),
                        ("weight", pa.float64()),
                        ("annotation", pa.string()),
                    ]
                )
            ),
        ),
    ]
)


def parse(row: Row) -> Record:
    """The item of a row; raises ``RowDropped``."""
    try:
        return plain_json.parse(_plain(row))
    except (ValueError, TypeError, KeyError) as error:
        raise RowDropped("wrong_item", f"a JSON column is broken ({error})") from error


def _plain(row: Row) -> Row:
    """The row as ``json`` has it: columns of JSON texts read, absent fields left out."""
    plain = {key: value for key, value in row.items() if value is not None}
    plain["prompt"] = {**row["prompt"], "messages": _messages(row["prompt"]["messages"])}
    if isinstance(plain.get("known"), str):
        plain["known"] = json.loads(plain["known"])
    if "form" not in plain:
        return {key: plain[key] for key in ("prompt", "known") if key in plain}
    plain["completions"] = [
        {**one, "messages": _messages(one["messages"]), "params": json.loads(one["params"] or "{}")}
        for one in row["completions"]
    ]
    plain["annotations"] = [
        {**one, "payload": json.loads(one["payload"])} for one in row.get("annotations") or ()
    ]
    return plain


def _messages(rows: list[dict[str, JSON]]) -> list[dict[str, JSON]]:
    return messages_json(messages_from_json(rows))


def encode(rows: Iterable[Row], about: About) -> Iterator[bytes]:
    """The file in pieces, a group of rows at a time."""
    schema = SCHEMA.with_metadata({"heedful.dataset": about.dataset})
    remaining, sink = iter(rows), io.BytesIO()
    sent = 0

    def new_bytes() -> bytes:
        nonlocal sent
        piece = sink.getvalue()
        sent += len(piece)
        sink.seek(0)
        sink.truncate()
        return piece

    writer = pq.ParquetWriter(_Pieces(sink), schema)
    while group := list(islice(remaining, _GROUP)):
        writer.write_table(pa.Table.from_pylist([_typed(row) for row in group], schema=schema))
        yield new_bytes()
    writer.close()
    yield new_bytes()


class _Pieces(io.RawIOBase):
    """A file that counts what went through it, while its bytes are taken away."""

    def __init__(self, sink: io.BytesIO) -> None:
        self._sink, self._place = sink, 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        num = self._sink.write(data)
        self._place += num
        return num

    def tell(self) -> int:
        return self._place


def _typed(row: Row) -> Row:
    typed = dict(row)
    if "form" in row:
        typed["completions"] = [
            {**one, "params": dumps(one["params"])} for one in row["completions"]
        ]
        typed["annotations"] = [
            {**one, "payload": dumps(one["payload"])} for one in row["annotations"]
        ]
    return typed


def rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows with their numbers."""
    if not path.exists():
        raise MissingError(f"{path} does not exist; check the path")
    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(_GROUP):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        seen = str(error).splitlines()[0]
        raise DataError(f"{path} is not a sound Parquet file ({seen}); export it again") from error


def _check_columns(path: Path, names: list[str]) -> None:
    if "prompt" not in names:
        seen = ", ".join(names)
        raise DataError(f"{path} has the columns {seen:.200}; expected {PARQUET.expects}")


PARQUET = Format(
    name="parquet",
    title="Parquet of everything",
    expects="columns as heedful export writes them: prompt, form, completions, annotations",
    keys=plain_json.KEYS,
    recognises=plain_json.recognises,
    parse=parse,
    write=plain_json.write,
    loses=(),
    rows=rows,
    encode=encode,
    suffix=".parquet",
    media_type="application/vnd.apache.parquet",
)
