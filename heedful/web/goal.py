"""A goal that answers work towards: when it is reached, or a person says so, training begins."""

from dataclasses import dataclass, field
from threading import Event
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from heedful.errors import MissingError
from heedful.store import people, projects, queue
from heedful.web.access import allows, store_of, visitor_of
from heedful.web.pages import page

router = APIRouter()


@dataclass(slots=True, kw_only=True)
class Goal:
    """What a studio waits for. Made by ``heedful demo --human``, shown by its pages.

    ``begin`` is set by whoever wants to train now; ``message`` says why that has to wait.
    ``blind`` is the project in which old and new answers are compared, once there is one.
    """

    project: str
    wanted: int
    begin: Event = field(default_factory=Event)
    stage: Literal["asking", "training", "done"] = "asking"
    message: str = ""
    blind: str = ""


@router.get("/goal", include_in_schema=False)
@allows("manage")
def show(request: Request) -> Response:
    """How many answers are in, and the button that begins to train."""
    store = store_of(request)
    goal = goal_of(request)
    who = visitor_of(request).user.id
    with store.read() as tx:
        project = projects.get(tx, goal.project)
        progress = queue.progress(tx, goal.project, who)
    return page(request, "goal.html", project=project, progress=progress)


@router.post("/goal/begin", include_in_schema=False)
@allows("manage")
def begin(request: Request) -> Response:
    """Train with the answers that are in."""
    begin_now(request)
    return RedirectResponse("/goal", status_code=303)


@router.get("/api/goal")
@allows("manage")
def get_goal(request: Request) -> dict[str, Any]:
    """What the answers of this studio are for, and how many are in."""
    goal = goal_of(request)
    with store_of(request).read() as tx:
        progress = queue.progress(tx, goal.project, visitor_of(request).user.id)
    told = {name: getattr(goal, name) for name in ("project", "wanted", "stage", "message")}
    return told | {"answered": progress.num_done}


@router.post("/api/goal/begin")
@allows("manage")
def begin_goal(request: Request) -> dict[str, Any]:
    """Train with the answers that are in."""
    begin_now(request)
    return get_goal(request)


def begin_now(request: Request) -> None:
    """Set off the training; raises ``MissingError`` where nothing waits for answers."""
    goal = goal_of(request)
    with store_of(request).write() as tx:
        people.log(tx, visitor_of(request).user.id, "began training", goal.project)
    goal.begin.set()


def goal_of(request: Request) -> Goal:
    """The goal of this studio; raises ``MissingError`` when it has none."""
    goal: Goal | None = request.app.state.goal
    if goal is None:
        raise MissingError("this studio waits for no answers; heedful demo --human does")
    return goal
