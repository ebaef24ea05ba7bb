"""TRL's data set types: pairs, prompt and completion, conversations, bare prompts.

- A pair has ``chosen`` and ``rejected`` and usually ``prompt``; each is a text, or a list of
  ``{"role", "content"}`` messages.
- ``prompt`` and ``completion``, or ``messages`` that end with the assistant, are a demonstration;
  ``prompt`` alone is a prompt.
- Without ``prompt`` it is implicit. In conversations it is the common messages, back to the last
  user turn. In texts it is the longest common beginning, cut back to the last white space so that
  no word is split: "The sky is blue." against "The sky is black." share "The sky is", as in TRL,
  which would split the word. What two answers happen to share at their start joins the prompt.
- A prompt that conversations repeat at the start of each side is taken off the sides.

A text prompt is one user message, a text answer one assistant message, both stripped. Messages
keep their content as it is. Dropped: ``empty_prompt``, ``empty_side``, ``identical_sides``,
``mismatched_prompts`` (the sides differ before their last answer, or share nothing),
``no_user_turn`` (the prompt does not end with
one), ``no_assistant_turn``, ``unknown_role``, ``unsupported_content`` (not text), ``mixed_types``,
``missing_key``, ``unpaired_label`` (rows with a boolean ``label``: see ``kto``), ``invalid_text``.

``margin`` is the strength of a pair when it is a whole number from 0 to 3; another is counted as
ignored.

Written in four ways: ``trl`` (messages with a prompt of their own, as DPO takes them),
``trl-standard`` (texts; conversations are left out as ``conversation``), ``trl-implicit``
(messages with the prompt inside both sides, as the reward trainer takes them) and ``trl-sft``
(demonstrations).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from heedful.data.formats import conversation, hh
from heedful.data.formats.base import (
    LOSES_ALL_BUT_PAIRS,
    Format,
    Record,
    Row,
    RowDropped,
    Tally,
    answers_of,
    bare,
    check_sides,
    only,
    preferences_of,
    proven,
)
from heedful.data.formats.conversation import Turns
from heedful.forms import FORMS
from heedful.forms.pairwise import MAX_STRENGTH
from heedful.types import JSON, Demonstration, Item, Message, Preference, Prompt, Role


def recognises(row: Mapping[str, JSON]) -> bool:
    """A pair, a demonstration, a conversation or a prompt; but no HH transcripts."""
    if hh.recognises(row):
        return False
    wanted = ({"chosen", "rejected"}, {"prompt"}, {"messages"})
    return any(keys <= row.keys() for keys in wanted)


def parse(row: Mapping[str, JSON]) -> Record:
    """The record of a row; raises ``RowDropped``."""
    if isinstance(row.get("label"), bool):
        raise RowDropped("unpaired_label", "label judges one answer, not a pair; import as kto")
    tools = conversation.tools(row.get("tools"))
    if "chosen" in row or "rejected" in row:
        return _pair(row, tools)
    if "completion" in row:
        prompt, answer = _said(row, "prompt", "user"), _said(row, "completion", "assistant")
        return _demonstration(prompt, answer, tools)
    if "messages" in row:
        return _conversation(_said(row, "messages", "assistant"), tools)
    return _prompt(_said(row, "prompt", "user"), tools)


def _said(row: Mapping[str, JSON], key: str, role: Role) -> str | Turns:
    return conversation.text_or_turns(key, row.get(key), role)


def _pair(row: Mapping[str, JSON], tools: tuple[str, ...]) -> Preference:
    chosen, rejected = (_said(row, key, "assistant") for key in ("chosen", "rejected"))
    given = _said(row, "prompt", "user") if row.get("prompt") is not None else None
    if isinstance(chosen, str) and isinstance(rejected, str):
        prompt, left, right = _split_texts(given, chosen, rejected)
    elif isinstance(chosen, tuple) and isinstance(rejected, tuple):
        turns = _asked_by(given, chosen) if isinstance(given, str) else given
        prompt, left, right = conversation.split(turns, chosen, rejected)
    else:
        raise RowDropped("mixed_types", "one side is a text, the other a list of messages")
    return Preference(
        prompt=Prompt(messages=prompt, tools=tools),
        chosen=left,
        rejected=right,
        margin=_margin(row.get("margin")),
    )


def _margin(value: JSON) -> float:
    """A strength; other numbers, such as differences of scores, are none."""
    return float(value) if _is_strength(value) else 0.0


def _is_strength(value: JSON) -> bool:
    return type(value) in (int, float) and value in range(MAX_STRENGTH + 1)


def unused(row: Mapping[str, JSON]) -> Iterator[str]:
    """A margin that is no strength."""
    if row.get("margin") is not None and not _is_strength(row["margin"]):
        yield f"margin that is not 0 to {MAX_STRENGTH}"


def _asked_by(text: str, side: Turns) -> Turns:
    """The turns that ask ``text``: those that the side repeats, or else one user message."""
    repeated, _ = conversation.cut(side)
    asks = repeated and repeated[-1].content == text
    return repeated if asks else (Message(role="user", content=text),)


def _split_texts(
    given: str | Turns | None, chosen: str, rejected: str
) -> tuple[Turns, Turns, Turns]:
    if given is None:
        given, chosen, rejected = _implicit_prompt(chosen, rejected)
    check_sides(chosen.strip(), rejected.strip())
    return _as_prompt(given), _answer(chosen), _answer(rejected)


def _implicit_prompt(chosen: str, rejected: str) -> tuple[str, str, str]:
    check_sides(chosen, rejected)
    shared = chosen[: _num_common(chosen, rejected)]
    while shared and not shared[-1].isspace() and not _is_whole(shared, chosen, rejected):
        shared = shared[:-1]
    if not shared.strip():
        raise RowDropped("mismatched_prompts", "no prompt is given and the sides share no start")
    return shared, chosen[len(shared) :], rejected[len(shared) :]


def _num_common(left: str, right: str) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(left), len(right)))


def _is_whole(shared: str, *sides: str) -> bool:
    """Whether no side goes on with more of the word that ``shared`` ends with."""
    return all(len(side) == len(shared) or side[len(shared)].isspace() for side in sides)


def _demonstration(
    prompt: str | Turns, answer: str | Turns, tools: tuple[str, ...]
) -> Demonstration:
    response = _answer(answer) if isinstance(answer, str) else answer
    conversation.check_answer("completion", response)
    return Demonstration(prompt=Prompt(messages=_as_prompt(prompt), tools=tools), response=response)


def _conversation(messages: str | Turns, tools: tuple[str, ...]) -> Demonstration:
    if isinstance(messages, str):
        raise RowDropped("unsupported_content", "messages is a text; write a list of messages")
    prompt, response = conversation.cut(messages)
    conversation.check_answer("messages", response)
    return _demonstration(prompt, response, tools)


def _prompt(prompt: str | Turns, tools: tuple[str, ...]) -> Prompt:
    return Prompt(messages=_as_prompt(prompt), tools=tools)


def _as_prompt(given: str | Turns) -> Turns:
    turns = (Message(role="user", content=given.strip()),) if isinstance(given, str) else given
    conversation.check_prompt(turns)
    return turns


def _answer(text: str) -> Turns:
    return (Message(role="assistant", content=text.strip()),)


def write(item: Item, tally: Tally) -> Iterator[Row]:
    """Messages, with the prompt on its own."""
    return _written(item, tally, _explicit)


def write_standard(item: Item, tally: Tally) -> Iterator[Row]:
    """Texts, stripped as reading strips them."""
    return _written(item, tally, _standard)


def write_implicit(item: Item, tally: Tally) -> Iterator[Row]:
    """Messages, with the prompt inside both sides."""
    return _written(item, tally, _implicit)


def write_demonstrations(item: Item, tally: Tally) -> Iterator[Row]:
    """Prompt and completion of what the newest answers found worth imitating."""
    for answer in answers_of(item, tally):
        assert item.task is not None
        form = FORMS[item.task.form]
        derived = form.to_demonstrations(item.task, item.completions, answer)
        if not derived:
            rule = form.undecided(answer.payload) or f"{form.name}_is_no_demonstration"
            tally.left_out[rule] += 1
        for one in derived:
            prompt, response = map(conversation.to_json, (one.prompt.messages, one.response))
            row = {"prompt": prompt, "completion": response, **_tools(one.prompt)}
            expected = Demonstration(prompt=one.prompt, response=one.response)
            yield from proven(row, expected, parse, tally)


def _written(
    item: Item, tally: Tally, spell: Callable[[Preference], tuple[dict[str, JSON], Preference]]
) -> Iterator[Row]:
    for preference in preferences_of(item, tally):
        plain = bare(preference, margin=preference.margin)
        try:
            row, expected = spell(plain)
        except RowDropped as drop:
            tally.left_out[drop.rule] += 1
            continue
        row |= _tools(plain.prompt)
        if plain.margin:
            row["margin"] = plain.margin
        for proved in proven(row, expected, parse, tally):
            if expected != plain:
                tally.changed["outer_white_space"] += 1
            yield proved


def _explicit(one: Preference) -> tuple[dict[str, JSON], Preference]:
    sides = (one.prompt.messages, one.chosen, one.rejected)
    prompt, chosen, rejected = map(conversation.to_json, sides)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}, one


def _implicit(one: Preference) -> tuple[dict[str, JSON], Preference]:
    prompt = one.prompt.messages
    sides = (prompt + one.chosen, prompt + one.rejected)
    chosen, rejected = map(conversation.to_json, sides)
    return {"chosen": chosen, "rejected": rejected}, one


def _standard(one: Preference) -> tuple[dict[str, JSON], Preference]:
    texts = (
        only(one.prompt.messages, "user"),
        only(one.chosen, "assistant"),
        only(one.rejected, "assistant"),
    )
    if any(text is None for text in texts):
        raise RowDropped("conversation")
    prompt, chosen, rejected = (text.strip() for text in texts if text is not None)
    expected = replace(
        one,
        prompt=replace(one.prompt, messages=(Message(role="user", content=prompt),)),
        chosen=_answer(chosen),
        rejected=_answer(rejected),
    )
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}, expected


def _tools(prompt: Prompt) -> dict[str, JSON]:
    return {"tools": conversation.objects(prompt.tools)} if prompt.tools else {}


TRL = Format(
    name="trl",
    title="TRL, messages with a prompt of their own",
    expects="prompt, chosen and rejected; or prompt and completion; or messages; or prompt",
    keys=frozenset(
        {"prompt", "chosen", "rejected", "completion", "messages", "tools", "label", "margin"}
    ),
    recognises=recognises,
    parse=parse,
    write=write,
    loses=LOSES_ALL_BUT_PAIRS,
    unused=unused,
)
TRL_STANDARD = replace(
    TRL,
    name="trl-standard",
    title="TRL, plain texts",
    write=write_standard,
    loses=("conversations", *LOSES_ALL_BUT_PAIRS),
)
TRL_IMPLICIT = replace(
    TRL,
    name="trl-implicit",
    title="TRL, the prompt inside both sides",
    write=write_implicit,
)
TRL_SFT = replace(
    TRL,
    name="trl-sft",
    title="TRL, prompt and completion",
    write=write_demonstrations,
    loses=("rejected answers", "strength", *LOSES_ALL_BUT_PAIRS),
)
