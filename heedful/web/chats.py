"""The chat: conversations with models, and what people think of the answers. Pages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from heedful.engine.remote import checked_url
from heedful.errors import ConfigError, DataError
from heedful.store import Store, Transaction, chat, jobs, models, people
from heedful.store.chat import Chat, Draft, Turn
from heedful.web import chat_feedback, chat_writing
from heedful.web.access import allows, store_of, visitor_of
from heedful.web.chain import called
from heedful.web.pages import fragment, page, wants_page
from heedful.web.run_view import when

router = APIRouter()
MAX_LISTED = 50
MAX_TOKENS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who can be talked to. ``is_remote``: text goes to another server."""

    id: str
    name: str
    is_remote: bool


@router.get("/chat", include_in_schema=False)
@allows("review")
def all_chats(request: Request) -> Response:
    """One's own conversations, and the form that begins one."""
    store, who = here(request)
    with store.read() as tx:
        own, known = chat.list_own(tx, who, limit=MAX_LISTED), targets(tx)
    names = {one.id: one.name for one in known}
    return page(request, "chats.html", chats=own, targets=known, names=names, when=when)


@router.post("/chat", include_in_schema=False)
@allows("review")
def begin(
    request: Request,
    target: Annotated[str, Form()],
    other: Annotated[str, Form()] = "",
    max_new_tokens: Annotated[int, Form(ge=1, le=MAX_TOKENS)] = 512,
    temperature: Annotated[float, Form(ge=0.01, le=5)] = 0.8,
) -> Response:
    """Begin a conversation with one model, or with two."""
    found = start(request, [target, other] if other else [target], max_new_tokens, temperature)
    return RedirectResponse(f"/chat/{found.id}", status_code=303)


@router.get("/chat/endpoints", include_in_schema=False)
@allows("manage")
def endpoints(request: Request) -> Response:
    """The addresses that owners registered."""
    return endpoints_page(request, {})


def endpoints_page(request: Request, typed: Mapping[str, str], *, error: str = "") -> Response:
    """The addresses, and the form for another: empty, or as it was ``typed`` and refused."""
    store, _ = here(request)
    with store.read() as tx:
        found = chat.endpoints(tx)
    status = 422 if error else 200
    return page(
        request, "chat_endpoints.html", status=status, endpoints=found, typed=typed, error=error
    )


