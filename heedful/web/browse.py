"""The data browser: data sets, their items with filters, and one item with its whole history.

It shows who wrote what and what everybody answered, so annotators never reach it.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request, Response

from heedful.errors import DataError, MissingError
from heedful.forms import FORMS
from heedful.store import Transaction, browse, datasets, items, lineage, people, projects
from heedful.store.browse import Filters
from heedful.store.tracing import chain
from heedful.types import Annotation, Item
from heedful.web import render
from heedful.web.access import allows, store_of
from heedful.web.pages import page
from heedful.web.spoken import SPOKEN, letters

router = APIRouter()
SOURCES = ("human", "model", "rule", "simulated")
MODELS_END = frozenset({"mdl"})  # what a model learned from may be a million answers
MAX_SAID = 6  # answers of a line of the table


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table. Made here, shown by ``data_set.html``."""

    id: str
    text: str
    form: str
    said: tuple[tuple[str, int], ...]
    num_people: int
    has_comment: bool
    disagrees: bool
    time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One revision of an answer. Made here, shown by ``data_item.html``."""

    annotation: Annotation
    name: str
    said: str
    shown: str
    time: datetime
    is_newest: bool
    is_surplus: bool


def filters_of(
    form: str = "",
    state: str = "",
    annotator: Annotated[str, Query(max_length=200)] = "",
    source: str = "",
    author: Annotated[str, Query(max_length=200)] = "",
    text: Annotated[str, Query(max_length=200)] = "",
    comment: bool = False,
    disagreement: bool = False,
    since: str = "",
    until: str = "",
) -> Filters:
    """The filters of an address; raises ``DataError`` for a value out of range."""
    if source and source not in SOURCES:
        raise DataError(f"source is {source!r:.40}; choose from {', '.join(SOURCES)}")
    return Filters(
        form=form,
        state=state,  # type: ignore[arg-type]  # checked by the store
        annotator=annotator,
        source=source,
        author=author,
        text=text,
        comment=comment,
        disagreement=disagreement,
        since=day("since", since),
        until=day("until", until),
    )


def day(name: str, text: str) -> date | None:
    """A day in ISO 8601, or None for an empty text."""
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise DataError(f"{name} is {text!r:.40}; write a day such as 2026-01-31") from error


@router.get("/data", include_in_schema=False)
@allows("view")
def data_sets(request: Request) -> Response:
    """All data sets, with their projects."""
    store = store_of(request)
    with store.read() as tx:
        known = {one.dataset: one for one in projects.list_all(tx)}
        rows = [(name, num, known.get(name)) for name, num in datasets.count_items(tx).items()]
    return page(request, "data.html", rows=rows)


@router.get("/data/{dataset}", include_in_schema=False)
@allows("view")
def data_set(
    request: Request, dataset: str, after: Annotated[str, Query(max_length=100)] = ""
) -> Response:
    """A page of a data set's items; the filters are those of ``filters_of``."""
    store = store_of(request)
    filters = filters_of(**known_filters(request))
    with store.read() as tx:
        found = browse.page(tx, dataset, filters, after=after)
        names = people_by_id(tx)
        annotators = [names.get(one, one) for one in browse.annotator_names(tx)]
        authors = browse.author_names(tx)
    asked_for = {key: value for key, value in request.query_params.items() if value}
    asked_for.pop("after", None)
    next_page = urlencode(asked_for | {"after": found.after}) if found.after is not None else None
    return page(
        request,
        "data_set.html",
        dataset=dataset,
        address=quote(dataset, safe=""),
        filters=filters,
        is_filtered=filters != Filters(),
        found=found,
        lines=[line(item) for item in found.items],
        next_page=next_page,
        first_page=urlencode(asked_for),
        is_first=not after,
        forms=list(FORMS),
        states=browse.STATES,
        sources=SOURCES,
        annotators=annotators,
        authors=authors,
    )


def known_filters(request: Request) -> dict[str, Any]:
    """The filters that an address states; empty fields and ``after`` ask for nothing."""
    asked: dict[str, Any] = {
        key: value
        for key, value in request.query_params.items()
        if value and key in Filters.__dataclass_fields__
    }
    for key in ("comment", "disagreement"):
        if key in asked:
            asked[key] = asked[key] in ("1", "true", "on")
    for key in ("annotator", "author", "text"):
        if len(asked.get(key, "")) > 200:
            raise DataError(f"{key} has {len(asked[key])} characters; give at most 200")
    return asked


