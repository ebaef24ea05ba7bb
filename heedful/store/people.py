"""People of the studio: accounts, what proves who they are, and the log of what they did."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from sqlalchemy import bindparam, func, select, update

from heedful.errors import DataError, MissingError
from heedful.store import tables
from heedful.store.database import Transaction
from heedful.types import JSON, Source, User, UserRole

Kind = Literal["link", "session", "key"]
SOURCES: tuple[Source, ...] = ("human", "model", "rule")  # who may answer with a secret
ROLES: tuple[UserRole, ...] = ("owner", "reviewer", "annotator", "reader")
FORGOT = "forgot a person"  # what the log says of it
GONE = "gone_"  # how the empty name of somebody forgotten starts
USERS, CREDENTIALS = tables.users.c, tables.credentials.c
IS_HERE = ~USERS.id.startswith(GONE, autoescape=True)
BY_LINK = "link"  # what a session is called that a one-time link began
_LOCK = select(USERS.role).where(USERS.id == bindparam("id_")).with_for_update()
_BEARER = (
    select(tables.users, CREDENTIALS.scopes, CREDENTIALS.source)
    .add_columns(CREDENTIALS.expires_at, CREDENTIALS.ended_at)
    .join(tables.credentials, CREDENTIALS.user_id == USERS.id)
    .where(CREDENTIALS.secret_hash == bindparam("shown"), CREDENTIALS.kind == bindparam("as_"))
)


class Bearer(NamedTuple):
    """Who shows a secret, what it allows, and who gives the answers that come with it."""

    user: User
    scopes: tuple[str, ...]
    source: Source


def add(tx: Transaction, user: User, *, password_hash: str | None = None) -> None:
    """Add a person; raises ``DataError`` for a name that is taken or a role that is unknown."""
    if not user.name.strip():
        raise DataError("a person's name is empty; name them")
    if user.role not in ROLES:
        raise DataError(f"role {user.role!r} is unknown; choose from {', '.join(ROLES)}")
    row = {
        "id": user.id,
        "name": user.name.strip(),
        "role": user.role,
        "password_hash": password_hash,
        "attributes": dict(user.attributes),
        "is_active": user.is_active,
    }
    hint = f"the name {user.name!r} is taken; choose another"
    tx.insert_new(tables.users, [row], hint=hint)


def get(tx: Transaction, user_id: str) -> User:
    """A person by id; raises ``MissingError``."""
    row = tx.connection.execute(select(tables.users).where(USERS.id == user_id)).one_or_none()
    if row is None:
        raise MissingError(f"user {user_id!r} is not in the store")
    return _from_row(row)


def find(tx: Transaction, name: str) -> tuple[User, str | None] | None:
    """A person by name with the hash of their password; None when there is no such name."""
    row: Any = tx.connection.execute(
        select(tables.users).where(USERS.name == name.strip())
    ).one_or_none()
    return (_from_row(row), row.password_hash) if row else None


def list_all(tx: Transaction) -> list[User]:
    """Everyone but those who are forgotten, oldest first."""
    query = select(tables.users).where(IS_HERE)
    query = query.order_by(USERS.created_at, USERS.id)
    return [_from_row(row) for row in tx.connection.execute(query)]


def serialise(tx: Transaction, user_id: str) -> UserRole:
    """Let one transaction at a time act for a person, so that two tabs cannot take a task twice.

    Returns their role; raises ``MissingError``.
    """
    row: Any = tx.connection.execute(_LOCK, {"id_": user_id}).one_or_none()
    if row is None:
        raise MissingError(f"user {user_id!r} is not in the store; sign in")
    role: UserRole = row.role
    return role


def change(tx: Transaction, user_id: str, **values: Any) -> None:
    """Set ``role``, ``password_hash``, ``attributes`` or ``is_active``.

    Raises ``MissingError`` for a person who is unknown or forgotten, ``DataError`` when nobody
    would be left who is an active owner.
    """
    _refuse_gone(user_id)
    owners = select(USERS.id).where(USERS.role == "owner", USERS.is_active, IS_HERE)
    if values.keys() & {"role", "is_active"}:  # two owners must not see each other as the last
        tx.connection.execute(owners.order_by(USERS.id).with_for_update(key_share=True)).all()
    statement = update(tables.users).where(USERS.id == user_id).values(**values)
    if not tx.connection.execute(statement).rowcount:
        raise MissingError(f"user {user_id!r} is not in the store")
    if not tx.connection.scalars(owners).first():
        raise DataError("the last owner cannot leave; make another owner first")


def grant(
    tx: Transaction,
    secret: str,
    kind: Kind,
    user_id: str,
    *,
    valid: timedelta | None,
    name: str = "",
    scopes: Sequence[str] = (),
    source: Source = "human",
) -> None:
    """Let whoever shows ``secret`` be the user, for a time or (None) until it is ended.

    ``source`` is who answers with it: the person, or a program that is a model or a rule.
    """
    if source not in SOURCES:
        raise DataError(f"source is {source!r:.40}; choose from {', '.join(SOURCES)}")
    _refuse_gone(user_id)
    row = {
        "secret_hash": hash_secret(secret),
        "kind": kind,
        "user_id": user_id,
        "name": name,
        "scopes": list(scopes),
        "source": source,
        "expires_at": tx.now + valid if valid else None,
    }
    tx.insert_new(tables.credentials, [row], hint="add the person first")


def bearer(tx: Transaction, secret: str, kind: Kind) -> Bearer | None:
    """Who shows this secret; None when it is unknown, ended or too old."""
    shown = {"shown": hash_secret(secret), "as_": kind}
    row: Any = tx.connection.execute(_BEARER, shown).one_or_none()
    if row is None or row.ended_at is not None or not row.is_active:
        return None
    if row.expires_at is not None and row.expires_at <= tx.now:
        return None
    return Bearer(user=_from_row(row), scopes=tuple(row.scopes), source=row.source)


def came_by_link(tx: Transaction, session: str, *, within: timedelta) -> bool:
    """Did a one-time link begin this session, not longer ago than that?"""
    query = select(CREDENTIALS.secret_hash).where(
        CREDENTIALS.secret_hash == hash_secret(session),
        CREDENTIALS.kind == "session",
        CREDENTIALS.name == BY_LINK,
        CREDENTIALS.created_at >= tx.now - within,
    )
    return tx.connection.scalar(query) is not None


def end(tx: Transaction, secret: str) -> bool:
    """Make a secret worthless; False when it was already. A sign-in link is ended by its use."""
    statement = (
        update(tables.credentials)
        .where(CREDENTIALS.secret_hash == hash_secret(secret), CREDENTIALS.ended_at.is_(None))
        .values(ended_at=tx.now)
    )
    return tx.connection.execute(statement).rowcount > 0


def end_all(tx: Transaction, user_id: str, *, but: str | None = None) -> int:
    """Sign a person out everywhere and end their keys; how many secrets that were.

    ``but`` is a secret that stays.
    """
    kept = hash_secret(but) if but else ""
    statement = (
        update(tables.credentials)
        .where(
            CREDENTIALS.user_id == user_id,
            CREDENTIALS.ended_at.is_(None),
            CREDENTIALS.secret_hash != kept,
        )
        .values(ended_at=tx.now)
    )
    return tx.connection.execute(statement).rowcount


def log(
    tx: Transaction,
    who: str,
    what: str,
    subject: str,
    detail: Mapping[str, JSON] | None = None,
) -> None:
    """Add a line to the audit log: who did what to which record."""
    row = {
        "who": who,
        "what": what,
        "subject": subject,
        "detail": dict(detail or {}),
        "created_at": tx.now,
    }
    tx.connection.execute(tables.audit.insert().values(**row))


def num_forgotten(tx: Transaction) -> int:
    """How many people were forgotten so far."""
    query = select(func.count()).where(tables.audit.c.what == FORGOT)
    return tx.connection.scalar(query) or 0


def history(tx: Transaction, *, limit: int, before: int | None = None) -> list[Any]:
    """Lines of the audit log, newest first; ``before`` is the number that the page ends at."""
    numbers = tables.audit.c.number
    query = select(tables.audit).order_by(numbers.desc()).limit(limit)
    if before is not None:
        query = query.where(numbers < before)
    return list(tx.connection.execute(query))


def hash_secret(secret: str) -> str:
    """What is kept of a secret. Secrets are long and random, so a plain hash suffices."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _refuse_gone(user_id: str) -> None:
    if user_id.startswith(GONE):
        raise MissingError(f"user {user_id!r} was forgotten for good; invite the person anew")


def _from_row(row: Any) -> User:
    return User(
        id=row.id,
        name=row.name,
        role=row.role,
        attributes=row.attributes,
        is_active=row.is_active,
    )
