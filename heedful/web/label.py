"""Labelling: the page, what it fetches ahead, and the answers that come back."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Body, Form, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from heedful.errors import DataError, MissingError
from heedful.store import Transaction, about, desks, disputes, projects, queue, undo
from heedful.store.desks import Desk
from heedful.store.queue import Assignment, Nothing, Progress
from heedful.types import JSON, Project
from heedful.web import nothing as why
from heedful.web import render
from heedful.web.access import allows, store_of, visitor_of
from heedful.web.fields import number, payload_of
from heedful.web.pages import page, wants_page
from heedful.web.shown import Given, given, items_of

router = APIRouter(prefix="/projects/{project}")
Round = Annotated[int | None, Query(ge=0, le=2)]  # of a task; None: the last one
AHEAD = 3  # items that a browser holds: one on screen and two behind it
MAX_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What comes next: items that the browser lacks, the guidelines that it lacks, by version.

    ``progress`` is the project's, for those who may see it, and ``num_disputed`` is how many tasks
    are left to those who may settle them.
    """

    project: Project
    items: Sequence[Given]
    guidelines: Mapping[int, str]
    num_own: int
    progress: Progress | None
    nothing: Nothing | None
    num_disputed: int


@router.get("/label", include_in_schema=False)
@allows("label")
def label(request: Request, project: str) -> Response:
    """The page of the next task; complete without scripts.

    A GET that takes a lease, since without scripts a link has to do. Looking twice takes nothing
    more: what one holds comes first.
    """
    user = visitor_of(request).user
    with store_of(request).write() as tx:
        if about.unasked(projects.get(tx, project), user.attributes):
            return RedirectResponse(f"/projects/{project}/about", status_code=303)
        found = queue.lease(tx, project, user.id, count=1, rng=request.app.state.rng)
    if isinstance(found, Nothing):
        return task_page(request, project, None, nothing=found)
    return task_page(request, project, found[0])


@router.post("/items", include_in_schema=False)
@allows("label")
def ahead(
    request: Request,
    project: str,
    count: Annotated[int, Form(ge=1, le=AHEAD)] = AHEAD,
    have: Annotated[str, Form()] = "",
    guidelines: Annotated[str, Form()] = "",
) -> Response:
    """The items that a browser keeps ready; it says which it ``have`` and which ``guidelines``."""
    with store_of(request).write() as tx:
        known = guidelines.split()
        ready = take(tx, request, project, count, have=have.split(), known=known)
    return JSONResponse(next_items(request, ready))


@router.post("/answers", include_in_schema=False)
@allows("label")
async def answer(request: Request, project: str) -> Response:
    """Store the answer that a page states; goes on to the next, as a page or as JSON."""
    form = await request.form()
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    from fastapi.concurrency import run_in_threadpool

    return await run_in_threadpool(store_answer, request, project, fields)


def store_answer(request: Request, project: str, fields: Mapping[str, str]) -> Response:
    """Store the answer that a page states; goes on to the next."""
    try:
        ready = then_next(
            request,
            project,
            lambda tx: submit(tx, request, project, fields),
            have=fields.get("have", "").split(),
            known=fields.get("guidelines", "").split(),
        )
    except DataError as error:
        if not wants_page(request):
            raise
        return refused_page(request, project, fields, str(error))
    if ready is None:
        return RedirectResponse(f"/projects/{project}/label", status_code=303)
    # an annotation's id and number would tell whether the task measured its annotator
    return JSONResponse({"stored": fields.get("key", "")} | ready)


def submit(tx: Transaction, request: Request, project: str, fields: Mapping[str, str]) -> Desk:
    """Store what the fields of a page state; the desk of who says it."""
    visitor, task = visitor_of(request), fields.get("task", "")
    desk = desks.enter(tx, project, visitor.user.id, task=task)

    def payload(view: Assignment) -> Mapping[str, JSON]:
        return refuse_hidden(payload_of(desk.project.form, fields, view.shown_order))

    queue.submit(
        tx,
        project,
        visitor.user.id,
        task,
        payload,
        key=fields.get("key", ""),
        seconds=seconds_of(fields.get("seconds", "")),
        source=visitor.source,
        round=round_of(fields),
        at=desk,
    )
    return desk


