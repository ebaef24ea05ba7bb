"""Where a model or a run came from, as a chain to read from left to right."""

from collections.abc import Sequence
from dataclasses import dataclass

from heedful.errors import MissingError
from heedful.store import Transaction, lineage, models, snapshots
from heedful.store.models import Registered
from heedful.store.runs import TimedRun
from heedful.types import JSON

ROWS = {
    "feedback": "judgements",
    "preference": "preferences",
    "demonstration": "demonstrations",
    "prompt": "prompts",
}
PEOPLE = {
    "human": ("person", "people"),
    "simulated": ("simulated annotator", "simulated annotators"),
    "model": ("model", "models"),
    "rule": ("rule", "rules"),
}
MAX_LINKS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainLink:
    """One member: what it is, its name, a line about it, its page (if it has one) and its id."""

    label: str
    name: str
    detail: str
    href: str
    id: str

    def to_json(self) -> dict[str, JSON]:
        """The link for the API."""
        return {"kind": self.label, "name": self.name, "detail": self.detail, "id": self.id}


def of_model(tx: Transaction, model: Registered) -> list[ChainLink]:
    """Every ancestor before what was made from it, and the model last."""
    links: dict[str, ChainLink] = {}
    _add_model(tx, model, links)
    return list(links.values())[-MAX_LINKS:]


def of_run(tx: Transaction, row: TimedRun, made: Sequence[Registered]) -> list[ChainLink]:
    """What went into a run, the run, and what came out."""
    links: dict[str, ChainLink] = {}
    known = [one for model in made for one in model.version.parents]
    for parent in dict.fromkeys(known or _named(tx, row)):
        _add_model(tx, models.find(tx, parent), links)
    if row.run.snapshot is not None:
        links[row.run.snapshot] = data_link(tx, row.run.snapshot)
    links[row.id] = run_link(row)
    for model in made:
        links[model.id] = model_link(model)
    return list(links.values())[-MAX_LINKS:]


def _named(tx: Transaction, row: TimedRun) -> list[str]:
    """The registered models that the settings of a run name: by id, alias, name or directory."""
    found = []
    for key in ("model", "reward"):
        name = str(row.run.config.get(key) or "")
        try:
            found.append(models.at_path(tx, name) or models.find(tx, name).id)
        except MissingError:
            continue  # a base that no finished run has registered yet, or a rule
    return found


def _add_model(tx: Transaction, model: Registered, links: dict[str, ChainLink]) -> None:
    if model.id in links:
        return
    for parent in model.version.parents:
        _add_model(tx, models.find(tx, parent), links)
    if model.version.snapshot is not None:
        links.setdefault(model.version.snapshot, data_link(tx, model.version.snapshot))
    links[model.id] = model_link(model)


def model_link(model: Registered) -> ChainLink:
    """A model by its newest name."""
    return ChainLink(
        label=f"{model.version.role} model" if model.version.role != "policy" else "policy",
        name=called(model),
        detail=f"alias {', '.join(model.aliases)}" if model.aliases else "",
        href=f"/models/{model.id}",
        id=model.id,
    )


def run_link(row: TimedRun) -> ChainLink:
    """A run."""
    return ChainLink(
        label="run", name=row.run.kind, detail=row.run.status, href=f"/runs/{row.id}", id=row.id
    )


def data_link(tx: Transaction, snapshot_id: str) -> ChainLink:
    """A snapshot: how many rows of which data set, and who answered."""
    found = snapshots.get(tx, snapshot_id)
    sets = dict.fromkeys(snapshots.get(tx, one).dataset for one in found.parents) or [found.dataset]
    by = [
        f"{one.num_annotators} {PEOPLE[one.source][one.num_annotators > 1]}"
        for one in lineage.answers_behind(tx, snapshot_id)
    ]
    return ChainLink(
        label="data",
        name=f"{found.num_rows:,} {ROWS[found.kind]}",
        detail=f"of {', '.join(sets)}" + (f", by {' and '.join(by)}" if by else ""),
        href="",
        id=snapshot_id,
    )


def called(model: Registered) -> str:
    """``reward`` or, when there were others before it, ``reward, version 3``."""
    name = next(reversed(model.names), model.id)
    number = model.names.get(name, 1)
    return name if number == 1 else f"{name}, version {number}"
