r"""HH-RLHF: whole transcripts, ``{"chosen": TEXT, "rejected": TEXT}``.

A transcript is turns that start with ``\n\nHuman:`` or ``\n\nAssistant:``. Only that exact text
starts a turn: ``Human:`` elsewhere, as in ``\n\nAssistant: Human: why``, is what somebody said.
Turns are stripped of the white space around them.

Everything but the last turn is the prompt and must be the same on both sides; the last turn is
the answer. Rows that break a rule are dropped:

- ``not_a_transcript``: a side is no text, or does not start with a marker;
- ``starts_with_assistant``, ``ends_with_human``, ``consecutive_turns`` (one speaker twice in a
  row), ``empty_turn`` (before the last);
- ``empty_side``, ``mismatched_prompts``, ``identical_sides``, ``invalid_text``.

Writing leaves out what a transcript cannot say: tools, and turns of other roles (``tools``,
``unsupported_turn``); white space around a turn is stripped and counted (``outer_white_space``).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from heedful.data.formats.base import (
    LOSES_ALL_BUT_PAIRS,
    Format,
    Row,
    RowDropped,
    Tally,
    bare,
    check_sides,
    check_text,
    excerpt,
    preferences_of,
    proven,
)
from heedful.types import JSON, Item, Message, Preference, Prompt, Role

_MARKER = re.compile(r"\n\n(Human|Assistant):")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_NAMES = {role: name for name, role in _ROLES.items()}


def is_transcript(text: JSON) -> bool:
    """Whether ``text`` begins as HH transcripts do."""
    return isinstance(text, str) and _MARKER.match(text) is not None


def recognises(row: Mapping[str, JSON]) -> bool:
    """Two transcripts and no separate prompt."""
    return "prompt" not in row and any(is_transcript(row.get(key)) for key in HH.keys)


def parse(row: Mapping[str, JSON]) -> Preference:
    """The preference of a row; raises ``RowDropped``."""
    chosen, rejected = (_turns(key, row.get(key)) for key in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise RowDropped("mismatched_prompts", _first_difference(chosen, rejected))
    check_sides(chosen[-1].content, rejected[-1].content)
    return Preference(
        prompt=Prompt(messages=tuple(chosen[:-1])),
        chosen=(chosen[-1],),
        rejected=(rejected[-1],),
    )


def _turns(side: str, transcript: JSON) -> list[Message]:
    if not isinstance(transcript, str) or not is_transcript(transcript):
        raise RowDropped("not_a_transcript", f"{side} is {excerpt(str(transcript))}")
    check_text(transcript, side)
    _, *parts = _MARKER.split(transcript)
    turns = [
        Message(role=_ROLES[speaker], content=text.strip())
        for speaker, text in zip(parts[::2], parts[1::2], strict=True)
    ]
    _check_turns(side, turns)
    return turns


def _check_turns(side: str, turns: list[Message]) -> None:
    if turns[0].role != "user":
        raise RowDropped("starts_with_assistant", f"{side} starts with an Assistant turn")
    if turns[-1].role != "assistant":
        raise RowDropped("ends_with_human", f"{side} ends with a Human turn")
    for number, (turn, following) in enumerate(pairwise(turns), start=1):
        if turn.role == following.role:
            who = f"{side} has two {turn.role} turns in a row, turns {number} and {number + 1}"
            raise RowDropped("consecutive_turns", who)
        if not turn.content:
            raise RowDropped("empty_turn", f"turn {number} of {side} is empty")


def _first_difference(chosen: list[Message], rejected: list[Message]) -> str:
    for number, (left, right) in enumerate(zip(chosen[:-1], rejected[:-1], strict=False), start=1):
        if left != right:
            return f"the sides differ from turn {number} on: {excerpt(left.content)}"
    return f"chosen has {len(chosen)} turns, rejected {len(rejected)}"


def write(item: Item, tally: Tally) -> Iterator[Row]:
    """The preferences of an item as pairs of transcripts."""
    for preference in preferences_of(item, tally):
        try:
            row, plain = _to_row(preference)
        except RowDropped as drop:
            tally.left_out[drop.rule] += 1
            continue
        for proved in proven(row, plain, parse, tally):
            if plain != bare(preference):
                tally.changed["outer_white_space"] += 1
            yield proved


def _to_row(preference: Preference) -> tuple[Row, Preference]:
    """The row, and the preference as it says it: without white space around turns."""
    if preference.prompt.tools:
        raise RowDropped("tools")
    prompt, chosen, rejected = (
        _stripped(side)
        for side in (preference.prompt.messages, preference.chosen, preference.rejected)
    )
    row = {"chosen": _transcript(prompt + chosen), "rejected": _transcript(prompt + rejected)}
    return row, Preference(prompt=Prompt(messages=prompt), chosen=chosen, rejected=rejected)


def _stripped(messages: Sequence[Message]) -> tuple[Message, ...]:
    for one in messages:
        if one.role not in _NAMES or one != Message(role=one.role, content=one.content):
            raise RowDropped("unsupported_turn")
    return tuple(replace(one, content=one.content.strip()) for one in messages)


def _transcript(messages: Sequence[Message]) -> str:
    return "".join(f"\n\n{_NAMES[one.role]}: {one.content}" for one in messages)


HH = Format(
    name="hh",
    title="HH-RLHF transcripts",
    expects='{"chosen": TRANSCRIPT, "rejected": TRANSCRIPT}, each starting with "\\n\\nHuman:"',
    keys=frozenset({"chosen", "rejected"}),
    recognises=recognises,
    parse=parse,
    write=write,
    loses=("strength", "tools", "system and tool turns", *LOSES_ALL_BUT_PAIRS),
)
