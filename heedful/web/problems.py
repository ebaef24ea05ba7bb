"""What every HTTP application of ours has: one shape of errors, bodies of a bounded size."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from heedful.errors import ConfigError, DataError, HeedfulError, MissingError, ResourceError
from heedful.registry import nearest

Status = Mapping[type[HeedfulError], tuple[int, str]]
STATUS: dict[type[HeedfulError], tuple[int, str]] = {
    MissingError: (404, "missing"),
    DataError: (422, "data"),
    ConfigError: (422, "config"),
    ResourceError: (503, "resource"),
}
# newer versions of FastAPI would look at the environment for somewhere to report to
NO_TELEMETRY: Any = dict.fromkeys(
    ("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False
)


def problem(status: int, code: str, message: str) -> JSONResponse:
    """The one shape of an error."""
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status)


def status_of(error: Exception, known: Status = STATUS) -> tuple[int, str]:
    """Status and code of one of our errors."""
    kinds = (known[kind] for kind in type(error).__mro__ if kind in known)
    return next(kinds, (500, "internal"))


def misshapen(error: RequestValidationError) -> str:
    """Where a body is not what the route takes, and why."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg'].lower()}"


def refuse_unknown(request: Request) -> None:
    """Refuse a parameter that a call of the API does not take: a misspelt filter passes all."""
    if not request.url.path.startswith("/api/"):
        return
    known = set(_parameters(request.scope["route"].dependant))
    for name in request.query_params:
        if name not in known:
            hint = nearest(name, known) if known else "this call takes none"
            raise DataError(f"unknown query parameter {name!r:.60}; {hint}")


def _parameters(dependant: Any) -> Iterator[str]:
    """The query parameters of a route and of what it depends on."""
    yield from (one.alias for one in dependant.query_params)
    for part in dependant.dependencies:
        yield from _parameters(part)


def unread(request: Request, most: int) -> tuple[int, str, str] | None:
    """Why a body is not read: its size is unknown or above ``most`` bytes, or it is packed.

    As status, code and message; None when it is read.
    """
    headers = request.headers
    if "transfer-encoding" in headers:
        return 411, "length_required", "send the body whole, with a Content-Length"
    length = headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 15 or int(length) > most:
        seen = f"the request states {length:.20} bytes; at most {most} are read"
        return 413, "too_large", seen
    packing = headers.get("content-encoding", "identity")
    if packing.lower() != "identity":
        return 415, "packed", f"the body is packed ({packing:.40}); send it as it is"
    return None
