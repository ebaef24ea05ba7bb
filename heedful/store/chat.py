"""Conversations with models, and the drafts of their answers.

A turn is what a person said and one or more drafts that answer it. A draft is written by a thread
or a worker, piece by piece; when it is done it is a completion, tied to the version that wrote it.
Places of drafts are drawn, so that where one stands says nothing about who wrote it.
"""

import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import and_, delete, select, update

from heedful.errors import DataError, MissingError
from heedful.store import completions, jobs, models, tables
from heedful.store.database import Transaction
from heedful.types import JSON, Completion, Message, Prompt

DraftState = Literal["waiting", "running", "done", "failed"]
JOB = "chat"  # the kind of job that writes a draft
MAX_DRAFTS = 9
MAX_TEXT = 200_000
SILENT = timedelta(seconds=90)  # nobody writes on a draft that was not touched for so long
OPEN = ("waiting", "running")
ENDED = ("finished", "failed")
ENDPOINTS, CHATS = tables.chat_endpoints.c, tables.chats.c
TURNS, DRAFTS = tables.chat_turns.c, tables.chat_drafts.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An OpenAI-compatible address that an owner registered. Its key is asked for by ``key_of``."""

    id: str
    name: str
    url: str
    model: str
    has_key: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A conversation of one person with one model, or with two whose drafts stand side by side."""

    id: str
    who: str
    title: str
    targets: tuple[str, ...]
    max_new_tokens: int
    temperature: float
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One answer to a turn, as far as it is written."""

    id: str
    chat: str
    turn: int
    place: int
    target: str
    seed: int
    state: DraftState
    text: str
    completion: str | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a person said, its drafts by place, and the answer that the conversation goes on with.

    ``rated`` is what the person thought of it: ``up``, ``down``, ``edited`` or nothing.
    """

    number: int
    said: str
    drafts: tuple[Draft, ...]
    chosen: str | None
    answer: str | None
    rated: str


def add_endpoint(
    tx: Transaction, name: str, url: str, model: str, *, key: str, who: str
) -> Endpoint:
    """Register an address; raises ``DataError`` for a name that is taken or an empty model."""
    if not name.strip() or not model.strip():
        raise DataError("an endpoint has a name, and a model to ask for; fill both in")
    if not key.strip().isascii() or not key.strip().isprintable():
        raise DataError("the key has characters that no header can carry; copy it again")
    row = {
        "id": f"end_{secrets.token_hex(8)}",
        "name": name.strip(),
        "url": url,
        "model": model.strip(),
        "secret": key.strip(),
        "is_active": True,
        "who": who,
    }
    hint = f"an endpoint is called {name.strip()!r:.60} already; choose another name"
    tx.insert_new(tables.chat_endpoints, [row], hint=hint)
    return get_endpoint(tx, str(row["id"]))


def endpoints(tx: Transaction) -> list[Endpoint]:
    """The addresses in use, oldest first."""
    query = select(tables.chat_endpoints).where(ENDPOINTS.is_active)
    rows = tx.connection.execute(query.order_by(ENDPOINTS.created_at, ENDPOINTS.id))
    return [_endpoint(row) for row in rows]


def get_endpoint(tx: Transaction, endpoint: str) -> Endpoint:
    """An address by id; raises ``MissingError``."""
    query = select(tables.chat_endpoints).where(ENDPOINTS.id == endpoint, ENDPOINTS.is_active)
    row = tx.connection.execute(query).one_or_none()
    if row is None:
        raise MissingError(f"endpoint {endpoint!r:.60} is not in the store; an owner adds them")
    return _endpoint(row)


def key_of(tx: Transaction, endpoint: str) -> str:
    """The key that is sent to an address; for whoever sends it, never for a page."""
    query = select(ENDPOINTS.secret).where(ENDPOINTS.id == endpoint)
    key: str = tx.connection.execute(query).scalar_one()
    return key


