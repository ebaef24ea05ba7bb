"""Jobs: asking for a fit, an evaluation or samples, and what became of them. Pages and API."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field

from heedful.errors import ConfigError, DataError
from heedful.store import Transaction, jobs, people, runs
from heedful.store.jobs import Job
from heedful.types import JSON
from heedful.web.access import allows, new_secret, store_of, visitor_of
from heedful.web.api import Name, Strict
from heedful.web.job_specs import KINDS, form_of, kind_of, spec_of
from heedful.web.pages import page, wants_page
from heedful.web.run_view import duration, when

router = APIRouter()
api = APIRouter(prefix="/api/jobs")
PAGE = 50


class JobBody(Strict):
    """A new job; ``key`` makes sending it twice harmless."""

    kind: str = Field(max_length=40)
    spec: dict[str, str | int | float] = Field(default_factory=dict)
    key: str = Field(min_length=1, max_length=100)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job with its words: ``subject`` is what it is about, ``run`` its run once it has one."""

    job: Job
    title: str
    subject: str
    run: str | None
    seconds: float | None


@router.get("/jobs", include_in_schema=False)
@allows("view")
def all_jobs(request: Request, before: str | None = None) -> Response:
    """Jobs, newest first."""
    store = store_of(request)
    with store.read() as tx:
        found = jobs.newest(tx, limit=PAGE + 1, kinds=KINDS, before=before)
        views = [job_view(tx, one) for one in found[:PAGE]]
        names = {user.id: user.name for user in people.list_all(tx)}
        lacks = jobs.lacks_worker(tx)
    return page(
        request,
        "jobs.html",
        jobs=views,
        names=names,
        kinds=KINDS,
        lacks_worker=lacks,
        more=views[-1].job.id if len(found) > PAGE else None,
        duration=duration,
        when=when,
    )


@router.get("/jobs/new", include_in_schema=False)
@allows("manage")
def new(request: Request, kind: Annotated[str, Query(max_length=40)]) -> Response:
    """The form of a job; the address may carry values to begin with."""
    return new_page(request, kind, dict(request.query_params))


def new_page(request: Request, kind: str, typed: Mapping[str, str], *, error: str = "") -> Response:
    """The form of a job with values to begin with, or as it was ``typed`` and refused."""
    store = store_of(request)
    with store.read() as tx:
        fields = form_of(tx, kind, typed)
    return page(
        request,
        "job_new.html",
        status=422 if error else 200,
        kind=kind,
        words=kind_of(kind),
        fields=fields,
        key=new_secret(),
        error=error,
    )


@router.post("/jobs/new", include_in_schema=False)
@allows("manage")
async def ask(request: Request) -> Response:
    """Queue a job from its form."""
    from fastapi.concurrency import run_in_threadpool

    form = await request.form()
    given = {name: value for name, value in form.items() if isinstance(value, str)}
    given.pop("csrf", None)
    kind, key = given.pop("kind", ""), given.pop("key", "") or new_secret()
    return await run_in_threadpool(queue_or_show, request, kind, given, key)


def queue_or_show(request: Request, kind: str, given: dict[str, Any], key: str) -> Response:
    """To the list of jobs, or back to the form with what it lacks."""
    kind_of(kind)
    try:
        queue_job(request, kind, given, key)
    except (DataError, ConfigError) as error:
        if not wants_page(request):
            raise
        return new_page(request, kind, given, error=str(error))
    return RedirectResponse("/jobs", status_code=303)


@router.post("/jobs/{job}/cancel", include_in_schema=False)
@allows("manage")
def cancel(request: Request, job: str) -> Response:
    """Take a job back, or stop it."""
    stop(request, job)
    return RedirectResponse("/jobs", status_code=303)


@api.get("")
@allows("view")
def list_jobs(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[str | None, Query(max_length=100)] = None,
) -> list[dict[str, Any]]:
    """Jobs, newest first; ``before`` is the id that the last page ended at."""
    store = store_of(request)
    with store.read() as tx:
        return [
            job_json(tx, one) for one in jobs.newest(tx, limit=limit, kinds=KINDS, before=before)
        ]


@api.post("", status_code=201)
@allows("manage")
def add_job(request: Request, body: JobBody) -> dict[str, Any]:
    """Queue a fit_reward, fit_ppo, evaluate or sample; it may name only what the store has."""
    job_id = queue_job(request, body.kind, body.spec, body.key)
    return get_job(request, job_id)


@api.get("/{job}")
@allows("view")
def get_job(request: Request, job: Name) -> dict[str, Any]:
    """One job."""
    store = store_of(request)
    with store.read() as tx:
        return job_json(tx, jobs.get(tx, job))


@api.post("/{job}/cancel")
@allows("manage")
def cancel_job(request: Request, job: Name) -> dict[str, Any]:
    """Take a waiting job back, or ask for a running one to stop."""
    stop(request, job)
    return get_job(request, job)


def queue_job(request: Request, kind: str, given: dict[str, Any], key: str) -> str:
    """Check and queue; returns the id."""
    store = store_of(request)
    who = visitor_of(request).user.id
    with store.write() as tx:
        job_id = jobs.add(tx, kind, spec_of(tx, kind, given), who=who, key=key)
        people.log(tx, who, "queued job", job_id, {"kind": kind})
    return job_id


def stop(request: Request, job: str) -> None:
    """Cancel, with a line in the log."""
    store = store_of(request)
    with store.write() as tx:
        jobs.cancel(tx, job)
        people.log(tx, visitor_of(request).user.id, "cancelled job", job)


def job_view(tx: Transaction, job: Job) -> JobView:
    """A job for the page."""
    out = str(job.progress.get("out", ""))
    config = job.spec.get("config", job.spec)
    subject = " on ".join(
        str(config[key]) for key in ("model", "data", "prompts") if config.get(key)
    )
    end = job.finished_at or datetime.now(UTC)
    began = job.started_at
    return JobView(
        job=job,
        title=KINDS[job.kind].title if job.kind in KINDS else job.kind,
        subject=subject,
        run=runs.at_path(tx, out) if out else None,
        seconds=(end - began).total_seconds() if began and job.state != "waiting" else None,
    )


def job_json(tx: Transaction, job: Job) -> dict[str, JSON]:
    """A job for the API."""
    told = asdict(job)
    for name in ("until", "created_at", "started_at", "finished_at"):
        told[name] = told[name].isoformat() if told[name] else None
    return told | {"run": job_view(tx, job).run}
