"""What annotators are asked about themselves: before their first task, and on their own page."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from heedful.store import about, projects
from heedful.web.access import allows, store_of, visitor_of
from heedful.web.pages import page

router = APIRouter()
FIELD = "about "  # before the name of a question, so that none can be another field


@router.get("/projects/{project}/about", include_in_schema=False)
@allows("label")
def ask(request: Request, project: str) -> Response:
    """What the project asks, with what was said before."""
    with store_of(request).read() as tx:
        found = projects.get(tx, project)
    return page(
        request,
        "about.html",
        project=found,
        questions=about.questions(found.attributes),
        told=visitor_of(request).user.attributes,
        field=FIELD,
    )


@router.post("/projects/{project}/about", include_in_schema=False)
@allows("label")
async def tell(request: Request, project: str) -> Response:
    """Keep what was said, and go on to the tasks."""
    given = await given_of(request)
    with store_of(request).write() as tx:
        found = about.questions(projects.get(tx, project).attributes)
        about.tell(tx, visitor_of(request).user.id, found, given)
    return RedirectResponse(f"/projects/{project}/label", status_code=303)


@router.post("/me/about", include_in_schema=False)
@allows("enter")
async def change(request: Request) -> Response:
    """Change what one said of oneself."""
    given = await given_of(request)
    with store_of(request).write() as tx:
        found = [one for one in about.asked(tx) if one.name in given]
        about.tell(tx, visitor_of(request).user.id, found, given)
    return RedirectResponse("/me", status_code=303)


async def given_of(request: Request) -> dict[str, str]:
    """Answers by the name of their question."""
    form = await request.form()
    return {
        name.removeprefix(FIELD): value
        for name, value in form.items()
        if name.startswith(FIELD) and isinstance(value, str)
    }
