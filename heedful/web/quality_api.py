"""The JSON API of the pages on quality, patterns and the leaderboard."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request

from heedful.store.summaries import Kind
from heedful.web.access import allows
from heedful.web.quality import Rate, View, cost, view

router = APIRouter(prefix="/api")
Name = Annotated[str, Path(min_length=1, max_length=200)]


@router.get("/projects/{project}/quality")
@allows("view")
async def get_quality(request: Request, project: Name, rate: Rate = None) -> dict[str, Any]:
    """Progress, pace, agreement, skill, side, cycles, slices and cost at a rate per hour."""
    seen = await view(request, project, "quality")
    found = as_json(seen, "quality")
    progress = {
        "num_slots": seen.progress.num_slots,
        "num_done": seen.progress.num_done,
        "num_leased": seen.progress.num_leased,
    }
    hours = found["data"]["hours"] if found["data"] else None
    return {**found, "progress": progress, "cost": cost(hours, rate)}


@router.get("/projects/{project}/patterns")
@allows("view")
async def get_patterns(request: Request, project: Name) -> dict[str, Any]:
    """What preferred answers have in common, and a small network that learns it."""
    return as_json(await view(request, project, "patterns"), "patterns")


@router.get("/projects/{project}/leaderboard")
@allows("view")
async def get_leaderboard(request: Request, project: Name) -> dict[str, Any]:
    """Rankings of models, one for each choice of style control and vote cap."""
    return as_json(await view(request, project, "leaderboard"), "leaderboard")


def as_json(seen: View, kind: Kind) -> dict[str, Any]:
    """A summary with what it rests on; ``data`` is null before the first one.

    ``state`` is ``fresh``, ``computing`` (ask again for newer figures), ``waiting`` (newer ones
    are made when these are old enough) or ``failed``. Figures are Vega-Lite specs with their rows.
    """
    summary = seen.summary
    state = "computing" if seen.is_computing else "waiting" if seen.is_stale else "fresh"
    return {
        "project": seen.project.dataset,
        "kind": kind,
        "state": "failed" if seen.failure and not seen.is_computing else state,
        "failure": seen.failure,
        "num_answers": summary.num_answers if summary else 0,
        "seconds": summary.seconds if summary else None,
        "computed_at": summary.computed_at.isoformat() if summary and summary.computed_at else None,
        "data": without_pictures(dict(summary.data)) if summary else None,
    }


def without_pictures(value: Any) -> Any:
    """The data without SVG: programs draw the specs."""
    if isinstance(value, dict):
        return {key: without_pictures(one) for key, one in value.items() if key != "svg"}
    return [without_pictures(one) for one in value] if isinstance(value, list) else value
