"""Projects: how people are asked about the tasks of a dataset, and the versions of guidelines."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from sqlalchemy import bindparam, func, select, update

from heedful.errors import DataError, MissingError
from heedful.forms import FORMS
from heedful.forms.rating import check_criteria
from heedful.registry import nearest
from heedful.store import about, datasets, picking, tables, tallies, tasks
from heedful.store.database import Transaction
from heedful.store.page import chunks
from heedful.types import Project, Task

NAME = "^[a-z0-9][a-z0-9_.-]{0,79}$"  # of a project: it stands in addresses
RESERVED = ("new",)  # has a page of its own
MAX_OVERLAP = 50
MAX_TITLE, MAX_WARNING = 200, 1000  # characters
MIN_LEASE_SECONDS = 30
MAX_GOLD_SHARE = 0.3
MAX_REPEAT_SHARE = 0.2
MIN_RANDOM_SHARE = 0.01  # so that every task can be drawn, and estimates can be weighted
MAX_QUALIFY = 100  # entry questions
MIN_QUALIFY_AT = 0.5  # of two answers, half is what a coin hits
Strategy = Literal["random", "disagreement", "bald", "margin", "d_optimal", "by_slice"]
STRATEGIES = get_args(Strategy)
SETTINGS = (
    *("warning", "criteria", "attributes", "masked"),
    *("gold_share", "repeat_share", "strategy", "random_share", "qualify_with", "qualify_at"),
)

# Made once, because the queue needs them for every answer.
_PROJECT = select(tables.projects).where(tables.projects.c.dataset == bindparam("name"))
_GUIDELINES = select(tables.guidelines).where(tables.guidelines.c.project == bindparam("of"))
_GUIDELINE = _GUIDELINES.where(tables.guidelines.c.version == bindparam("number"))
_NEWEST_GUIDELINE = _GUIDELINES.order_by(tables.guidelines.c.version.desc()).limit(1)
NEWEST_VERSION = select(func.max(tables.guidelines.c.version)).where(
    tables.guidelines.c.project == bindparam("of")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guideline:
    """One version of a project's guidelines, in Markdown. Version 0 is the empty one."""

    version: int
    text: str
    author: str


def add(tx: Transaction, project: Project) -> int:
    """Make a project and its dataset; 1 when it was new.

    Raises ``DataError`` for a setting out of range, or when a project of that name differs.
    """
    check_name(project.dataset)
    check(project)
    datasets.add_tasks(tx, project.dataset, ())
    num_new = tx.insert_new(tables.projects, [_to_row(project)])
    if not num_new and get(tx, project.dataset) != project:
        raise DataError(f"project {project.dataset!r} is there already; choose another name")
    tallies.add_queue(tx, project.dataset)
    return num_new


def change(tx: Transaction, project: Project) -> None:
    """Save new settings; overlap holds for tasks that are added from now on.

    Raises ``DataError`` when the form would change: answers of another form are in the project.
    """
    check(project)
    before = get(tx, project.dataset)
    if before.form != project.form:
        raise DataError(
            f"project {project.dataset!r} asks {before.form!r}; a form cannot change: make a new "
            "project"
        )
    row = _to_row(project)
    statement = update(tables.projects).where(tables.projects.c.dataset == row.pop("dataset"))
    tx.connection.execute(statement.values(**row))


def check_name(name: str) -> None:
    """Refuse a project's name that would not do in an address; raises ``DataError``."""
    if name in RESERVED:
        raise DataError(f"a project cannot be called {name!r}: that is a page; choose another name")
    if not re.fullmatch(NAME.removesuffix("$"), name):
        raise DataError(
            f"project name {name!r:.90} does not do in an address; use 1 to 80 small letters, "
            "digits, dots, hyphens and underscores, beginning with a letter or a digit"
        )


def check(project: Project) -> None:
    """Refuse settings out of range; raises ``DataError``."""
    FORMS[project.form]
    if not project.title.strip():
        raise DataError("a project's title is empty; name it")
    for what, text, most in (
        ("title", project.title, MAX_TITLE), ("warning", project.warning, MAX_WARNING)
    ):  # fmt: skip
        if len(text) > most:
            raise DataError(f"{what} has {len(text):,} characters; {most} are the most")
    if not 1 <= project.overlap <= MAX_OVERLAP:
        raise DataError(f"overlap is {project.overlap}; give 1 to {MAX_OVERLAP} answers per task")
    if project.criteria:
        check_criteria(project.criteria)
    about.questions(project.attributes)
    if project.lease_seconds < MIN_LEASE_SECONDS:
        raise DataError(
            f"lease_seconds is {project.lease_seconds}; give people at least {MIN_LEASE_SECONDS}"
        )
    _check_share("gold_share", project.gold_share, MAX_GOLD_SHARE)
    _check_share("repeat_share", project.repeat_share, MAX_REPEAT_SHARE)
    _check_share("random_share", project.random_share, 1, least=MIN_RANDOM_SHARE)
    if project.strategy not in STRATEGIES:
        raise DataError(
            f"strategy is {project.strategy!r:.60}; choose from {', '.join(STRATEGIES)}"
        )
    _check_entry(project)


def _check_entry(project: Project) -> None:
    if not 0 <= project.qualify_with <= MAX_QUALIFY:
        raise DataError(
            f"qualify_with is {project.qualify_with}; ask 0 (none) to {MAX_QUALIFY} known answers"
        )
    _check_share("qualify_at", project.qualify_at, 1, least=MIN_QUALIFY_AT)
    if project.qualify_with and not FORMS[project.form].is_comparable:
        raise DataError(
            f"qualify_with is {project.qualify_with}, but {project.form} answers cannot be "
            "compared, so none can be known to be right; set it to 0"
        )


