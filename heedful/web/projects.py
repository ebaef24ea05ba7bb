"""Projects: the first page, making one, its settings and its guidelines."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from heedful.errors import DataError
from heedful.forms import FORMS
from heedful.store import entry, people, projects, queue
from heedful.types import Project, content_id
from heedful.web.access import allows, store_of, visitor_of
from heedful.web.chat_feedback import PROJECTS as OF_CHATS
from heedful.web.fields import CONVERTERS
from heedful.web.fitting import ENOUGH, fitting
from heedful.web.pages import page, wants_page

router = APIRouter()


@router.get("/", include_in_schema=False)
@allows("enter")
def home(request: Request) -> Response:
    """All projects with their progress; those of chats, which ask nobody, for who sees results."""
    store = store_of(request)
    visitor = visitor_of(request)
    with store.read() as tx:
        rows = [
            (one, queue.progress(tx, one.dataset, visitor.user.id))
            for one in projects.list_all(tx)
            if visitor.may("view") or one.dataset not in OF_CHATS
        ]
    return page(request, "home.html", rows=rows)


@router.get("/projects/new", include_in_schema=False)
@allows("manage")
def new(request: Request) -> Response:
    """The form for a new project."""
    return new_page(request, {})


def new_page(request: Request, typed: Mapping[str, str | int], *, error: str = "") -> Response:
    """The form for a new project, empty or as it was ``typed`` and refused."""
    status = 422 if error else 200
    forms = list(CONVERTERS)
    return page(request, "project_new.html", status=status, forms=forms, typed=typed, error=error)


@router.post("/projects/new", include_in_schema=False)
@allows("manage")
def make(
    request: Request,
    title: Annotated[str, Form()],
    form: Annotated[str, Form()],
    overlap: Annotated[int, Form()] = 1,
    warning: Annotated[str, Form()] = "",
    criteria: Annotated[str, Form()] = "",
    guidelines: Annotated[str, Form()] = "",
) -> Response:
    """Make a project; its data set is named after its title."""
    store = store_of(request)
    who = visitor_of(request).user.id
    try:
        project = Project(
            dataset=slug(title),
            title=title.strip(),
            form=form,
            overlap=overlap,
            warning=warning,
            criteria=lines_of(criteria),
        )
        with store.write() as tx:
            if not projects.add(tx, project):
                raise DataError(
                    f"project {project.dataset!r} is there already; choose another name"
                )
            projects.write_guideline(tx, project.dataset, guidelines, author=who)
            people.log(tx, who, "made project", project.dataset)
    except DataError as error:
        if not wants_page(request):
            raise
        typed: dict[str, str | int] = {
            "title": title,
            "form": form,
            "overlap": overlap,
            "warning": warning,
            "criteria": criteria,
            "guidelines": guidelines,
        }
        return new_page(request, typed, error=str(error))
    return RedirectResponse(f"/projects/{project.dataset}", status_code=303)


@router.get("/projects/{project}", include_in_schema=False)
@allows("manage")
def settings(request: Request, project: str, saved: bool = False) -> Response:
    """A project's settings."""
    store = store_of(request)
    with store.read() as tx:
        found = projects.get(tx, project)
    return settings_page(request, found, saved=saved)


def settings_page(
    request: Request,
    project: Project,
    guidelines: str | None = None,
    *,
    saved: bool = False,
    error: str = "",
) -> Response:
    """Settings as they are, or as they and the ``guidelines`` were typed and refused."""
    store = store_of(request)
    who = visitor_of(request).user.id
    with store.read() as tx:
        guideline = projects.guideline(tx, project.dataset)
        if guidelines is not None:
            guideline = replace(guideline, text=guidelines)
        progress = queue.progress(tx, project.dataset, who)
        num_missing = entry.num_missing(tx, project)
        learned = fitting(tx, project.dataset)
    return page(
        request,
        "project.html",
        status=422 if error else 200,
        project=project,
        guideline=guideline,
        progress=progress,
        saved=saved,
        error=error,
        strategies=projects.STRATEGIES,
        num_missing=num_missing,
        learned=learned,
        enough=ENOUGH,
        is_comparable=FORMS[project.form].is_comparable,
    )


@router.post("/projects/{project}", include_in_schema=False)
@allows("manage")
def change(
    request: Request,
    project: str,
    title: Annotated[str, Form()],
    overlap: Annotated[int, Form()],
    warning: Annotated[str, Form()] = "",
    criteria: Annotated[str | None, Form()] = None,
    guidelines: Annotated[str, Form()] = "",
    masked: Annotated[str, Form()] = "",
    attributes: Annotated[str | None, Form()] = None,
    is_paused: Annotated[bool, Form()] = False,
    gold_percent: Annotated[float | None, Form(allow_inf_nan=False)] = None,
    repeat_percent: Annotated[float | None, Form(allow_inf_nan=False)] = None,
    strategy: Annotated[str | None, Form()] = None,
    random_percent: Annotated[float | None, Form(allow_inf_nan=False)] = None,
    qualify_with: Annotated[int | None, Form()] = None,
    qualify_percent: Annotated[float | None, Form(allow_inf_nan=False)] = None,
) -> Response:
    """Save a project's settings, and a version of its guidelines when they changed."""
    store = store_of(request)
    who = visitor_of(request).user.id
    changed: Project | None = None
    try:
        with store.write() as tx:
            before = projects.get(tx, project)
            changed = replace(
                before,
                title=title.strip(),
                overlap=overlap,
                warning=warning,
                criteria=before.criteria if criteria is None else lines_of(criteria),
                masked=lines_of(masked),
                attributes=before.attributes if attributes is None else lines_of(attributes),
                is_paused=is_paused,
                gold_share=share_of(gold_percent, before.gold_share),
                repeat_share=share_of(repeat_percent, before.repeat_share),
                strategy=before.strategy if strategy is None else strategy,
                random_share=share_of(random_percent, before.random_share),
                qualify_with=before.qualify_with if qualify_with is None else qualify_with,
                qualify_at=share_of(qualify_percent, before.qualify_at),
            )
            projects.change(tx, changed)
            projects.write_guideline(tx, project, guidelines, author=who)
            people.log(tx, who, "changed project", project)
    except DataError as error:
        if changed is None:
            raise
        return settings_page(request, changed, guidelines, error=str(error))
    return RedirectResponse(f"/projects/{project}?saved=1", status_code=303)


def share_of(percent: float | None, otherwise: float) -> float:
    """A field's percent as a share."""
    return otherwise if percent is None else percent / 100


def lines_of(text: str) -> tuple[str, ...]:
    """The lines of a field that are not empty."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def slug(title: str) -> str:
    """A title as a name for addresses and data sets; one in another script gets a hash."""
    plain = unicodedata.normalize("NFKD", title.lower()).encode("ascii", "ignore").decode()
    if name := re.sub(r"[^a-z0-9]+", "-", plain)[:80].strip("-"):
        return name
    if not any(map(str.isalnum, title)):
        raise DataError(f"title is {title!r:.60}; give one with letters or digits")
    return content_id("project", title.strip()).replace("_", "-")
