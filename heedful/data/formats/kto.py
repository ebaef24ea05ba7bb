"""KTO: single answers with a verdict, ``{"prompt", "completion", "label": true or false}``.

Prompt and completion are texts or lists of messages, as in ``trl``. A row becomes a demonstration
that was accepted or not. Written from pairs (the preferred answer true, the other false; both bad:
twice false), from demonstrations (a written answer is true, and what it replaced false) and from
nothing else. Dropped when read: what ``trl`` drops, ``missing_key`` and ``label_is_no_verdict``.
"""

from collections.abc import Iterator

from heedful.data.formats import conversation, trl
from heedful.data.formats.base import (
    LOSES_ALL_BUT_PAIRS,
    Answer,
    Candidate,
    Format,
    Judged,
    Row,
    RowDropped,
    Tally,
    answers_of,
    proven,
)
from heedful.forms.base import written_answer
from heedful.forms.pairwise import BOTH_BAD
from heedful.types import Annotation, Demonstration, Item, Message, Prompt

Verdict = tuple[tuple[Message, ...], bool]


def recognises(row: Row) -> bool:
    """A prompt, a completion and a verdict."""
    return row.keys() >= {"prompt", "completion", "label"}


def parse(row: Row) -> Judged:
    """The verdict of a row; raises ``RowDropped``."""
    label = row.get("label")
    if not isinstance(label, bool):
        raise RowDropped("label_is_no_verdict", f"label is {label!r:.40}; write true or false")
    found = trl.parse({key: row.get(key) for key in ("prompt", "completion", "tools")})
    assert isinstance(found, Demonstration)
    return _judged(found.prompt, found.response, label)


def _judged(prompt: Prompt, messages: tuple[Message, ...], label: bool) -> Judged:
    return Judged(
        form="demonstration",
        prompt=prompt,
        candidates={"1": Candidate(messages=messages)},
        answers=(Answer(payload={"accepted": "1" if label else None}),),
    )


def write(item: Item, tally: Tally) -> Iterator[Row]:
    """A row for each answer that was judged good or bad as such."""
    for answer in answers_of(item, tally):
        verdicts, rule = _verdicts(item, answer)
        if not verdicts:
            tally.left_out[rule] += 1
        for messages, label in verdicts:
            row = {
                "prompt": conversation.to_json(item.prompt.messages),
                "completion": conversation.to_json(messages),
                "label": label,
            }
            if item.prompt.tools:
                row["tools"] = conversation.objects(item.prompt.tools)
            yield from proven(row, _judged(item.prompt, messages, label), parse, tally)


def _verdicts(item: Item, answer: Annotation) -> tuple[list[Verdict], str]:
    """What an answer says of single completions, and the rule under which it says nothing."""
    assert item.task is not None
    payload, form = answer.payload, item.task.form
    shown = [(one, item.completions[one].messages) for one in item.task.completion_ids]
    written: list[Verdict] = []
    if "written" in payload:
        written = [(written_answer(payload["written"]), True)]
    if form == "demonstration":
        accepted = payload.get("accepted")
        return [*written, *((text, one == accepted) for one, text in shown)], ""
    if form != "pairwise":
        return [], f"{form}_is_no_verdict"
    preferred = payload["preferred"]
    if preferred is None:
        return written, "tie"
    if preferred == BOTH_BAD:
        return [*written, *((text, False) for _, text in shown)], ""
    return [*written, *((text, one == preferred) for one, text in shown)], ""


KTO = Format(
    name="kto",
    title="KTO, single answers with a verdict",
    expects="prompt, completion and label (true or false)",
    keys=frozenset({"prompt", "completion", "label", "tools"}),
    recognises=recognises,
    parse=parse,
    write=write,
    loses=("which answers were compared", "strength", *LOSES_ALL_BUT_PAIRS),
)
