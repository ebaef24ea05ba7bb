"""Statistics as JSON: intervals as objects, what is undefined as null."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from heedful.stats.intervals import Interval
from heedful.types import JSON

T = TypeVar("T")


def plain(value: Any) -> JSON:
    """The value as JSON holds it; numbers that are not finite become null."""
    if isinstance(value, Interval):
        return {
            "value": plain(value.value),
            "low": plain(value.low),
            "high": plain(value.high),
            "num": int(value.num),
        }
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def attempt(notes: list[str], what: str, compute: Callable[[], T]) -> T | None:
    """A result; when the data do not allow it, None and a note that says why."""
    try:
        return compute()
    except (ValueError, ArithmeticError) as error:
        notes.append(f"No {what}: {error}.")
        return None
