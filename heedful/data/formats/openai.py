"""OpenAI's preference fine-tuning: an ``input`` and two outputs of the assistant.

``{"input": {"messages": [...], "tools": [...], "parallel_tool_calls": true},
"preferred_output": [MESSAGE], "non_preferred_output": [MESSAGE]}``, one object on each line. The
service takes one message of the assistant on each side; reading takes several, and writing leaves
out answers of several turns (``several_turns``). Dropped when read: what ``conversation`` drops,
and ``missing_key``.
"""

from collections.abc import Iterator

from heedful.data.formats import conversation
from heedful.data.formats.base import (
    LOSES_ALL_BUT_PAIRS,
    Format,
    Row,
    RowDropped,
    Tally,
    bare,
    preferences_of,
    proven,
)
from heedful.types import Item, Preference, Prompt

KEYS = frozenset({"input", "preferred_output", "non_preferred_output"})


def recognises(row: Row) -> bool:
    """The three keys."""
    return row.keys() >= KEYS


def parse(row: Row) -> Preference:
    """The preference of a row; raises ``RowDropped``."""
    asked = row.get("input")
    if not isinstance(asked, dict) or "messages" not in asked:
        raise RowDropped("missing_key", "input has no messages")
    turns = conversation.turns("input.messages", asked["messages"], "user")
    sides = (
        conversation.turns(key, row.get(key), "assistant")
        for key in ("preferred_output", "non_preferred_output")
    )
    prompt, chosen, rejected = conversation.split(turns, *sides)
    tools = conversation.tools(asked.get("tools"))
    return Preference(prompt=Prompt(messages=prompt, tools=tools), chosen=chosen, rejected=rejected)


def write(item: Item, tally: Tally) -> Iterator[Row]:
    """The preferences whose answers are one message."""
    for preference in preferences_of(item, tally):
        one = bare(preference)
        if len(one.chosen) > 1 or len(one.rejected) > 1:
            tally.left_out["several_turns"] += 1
            continue
        prompt = one.prompt
        row = {
            "input": {
                "messages": conversation.to_json(prompt.messages),
                "tools": conversation.objects(prompt.tools),
                "parallel_tool_calls": True,
            },
            "preferred_output": conversation.to_json(one.chosen),
            "non_preferred_output": conversation.to_json(one.rejected),
        }
        yield from proven(row, one, parse, tally)


OPENAI = Format(
    name="openai",
    title="OpenAI preference fine-tuning",
    expects="input with messages, preferred_output and non_preferred_output",
    keys=KEYS,
    recognises=recognises,
    parse=parse,
    write=write,
    loses=("strength", "answers of several turns", *LOSES_ALL_BUT_PAIRS),
)
