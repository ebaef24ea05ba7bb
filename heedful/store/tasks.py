"""Tasks: questions about completions of one prompt."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, bindparam, select

from heedful.errors import DataError, MissingError
from heedful.forms import FORMS
from heedful.store import annotations, completions, tables
from heedful.store.database import Transaction
from heedful.types import Annotation, AnnotationKind, Completion, Prompt, Task

_LINKS = tables.task_completions
_IDS: BindParameter[list[str]] = bindparam("ids", expanding=True)
_SHOWN = (
    completions.query_with_prompts()
    .join(_LINKS, _LINKS.c.completion_id == tables.completions.c.id)
    .add_columns(_LINKS.c.task_id)
    .order_by(_LINKS.c.task_id, _LINKS.c.position)
)
_ASKED = ("form", "guideline", "slots", "priority", "reason")  # columns of a task
_SHOWN_OF = (
    _SHOWN.join(tables.tasks, tables.tasks.c.id == _LINKS.c.task_id)
    .add_columns(*(tables.tasks.c[name].label(name) for name in _ASKED))
    .where(_LINKS.c.task_id.in_(_IDS))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredTask:
    """A task with what it shows and the newest answer of each annotator of each kind.

    Made by ``by_dataset``; used by snapshots and pages. ``ruling`` is the adjudication that stands.
    """

    task: Task
    completions: Mapping[str, Completion]
    annotations: tuple[Annotation, ...]
    ruling: Annotation | None = None


def add(tx: Transaction, tasks: Sequence[Task]) -> int:
    """Add tasks; how many were new. Their completions are in the store already.

    Raises ``DataError`` for a number of completions that the form does not take, ``MissingError``
    for a completion that is not there or answers another prompt, ``ConfigError`` for an unknown
    form.
    """
    for task in tasks:
        _check(task)
    rows = [_to_row(task) for task in tasks]
    num_new = tx.insert_new(tables.tasks, rows, hint="add the task's completions first")
    shown = [
        {
            "task_id": task.id,
            "position": position,
            "completion_id": completion_id,
            "prompt_id": task.prompt.id,
        }
        for task in tasks
        for position, completion_id in enumerate(task.completion_ids)
    ]
    hint = "add a task's completions first; they answer the task's prompt"
    tx.insert_new(tables.task_completions, shown, hint=hint)
    return num_new


def by_dataset(
    tx: Transaction, dataset: str, kinds: Sequence[AnnotationKind] = annotations.VOTES
) -> list[AnsweredTask]:
    """The tasks of a dataset with completions and latest annotations, ordered by task id."""
    items = tables.dataset_items
    asked = select(items.c.task_id).where(items.c.dataset == dataset)
    condition = tables.task_completions.c.task_id.in_(asked)
    shown = _shown(tx.connection.execute(_SHOWN.where(condition)))
    answers = annotations.latest_by_dataset(tx, dataset, kinds)
    rulings = annotations.rulings_by_dataset(tx, dataset) if "adjudication" in kinds else {}
    tasks = tables.tasks
    query = (
        select(tasks)
        .join(items, items.c.task_id == tasks.c.id)
        .where(items.c.dataset == dataset)
        .order_by(tasks.c.id)
    )
    return [
        AnsweredTask(
            task=_from_row(row, shown[row.id]),
            completions=shown[row.id],
            annotations=tuple(answers.get(row.id, ())),
            ruling=rulings.get(row.id),
        )
        for row in tx.connection.execute(query)
    ]


def get(tx: Transaction, ids: Sequence[str]) -> dict[str, AnsweredTask]:
    """A few tasks by id, without answers; raises ``MissingError`` for an unknown one."""
    rows = tx.connection.execute(_SHOWN_OF, {"ids": list(ids)}).all()
    shown, asked = _shown(rows), {row.task_id: row for row in rows}
    found = {
        task: AnsweredTask(
            task=_from_row(asked[task], completions), completions=completions, annotations=()
        )
        for task, completions in shown.items()
    }
    missing = [one for one in ids if one not in found]
    if missing:
        raise MissingError(f"task {missing[0]!r} is not in the store; add it first")
    return found


def _shown(rows: Iterable[Any]) -> dict[str, dict[str, Completion]]:
    shown: dict[str, dict[str, Completion]] = {}
    prompts: dict[str, Prompt] = {}
    for row in rows:
        shown.setdefault(row.task_id, {})[row.id] = completions.from_row(row, prompts)
    return shown


def _check(task: Task) -> None:
    low, high = FORMS[task.form].num_completions
    seen = len(set(task.completion_ids))
    if seen != len(task.completion_ids) or not low <= seen <= high:
        wanted = str(low) if low == high else f"{low} to {high}"
        raise DataError(
            f"task {task.id} shows {len(task.completion_ids)} completions, {seen} of them "
            f"different; {task.form} takes {wanted} different ones"
        )


def _to_row(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "form": task.form,
        "prompt_id": task.prompt.id,
        "guideline": task.guideline,
        "slots": task.slots,
        "priority": task.priority,
        "reason": task.reason,
    }


def _from_row(row: Any, shown: Mapping[str, Completion]) -> Task:
    return Task(
        form=row.form,
        prompt=next(iter(shown.values())).prompt,
        completion_ids=tuple(shown),
        guideline=row.guideline,
        slots=row.slots,
        priority=row.priority,
        reason=row.reason,
    )
