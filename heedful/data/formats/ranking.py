"""Rankings: ``{"prompt", "completions": [...], "ranks": [1, 2, 2]}``, equal numbers tied.

``prompt`` is a text or messages, each completion too; rank 1 is the best. ``annotator``, ``source``
and ``comment`` are optional. Pairs are written as rankings of two, a tie as equal ranks; both bad
is left out (``both_bad``), as no order says it, and so is a written answer. Dropped when read: what
``conversation`` drops, ``missing_key``, ``wrong_ranks``.
"""

from collections.abc import Iterator
from typing import cast, get_args

from heedful.data.formats import conversation
from heedful.data.formats.base import (
    Answer,
    Candidate,
    Format,
    Judged,
    Row,
    RowDropped,
    Tally,
    answers_of,
    check_name,
    check_text,
    labelled,
    labels,
    proven,
)
from heedful.data.formats.conversation import Turns
from heedful.forms.pairwise import BOTH_BAD
from heedful.types import JSON, Annotation, AnnotationKind, Item, Message, Prompt, Role, Source

KEYS = frozenset({"prompt", "completions", "ranks", "tools", "annotator", "source", "comment"})
SOURCES: dict[JSON, Source] = {
    "human": "human", "model": "model", "rule": "rule", "simulated": "simulated",
}  # fmt: skip


def recognises(row: Row) -> bool:
    """Completions with ranks."""
    return row.keys() >= {"completions", "ranks"}


def parse(row: Row) -> Judged:
    """The ranking of a row; raises ``RowDropped``."""
    prompt = _turns("prompt", row.get("prompt"), "user")
    conversation.check_prompt(prompt)
    sides = row.get("completions")
    if not isinstance(sides, list):
        raise RowDropped("missing_key", "completions is no list")
    names = labels(len(sides))
    payload: dict[str, JSON] = {"ranks": _groups(row.get("ranks"), names)}
    comment = text_or_nothing(row, "comment")
    return Judged(
        form="ranking",
        prompt=Prompt(messages=prompt, tools=conversation.tools(row.get("tools"))),
        candidates={
            name: Candidate(messages=_turns(f"completions[{name}]", side, "assistant"))
            for name, side in zip(names, sides, strict=True)
        },
        answers=(
            Answer(
                payload=payload | ({"comment": comment} if comment else {}),
                annotator=text_or_nothing(row, "annotator"),
                source=source_of(row.get("source")),
            ),
        ),
    )


def source_of(value: JSON) -> Source:
    """A source by name, ``human`` when none is given; raises ``RowDropped``."""
    if value in (None, ""):
        return "human"
    if not isinstance(value, str) or value not in SOURCES:
        raise RowDropped("unknown_source", f"source is {value!r:.40}; known: {', '.join(SOURCES)}")
    return SOURCES[value]


def kind_of(value: JSON) -> AnnotationKind:
    """A kind of answer by name, ``answer`` when none is given; raises ``RowDropped``."""
    if value in (None, ""):
        return "answer"
    for kind in get_args(AnnotationKind):
        if value == kind:
            return cast(AnnotationKind, kind)
    known = ", ".join(get_args(AnnotationKind))
    raise RowDropped("unknown_kind", f"kind is {value!r:.40}; known: {known}")


def text_or_nothing(row: Row, key: str) -> str:
    """A text that may be absent."""
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowDropped("unsupported_content", f"{key} is {value!r:.40}; write a text")
    check_name(value, key)
    return value


def _turns(key: str, value: JSON, role: Role) -> Turns:
    if isinstance(value, str):
        check_text(value, key)
        return (Message(role=role, content=value),)
    if value is None:
        raise RowDropped("missing_key", f"{key} is absent or null")
    return conversation.turns(key, value)


def _groups(ranks: JSON, names: list[str]) -> list[list[str]]:
    """The labels by rank, best first."""
    whole = isinstance(ranks, list) and all(type(rank) is int for rank in ranks)
    if not whole or len(ranks) != len(names):
        raise RowDropped(
            "wrong_ranks", f"ranks is {ranks!r:.60}; write {len(names)} whole numbers, 1 the best"
        )
    return [
        [name for name, at in zip(names, ranks, strict=True) if at == rank]
        for rank in sorted(set(ranks))
    ]


def write(item: Item, tally: Tally) -> Iterator[Row]:
    """A row for each ranking or pair."""
    for answer in answers_of(item, tally):
        assert item.task is not None
        groups = _ranked(item, answer)
        if isinstance(groups, str):
            tally.left_out[groups] += 1
            continue
        if "written" in answer.payload:
            tally.left_out["written"] += 1
        places = {one: place for place, group in enumerate(groups, start=1) for one in group}
        ids = item.task.completion_ids
        row = {
            "prompt": conversation.to_json(item.prompt.messages),
            "completions": [conversation.to_json(item.completions[one].messages) for one in ids],
            "ranks": [places[one] for one in ids],
            "annotator": answer.annotator,
            "source": answer.source,
        }
        if item.prompt.tools:
            row["tools"] = conversation.objects(item.prompt.tools)
        if "comment" in answer.payload:
            row["comment"] = answer.payload["comment"]
        yield from proven(row, _expected(item, answer, groups), parse, tally)


def _ranked(item: Item, answer: Annotation) -> list[list[str]] | str:
    """Groups from best to worst, or the rule under which the answer is left out."""
    assert item.task is not None
    if item.task.form == "ranking":
        ranks: list[list[str]] = answer.payload["ranks"]
        return ranks
    if item.task.form != "pairwise":
        return f"{item.task.form}_is_no_ranking"
    preferred, ids = answer.payload["preferred"], list(item.task.completion_ids)
    if preferred == BOTH_BAD:
        return "both_bad"
    return [ids] if preferred is None else [[preferred], [one for one in ids if one != preferred]]


def _expected(item: Item, answer: Annotation, groups: list[list[str]]) -> Judged:
    names = labelled(item)
    kept = {key: answer.payload[key] for key in ("comment",) if key in answer.payload}
    ranks = [sorted((names[one] for one in group), key=int) for group in groups]
    return Judged(
        form="ranking",
        prompt=item.prompt,
        candidates={
            name: Candidate(messages=item.completions[one].messages) for one, name in names.items()
        },
        answers=(
            Answer(
                payload={"ranks": ranks} | kept,
                annotator=answer.annotator,
                source=answer.source,
            ),
        ),
    )


RANKING = Format(
    name="ranking",
    title="rankings with ties",
    expects="prompt, completions and ranks (1 the best)",
    keys=KEYS,
    recognises=recognises,
    parse=parse,
    write=write,
    loses=("strength", "written answers", "revisions", "shown order", "seconds", "model"),
)
