"""API keys: made, listed and revoked, by pages and by the API. A secret is shown once."""

from collections.abc import Collection
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field

from heedful.errors import DataError
from heedful.store import Store, Transaction, keys, people
from heedful.web.access import (
    PERMISSIONS,
    Visitor,
    allows,
    needs_session,
    new_secret,
    store_of,
    visitor_of,
)
from heedful.web.api import Name, Strict, as_text
from heedful.web.people import show_me

router = APIRouter()
MAX_NAME, MAX_DAYS, DAYS = 60, 365, 90
Answerer = Literal["human", "model", "rule"]


class KeyBody(Strict):
    """A new API key of one's own, with no more than one's own permissions.

    ``source`` says who answers with it: a person by a program of theirs, a model, or a rule.
    """

    name: str = Field(min_length=1, max_length=MAX_NAME)
    scopes: list[Literal["enter", "label", "view", "review", "manage"]]
    days: int = Field(DAYS, ge=1, le=MAX_DAYS)
    source: Answerer = "human"


@router.post("/api/keys", status_code=201)
@allows("enter")
@needs_session
def make_key(request: Request, body: KeyBody) -> dict[str, Any]:
    """Make an API key; it is shown this once."""
    secret = make(
        store_of(request),
        visitor_of(request),
        name=body.name,
        scopes=body.scopes,
        days=body.days,
        source=body.source,
    )
    rest = {"scopes": sorted(set(body.scopes)), "days": body.days, "source": body.source}
    return {"key": secret, "id": keys.id_of(secret)} | rest


@router.get("/api/keys")
@allows("enter")
def list_keys(request: Request) -> list[dict[str, Any]]:
    """One's own API keys that work, without their secrets."""
    with store_of(request).read() as tx:
        return keys_json(tx, visitor_of(request).user.id)


@router.get("/api/people/{person}/keys")
@allows("manage")
def list_keys_of(request: Request, person: Name) -> list[dict[str, Any]]:
    """A person's API keys that work, without their secrets."""
    with store_of(request).read() as tx:
        return keys_json(tx, people.get(tx, person).id)


@router.delete("/api/keys/{key}")
@allows("enter")
def revoke_key(request: Request, key: Name) -> dict[str, Any]:
    """End an API key of one's own, or anybody's for who may manage people."""
    revoke(request, key)
    return {"revoked": key}


@router.post("/me/keys", include_in_schema=False)
@allows("enter")
@needs_session
def make_on_page(
    request: Request,
    name: Annotated[str, Form()],
    scopes: Annotated[list[str], Form()],
    days: Annotated[int, Form()] = DAYS,
    source: Annotated[Answerer, Form()] = "human",
) -> Response:
    """Make an API key and show it once."""
    made = make(
        store_of(request),
        visitor_of(request),
        name=name,
        scopes=scopes,
        days=days,
        source=source,
    )
    return show_me(request, made=(name.strip(), made))


@router.post("/keys/{key}/revoke", include_in_schema=False)
@allows("enter")
def revoke_on_page(
    request: Request, key: str, on: Annotated[Literal["me", "people"], Form()] = "me"
) -> Response:
    """End an API key; goes back to the page ``on`` which the button was."""
    revoke(request, key)
    return RedirectResponse(f"/{on}", status_code=303)


def make(
    store: Store,
    visitor: Visitor,
    *,
    name: str,
    scopes: Collection[str],
    days: int,
    source: Answerer,
) -> str:
    """The secret of a new key; raises ``DataError`` beyond what its maker may do."""
    if not 0 < len(name.strip()) <= MAX_NAME:
        raise DataError(f"a key's name has {len(name.strip())} characters; give 1 to {MAX_NAME}")
    if not 1 <= days <= MAX_DAYS:
        raise DataError(f"days is {days}; a key works for 1 to {MAX_DAYS} days")
    beyond = sorted(set(scopes) - visitor.permissions)
    if beyond:
        allowed = ", ".join(sorted(visitor.permissions & PERMISSIONS[visitor.user.role]))
        raise DataError(f"scopes has {beyond[0]!r:.40}, which you may not do; yours: {allowed}")
    secret = f"hk_{new_secret()}"
    with store.write() as tx:
        valid = timedelta(days=days)
        granted = sorted(set(scopes))
        people.grant(
            tx,
            secret,
            "key",
            visitor.user.id,
            valid=valid,
            name=name.strip(),
            scopes=granted,
            source=source,
        )
        detail = {"scopes": granted, "source": source}
        people.log(tx, visitor.user.id, "made key", name.strip(), detail)
    return secret


def revoke(request: Request, key: str) -> None:
    """End a key that the visitor may end."""
    visitor = visitor_of(request)
    with store_of(request).write() as tx:
        keys.revoke(tx, key, by=visitor.user, anybodys=visitor.may("manage"))


def keys_json(tx: Transaction, user_id: str) -> list[dict[str, Any]]:
    """A person's keys as JSON."""
    return [
        asdict(one)
        | {"holder": user_id, "created_at": as_text(one.created_at)}
        | {"expires_at": as_text(one.expires_at)}
        for one in keys.list_active(tx, user_id)
    ]
