"""The studio: pages and the JSON API in one FastAPI app. Starts without torch."""

import logging
import random
import re
from functools import cache
from pathlib import Path
from threading import BoundedSemaphore

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Mount

from heedful.errors import HeedfulError, StoreError
from heedful.store import Store
from heedful.web import (
    about,
    api,
    api_chat,
    api_people,
    api_runs,
    browse,
    browse_api,
    chats,
    disputes,
    entry,
    exchange,
    fitting,
    forget,
    gold,
    jobs,
    keys,
    label,
    models,
    pages,
    people,
    problems,
    projects,
    quality,
    quality_api,
    runs,
    sign_in,
)
from heedful.web import goal as goals
from heedful.web.access import (
    NotAllowedError,
    SignInNeededError,
    TooManyError,
    check_csrf,
    guard,
    identify,
)
from heedful.web.computing import Computing
from heedful.web.figures import Drawings
from heedful.web.goal import Goal
from heedful.web.pages import page, wants_page
from heedful.web.protection import Protection

HERE = Path(__file__).parent
STATUS = problems.STATUS | {
    SignInNeededError: (401, "sign_in_needed"),
    TooManyError: (429, "too_many"),
    NotAllowedError: (403, "not_allowed"),
}
# to strangers, to who lacks the permission, and to what no call takes
CLOSED = [Depends(guard), Depends(check_csrf), Depends(problems.refuse_unknown)]
ROUTERS = (
    label.router,  # first, since routers are asked in this order
    about.router,
    sign_in.router,
    api.router,
    api_people.router,
    keys.router,
    pages.router,
    people.router,
    projects.router,
    browse.router,
    browse_api.router,
    exchange.router,
    forget.router,
    quality.router,
    quality_api.router,
    gold.router,
    entry.router,
    fitting.router,
    disputes.router,
    runs.router,
    models.router,
    api_runs.router,
    goals.router,
    jobs.router,
    chats.router,
    api_chat.router,
    jobs.api,
)
MAX_BODY = 2_000_000  # bytes
UPLOADS = re.compile(r"/import|/api/data/[^/]+/import")
LOG = logging.getLogger(__name__)
AWAY = "the database does not answer; try again in a moment (the server's own output says why)"


def create_app(
    store: Store, *, rng: random.Random | None = None, goal: Goal | None = None
) -> FastAPI:
    """The app on an open store; ``rng`` draws sides, from the system's entropy unless given.

    ``goal`` is what its answers are for, when something waits for them.
    """
    app = FastAPI(
        title="Heedful",
        routes=_routes(),
        dependencies=CLOSED,  # for a route that is added later
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry=problems.NO_TELEMETRY,
    )
    app.state.store = store
    app.state.rng = rng or random.SystemRandom()
    app.state.computing = Computing(store)
    app.state.attempts = sign_in.Attempts()
    app.state.drawings = Drawings()
    app.state.exports = BoundedSemaphore(exchange.NUM_EXPORTS)
    app.state.goal = goal
    app.add_exception_handler(HeedfulError, refuse)
    app.add_exception_handler(HTTPException, refuse_http)
    app.add_exception_handler(RequestValidationError, refuse_shape)
    app.add_middleware(Protection, refused=refused, told=told)
    return app


@cache
def _routes() -> list[BaseRoute]:
    """Every page and call, guarded; gathered once, since reading the signatures takes a while."""
    guarded = APIRouter(dependencies=CLOSED)
    for part in ROUTERS:
        guarded.include_router(part)
    return [
        *guarded.routes,
        Mount("/static", StaticFiles(directory=HERE / "static"), name="static"),
    ]


async def refused(request: Request) -> Response | None:
    """Why a body is not read."""
    unread = problems.unread(request, await most_of(request))
    if unread is None:
        return None
    status, code, message = unread
    if status == 413 and UPLOADS.fullmatch(request.url.path):
        message += "; import a larger file with heedful import"
    return told(request, status, code, message)


async def most_of(request: Request) -> int:
    """How many bytes a body may have: a file's only from people who may import one."""
    is_upload = request.method == "POST" and UPLOADS.fullmatch(request.url.path)
    if not is_upload:
        return MAX_BODY
    visitor = await run_in_threadpool(identify, request)
    return exchange.MAX_UPLOAD if visitor is not None and visitor.may("manage") else MAX_BODY


def told(request: Request, status: int, code: str, message: str) -> Response:
    """An error as a page, or as JSON."""
    if wants_page(request):
        return page(request, "problem.html", status=status, message=message)
    return problems.problem(status, code, message)


async def refuse(request: Request, error: Exception) -> Response:
    """One of our errors as JSON, as a page, or as the way to the sign-in page."""
    status, code = problems.status_of(error, STATUS)
    if isinstance(error, SignInNeededError) and wants_page(request):
        return RedirectResponse("/sign-in", status_code=303)
    if isinstance(error, StoreError):
        LOG.error("%s %s: %s", request.method, request.url.path, error)
    return told(request, status, code, AWAY if isinstance(error, StoreError) else str(error))


async def refuse_http(request: Request, error: Exception) -> Response:
    """An unknown path or method."""
    assert isinstance(error, HTTPException)
    return told(request, error.status_code, "http", str(error.detail))


async def refuse_shape(request: Request, error: Exception) -> Response:
    """A body that is not what the route takes."""
    assert isinstance(error, RequestValidationError)
    return told(request, 422, "shape", problems.misshapen(error))
