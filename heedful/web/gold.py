"""Known answers: an owner's page and the JSON API. Nothing here is for annotators."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Form, Path, Request, Response
from fastapi.responses import RedirectResponse

from heedful.errors import DataError
from heedful.store import Transaction, annotations, extras, people, projects, queue, tasks, undo
from heedful.types import JSON, Annotation, last_text
from heedful.web.access import allows, store_of, visitor_of
from heedful.web.pages import page

router = APIRouter()
Name = Annotated[str, Path(min_length=1, max_length=200)]


@router.get("/projects/{project}/gold", include_in_schema=False)
@allows("manage")
def show(request: Request, project: str) -> Response:
    """The known answers, who hits them, and one's own last answers, to be made known ones."""
    store, who = store_of(request), visitor_of(request).user.id
    with store.read() as tx:
        found = projects.get(tx, project)
        known = extras.golds(tx, project)
        names = {user.id: user.name for user in people.list_all(tx)}
        tallies = extras.gold_tallies(tx, project)
        mine = own_answers(tx, project, who)
        ids = [*(one.task_id for one in known), *mine]
        asked = {
            one: last_text(answered.task.prompt.messages)
            for one, answered in tasks.get(tx, ids).items()
        }
    return page(
        request,
        "gold.html",
        project=found,
        known=known,
        tallies=[(names.get(one, one), tally) for one, tally in tallies.items()],
        mine=[one for one in mine if one not in {gold.task_id for gold in known}],
        asked=asked,
    )


@router.post("/projects/{project}/gold", include_in_schema=False)
@allows("manage")
def change(
    request: Request,
    project: str,
    task: Annotated[str, Form()],
    deed: Annotated[str, Form(pattern="^(set|remove)$")],
) -> Response:
    """Make one's own answer to a task the known one, or forget the known one."""
    store, who = store_of(request), visitor_of(request).user.id
    with store.write() as tx:
        found = projects.get(tx, project)
        if deed == "set":
            said = own_answer(tx, project, who, task)
            extras.set_gold(tx, found, task, said.payload, who=who)
        else:
            extras.unset_gold(tx, found, task, who=who)
    return RedirectResponse(f"/projects/{project}/gold", status_code=303)


@router.get("/api/projects/{project}/gold")
@allows("manage")
def list_gold(request: Request, project: Name) -> dict[str, Any]:
    """The known answers of a project, and how often each annotator hit one."""
    store = store_of(request)
    with store.read() as tx:
        projects.get(tx, project)
        known = extras.golds(tx, project)
        tallies = extras.gold_tallies(tx, project)
    return {
        "golds": [
            {"task": one.task_id, "payload": one.payload, "author": one.author} for one in known
        ],
        "annotators": {
            one: {"hits": tally.hits, "trials": tally.trials} for one, tally in tallies.items()
        },
    }


@router.put("/api/projects/{project}/tasks/{task}/gold")
@allows("manage")
def set_gold(
    request: Request,
    project: Name,
    task: Name,
    payload: Annotated[dict[str, Any] | None, Body(embed=True)] = None,
) -> dict[str, Any]:
    """State the right answer to a task: a payload of its form, by default one's own answer."""
    store, who = store_of(request), visitor_of(request).user.id
    with store.write() as tx:
        found = projects.get(tx, project)
        said: Any = own_answer(tx, project, who, task).payload if payload is None else payload
        extras.set_gold(tx, found, task, said, who=who)
    return {"task": task, "payload": said}


@router.delete("/api/projects/{project}/tasks/{task}/gold")
@allows("manage")
def remove_gold(request: Request, project: Name, task: Name) -> dict[str, Any]:
    """Make a task with a known answer an ordinary one again."""
    store, who = store_of(request), visitor_of(request).user.id
    with store.write() as tx:
        extras.unset_gold(tx, projects.get(tx, project), task, who=who)
    return {"task": task, "payload": None}


def own_answers(tx: Transaction, project: str, who: str) -> dict[str, JSON]:
    """What this person answered last in the project, by task, newest first."""
    recent = list(dict.fromkeys(task for task, _ in undo.recent(tx, project, who)))
    said = {a.task_id: a.payload for a in annotations.latest(tx, recent) if a.annotator == who}
    return {one: said[one] for one in recent if one in said}


def own_answer(tx: Transaction, project: str, who: str, task: str) -> Annotation:
    """This person's vote on a task that they were given here; raises when there is none."""
    queue.get(tx, project, who, task)
    mine = [a for a in annotations.latest(tx, [task]) if a.annotator == who]
    if not mine:
        raise DataError(f"you have not answered task {task!r}; answer it first, or send a payload")
    return mine[0]
