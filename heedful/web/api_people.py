"""The JSON API's part about people: oneself, everyone, and the log of what they did."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from pydantic import Field

from heedful.errors import DataError
from heedful.registry import nearest
from heedful.store import Transaction, about, people
from heedful.types import User, UserRole
from heedful.web.access import allows, needs_session, store_of, visitor_of
from heedful.web.api import MAX_INT, Name, Strict, as_text
from heedful.web.people import alter, invite, link_for, renew_password

router = APIRouter(prefix="/api")
MAX_PASSWORD = 1000
Told = Annotated[str, Field(max_length=1000)]


class PersonBody(Strict):
    """A new person."""

    name: str = Field(min_length=1, max_length=60)
    role: UserRole


class ChangeBody(Strict):
    """What a person may do; who is not active is signed out, and their keys end."""

    role: UserRole
    is_active: bool


class PasswordBody(Strict):
    """A new password; ``current`` is the one before, where there is one."""

    password: str = Field(max_length=MAX_PASSWORD)
    current: str = Field("", max_length=MAX_PASSWORD)


@router.get("/me")
@allows("enter")
def me(request: Request) -> dict[str, Any]:
    """Who one is, what one may do, what projects ask of people and what one said to it."""
    visitor = visitor_of(request)
    with store_of(request).read() as tx:
        return me_json(tx, people.get(tx, visitor.user.id), visitor.permissions)


@router.put("/me/attributes")
@allows("enter")
def tell_of_oneself(
    request: Request, attributes: Annotated[dict[str, Told], Body(embed=True)]
) -> dict[str, Any]:
    """Say something of oneself that a project asks; an empty text is "would rather not say"."""
    visitor = visitor_of(request)
    with store_of(request).write() as tx:
        asked = {one.name: one for one in about.asked(tx)}
        for name in attributes:
            if name not in asked:
                hint = nearest(name, asked) if asked else "no project asks anything"
                raise DataError(f"nobody asks for {name!r:.60}; {hint}")
        about.tell(tx, visitor.user.id, [asked[name] for name in attributes], attributes)
        return me_json(tx, people.get(tx, visitor.user.id), visitor.permissions)


@router.put("/me/password")
@allows("enter")
@needs_session
def set_password(request: Request, body: PasswordBody) -> dict[str, Any]:
    """Set one's own password; ends every other session and all API keys."""
    renew_password(request, body.password, body.current)
    return {"changed": visitor_of(request).user.id}


@router.get("/people")
@allows("manage")
def list_people(request: Request) -> list[dict[str, Any]]:
    """Everyone with their role."""
    with store_of(request).read() as tx:
        return [asdict(user) for user in people.list_all(tx)]


@router.post("/people", status_code=201)
@allows("manage")
@needs_session
def add_person(request: Request, body: PersonBody) -> dict[str, Any]:
    """Add a person; the answer holds a link that signs them in once, and is not shown again."""
    person = invite(request, body.name, body.role)
    return asdict(person) | {"link": link_for(request, person)}


@router.put("/people/{person}")
@allows("manage")
@needs_session
def change_person(request: Request, person: Name, body: ChangeBody) -> dict[str, Any]:
    """Set a person's role, and switch them off or on."""
    return asdict(alter(request, person, role=body.role, is_active=body.is_active))


@router.post("/people/{person}/link", status_code=201)
@allows("manage")
@needs_session
def make_link(request: Request, person: Name) -> dict[str, Any]:
    """A new link that signs a person in once within a week; it is not shown again."""
    user = alter(request, person, link="made")
    return {"id": user.id, "link": link_for(request, user)}


@router.get("/audit")
@allows("manage")
def list_audit(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[int | None, Query(ge=0, le=MAX_INT)] = None,
) -> list[dict[str, Any]]:
    """Who did what, newest first; ``before`` is the number that the last page ended at."""
    with store_of(request).read() as tx:
        return [
            {
                "number": line.number,
                "when": as_text(line.created_at),
                "who": line.who,
                "what": line.what,
                "subject": line.subject,
                "detail": line.detail,
            }
            for line in people.history(tx, limit=limit, before=before)
        ]


def me_json(tx: Transaction, user: User, permissions: frozenset[str]) -> dict[str, Any]:
    """A person for themselves."""
    questions = [asdict(one) for one in about.asked(tx)]
    return asdict(user) | {"permissions": sorted(permissions), "questions": questions}
