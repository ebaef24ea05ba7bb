"""The studio: pages and the JSON API in one FastAPI app. Starts without torch."""

import logging
import random
import re
from collections.abc import MutableMapping
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from heedful.errors import HeedfulError
from heedful.store import Store
from heedful.web import (
    api,
    api_chat,
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

HERE = Path(__file__).parent
STATUS = problems.STATUS | {
    SignInNeededError: (401, "sign_in_needed"),
    TooManyError: (429, "too_many"),
    NotAllowedError: (403, "not_allowed"),
}
HEADERS = {
    # scripts and styles are files of ours; nothing is loaded from anywhere else
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
MAX_BODY = 2_000_000  # bytes
UPLOADS = re.compile(r"/import|/api/data/[^/]+/import")
LOG = logging.getLogger(__name__)


def create_app(
    store: Store, *, rng: random.Random | None = None, goal: Goal | None = None
) -> FastAPI:
    """The app on an open store; ``rng`` draws sides, from the system's entropy unless given.

    ``goal`` is what its answers are for, when something waits for them.
    """
    app = FastAPI(
        title="Heedful",
        dependencies=[Depends(guard), Depends(check_csrf)],
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
    app.include_router(label.router)  # first, since routers are asked in this order
    app.include_router(sign_in.router)
    app.include_router(api.router)
    app.include_router(keys.router)
    app.include_router(pages.router)
    app.include_router(people.router)
    app.include_router(projects.router)
    app.include_router(browse.router)
    app.include_router(browse_api.router)
    app.include_router(exchange.router)
    app.include_router(forget.router)
    app.include_router(quality.router)
    app.include_router(quality_api.router)
    app.include_router(gold.router)
    app.include_router(entry.router)
    app.include_router(fitting.router)
    app.include_router(disputes.router)
    app.include_router(runs.router)
    app.include_router(models.router)
    app.include_router(api_runs.router)
    app.include_router(goals.router)
    app.include_router(jobs.router)
    app.include_router(chats.router)
    app.include_router(api_chat.router)
    app.include_router(jobs.api)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app.add_exception_handler(HeedfulError, refuse)
    app.add_exception_handler(HTTPException, refuse_http)
    app.add_exception_handler(RequestValidationError, refuse_shape)
    app.add_middleware(Protection)
    return app


class Protection:
    """Bounds the body before it is read, and sets the headers that browsers protect people by.

    An error that nobody foresaw gets the shape of all others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request, has_begun = Request(scope), False

        async def protected(message: MutableMapping[str, Any]) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if not request.url.path.startswith("/static/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            answer = problems.refuse_body(request, await most_of(request)) or self.app
            await answer(scope, receive, protected)
        except Exception as error:
            LOG.exception("%s %s", request.method, request.url.path)
            if has_begun:
                raise
            seen = f"something broke ({type(error).__name__}); the studio's own output says where"
            await told(request, 500, "internal", seen)(scope, receive, protected)


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
    return told(request, status, code, str(error))


async def refuse_http(request: Request, error: Exception) -> Response:
    """An unknown path or method."""
    assert isinstance(error, HTTPException)
    return told(request, error.status_code, "http", str(error.detail))


async def refuse_shape(request: Request, error: Exception) -> Response:
    """A body that is not what the route takes."""
    assert isinstance(error, RequestValidationError)
    return told(request, 422, "shape", problems.misshapen(error))
