"""Deleting a person's data: a page that says what happens, and a name to type."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request, Response

from heedful.errors import DataError
from heedful.store import forget as forgetting
from heedful.store import people
from heedful.types import User
from heedful.web.access import allows, store_of, visitor_of
from heedful.web.api import Name, Strict
from heedful.web.pages import page

router = APIRouter()


class ForgetBody(Strict):
    """How a person is forgotten; ``confirm`` repeats their name."""

    how: Literal["anonymise", "delete"]
    confirm: str


@router.get("/people/{person}/forget", include_in_schema=False)
@allows("manage")
def ask(request: Request, person: str) -> Response:
    """What would happen, and the form."""
    return show(request, person)


@router.post("/people/{person}/forget", include_in_schema=False)
@allows("manage")
def confirmed(
    request: Request,
    person: str,
    confirm: Annotated[str, Form()] = "",
    how: Annotated[str, Form()] = "anonymise",
) -> Response:
    """Forget the person whose name was typed."""
    store = store_of(request)
    who = visitor_of(request).user.id
    try:
        done = forgetting.forget(store, person, how, confirm=confirm, who=who)  # type: ignore[arg-type]  # checked there
    except DataError as error:
        return show(request, person, problem=str(error))
    return page(request, "forgotten.html", done=done)


@router.get("/api/people/{person}/forget")
@allows("manage")
def look(request: Request, person: Name) -> dict[str, Any]:
    """How many answers of a person would be forgotten, and which files would still hold them."""
    user, num_answers, files = held(request, person)
    return {"id": user.id, "num_answers": num_answers, "snapshots": snapshots_json(files)}


@router.post("/api/people/{person}/forget")
@allows("manage")
def forget(request: Request, person: Name, body: ForgetBody) -> dict[str, Any]:
    """Delete a person's data; it cannot be undone. ``snapshots`` are files that still hold it."""
    store = store_of(request)
    who = visitor_of(request).user.id
    done = forgetting.forget(store, person, body.how, confirm=body.confirm, who=who)
    return asdict(done) | {"snapshots": snapshots_json(done.snapshots)}


def show(request: Request, person: str, *, problem: str = "") -> Response:
    """The form, with what went wrong."""
    user, num, files = held(request, person)
    return page(
        request,
        "forget.html",
        status=422 if problem else 200,
        person=user,
        files=files,
        num_answers=num,
        problem=problem,
    )


def held(request: Request, person: str) -> tuple[User, int, Sequence[tuple[str, str]]]:
    """A person, how many answers they gave, and the ids and files of snapshots that hold them."""
    with store_of(request).read() as tx:
        user = people.get(tx, person)
        found = forgetting.find(tx, user.id)
        return user, forgetting.count(tx, found), forgetting.snapshots_of(tx, found)


def snapshots_json(files: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Snapshots for the API."""
    return [{"id": one, "path": path} for one, path in files]
