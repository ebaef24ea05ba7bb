"""A reward model over HTTP, in the shapes that trainers ask in. Starts without torch.

    GET  /health         {"status", "model"}; the only route without a token
    POST /v1/rewards     {"items": [{"prompt", "completions", "tools"?}]} -> {"rewards": [[...]],
                         "vetoed_by"?: [[[FLAG, ...]]]}
    POST /get_reward     OpenRLHF: {"query": [...], "prompts"?: [...]} -> {"rewards", "scores"}
    POST /classify       vLLM, which verl asks: {"input"} -> {"data": [{"probs": [reward]}]}
    POST /v1/embeddings  SGLang, which verl asks: {"input"} -> {"data": [{"embedding": [reward]}]}

The last three send text that the chat template has rendered, and ``model``, which is answered with
the name of the model that is served. All rewards are raw: no sigmoid is applied.
"""

import asyncio
import base64
import binascii
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from heedful.data.formats import conversation as talk
from heedful.data.formats.base import RowDropped
from heedful.data.formats.conversation import Turns
from heedful.errors import DataError, HeedfulError, ResourceError
from heedful.types import JSON, Prompt
from heedful.web import problems
from heedful.web.protection import Protection

MAX_BODY = 16_000_000  # bytes
MAX_TEXTS = 2048  # completions in one request


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A prompt and completions of it, as messages. ``place`` is where they stand in a request."""

    place: str
    prompt: Prompt
    completions: tuple[Turns, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A conversation as text of the chat template; ``prompt`` is what comes before the answer."""

    place: str
    text: str
    prompt: str | None = None


Asked = Conversation | Rendered


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The rewards of a question's completions in order, and the tokens that were read.

    ``vetoed_by`` has for each completion the flags above their limits, None for each where no flag
    of the model has a limit.
    """

    rewards: tuple[float, ...]
    num_tokens: int
    vetoed_by: tuple[tuple[str, ...] | None, ...] = ()


class RewardModel(Protocol):
    """Whoever scores: one worker for all requests."""

    name: str

    def is_alive(self) -> bool:
        """Whether an answer can be expected."""

    def submit(self, asked: Sequence[Asked]) -> Future[list[Scored]]:
        """Queue a request; ``ResourceError`` when too much waits already."""


class Body(BaseModel):
    """Strict about types; what else a trainer sends along is left alone."""

    model_config = ConfigDict(strict=True, extra="ignore")


Texts = Annotated[list[str], Field(max_length=MAX_TEXTS)]


class Query(Body):
    """What OpenRLHF's trainer posts: whole texts, and the prompts that they begin with."""

    query: Texts
    prompts: Texts | None = None


class Input(Body):
    """What verl posts, by way of vLLM or SGLang."""

    input: str | Texts
    activation: bool | None = None  # the older name
    use_activation: bool | None = None


class Item(Body):
    """A prompt and completions, texts or lists of messages."""

    prompt: JSON
    completions: Annotated[list[JSON], Field(min_length=1, max_length=MAX_TEXTS)]
    tools: JSON = None


class Items(Body):
    """Our own request."""

    model_config = ConfigDict(strict=True, extra="forbid")
    items: Annotated[list[Item], Field(max_length=MAX_TEXTS)]


