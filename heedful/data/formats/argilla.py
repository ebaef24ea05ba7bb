"""Argilla's flat records: fields at the top, answers under dotted names.

``<question>.responses`` lists the answers, ``<question>.responses.users`` who gave each, and
``<question>.responses.status`` whether it was submitted. Fields are ``prompt`` (a text, or messages
as a chat field has them) and ``response_1``, ``response_2``, ...; the metadata ``form`` says which
questions there are:

- ``pairwise``: ``preferred`` (``response_1``, ``response_2``, ``tie`` or ``both_bad``),
  ``strength`` (0 to 3), ``written``;
- ``ranking``: ``ranking``, the names of the responses from best to worst;
- ``demonstration``: ``accepted`` (``yes`` or ``no``) or ``written``;
- ``critique``: ``critique``; and with each form ``comment``.

A record without ``form`` is told by its questions. A question without users has one answer; lists
that do not say of each answer once who gave it are dropped (``uneven_lists``), and so is a status
that Argilla has not (``unknown_status``). Answers that were not submitted are left out when read
(``draft``, ``discarded``, ``pending``). Written are people's newest answers; rankings with ties
(``ranking_with_ties``) and the other forms are left out.
"""

from collections.abc import Iterator, Mapping

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
    check_name,
    check_text,
    labels,
    only,
    proven,
    usable,
)
from heedful.data.formats.conversation import Turns
from heedful.forms.base import MAX_SHOWN
from heedful.types import JSON, Annotation, Item, Prompt, Role

QUESTIONS = {
    "pairwise": ("preferred", "strength", "written", "comment"),
    "ranking": ("ranking", "comment"),
    "demonstration": ("accepted", "written", "comment"),
    "critique": ("critique", "comment"),
}
_TELLING = ("preferred", "ranking", "accepted", "critique")
_ENDS = (".responses", ".responses.users", ".responses.status")
_NAMES = {name for names in QUESTIONS.values() for name in names}
_RESPONSES = tuple(f"response_{label}" for label in labels(MAX_SHOWN))
_STATES = ("submitted", "draft", "discarded", "pending")
_VERDICTS = {"yes": "1", "no": None}


def recognises(row: Row) -> bool:
    """A prompt, a response and a question."""
    known = {f"{name}.responses" for name in _TELLING}
    return row.keys() >= {"prompt", "response_1"} and bool(known & row.keys() or "form" in row)


def parse(row: Row) -> Judged:
    """The record with everybody's answers; raises ``RowDropped``."""
    prompt = conversation.said("prompt", row.get("prompt"), "user")
    conversation.check_prompt(prompt)
    responses = [name for name in _RESPONSES if row.get(name) is not None]
    if responses != list(_RESPONSES[: len(responses)]) or not responses:
        raise RowDropped("missing_key", f"its responses are {responses}; number them from 1")
    form = _form(row)
    answers, left_out = _answers(row, form)
    return Judged(
        form=form,
        prompt=Prompt(messages=prompt, tools=conversation.tools(row.get("tools"))),
        candidates={
            label: Candidate(messages=conversation.answer(name, row[name]))
            for label, name in zip(labels(len(responses)), responses, strict=True)
        },
        answers=answers,
        left_out=left_out,
    )


def _form(row: Row) -> str:
    form = row.get("form")
    if form is None:
        told = [name for name, questions in QUESTIONS.items() if f"{questions[0]}.responses" in row]
        form = told[0] if told else None
    if not isinstance(form, str) or form not in QUESTIONS:
        raise RowDropped("unknown_form", f"form is {form!r:.40}; known: {', '.join(QUESTIONS)}")
    return form


def _answers(row: Row, form: str) -> tuple[tuple[Answer, ...], tuple[tuple[str, str], ...]]:
    """One answer for each user, from their answers to single questions."""
    given: dict[str, dict[str, JSON]] = {}
    status: dict[str, str] = {}
    for question in QUESTIONS[form]:
        values, users, states = (_list(row, f"{question}{end}") for end in _ENDS)
        users = users or [""] * len(values)
        states = states or ["submitted"] * len(values)
        _check_lists(question, values, users, states)
        for value, user, state in zip(values, users, states, strict=True):
            given.setdefault(user, {})[question] = value
            status[user] = state
    kept = [user for user in given if status[user] == "submitted"]
    left = tuple((status[user], f"the answer of {user}") for user in given if user not in kept)
    answers, refused = usable(
        kept, lambda user: Answer(payload=_payload(form, given[user]), annotator=user)
    )
    return tuple(answers), (*left, *refused)


def _check_lists(question: str, values: list[JSON], users: list[str], states: list[str]) -> None:
    """Drop lists that do not say of each answer once who gave it."""
    if not all(isinstance(one, str) for one in (*users, *states)):
        raise RowDropped("unsupported_content", f"{question} has a user that is no text")
    for user in users:
        check_name(user, f"{question} has a user that")
    if unknown := [one for one in states if one not in _STATES]:
        known = ", ".join(_STATES)
        raise RowDropped("unknown_status", f"{question} has {unknown[0]!r:.40}; known: {known}")
    if not len(values) == len(users) == len(states):
        raise RowDropped("uneven_lists", f"{question}: {len(values)} of {len(users)} users")
    if len(set(users)) < len(users):
        seen = "the same user twice" if any(users) else "no users"
        raise RowDropped("uneven_lists", f"{question}: {len(values)} answers of {seen}")


