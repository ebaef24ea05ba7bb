"""Files to JSON objects to records. Whatever a file turns out to be, the error says so.

A broken line raises and nothing is imported; a sound row that cannot be used is a ``Drop``.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, AnyStr, cast

from heedful.data.formats import conversation
from heedful.data.formats.base import Drop, Format, Parsed, Row, RowDropped
from heedful.errors import DataError, MissingError
from heedful.types import JSON

MAX_LINE = 64_000_000  # bytes of a row, which is held in memory whole
_PIECE = 1 << 20
_GZIP = b"\x1f\x8b"
_JSON_LINES = "give a JSON Lines file: one JSON object on each line, UTF-8, plain or gzipped"
_BINARY = {
    b"PAR1": "Parquet",
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "zstd-compressed",
    b"BZh": "bzip2-compressed",
    b"\xfd7zXZ": "xz-compressed",
    b"SQLite format 3": "a SQLite database",
    b"\x89PNG": "a PNG image",
    b"%PDF": "a PDF",
}


def read(
    format: Format, paths: Iterable[Path | str], others: Iterable[Format] = ()
) -> Iterator[Parsed | Drop]:
    """The records and drops of the files, in order.

    Raises ``MissingError`` for a file that is not there and ``DataError`` for one that is not in
    this format; the message names file and line, and the format among ``others`` that fits.
    """
    for path in map(Path, paths):
        is_empty = True
        for line, row in (format.rows or json_rows)(path):
            if is_empty and not format.recognises(row):
                raise DataError(_wrong_format(format, path, line, row, others))
            is_empty = False
            yield _parse(format, path, line, row)
        if is_empty and format.rows is None:
            raise DataError(f"{path} is empty; expected {format.expects}")


def _parse(format: Format, path: Path, line: int, row: Mapping[str, JSON]) -> Parsed | Drop:
    try:
        record = format.parse(row)
        ignored = tuple(sorted(set(map(_printable, _ignored(format, row)))))
    except RowDropped as drop:
        return Drop(rule=drop.rule, file=str(path), line=line, detail=drop.detail)
    except RecursionError:  # also of JSON inside a text, which the reader of the file does not see
        return Drop(rule="too_deep", file=str(path), line=line, detail="its JSON is nested too far")
    return Parsed(record=record, file=str(path), line=line, ignored=ignored)


def _ignored(format: Format, row: Row) -> Iterator[str]:
    """Keys of a row and of its messages that mean nothing to the format."""
    for key, value in row.items():
        if key in format.keys:
            yield from conversation.unknown_keys(key, value)
        else:
            yield key
    yield from format.unused(row)


def _printable(key: str) -> str:
    """A key as it can be printed: JSON can spell half of a surrogate pair, which UTF-8 cannot."""
    return key.encode("utf-8", "backslashreplace").decode()


def _wrong_format(
    format: Format, path: Path, line: int, row: Mapping[str, JSON], others: Iterable[Format]
) -> str:
    keys = ", ".join(_keys(row)) or "none"
    seen = f"{path} line {line} is not in format {format.name!r}: its keys are {keys:.200}"
    alike = (other for other in others if other.rows is format.rows)
    fitting = [other.name for other in alike if other.recognises(row)]
    if fitting:
        return f"{seen}; it looks like {fitting[0]!r}: heedful import {fitting[0]} {path}"
    return f"{seen}; expected {format.expects}"


def first_keys(format: Format, path: Path) -> list[str]:
    """The keys, or columns, of a file's first row, sorted; none when it has no rows."""
    return next((_keys(row) for _, row in (format.rows or json_rows)(path)), [])


def _keys(row: Row) -> list[str]:
    return sorted(map(_printable, row))


def json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, JSON]]]:
    """The objects of a JSON Lines file with their line numbers."""
    with opened(path) as file:
        refuse_binary(path, file, _JSON_LINES)
        for number, line in bounded(path, file):
            text = decode(path, number, line)
            if text.strip():
                yield number, _object(path, number, text)


def bounded(path: Path, file: IO[AnyStr]) -> Iterator[tuple[int, AnyStr]]:
    """The lines of a file with their numbers; ``DataError`` for one that would fill memory."""
    number = 1
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise DataError(
                f"{path} line {number} has more than {MAX_LINE // 1_000_000} MB; a row stands on "
                "a line of its own, so split the file or leave that row out"
            )
        yield number, line
        number += 1


def check_unpacked(path: Path, most: int) -> None:
    """Refuse a file with more than ``most`` bytes when it is unpacked; holds none of them."""
    size = 0
    with opened(path) as file:
        while piece := file.read(_PIECE):
            size += len(piece)
            if size > most:
                raise DataError(
                    f"{path} has more than {most // 1_000_000} MB when it is unpacked; split it, "
                    "or use heedful import"
                )


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """The bytes of a file, unzipped when it is gzipped; what goes wrong is an error of ours."""
    if path.is_dir():
        raise DataError(f"{path} is a directory; name the files in it")
    try:
        with path.open("rb") as file:
            if not file.peek(2).startswith(_GZIP):
                yield file
                return
            with gzip.open(file) as plain:
                yield cast(BufferedReader, plain)  # it reads and peeks alike
    except FileNotFoundError as error:
        raise MissingError(f"{path} does not exist; check the path") from error
    except PermissionError as error:
        raise MissingError(f"{path} cannot be read: permission denied; chmod it") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); fetch it again") from error


def refuse_binary(path: Path, file: BufferedReader, instead: str) -> None:
    """Refuse a file that begins as no text does; ``instead`` says what to give."""
    start = file.peek(16)
    for magic, kind in _BINARY.items():
        if start.startswith(magic):
            raise DataError(f"{path} is {kind}; {instead}")


def decode(path: Path, number: int, line: bytes) -> str:
    """A line as text; ``DataError`` names the line that is not UTF-8."""
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} line {number} is not UTF-8 ({error.reason}); {_JSON_LINES}") from (
            error
        )


def _object(path: Path, number: int, text: str) -> dict[str, JSON]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} line {number} {_not_json(number, text, error)}") from error
    if not isinstance(row, dict):
        kind = "a JSON array" if isinstance(row, list) else f"JSON {text.strip():.40}"
        raise DataError(f"{path} line {number} is {kind}, not an object; {_JSON_LINES}")
    return row


def _not_json(number: int, text: str, error: Exception) -> str:
    start = text.strip()
    if number == 1 and start in ("{", "["):
        return f"is JSON spread over several lines; {_JSON_LINES}"
    if number == 1 and not start.startswith("{"):
        kind = "looks like CSV" if "," in start else "is not JSON"
        return f"{kind} ({start[:40]!r}); {_JSON_LINES}"
    reason = getattr(error, "msg", type(error).__name__)
    column = getattr(error, "colno", 1)
    return f"is broken JSON ({reason}, column {column}); mend or delete the line"
