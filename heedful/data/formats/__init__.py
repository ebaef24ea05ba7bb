"""File formats of other tools. ``read_files("hh", paths)`` gives records and drops."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from heedful.data.formats.base import Drop, Format, Parsed, Record
from heedful.data.formats.hh import HH
from heedful.data.formats.reading import read
from heedful.data.formats.trl import TRL
from heedful.registry import Registry

FORMATS: Registry[Format] = Registry("format", {"hh": HH, "trl": TRL})


def read_files(name: str, paths: Iterable[Path | str]) -> Iterator[Parsed | Drop]:
    """The records and drops of the files in the format of that name; see ``reading.read``."""
    return read(FORMATS[name], paths, FORMATS.values())


__all__ = ["FORMATS", "Drop", "Format", "Parsed", "Record", "read_files"]
