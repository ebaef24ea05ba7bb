"""Runs: the list, a run's page with live metrics and samples, and the files that it may show."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from markupsafe import Markup

from heedful.monitor import alarms
from heedful.monitor.records import Block
from heedful.monitor.run_report import curves, flat, short_names
from heedful.store import jobs, models, run_files, runs
from heedful.store.run_files import CONFIG, METRICS, REPORT, RESULT
from heedful.web import chain
from heedful.web.access import allows, store_of
from heedful.web.figures import block
from heedful.web.pages import fragment, page
from heedful.web.run_view import (
    RunView,
    drawn,
    duration,
    run_view,
    samples_of,
    watched,
    when,
)

router = APIRouter()
PAGE = 50
REPORT_HEADERS = {
    # a file of ours, yet made of what models wrote: no scripts, no forms, nothing loaded
    "Content-Security-Policy": "sandbox allow-downloads; default-src 'none'; "
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
MEDIA = {
    CONFIG: "application/json",
    RESULT: "application/json",
    METRICS: "application/jsonl",
    REPORT: "text/html; charset=utf-8",
}
WORDS: dict[str, Any] = {"duration": duration, "when": when}


@router.get("/runs", include_in_schema=False)
@allows("view")
def all_runs(request: Request, before: str | None = None) -> Response:
    """Runs, newest first."""
    store = store_of(request)
    with store.read() as tx:
        found = runs.newest(tx, limit=PAGE + 1, before=before)
        lacks = jobs.lacks_worker(tx)
    views = [run_view(row) for row in found[:PAGE]]
    more = views[-1].id if len(found) > PAGE else None
    return page(
        request,
        "runs.html",
        runs=views,
        more=more,
        first=before is None,
        lacks_worker=lacks,
        **WORDS,
    )


@router.get("/runs/{run}", include_in_schema=False)
@allows("view")
def one_run(
    request: Request,
    run: str,
    rollout: Annotated[int | None, Query(ge=0)] = None,
    metrics: str = "",
) -> Response:
    """A run's page; complete without scripts."""
    store = store_of(request)
    with store.read() as tx:
        row = runs.find(tx, run)
        made = [models.find(tx, one) for one in runs.models_of(tx, run)]
        links = chain.of_run(tx, row, made)
    view = run_view(row)
    samples, rollouts = samples_of(Path(view.path), rollout)
    return page(
        request,
        "run.html",
        run=view,
        live=live_part(request, view, everything=metrics == "all"),
        everything=metrics == "all",
        links=links,
        samples=samples,
        rollouts=rollouts,
        rollout=rollout if rollout in rollouts else (rollouts[-1] if rollouts else None),
        settings=flat({k: v for k, v in row.run.config.items() if k != "out"}),
        files=[name for name in run_files.READABLE if (Path(view.path) / name).is_file()],
        **WORDS,
    )


@router.get("/runs/{run}/live", include_in_schema=False)
@allows("view")
def live(
    request: Request,
    run: str,
    have: Annotated[str, Query(max_length=60)] = "",
    metrics: str = "",
) -> Response:
    """The part of a run's page that changes; 204 when a browser has it already."""
    store = store_of(request)
    with store.read() as tx:
        view = run_view(runs.find(tx, run))
    if have == stamp(view):
        return Response(status_code=204)
    html = live_part(request, view, everything=metrics == "all")
    return Response(html, media_type="text/html; charset=utf-8")


@router.get("/runs/{run}/files/{name}", include_in_schema=False)
@allows("view")
def file(request: Request, run: str, name: str) -> Response:
    """A file of a run that is meant to be seen: settings, metrics, result, report."""
    store = store_of(request)
    with store.read() as tx:
        path = Path(runs.find(tx, run).run.path)
    content = run_files.read_file(path, name)
    headers = {"Content-Disposition": f'inline; filename="{name}"'} | REPORT_HEADERS
    return Response(content, media_type=MEDIA[name], headers=headers)


def live_part(request: Request, view: RunView, *, everything: bool) -> Markup:
    """State, headline and curves of a run."""
    draw = partial(curves_of, Path(view.path), everything)
    drawings = request.app.state.drawings
    blocks = drawings.get((view.id, stamp(view), everything), draw) if view.num_done else ""
    return fragment(
        "run_live.html", run=view, stamp=stamp(view), curves=blocks, everything=everything, **WORDS
    )


def stamp(view: RunView) -> str:
    """What changes when there is something new to show."""
    return f"{view.state}-{view.num_done}"


def curves_of(path: Path, everything: bool) -> Markup:
    """The alarms and curves of a run as they are now."""
    rows = run_files.read_metrics(path)
    names = None if everything else watched(rows, run_files.read_plan(path))
    found: list[Block] = list(curves(drawn(rows, names)))
    noticed = [asdict(one) for one in alarms.on_curve(short_names(rows))]
    figures = Markup("").join(block(one, f"m{number}") for number, one in enumerate(found))
    return fragment("curves.html", findings=noticed, figures=figures)
