"""Labelling: the page, what it fetches ahead, and the answers that come back."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Body, Form, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from markupsafe import Markup

from heedful.errors import DataError, MissingError
from heedful.forms import FORMS
from heedful.forms.flags import FLAGS
from heedful.forms.steps import split_steps
from heedful.store import Store, Transaction, annotations, projects, queue, tasks
from heedful.store.queue import Assignment, Nothing
from heedful.store.tasks import AnsweredTask
from heedful.types import JSON, Completion, Message, Project
from heedful.web import render
from heedful.web.access import allows, new_secret, visitor_of
from heedful.web.fields import payload_of
from heedful.web.pages import fragment, page

router = APIRouter(prefix="/projects/{project}")
AHEAD = 3  # items that a browser holds: one on screen and two behind it
MAX_SECONDS = 24 * 3600.0
WORDS = {
    "no_tasks": "This project has no tasks yet.",
    "paused": "This project is paused.",
    "all_done": "Everything in this project is answered. Thank you!",
    "all_leased": "Others hold what is left. If they leave, it comes back.",
    "answered_all_open": "You have answered all you can; the rest waits for other people.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One answer on the page: its letter and its turns, never its author.

    ``rank``, ``ratings`` and ``flags`` are what the annotator said about it before.
    """

    id: str
    letter: str
    place: int
    text: str
    turns: Sequence[render.Turn]
    rank: int | None
    ratings: Mapping[str, JSON]
    flags: Mapping[str, JSON]


@router.get("/label", include_in_schema=False)
@allows("label")
def label(request: Request, project: str) -> Response:
    """The page of the next task; complete without scripts."""
    store, who = here(request)
    with store.write() as tx:
        settings = projects.get(tx, project)
        found = queue.lease(tx, project, who, count=1, rng=request.app.state.rng)
        items = [] if isinstance(found, Nothing) else items_of(tx, request, settings, found)
        guideline = projects.guideline(tx, project)
        progress = queue.progress(tx, project, who)
    return page(
        request,
        "label.html",
        project=settings,
        item=items[0]["html"] if items else nothing(found),
        guideline=guideline,
        progress=progress,
    )


@router.get("/items", include_in_schema=False)
@allows("label")
def ahead(
    request: Request, project: str, count: Annotated[int, Query(ge=1, le=AHEAD)] = AHEAD
) -> Response:
    """The items that a browser keeps ready."""
    store, who = here(request)
    with store.write() as tx:
        return JSONResponse(next_items(tx, request, project, who, count))


@router.post("/answers", include_in_schema=False)
@allows("label")
async def answer(request: Request, project: str) -> Response:
    """Store the answer that a page states; goes on to the next, as a page or as JSON."""
    form = await request.form()
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    from fastapi.concurrency import run_in_threadpool

    return await run_in_threadpool(store_answer, request, project, fields)


def store_answer(request: Request, project: str, fields: Mapping[str, str]) -> Response:
    """The answer in one transaction; what comes next in another, so that it cannot undo it."""
    store, who = here(request)
    task = fields.get("task", "")
    with store.write() as tx:
        settings = projects.get(tx, project)
        view = queue.get(tx, project, who, task)
        receipt = queue.submit(
            tx,
            project,
            who,
            task,
            payload_of(settings.form, fields, view.shown_order),
            key=fields.get("key", ""),
            seconds=seconds_of(fields.get("seconds", "")),
        )
    if "application/json" not in request.headers.get("accept", ""):
        return RedirectResponse(f"/projects/{project}/label", status_code=303)
    with store.write() as tx:
        ready = next_items(tx, request, project, who, AHEAD, fields.get("have", "").split())
    stored = {"annotation": receipt.annotation_id, "revision": receipt.revision}
    return JSONResponse({"stored": stored} | ready)


@router.post("/skips", include_in_schema=False)
@allows("label")
def skip(
    request: Request, project: str, task: Annotated[str, Form()], reason: Annotated[str, Form()]
) -> Response:
    """Give a task back."""
    store, who = here(request)
    with store.write() as tx:
        queue.skip(tx, project, who, task, reason)
    if "application/json" not in request.headers.get("accept", ""):
        return RedirectResponse(f"/projects/{project}/label", status_code=303)
    with store.write() as tx:
        return JSONResponse(next_items(tx, request, project, who, AHEAD))


@router.put("/drafts/{task}", include_in_schema=False)
@allows("label")
def draft(
    request: Request, project: str, task: str, fields: Annotated[dict[str, str], Body()]
) -> Response:
    """Keep what is not finished."""
    store, who = here(request)
    with store.write() as tx:
        queue.save_draft(tx, project, who, task, fields)
    return JSONResponse({"saved": True})


@router.post("/heartbeat", include_in_schema=False)
@allows("label")
def heartbeat(request: Request, project: str) -> Response:
    """Still here: keep my leases."""
    store, who = here(request)
    with store.write() as tx:
        until = queue.extend(tx, project, who)
    return JSONResponse({"until": until.isoformat() if until else None})