def drop_endpoint(tx: Transaction, endpoint: str) -> None:
    """Use an address no longer; its key is forgotten, what it answered stays."""
    get_endpoint(tx, endpoint)
    statement = update(tables.chat_endpoints).where(ENDPOINTS.id == endpoint)
    retired = ENDPOINTS.name + f" ({endpoint})"  # so that the name can be used again
    tx.connection.execute(statement.values(is_active=False, secret="", name=retired))


def start(
    tx: Transaction,
    who: str,
    targets: Sequence[str],
    *,
    max_new_tokens: int = 512,
    temperature: float = 0.8,
) -> Chat:
    """Begin a conversation with one target, or with two to compare."""
    if not 1 <= len(targets) <= 2:
        raise DataError(f"{len(targets)} targets; talk to one, or compare two")
    for target in targets:
        name_of(tx, target)
    row = {
        "id": f"cht_{secrets.token_hex(8)}",
        "who": who,
        "title": "",
        "targets": list(targets),
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
    }
    tx.insert_new(tables.chats, [row], hint="sign in first")
    return get(tx, str(row["id"]), who)


def get(tx: Transaction, chat: str, who: str) -> Chat:
    """One of a person's own conversations; raises ``MissingError`` for any other."""
    query = select(tables.chats).where(CHATS.id == chat, CHATS.who == who)
    row = tx.connection.execute(query).one_or_none()
    if row is None:
        raise MissingError(f"conversation {chat!r:.60} is not among yours; begin a new one")
    return _chat(row)


def settings_of(tx: Transaction, chat: str) -> Chat:
    """A conversation for whoever writes its drafts."""
    return _chat(tx.connection.execute(select(tables.chats).where(CHATS.id == chat)).one())


def list_own(tx: Transaction, who: str, *, limit: int) -> list[Chat]:
    """A person's conversations, newest first."""
    query = select(tables.chats).where(CHATS.who == who)
    rows = tx.connection.execute(query.order_by(CHATS.created_at.desc(), CHATS.id).limit(limit))
    return [_chat(row) for row in rows]


def name_of(tx: Transaction, target: str) -> str:
    """What a target is called; raises ``MissingError`` when it is not there."""
    if target.startswith("end_"):
        return get_endpoint(tx, target).name
    return models.get(tx, target).name


def turns(tx: Transaction, chat: str) -> list[Turn]:
    """A conversation from its beginning."""
    drafts: dict[int, list[Draft]] = {}
    query = select(tables.chat_drafts).where(DRAFTS.chat == chat)
    for row in tx.connection.execute(query.order_by(DRAFTS.turn, DRAFTS.place)):
        drafts.setdefault(row.turn, []).append(_draft(row))
    query = select(tables.chat_turns).where(TURNS.chat == chat).order_by(TURNS.number)
    return [
        Turn(
            number=row.number,
            said=row.said,
            drafts=tuple(drafts.get(row.number, ())),
            chosen=row.chosen,
            answer=row.answer,
            rated=row.rated,
        )
        for row in tx.connection.execute(query)
    ]


def say(tx: Transaction, chat: Chat, text: str, rng: random.Random) -> Turn:
    """A new turn with a draft of every target, in an order that is drawn.

    Raises ``DataError`` for an empty text, and before the turn before it has its answer.
    """
    if not text.strip():
        raise DataError("there is nothing to say; write something")
    if len(text) > MAX_TEXT:
        raise DataError(f"the text has {len(text)} characters; {MAX_TEXT} at most")
    before = turns(tx, chat.id)
    if before and before[-1].answer is None:
        raise DataError("the answer before has to be there, and chosen, first")
    number = len(before)
    row = {"chat": chat.id, "number": number, "said": text.strip(), "rated": ""}
    tx.insert_new(tables.chat_turns, [row])
    if not number:
        titled = update(tables.chats).where(CHATS.id == chat.id)
        tx.connection.execute(titled.values(title=" ".join(text.split())[:80]))
    _draft_each(tx, chat, number, rng)
    return turns(tx, chat.id)[number]


