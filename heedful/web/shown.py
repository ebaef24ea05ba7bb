"""What a task shows to whoever answers it: as HTML, without anything that tells who wrote what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import Request
from markupsafe import Markup

from heedful.forms import FORMS
from heedful.forms.flags import FLAGS
from heedful.forms.rating import DEFAULT_CRITERIA
from heedful.forms.steps import step_messages
from heedful.store import Transaction, annotations, tasks
from heedful.store.queue import Assignment
from heedful.store.tasks import AnsweredTask
from heedful.types import JSON, Completion, Message, Project, last_text
from heedful.web import render
from heedful.web.access import new_secret, visitor_of
from heedful.web.pages import fragment


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One answer on the page: its letter and its turns, never its author.

    ``rank``, ``ratings`` and ``flags`` are what the annotator said about it before.
    """

    id: str
    letter: str
    place: int
    text: str
    turns: Sequence[render.Turn]
    rank: int | None
    ratings: Mapping[str, JSON]
    flags: Mapping[str, JSON]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A task as somebody was given it, and what they said to it before; enough to draw it.

    Drawing takes its time with what models wrote, and no transaction waits for it.
    """

    view: Assignment
    asked: AnsweredTask
    said: Mapping[str, JSON]


def given(tx: Transaction, who: str, views: Sequence[Assignment]) -> list[Given]:
    """Tasks as somebody was given them, with their own newest answers."""
    unread = [view.task_id for view in views if view.asked is None]
    read = tasks.get(tx, unread) if unread else {}
    return [
        Given(view=view, asked=view.asked or read[view.task_id], said=said_before(tx, who, view))
        for view in views
    ]


def said_before(tx: Transaction, who: str, view: Assignment) -> Mapping[str, JSON]:
    """The answer that somebody gave to a task, if they did."""
    if view.state != "submitted":
        return {}
    said = annotations.latest(tx, [view.task_id], (view.kind,))
    mine = [one for one in said if one.annotator == who]
    return mine[-1].payload if mine else {}


def items_of(
    request: Request, project: Project, found: Sequence[Given], undo_to: int | None = 0
) -> list[dict[str, JSON]]:
    """What a browser gets of each task: its id and round, its HTML, its guidelines' version."""
    return [
        {
            "task": one.view.task_id,
            "round": one.view.round,
            "guideline": one.view.guideline,
            "html": item(request, project, one, undo_to),
        }
        for one in found
    ]


def item(request: Request, project: Project, found: Given, undo_to: int | None) -> Markup:
    """A task as HTML, and which answer undo goes to. Who wrote an answer is not in it."""
    view, asked, given = found.view, found.asked, found.said
    completions = asked.completions
    return fragment(
        f"forms/{project.form}.html",
        project=project,
        question=FORMS[project.form].question,
        is_ruling=view.kind == "adjudication",
        task=view.task_id,
        round=view.round,
        guideline=view.guideline,
        prompt=render.conversation(hide(asked.task.prompt.messages, project)),
        candidates=[
            candidate(place, completions[one], project, given)
            for place, one in enumerate(view.shown_order)
        ],
        steps=steps_of(project, completions[view.shown_order[0]]),
        flag_names=FLAGS,
        default_criteria=DEFAULT_CRITERIA,
        given=given,
        draft=view.draft or {},
        is_change=view.state == "submitted",
        undo_to=undo_to,
        key=new_secret(),
        csrf=visitor_of(request).csrf,
    )


def steps_of(project: Project, completion: Completion) -> Sequence[render.Turn]:
    """The steps of an answer, for the form that asks about each."""
    if project.form != "steps":
        return ()
    return render.conversation(step_messages(hide(completion.messages, project)))


def candidate(
    place: int, completion: Completion, project: Project, given: Mapping[str, JSON]
) -> Candidate:
    """A completion as it stands at a place of the page."""
    messages = hide(completion.messages, project)
    ranks = [number for number, ids in enumerate(given.get("ranks", ()), 1) if completion.id in ids]
    return Candidate(
        id=completion.id,
        letter="ABCDEFGHI"[place],
        place=place,
        text=last_text(messages),
        turns=render.conversation(messages),
        rank=ranks[0] if ranks else None,
        ratings=given.get("ratings", {}).get(completion.id, {}),
        flags=given.get("flags", {}).get(completion.id, {}),
    )


def hide(messages: Sequence[Message], project: Project) -> list[Message]:
    """The messages without what would tell who wrote them: an assistant's name, the ids of its
    tool calls, some phrases."""
    numbers: dict[str, str] = {}

    def numbered(id_: str) -> str:
        return numbers.setdefault(id_, f"call_{len(numbers) + 1}") if id_ else ""

    return [
        Message(
            role=one.role,
            content=hidden_content(one, project),
            tool_calls=tuple(
                render.masked_call(render.with_id(call, numbered), project.masked)
                for call in one.tool_calls
            ),
            tool_call_id=numbered(one.tool_call_id),
            name="" if one.role == "assistant" else render.masked(one.name, project.masked),
        )
        for one in messages
    ]


def hidden_content(message: Message, project: Project) -> str:
    """A message's text without the hidden phrases; a tool's result is shown as it is written."""
    hidden = render.masked if message.role == "tool" else render.blinded
    return hidden(message.content, project.masked)
