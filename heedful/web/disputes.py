"""Disagreements: which tasks people answered differently, and settling them. For reviewers."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Form, Path, Query, Request, Response
from fastapi.responses import RedirectResponse

from heedful.forms import FORMS
from heedful.store import Transaction, disputes, people, projects, queue, tasks
from heedful.types import last_text
from heedful.web.access import allows, store_of, visitor_of
from heedful.web.api import item_json
from heedful.web.pages import page
from heedful.web.shown import given

router = APIRouter()
Name = Annotated[str, Path(min_length=1, max_length=200)]
NUM_SHOWN = 50
NUM_SETTLED = 20


@router.get("/projects/{project}/disagreements", include_in_schema=False)
@allows("review")
def show(
    request: Request, project: str, after: Annotated[str, Query(max_length=100)] = ""
) -> Response:
    """Tasks in dispute, and what people had said to those that one settled."""
    store, who = store_of(request), visitor_of(request).user.id
    with store.read() as tx:
        found = projects.get(tx, project)
        listed = disputes.disputed(tx, project, limit=NUM_SHOWN, after=after)
        settled = disputes.settled(tx, project, who, limit=NUM_SETTLED)
        form = FORMS[found.form]
        names = {user.id: user.name for user in people.list_all(tx)}
        rows = [
            (
                one.adjudication.task_id,
                [
                    (
                        names.get(vote.annotator, vote.annotator),
                        form.agrees(vote.payload, one.adjudication.payload),
                    )
                    for vote in one.votes
                ],
            )
            for one in settled
        ]
        asked = texts(tx, [*listed, *(task for task, _ in rows)])
        number = disputes.count(tx, project)
    return page(
        request,
        "disagreements.html",
        project=found,
        number=number,
        listed=listed,
        more=listed[-1] if len(listed) == NUM_SHOWN else "",
        settled=rows,
        asked=asked,
    )


@router.post("/projects/{project}/disagreements", include_in_schema=False)
@allows("review")
def take(request: Request, project: str, task: Annotated[str, Form()]) -> Response:
    """Take a task in dispute, and go to its page."""
    store, who = store_of(request), visitor_of(request).user.id
    with store.write() as tx:
        queue.adjudicate(tx, project, who, task, rng=request.app.state.rng)
    return RedirectResponse(f"/projects/{project}/tasks/{task}", status_code=303)


@router.get("/api/projects/{project}/disagreements")
@allows("review")
def list_disagreements(
    request: Request,
    project: Name,
    after: Annotated[str, Query(max_length=100)] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = NUM_SHOWN,
) -> dict[str, Any]:
    """Tasks on which people disagree, without what they said; ``after`` goes on from a page."""
    store = store_of(request)
    with store.read() as tx:
        projects.get(tx, project)
        listed = disputes.disputed(tx, project, limit=limit, after=after)
        return {"number": disputes.count(tx, project), "tasks": listed}


@router.post("/api/projects/{project}/disagreements", status_code=201)
@allows("review")
def take_disagreement(
    request: Request, project: Name, task: Annotated[str, Body(embed=True, max_length=100)]
) -> dict[str, Any]:
    """Take a task in dispute; send the adjudication like any answer to it."""
    store, who = store_of(request), visitor_of(request).user.id
    with store.write() as tx:
        view = queue.adjudicate(tx, project, who, task, rng=request.app.state.rng)
        (found,) = given(tx, who, [view])
        settings = projects.get(tx, project)
    return item_json(settings, found)


def texts(tx: Transaction, ids: list[str]) -> dict[str, str]:
    """The last turn of every task's prompt."""
    found = tasks.get(tx, ids) if ids else {}
    return {one: last_text(found[one].task.prompt.messages) for one in found}
