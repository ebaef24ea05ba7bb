"""What people think of answers in a chat, as tasks and annotations like any other.

A thumb and an edit answer the form ``demonstration``, a choice among drafts the form ``pairwise``;
both go through the queue. A task is made, leased and answered in one transaction, so nobody else
is ever handed somebody's conversation.
"""

from typing import Any

from heedful.errors import DataError
from heedful.store import Transaction, chat, completions, projects, queue
from heedful.store.chat import Chat, Draft, Turn
from heedful.types import JSON, Project, Source, Task
from heedful.web.access import new_secret

ANSWERS, DRAFTS = "chat-answers", "chat-drafts"
PROJECTS = {
    name: Project(dataset=name, title=title, form=form, gold_share=0.0, repeat_share=0.0)
    for name, title, form in (
        (ANSWERS, "Chat: thumbs and edits", "demonstration"),
        (DRAFTS, "Chat: choices between drafts", "pairwise"),
    )
}


def rate(
    tx: Transaction,
    who: str,
    talk: Chat,
    turn: Turn,
    rated: str,
    *,
    text: str = "",
    source: Source = "human",
) -> None:
    """A thumb ``up`` or ``down`` with a reason, or an ``edited`` answer; a change is a revision."""
    draft = chosen(turn)
    if rated not in ("up", "down", "edited"):
        raise DataError(f"rated is {rated!r:.40}; send up, down or edited")
    edited = text.strip() if rated == "edited" else None
    payload: dict[str, JSON] = {"accepted": draft.completion if rated == "up" else None}
    if edited is not None:
        if not edited or edited == draft.text.strip():
            raise DataError("the edited answer is empty or as it was; change it")
        payload = {"written": edited}
    elif text.strip():
        payload["comment"] = text.strip()
    submit(tx, ANSWERS, who, (draft,), payload, source)
    is_last = turn.number == chat.newest(tx, talk.id).number
    # an earlier answer stays what the conversation went on with
    chat.rate(tx, talk.id, turn, rated, answer=edited if is_last else None)


def choose(
    tx: Transaction, who: str, talk: Chat, draft_id: str, *, source: Source = "human"
) -> None:
    """Go on with a draft: it is preferred to each of the others on offer that are done."""
    turn = chat.newest(tx, talk.id)
    offered = chat.offered(talk, turn)
    found = [draft for draft in offered if draft.id == draft_id]
    if not found:
        raise DataError("that draft is not on offer for the newest turn; reload the page")
    if turn.answer is not None:
        raise DataError("this turn has its answer; regenerate to choose again")
    chat.choose(tx, talk.id, turn, found[0])
    for other in offered:
        if other.id == draft_id or other.state != "done" or other.text == found[0].text:
            continue
        shown = sorted((found[0], other), key=lambda draft: draft.place)
        submit(tx, DRAFTS, who, shown, {"preferred": found[0].completion}, source)


def chosen(turn: Turn) -> Draft:
    """The draft that a turn's answer is; raises ``DataError`` before there is one."""
    for draft in turn.drafts:
        if draft.id == turn.chosen and draft.completion is not None:
            return draft
    raise DataError("there is no answer to judge yet; wait for it, or choose one")


def submit(
    tx: Transaction, project: str, who: str, shown: Any, payload: dict[str, JSON], source: Source
) -> None:
    """Make the task, take it and answer it, as it was on the page."""
    if project not in {one.dataset for one in projects.list_all(tx)}:
        projects.add(tx, PROJECTS[project])
    ids = tuple(draft.completion for draft in shown)
    prompt = completions.get(tx, [ids[0]])[ids[0]].prompt
    task = Task(
        form=PROJECTS[project].form, prompt=prompt, completion_ids=ids, reason="chat", priority=1e9
    )
    projects.add_tasks(tx, project, [task])
    queue.take(tx, project, who, task.id, ids)
    queue.submit(tx, project, who, task.id, payload, key=new_secret(), seconds=None, source=source)
