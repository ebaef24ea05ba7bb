"""Where a record came from and what was made of it: the chain behind ``heedful trace ID``.

The foreign keys are followed both ways. Many records of one kind and origin are one line with
their number and the first ids, so a model's whole past fits on a screen.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from heedful.errors import DataError, MissingError
from heedful.store import Store, Transaction, lineage, models
from heedful.types import last_text, messages_from_json

_NOUNS = {
    "prm": "prompt",
    "cmp": "completion",
    "tsk": "task",
    "ann": "annotation",
    "snp": "snapshot",
    "run": "run",
    "mdl": "model",
    "evd": "evidence",
}
_NUM_SHOWN = 3  # ids listed of many
_MAX_LINES = 12  # groups listed below one line
_Step = Callable[[Transaction, str, Sequence[str]], dict[str, list[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Records of one kind and origin, and what follows from them. Made by ``trace``.

    ``ids`` are all of them, sorted; ``label`` is the line that stands for them.
    """

    kind: str
    ids: tuple[str, ...]
    label: str
    nodes: tuple["Node", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A record with its ancestors, down to prompts and completions, and its descendants.

    Made by ``trace``, printed by the command line (``render``).
    """

    id: str
    label: str
    came_from: tuple[Node, ...]
    led_to: tuple[Node, ...]

    def render(self) -> str:
        """The trace as lines of text."""
        lines = [self.label]
        for title, nodes in (("came from", self.came_from), ("led to", self.led_to)):
            lines.append(f"{title}:" if nodes else f"{title}: nothing")
            lines += _lines(nodes, "")
        return "\n".join(lines)


def trace(store: Store, name: str) -> Trace:
    """The chain of a record, named by id or unique start of one; a model also by name or alias.

    Raises ``MissingError`` for an unknown record, ``DataError`` when several fit, listing them.
    """
    with store.read() as tx:
        return chain(tx, _find(tx, name.strip()))


def chain(tx: Transaction, record: str, *, ends: frozenset[str] = frozenset()) -> Trace:
    """The chain of a record by its whole id; records of the kinds in ``ends`` end it.

    A page ends it at models (``mdl``): what a model learned from may be a million answers.
    Raises ``MissingError`` for an unknown record.
    """
    kind = record.partition("_")[0]
    roots = _groups(tx, kind, [record]) if kind in _NOUNS else []
    if not roots:
        raise MissingError(f"record {record!r:.60} is not in the store; check the id")
    (root,) = roots
    return Trace(
        id=record,
        label=root.label,
        came_from=_follow(tx, lineage.parents, root, {record}, ends),
        led_to=_follow(tx, lineage.children, root, {record}, ends),
    )


def _find(tx: Transaction, name: str) -> str:
    prefix, underscore, _ = name.partition("_")
    if not underscore or prefix not in _NOUNS:
        return _find_model(tx, name)
    found = lineage.find_ids(tx, name, limit=_MAX_LINES + 1)
    if not found:
        raise MissingError(f"{_NOUNS[prefix]} {name!r} is not in the store; check the id")
    if len(found) > 1:  # ids are of one length, so a whole id fits one record only
        listed = ", ".join(found[:_MAX_LINES]) + (" and more" if found[_MAX_LINES:] else "")
        raise DataError(f"{name!r} fits several records: {listed}; give more of the id")
    return found[0]


def _find_model(tx: Transaction, name: str) -> str:
    try:
        return models.get(tx, name).id
    except MissingError as error:
        known = ", ".join(f"{prefix}_" for prefix in _NOUNS)
        raise MissingError(
            f"{name!r} is neither an id (they start with {known}) nor a model's name; "
            "give an id that a command printed"
        ) from error


def _follow(
    tx: Transaction, step: _Step, node: Node, seen: set[str], ends: frozenset[str]
) -> tuple[Node, ...]:
    """What one step leads to, each with what follows; a record is expanded once per trace."""
    reached = [
        group
        for kind, ids in step(tx, node.kind, node.ids).items()
        for group in _groups(tx, kind, ids)
    ]
    nodes = []
    for group in reached:
        fresh = not seen.issuperset(group.ids)
        seen.update(group.ids)
        goes_on = fresh and group.kind not in ends
        below = _follow(tx, step, group, seen, ends) if goes_on else ()
        repeated = "" if fresh or group.kind == "prm" else " (see above)"
        nodes.append(
            Node(kind=group.kind, ids=group.ids, label=group.label + repeated, nodes=below)
        )
    return tuple(nodes)


def _groups(tx: Transaction, kind: str, ids: Sequence[str]) -> list[Node]:
    """The records by origin, the largest group first."""
    by_origin: dict[str, list[Any]] = {}
    for row in lineage.rows(tx, kind, ids):
        by_origin.setdefault(_origin(kind, row), []).append(row)
    nodes = [
        Node(kind=kind, ids=tuple(row.id for row in rows), label=_label(tx, kind, origin, rows))
        for origin, rows in by_origin.items()
    ]
    return sorted(nodes, key=lambda node: (-len(node.ids), node.label))


def _origin(kind: str, row: Any) -> str:
    """What the records of one line have in common."""
    if kind == "ann":
        return f"by {row.annotator} ({row.source})"
    if kind == "cmp":
        return f"by {row.origin or row.model_id}"
    if kind == "tsk":
        return f"{row.form} ({row.reason})"
    return "" if kind == "prm" else str(row.id)


def _label(tx: Transaction, kind: str, origin: str, rows: list[Any]) -> str:
    if kind == "cmp" and rows[0].model_id:
        names, _ = lineage.names_of(tx, rows[0].model_id)
        origin = f"{origin} ({names[0]})"
    if len(rows) == 1:
        return f"{_NOUNS[kind]} {rows[0].id} · {_detail(tx, kind, origin, rows[0])}"
    first = ", ".join(row.id for row in rows[:_NUM_SHOWN])
    what = f"{len(rows)} {_NOUNS[kind]}s {origin}".rstrip()
    return f"{what} · first {_NUM_SHOWN}: {first}" if len(rows) > _NUM_SHOWN else f"{what}: {first}"


def _detail(tx: Transaction, kind: str, origin: str, row: Any) -> str:
    """One record in a few words."""
    if kind in ("prm", "cmp"):
        text = last_text(messages_from_json(row.messages))
        inside = ", ".join(lineage.datasets_of(tx, row.id))
        return " · ".join(part for part in (origin, _excerpt(text), inside) if part)
    if kind == "tsk":
        return " · ".join([origin, *lineage.datasets_of(tx, row.id)])
    if kind == "ann":
        return f"{origin} · {_answer(row.payload)} · revision {row.revision}"
    return _artefact(tx, kind, row)


def _artefact(tx: Transaction, kind: str, row: Any) -> str:
    if kind == "snp":
        return f"{row.num_rows} {row.kind} rows of {row.dataset} · {row.path}"
    if kind == "run":
        return f"{row.kind} · {row.status} · {row.path}"
    if kind == "evd":
        interval = f"{row.low:.4g} to {row.high:.4g}, {row.num} observations"
        return f"{row.test} {row.value:.4g} ({interval})"
    names, aliases = lineage.names_of(tx, row.id)
    alias = f" · alias {', '.join(aliases)}" if aliases else ""
    return f"{row.role} {', '.join(names)}{alias} · {row.path}"


def _answer(payload: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {'none' if value is None else value}" for key, value in payload.items()
    )


def _excerpt(text: str) -> str:
    plain = " ".join(text.split())
    return repr(plain if len(plain) <= 60 else plain[:57] + "...")


def _lines(nodes: Sequence[Node], margin: str) -> Iterator[str]:
    shown = nodes[:_MAX_LINES]
    num_left = len(nodes) - len(shown)
    for number, node in enumerate(shown, start=1):
        is_last = number == len(shown) and not num_left
        yield f"{margin}{'└── ' if is_last else '├── '}{node.label}"
        yield from _lines(node.nodes, margin + ("    " if is_last else "│   "))
    if num_left:
        yield f"{margin}└── and {num_left} more"