@router.get("/recent/{place}", include_in_schema=False)
@allows("label")
def recent(request: Request, project: str, place: int) -> Response:
    """The answer given ``place`` answers ago, to be changed; 0 is the last."""
    store, who = here(request)
    with store.read() as tx:
        answered = queue.recent(tx, project, who)
    if not 0 <= place < len(answered):
        raise MissingError(f"there are {len(answered)} answers to go back through")
    return again(request, project, answered[place])


@router.get("/tasks/{task}", include_in_schema=False)
@allows("label")
def again(request: Request, project: str, task: str) -> Response:
    """A task that was given to this annotator before."""
    store, who = here(request)
    with store.read() as tx:
        settings = projects.get(tx, project)
        (one,) = items_of(tx, request, settings, [queue.get(tx, project, who, task)])
        guideline, progress = projects.guideline(tx, project), queue.progress(tx, project, who)
    if "application/json" in request.headers.get("accept", ""):
        return JSONResponse(one)
    return page(
        request,
        "label.html",
        project=settings,
        item=one["html"],
        guideline=guideline,
        progress=progress,
    )


def here(request: Request) -> tuple[Store, str]:
    """The store, and the id of who asks."""
    store: Store = request.app.state.store
    return store, visitor_of(request).user.id


def next_items(
    tx: Transaction,
    request: Request,
    project: str,
    who: str,
    count: int,
    have: Collection[str] = (),
) -> dict[str, JSON]:
    """Items to show next, without those that the browser has; or why there is none."""
    settings = projects.get(tx, project)
    found = queue.lease(tx, project, who, count=count, rng=request.app.state.rng)
    progress = queue.progress(tx, project, who)
    state: dict[str, JSON] = {
        "done": progress.num_done,
        "slots": progress.num_slots,
        "own": progress.num_own,
    }
    if isinstance(found, Nothing):
        return state | {
            "items": [],
            "nothing": str(nothing(found)),
            "retry_seconds": found.retry_seconds,
        }
    new = [view for view in found if view.task_id not in have]
    return state | {"items": items_of(tx, request, settings, new)}


def nothing(found: Any) -> Markup:
    """The card that says why there is no task."""
    return fragment("nothing.html", text=WORDS[found.reason], retry_seconds=found.retry_seconds)


def items_of(
    tx: Transaction, request: Request, project: Project, views: Sequence[Assignment]
) -> list[dict[str, JSON]]:
    """What a browser gets of each task: its id and its HTML."""
    asked = tasks.get(tx, [view.task_id for view in views])
    return [
        {"task": view.task_id, "html": item(tx, request, project, view, asked[view.task_id])}
        for view in views
    ]


def item(
    tx: Transaction,
    request: Request,
    project: Project,
    view: Assignment,
    asked: AnsweredTask,
) -> Markup:
    """A task as HTML. Who wrote an answer is not in it."""
    visitor = visitor_of(request)
    completions = asked.completions
    given: Mapping[str, JSON] = {}
    if view.state == "submitted":
        said = annotations.latest(tx, [view.task_id], (view.kind,))
        mine = [one for one in said if one.annotator == visitor.user.id]
        given = mine[-1].payload if mine else {}
    return fragment(
        f"forms/{project.form}.html",
        project=project,
        question=FORMS[project.form].question,
        task=view.task_id,
        prompt=render.conversation(hide(asked.task.prompt.messages, project)),
        candidates=[
            candidate(place, completions[one], project, given)
            for place, one in enumerate(view.shown_order)
        ],
        steps=split_steps(hide(completions[view.shown_order[0]].messages, project)),
        flag_names=FLAGS,
        given=given,
        draft=view.draft or {},
        is_change=view.state == "submitted",
        key=new_secret(),
        csrf=visitor.csrf,
    )


def candidate(
    place: int, completion: Completion, project: Project, given: Mapping[str, JSON]
) -> Candidate:
    """A completion as it stands at a place of the page."""
    messages = hide(completion.messages, project)
    ranks = [number for number, ids in enumerate(given.get("ranks", ()), 1) if completion.id in ids]
    return Candidate(
        id=completion.id,
        letter="ABCDEFGHI"[place],
        place=place,
        text=messages[-1].content,
        turns=render.conversation(messages),
        rank=ranks[0] if ranks else None,
        ratings=given.get("ratings", {}).get(completion.id, {}),
        flags=given.get("flags", {}).get(completion.id, {}),
    )


def hide(messages: Sequence[Message], project: Project) -> list[Message]:
    """The messages without phrases that would tell who wrote them."""
    if not project.masked:
        return list(messages)
    return [
        Message(
            role=one.role,
            content=render.masked(one.content, project.masked),
            tool_calls=one.tool_calls,
            tool_call_id=one.tool_call_id,
            name=one.name,
        )
        for one in messages
    ]


def seconds_of(text: str) -> float | None:
    """How long the browser says it took; None when it does not."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        raise DataError(f"seconds is {text!r:.40}; send a number") from None
    if not math.isfinite(seconds) or seconds < 0:
        raise DataError(f"seconds is {seconds}; send a number of 0 or more")
    return min(seconds, MAX_SECONDS)
