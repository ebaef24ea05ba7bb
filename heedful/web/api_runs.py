"""The JSON API's part about runs and models."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from heedful.store import models, run_files, runs
from heedful.web.access import allows, store_of
from heedful.web.api import Name
from heedful.web.chain import of_run
from heedful.web.models import compared, model_view
from heedful.web.run_view import run_view, samples_of
from heedful.web.runs import file

router = APIRouter(prefix="/api")
Limit = Annotated[int, Query(ge=1, le=200)]
Before = Annotated[str | None, Query(max_length=100)]
MAX_ROWS = 10_000


@router.get("/runs")
@allows("view")
def list_runs(request: Request, limit: Limit = 50, before: Before = None) -> list[dict[str, Any]]:
    """Runs, newest first; ``before`` is the id that the last page ended at."""
    store = store_of(request)
    with store.read() as tx:
        found = runs.newest(tx, limit=limit, before=before)
    return [run_view(row).to_json() for row in found]


@router.get("/runs/{run}")
@allows("view")
def get_run(request: Request, run: Name) -> dict[str, Any]:
    """A run with its settings, its lineage, and the models that it made."""
    store = store_of(request)
    with store.read() as tx:
        row = runs.find(tx, run)
        made = [models.find(tx, one) for one in runs.models_of(tx, run)]
        links = [link.to_json() for link in of_run(tx, row, made)]
    return run_view(row).to_json() | {
        "config": dict(row.run.config),
        "models": [one.id for one in made],
        "lineage": links,
    }


@router.get("/runs/{run}/metrics")
@allows("view")
def get_metrics(
    request: Request, run: Name, first: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0
) -> dict[str, Any]:
    """Metrics by step, from step ``first`` on, at most 10 000 rows; ``next`` goes on."""
    store = store_of(request)
    with store.read() as tx:
        path = Path(runs.find(tx, run).run.path)
    rows = [row for row in run_files.read_metrics(path) if row["step"] >= first]
    return {
        "rows": rows[:MAX_ROWS],
        "next": rows[MAX_ROWS]["step"] if len(rows) > MAX_ROWS else None,
    }


@router.get("/runs/{run}/samples")
@allows("view")
def get_samples(
    request: Request, run: Name, rollout: Annotated[int | None, Query(ge=0, le=10**6)] = None
) -> dict[str, Any]:
    """Answers of a rollout, by default the newest, or of an evaluation."""
    store = store_of(request)
    with store.read() as tx:
        path = Path(runs.find(tx, run).run.path)
    samples, rollouts = samples_of(path, rollout)
    return {"samples": [asdict(one) for one in samples], "rollouts": rollouts}


@router.get("/runs/{run}/files/{name}", response_class=Response)
@allows("view")
def get_file(request: Request, run: Name, name: Name) -> Response:
    """A file of a run as it is: ``config.json``, ``metrics.jsonl``, ``result.json``, the report."""
    return file(request, run, name)


@router.get("/models")
@allows("view")
def list_models(request: Request, limit: Limit = 50, before: Before = None) -> list[dict[str, Any]]:
    """Registered models, newest first; ``before`` is the id that the last page ended at."""
    store = store_of(request)
    with store.read() as tx:
        found = models.newest(tx, limit=limit, before=before)
        return [model_view(tx, one).to_json() for one in found]


@router.get("/models/compare")
@allows("view")
def compare_models(
    request: Request,
    a: Annotated[str, Query(max_length=100)],
    b: Annotated[str, Query(max_length=100)],
) -> dict[str, Any]:
    """Two models by their ids: what was measured of both, settings that differ, some answers."""
    with store_of(request).read() as tx:
        return compared(tx, a, b).to_json()


@router.get("/models/{model}")
@allows("view")
def get_model(request: Request, model: Name) -> dict[str, Any]:
    """A model by id, unique start of an id, alias or name."""
    store = store_of(request)
    with store.read() as tx:
        return model_view(tx, models.find(tx, model)).to_json()
