"""File formats of other tools and our own, both ways.

``read_files("hh", paths)`` gives records and drops; ``exchange.exporting`` writes.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from heedful.data.formats.argilla import ARGILLA
from heedful.data.formats.base import (
    About,
    Answer,
    Candidate,
    Drop,
    Format,
    Judged,
    Parsed,
    Record,
    RowDropped,
    Tally,
)
from heedful.data.formats.csv_table import CSV
from heedful.data.formats.hh import HH
from heedful.data.formats.kto import KTO
from heedful.data.formats.openai import OPENAI
from heedful.data.formats.parquet import PARQUET
from heedful.data.formats.plain_json import JSON_FORMAT
from heedful.data.formats.prm800k import PRM800K
from heedful.data.formats.ranking import RANKING
from heedful.data.formats.reading import first_keys, read
from heedful.data.formats.trl import TRL, TRL_IMPLICIT, TRL_SFT, TRL_STANDARD
from heedful.registry import Registry

_ALL = (
    JSON_FORMAT, PARQUET, CSV, HH, KTO, OPENAI, RANKING, PRM800K, ARGILLA, TRL, TRL_STANDARD,
    TRL_IMPLICIT, TRL_SFT,
)  # fmt: skip
FORMATS: Registry[Format] = Registry("format", {one.name: one for one in _ALL})


def read_files(name: str, paths: Iterable[Path | str]) -> Iterator[Parsed | Drop]:
    """The records and drops of the files in the format of that name; see ``reading.read``."""
    return read(FORMATS[name], paths, FORMATS.values())


__all__ = [
    "FORMATS",
    "About",
    "Answer",
    "Candidate",
    "Drop",
    "Format",
    "Judged",
    "Parsed",
    "Record",
    "RowDropped",
    "Tally",
    "first_keys",
    "read_files",
]