def then_next(
    request: Request,
    project: str,
    stored: Callable[[Transaction], Desk | None],
    *,
    have: Collection[str],
    known: Collection[str],
) -> dict[str, JSON] | None:
    """Store something, then take what comes next, in one transaction; None for a page of its own.

    What fails in the second part cannot undo the first: it is then stored by itself.
    """
    store, is_stored = store_of(request), False
    try:
        with store.write() as tx:
            desk = stored(tx)
            is_stored = True
            if not wants_json(request):
                return None
            ready = take(tx, request, project, AHEAD, have=have, known=known, at=desk)
    except Exception:
        if is_stored:
            with store.write() as tx:
                stored(tx)
        raise
    return next_items(request, ready)


def refused_page(
    request: Request, project: str, fields: Mapping[str, str], message: str
) -> Response:
    """The task again with what was typed and why it was refused; for pages without scripts."""
    who = visitor_of(request).user.id
    with store_of(request).read() as tx:
        view = queue.get(tx, project, who, fields.get("task", ""), round=round_of(fields))
    typed = replace(view, draft=fields)
    return task_page(request, project, typed, problem=message, status=422)


@router.post("/skips", include_in_schema=False)
@allows("label")
def skip(
    request: Request,
    project: str,
    task: Annotated[str, Form()],
    reason: Annotated[str, Form()],
    round: Annotated[int | None, Form(ge=0, le=2)] = None,
    have: Annotated[str, Form()] = "",
    guidelines: Annotated[str, Form()] = "",
) -> Response:
    """Give a task back."""
    who = visitor_of(request).user.id
    ready = then_next(
        request,
        project,
        lambda tx: queue.skip(tx, project, who, task, reason, round=round),
        have=have.split(),
        known=guidelines.split(),
    )
    if ready is None:
        return RedirectResponse(f"/projects/{project}/label", status_code=303)
    return JSONResponse(ready)


@router.put("/drafts/{task}", include_in_schema=False)
@allows("label")
def draft(
    request: Request,
    project: str,
    task: str,
    fields: Annotated[dict[str, str], Body()],
    round: Round = None,
) -> Response:
    """Keep what is not finished."""
    with store_of(request).write() as tx:
        queue.save_draft(tx, project, visitor_of(request).user.id, task, fields, round=round)
    return JSONResponse({"saved": True})


@router.post("/heartbeat", include_in_schema=False)
@allows("label")
def heartbeat(request: Request, project: str) -> Response:
    """Still here: keep my leases."""
    with store_of(request).write() as tx:
        until = queue.extend(tx, project, visitor_of(request).user.id)
    return JSONResponse({"until": until.isoformat() if until else None})


@router.get("/recent/{place}", include_in_schema=False)
@allows("label")
def recent(request: Request, project: str, place: int, guidelines: str = "") -> Response:
    """The answer given ``place`` answers ago, to be changed; 0 is the last."""
    with store_of(request).read() as tx:
        answered = undo.recent(tx, project, visitor_of(request).user.id)
    if not 0 <= place < len(answered):
        raise MissingError(f"there are {len(answered)} answers to go back through")
    task, round = answered[place]
    before = place + 1 if place + 1 < len(answered) else None
    return show_again(request, project, task, guidelines, round, undone=place, undo_to=before)


@router.get("/tasks/{task}", include_in_schema=False)
@allows("label")
def again(
    request: Request, project: str, task: str, guidelines: str = "", round: Round = None
) -> Response:
    """A task that was given to this annotator before."""
    return show_again(request, project, task, guidelines, round)


def show_again(
    request: Request,
    project: str,
    task: str,
    guidelines: str,
    round: int | None,
    *,
    undone: int | None = None,
    undo_to: int | None = 0,
) -> Response:
    """A task that was given before; ``undone`` and ``undo_to`` count answers back from the last."""
    who = visitor_of(request).user.id
    with store_of(request).read() as tx:
        settings = projects.get(tx, project)
        view = queue.get(tx, project, who, task, round=round)
        found = given(tx, who, [view])
        texts = guidelines_of(tx, project, [view], guidelines.split())
    if not wants_json(request):
        return task_page(request, project, view, undone=undone, undo_to=undo_to)
    (one,) = items_of(request, settings, found, undo_to)
    return JSONResponse(one | drawn(texts))


