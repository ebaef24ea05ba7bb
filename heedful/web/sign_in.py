"""Signing in and out: by a one-time link, or by name and password."""

import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from heedful.store import Store, people
from heedful.types import User
from heedful.web.access import COOKIE, TooManyError, new_secret, public, store_of
from heedful.web.pages import page

router = APIRouter()
SESSION = timedelta(days=30)
ATTEMPTS, WINDOW_SECONDS = 10, 60.0
MAX_LOGGED = 60  # characters of a name that was tried


class Attempts:
    """At most so many tries a minute for one address: passwords are not to be guessed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self.by_address: dict[str, deque[float]] = {}
        self.purged_at = clock()

    def check(self, address: str) -> None:
        """Count a try; raises ``TooManyError`` beyond the limit."""
        now = self.clock()
        with self.lock:
            if self.purged_at < now - WINDOW_SECONDS:
                self.purge(now)
            tries = self.by_address.setdefault(address, deque())
            while tries and tries[0] < now - WINDOW_SECONDS:
                tries.popleft()
            if len(tries) >= ATTEMPTS:
                raise TooManyError("too many tries with a password; wait a minute")
            tries.append(now)

    def purge(self, now: float) -> None:
        """Forget addresses without a try in the last window."""
        known = self.by_address.items()
        fresh = now - WINDOW_SECONDS
        self.by_address = {key: one for key, one in known if one and one[-1] >= fresh}
        self.purged_at = now


@router.get("/sign-in", include_in_schema=False)
@public
def ask(request: Request) -> Response:
    """The sign-in page."""
    return page(request, "sign_in.html", message="")


@router.post("/sign-in", include_in_schema=False)
@public
def by_password(
    request: Request, name: Annotated[str, Form()], password: Annotated[str, Form()]
) -> Response:
    """Sign in with name and password."""
    from pwdlib import PasswordHash

    attempts: Attempts = request.app.state.attempts
    attempts.check(request.client.host if request.client else "")
    store = store_of(request)
    with store.read() as tx:
        found = people.find(tx, name)
    hasher = PasswordHash.recommended()
    user, known = found if found else (None, None)
    is_right = False
    if known is None:
        hasher.hash(password)  # an unknown name takes as long as a wrong password
    else:
        is_right = hasher.verify(password, known)  # and so does somebody who is switched off
    if user is not None and user.is_active and is_right:
        return welcome(request, user)
    with store.write() as tx:
        people.log(tx, user.id if user else "", "refused sign-in", name.strip()[:MAX_LOGGED])
    return page(request, "sign_in.html", status=403, message="Name or password is wrong.")


@router.get("/sign-in/{secret}", include_in_schema=False)
@public
def ask_by_link(
    request: Request, secret: str, next_page: Annotated[str, Query(alias="next")] = "/"
) -> Response:
    """What a one-time link opens. Looking does not use it up: mail scanners look, too."""
    store = store_of(request)
    with store.read() as tx:
        found = people.bearer(tx, secret, "link")
    if found is None:
        gone = "This link was used or is too old. Ask for a new one, or restart the studio."
        return page(request, "sign_in.html", status=403, message=gone)
    return page(
        request,
        "sign_in_link.html",
        name=found[0].name,
        secret=secret,
        next_page=own_page(next_page),
    )


@router.post("/sign-in/{secret}", include_in_schema=False)
@public
def by_link(
    request: Request, secret: str, next_page: Annotated[str, Form(alias="next")] = "/"
) -> Response:
    """Use a one-time link."""
    store = store_of(request)
    with store.write() as tx:
        found = people.bearer(tx, secret, "link")
        used = found is not None and people.end(tx, secret)
    if found is None or not used:
        return ask_by_link(request, secret)
    return welcome(request, found[0], to=own_page(next_page), how=people.BY_LINK)


def own_page(path: str) -> str:
    """A path of ours to go on to; the first page for anything that leads elsewhere."""
    is_ours = re.fullmatch(r"/[A-Za-z0-9][A-Za-z0-9_/-]{0,200}", path)
    return path if is_ours else "/"


@router.post("/sign-out", include_in_schema=False)
@public
def sign_out(request: Request) -> Response:
    """End the session of this browser."""
    store = store_of(request)
    session = request.cookies.get(COOKIE, "")
    with store.write() as tx:
        found = people.bearer(tx, session, "session")
        if found is not None:
            people.end(tx, session)
            people.log(tx, found.user.id, "signed out", found.user.id)
    answer = RedirectResponse("/sign-in", status_code=303)
    answer.delete_cookie(COOKIE)
    return answer


def make_link(store: Store, name: str, *, valid: timedelta) -> str:
    """The secret of a one-time link for the person called ``name``, made as owner when new."""
    secret = new_secret()
    with store.write() as tx:
        found = people.find(tx, name)
        user = found[0] if found else User(id=new_id(), name=name, role="owner")
        if not found:
            people.add(tx, user)
            people.log(tx, user.id, "made person", user.id, {"role": "owner"})
        people.grant(tx, secret, "link", user.id, valid=valid)
    return secret


def new_id() -> str:
    """A person's id: random, so that it says nothing about them."""
    return f"usr_{secrets.token_hex(8)}"


def welcome(request: Request, user: User, *, to: str = "/", how: str = "password") -> Response:
    """Begin a session; it is called after how it began."""
    store = store_of(request)
    secret = new_secret()
    with store.write() as tx:
        people.grant(tx, secret, "session", user.id, valid=SESSION, name=how)
        people.log(tx, user.id, "signed in", user.id)
    answer = RedirectResponse(to, status_code=303)
    answer.set_cookie(
        COOKIE,
        secret,
        max_age=int(SESSION.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return answer
