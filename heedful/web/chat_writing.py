"""Answers while they are written: into the draft's row, where pages look; and by an endpoint."""

import itertools
import json
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from heedful.engine.remote import posted
from heedful.errors import DataError, HeedfulError
from heedful.store import Store, chat
from heedful.store.chat import Draft, Endpoint
from heedful.types import Completion, Message, messages_json

WRITE_SECONDS = 0.2
READ_SECONDS, TOTAL_SECONDS = 60.0, 300.0
MAX_LINE = 1_000_000  # bytes
MAX_TOLD, MAX_TOLD_LINES = 400, 20  # of what an endpoint says went wrong
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


def answer_in_background(store: Store, draft: Draft) -> None:
    """Let an endpoint write a draft, in a thread of its own."""
    threading.Thread(target=answer_by_endpoint, args=(store, draft.id), daemon=True).start()


def answer_by_endpoint(store: Store, draft_id: str) -> None:
    """Ask the endpoint, write what it says, and keep it as a completion, or why it did not."""
    try:
        write_answer(store, draft_id)
    except HeedfulError as error:
        give_up(store, draft_id, str(error))
    except Exception as error:  # whatever it was, somebody waits for the draft
        traceback.print_exc(file=sys.stderr)
        give_up(store, draft_id, f"it could not be written ({type(error).__name__})")


def give_up(store: Store, draft_id: str, why: str) -> None:
    """Tell whoever waits for a draft that it does not come."""
    with store.write() as tx:
        chat.fail(tx, draft_id, why)


def write_answer(store: Store, draft_id: str) -> None:
    """A draft from the question to its completion; raises what goes wrong."""
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
    try:
        with posted(
            endpoint.url, body, key=key, read_seconds=READ_SECONDS, name=endpoint.name
        ) as answer:
            lines = lines_of(endpoint, answer.iter_raw())
            if answer.status_code != 200:
                told = " ".join(itertools.islice(lines, MAX_TOLD_LINES))
                raise DataError(f"{endpoint.name} answered {answer.status_code}: {told}")
            return read_stream(endpoint, lines, on_text)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        kind = type(error).__name__
        raise DataError(f"{endpoint.name} could not be asked ({kind}); try again") from error
    except DataError as error:  # what was sent may repeat the key
        told = str(error).replace(key, "[key]") if key else str(error)
        raise DataError(shortened(told)) from error


def shortened(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) <= MAX_TOLD else f"{text[:MAX_TOLD]} …"


def lines_of(endpoint: Endpoint, chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a stream that is neither too slow nor made of endless lines."""
    deadline = time.monotonic() + TOTAL_SECONDS
    line = bytearray()
    for chunk in chunks:
        if time.monotonic() > deadline:
            raise DataError(f"{endpoint.name} took more than {TOTAL_SECONDS:.0f} s; ask for less")
        *whole, rest = chunk.split(b"\n")
        for part in whole:
            yield (line + part).decode("utf-8", "replace").rstrip("\r")
            line.clear()
        line += rest
        if len(line) > MAX_LINE:
            raise DataError(f"{endpoint.name} sent a line of more than {MAX_LINE} bytes")
    if line:
        yield line.decode("utf-8", "replace")


def read_stream(endpoint: Endpoint, lines: Iterable[str], on_text: OnText) -> Answered:
    """The pieces of a stream of server-sent events, as OpenAI's API sends them."""
    text, finish, model = "", "", endpoint.model
    for line in lines:
        piece = ""  # lines that only keep the stream open are a sign of life, too
        if line.startswith("data:"):
            data = line[5:].strip()
            if data == "[DONE]":
                break
            try:
                piece, why, who = read_event(data)
            except (ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
                raise DataError(f"{endpoint.name} sent what is no answer: {data}") from error
            finish, model = why or finish, who or model
        text += piece
        if len(text) > chat.MAX_TEXT:
            raise DataError(f"{endpoint.name} sent more than {chat.MAX_TEXT} characters")
        if not on_text(piece):
            raise DataError("the draft was given up while it was being written")
    if not text.strip():
        raise DataError(f"{endpoint.name} sent an empty answer; try again")
    return Answered(text=text, finish_reason=finish or "cancelled", model=model)


def read_event(data: str) -> tuple[str, str, str]:
    """A piece of text, why it was the last one, and the model, each empty when it is not told."""
    event = json.loads(data)
    first = (event.get("choices") or [{}])[0]
    told = (
        (first.get("delta") or {}).get("content") or "",
        first.get("finish_reason") or "",
        str(event.get("model") or "")[:200],
    )
    if not all(isinstance(one, str) for one in told):
        raise TypeError("the text and the reason of an answer's end are texts")
    return told
