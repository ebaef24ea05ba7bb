"""Looking through a dataset, page by page, however large it is.

Pages follow the order of ids; a page starts after the last id of the one before, so its cost does
not depend on its number. A filter that few items pass is looked for in windows and for a limited
time: then the page says that it is partial, and the next one goes on from there. Windows grow as
the disk allows: what is not in memory yet takes a hundred times as long.
"""

import json
import math
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from itertools import combinations
from typing import Any, Literal, get_args

from sqlalchemy import Column, ColumnElement, Select, String, and_, cast, exists, func, or_, select

from heedful.errors import DataError, MissingError
from heedful.forms import FORMS
from heedful.store import datasets, items, models, people, tables
from heedful.store.database import Transaction
from heedful.types import Item

State = Literal["answered", "unanswered", "skipped"]
STATES: tuple[State, ...] = get_args(State)
PAGE = 50
FIRST_WINDOW, WINDOW = 32, 2000  # items looked at in one statement, at first and at most
BUDGET = 0.12  # seconds after which a page is partial
MAX_NAMES = 100  # suggestions of a filter
_CHUNK = 100  # items read whole at once
_FOLDED_TO = frozenset("afhijklnstwy")  # ASCII that other letters become without case: ß, ﬁ, K

ITEMS, TASKS, ANSWERS = tables.dataset_items.c, tables.tasks.c, tables.annotations.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a page shows; empty values ask for nothing.

    ``annotator`` is a person's name or an annotator; ``author`` the name or id of a model, or an
    ``import:NAME``; ``since`` and ``until`` are days (UTC) of an answer, both included.
    """

    form: str = ""
    state: State | Literal[""] = ""
    annotator: str = ""
    source: str = ""
    author: str = ""
    text: str = ""
    comment: bool = False
    disagreement: bool = False
    since: date | None = None
    until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Items in the order of ids. ``after`` starts the next page, None at the end.

    ``is_partial``: time ran out before the page was full; at least ``num_seen`` were looked at.
    """

    items: tuple[Item, ...]
    after: str | None
    is_partial: bool
    num_seen: int


def page(
    tx: Transaction,
    dataset: str,
    filters: Filters,
    *,
    after: str = "",
    limit: int = PAGE,
    clock: Callable[[], float] = time.monotonic,
) -> Page:
    """The items of a dataset that pass the filters, from after an id.

    Raises ``MissingError`` for an unknown dataset, ``DataError`` for a filter out of range.
    """
    datasets.require(tx, dataset)
    wanted = _resolved(tx, filters)
    found: list[Item] = []
    last, num_seen, started = after, 0, clock()
    deadline = started + BUDGET
    size = limit + 1 if wanted == Filters() else min(FIRST_WINDOW, WINDOW)
    while True:
        window = _window(dataset, wanted, last, size)
        end, num = tx.connection.execute(_extent(window)).one()
        if end is None:
            return Page(items=tuple(found), after=None, is_partial=False, num_seen=num_seen)
        ids = list(tx.connection.scalars(_passing(window, dataset, wanted)))
        for start in range(0, len(ids), _CHUNK):
            for item in items.get(tx, ids[start : start + _CHUNK]):
                if not _fits(item, wanted):
                    continue
                if len(found) == limit:
                    more = found[-1].id
                    return Page(items=tuple(found), after=more, is_partial=False, num_seen=num_seen)
                found.append(item)
            done = start + _CHUNK
            if done < len(ids) and clock() > deadline:
                last, num_seen = ids[done - 1], num_seen + done
                return Page(items=tuple(found), after=last, is_partial=True, num_seen=num_seen)
        last, num_seen = end, num_seen + num
        spent = clock() - started
        if spent > BUDGET:
            return Page(items=tuple(found), after=last, is_partial=True, num_seen=num_seen)
        size = _next_size(size, num_seen, spent)


def annotator_names(tx: Transaction) -> list[str]:
    """Who answered, by the index alone; at most ``MAX_NAMES``."""
    return _distinct(tx, ANSWERS.annotator)


def author_names(tx: Transaction) -> list[str]:
    """Who wrote what is judged: names of models, and origins; at most ``MAX_NAMES`` of each."""
    named = [one.name for one in models.list_all(tx)][:MAX_NAMES]
    return [*dict.fromkeys(named), *_distinct(tx, tables.completions.c.origin)]


def skips(tx: Transaction, dataset: str, task_id: str) -> list[Any]:
    """Who gave a task back in the project of that name, why and when, oldest first."""
    given = tables.assignments.c
    query = (
        select(given.annotator, given.skip_reason, given.changed_at)
        .where(given.project == dataset, given.task_id == task_id, given.state == "skipped")
        .order_by(given.changed_at, given.annotator)
    )
    return list(tx.connection.execute(query))


def surplus(tx: Transaction, annotation_ids: Iterable[str]) -> set[str]:
    """Which of these answers came when the task had enough of them."""
    sent = tables.submissions.c
    query = select(sent.annotation_id).where(
        sent.annotation_id.in_(list(annotation_ids)), sent.is_surplus
    )
    return set(tx.connection.scalars(query))


def disagrees(item: Item) -> bool:
    """Whether two people's newest answers do not agree, as the form sees it; False once settled."""
    if item.task is None:
        return False
    form, said = FORMS[item.task.form], [one.payload for one in item.newest]
    return any(form.agrees(one, other) is False for one, other in combinations(said, 2))


