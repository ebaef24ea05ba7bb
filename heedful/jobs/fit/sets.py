"""Several data sets in one fit: checked before any is read, told apart, recorded as one."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heedful.config import RewardLoss
from heedful.data import testing
from heedful.data.collate import Tree
from heedful.data.examples import Encoded
from heedful.data.reading import Reading, learned
from heedful.data.snapshot import hash_rows
from heedful.errors import ConfigError, DataError
from heedful.jobs.fit.base import Rows, is_in_store, load_rows
from heedful.jobs.snapshot import join_snapshots
from heedful.registry import nearest
from heedful.store import datasets
from heedful.store.database import Store
from heedful.types import JSON, Snapshot

REPEATED = "in_an_earlier_set"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """One of several data sets, under the name that the config gives it.

    ``drops`` counts by rule the answers that gave no row, and the rows that are in an earlier set.
    """

    name: str
    rows_hash: str
    num_rows: int
    drops: Mapping[str, int]
    snapshot: Snapshot | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """The rows of all data sets in one, and where each is from. Made by ``load_sets``.

    ``parts`` and ``of_row`` (a name for each row) are empty when there is one set.
    """

    rows: Rows
    parts: tuple[DataSet, ...] = ()
    of_row: tuple[str, ...] = ()


def load_sets(store: Store | None, names: Sequence[str], kind: Any, directory: Path) -> Sets:
    """Rows of ``kind`` from every data set, as ``load_rows`` finds them, in the order of names.

    A judgement that several sets hold counts in the first. Raises as ``load_rows``, before any set
    is read where a name is unknown, and ``DataError`` for two names of the same rows.
    """
    if len(names) == 1:
        return Sets(rows=load_rows(store, names[0], kind, directory))
    for name in names:
        _require(store, name)
    rows: list[Any] = []
    of_row: list[str] = []
    parts: list[DataSet] = []
    judged: set[Any] = set()  # an annotation is one judgement, in however many sets it stands
    by_hash: dict[str, str] = {}
    for name in names:
        found = load_rows(store, name, kind, directory)
        rows_hash = hash_rows(found.rows)
        if (same := by_hash.setdefault(rows_hash, name)) != name:
            raise DataError(f"{same} and {name} are the same rows; name one of the two")
        fresh = [row for row in found.rows if not row.annotation_ids or row not in judged]
        judged.update(row for row in fresh if row.annotation_ids)
        drops = Counter(found.snapshot.drops if found.snapshot else {})
        drops[REPEATED] += len(found.rows) - len(fresh)
        parts.append(
            DataSet(
                name=name,
                rows_hash=rows_hash,
                num_rows=len(found.rows),
                drops={rule: num for rule, num in sorted(drops.items()) if num},
                snapshot=found.snapshot,
            )
        )
        rows += fresh
        of_row += [name] * len(fresh)
    known = [part.snapshot for part in parts if part.snapshot is not None]
    snapshot = None
    if store is not None and known:
        snapshot = join_snapshots(store, rows, known, directory)
    return Sets(rows=Rows(rows=rows, snapshot=snapshot), parts=tuple(parts), of_row=tuple(of_row))


def _require(store: Store | None, name: str) -> None:
    """Refuse a name that stands for nothing; ``load_rows`` says what is wrong with a file."""
    if store is None or name == testing.NAME or is_in_store(store, name):
        return
    path = Path(name)
    if path.suffix != ".parquet" and not path.is_file():
        with store.read() as tx:
            datasets.require(tx, name)


def keeping(sets: Sets, rows: Sequence[Any]) -> Sets:
    """The sets with some of their rows, in order; the others are not learned from."""
    names = {id(row): name for row, name in zip(sets.rows.rows, sets.of_row, strict=False)}
    return replace(
        sets,
        rows=Rows(rows=list(rows), snapshot=sets.rows.snapshot),
        of_row=tuple(names[id(row)] for row in rows) if names else (),
    )


def check_dataset_weights(loss: RewardLoss, names: Sequence[str]) -> None:
    """Refuse the weight of a data set that the run does not read, and weights that are all 0."""
    weights = loss.dataset_weights
    for name in weights:
        if name not in names:
            raise ConfigError(f"loss.dataset_weights has {name!r}; {nearest(name, names)}")
    if not any(weights.get(name, 1.0) for name in names):
        raise ConfigError(
            f"loss.dataset_weights are 0 for {', '.join(names)}, which is all there is to learn "
            "from; leave one above 0"
        )


def by_set(
    sets: Sets,
    encoded: Encoded,
    reading: Reading,
    taught: Sequence[Tree],
    held_out: Sequence[Tree],
    measure: Callable[[Sequence[Tree]], Mapping[str, JSON]],
) -> dict[str, JSON]:
    """What each of several sets gave and how well it is predicted, by name.

    ``weight_share`` is its part of the weight of all that is learned; ``drops`` are by rule;
    ``measure`` gives the metrics of held-out trees.
    """
    drops = {part.name: Counter(part.drops) for part in sets.parts}
    for number, rule in encoded.dropped:
        drops[sets.of_row[number]][rule] += 1
    lessons = {
        part.name: [one for tree in of_set(taught, part.name) if (one := learned(tree, reading))]
        for part in sets.parts
    }
    weights = {name: sum(map(weight_of, trees)) for name, trees in lessons.items()}
    total = sum(weights.values())
    return {
        part.name: {
            "rows_hash": part.rows_hash,
            "num_rows": part.num_rows,
            "num_train": sum(len(tree.said) for tree in lessons[part.name]),
            "weight_share": weights[part.name] / total,
            "drops": dict(sorted(drops[part.name].items())),
            **{
                name: value
                for name, value in measure(of_set(held_out, part.name)).items()
                if name != "deltas"
            },
        }
        for part in sets.parts
    }


def of_set(trees: Sequence[Tree], name: str) -> list[Tree]:
    """The trees with what one data set says of them; none of which it says nothing."""
    parts = (
        replace(tree, said=tuple(one for one in tree.said if one.dataset == name)) for tree in trees
    )
    return [part for part in parts if part.said]


def weight_of(tree: Tree) -> float:
    """The weight of all that a tree teaches."""
    by_name = (*tree.ratings.values(), *tree.flags.values())
    marks = [*tree.thumbs, *(mark for marks in by_name for mark in marks)]
    rest = sum(mark.weight for mark in marks) + sum(one.weight for one in tree.rankings)
    return sum(tree.weights) + sum(tree.tie_weights) + rest
