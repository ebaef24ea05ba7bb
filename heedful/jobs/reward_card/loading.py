"""The feedback that a card measures on, from a store, a snapshot or a file."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from heedful.config import RewardCardConfig
from heedful.data.formats import FORMATS, Parsed, read_files
from heedful.data.formats.reading import json_rows
from heedful.errors import DataError, MissingError
from heedful.exchange.importing import import_preferences
from heedful.jobs.fit.base import frozen_rows, is_in_store, load_rows
from heedful.jobs.progress import progress, steps
from heedful.jobs.reward_card.people import Background, Sides, read_background, sides_of
from heedful.store import open_store
from heedful.store.database import Store
from heedful.types import Feedback, Preference

COLUMN = "subset"  # as RewardBench has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Feedback, the hash that names it, and what is known of who gave it.

    ``snapshot`` is that of the store, None for rows that are not in it. ``drops`` counts by rule
    the answers, and the rows of a file, that say nothing of how good answers are.
    """

    rows: list[Feedback]
    hash: str | None
    snapshot: str | None
    background: Background
    drops: Mapping[str, int]


def load_feedback(config: RewardCardConfig, store: Store | None, out: Path) -> Loaded:
    """Feedback of a data set, a snapshot, or a file in a format, which is not imported."""
    if config.format is not None:
        return read_file(config, config.format, out)
    is_named = store is not None and is_in_store(store, config.data)
    if not is_named and Path(config.data).is_file() and Path(config.data).suffix != ".parquet":
        raise DataError(
            f"{config.data} is a file; say how it is written with --format, one of "
            f"{', '.join(FORMATS)}"
        )
    data = load_rows(store, config.data, "feedback", out)
    return Loaded(
        rows=data.rows,
        hash=data.snapshot.id if data.snapshot else None,
        snapshot=data.snapshot.id if data.snapshot else None,
        background=read_background(store, data.rows) if store is not None else Background(),
        drops=data.snapshot.drops if data.snapshot else {},
    )


def read_file(config: RewardCardConfig, format: str, out: Path) -> Loaded:
    """Feedback of a file, by way of a store that is thrown away."""
    FORMATS[format]
    if not Path(config.data).is_file():
        raise MissingError(f"file {config.data} does not exist; give a file, or leave out --format")
    with (
        tempfile.TemporaryDirectory() as directory,
        open_store(Path(directory) / "pairs.db") as scratch,
    ):
        with progress("read pairs", 0) as advance:
            result = import_preferences(scratch, format, [config.data], progress=steps(advance))
        data = frozen_rows(scratch, result.dataset, "feedback", out)
        background = read_background(scratch, data.rows)
    background = replace(background, subsets=read_subsets(format, Path(config.data)))
    assert data.snapshot is not None
    return Loaded(
        rows=data.rows,
        hash=data.snapshot.id,
        snapshot=None,
        background=background,
        drops=Counter(result.drops_by_rule) + Counter(data.snapshot.drops),
    )


def read_subsets(format: str, path: Path) -> dict[Sides, str]:
    """The subset of every pair in a file whose rows name one."""
    if FORMATS[format].rows is not None:
        return {}
    named = {
        line: name for line, row in json_rows(path) if isinstance(name := row.get(COLUMN), str)
    }
    pairs = read_files(format, [path]) if named else ()
    return {
        sides_of(one.record): named[one.line]
        for one in pairs
        if isinstance(one, Parsed) and isinstance(one.record, Preference) and one.line in named
    }
