"""The JSON API: everything that the pages do, for programs. Described at ``/api/openapi.json``.

Send an API key as ``Authorization: Bearer hk_...``. Errors have one shape:
``{"error": {"code": ..., "message": ...}}``. An answer carries a key of the caller's making;
sending it again stores nothing new.
"""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from heedful.errors import DataError
from heedful.forms import FORMS
from heedful.store import Transaction, completions, extras, people, projects, queue, undo
from heedful.store import tasks as task_store
from heedful.store.queue import Nothing
from heedful.types import (
    JSON,
    Completion,
    Message,
    Project,
    Prompt,
    Role,
    Task,
    messages_json,
)
from heedful.web.access import Visitor, allows, store_of, visitor_of
from heedful.web.fields import with_completions
from heedful.web.label import AHEAD, Round, refuse_hidden
from heedful.web.nothing import in_words
from heedful.web.shown import Given, given, hide

router = APIRouter(prefix="/api")
Name = Annotated[str, Path(min_length=1, max_length=200)]
MAX_INT = 2**31 - 1  # of an INTEGER on every database
IMPORTED = "import:"
FOR_ANNOTATORS = ("dataset", "title", "form", "criteria", "warning", "is_paused")


class Strict(BaseModel):
    """Strict about names."""

    model_config = ConfigDict(extra="forbid")


class MessageBody(Strict):
    """One turn of a conversation; ``tool_calls`` are JSON texts."""

    role: Role
    content: str = Field(max_length=200_000)
    tool_calls: list[str] = []
    tool_call_id: str = ""
    name: str = ""

    def record(self) -> Message:
        """The turn as a record."""
        return Message(
            role=self.role,
            content=self.content,
            tool_calls=tuple(self.tool_calls),
            tool_call_id=self.tool_call_id,
            name=self.name,
        )


class CandidateBody(Strict):
    """An answer to be judged, and under which name its author is kept."""

    messages: Annotated[list[MessageBody], Field(min_length=1)]
    origin: str = Field("api", min_length=1, max_length=200)


class TaskBody(Strict):
    """A question about candidates; more urgent ones come first."""

    prompt: Annotated[list[MessageBody], Field(min_length=1)]
    candidates: Annotated[list[CandidateBody], Field(min_length=1, max_length=9)]
    priority: float = Field(0.0, allow_inf_nan=False)
    known: dict[str, Any] | None = Field(
        None, description="The answer that is right beyond doubt, about candidates '0', '1', ..."
    )


class ProjectBody(Strict):
    """A new project."""

    dataset: str = Field(pattern=projects.NAME)
    title: str = Field(min_length=1, max_length=200)
    form: Annotated[str, WithJsonSchema({"type": "string", "enum": list(FORMS)})]
    overlap: int = Field(1, ge=1, le=projects.MAX_OVERLAP)
    lease_seconds: int = Field(600, ge=projects.MIN_LEASE_SECONDS, le=86_400)
    is_paused: bool = False
    warning: str = Field("", max_length=1000)
    criteria: list[str] = []
    attributes: list[str] = []
    masked: list[str] = []
    gold_share: float = Field(0.05, ge=0, le=projects.MAX_GOLD_SHARE)
    repeat_share: float = Field(0.04, ge=0, le=projects.MAX_REPEAT_SHARE)
    strategy: projects.Strategy = "random"
    random_share: float = Field(0.2, ge=projects.MIN_RANDOM_SHARE, le=1)
    qualify_with: int = Field(0, ge=0, le=projects.MAX_QUALIFY)
    qualify_at: float = Field(0.8, ge=projects.MIN_QUALIFY_AT, le=1)

    def record(self) -> Project:
        """The project as a record."""
        values = self.model_dump()
        lists = ("criteria", "attributes", "masked")
        return Project(**values | {name: tuple(values[name]) for name in lists})


class AnswerBody(Strict):
    """An answer in the shape of the project's form; ``key`` makes sending it twice harmless.

    ``round`` is that of the item, by default the one given last.
    """

    task: str = Field(max_length=100)
    round: int | None = Field(None, ge=0, le=2)
    payload: dict[str, Any]
    key: str = Field(min_length=1, max_length=queue.MAX_KEY)
    seconds: float | None = Field(None, ge=0, le=86_400, allow_inf_nan=False)


class SkipBody(Strict):
    """Why a task goes back."""

    task: str = Field(max_length=100)
    round: int | None = Field(None, ge=0, le=2)
    reason: str = Field(min_length=1, max_length=500)


@router.get("/openapi.json", include_in_schema=False)
@allows("enter")
def description(request: Request) -> dict[str, Any]:
    """This API as OpenAPI."""
    described: dict[str, Any] = request.app.openapi()
    return described


