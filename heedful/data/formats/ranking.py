"""Rankings: ``{"prompt", "completions": [...], "ranks": [1, 2, 2]}``, equal numbers tied.

``prompt`` is a text or messages, each completion too; rank 1 is the best. ``tools``,
``annotator``, ``source`` and ``comment`` are optional. Pairs are written as rankings of two, a tie
as equal ranks; both bad is left out (``both_bad``), as no order says it, and so is a written
answer. Dropped when read: what ``base`` and ``conversation`` drop, ``missing_key``,
``wrong_ranks``.
"""

from collections.abc import Iterator

from heedful.data.formats import conversation
from heedful.data.formats.base import (
    LOSES_OF_TASKS,
    Answer,
    Candidate,
    Format,
    Judged,
    Row,
    RowDropped,
    Tally,
    answers_of,
    labelled,
    labels,
    proven,
    source_of,
    text_or_nothing,
)
from heedful.forms.pairwise import BOTH_BAD
from heedful.types import JSON, Annotation, Item, Prompt

KEYS = frozenset({"prompt", "completions", "ranks", "tools", "annotator", "source", "comment"})


def recognises(row: Row) -> bool:
    """Completions with ranks."""
    return row.keys() >= {"completions", "ranks"}


def parse(row: Row) -> Judged:
    """The ranking of a row; raises ``RowDropped``."""
    prompt = conversation.said("prompt", row.get("prompt"), "user")
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
            name: Candidate(messages=conversation.answer(f"completions[{name}]", side))
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


def _groups(ranks: JSON, names: list[str]) -> list[list[str]]:
    """The labels by rank, best first."""
    whole = isinstance(ranks, list) and all(type(rank) is int and rank > 0 for rank in ranks)
    if not whole or len(ranks) != len(names):
        raise RowDropped(
            "wrong_ranks",
            f"ranks is {ranks!r:.60}; write {len(names)} whole numbers above 0, 1 the best",
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
    loses=("strength", "probability", "written answers", "revisions", "shown order", "seconds",
           "time", *LOSES_OF_TASKS),
)  # fmt: skip
