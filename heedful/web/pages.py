"""Templates: one environment, with what every page shows."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import ChainableUndefined, Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup

from heedful.web import formula, render
from heedful.web.access import public

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=ChainableUndefined,  # what an answer leaves out is not stated
    auto_reload=False,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters["markdown"] = render.markdown
ENVIRONMENT.filters["visible"] = render.visible


router = APIRouter()


@router.get("/content.css", include_in_schema=False)
@public
def content_css() -> Response:
    """Colours of code and alignment of formulas."""
    css = render.code_css() + formula.math_css()
    return Response(css, media_type="text/css", headers={"Cache-Control": "max-age=3600"})


def wants_page(request: Request) -> bool:
    """Is this a browser that shows what it gets?"""
    return "text/html" in request.headers.get("accept", "")


def fragment(template: str, **values: Any) -> Markup:
    """A template as HTML."""
    return Markup(ENVIRONMENT.get_template(template).render(**values))  # noqa: S704 - autoescaped


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """A whole page for whoever asks."""
    visitor = getattr(request.state, "visitor", None)
    shared = {"visitor": visitor, "path": request.url.path, "goal": request.app.state.goal}
    html = fragment(template, status=status, **shared, **values)
    return HTMLResponse(html, status_code=status)
