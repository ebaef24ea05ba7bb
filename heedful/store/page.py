"""Cutting long lists of ids: a statement takes a limited number of parameters."""

from collections.abc import Iterator, Sequence

MAX_PARAMETERS = 500  # SQLite allowed 999 before version 3.32


def chunks(ids: Sequence[str], size: int = MAX_PARAMETERS) -> Iterator[Sequence[str]]:
    """Consecutive pieces of at most ``size`` ids."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
