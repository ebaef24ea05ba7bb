"""People: who takes part, in which role, and how they sign in."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from heedful.errors import DataError
from heedful.store import Transaction, about, keys, people
from heedful.types import JSON, User, UserRole
from heedful.web.about import FIELD
from heedful.web.access import COOKIE, MEANINGS, allows, needs_session, store_of, visitor_of
from heedful.web.pages import page, wants_page
from heedful.web.sign_in import Attempts, make_link, new_id

router = APIRouter()
INVITATION = timedelta(days=7)
LINK_SUFFICES = timedelta(minutes=30)  # after it a session by link needs the password, too
MIN_PASSWORD = 10
NOBODY = User(id="", name="", role="annotator")  # an invitation as it begins


@router.get("/people", include_in_schema=False)
@allows("manage")
def everyone(request: Request) -> Response:
    """All people with their roles."""
    return show(request)


@router.post("/people", include_in_schema=False)
@allows("manage")
@needs_session
def add(
    request: Request, role: Annotated[UserRole, Form()], name: Annotated[str, Form()] = ""
) -> Response:
    """Add a person and show the link that signs them in once."""
    try:
        user = invite(request, name, role)
    except DataError as error:
        if not wants_page(request):
            raise
        return show(request, typed=User(id="", name=name.strip(), role=role), error=str(error))
    return show(request, link=(user.name, link_for(request, user)))


@router.post("/people/{person}", include_in_schema=False)
@allows("manage")
@needs_session
def change(request: Request, person: str, action: Annotated[str, Form()]) -> Response:
    """``action`` is a role, ``off``, ``on``, or ``link`` for a new sign-in link."""
    if action == "link":
        user = alter(request, person, link="made")
        return show(request, link=(user.name, link_for(request, user)))
    if action in people.ROLES:
        alter(request, person, role=action)
    elif action in ("on", "off"):
        alter(request, person, is_active=action == "on")
    else:
        raise DataError(f"action is {action!r:.40}; send a role, on, off or link")
    return show(request)


@router.get("/me", include_in_schema=False)
@allows("enter")
def me(request: Request) -> Response:
    """The page on which people set their password and keep their API keys."""
    return show_me(request)


@router.post("/me/password", include_in_schema=False)
@allows("enter")
@needs_session
def set_password(
    request: Request, password: Annotated[str, Form()], current: Annotated[str, Form()] = ""
) -> Response:
    """Set one's own password."""
    renew_password(request, password, current)
    return RedirectResponse("/me", status_code=303)


@router.get("/audit", include_in_schema=False)
@allows("manage")
def audit(request: Request, before: int | None = None) -> Response:
    """Who did what, newest first."""
    store = store_of(request)
    with store.read() as tx:
        lines = people.history(tx, limit=50, before=before)
        names = {user.id: user.name for user in people.list_all(tx)}
    return page(request, "audit.html", lines=lines, names=names)


def invite(request: Request, name: str, role: UserRole) -> User:
    """Add a person; raises ``DataError`` for a name that is taken or empty."""
    user = User(id=new_id(), name=name.strip(), role=role)
    with store_of(request).write() as tx:
        people.add(tx, user)
        people.log(tx, visitor_of(request).user.id, "made person", user.id, {"role": role})
    return user


def alter(
    request: Request,
    person: str,
    *,
    role: UserRole | None = None,
    is_active: bool | None = None,
    link: str | None = None,
) -> User:
    """Set a person's role, switch them off or on, or note that a link is made; who it is now.

    Who is switched off is signed out, and their keys end.
    """
    given: dict[str, JSON] = {"role": role, "is_active": is_active}
    values = {name: value for name, value in given.items() if value is not None}
    with store_of(request).write() as tx:
        if values:
            people.change(tx, person, **values)
        if is_active is False:
            people.end_all(tx, person)
        detail = values if link is None else {"link": link}
        people.log(tx, visitor_of(request).user.id, "changed person", person, detail)
        return people.get(tx, person)


def renew_password(request: Request, password: str, current: str) -> None:
    """Set the visitor's password; ends every other session, and their keys.

    ``current`` is the one before, where there is one. Raises ``DataError`` when it is wrong, or
    the new one too short.
    """
    from pwdlib import PasswordHash

    if len(password) < MIN_PASSWORD:
        raise DataError(f"the password has {len(password)} characters; {MIN_PASSWORD} at least")
    user = visitor_of(request).user
    check_current(request, current)
    hashed = PasswordHash.recommended().hash(password)
    with store_of(request).write() as tx:
        people.change(tx, user.id, password_hash=hashed)
        people.end_all(tx, user.id, but=request.cookies.get(COOKIE))
        people.log(tx, user.id, "set password", user.id)


def show_me(request: Request, *, made: tuple[str, str] | None = None) -> Response:
    """One's own page; ``made`` is the name and the secret of a key, which is shown this once."""
    user = visitor_of(request).user
    with store_of(request).read() as tx:
        found = keys.list_active(tx, user.id)
        asks_current = needed_password(tx, request) is not None
        questions = about.asked(tx)
    return page(
        request,
        "me.html",
        keys=found,
        made=made,
        asks_current=asks_current,
        questions=questions,
        field=FIELD,
        meanings=MEANINGS,
    )


def needed_password(tx: Transaction, request: Request) -> str | None:
    """The hash of the password that somebody must state to change it; None when they need not.

    Who has just come by a one-time link need not: that is how a forgotten password is replaced.
    """
    if people.came_by_link(tx, request.cookies.get(COOKIE, ""), within=LINK_SUFFICES):
        return None
    found = people.find(tx, visitor_of(request).user.name)
    return found[1] if found else None


def check_current(request: Request, current: str) -> None:
    """Raise ``DataError`` unless the current password is stated, where it is needed."""
    from pwdlib import PasswordHash

    with store_of(request).read() as tx:
        known = needed_password(tx, request)
    if known is None:
        return
    attempts: Attempts = request.app.state.attempts
    attempts.check(visitor_of(request).user.id)
    if not PasswordHash.recommended().verify(current, known):
        raise DataError("the current password is wrong; if it is lost, ask an owner for a link")


def show(
    request: Request,
    *,
    link: tuple[str, str] | None = None,
    typed: User = NOBODY,
    error: str = "",
) -> Response:
    """The page of all people; ``link`` is a name and an address that is shown this once.

    ``typed`` is who could not be added because of the ``error``.
    """
    store = store_of(request)
    with store.read() as tx:
        found, known = people.list_all(tx), keys.list_active(tx)
    return page(
        request,
        "people.html",
        status=422 if error else 200,
        people=found,
        roles=people.ROLES,
        link=link,
        keys=known,
        typed=typed,
        error=error,
    )


def link_for(request: Request, user: User) -> str:
    """An address that signs a person in once within a week."""
    secret = make_link(store_of(request), user.name, valid=INVITATION)
    return str(request.url_for("ask_by_link", secret=secret))
