"""Freezing what people answered: annotations of a dataset to a snapshot of training rows."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from heedful.data.snapshot import Example, Kind, freeze
from heedful.errors import DataError
from heedful.forms import FORMS
from heedful.store import Store, Transaction, completions, datasets, snapshots, tasks
from heedful.store.tasks import AnsweredTask
from heedful.types import (
    Annotation,
    AnnotationKind,
    Demonstration,
    Feedback,
    Preference,
    Snapshot,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Derived:
    """Rows in the order of the file, and why the other answers gave none."""

    rows: list[Example]
    drops: dict[str, int]
    num_answers: int


def make_snapshot(
    store: Store,
    dataset: str,
    kind: Kind,
    directory: Path | str,
    *,
    include_gold: bool = False,
) -> Snapshot:
    """Write the dataset's rows of one kind to ``directory`` and record where they came from.

    Feedback and preferences come from the newest answer of each annotator, or from the adjudication
    of a task that has one; demonstrations from what was chosen or accepted, each answer once;
    prompts from every item. ``drops`` counts the answers that gave no row, by rule. Answers to
    tasks whose answer is known are about who gave them and are left out unless ``include_gold``;
    repeats are always. The same data give the same snapshot.
    Raises ``MissingError`` for an unknown dataset, ``DataError`` when no row is left.
    """
    with store.read() as tx:
        datasets.require(tx, dataset)
        derived = _derive(tx, dataset, kind, _kinds(include_gold))
    if not derived.rows:
        raise DataError(_nothing(dataset, kind, derived))
    frozen = freeze(derived.rows, kind, directory)
    snapshot = Snapshot(
        kind=kind,
        dataset=dataset,
        num_rows=len(derived.rows),
        rows_hash=frozen.rows_hash,
        path=frozen.path,
        drops=derived.drops,
    )
    with store.write() as tx:
        _save(tx, snapshot, derived.rows)
    return snapshot


def join_snapshots(
    store: Store, rows: Sequence[Example], parents: Sequence[Snapshot], directory: Path | str
) -> Snapshot:
    """Write the rows of several snapshots to ``directory`` as one, whose parents they are.

    It stands under the data set of the first parent; ``drops`` are the parents' together. There
    may be rows that are from no parent.
    """
    kind = parents[0].kind
    frozen = freeze(rows, kind, directory)
    drops: Counter[str] = Counter()
    for parent in parents:
        drops.update(parent.drops)
    snapshot = Snapshot(
        kind=kind,
        dataset=parents[0].dataset,
        num_rows=len(rows),
        rows_hash=frozen.rows_hash,
        path=frozen.path,
        parents=tuple(parent.id for parent in parents),
        drops=dict(sorted(drops.items())),
    )
    with store.write() as tx:
        _save(tx, snapshot, rows)
    return snapshot


def _kinds(include_gold: bool) -> tuple[AnnotationKind, ...]:
    return ("answer", "adjudication", "gold") if include_gold else ("answer", "adjudication")


def _derive(
    tx: Transaction, dataset: str, kind: Kind, answers: Sequence[AnnotationKind]
) -> _Derived:
    if kind == "prompt":
        prompts: list[Example] = list(completions.prompts_by_dataset(tx, dataset))
        return _Derived(rows=prompts, drops={}, num_answers=0)
    rows: list[Feedback | Preference | Demonstration] = []
    drops: Counter[str] = Counter()
    num_answers = 0
    for answered in tasks.by_dataset(tx, dataset, answers):
        num_answers += len(answered.annotations)
        standing = (answered.ruling,) if answered.ruling else answered.annotations
        if len(standing) < len(answered.annotations):
            drops["adjudicated"] += len(answered.annotations) - len(standing)
        for annotation in standing:
            derived = _convert(kind, answered, annotation)
            rows += derived
            if not derived:
                drops[_rule(kind, answered, annotation)] += 1
    unique: list[Example] = list(_merge(rows) if kind == "demonstration" else rows)
    return _Derived(rows=unique, drops=dict(sorted(drops.items())), num_answers=num_answers)


def _convert(
    kind: Kind, answered: AnsweredTask, annotation: Annotation
) -> Sequence[Feedback | Preference | Demonstration]:
    form = FORMS[answered.task.form]
    given = (answered.task, answered.completions, annotation)
    if kind == "feedback":
        return form.to_feedback(*given)
    return form.to_preferences(*given) if kind == "preference" else form.to_demonstrations(*given)


def _rule(kind: Kind, answered: AnsweredTask, annotation: Annotation) -> str:
    """Why an answer gave no row: undecided, or its form states no rows of this kind."""
    form = FORMS[answered.task.form]
    return form.undecided(annotation.payload) or f"{form.name}_is_no_{kind}"


def _merge(rows: Iterable[Feedback | Preference | Demonstration]) -> list[Demonstration]:
    """Each answer once, with the ids of all annotations that found it good."""
    merged: dict[tuple[object, object], Demonstration] = {}
    for row in rows:
        assert isinstance(row, Demonstration)
        key = (row.prompt, row.response)
        known = merged[key].annotation_ids if key in merged else ()
        merged[key] = Demonstration(
            prompt=row.prompt,
            response=row.response,
            weight=row.weight,
            annotation_ids=(*known, *row.annotation_ids),
        )
    return list(merged.values())


def _save(tx: Transaction, snapshot: Snapshot, rows: Sequence[Example]) -> None:
    annotations: set[str] = set()
    prompts: set[str] = set()
    for row in rows:
        if isinstance(row, Feedback | Preference | Demonstration):
            annotations.update(row.annotation_ids)
        else:
            prompts.add(row.id)
    snapshots.save(
        tx,
        snapshot,
        annotations=dict.fromkeys(sorted(annotations), "train"),
        prompts=dict.fromkeys(sorted(prompts), "train"),
    )


def _nothing(dataset: str, kind: Kind, derived: _Derived) -> str:
    counted = ", ".join(f"{num} {rule}" for rule, num in derived.drops.items()) or "none dropped"
    return (
        f"dataset {dataset!r} gives no {kind} rows: {derived.num_answers} answers, {counted}; "
        "annotate its tasks or choose another dataset"
    )
