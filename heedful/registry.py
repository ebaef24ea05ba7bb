"""A dict that knows what its entries are called and offers the nearest name on a miss."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from heedful.errors import ConfigError

T = TypeVar("T")


def near(name: str, names: Iterable[str]) -> str | None:
    """The known name that is most like a name, if one is."""
    close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.6)
    return close[0] if close else None


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint such as ``did you mean 'dpo'?``, or the full list when nothing is near."""
    known = sorted(names)
    close = near(name, known)
    return f"did you mean {close!r}?" if close else f"choose from: {', '.join(known)}"


class Registry(Mapping[str, T], Generic[T]):
    """Named extension points of one kind, filled by ``add`` in one file."""

    def __init__(self, kind: str, entries: Mapping[str, T] | None = None) -> None:
        self.kind = kind
        self._entries: dict[str, T] = dict(entries or {})

    def add(self, name: str, entry: T) -> T:
        """Register ``entry``; a name can be taken once."""
        if name in self._entries:
            raise ConfigError(f"{self.kind} {name!r} is registered twice; choose another name")
        self._entries[name] = entry
        return entry

    def __getitem__(self, name: str) -> T:
        """The entry, or a ``ConfigError`` with the nearest name."""
        try:
            return self._entries[name]
        except KeyError:
            hint = nearest(name, self._entries)
            raise ConfigError(f"unknown {self.kind} {name!r}; {hint}") from None

    def __contains__(self, name: object) -> bool:
        """Whether the name is registered."""
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        """Names in the order of registration."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._entries)
