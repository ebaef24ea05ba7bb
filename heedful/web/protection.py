"""What stands before every route of an HTTP application of ours, as one ASGI middleware."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import Request, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from heedful.web import problems

HEADERS = {
    # scripts and styles are files of ours; nothing is loaded from anywhere else
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
LOG = logging.getLogger(__name__)


class Protection:
    """Refuses before a body is read, and sets the headers that browsers protect people by.

    ``refused`` answers what no route may see, and None otherwise. An error that nobody foresaw is
    logged and gets the shape of all others: ``told`` writes it from status, code and message.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        refused: Callable[[Request], Awaitable[Response | None]],
        told: Callable[[Request, int, str, str], Response] | None = None,
    ) -> None:
        self.app = app
        self.refused = refused
        self.told = told or (lambda _, *problem: problems.problem(*problem))

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
            answer = await self.refused(request) or self.app
            await answer(scope, receive, protected)
        except Exception as error:
            LOG.exception("%s %s", request.method, request.url.path)
            if has_begun:
                raise
            seen = f"something broke ({type(error).__name__}); the server's own output says where"
            await self.told(request, 500, "internal", seen)(scope, receive, protected)