def _check_share(name: str, share: float, most: float, *, least: float = 0.0) -> None:
    if not least <= share <= most:
        raise DataError(f"{name} is {share}; choose from {least:g} to {most:g}")


def get(tx: Transaction, dataset: str) -> Project:
    """A project by its dataset's name; raises ``MissingError`` with the nearest name."""
    found = find(tx, dataset)
    if found is None:
        known = [one.dataset for one in list_all(tx)]
        hint = nearest(dataset, known) if known else "there is none yet; make one"
        raise MissingError(f"project {dataset!r} is not in the store; {hint}")
    return found


def find(tx: Transaction, dataset: str) -> Project | None:
    """A project by its dataset's name; None when the dataset is none of a project."""
    row = tx.connection.execute(_PROJECT, {"name": dataset}).one_or_none()
    return None if row is None else from_row(row)


def list_all(tx: Transaction) -> list[Project]:
    """Every project, oldest first."""
    columns = tables.projects.c
    query = select(tables.projects).order_by(columns.created_at, columns.dataset)
    return [from_row(row) for row in tx.connection.execute(query)]


def add_tasks(tx: Transaction, dataset: str, new: Sequence[Task]) -> int:
    """Queue tasks in a project, each with as many slots as the project wants; how many were new."""
    project = get(tx, dataset)
    for task in new:
        if task.form != project.form:
            raise DataError(f"task {task.id} asks {task.form!r}; {dataset!r} asks {project.form!r}")
    tasks.add(tx, [replace(task, slots=project.overlap) for task in new])
    num_new = datasets.add_tasks(tx, dataset, (task.id for task in new))
    queue_tasks(tx, project, new)
    return num_new


def queue_tasks(
    tx: Transaction, project: Project, new: Sequence[Task], *, closed: Collection[str] = ()
) -> int:
    """Queue stored tasks of the project's dataset; how many people are asked from now on.

    Those whose ids are ``closed`` get no slots and do not count: their answer is known.
    """
    if not new:
        return 0
    tallies.next_turn(tx, project.dataset)
    unique = {task.id: task for task in new}
    queued = _queued(tx, project.dataset, list(unique))
    fresh = [task for task in unique.values() if task.id not in queued]
    opened = [task for task in fresh if task.id not in closed]
    _queue(tx, project, opened)
    rows = [_item(project, task) for task in fresh if task.id in closed]
    tx.insert_new(tables.queue_items, rows)
    return len(opened)


def _item(project: Project, task: Task) -> dict[str, Any]:
    row = {"project": project.dataset, "task_id": task.id, "urgency": -task.priority}
    return row | {"place": None, "is_disputed": False}


def _queued(tx: Transaction, dataset: str, task_ids: Sequence[str]) -> set[str]:
    """Those of the tasks that are in the queue already."""
    items = tables.queue_items.c
    return {
        found
        for chunk in chunks(task_ids)
        for found in tx.connection.scalars(
            select(items.task_id).where(items.project == dataset, items.task_id.in_(chunk))
        )
    }


def _queue(tx: Transaction, project: Project, new: Sequence[Task]) -> None:
    """Open slots for tasks that are not in the queue, which is locked."""
    if not new:
        return
    places = {
        urgency: picking.last_place(tx, project.dataset, urgency)
        for urgency in {-task.priority for task in new}
    }
    items, slots = [], []
    for task in new:
        places[-task.priority] += 1
        items.append(_item(project, task) | {"place": places[-task.priority]})
        row = {"project": project.dataset, "task_id": task.id, "urgency": -task.priority}
        slots += [row | {"number": number, "state": "open"} for number in range(project.overlap)]
    tx.connection.execute(tables.queue_items.insert(), items)
    tx.connection.execute(tables.slots.insert(), slots)
    tallies.change_queue(tx, project.dataset, num_open=len(slots))


def write_guideline(tx: Transaction, dataset: str, text: str, *, author: str) -> int:
    """A new version of the guidelines; returns its number. Unchanged text makes no version."""
    get(tx, dataset)
    _lock(tx, dataset)  # of two who write at once, the second makes the next version
    newest = guideline(tx, dataset)
    if newest.text == text:
        return newest.version
    row = {"project": dataset, "version": newest.version + 1, "text": text, "author": author}
    tx.insert_new(tables.guidelines, [row])
    return newest.version + 1


def _lock(tx: Transaction, dataset: str) -> None:
    """Until the end nobody else changes the project or its guidelines."""
    name = tables.projects.c.dataset
    tx.connection.execute(select(name).where(name == dataset).with_for_update(key_share=True))


def guideline(tx: Transaction, dataset: str, version: int | None = None) -> Guideline:
    """A version of the guidelines, by default the newest."""
    parameters = {"of": dataset} | ({} if version is None else {"number": version})
    statement = _NEWEST_GUIDELINE if version is None else _GUIDELINE
    row: Any = tx.connection.execute(statement, parameters).one_or_none()
    if row is None:
        if version:
            raise MissingError(f"project {dataset!r} has no guidelines of version {version}")
        return Guideline(version=0, text="", author="")
    return Guideline(version=row.version, text=row.text, author=row.author)


def _to_row(project: Project) -> dict[str, Any]:
    return {
        "dataset": project.dataset,
        "title": project.title,
        "form": project.form,
        "overlap": project.overlap,
        "lease_seconds": project.lease_seconds,
        "is_paused": project.is_paused,
        "settings": {name: getattr(project, name) for name in SETTINGS},
    }


def from_row(row: Any) -> Project:
    """The project of a row."""
    settings: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in row.settings.items()
    }
    return Project(
        dataset=row.dataset,
        title=row.title,
        form=row.form,
        overlap=row.overlap,
        lease_seconds=row.lease_seconds,
        is_paused=row.is_paused,
        **settings,
    )