@router.get("/data/{dataset}/items/{item}", include_in_schema=False)
@allows("view")
def data_item(request: Request, dataset: str, item: str) -> Response:
    """One item: what it asks, who wrote its answers, who said what and when, its trace."""
    store = store_of(request)
    with store.read() as tx:
        found = get_item(tx, dataset, item)
        names = people_by_id(tx)
        values: dict[str, Any] = {
            "prompt": render.conversation(found.prompt.messages),
            "candidates": candidates(tx, found),
            "answers": answers(tx, found, names),
            "skips": [
                (names.get(one.annotator, one.annotator), one.skip_reason, one.changed_at)
                for one in (browse.skips(tx, dataset, item) if found.task else ())
            ],
            "trace": chain(tx, item, ends=MODELS_END),
        }
    return page(
        request,
        "data_item.html",
        dataset=dataset,
        address=quote(dataset, safe=""),
        item=found,
        disagrees=browse.disagrees(found),
        **values,
    )


def get_item(tx: Transaction, dataset: str, item_id: str) -> Item:
    """An item of a data set; raises ``MissingError``."""
    datasets.require(tx, dataset)
    if dataset not in lineage.datasets_of(tx, item_id):
        raise MissingError(f"item {item_id!r:.60} is not in data set {dataset!r}; check the id")
    (found,) = items.get(tx, [item_id])
    return found


def people_by_id(tx: Transaction) -> dict[str, str]:
    """The name of every person, by id."""
    return {user.id: user.name for user in people.list_all(tx)}


def line(item: Item) -> Line:
    """An item in one line."""
    said: dict[str, int] = {}
    if item.task:
        names = letters(item.task.completion_ids)
        for one in item.newest:
            words = shortened(SPOKEN[item.task.form](one.payload, names), 60)
            said[words] = said.get(words, 0) + 1
    by_number = sorted(said.items(), key=lambda pair: (-pair[1], pair[0]))
    return Line(
        id=item.id,
        text=shortened(asked(item), 160),
        form=item.task.form if item.task else "prompt",
        said=tuple(by_number[:MAX_SAID]),
        num_people=len(item.newest),
        has_comment=any("comment" in one.payload for one in item.newest),
        disagrees=browse.disagrees(item),
        time=max(item.times.values(), default=None),
    )


def asked(item: Item) -> str:
    """What the user said last."""
    said = [one.content for one in item.prompt.messages if one.role == "user"]
    return said[-1] if said else ""


def shortened(text: str, most: int) -> str:
    """The start of a text, on one line."""
    plain = " ".join(text.split())
    return plain if len(plain) <= most else plain[: most - 1].rstrip() + "…"


def candidates(tx: Transaction, item: Item) -> list[dict[str, Any]]:
    """The answers that are judged, each with its letter and its true author."""
    if item.task is None:
        return []
    found = []
    for one, letter in letters(item.task.completion_ids).items():
        completion = item.completions[one]
        author = completion.model
        if author.startswith("mdl_"):
            names, _ = lineage.names_of(tx, author)
            author = f"{names[0]} ({author})" if names else author
        turns = render.conversation(completion.messages)
        found.append({"letter": letter, "id": one, "author": author, "turns": turns})
    return found


def answers(tx: Transaction, item: Item, names: dict[str, str]) -> list[Answered]:
    """Every revision of every answer, a person's newest first."""
    if item.task is None:
        return []
    by_letter = letters(item.task.completion_ids)
    surplus = browse.surplus(tx, (one.id for one in item.annotations))
    newest = {one.id for one in item.newest}
    listed = [
        Answered(
            annotation=one,
            name=names.get(one.annotator, one.annotator),
            said=SPOKEN[item.task.form](one.payload, by_letter),
            shown=" ".join(by_letter[shown] for shown in one.shown_order),
            time=item.times[one.id],
            is_newest=one.id in newest,
            is_surplus=one.id in surplus,
        )
        for one in item.annotations
    ]
    return sorted(listed, key=lambda one: (one.name, -one.annotation.revision))
