"""Cutting long lists of ids: a statement takes a limited number of parameters."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

MAX_PARAMETERS = 500  # SQLite allowed 999 before version 3.32


def chunks(ids: Sequence[T], size: int = MAX_PARAMETERS) -> Iterator[Sequence[T]]:
    """Consecutive pieces of at most ``size`` ids."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
