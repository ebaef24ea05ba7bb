"""Answers while they are written: into the draft's row, where pages look; and by an endpoint."""

import ipaddress
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from heedful.errors import ConfigError, DataError, HeedfulError
from heedful.store import Store, chat
from heedful.store.chat import Draft, Endpoint
from heedful.types import Completion, Message, messages_json

WRITE_SECONDS = 0.2
CONNECT_SECONDS, READ_SECONDS, TOTAL_SECONDS = 5.0, 60.0, 300.0
MAX_LINE = 1_000_000
OnText = Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What an endpoint answered, and which model it says answered."""

    text: str
    finish_reason: str
    model: str


class Writer:
    """Puts the text of a draft where pages see it, a few times a second."""

    def __init__(self, store: Store, draft: str) -> None:
        self.store, self.draft = store, draft
        self.text, self._written_at = "", 0.0

    def push(self, piece: str) -> bool:
        """Add a piece; False when nobody wants more."""
        self.text += piece
        now = time.monotonic()
        if now - self._written_at < WRITE_SECONDS:
            return True
        self._written_at = now
        with self.store.write() as tx:
            return chat.write(tx, self.draft, self.text)


def checked_url(text: str) -> str:
    """The base address of an OpenAI-compatible server; raises ``ConfigError`` for one that the
    studio must not fetch: plain HTTP is for this machine only."""
    url = text.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError as error:
        raise ConfigError(f"{url!r:.80} is no address ({error}); write https://HOST/v1") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine:
        raise ConfigError(f"{url!r:.80} is no address; write https://HOST/v1")
    if parts.username or parts.password or parts.query or parts.fragment or len(url) > 500:
        raise ConfigError(
            "an address has no name, key, query or fragment in it; give the key apart"
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigError(
            f"{url!r:.80} is plain HTTP to another machine; use https (http is for this machine)"
        )
    return url


def is_loopback(host: str) -> bool:
    """Does the name stand for this machine?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def answer_in_background(store: Store, draft: Draft) -> None:
    """Let an endpoint write a draft, in a thread of its own."""
    threading.Thread(target=answer_by_endpoint, args=(store, draft.id), daemon=True).start()


def answer_by_endpoint(store: Store, draft_id: str) -> None:
    """Ask the endpoint, write what it says, and keep it as a completion, or why it did not."""
    try:
        with store.read() as tx:
            draft = chat.get_draft(tx, draft_id)
            endpoint = chat.get_endpoint(tx, draft.target)
            key = chat.key_of(tx, draft.target)
            settings = chat.settings_of(tx, draft.chat)
            prompt = chat.prompt_of(tx, draft.chat, draft.turn)
        params = {
            "temperature": settings.temperature,
            "seed": draft.seed,
            "max_new_tokens": settings.max_new_tokens,
        }
        writer = Writer(store, draft_id)
        found = ask_endpoint(endpoint, key, prompt.messages, params, writer.push)
        completion = Completion(
            prompt=prompt,
            messages=(Message(role="assistant", content=found.text),),
            model=f"import:{endpoint.name}",
            draw=draft.place,
            finish_reason=found.finish_reason,
            params=params | {"url": endpoint.url, "model": found.model},
        )
        with store.write() as tx:
            chat.complete(tx, draft, completion)
    except HeedfulError as error:
        with store.write() as tx:
            chat.fail(tx, draft_id, str(error))


def ask_endpoint(
    endpoint: Endpoint,
    key: str,
    messages: Sequence[Message],
    params: dict[str, Any],
    on_text: OnText,
) -> Answered:
    """Stream an answer; raises ``DataError`` when the endpoint gives none."""
    import httpx

    body = {
        "model": endpoint.model,
        "messages": messages_json(tuple(messages)),
        "temperature": params["temperature"],
        "max_tokens": params["max_new_tokens"],
        "seed": params["seed"],
        "stream": True,
    }
    headers = {"authorization": f"Bearer {key}"} if key else {}
    times = httpx.Timeout(CONNECT_SECONDS, read=READ_SECONDS)
    # no redirects: they could lead where no owner sent us; no proxies from the environment
    try:
        with (
            httpx.Client(timeout=times, follow_redirects=False, trust_env=False) as client,
            client.stream(
                "POST", f"{endpoint.url}/chat/completions", json=body, headers=headers
            ) as answer,
        ):
            if answer.status_code != 200:
                told = next(answer.iter_text(500), "")[:300]
                told = told.replace(key, "[key]") if key else told
                raise DataError(f"{endpoint.name} answered {answer.status_code}: {told}")
            return read_stream(endpoint, answer.iter_lines(), on_text)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        kind = type(error).__name__
        raise DataError(f"{endpoint.name} could not be asked ({kind}); try again") from error


def read_stream(endpoint: Endpoint, lines: Any, on_text: OnText) -> Answered:
    """The pieces of a stream of server-sent events, as OpenAI's API sends them."""
    text, finish, model = "", "", endpoint.model
    deadline = time.monotonic() + TOTAL_SECONDS
    for line in lines:
        if time.monotonic() > deadline:
            raise DataError(f"{endpoint.name} took more than {TOTAL_SECONDS:.0f} s; ask for less")
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            break
        try:
            event = json.loads(data)
            choices = event.get("choices") or [{}]
            piece = (choices[0].get("delta") or {}).get("content") or ""
            finish = choices[0].get("finish_reason") or finish
            model = str(event.get("model") or model)[:200]
            assert isinstance(piece, str)
        except (ValueError, AttributeError, AssertionError, IndexError, TypeError) as error:
            raise DataError(f"{endpoint.name} sent what is no answer: {data:.200}") from error
        text += piece
        if len(text) > chat.MAX_TEXT:
            raise DataError(f"{endpoint.name} sent more than {chat.MAX_TEXT} characters")
        if piece and not on_text(piece):
            raise DataError("the draft was given up while it was being written")
    if not text.strip():
        raise DataError(f"{endpoint.name} sent an empty answer; try again")
    return Answered(text=text, finish_reason=finish or "cancelled", model=model)
