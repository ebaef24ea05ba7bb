"""Lists of ``{"role", "content"}`` messages: reading them, and telling prompt from answer."""

import json
from collections.abc import Iterable, Iterator, Sequence

from heedful.data.formats.base import RowDropped, check_text, excerpt
from heedful.types import JSON, Message, Role, messages_json

Turns = tuple[Message, ...]
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",  # the newer name of the same role
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_KEYS = frozenset({"role", "content", "tool_calls", "tool_call_id", "name"})


def said(key: str, value: JSON, role: Role) -> Turns:
    """What somebody in a role said: one text, or messages; raises ``RowDropped``."""
    found = text_or_turns(key, value, role)
    return (Message(role=role, content=found),) if isinstance(found, str) else found


def answer(key: str, value: JSON) -> Turns:
    """An answer of the assistant that is not empty; raises ``RowDropped``."""
    found = said(key, value, "assistant")
    check_answer(key, found)
    return found


def text_or_turns(key: str, value: JSON, role: Role) -> str | Turns:
    """The text as it is, or the messages; raises ``RowDropped``."""
    if isinstance(value, str):
        check_text(value, key)
        return value
    if value is None:
        raise RowDropped("missing_key", f"{key} is absent or null")
    return turns(key, value, role)


def turns(key: str, rows: JSON, role: Role) -> Turns:
    """The messages of a list; raises ``RowDropped``. ``role`` is whose part of the talk it is."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        kind = excerpt(json.dumps(rows))
        raise RowDropped("unsupported_content", f"{key} is {kind}; write a text or messages")
    if not rows:
        rule = "empty_prompt" if role == "user" else "empty_side"
        raise RowDropped(rule, f"{key} is a list without messages")
    return tuple(_message(f"{key}[{number}]", row) for number, row in enumerate(rows))


def to_json(messages: Sequence[Message]) -> list[dict[str, JSON]]:
    """The messages as ``turns`` reads them; tool calls become objects where that loses nothing."""
    rows: list[dict[str, JSON]] = []
    for row in messages_json(tuple(messages)):
        if "tool_calls" in row:
            row["tool_calls"] = objects(row["tool_calls"])
        rows.append(row)
    return rows


def objects(texts: Iterable[str]) -> list[JSON]:
    """JSON texts as values; a text that is no object in its canonical spelling stays a text."""
    return [_object(text) for text in texts]


def _object(text: str) -> JSON:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    same = isinstance(value, dict) and json.dumps(value, sort_keys=True) == text
    return value if same else text


def unknown_keys(where: str, value: JSON) -> Iterator[str]:
    """Keys inside the messages of a value that no message has, as ``prompt[].KEY``."""
    if isinstance(value, dict) and "messages" in value:
        yield from unknown_keys(f"{where}.messages", value["messages"])
    for one in value if isinstance(value, list) else ():
        if isinstance(one, dict) and "role" in one:
            yield from (f"{where}[].{key}" for key in one.keys() - _KEYS if one[key] is not None)
        else:
            yield from unknown_keys(f"{where}[]", one)


def tools(value: JSON) -> tuple[str, ...]:
    """The tools as canonical JSON texts; older data sets hold the list as a JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise RowDropped("unsupported_content", "tools is no JSON") from error
    if value is None:
        return ()
    if not isinstance(value, list):
        raise RowDropped("unsupported_content", "tools is no list")
    return _texts("tools", value)


def split(prompt: Turns | None, chosen: Turns, rejected: Turns) -> tuple[Turns, Turns, Turns]:
    """Prompt, chosen and rejected answer; raises ``RowDropped``."""
    if prompt is None:
        prompt = _common_prompt(chosen, rejected)
    else:
        check_prompt(prompt)
    left, right = (_without(prompt, side) for side in (chosen, rejected))
    for side in (left, right):
        if any(turn.role == "user" for turn in side):
            raise RowDropped("mismatched_prompts", "the sides differ before their last answer")
    check_prompt(prompt)
    check_answer("chosen", left)
    check_answer("rejected", right)
    if left == right:
        raise RowDropped("identical_sides", f"both sides are {excerpt(left[-1].content)}")
    return prompt, left, right


def cut(messages: Turns) -> tuple[Turns, Turns]:
    """The messages up to the last user turn, and those after it."""
    users = [number for number, turn in enumerate(messages) if turn.role == "user"]
    end = users[-1] + 1 if users else 0
    return messages[:end], messages[end:]


def check_prompt(prompt: Turns) -> None:
    """Drop a row whose prompt asks nothing or leaves the assistant nothing to answer."""
    if not prompt or not any(turn.content.strip() for turn in prompt):
        raise RowDropped("empty_prompt", "the prompt has no text")
    if prompt[-1].role not in ("user", "tool"):
        raise RowDropped("no_user_turn", f"the prompt ends with the role {prompt[-1].role}")


def check_answer(side: str, answer: Turns) -> None:
    """Drop an answer that is empty or is not the assistant's."""
    if not answer:
        raise RowDropped("empty_side", f"{side} has no answer")
    if answer[0].role != "assistant" or answer[-1].role != "assistant":
        raise RowDropped("no_assistant_turn", f"{side} has no answer of the assistant")
    if not answer[-1].content.strip() and not answer[-1].tool_calls:
        raise RowDropped("empty_side", f"{side} has an empty answer")


def _common_prompt(chosen: Turns, rejected: Turns) -> Turns:
    num_common = 0
    for left, right in zip(chosen, rejected, strict=False):
        if left != right:
            break
        num_common += 1
    if not num_common:
        raise RowDropped("mismatched_prompts", "no prompt is given and the sides share no message")
    return cut(chosen[:num_common])[0]


def _without(prompt: Turns, side: Turns) -> Turns:
    return side[len(prompt) :] if side[: len(prompt)] == prompt else side


def _message(where: str, row: dict[str, JSON]) -> Message:
    role, content, calls = row.get("role"), row.get("content"), row.get("tool_calls")
    if not isinstance(role, str) or role not in _ROLES:
        known = ", ".join(_ROLES)
        raise RowDropped("unknown_role", f"{where} has role {role!r:.40}; known are {known}")
    if content is None and calls:
        content = ""
    if not isinstance(content, str):
        raise RowDropped("unsupported_content", f"{where} has content that is no text")
    check_text(content, where)
    if calls is not None and not isinstance(calls, list):
        raise RowDropped("unsupported_content", f"{where} has tool_calls that are no list")
    return Message(
        role=_ROLES[role],
        content=content,
        tool_calls=_texts(where, calls or ()),
        tool_call_id=_label(where, row, "tool_call_id"),
        name=_label(where, row, "name"),
    )


def _label(where: str, row: dict[str, JSON], key: str) -> str:
    """A short text that may be absent."""
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowDropped("unsupported_content", f"{where} has a {key} that is no text")
    check_text(value, where)
    return value


def _texts(where: str, values: Iterable[JSON]) -> tuple[str, ...]:
    texts = []
    for value in values:
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        check_text(text, where)
        texts.append(text)
    return tuple(texts)
