"""Who is let into a project: what they answered to its entry questions, and what owners decide."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Form, Request, Response
from fastapi.responses import RedirectResponse

from heedful.store import entry, people, projects
from heedful.store.entry import Standing
from heedful.web.access import allows, store_of, visitor_of
from heedful.web.api import Name, as_text
from heedful.web.pages import page

router = APIRouter()


@router.get("/projects/{project}/people", include_in_schema=False)
@allows("manage")
def show(request: Request, project: str) -> Response:
    """Everybody who may answer, whether they are in, and buttons to decide otherwise."""
    with store_of(request).read() as tx:
        found = projects.get(tx, project)
        rows = entry.standings(tx, found)
        names = {user.id: user.name for user in people.list_all(tx)}
        num_known = entry.num_known(tx, project)
    return page(
        request,
        "project_people.html",
        project=found,
        rows=rows,
        names=names,
        num_known=num_known,
        num_missing=max(0, found.qualify_with - num_known),
    )


@router.post("/projects/{project}/people", include_in_schema=False)
@allows("manage")
def change(
    request: Request,
    project: str,
    person: Annotated[str, Form(max_length=100)],
    deed: Annotated[str, Form(pattern="^(in|out)$")],
) -> Response:
    """Let somebody in, or keep them out."""
    who = visitor_of(request).user.id
    with store_of(request).write() as tx:
        entry.set_by_hand(tx, project, person, deed == "in", who=who)
    return RedirectResponse(f"/projects/{project}/people", status_code=303)


@router.get("/api/projects/{project}/people")
@allows("manage")
def list_standings(request: Request, project: Name) -> dict[str, Any]:
    """Who is in; ``missing`` known answers keep everybody out who is undecided."""
    with store_of(request).read() as tx:
        found = projects.get(tx, project)
        return {
            "qualify_with": found.qualify_with,
            "qualify_at": found.qualify_at,
            "known": entry.num_known(tx, project),
            "missing": entry.num_missing(tx, found),
            "people": [as_json(one) for one in entry.standings(tx, found)],
        }


@router.put("/api/projects/{project}/people/{person}")
@allows("manage")
def set_standing(
    request: Request,
    project: Name,
    person: Name,
    is_qualified: Annotated[bool, Body(embed=True, strict=True)],
) -> dict[str, Any]:
    """Let somebody into a project (true) or keep them out, whatever they answered."""
    who = visitor_of(request).user.id
    with store_of(request).write() as tx:
        entry.set_by_hand(tx, project, person, is_qualified, who=who)
        rows = entry.standings(tx, projects.get(tx, project))
    return next((as_json(one) for one in rows if one.annotator == person), {"person": person})


def as_json(one: Standing) -> dict[str, Any]:
    """A person's standing; ``by`` is null where their answers decided."""
    return {
        "person": one.annotator,
        "name": one.name,
        "role": one.role,
        "state": one.state,
        "answered": one.tally.trials,
        "hits": one.tally.hits,
        "by": one.by,
        "at": as_text(one.at),
    }
