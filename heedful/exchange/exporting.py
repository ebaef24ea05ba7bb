"""A dataset as a file, row by row; what the format cannot hold is counted by rule."""

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.data.formats import FORMATS, About, Format, Tally
from heedful.errors import ConfigError, DataError, ResourceError
from heedful.store import Store, Transaction, datasets, items

_GZIP = 31  # window bits of a gzip stream; zlib writes no time into it
_PIECE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What an export wrote. Made by ``export_dataset``, printed by the command line."""

    dataset: str
    format: str
    path: str
    num_items: int
    tally: Tally


def export_dataset(
    store: Store,
    dataset: str,
    out: Path | str | None = None,
    *,
    format: str = "json",
    progress: Callable[[int], None] | None = None,
) -> ExportResult:
    """Write a dataset to a file, gzipped when its name ends in ``.gz``.

    The file is ``DATASET`` with the format's suffix unless ``out`` names it, and appears under that
    name only when it is complete. The same data give the same bytes. Raises ``MissingError`` for an
    unknown dataset, ``ConfigError`` for an unknown format, ``ResourceError`` on a full disk.
    """
    kind = FORMATS[format]
    path = Path(out) if out is not None else _named_after(dataset, kind)
    tally, num_items = Tally(), 0

    def count(number: int) -> None:
        nonlocal num_items
        num_items = number
        if progress:
            progress(number)

    with store.read() as tx:
        pieces = encoded(tx, dataset, kind, tally, count)
        write_pieces(zipped(pieces) if is_zipped(path, kind) else pieces, path)
    return ExportResult(
        dataset=dataset, format=format, path=str(path), num_items=num_items, tally=tally
    )


def _named_after(dataset: str, format: Format) -> Path:
    """The file of a dataset in this folder; raises ``ConfigError`` for a name that leads out."""
    try:
        datasets.check_name(dataset)
    except DataError as error:
        raise ConfigError(f"{error}; name the file with --out") from error
    return Path(f"{dataset}{format.suffix}")


def encoded(
    tx: Transaction,
    dataset: str,
    format: Format,
    tally: Tally,
    progress: Callable[[int], None] | None = None,
) -> Iterator[bytes]:
    """The bytes of the file in pieces, as items are read; ``tally`` is filled on the way."""
    datasets.require(tx, dataset)
    about = About(dataset=dataset, num_candidates=items.most_shown(tx, dataset))
    return _gathered(format.encode(rows(tx, dataset, format, tally, progress), about))


def rows(
    tx: Transaction,
    dataset: str,
    format: Format,
    tally: Tally,
    progress: Callable[[int], None] | None = None,
    *,
    limit: int | None = None,
) -> Iterator[Any]:
    """The rows of a dataset's first ``limit`` items, by default of all; ``tally`` is filled."""
    for number, item in enumerate(items.stream(tx, dataset), start=1):
        if limit is not None and number > limit:
            return
        for row in format.write(item, tally):
            tally.num_rows += 1
            yield row
        if progress:
            progress(number)


def count(tx: Transaction, dataset: str, format: str, *, limit: int | None = None) -> Tally:
    """What an export of the first ``limit`` items would write and leave out."""
    tally = Tally()
    for _ in rows(tx, dataset, FORMATS[format], tally, limit=limit):
        pass
    return tally


def zipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces gzipped; the same bytes give the same bytes."""
    squeezer = zlib.compressobj(wbits=_GZIP)
    for piece in pieces:
        if squeezed := squeezer.compress(piece):
            yield squeezed
    yield squeezer.flush()


def is_zipped(path: Path, format: Format) -> bool:
    """Whether the name asks for gzip; raises ``ConfigError`` where the format has its own."""
    if path.suffix != ".gz":
        return False
    if format.name == "parquet":
        raise ConfigError(f"{path} would gzip Parquet, which is compressed; name it .parquet")
    return True


def write_pieces(pieces: Iterable[bytes], path: Path) -> None:
    """Write a file that appears under its name only when it is complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"could not make {path.parent}: {error.strerror}") from error
    try:
        with temporary.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except ResourceError:  # of the database
        raise
    except OSError as error:
        raise ResourceError(
            f"could not write {path}: {error.strerror}; free space or choose another path"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Small pieces joined, so that a file or a socket is not written to for each row."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _PIECE:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