@router.get("/projects")
@allows("enter")
def list_projects(request: Request) -> list[dict[str, Any]]:
    """All projects with their progress; less of both for who only answers."""
    visitor = visitor_of(request)
    with store_of(request).read() as tx:
        return [project_json(tx, one, visitor) for one in projects.list_all(tx)]


@router.post("/projects", status_code=201)
@allows("manage")
def make_project(request: Request, body: ProjectBody) -> dict[str, Any]:
    """Make a project; its data set has the same name."""
    visitor = visitor_of(request)
    with store_of(request).write() as tx:
        projects.add(tx, body.record())
        people.log(tx, visitor.user.id, "made project", body.dataset)
        return project_json(tx, body.record(), visitor)


@router.get("/projects/{project}")
@allows("enter")
def get_project(request: Request, project: Name) -> dict[str, Any]:
    """One project with its progress; less of both for who only answers."""
    with store_of(request).read() as tx:
        return project_json(tx, projects.get(tx, project), visitor_of(request))


@router.put("/projects/{project}")
@allows("manage")
def change_project(request: Request, project: Name, body: ProjectBody) -> dict[str, Any]:
    """Save all settings of a project; its form and name stay."""
    visitor = visitor_of(request)
    if body.dataset != project:
        raise DataError(f"dataset is {body.dataset!r}; it names the project and stays {project!r}")
    with store_of(request).write() as tx:
        projects.change(tx, body.record())
        people.log(tx, visitor.user.id, "changed project", project)
        return project_json(tx, body.record(), visitor)


@router.get("/projects/{project}/guidelines")
@allows("enter")
def get_guidelines(
    request: Request, project: Name, version: Annotated[int | None, Query(ge=0, le=MAX_INT)] = None
) -> dict[str, Any]:
    """The guidelines, by default the newest version."""
    with store_of(request).read() as tx:
        projects.get(tx, project)
        found = projects.guideline(tx, project, version)
    return {"version": found.version, "text": found.text}


@router.put("/projects/{project}/guidelines")
@allows("manage")
def write_guidelines(
    request: Request,
    project: Name,
    text: Annotated[str, Body(embed=True, max_length=100_000)],
) -> dict[str, Any]:
    """A new version of the guidelines; the same text makes none."""
    user = visitor_of(request).user
    with store_of(request).write() as tx:
        version = projects.write_guideline(tx, project, text, author=user.id)
        people.log(tx, user.id, "wrote guidelines", project, {"version": version})
    return {"version": version, "text": text}


@router.post("/projects/{project}/tasks", status_code=201)
@allows("manage")
def add_tasks(
    request: Request,
    project: Name,
    tasks: Annotated[list[TaskBody], Body(embed=True, min_length=1, max_length=1000)],
) -> dict[str, Any]:
    """Queue tasks whose candidates are ready; adding the same again adds nothing.

    A task with ``known`` is one of the project's known answers; another one that is known already
    stays, and the whole request is refused.
    """
    user = visitor_of(request).user
    with store_of(request).write() as tx:
        settings = projects.get(tx, project)
        made = [make_task(tx, settings.form, one) for one in tasks]
        num_new = projects.add_tasks(tx, project, made)
        pairs = zip(made, tasks, strict=True)
        known = {
            task.id: known_of(tx, task, body.known)
            for task, body in pairs
            if body.known is not None
        }
        added = extras.add_golds(tx, settings, known, who=user.id)
        if added.contradicted:
            raise DataError(
                f"task {added.contradicted[0]!r} has another known answer; change it with "
                f"PUT /api/projects/{project}/tasks/TASK/gold"
            )
        people.log(tx, user.id, "added tasks", project, {"sent": len(made), "new": num_new})
    return {"added": num_new, "known": added.num_new, "tasks": [task.id for task in made]}


@router.post("/projects/{project}/lease")
@allows("label")
def lease(
    request: Request,
    project: Name,
    count: Annotated[int, Body(embed=True, ge=1, le=AHEAD)] = 1,
) -> dict[str, Any]:
    """Take the next tasks, or learn why there is none. Held ones come first and are renewed."""
    user = visitor_of(request).user
    with store_of(request).write() as tx:
        settings = projects.get(tx, project)
        found = queue.lease(tx, project, user.id, count=count, rng=request.app.state.rng)
        if isinstance(found, Nothing):
            return {"items": [], "nothing": asdict(found) | {"message": in_words(found)}}
        items = given(tx, user.id, found)
    return {"items": [item_json(settings, one) for one in items], "nothing": None}


@router.post("/projects/{project}/heartbeat")
@allows("label")
def heartbeat(request: Request, project: Name) -> dict[str, Any]:
    """Renew the leases that one holds."""
    user = visitor_of(request).user
    with store_of(request).write() as tx:
        return {"until": as_text(queue.extend(tx, project, user.id))}