def wants_json(request: Request) -> bool:
    """Is this our script, or a program?"""
    return "application/json" in request.headers.get("accept", "")


def task_page(
    request: Request,
    project: str,
    view: Assignment | None,
    *,
    nothing: Nothing | None = None,
    problem: str = "",
    status: int = 200,
    undone: int | None = None,
    undo_to: int | None = 0,
) -> Response:
    """The labelling page of one task under its guidelines, or of why there is ``nothing``."""
    who = visitor_of(request).user.id
    with store_of(request).read() as tx:
        settings = projects.get(tx, project)
        found = given(tx, who, [view] if view else [])
        guideline = projects.guideline(tx, project, view.guideline if view else None)
        progress = queue.progress(tx, project, who)
        num_disputed = disputes_left(tx, request, project, nothing)
    shown = items_of(request, settings, found, undo_to)[0]["html"] if found else None
    return page(
        request,
        "label.html",
        status=status,
        project=settings,
        item=why.card(nothing, settings, progress.num_own, num_disputed) if nothing else shown,
        guideline=guideline,
        progress=progress,
        problem=problem,
        undone=undone,
    )


def next_items(request: Request, ready: Ready) -> dict[str, JSON]:
    """Items to show next, with the guidelines they were given under; or why there is none."""
    state: dict[str, JSON] = {"own": ready.num_own}
    if ready.progress is not None:
        state |= {"done": ready.progress.num_done, "slots": ready.progress.num_slots}
    if ready.nothing is not None:
        retry = ready.nothing.retry_seconds
        return state | {
            "items": [],
            "nothing": str(
                why.card(ready.nothing, ready.project, ready.num_own, ready.num_disputed)
            ),
            "retry_seconds": retry,
        }
    items = {"items": items_of(request, ready.project, ready.items)}
    return state | items | drawn(ready.guidelines)


def take(
    tx: Transaction,
    request: Request,
    project: str,
    count: int,
    *,
    have: Collection[str],
    known: Collection[str],
    at: Desk | None = None,
) -> Ready:
    """Lease what comes next, and read what it takes to draw what the browser does not have."""
    visitor = visitor_of(request)
    who = visitor.user.id
    desk = at or desks.enter(tx, project, who)
    found = queue.lease(tx, project, who, count=count, rng=request.app.state.rng, at=desk)
    held = [] if isinstance(found, Nothing) else found
    new = [view for view in held if f"{view.task_id}:{view.round}" not in have]
    nothing = found if isinstance(found, Nothing) else None
    return Ready(
        project=desk.project,
        items=given(tx, who, new),
        guidelines=guidelines_of(tx, project, new, known),
        num_own=desk.own.num_answered,
        # the project's count stands still on what measures people
        progress=queue.progress(tx, project, who) if visitor.may("view") else None,
        nothing=nothing,
        num_disputed=disputes_left(tx, request, project, nothing),
    )


def disputes_left(tx: Transaction, request: Request, project: str, nothing: Nothing | None) -> int:
    """How many tasks wait to be settled by somebody who may and has nothing else to do."""
    if nothing is None or not visitor_of(request).may("review"):
        return 0
    return disputes.count(tx, project)


def guidelines_of(
    tx: Transaction, project: str, views: Sequence[Assignment], known: Collection[str]
) -> dict[int, str]:
    """The guidelines that tasks were given under by version, without the known ones."""
    versions = {view.guideline for view in views if str(view.guideline) not in known}
    return {one: projects.guideline(tx, project, one).text for one in sorted(versions)}


def drawn(guidelines: Mapping[int, str]) -> dict[str, JSON]:
    """Guidelines as HTML by version."""
    return {"guidelines": {str(one): render.markdown(text) for one, text in guidelines.items()}}


def refuse_hidden(payload: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """Refuse a written answer in which a hidden phrase stands: a model would learn the mark."""
    if render.HIDDEN in str(payload.get("written", "")):
        raise DataError(
            f"the written answer contains {render.HIDDEN}, which stands for a hidden phrase; "
            "write what should stand there, or leave it out"
        )
    return payload


def round_of(fields: Mapping[str, str]) -> int | None:
    """The round of a task that a page showed; None from a page that does not say."""
    return number(fields, "round") if fields.get("round") else None


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