@router.post("/chat/endpoints", include_in_schema=False)
@allows("manage")
def add_endpoint(
    request: Request,
    name: Annotated[str, Form(max_length=60)] = "",
    url: Annotated[str, Form(max_length=500)] = "",
    model: Annotated[str, Form(max_length=200)] = "",
    key: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Register an address. Only owners may: it makes the studio fetch it."""
    try:
        register(request, name, url, model, key)
    except (ConfigError, DataError) as error:
        if not wants_page(request):
            raise
        typed = {"name": name, "url": url, "model": model}  # a key is never shown again
        return endpoints_page(request, typed, error=str(error))
    return RedirectResponse("/chat/endpoints", status_code=303)


@router.post("/chat/endpoints/{endpoint}/drop", include_in_schema=False)
@allows("manage")
def drop_endpoint(request: Request, endpoint: str) -> Response:
    """Use an address no longer, and forget its key."""
    drop(request, endpoint)
    return RedirectResponse("/chat/endpoints", status_code=303)


@router.get("/chat/{talk}", include_in_schema=False)
@allows("review")
def conversation(request: Request, talk: str) -> Response:
    """A conversation; complete without scripts."""
    store, who = here(request)
    found, turns = look(store, talk, who)
    with store.read() as tx:
        names = {one.id: one.name for one in targets(tx)}
        lacks = jobs.lacks_worker(tx)
    return page(
        request,
        "chat.html",
        chat=found,
        turns=turns,
        names=names,
        last=len(turns) - 1,
        offered=chat.offered,
        lacks_worker=lacks,
    )


@router.get("/chat/{talk}/turns/{number}", include_in_schema=False)
@allows("review")
def one_turn(request: Request, talk: str, number: int) -> Response:
    """The newest turn as it is now, for a page that watches it being written."""
    store, who = here(request)
    found, turns = look(store, talk, who)
    with store.read() as tx:
        names = {one.id: one.name for one in targets(tx)}
        lacks = jobs.lacks_worker(tx)
    if not 0 <= number < len(turns):
        raise DataError(f"turn is {number}; the conversation has {len(turns)}")
    html = fragment(
        "chat_turn.html",
        chat=found,
        turn=turns[number],
        names=names,
        last=len(turns) - 1,
        offered=chat.offered,
        lacks_worker=lacks,
        csrf=visitor_of(request).csrf,
    )
    return Response(html, media_type="text/html; charset=utf-8")


@router.post("/chat/{talk}/say", include_in_schema=False)
@allows("review")
def say_text(request: Request, talk: str, text: Annotated[str, Form()]) -> Response:
    """Say something; the answers are written while the page is looked at."""
    say(request, talk, text)
    return back(talk)


@router.post("/chat/{talk}/regenerate", include_in_schema=False)
@allows("review")
def draw_again(request: Request, talk: str) -> Response:
    """Another draft of the newest answer, to choose between them."""
    regenerate(request, talk)
    return back(talk)


@router.post("/chat/{talk}/stop", include_in_schema=False)
@allows("review")
def stop_writing(request: Request, talk: str) -> Response:
    """Wait no longer for the newest answer."""
    stop(request, talk)
    return back(talk)


@router.post("/chat/{talk}/choose", include_in_schema=False)
@allows("review")
def choose_draft(request: Request, talk: str, draft: Annotated[str, Form()]) -> Response:
    """Go on with a draft."""
    choose(request, talk, draft)
    return back(talk)


@router.post("/chat/{talk}/turns/{number}/rate", include_in_schema=False)
@allows("review")
def rate_turn(
    request: Request,
    talk: str,
    number: int,
    rated: Annotated[str, Form()],
    text: Annotated[str, Form(max_length=chat.MAX_TEXT)] = "",
) -> Response:
    """A thumb with a reason, or an edited answer."""
    rate(request, talk, number, rated, text)
    return back(talk)


def here(request: Request) -> tuple[Store, str]:
    """The store, and the id of who asks."""
    store = store_of(request)
    return store, visitor_of(request).user.id


def look(store: Store, talk: str, who: str) -> tuple[Chat, list[Turn]]:
    """One's own conversation, without drafts that seem to be written by somebody who is gone."""
    with store.read() as tx:
        found, turns = chat.get(tx, talk, who), chat.turns(tx, talk)
        if not chat.silent(tx, talk):
            return found, turns
    with store.write() as tx:
        chat.fail_silent(tx, talk)
        return found, chat.turns(tx, talk)


def back(talk: str) -> Response:
    """To the end of the conversation."""
    return RedirectResponse(f"/chat/{talk}#end", status_code=303)


def targets(tx: Transaction) -> list[Target]:
    """Endpoints, and the registered models that can write."""
    remote = [Target(id=one.id, name=one.name, is_remote=True) for one in chat.endpoints(tx)]
    found = models.newest(tx, limit=MAX_LISTED)
    local = [
        Target(id=one.id, name=called(one), is_remote=False)
        for one in found
        if one.version.role != "reward"
    ]
    return [*remote, *local]


def register(request: Request, name: str, url: str, model: str, key: str) -> chat.Endpoint:
    """Register an address, with a line in the log that holds no key."""
    store, who = here(request)
    address = checked_url(url)
    with store.write() as tx:
        made = chat.add_endpoint(tx, name, address, model, key=key, who=who)
        people.log(tx, who, "added endpoint", made.id, {"url": address, "model": made.model})
    return made


def drop(request: Request, endpoint: str) -> None:
    """Use an address no longer; what it answered stays. Raises ``MissingError``."""
    store, who = here(request)
    with store.write() as tx:
        chat.drop_endpoint(tx, endpoint)
        people.log(tx, who, "dropped endpoint", endpoint)


def start(request: Request, asked: list[str], max_new_tokens: int, temperature: float) -> Chat:
    """Begin a conversation with targets that are there."""
    store, who = here(request)
    with store.write() as tx:
        known = {one.id for one in targets(tx)}
        odd = [one for one in asked if one not in known]
        if odd:
            raise DataError(f"target is {odd[0]!r:.60}; choose a model or an endpoint of the list")
        return chat.start(tx, who, asked, max_new_tokens=max_new_tokens, temperature=temperature)


def say(request: Request, talk: str, text: str) -> Turn:
    """A new turn, and somebody to write each of its drafts."""
    store, who = here(request)
    with store.write() as tx:
        found = chat.get(tx, talk, who)
        turn = chat.say(tx, found, text, request.app.state.rng)
        for draft in turn.drafts:
            ask_worker(tx, draft, who)
    for draft in turn.drafts:
        ask_endpoint(store, draft)
    return turn


def regenerate(request: Request, talk: str) -> list[Draft]:
    """Another draft of the newest turn, or all of it anew where none was finished."""
    store, who = here(request)
    with store.write() as tx:
        found = chat.get(tx, talk, who)
        chat.fail_silent(tx, talk)
        drafts = chat.regenerate(tx, found, request.app.state.rng)
        for draft in drafts:
            ask_worker(tx, draft, who)
    for draft in drafts:
        ask_endpoint(store, draft)
    return drafts


def stop(request: Request, talk: str) -> None:
    """Give up on what is being written in a conversation."""
    store, who = here(request)
    with store.write() as tx:
        chat.get(tx, talk, who)
        chat.stop(tx, talk)


def choose(request: Request, talk: str, draft: str) -> None:
    """Go on with a draft."""
    store, who = here(request)
    source = visitor_of(request).source
    with store.write() as tx:
        chat_feedback.choose(tx, who, chat.get(tx, talk, who), draft, source=source)


def rate(request: Request, talk: str, number: int, rated: str, text: str) -> None:
    """What the person thinks of an answer."""
    store, who = here(request)
    source = visitor_of(request).source
    with store.write() as tx:
        found = chat.get(tx, talk, who)
        turns = chat.turns(tx, talk)
        if not 0 <= number < len(turns):
            raise DataError(f"turn is {number}; the conversation has {len(turns)}")
        chat_feedback.rate(tx, who, found, turns[number], rated, text=text, source=source)


def ask_worker(tx: Transaction, draft: Draft, who: str) -> None:
    """Queue a draft of a registered model: this process loads none."""
    if not draft.target.startswith("end_"):
        jobs.add(tx, chat.JOB, chat.job_spec(draft.id), who=who, key=draft.id)


def ask_endpoint(store: Store, draft: Draft) -> None:
    """Let an endpoint write a draft, once it is committed."""
    if draft.target.startswith("end_"):
        chat_writing.answer_in_background(store, draft)