@router.post("/projects/{project}/answers", status_code=201)
@allows("label")
def answer(request: Request, project: Name, body: AnswerBody) -> dict[str, Any]:
    """Store an answer, or a new revision of one's own. Candidates are named by their places."""
    visitor = visitor_of(request)
    refuse_hidden(body.payload)
    with store_of(request).write() as tx:
        receipt = queue.submit(
            tx,
            project,
            visitor.user.id,
            body.task,
            lambda view: with_completions(body.payload, view.shown_order),
            key=body.key,
            seconds=body.seconds,
            source=visitor.source,
            round=body.round,
        )
    # an annotation's id and number would tell whether the task measured its annotator
    return {"key": body.key} | (asdict(receipt) if visitor.may("view") else {})


@router.post("/projects/{project}/skips", status_code=201)
@allows("label")
def skip(request: Request, project: Name, body: SkipBody) -> dict[str, Any]:
    """Give a task back for good."""
    user = visitor_of(request).user
    with store_of(request).write() as tx:
        queue.skip(tx, project, user.id, body.task, body.reason, round=body.round)
    return {"skipped": body.task}


@router.get("/projects/{project}/recent")
@allows("label")
def recent(request: Request, project: Name) -> dict[str, Any]:
    """The tasks that one answered last, newest first, each with its round."""
    user = visitor_of(request).user
    with store_of(request).read() as tx:
        projects.get(tx, project)
        found = undo.recent(tx, project, user.id)
    return {"items": [{"task": task, "round": round} for task, round in found]}


@router.get("/projects/{project}/tasks/{task}")
@allows("label")
def get_task(request: Request, project: Name, task: Name, round: Round = None) -> dict[str, Any]:
    """A task that one was given before, by default as it was given last."""
    user = visitor_of(request).user
    with store_of(request).read() as tx:
        settings = projects.get(tx, project)
        view = queue.get(tx, project, user.id, task, round=round)
        (found,) = given(tx, user.id, [view])
    return item_json(settings, found)


@router.put("/projects/{project}/tasks/{task}/draft")
@allows("label")
def save_draft(
    request: Request,
    project: Name,
    task: Name,
    draft: Annotated[dict[str, Any], Body(embed=True)],
    round: Round = None,
) -> dict[str, Any]:
    """Keep an unfinished answer."""
    user = visitor_of(request).user
    with store_of(request).write() as tx:
        queue.save_draft(tx, project, user.id, task, draft, round=round)
    return {"saved": task}


def project_json(tx: Transaction, project: Project, visitor: Visitor) -> dict[str, Any]:
    """A project and how far it is, without what would tell annotators which tasks measure them."""
    told, progress = asdict(project), asdict(queue.progress(tx, project.dataset, visitor.user.id))
    if not visitor.may("manage"):
        told = {name: told[name] for name in FOR_ANNOTATORS}
    if not visitor.may("view"):
        progress = {"num_own": progress["num_own"]}
    return told | {"progress": progress}


def item_json(project: Project, found: Given) -> dict[str, Any]:
    """A task as its annotator sees it: candidates in their order, without their authors.

    A candidate's ``id`` is its place, which an answer names; a completion's own id is a hash in
    which the author's name could be guessed.
    """
    view, asked = found.view, found.asked
    return {
        "task": view.task_id,
        "round": view.round,
        "form": asked.task.form,
        "prompt": shown(asked.task.prompt.messages, project),
        "candidates": [
            {"id": str(place), "messages": shown(asked.completions[one].messages, project)}
            for place, one in enumerate(view.shown_order)
        ],
        "guideline": view.guideline,
        "state": view.state,
        "draft": view.draft,
        "until": as_text(view.until),
    }


def shown(messages: tuple[Message, ...], project: Project) -> list[dict[str, JSON]]:
    """Messages with hidden phrases."""
    return messages_json(tuple(hide(messages, project)))


def make_task(tx: Transaction, form: str, body: TaskBody) -> Task:
    """A task of the API, with its candidates in the store."""
    prompt = Prompt(messages=tuple(one.record() for one in body.prompt))
    candidates = [
        Completion(
            prompt=prompt,
            messages=tuple(one.record() for one in candidate.messages),
            model=f"{IMPORTED}{candidate.origin}",
        )
        for candidate in body.candidates
    ]
    completions.add(tx, candidates)
    return Task(
        form=form,
        prompt=prompt,
        completion_ids=tuple(one.id for one in candidates),
        priority=body.priority,
        reason="api",
    )


def known_of(tx: Transaction, task: Task, payload: dict[str, Any]) -> dict[str, JSON]:
    """A known answer about the candidates' places as one about their ids; raises ``DataError``."""
    names = {str(place): one for place, one in enumerate(task.completion_ids)}
    known = FORMS[task.form].renamed(payload, names)
    extras.check_gold(task, task_store.get(tx, [task.id])[task.id].completions, known)
    return known


def as_text(time: datetime | None) -> str | None:
    """A time in ISO 8601."""
    return time.isoformat() if time else None