def _payload(form: str, given: Mapping[str, JSON]) -> dict[str, JSON]:
    payload = dict(given)
    for key, value in given.items():
        if isinstance(value, str):
            check_text(value, key)
    if form == "ranking":
        order = payload.pop("ranking", None)
        if not isinstance(order, list) or not all(isinstance(one, str) for one in order):
            raise RowDropped("wrong_ranks", f"ranking is {order!r:.60}; list the responses")
        payload["ranks"] = [[one.removeprefix("response_")] for one in order]
    elif form == "pairwise":
        preferred = payload.get("preferred")
        if isinstance(preferred, str):
            tied = preferred == "tie"
            payload["preferred"] = None if tied else preferred.removeprefix("response_")
    elif form == "demonstration" and "accepted" in payload:
        accepted = payload["accepted"]
        if accepted not in ("yes", "no"):
            raise RowDropped("unsupported_content", f"accepted is {accepted!r:.40}; yes or no")
        payload["accepted"] = _VERDICTS[accepted]
    return payload


def _list(row: Row, key: str) -> list[JSON]:
    value = row.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise RowDropped("unsupported_content", f"{key} is no list")
    return value


def write(item: Item, tally: Tally) -> Iterator[Row]:
    """One record for a task, with the newest answer of every person."""
    kept = [answer for answer in answers_of(item, tally) if _holds(item, answer, tally)]
    if item.task is None or not kept:
        return
    names = dict(zip(item.task.completion_ids, _RESPONSES, strict=False))
    row: dict[str, JSON] = {"id": item.id, "form": item.task.form}
    row["prompt"] = _spell(item.prompt.messages, "user")
    for one, name in names.items():
        row[name] = _spell(item.completions[one].messages, "assistant")
    if item.prompt.tools:
        row["tools"] = conversation.objects(item.prompt.tools)
    for question in QUESTIONS[item.task.form]:
        values = [
            (_value(question, answer, names), answer.annotator)
            for answer in kept
            if _says(question, answer)
        ]
        columns = [value for value, _ in values], [user for _, user in values]
        for end, column in zip(_ENDS, (*columns, ["submitted"] * len(values)), strict=True):
            row[f"{question}{end}"] = column
    yield from proven(row, _expected(item, kept, names), parse, tally)


def _holds(item: Item, answer: Annotation, tally: Tally) -> bool:
    assert item.task is not None
    form, rule = item.task.form, ""
    if form not in QUESTIONS:
        rule = f"{form}_is_not_held"
    elif answer.source != "human":
        rule = "not_human"
    elif any(len(group) > 1 for group in answer.payload.get("ranks", ())):
        rule = "ranking_with_ties"
    if rule:
        tally.left_out[rule] += 1
    return not rule


def _says(question: str, answer: Annotation) -> bool:
    return ("ranks" if question == "ranking" else question) in answer.payload


def _value(question: str, answer: Annotation, names: Mapping[str, str]) -> JSON:
    if question == "ranking":
        return [names[one] for (one,) in answer.payload["ranks"]]
    value = answer.payload[question]
    if question == "accepted":
        return "no" if value is None else "yes"
    if question == "preferred":
        return "tie" if value is None else names.get(value, value)
    return value


def _spell(messages: Turns, role: Role) -> JSON:
    text = only(messages, role)
    return conversation.to_json(messages) if text is None else text


def _expected(item: Item, kept: list[Annotation], names: Mapping[str, str]) -> Judged:
    assert item.task is not None
    form = item.task.form
    answers = []
    for answer in kept:
        given = {q: _value(q, answer, names) for q in QUESTIONS[form] if _says(q, answer)}
        answers.append(Answer(payload=_payload(form, given), annotator=answer.annotator))
    in_order = sorted(answers, key=lambda one: _first_question(form, one))
    return Judged(
        form=form,
        prompt=item.prompt,
        candidates={
            label: Candidate(messages=item.completions[one].messages)
            for label, one in zip(labels(len(names)), names, strict=True)
        },
        answers=tuple(in_order),
    )


def _first_question(form: str, answer: Answer) -> int:
    """Where reading meets an answer first: by the first question that it answers."""
    keys = ["ranks" if name == "ranking" else name for name in QUESTIONS[form]]
    return next(number for number, key in enumerate(keys) if key in answer.payload)


ARGILLA = Format(
    name="argilla",
    title="Argilla, flat records",
    expects="prompt, response_1, ... and a question such as preferred.responses",
    keys=frozenset(
        {"id", "form", "prompt", "tools", *_RESPONSES}
        | {f"{name}{end}" for name in _NAMES for end in _ENDS}
    ),
    recognises=recognises,
    parse=parse,
    write=write,
    loses=("rankings with ties", "probability", "ratings, flags, steps",
           "answers not of people", "revisions", "shown order", "seconds", "time", *LOSES_OF_TASKS),
)  # fmt: skip