def create_service(model: RewardModel, *, token: str | None) -> FastAPI:
    """The app; with a token, every route but the health needs it as bearer or Basic password."""
    app = FastAPI(
        title="Heedful reward model",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry=problems.NO_TELEMETRY,
    )
    app.add_exception_handler(HeedfulError, refuse)
    app.add_exception_handler(HTTPException, refuse_http)
    app.add_exception_handler(RequestValidationError, refuse_shape)

    async def refused(request: Request) -> Response | None:
        if token is not None and request.url.path != "/health" and not shows(request, token):
            answer: Response = problems.problem(
                401, "token_needed", "send the token: Authorization: Bearer TOKEN"
            )
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        return refuse_request(request)

    app.add_middleware(Protection, refused=refused)

    @app.get("/health")
    async def health() -> Response:
        if not model.is_alive():
            return problems.problem(503, "stopped", "the model has stopped; start it again")
        return JSONResponse({"status": "ok", "model": model.name})

    async def ask(asked: Sequence[Asked]) -> list[Scored]:
        return await asyncio.wrap_future(model.submit(asked))

    @app.post("/v1/rewards")
    async def rewards(body: Items) -> dict[str, JSON]:
        asked = [conversation(f"items[{n}]", item) for n, item in enumerate(body.items)]
        if sum(len(one.completions) for one in asked) > MAX_TEXTS:
            raise DataError(f"a request has at most {MAX_TEXTS} completions; send several")
        found = await ask(asked)
        vetoes: list[JSON] = [
            [list(flags) for flags in one.vetoed_by if flags is not None] for one in found
        ]
        told: dict[str, JSON] = {"vetoed_by": vetoes} if any(vetoes) else {}
        return {"model": model.name, "rewards": [list(one.rewards) for one in found]} | told

    @app.post("/get_reward")
    async def get_reward(body: Query) -> dict[str, JSON]:
        prompts: Sequence[str | None] = body.prompts or [None] * len(body.query)
        if len(prompts) != len(body.query):
            raise DataError(
                f"query has {len(body.query)} texts and prompts {len(prompts)}; send one each"
            )
        pairs = enumerate(zip(body.query, prompts, strict=True))
        found = await ask(
            [Rendered(place=f"query[{n}]", text=one, prompt=before) for n, (one, before) in pairs]
        )
        values = [reward for one in found for reward in one.rewards]
        return {"rewards": values, "scores": values, "extra_logs": {}}

    async def read(body: Input) -> list[Scored]:
        if body.activation or body.use_activation:
            raise DataError("rewards are raw and have no activation; send use_activation: false")
        texts = [body.input] if isinstance(body.input, str) else body.input
        return await ask([Rendered(place=f"input[{n}]", text=one) for n, one in enumerate(texts)])

    @app.post("/classify")
    async def classify(body: Input) -> dict[str, JSON]:
        found = await read(body)
        data = [
            {"index": n, "label": "reward", "probs": list(one.rewards), "num_classes": 1}
            for n, one in enumerate(found)
        ]
        made = {"id": f"classify-{secrets.token_hex(16)}", "created": int(time.time())}
        return made | listed(data, found) | {"model": model.name}

    @app.post("/v1/embeddings")
    async def embeddings(body: Input) -> dict[str, JSON]:
        found = await read(body)
        data = [
            {"object": "embedding", "index": n, "embedding": list(one.rewards)}
            for n, one in enumerate(found)
        ]
        return listed(data, found) | {"model": model.name}

    return app


def listed(data: Sequence[JSON], found: Sequence[Scored]) -> dict[str, JSON]:
    """The list that both shapes of verl have, with what was read."""
    num_tokens = sum(one.num_tokens for one in found)
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens, "completion_tokens": 0}
    return {"object": "list", "data": list(data), "usage": usage}


def conversation(place: str, item: Item) -> Conversation:
    """An item as messages; raises ``DataError`` with the place of what is wrong."""
    where = f"{place}.prompt"
    try:
        prompt = talk.said(where, item.prompt, "user")
        talk.check_prompt(prompt)
        tools = talk.tools(item.tools)
        completions = []
        for number, one in enumerate(item.completions):
            where = f"{place}.completions[{number}]"
            completions.append(talk.answer(where, one))
    except RowDropped as drop:
        seen = drop.detail if drop.detail.startswith(where) else f"{where}: {drop.detail}"
        raise DataError(f"{seen} ({drop.rule})") from None
    return Conversation(
        place=place, prompt=Prompt(messages=prompt, tools=tools), completions=tuple(completions)
    )


def shows(request: Request, token: str) -> bool:
    """Whether a request has the token: as bearer, or as the password of an address's user."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            value = base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif kind.lower() != "bearer":
        return False
    return secrets.compare_digest(value.strip().encode(), token.encode())


def refuse_request(request: Request) -> Response | None:
    """Why a body is not read: pages of other sites, which may send no JSON unasked, get nothing."""
    if request.method != "POST":
        return None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        seen = f"the content type is {kind[:40]!r}; send application/json"
        return problems.problem(415, "no_json", seen)
    unread = problems.unread(request, MAX_BODY)
    return problems.problem(*unread) if unread else None


async def refuse(_: Request, error: Exception) -> Response:
    """One of our errors."""
    status, code = problems.status_of(error)
    answer = problems.problem(status, code, str(error))
    if isinstance(error, ResourceError):
        answer.headers["Retry-After"] = "1"
    return answer


async def refuse_http(_: Request, error: Exception) -> Response:
    """An unknown path or method."""
    assert isinstance(error, HTTPException)
    return problems.problem(error.status_code, "http", str(error.detail))


async def refuse_shape(_: Request, error: Exception) -> Response:
    """A body that is not what the route takes."""
    assert isinstance(error, RequestValidationError)
    return problems.problem(422, "shape", problems.misshapen(error))