def _resolved(tx: Transaction, filters: Filters) -> Filters:
    """The filters with ids in the place of names."""
    if filters.form:
        FORMS[filters.form]
    if filters.state and filters.state not in STATES:
        raise DataError(f"state is {filters.state!r:.40}; choose from {', '.join(STATES)}")
    values = {name: getattr(filters, name) for name in Filters.__dataclass_fields__}
    values["text"] = filters.text.strip()
    if filters.annotator:
        person = people.find(tx, filters.annotator)
        values["annotator"] = person[0].id if person else filters.annotator.strip()
    if filters.author:
        try:
            values["author"] = models.get(tx, filters.author.strip()).id
        except MissingError:
            values["author"] = filters.author.strip()
    return Filters(**values)


def _next_size(size: int, num_seen: int, spent: float) -> int:
    """Items of the next window: up to four times as many, if the time left is enough for them."""
    affordable = num_seen * (BUDGET / spent - 1) if spent else math.inf
    return int(min(WINDOW, 4 * size, max(affordable, FIRST_WINDOW)))


def _window(dataset: str, filters: Filters, after: str, size: int) -> Any:
    """The next items to look at; of one annotator's answers where that is asked for."""
    if filters.annotator:
        query = (
            select(ANSWERS.task_id.label("item_id"))
            .where(ANSWERS.annotator == filters.annotator, ANSWERS.task_id > after)
            .distinct()
            .order_by(ANSWERS.task_id)
            .limit(size)
        ).subquery()
        inside = and_(ITEMS.dataset == dataset, ITEMS.item_id == query.c.item_id)
        return select(query.c.item_id, exists().where(inside).label("inside")).subquery()
    return (
        select(ITEMS.item_id, (ITEMS.dataset == dataset).label("inside"))
        .where(ITEMS.dataset == dataset, ITEMS.item_id > after)
        .order_by(ITEMS.item_id)
        .limit(size)
    ).subquery()


def _extent(window: Any) -> Select[Any]:
    return select(func.max(window.c.item_id), func.count(window.c.item_id))


def _passing(window: Any, dataset: str, filters: Filters) -> Select[Any]:
    """The ids of a window that pass what the database can check."""
    query = (
        select(window.c.item_id)
        .outerjoin(tables.tasks, TASKS.id == window.c.item_id)
        .where(window.c.inside)
        .order_by(window.c.item_id)
    )
    if filters.text:
        prompts = tables.prompts.c
        asked = func.coalesce(TASKS.prompt_id, window.c.item_id)
        query = query.join(tables.prompts, prompts.id == asked)
        query = query.where(_may_hold(cast(prompts.messages, String), filters.text))
    for condition in _conditions(window.c.item_id, dataset, filters):
        query = query.where(condition)
    return query


def _may_hold(messages: ColumnElement[str], text: str) -> ColumnElement[bool]:
    r"""Whether the JSON of messages may hold a text in any case; ``_fits`` knows.

    JSON spells what is not ASCII as escapes. A database compares ASCII in any case and nothing
    else, so messages with an escape pass by those letters of the text that only ASCII spells.
    """
    folded = text.casefold()
    pieces = ["%" if one in _FOLDED_TO or not one.isascii() else _literal(one) for one in folded]
    other = and_(
        messages.contains("\\u", autoescape=True),
        messages.ilike(f"%{''.join(pieces)}%", escape="/"),
    )
    return or_(messages.icontains(json.dumps(folded)[1:-1], autoescape=True), other)


def _literal(character: str) -> str:
    """A character in JSON, for LIKE."""
    return re.sub("[%_/]", r"/\g<0>", json.dumps(character)[1:-1])


def _conditions(
    item_id: Column[Any], dataset: str, filters: Filters
) -> Iterable[ColumnElement[bool]]:
    mine = ANSWERS.task_id == item_id
    if filters.form:
        yield TASKS.form == filters.form
    if filters.state == "answered":
        yield exists().where(mine)
    if filters.state == "unanswered":
        yield ~exists().where(mine)
        yield TASKS.id.is_not(None)
    if filters.state == "skipped":
        given = tables.assignments.c
        yield exists().where(
            given.project == dataset, given.task_id == item_id, given.state == "skipped"
        )
    about = list(_about_answers(filters))
    if about:
        yield exists().where(mine, *about)
    if filters.author:
        shown, written = tables.task_completions.c, tables.completions.c
        yield exists().where(
            shown.task_id == item_id,
            shown.completion_id == written.id,
            or_(written.model_id == filters.author, written.origin == filters.author),
        )
    if filters.disagreement:
        num = select(func.count(ANSWERS.annotator.distinct())).where(mine).scalar_subquery()
        yield num > 1


def _about_answers(filters: Filters) -> Iterable[ColumnElement[bool]]:
    """What one answer has to be, all at once."""
    if filters.annotator:
        yield ANSWERS.annotator == filters.annotator
    if filters.source:
        yield ANSWERS.source == filters.source
    if filters.comment:
        yield ANSWERS.payload["comment"].as_string().is_not(None)
    if filters.since:
        yield ANSWERS.created_at >= _midnight(filters.since)
    if filters.until:
        yield ANSWERS.created_at < _midnight(filters.until + timedelta(days=1))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, clock_time.min, tzinfo=UTC)


def _fits(item: Item, filters: Filters) -> bool:
    """What the database cannot check: words in texts rather than in JSON, and what answers say."""
    if filters.text:
        needle = filters.text.casefold()
        if not any(needle in one.content.casefold() for one in item.prompt.messages):
            return False
    return not filters.disagreement or disagrees(item)


def _distinct(tx: Transaction, column: Column[Any]) -> list[str]:
    """Different values of an indexed column, each found by one step in the index."""
    found: list[str] = []
    while len(found) < MAX_NAMES:
        query = select(func.min(column))
        if found:
            query = query.where(column > found[-1])
        value: str | None = tx.connection.scalar(query)
        if value is None:
            break
        found.append(value)
    return found
