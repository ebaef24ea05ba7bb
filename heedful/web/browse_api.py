"""The data browser, export and import in the JSON API."""

import tempfile
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from heedful.data.formats import FORMATS, Tally
from heedful.data.formats.plain_json import write
from heedful.errors import DataError
from heedful.exchange import exporting
from heedful.store import browse, datasets
from heedful.store.browse import Filters
from heedful.store.tracing import chain
from heedful.types import Item
from heedful.web.access import allows, store_of
from heedful.web.api import Name
from heedful.web.browse import MODELS_END, filters_of, get_item
from heedful.web.exchange import MAX_UPLOAD, imported, streamed

router = APIRouter(prefix="/api/data")
FormatName = Annotated[str, Query(max_length=40, description=", ".join(FORMATS))]


@router.get("")
@allows("view")
def list_data_sets(request: Request) -> list[dict[str, Any]]:
    """All data sets with the number of their items."""
    store = store_of(request)
    with store.read() as tx:
        counted = datasets.count_items(tx)
    return [{"dataset": name, "items": num} for name, num in counted.items()]


@router.get("/{dataset}/items")
@allows("view")
def list_items(
    request: Request,
    dataset: Name,
    filters: Annotated[Filters, Depends(filters_of)],
    after: Annotated[str, Query(max_length=100)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = browse.PAGE,
) -> dict[str, Any]:
    """A page of items, by id, of those that pass all filters.

    ``after`` of the answer starts the next page; a page is ``partial`` when time ran out before it
    was full. ``since`` and ``until`` are days of an answer, both included.
    """
    store = store_of(request)
    with store.read() as tx:
        found = browse.page(tx, dataset, filters, after=after, limit=limit)
    return {
        "items": [item_json(one) for one in found.items],
        "after": found.after,
        "partial": found.is_partial,
        "seen": found.num_seen,
    }


@router.get("/{dataset}/items/{item}")
@allows("view")
def get_data_item(request: Request, dataset: Name, item: Name) -> dict[str, Any]:
    """One item with every revision of every answer, and its trace as text."""
    store = store_of(request)
    with store.read() as tx:
        found = get_item(tx, dataset, item)
        traced = chain(tx, item, ends=MODELS_END).render()
        skipped = [
            {"annotator": one.annotator, "reason": one.skip_reason}
            for one in browse.skips(tx, dataset, item)
        ]
    return item_json(found) | {"skips": skipped, "trace": traced}


@router.get("/{dataset}/export")
@allows("view")
def export(
    request: Request, dataset: Name, format: FormatName = "json", zip: bool = False
) -> Response:
    """The data set as a file in a format."""
    return streamed(request, dataset, format, zip=zip)


@router.get("/{dataset}/export/counts")
@allows("view")
def export_counts(request: Request, dataset: Name, format: FormatName = "json") -> dict[str, Any]:
    """What the export in a format would write, leave out and change; reads the whole data set."""
    store = store_of(request)
    with store.read() as tx:
        tally = exporting.count(tx, dataset, format)
    return tally_json(tally)


@router.post("/{dataset}/import", status_code=201)
@allows("manage")
async def import_file(request: Request, dataset: Name, format: FormatName) -> dict[str, Any]:
    """Import the body, a file in a format; importing it again adds nothing.

    In a project's data set, tasks without an answer are queued; ``known`` in a row of json, parquet
    or csv is its known answer.
    """
    with tempfile.TemporaryFile() as body:
        size = 0
        async for piece in request.stream():
            size += len(piece)
            if size > MAX_UPLOAD:
                raise DataError(f"the file has more than {MAX_UPLOAD} bytes; use heedful import")
            body.write(piece)
        body.seek(0)
        result = await run_in_threadpool(imported, request, body, "body", format, dataset)
    return result.summary()


def item_json(item: Item) -> dict[str, Any]:
    """An item as the plain JSON file has it, with its id."""
    (row,) = write(item, Tally())
    return {"id": item.id, **row}


def tally_json(tally: Tally) -> dict[str, Any]:
    """The counts of an export."""
    return {
        "rows": tally.num_rows,
        "left_out": dict(sorted(tally.left_out.items())),
        "changed": dict(sorted(tally.changed.items())),
    }
