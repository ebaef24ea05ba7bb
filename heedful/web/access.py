"""Who may do what. Every route is denied unless it says otherwise.

A route is marked ``@public`` or ``@allows(PERMISSION)``; everyone signed in may ``enter``. The
guard runs before every route; one without a mark is refused, so a forgotten mark opens nothing.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from fastapi import Request

from heedful.errors import HeedfulError
from heedful.store import Store, people
from heedful.types import Source, User, UserRole

Permission = Literal["enter", "label", "view", "review", "manage"]
PERMISSIONS: Mapping[UserRole, frozenset[Permission]] = {
    "owner": frozenset({"enter", "label", "view", "review", "manage"}),
    "reviewer": frozenset({"enter", "label", "view", "review"}),
    "annotator": frozenset({"enter", "label"}),
    "reader": frozenset({"enter", "view"}),
}
MEANINGS: Mapping[Permission, str] = {
    "enter": "see which projects there are and their guidelines",
    "label": "take tasks and answer them",
    "view": "read projects, data, figures, models and runs",
    "review": "settle disagreements, talk to models",
    "manage": "change projects and people, import, start jobs",
}
COOKIE = "heedful_session"
UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
F = TypeVar("F", bound=Callable[..., object])


class SignInNeededError(HeedfulError):
    """Nobody is signed in."""


class NotAllowedError(HeedfulError):
    """This person may not do this."""


class TooManyError(NotAllowedError):
    """It was tried too often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who makes a request. ``csrf`` goes into the forms of their pages; empty for API keys.

    ``source`` is who gives their answers: a person at a page, or what an API key says.
    """

    user: User
    permissions: frozenset[str]
    csrf: str
    source: Source = "human"

    @property
    def is_session(self) -> bool:
        """Is this a browser whose person signed in, and no API key?"""
        return bool(self.csrf)

    def may(self, permission: Permission) -> bool:
        """Is this allowed?"""
        return permission in self.permissions


def public(route: F) -> F:
    """Mark a route that needs no sign-in."""
    route.__dict__["heedful_access"] = "public"
    return route


def allows(permission: Permission) -> Callable[[F], F]:
    """Mark a route that needs a permission."""

    def mark(route: F) -> F:
        route.__dict__["heedful_access"] = permission
        return route

    return mark


def needs_session(route: F) -> F:
    """Mark a route that makes or changes what proves who somebody is: no API key may use it."""
    route.__dict__["heedful_needs_session"] = True
    return route


def new_secret() -> str:
    """A secret nobody guesses: 256 random bits."""
    return secrets.token_urlsafe(32)


def csrf_token(session: str) -> str:
    """What forms of a session carry; it cannot be made without the session's secret."""
    return hmac.new(session.encode(), b"csrf", hashlib.sha256).hexdigest()


def guard(request: Request) -> None:
    """Let a request through to its route, or raise; sets ``request.state.visitor``."""
    endpoint = request.scope.get("endpoint")
    wanted = getattr(endpoint, "heedful_access", None)
    request.state.visitor = None
    if wanted == "public":
        refuse_other_sites(request)
        return
    visitor = identify(request)
    if visitor is None:
        raise SignInNeededError("nobody is signed in; sign in, or send an API key")
    if wanted is None or wanted not in visitor.permissions:
        raise NotAllowedError(
            f"{visitor.user.name} ({visitor.user.role}) may not do this; ask an owner"
        )
    if getattr(endpoint, "heedful_needs_session", False) and not visitor.is_session:
        raise NotAllowedError(
            "an API key may not make or change keys, passwords, links or people; sign in with a "
            "browser"
        )
    request.state.visitor = visitor


def refuse_other_sites(request: Request) -> None:
    """A change that needs no sign-in must come from a page of ours, or from no browser: another
    site could sign somebody out, or in as somebody else."""
    if request.method not in UNSAFE:
        return
    sent_by = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    is_other = sent_by == "cross-site"
    if sent_by is None and origin is not None:  # an older browser
        is_other = urlsplit(origin).netloc != request.headers.get("host")
    if is_other:
        raise NotAllowedError("this request came from another site; open the studio's own page")


def identify(request: Request) -> Visitor | None:
    """The visitor behind a session cookie or an API key."""
    store = store_of(request)
    header = request.headers.get("authorization", "")
    if header:
        kind, _, secret = header.partition(" ")
        if kind.lower() != "bearer":
            return None
        with store.look() as tx:
            found = people.bearer(tx, secret.strip(), "key")
        if found is None:
            return None
        user, scopes, source = found
        allowed = PERMISSIONS[user.role] & set(scopes)
        return Visitor(user=user, permissions=allowed, csrf="", source=source)
    session = request.cookies.get(COOKIE)
    if not session:
        return None
    with store.look() as tx:
        found = people.bearer(tx, session, "session")
    if found is None:
        return None
    user = found.user
    return Visitor(user=user, permissions=PERMISSIONS[user.role], csrf=csrf_token(session))


async def check_csrf(request: Request) -> None:
    """A changing request of a session must come from one of our pages.

    Whatever names a session must be of that session: a page that stayed open when somebody else
    signed in would show their items as its own person's.
    """
    visitor: Visitor | None = request.state.visitor
    sent = request.headers.get("x-csrf-token")
    if visitor is None or not visitor.csrf or (request.method not in UNSAFE and sent is None):
        return
    if sent is None:
        kind = request.headers.get("content-type", "")
        if kind.startswith(("application/x-www-form-urlencoded", "multipart/form-data")):
            sent = str((await request.form()).get("csrf", ""))
    if not hmac.compare_digest((sent or "").encode("utf-8", "replace"), visitor.csrf.encode()):
        raise NotAllowedError("this request did not come from a page of ours; reload and try again")


def store_of(request: Request) -> Store:
    """The store that the app serves."""
    store: Store = request.app.state.store
    return store


def visitor_of(request: Request) -> Visitor:
    """Who makes this request; for routes behind the guard."""
    visitor: Visitor = request.state.visitor
    return visitor
