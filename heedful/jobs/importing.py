"""Files of other tools into the store: prompts, completions, tasks and annotations.

Every file is read and checked before the one transaction begins, so a broken line imports
nothing. Importing again adds nothing: ids are content hashes.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from heedful.data.formats import FORMATS, Drop, Parsed, Record, read_files
from heedful.errors import ConfigError, DataError
from heedful.store import Store, Transaction, annotations, completions, datasets, tasks
from heedful.types import (
    JSON,
    Annotation,
    Completion,
    Demonstration,
    Message,
    Preference,
    Prompt,
    Task,
)

# Names that say nothing without the directory they lie in.
_GENERIC = {"data", "dev", "eval", "test", "train", "valid", "validation"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What an import did. Made by ``import_preferences``, printed by the command line.

    ``num_rows = num_new + num_duplicates + len(drops)``; ``ignored_keys`` counts the rows that
    had a key the format gives no meaning to; ``item_ids`` are tasks and prompts of the dataset.
    """

    dataset: str
    num_rows: int
    num_new: int
    num_duplicates: int
    drops: tuple[Drop, ...]
    ignored_keys: Mapping[str, int]
    item_ids: tuple[str, ...]

    @property
    def drops_by_rule(self) -> dict[str, int]:
        """Number of dropped rows by rule, sorted by rule."""
        return dict(sorted(Counter(drop.rule for drop in self.drops).items()))


@dataclass(frozen=True, slots=True)
class _Item:
    """The records that one row becomes."""

    parsed: Parsed
    prompt: Prompt
    completions: tuple[Completion, ...] = ()
    task: Task | None = None
    annotation: Annotation | None = None

    @property
    def id(self) -> str:
        return self.task.id if self.task else self.prompt.id


def import_preferences(
    store: Store,
    format: str,
    paths: Sequence[Path | str],
    *,
    dataset: str | None = None,
    annotator: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> ImportResult:
    """Read files in a format (``FORMATS``) into a dataset; ``progress`` gets the rows read so far.

    The dataset is named after the file unless a name is given, the annotator ``import:DATASET``.
    Raises ``DataError`` or ``MissingError`` that names file and line; then nothing was imported.
    """
    FORMATS[format]
    name = dataset if dataset is not None else default_dataset(paths)
    who = annotator or f"import:{name}"
    items, drops = [], []
    for num_rows, one in enumerate(read_files(format, paths), start=1):
        if isinstance(one, Drop):
            drops.append(one)
        else:
            items.append(_to_item(one, name, who))
        if progress:
            progress(num_rows)
    with store.write() as tx:
        kept, contradictions = _without_contradictions(tx, items, who)
        num_new = _write(tx, name, kept)
    return ImportResult(
        dataset=name,
        num_rows=len(items) + len(drops),
        num_new=num_new,
        num_duplicates=len(kept) - num_new,
        drops=(*drops, *contradictions),
        ignored_keys=dict(Counter(key for item in items for key in item.parsed.ignored)),
        item_ids=tuple(dict.fromkeys(item.id for item in kept)),
    )


def default_dataset(paths: Sequence[Path | str]) -> str:
    """A name from the file's: ``preferences`` for ``preferences.jsonl.gz``.

    A bare ``train.jsonl`` gets its directory in front, as in ``hh-harmless-train``. Raises
    ``ConfigError`` when several files do not lead to one name.
    """
    if not paths:
        raise ConfigError("no file was given; name at least one")
    names = sorted({_dataset_of(Path(path)) for path in paths})
    if len(names) == 1:
        return names[0]
    raise ConfigError(
        f"{len(paths)} files could be called {', '.join(names)}; choose one name with --dataset"
    )


def _dataset_of(path: Path) -> str:
    stem = path.name.split(".")[0] or path.name
    folder = path.resolve().parent.name
    name = f"{folder}-{stem}" if stem.lower() in _GENERIC and folder else stem
    return re.sub(r"[^\w.-]+", "-", name).strip("-") or "imported"


def _to_item(parsed: Parsed, dataset: str, annotator: str) -> _Item:
    record: Record = parsed.record
    if isinstance(record, Preference):
        sides = [
            _completion(record.prompt, one, dataset) for one in (record.chosen, record.rejected)
        ]
        return _item(parsed, "pairwise", sides, {"preferred": sides[0].id}, annotator)
    if isinstance(record, Demonstration):
        answer = _completion(record.prompt, record.response, dataset)
        return _item(parsed, "demonstration", [answer], {"accepted": answer.id}, annotator)
    return _Item(parsed, record)


def _item(
    parsed: Parsed,
    form: str,
    sides: list[Completion],
    payload: dict[str, JSON],
    annotator: str,
) -> _Item:
    # Sorted by content hash: the chosen side comes first half of the time, whatever the file did.
    order = tuple(sorted(one.id for one in sides))
    prompt = sides[0].prompt
    task = Task(form=form, prompt=prompt, completion_ids=order, reason="import")
    annotation = Annotation(
        task_id=task.id, annotator=annotator, source="human", payload=payload, shown_order=order
    )
    return _Item(parsed, prompt, tuple(sides), task, annotation)


def _completion(prompt: Prompt, messages: tuple[Message, ...], dataset: str) -> Completion:
    return Completion(prompt=prompt, messages=messages, model=f"import:{dataset}")


def _without_contradictions(
    tx: Transaction, items: list[_Item], annotator: str
) -> tuple[list[_Item], list[Drop]]:
    """Drop the rows that answer a pair otherwise than an earlier row or import did."""
    asked = [item.task.id for item in items if item.task]
    answered = dict(annotations.first_payloads(tx, annotator, asked))
    kept, drops = [], []
    for item in items:
        if item.annotation:
            task_id, payload = item.annotation.task_id, item.annotation.payload
            if answered.setdefault(task_id, payload) != payload:
                drops.append(_contradiction(item))
                continue
        kept.append(item)
    return kept, drops


def _contradiction(item: _Item) -> Drop:
    return Drop(
        rule="contradicts_earlier_row",
        file=item.parsed.file,
        line=item.parsed.line,
        detail=f"the same pair was answered otherwise before: {item.id}",
    )


def _write(tx: Transaction, dataset: str, items: list[_Item]) -> int:
    """Write everything; how many rows are new to the dataset."""
    if not dataset.strip():
        raise DataError("a dataset's name is empty; name it, e.g. with --dataset")
    completions.add(tx, [one for item in items for one in item.completions])
    tasks.add(tx, [item.task for item in items if item.task])
    annotations.add(tx, [item.annotation for item in items if item.annotation])
    asked = [item.task.id for item in items if item.task]
    bare = [item.prompt for item in items if not item.task]
    num_new = datasets.add_tasks(tx, dataset, asked)
    return num_new + datasets.add_prompts(tx, dataset, bare)
