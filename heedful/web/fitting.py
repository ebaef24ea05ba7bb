"""From a project to a reward model: what there is to learn from, and the way to a fit."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request

from heedful.store import Transaction, feedback, models, projects
from heedful.store.feedback import Count
from heedful.store.models import Registered
from heedful.web.access import allows, store_of
from heedful.web.api import Name
from heedful.web.chain import called

router = APIRouter()
ENOUGH = 10  # judgements: with fewer, the held-out share is a prompt or two and says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """What a project's page says about reward models. ``href`` is the form of a fit."""

    count: Count
    is_enough: bool
    href: str
    newest: Registered | None
    name: str


def fitting(tx: Transaction, project: str) -> Fitting:
    """What there is to learn from in a project, and its newest reward model."""
    count = feedback.count(tx, project)
    newest = models.newest_reward(tx, project)
    values = {"kind": "fit_reward", "data": project, "name": job_name(project)}
    return Fitting(
        count=count,
        is_enough=count.num >= ENOUGH,
        href=f"/jobs/new?{urlencode(values)}",
        newest=newest,
        name=called(newest) if newest else "",
    )


def job_name(project: str) -> str:
    """A name for the reward model of a project, as a job takes it."""
    stem = re.sub(r"[^a-z0-9]+", "-", project)[:50].strip("-")
    return f"{stem}-reward" if stem else "reward"


@router.get("/api/projects/{project}/feedback")
@allows("view")
def get_feedback(request: Request, project: Name) -> dict[str, Any]:
    """How many judgements a fit would see, at least if not exact, and the newest reward model."""
    with store_of(request).read() as tx:
        projects.get(tx, project)
        found = fitting(tx, project)
    return {
        "judgements": found.count.num,
        "is_exact": found.count.is_exact,
        "enough": ENOUGH,
        "reward_model": found.newest.id if found.newest else None,
    }
