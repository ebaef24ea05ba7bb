"""Export and import of data sets on pages; the work is that of ``heedful.exchange``."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import SEEK_END
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from threading import BoundedSemaphore
from typing import IO, Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from fastapi.responses import StreamingResponse

from heedful.data.formats import FORMATS, Tally
from heedful.data.formats.base import Format
from heedful.data.formats.reading import check_unpacked
from heedful.errors import DataError, HeedfulError, ResourceError
from heedful.exchange import exporting
from heedful.exchange.importing import ImportResult, default_dataset, import_preferences
from heedful.store import Store, datasets, people
from heedful.web.access import allows, store_of, visitor_of
from heedful.web.pages import page

router = APIRouter()
MAX_UPLOAD = 50_000_000  # bytes; larger files go through the command line
MAX_UNPACKED = 1_000_000_000  # bytes of a gzipped file
MAX_NAME = 100  # characters of a file's name that are shown
NUM_COUNTED = 50  # items that the page counts before it offers a format
PIECE = 1 << 16  # bytes
NUM_EXPORTS, EXPORT_WAIT_SECONDS = 2, 20.0  # written at once, and how long another waits
NUM_LISTED = 50  # dropped rows that are listed


@router.get("/data/{dataset}/export", include_in_schema=False)
@allows("view")
def formats(request: Request, dataset: str, format: str = "json") -> Response:
    """The formats, and what one of them would leave out of the data set's first items."""
    store = store_of(request)
    with store.read() as tx:
        datasets.require(tx, dataset)
        num_items = datasets.count_items(tx)[dataset]
        tally = exporting.count(tx, dataset, format, limit=NUM_COUNTED)
    return page(
        request,
        "data_export.html",
        dataset=dataset,
        address=quote(dataset, safe=""),
        formats=FORMATS.values(),
        chosen=FORMATS[format],
        tally=tally,
        num_items=num_items,
        num_counted=min(NUM_COUNTED, num_items),
    )


@router.get("/data/{dataset}/download", include_in_schema=False)
@allows("view")
def download(request: Request, dataset: str, format: str = "json", zip: bool = False) -> Response:
    """The data set as a file; what was left out goes into the log."""
    return streamed(request, dataset, format, zip=zip)


def streamed(request: Request, dataset: str, format: str, *, zip: bool) -> StreamingResponse:
    """A file of a data set, in pieces. It is written whole first, so that whoever reads it slowly
    holds a file and no connection to the database.

    The log has what was in it before the first piece is sent.
    """
    store = store_of(request)
    kind, who = FORMATS[format], visitor_of(request).user.id
    suffix = f"{kind.suffix}.gz" if zip else kind.suffix
    exporting.is_zipped(Path(suffix), kind)
    with store.read() as tx:
        datasets.require(tx, dataset)
    with one_of_few(request):
        file, tally = spooled(store, dataset, kind, zip=zip)
    detail = {"format": format, "rows": tally.num_rows, "left out": tally.left_out.total()}
    with store.write() as tx:
        people.log(tx, who, "exported data", dataset, detail)
    name = quote(f"{dataset}{suffix}", safe="")
    return StreamingResponse(
        pieces(file),
        media_type="application/gzip" if zip else kind.media_type,
        headers={
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
            "Content-Length": str(file.seek(0, SEEK_END)),
        },
    )


@contextmanager
def one_of_few(request: Request) -> Iterator[None]:
    """A place among the exports that are written at once; raises ``ResourceError`` without one."""
    places: BoundedSemaphore = request.app.state.exports
    if not places.acquire(timeout=EXPORT_WAIT_SECONDS):
        raise ResourceError("other exports are being written; try again in a minute")
    try:
        yield
    finally:
        places.release()


def spooled(store: Store, dataset: str, kind: Format, *, zip: bool) -> tuple[IO[bytes], Tally]:
    """A data set in a temporary file that goes when it is closed, and what was left out."""
    tally = Tally()
    file: IO[bytes] = TemporaryFile(prefix="heedful-")  # noqa: SIM115 - sent later
    try:
        with store.read() as tx:
            plain = exporting.encoded(tx, dataset, kind, tally)
            file.writelines(exporting.zipped(plain) if zip else plain)
        file.flush()
    except BaseException as error:
        with suppress(OSError):  # what is left in the buffer has no room either
            file.close()
        if isinstance(error, OSError) and not isinstance(error, ResourceError):
            raise ResourceError(
                f"could not write the export of {dataset}: {error.strerror}; free space on the "
                "server, or use heedful export"
            ) from error
        raise
    return file, tally


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    """A file from its beginning, in pieces."""
    with file:
        file.seek(0)
        while piece := file.read(PIECE):
            yield piece


@router.get("/import", include_in_schema=False)
@allows("manage")
def choose(request: Request, dataset: Annotated[str, Query(max_length=200)] = "") -> Response:
    """The page on which a file is chosen."""
    return show(request, dataset=dataset)


@router.post("/import", include_in_schema=False)
@allows("manage")
def upload(
    request: Request,
    file: Annotated[UploadFile, File()],
    format: Annotated[str, Form()],
    dataset: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    """Import a file and show what became of its rows."""
    try:
        result = imported(request, file.file, file.filename or "", format, dataset.strip())
    except HeedfulError as error:
        return show(request, dataset=dataset, format=format, problem=str(error))
    return show(request, dataset=dataset, format=format, result=result)


def show(request: Request, **values: Any) -> Response:
    """The import page, with what happened."""
    problem = values.get("problem")
    return page(
        request,
        "data_import.html",
        formats=FORMATS.values(),
        num_listed=NUM_LISTED,
        megabytes=MAX_UPLOAD // 1_000_000,
        unpacked=MAX_UNPACKED // 1_000_000,
        status=422 if problem else 200,
        **values,
    )


def imported(
    request: Request, content: Any, filename: str, format: str, dataset: str
) -> ImportResult:
    """Import what ``content`` reads, as a file of that name; nothing is kept of it beside."""
    store = store_of(request)
    FORMATS[format]
    name = PurePosixPath(filename).name.replace("\0", "")[:MAX_NAME]
    who = visitor_of(request).user.id
    if not name:
        raise DataError("no file was chosen; choose one")
    with tempfile.TemporaryDirectory(prefix="heedful-") as folder:
        path = Path(folder) / "upload"  # whatever its name: only errors and data sets bear that
        with path.open("wb") as copy:
            shutil.copyfileobj(content, copy)
        try:
            check_unpacked(path, MAX_UNPACKED)
            result = import_preferences(
                store, format, [path], dataset=dataset or default_dataset([name]), who=who
            )
        except HeedfulError as error:
            raise type(error)(str(error).replace(str(path), name)) from error
    detail = {"format": format, "rows": result.num_rows, "new": result.num_new}
    with store.write() as tx:
        people.log(tx, who, "imported data", result.dataset, detail)
    return replace(result, drops=tuple(replace(one, file=name) for one in result.drops))
