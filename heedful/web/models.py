"""Models: the registered versions, where each came from, what was measured, two side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from markupsafe import Markup

from heedful.errors import MissingError
from heedful.monitor import charts
from heedful.monitor.records import Figure
from heedful.monitor.run_report import flat
from heedful.store import Transaction, completions, models, runs
from heedful.store.models import Registered
from heedful.types import JSON, Completion, Evidence, messages_json
from heedful.web import chain
from heedful.web.access import allows, store_of
from heedful.web.figures import block
from heedful.web.pages import page
from heedful.web.run_view import when

router = APIRouter()
PAGE = 50
NUM_PAIRS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """A model as pages and API show it. ``settings`` are those of its run, dotted."""

    id: str
    called: str
    model: Registered
    evidence: Sequence[Evidence]
    links: Sequence[chain.ChainLink]
    settings: Mapping[str, str]

    def to_json(self) -> dict[str, JSON]:
        """The view for the API."""
        version = self.model.version
        return {
            "id": self.id,
            "role": version.role,
            "names": self.model.names,
            "aliases": list(self.model.aliases),
            "parents": list(version.parents),
            "snapshot": version.snapshot,
            "run": version.run,
            "path": version.path,
            "created_at": self.model.created_at.isoformat(),
            "lineage": [link.to_json() for link in self.links],
            "evidence": [evidence_json(one) for one in self.evidence],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two models: the newest evidence of either by test, settings that differ, some answers."""

    left: ModelView
    right: ModelView
    measured: Sequence[tuple[str, Evidence | None, Evidence | None]]
    settings: Sequence[tuple[str, str, str]]
    pairs: Sequence[tuple[Completion, Completion]]

    def to_json(self) -> dict[str, JSON]:
        """The comparison for the API."""
        return {
            "models": [self.left.to_json(), self.right.to_json()],
            "evidence": [
                {"test": test, "values": [one and evidence_json(one) for one in both]}
                for test, *both in self.measured
            ],
            "settings": [{"name": name, "values": [a, b]} for name, a, b in self.settings],
            "answers": [
                {
                    "prompt": messages_json(left.prompt.messages),
                    "messages": [messages_json(one.messages) for one in (left, right)],
                }
                for left, right in self.pairs
            ],
        }


def compared(tx: Transaction, a: str, b: str) -> Compared:
    """Two models by their whole ids; raises ``MissingError``."""
    left, right = (model_view(tx, whole(tx, one)) for one in (a, b))
    return Compared(
        left=left,
        right=right,
        measured=measured_both(left.evidence, right.evidence),
        settings=differing(left.settings, right.settings),
        pairs=completions.by_both(tx, left.id, right.id, limit=NUM_PAIRS),
    )


def evidence_json(one: Evidence) -> dict[str, JSON]:
    """What was measured, for the API."""
    return {
        "test": one.test,
        "value": one.value,
        "low": one.low,
        "high": one.high,
        "num": one.num,
    }


def model_view(tx: Transaction, model: Registered) -> ModelView:
    """A model with its evidence, its chain, and the settings of its run."""
    run = runs.get(tx, model.version.run) if model.version.run else None
    return ModelView(
        id=model.id,
        called=chain.called(model),
        model=model,
        evidence=runs.evidence_of(tx, model.id),
        links=chain.of_model(tx, model),
        settings=flat({k: v for k, v in run.config.items() if k != "out"}) if run else {},
    )


def is_share(one: Evidence) -> bool:
    """Does it lie between 0 and 1, as shares do?"""
    return 0 <= one.low <= one.value <= one.high <= 1


def value_of(one: Evidence) -> str:
    """The value for reading: a share in percent, anything else with three digits."""
    return charts.percent(one.value) if is_share(one) else charts.number(one.value)


def interval_of(one: Evidence) -> str:
    """Its interval, written as its value is."""
    if is_share(one):
        return charts.percents(one.low, one.high)
    return f"{charts.number(one.low)} to {charts.number(one.high)}"


