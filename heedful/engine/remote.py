"""Models behind an OpenAI-compatible endpoint: a question, an answer, and patience in between."""

import email.utils
import ipaddress
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from heedful.errors import ConfigError, DataError, MissingError
from heedful.types import JSON, Message, messages_json

CONNECT_SECONDS = 5.0
MAX_BYTES = 4_000_000  # of an answer
MAX_TOLD = 400  # characters of what an endpoint says went wrong
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})  # statuses that may pass
LONGEST_PAUSE = 60.0


def checked_url(text: str) -> str:
    """The base address of an OpenAI-compatible server; raises ``ConfigError`` for one that must not
    be fetched: plain HTTP is for this machine only."""
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


class _Passing(Exception):  # noqa: N818 - a signal of this file, never a user's error
    """What went wrong may pass; ``pause`` is what the endpoint asks to wait, in seconds."""

    def __init__(self, told: str, pause: float | None = None) -> None:
        super().__init__(told)
        self.pause = pause


@contextmanager
def posted(
    url: str, body: Mapping[str, JSON], *, key: str, read_seconds: float, name: str
) -> Iterator[Any]:
    """The answer of an endpoint as it comes; ``httpx`` errors pass, ``name`` is for messages.

    No redirects, which could carry the key elsewhere, and no proxies from the environment. What is
    packed could grow without bound while it is unpacked, so it is refused with ``DataError``.
    """
    httpx = _httpx()
    headers = {"accept-encoding": "identity"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    times = httpx.Timeout(read_seconds, connect=CONNECT_SECONDS)
    with (
        httpx.Client(timeout=times, follow_redirects=False, trust_env=False) as client,
        client.stream("POST", f"{url}/chat/completions", json=body, headers=headers) as answer,
    ):
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise DataError(f"{name} sent a packed answer, which was not asked for")
        yield answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A model behind an endpoint. May be asked by several threads at once.

    ``timeout_seconds`` bounds a wait for bytes; what may pass is tried ``num_tries`` times in all,
    after pauses that double from ``pause_seconds``, or that the endpoint asks for. The ``key`` goes
    into the header of a request and nowhere else.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout_seconds: float = 60.0
    num_tries: int = 4
    pause_seconds: float = 1.0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def body(self, messages: Sequence[Message], **params: JSON) -> dict[str, JSON]:
        """What is sent: all that an answer depends on."""
        return {"model": self.model, "messages": messages_json(tuple(messages)), **params}

    def ask(self, body: dict[str, JSON]) -> str:
        """The text of the answer; raises ``DataError`` when the endpoint gives none."""
        for number in range(1, self.num_tries + 1):
            try:
                return self._once(body)
            except _Passing as why:
                if number == self.num_tries:
                    told = self._without_key(str(why))
                    raise DataError(
                        f"{self.url} was asked {number} times: {told}; try later"
                    ) from why
                pause = self.pause_seconds * 2 ** (number - 1)
                if why.pause is None:
                    pause *= random.uniform(0.5, 1.5)  # noqa: S311 - so that threads spread out
                self.sleep(min(pause if why.pause is None else why.pause, LONGEST_PAUSE))
        raise AssertionError("num_tries is at least 1")

    def _once(self, body: dict[str, JSON]) -> str:
        httpx = _httpx()
        try:
            with posted(
                self.url, body, key=self.key, read_seconds=self.timeout_seconds, name=self.url
            ) as answer:
                content = bytearray()
                deadline = time.monotonic() + 5 * self.timeout_seconds
                for chunk in answer.iter_raw():
                    content += chunk
                    if len(content) > MAX_BYTES or time.monotonic() > deadline:
                        raise DataError(f"{self.url} sent too much or too slowly; ask for less")
        except httpx.InvalidURL as error:
            raise ConfigError(f"{self.url!r:.80} is no address ({error})") from error
        except httpx.HTTPError as error:
            raise _Passing(f"no answer ({type(error).__name__})") from error
        text = content.decode("utf-8", "replace")
        if answer.status_code in AGAIN:
            told = f"it answered {answer.status_code}: {shortened(text)}"
            raise _Passing(told, seconds_asked(answer.headers.get("retry-after", "")))
        if answer.status_code != 200:
            told = self._without_key(shortened(text))
            raise DataError(f"{self.url} answered {answer.status_code}: {told}")
        return self._read(text)

    def _read(self, text: str) -> str:
        try:
            said = json.loads(text)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            told = self._without_key(shortened(text))
            raise DataError(f"{self.url} sent what is no answer: {told}") from error
        if not isinstance(said, str) or not said.strip():
            raise _Passing("it sent an empty answer")
        return said

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "[key]") if self.key else text


def seconds_asked(header: str) -> float | None:
    """What ``Retry-After`` says, in seconds from now; None when it says nothing."""
    if header.strip().isdigit():
        return float(header)
    try:
        at = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def shortened(text: str) -> str:
    """The beginning of a text, on one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= MAX_TOLD else f"{flat[:MAX_TOLD]} …"


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise MissingError(
            "an endpoint is asked through httpx, which is not installed; run: pip install "
            "'heedful[train]'"
        ) from error
    return httpx
