"""API keys as their holders and owners see them: what each allows, never its secret."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, or_, select, update

from heedful.errors import MissingError
from heedful.store import people, tables
from heedful.store.database import Transaction
from heedful.types import Source, User

CREDENTIALS = tables.credentials.c
ID_DIGITS = 16  # of the hash of the secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key that works. ``source`` is who answers with it, ``expires_at`` None when it stays."""

    id: str
    holder: User
    name: str
    scopes: tuple[str, ...]
    source: Source
    created_at: datetime
    expires_at: datetime | None


def list_active(tx: Transaction, user_id: str | None = None) -> list[Key]:
    """The keys that work, of one person or of everybody, oldest first."""
    works = and_(
        CREDENTIALS.kind == "key",
        CREDENTIALS.ended_at.is_(None),
        or_(CREDENTIALS.expires_at.is_(None), CREDENTIALS.expires_at > tx.now),
    )
    query = select(tables.credentials).where(works)
    if user_id is not None:
        query = query.where(CREDENTIALS.user_id == user_id)
    holders = {user.id: user for user in people.list_all(tx)}
    order = query.order_by(CREDENTIALS.created_at, CREDENTIALS.secret_hash)
    return [_from_row(row, holders) for row in tx.connection.execute(order)]


def revoke(tx: Transaction, key_id: str, *, by: User, anybodys: bool) -> Key:
    """End a key of one's own, or ``anybodys``, and log it; raises ``MissingError``."""
    known = list_active(tx, None if anybodys else by.id)
    found = next((one for one in known if one.id == key_id), None)
    if found is None:
        raise MissingError(f"key {key_id!r:.40} is not among those you may revoke; list them first")
    hashed = CREDENTIALS.secret_hash.startswith(key_id.removeprefix("key_"), autoescape=True)
    ended = update(tables.credentials).where(hashed, CREDENTIALS.user_id == found.holder.id)
    tx.connection.execute(ended.values(ended_at=tx.now))
    people.log(tx, by.id, "revoked key", found.name, {"of": found.holder.name})
    return found


def id_of(secret: str) -> str:
    """What a key is called; says nothing about the secret."""
    return f"key_{people.hash_secret(secret)[:ID_DIGITS]}"


def _from_row(row: Any, holders: dict[str, User]) -> Key:
    return Key(
        id=f"key_{row.secret_hash[:ID_DIGITS]}",
        holder=holders[row.user_id],
        name=row.name,
        scopes=tuple(row.scopes),
        source=row.source,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