def regenerate(tx: Transaction, chat: Chat, rng: random.Random) -> list[Draft]:
    """Another draft for the newest turn, of the target that wrote the one that stands.

    Where no draft was finished, all targets are asked anew, and their failed ones go.
    """
    last = newest(tx, chat.id)
    if any(draft.state in OPEN for draft in last.drafts):
        raise DataError("an answer is still being written; wait for it")
    if all(draft.state == "failed" for draft in last.drafts):
        failed = and_(DRAFTS.chat == chat.id, DRAFTS.turn == last.number)
        tx.connection.execute(delete(tables.chat_drafts).where(failed))
        return _draft_each(tx, chat, last.number, rng)
    if len(last.drafts) >= MAX_DRAFTS:
        raise DataError(f"there are {MAX_DRAFTS} drafts already; choose among them")
    standing = [draft for draft in last.drafts if draft.id == last.chosen] or last.drafts
    _set_turn(tx, chat.id, last.number, chosen=None, answer=None, rated="")
    place = len(last.drafts)
    return [_add_draft(tx, chat.id, last.number, place, standing[0].target, rng)]


def _draft_each(tx: Transaction, chat: Chat, turn: int, rng: random.Random) -> list[Draft]:
    """A draft of every target, in an order that is drawn."""
    drawn = rng.sample(chat.targets, len(chat.targets))
    return [_add_draft(tx, chat.id, turn, place, target, rng) for place, target in enumerate(drawn)]


def newest(tx: Transaction, chat: str) -> Turn:
    """The last turn; raises ``MissingError`` before the first."""
    found = turns(tx, chat)
    if not found:
        raise MissingError("nothing was said yet")
    return found[-1]


def choose(tx: Transaction, chat: str, turn: Turn, draft: Draft) -> None:
    """Go on with a draft; raises ``DataError`` when it is not done."""
    if draft.state != "done" or draft.completion is None:
        raise DataError(f"the draft is {draft.state}; choose one that is done")
    _set_turn(tx, chat, turn.number, chosen=draft.id, answer=draft.text)


def rate(tx: Transaction, chat: str, turn: Turn, rated: str, *, answer: str | None = None) -> None:
    """Keep what the person thought of the answer; an edited one is what the chat goes on with."""
    values = {"rated": rated} | ({"answer": answer} if answer is not None else {})
    _set_turn(tx, chat, turn.number, **values)


def prompt_of(tx: Transaction, chat: str, turn: int) -> Prompt:
    """What the drafts of a turn answer: the conversation up to it."""
    messages: list[Message] = []
    for one in turns(tx, chat)[: turn + 1]:
        messages.append(Message(role="user", content=one.said))
        if one.number < turn:
            messages.append(Message(role="assistant", content=one.answer or ""))
    return Prompt(messages=tuple(messages))


def get_draft(tx: Transaction, draft: str) -> Draft:
    """A draft by id; raises ``MissingError``."""
    row = tx.connection.execute(select(tables.chat_drafts).where(DRAFTS.id == draft)).one_or_none()
    if row is None:
        raise MissingError(f"draft {draft!r:.60} is not in the store")
    return _draft(row)


def write(tx: Transaction, draft: str, text: str) -> bool:
    """What is written of a draft so far; False when it is over and nobody wants more."""
    open_ = and_(DRAFTS.id == draft, DRAFTS.state.in_(OPEN))
    values = {"state": "running", "text": text, "changed_at": tx.now}
    return (
        tx.connection.execute(update(tables.chat_drafts).where(open_).values(**values)).rowcount > 0
    )


def complete(tx: Transaction, draft: Draft, completion: Completion) -> bool:
    """The whole answer as a completion; the only draft of a turn is chosen with it.

    False when nobody wants the draft any more, or the conversation was deleted; then nothing is
    kept of the answer.
    """
    there = select(DRAFTS.state).where(DRAFTS.id == draft.id).with_for_update()
    if tx.connection.scalar(there) not in OPEN:
        return False
    completions.add(tx, [completion])
    values = {
        "state": "done",
        "text": completion.text,
        "completion": completion.id,
        "changed_at": tx.now,
    }
    tx.connection.execute(update(tables.chat_drafts).where(DRAFTS.id == draft.id).values(**values))
    turn = turns(tx, draft.chat)[draft.turn]
    if len(turn.drafts) == 1:
        choose(tx, draft.chat, turn, turn.drafts[0])
    return True


