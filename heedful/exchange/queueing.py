"""What an import into a project's data set does beside storing: people are asked.

Tasks that come without an answer are queued like those of ``heedful ask``. A row may state the
answer that is right beyond doubt, ``known``: its task becomes a known answer of the project.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from heedful.data.formats import Drop, Judged, Parsed, Record, RowDropped
from heedful.errors import DataError
from heedful.exchange.items import as_written
from heedful.forms import FORMS
from heedful.store import Transaction, extras, projects
from heedful.types import JSON, Item, Project

Payload = Mapping[str, JSON]
_CONTRADICTS = (
    "contradicts_known_answer",
    "another answer to its task is known already and stays; an owner may change it",
)


@dataclass(frozen=True, slots=True)
class Read:
    """A row and the item that it becomes, with the answer that is known to be right."""

    parsed: Parsed
    item: Item
    known: Payload | None = None

    def drop(self, rule: str, detail: str) -> Drop:
        """The row, or something in it, as left out."""
        return Drop(rule=rule, file=self.parsed.file, line=self.parsed.line, detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Tasks that are new to the queue, known answers that are new, and those left out."""

    num_queued: int
    num_known: int
    drops: tuple[Drop, ...]


def known_answer(record: Record, item: Item) -> Payload | None:
    """The answer that a row states as known, about the item's completions.

    Raises ``RowDropped`` for one that the form refuses or cannot compare.
    """
    if not isinstance(record, Judged) or record.known is None:
        return None
    assert item.task is not None
    names = dict(zip(record.candidates, item.task.completion_ids, strict=True))
    payload = FORMS[item.task.form].renamed(record.known, names)
    try:
        extras.check_gold(item.task, item.completions, payload)
    except DataError as error:
        raise RowDropped("invalid_known", as_written(str(error), names)) from error
    return payload


def as_asked(item: Item, known: Payload | None, project: Project | None) -> Item:
    """The item with as many slots as the project wants, where its task is for people to answer."""
    if project is None or not _is_asked(item, known):
        return item
    assert item.task is not None
    return replace(item, task=replace(item.task, slots=project.overlap))


def ask(
    tx: Transaction, dataset: str, project: Project | None, reads: Sequence[Read], *, who: str
) -> Asked:
    """Queue the stored tasks of rows that nobody answered, and keep what is known about them.

    Known answers that have no place are left out and counted by rule.
    """
    known: dict[str, Payload] = {}
    places: dict[str, Read] = {}
    drops = []
    for one in reads:
        if one.known is None:
            continue
        assert one.item.task is not None
        task, agrees = one.item.task, FORMS[one.item.task.form].agrees
        why = None if project else _no_project(dataset)
        if why is None and not agrees(known.setdefault(task.id, one.known), one.known):
            why = _CONTRADICTS
        if why is not None:
            drops.append(one.drop(*why))
        places.setdefault(task.id, one)
    if project is None:
        return Asked(num_queued=0, num_known=0, drops=tuple(drops))
    items = [one.item.task for one in reads if _is_asked(one.item, one.known)]
    asked = [task for task in items if task is not None]
    num_queued = projects.queue_tasks(tx, project, asked, closed=known)
    added = extras.add_golds(tx, project, known, who=who)
    drops += [places[one].drop(*_CONTRADICTS) for one in added.contradicted]
    return Asked(num_queued=num_queued, num_known=added.num_new, drops=tuple(drops))


def _no_project(dataset: str) -> tuple[str, str]:
    """Rule and detail of a known answer in a data set that asks nobody."""
    detail = f"{dataset!r} is no project; make it, then import the file again"
    return "known_without_project", detail


def _is_asked(item: Item, known: Payload | None) -> bool:
    return item.task is not None and (known is not None or not item.annotations)