# what the templates write figures and times with
WORDS: Mapping[str, Any] = {"when": when, "value_of": value_of, "interval_of": interval_of}


@router.get("/models", include_in_schema=False)
@allows("view")
def all_models(request: Request, before: str | None = None) -> Response:
    """Registered models, newest first."""
    store = store_of(request)
    with store.read() as tx:
        found = models.newest(tx, limit=PAGE + 1, before=before)
        views = [model_view(tx, one) for one in found[:PAGE]]
    more = views[-1].id if len(found) > PAGE else None
    return page(
        request,
        "models.html",
        models=views,
        more=more,
        first=before is None,
        **WORDS,
    )


@router.get("/models/compare", include_in_schema=False)
@allows("view")
def compare(request: Request, a: str, b: str) -> Response:
    """Two versions side by side."""
    if a == b:
        return RedirectResponse(f"/models/{a}", status_code=303)
    with store_of(request).read() as tx:
        both = compared(tx, a, b)
    return page(
        request,
        "model_compare.html",
        left=both.left,
        right=both.right,
        measured=both.measured,
        settings=both.settings,
        pairs=both.pairs,
        **WORDS,
    )


@router.get("/models/{model}", include_in_schema=False)
@allows("view")
def one_model(request: Request, model: str) -> Response:
    """A model's page."""
    store = store_of(request)
    with store.read() as tx:
        view = model_view(tx, whole(tx, model))
        others = [one for one in models.newest(tx, limit=PAGE) if one.id != view.id]
    draw = partial(evidence_figure, view.evidence)
    figure = request.app.state.drawings.get((view.id, len(view.evidence)), draw)
    return page(
        request,
        "model.html",
        model=view,
        others=[(one.id, chain.called(one), one.version.role) for one in others],
        figure=figure,
        card=card_of(view.evidence),
        **WORDS,
    )


def card_of(evidence: Sequence[Evidence]) -> Mapping[str, JSON] | None:
    """What the newest reward card says: its main figures by name, its run and its data."""
    return next((one.detail for one in reversed(evidence) if one.detail.get("card")), None)


def whole(tx: Transaction, model_id: str) -> Registered:
    """A model by its whole id: addresses of pages do not change what they mean."""
    found = models.find(tx, model_id) if model_id.startswith("mdl_") else None
    if found is None or found.id != model_id:
        raise MissingError(f"model {model_id!r:.60} is not in the store; heedful models lists them")
    return found


def evidence_figure(evidence: Sequence[Evidence]) -> Markup:
    """Shares with their intervals as one figure; nothing when there are none."""
    rows = [
        {
            "name": f"{one.test.replace('_', ' ')} ({one.num})",
            "value": one.value,
            "low": one.low,
            "high": one.high,
            "observations": one.num,
        }
        for one in evidence
        if is_share(one)
    ]
    if not rows:
        return Markup("")
    figure = Figure(
        title="What was measured",
        caption="Points with 95 % intervals; in brackets the number of observations. The dashed "
        "line is chance.",
        panels=[partial(charts.intervals, rows, title="share", marks={"chance": 0.5})],
        rows=rows,
    )
    return block(figure, "evidence")


def measured_both(
    left: Sequence[Evidence], right: Sequence[Evidence]
) -> list[tuple[str, Evidence | None, Evidence | None]]:
    """Every test with the newest evidence of either model."""
    newest: tuple[dict[str, Evidence], ...] = tuple(
        {one.test: one for one in side} for side in (left, right)
    )
    tests = dict.fromkeys([*newest[0], *newest[1]])
    return [(test, newest[0].get(test), newest[1].get(test)) for test in tests]


def differing(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The settings that are not the same; none when one side has no run to compare."""
    if not left or not right:
        return []
    dash = "\N{EN DASH}"
    return [
        (key, left.get(key, dash), right.get(key, dash))
        for key in dict.fromkeys([*left, *right])
        if left.get(key) != right.get(key)
    ]