def fail(tx: Transaction, draft: str, error: str) -> None:
    """Why a draft cannot be written."""
    values = {"state": "failed", "error": error[:2000], "changed_at": tx.now}
    open_ = and_(DRAFTS.id == draft, DRAFTS.state.in_(OPEN))
    tx.connection.execute(update(tables.chat_drafts).where(open_).values(**values))


def silent(tx: Transaction, chat: str) -> dict[str, str]:
    """The open drafts that nobody will go on with, and why."""
    query = select(tables.chat_drafts).where(DRAFTS.chat == chat, DRAFTS.state.in_(OPEN))
    reasons = {row.id: _why_silent(tx, row) for row in tx.connection.execute(query).all()}
    return {draft: why for draft, why in reasons.items() if why}


def fail_silent(tx: Transaction, chat: str) -> None:
    """Give up on the drafts that nobody will go on with."""
    for draft, why in silent(tx, chat).items():
        fail(tx, draft, why)


def stop(tx: Transaction, chat: str) -> None:
    """Give up on what is being written; its jobs are cancelled."""
    for draft in newest(tx, chat).drafts:
        if draft.state not in OPEN:
            continue
        fail(tx, draft.id, "you stopped it")
        job = jobs.find(tx, job_of(draft.id))
        if job is not None and job.state in ("waiting", "running"):
            jobs.cancel(tx, job.id)


def job_of(draft: str) -> str:
    """The job that writes a draft of a registered model."""
    return jobs.id_of(JOB, job_spec(draft), draft)


def job_spec(draft: str) -> Mapping[str, JSON]:
    """What the job that writes a draft is told."""
    return {"draft": draft}


def offered(chat: Chat, turn: Turn) -> tuple[Draft, ...]:
    """The drafts to choose among. Who wrote which is known after a choice, so that another draft
    stands beside those of its own author only."""
    if len(turn.drafts) <= len(chat.targets):
        return turn.drafts
    return tuple(draft for draft in turn.drafts if draft.target == turn.drafts[-1].target)


def _why_silent(tx: Transaction, row: Any) -> str:
    if row.target.startswith("end_"):
        is_old = row.changed_at < tx.now - SILENT
        return "the studio stopped while it was being written" if is_old else ""
    job = jobs.find(tx, job_of(row.id))
    if job is None:
        return "the job that was to write it is gone"
    if job.state == "cancelled":
        return "the job that was to write it was cancelled"
    if job.state == "running" and jobs.is_dead(tx, job):
        return "the workers that wrote it died"
    return (job.error or "the worker ended without it") if job.state in ENDED else ""


def _add_draft(
    tx: Transaction, chat: str, turn: int, place: int, target: str, rng: random.Random
) -> Draft:
    row: dict[str, Any] = {
        "id": f"drf_{secrets.token_hex(8)}",
        "chat": chat,
        "turn": turn,
        "place": place,
        "target": target,
        "seed": rng.randrange(2**31),
        "state": "waiting",
        "text": "",
        "error": "",
        "changed_at": tx.now,
    }
    tx.insert_new(tables.chat_drafts, [row])
    return get_draft(tx, row["id"])


def _set_turn(tx: Transaction, chat: str, number: int, **values: Any) -> None:
    mine = and_(TURNS.chat == chat, TURNS.number == number)
    tx.connection.execute(update(tables.chat_turns).where(mine).values(**values))


def _endpoint(row: Any) -> Endpoint:
    return Endpoint(
        id=row.id, name=row.name, url=row.url, model=row.model, has_key=bool(row.secret)
    )


def _chat(row: Any) -> Chat:
    return Chat(
        id=row.id,
        who=row.who,
        title=row.title,
        targets=tuple(row.targets),
        max_new_tokens=row.max_new_tokens,
        temperature=row.temperature,
        created_at=row.created_at,
    )


def _draft(row: Any) -> Draft:
    return Draft(**{name: getattr(row, name) for name in Draft.__slots__})
