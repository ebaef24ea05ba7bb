"""The JSON API's part about conversations."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path, Request
from pydantic import Field

from heedful.store import chat
from heedful.store.chat import Turn
from heedful.web import chats
from heedful.web.access import allows
from heedful.web.api import MAX_INT, Name, Strict
from heedful.web.chats import MAX_TOKENS, here

router = APIRouter(prefix="/api/chats")


class ChatBody(Strict):
    """A new conversation: one target, or two whose drafts stand side by side."""

    targets: list[str] = Field(min_length=1, max_length=2)
    max_new_tokens: int = Field(512, ge=1, le=MAX_TOKENS)
    temperature: float = Field(0.8, ge=0.01, le=5)


class EndpointBody(Strict):
    """An OpenAI-compatible address; ``key`` is kept on the server and never shown again."""

    name: str = Field(min_length=1, max_length=60)
    url: str = Field(min_length=1, max_length=500)
    model: str = Field(min_length=1, max_length=200)
    key: str = Field("", max_length=500)


class RateBody(Strict):
    """``up`` and ``down`` with an optional reason, ``edited`` with the better answer."""

    rated: Literal["up", "down", "edited"]
    text: str = Field("", max_length=chat.MAX_TEXT)


@router.get("/targets")
@allows("review")
def list_targets(request: Request) -> list[dict[str, Any]]:
    """Who can be talked to."""
    store, _ = here(request)
    with store.read() as tx:
        return [asdict(one) for one in chats.targets(tx)]


@router.get("/endpoints")
@allows("manage")
def list_endpoints(request: Request) -> list[dict[str, Any]]:
    """The addresses that owners registered, without their keys."""
    store, _ = here(request)
    with store.read() as tx:
        return [asdict(one) for one in chat.endpoints(tx)]


@router.post("/endpoints", status_code=201)
@allows("manage")
def add_endpoint(request: Request, body: EndpointBody) -> dict[str, Any]:
    """Register an address."""
    return asdict(chats.register(request, body.name, body.url, body.model, body.key))


@router.delete("/endpoints/{endpoint}")
@allows("manage")
def drop_endpoint(request: Request, endpoint: Name) -> dict[str, Any]:
    """Use an address no longer, and forget its key; what it answered stays."""
    chats.drop(request, endpoint)
    return {"dropped": endpoint}


@router.get("")
@allows("review")
def list_chats(request: Request) -> list[dict[str, Any]]:
    """One's own conversations, newest first."""
    store, who = here(request)
    with store.read() as tx:
        return [asdict(one) for one in chat.list_own(tx, who, limit=chats.MAX_LISTED)]


@router.post("", status_code=201)
@allows("review")
def begin(request: Request, body: ChatBody) -> dict[str, Any]:
    """Begin a conversation."""
    return asdict(chats.start(request, body.targets, body.max_new_tokens, body.temperature))


@router.get("/{talk}")
@allows("review")
def get_chat(request: Request, talk: Name) -> dict[str, Any]:
    """A conversation with its turns; who wrote a draft is told once one is chosen."""
    store, who = here(request)
    found, turns = chats.look(store, talk, who)
    return asdict(found) | {"turns": [turn_json(one) for one in turns]}


@router.post("/{talk}/turns", status_code=201)
@allows("review")
def say(
    request: Request, talk: Name, text: Annotated[str, Body(embed=True, max_length=chat.MAX_TEXT)]
) -> dict[str, Any]:
    """Say something; look at the conversation to see the answer being written."""
    return turn_json(chats.say(request, talk, text))


@router.post("/{talk}/regenerate", status_code=201)
@allows("review")
def regenerate(request: Request, talk: Name) -> dict[str, Any]:
    """Another draft of the newest answer; all drafts anew where none was finished."""
    return {"drafts": [draft.id for draft in chats.regenerate(request, talk)]}


@router.post("/{talk}/stop")
@allows("review")
def stop(request: Request, talk: Name) -> dict[str, Any]:
    """Wait no longer for the newest answer."""
    chats.stop(request, talk)
    return get_chat(request, talk)


@router.post("/{talk}/choose")
@allows("review")
def choose(
    request: Request, talk: Name, draft: Annotated[str, Body(embed=True, max_length=100)]
) -> dict[str, Any]:
    """Go on with a draft; it is preferred to the others."""
    chats.choose(request, talk, draft)
    return get_chat(request, talk)


@router.post("/{talk}/turns/{number}/rate")
@allows("review")
def rate(
    request: Request,
    talk: Name,
    number: Annotated[int, Path(ge=0, le=MAX_INT)],
    body: RateBody,
) -> dict[str, Any]:
    """A thumb or an edit."""
    chats.rate(request, talk, number, body.rated, body.text)
    return get_chat(request, talk)


def turn_json(turn: Turn) -> dict[str, Any]:
    """A turn; the targets of drafts that are still to be chosen from are left out."""
    told = asdict(turn)
    if turn.chosen is None and len(turn.drafts) > 1:
        for draft in told["drafts"]:
            draft["target"] = None
    return told
