"""Pages for the team: quality, patterns and the leaderboard, from summaries that are kept.

A page never computes: it shows the newest summary, says what that rests on, and asks the process
beside the server for a newer one when answers have come. Small projects wait for it a moment.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from markupsafe import Markup

from heedful.forms import FORMS
from heedful.monitor import charts
from heedful.store import Store, projects, queue, summaries
from heedful.store.queue import Progress
from heedful.store.summaries import Kind, Summary
from heedful.types import Project
from heedful.web.access import allows, store_of, visitor_of
from heedful.web.computing import Computing, Job
from heedful.web.pages import ENVIRONMENT, page

router = APIRouter()
SMALL = 3000  # answers: a project whose page waits for new figures
PATIENCE = 1.5  # seconds that it waits
LARGE_EVERY = timedelta(minutes=1)
ANYWAY_EVERY = timedelta(hours=1)  # changed answers fill no slot
TIMES_ITS_COST = 20  # a summary that took long is not made all the time
MAX_PEOPLE = 200  # rows of the table on the page; the JSON API has all
Rate = Annotated[float | None, Query(ge=0, le=1_000_000, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a page shows. ``summary`` is None before the first one is there."""

    project: Project
    progress: Progress
    summary: Summary | None
    is_small: bool
    is_stale: bool
    is_computing: bool = False
    failure: str | None = None


async def view(request: Request, project: str, kind: Kind) -> View:
    """The newest summary of a project, and whether a newer one is on its way."""
    store = store_of(request)
    computing: Computing = request.app.state.computing
    who, job = visitor_of(request).user.id, Job(project, kind)
    seen = await run_in_threadpool(look, store, job, who)
    if not seen.is_stale:
        return seen
    await run_in_threadpool(computing.ask, job)
    if seen.is_small:
        until = time.monotonic() + PATIENCE
        while computing.is_waiting(job) and time.monotonic() < until:
            await asyncio.sleep(0.02)
        seen = await run_in_threadpool(look, store, job, who)
    return View(
        project=seen.project,
        progress=seen.progress,
        summary=seen.summary,
        is_small=seen.is_small,
        is_stale=seen.is_stale,
        is_computing=computing.is_waiting(job),
        failure=computing.failure(job),
    )


def look(store: Store, job: Job, who: str) -> View:
    """What is kept, and whether answers have come since."""
    with store.read() as tx:
        project = projects.get(tx, job.project)
        progress = queue.progress(tx, job.project, who)
        summary = summaries.get(tx, job.project, job.kind)
        num = summaries.count_answers(tx, job.project, up_to=SMALL + 1)
        return View(
            project=project,
            progress=progress,
            summary=summary,
            is_small=num <= SMALL,
            is_stale=is_stale(summary, num, progress.num_done, tx.now),
        )


def is_stale(summary: Summary | None, num_answers: int, num_done: int, now: Any) -> bool:
    """Is a newer summary wanted? ``num_answers`` is exact up to ``SMALL``."""
    if summary is None:
        return True
    if num_answers <= SMALL:
        return summary.num_answers != num_answers
    assert summary.computed_at is not None
    age = now - summary.computed_at
    if age < max(LARGE_EVERY, TIMES_ITS_COST * timedelta(seconds=summary.seconds)):
        return False
    return summary.num_done != num_done or age > ANYWAY_EVERY


@router.get("/projects/{project}/quality", include_in_schema=False)
@allows("view")
async def quality(request: Request, project: str, rate: Rate = None) -> Response:
    """How good the feedback is."""
    seen = await view(request, project, "quality")
    hours = seen.summary.data["hours"] if seen.summary else None
    return show(request, seen, "quality", rate=rate, cost=cost(hours, rate), max_people=MAX_PEOPLE)


@router.get("/projects/{project}/patterns", include_in_schema=False)
@allows("view")
async def patterns(request: Request, project: str) -> Response:
    """What preferred answers have in common."""
    return show(request, await view(request, project, "patterns"), "patterns")


@router.get("/projects/{project}/leaderboard", include_in_schema=False)
@allows("view")
async def leaderboard(
    request: Request,
    project: str,
    style: bool = False,
    cap: Annotated[str, Query(pattern=r"^\d{0,9}$")] = "",
) -> Response:
    """Models by what people prefer."""
    seen = await view(request, project, "leaderboard")
    wanted = int(cap) if cap else None
    rankings = seen.summary.data["rankings"] if seen.summary else []
    found = [one for one in rankings if one["style"] == style and one["cap"] == wanted]
    return show(
        request, seen, "leaderboard", style=style, cap=wanted, ranking=found[0] if found else None
    )


def show(request: Request, seen: View, kind: Kind, **values: Any) -> Response:
    """A page of a kind."""
    data = seen.summary.data if seen.summary else None
    figures = {one["name"]: one for one in (data or {}).get("figures", ())}
    return page(
        request, f"{kind}.html", seen=seen, kind=kind, data=data, figures=figures,
        project=seen.project, gives_preferences=FORMS[seen.project.form].gives_points, **values,
    )  # fmt: skip


def cost(hours: dict[str, float | None] | None, rate: float | None) -> dict[str, Any] | None:
    """Hours times the rate, with bounds; None without either."""
    if hours is None or rate is None:
        return None
    return {
        key: None if hours[key] is None else rate * hours[key]  # type: ignore[operator]
        for key in ("value", "low", "high")
    }


def percent(value: float | None, digits: int = 0) -> str:
    """A share for reading; a dash for what is unknown."""
    return "\N{EN DASH}" if value is None else charts.percent(value, digits)


def number(value: float | None, digits: int = 1) -> str:
    """A number for reading, with a true minus; a dash for what is unknown."""
    return "\N{EN DASH}" if value is None else charts.fixed(value, digits)


def drawn(svg: str) -> Markup:
    """A chart that our own worker drew; names in it were escaped there."""
    return Markup(svg)  # noqa: S704 - made by figures.figure, never by people


ENVIRONMENT.filters |= {"percent": percent, "number": number, "drawn": drawn}
