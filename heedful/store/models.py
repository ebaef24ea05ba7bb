"""Model versions, their names and lineage, and the aliases that point at them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, insert, or_, select, update

from heedful.errors import DataError, MissingError
from heedful.registry import nearest
from heedful.store import snapshots, tables
from heedful.store.database import Transaction
from heedful.store.page import chunks
from heedful.types import AliasMove, ModelVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A model with everything it is called by, as pages show it. Made by ``newest`` and ``find``.

    ``names`` maps each name to the number of this version under it, from 1.
    """

    id: str
    version: ModelVersion
    names: dict[str, int]
    aliases: tuple[str, ...]
    created_at: datetime


def check_name(name: str) -> None:
    """Refuse a name that no model can have."""
    if not name.strip() or name.startswith(("mdl_", "import:")):
        raise DataError(f"model name {name!r} is empty or looks like an id; choose another")


def add(tx: Transaction, model: ModelVersion) -> int:
    """Register a model; 1 when it was new.

    The same weights may be registered again under another name or path: both names then lead to
    the one version, and the path is the newest. Parents, snapshot and run are in the store already.
    """
    check_name(model.name)
    require(tx, set(model.parents))
    row = {
        "id": model.id,
        "role": model.role,
        "weights_hash": model.weights_hash,
        "path": model.path,
        "snapshot_id": model.snapshot,
        "run_id": model.run,
    }
    num_new = tx.insert_new(
        tables.model_versions, [row], hint="save the model's snapshot and run first"
    )
    versions = tables.model_versions
    tx.connection.execute(update(versions).where(versions.c.id == model.id).values(path=model.path))
    parents = [
        {"model_id": model.id, "position": position, "parent_id": parent}
        for position, parent in enumerate(model.parents)
    ]
    tx.insert_new(tables.model_parents, parents)
    _add_name(tx, model)
    return num_new


def get(tx: Transaction, name: str) -> ModelVersion:
    """A model by id, unique start of an id, alias, or name (the newest of that name).

    Raises ``MissingError`` when nothing or more than one thing is meant.
    """
    if name.startswith("mdl_"):
        return _by_prefix(tx, name)
    model_id = get_alias(tx, name) or _newest(tx, name)
    if model_id is None:
        known = sorted({*tx.connection.scalars(select(tables.model_names.c.name))})
        hint = nearest(name, known) if known else "the store has none yet; fit or register one"
        raise MissingError(f"model {name!r} is not in the store; {hint}")
    return load(tx, model_id, name=name)


def list_all(tx: Transaction) -> list[ModelVersion]:
    """Every model, oldest first."""
    columns = tables.model_versions.c
    query = select(columns.id).order_by(columns.created_at, columns.id)
    return [load(tx, one) for one in tx.connection.scalars(query).all()]


def newest(tx: Transaction, *, limit: int, before: str | None = None) -> list[Registered]:
    """Models, newest first; ``before`` is the id that the page ends at."""
    columns = tables.model_versions.c
    query = select(columns.id).order_by(columns.created_at.desc(), columns.id.desc()).limit(limit)
    if before is not None:
        edge = find(tx, before)
        query = query.where(
            or_(
                columns.created_at < edge.created_at,
                and_(columns.created_at == edge.created_at, columns.id < edge.id),
            )
        )
    moved = aliases(tx)
    return [_registered(tx, one, moved) for one in tx.connection.scalars(query).all()]


def find(tx: Transaction, name: str) -> Registered:
    """A model as ``get`` finds it, with all its names and aliases."""
    return _registered(tx, get(tx, name).id, aliases(tx))


def newest_reward(tx: Transaction, dataset: str) -> Registered | None:
    """The newest reward model that was fitted to a dataset, alone or among others, or None."""
    found = rewards_of(tx, dataset)
    return _registered(tx, found[0], aliases(tx)) if found else None


def rewards_of(tx: Transaction, dataset: str) -> list[str]:
    """The ids of the reward models that were fitted to a dataset, alone or among others.

    Newest first.
    """
    columns = tables.model_versions.c
    query = (
        select(columns.id)
        .where(columns.snapshot_id.in_(snapshots.holding(dataset)), columns.role == "reward")
        .order_by(columns.created_at.desc(), columns.id.desc())
    )
    return list(tx.connection.scalars(query))


def at_path(tx: Transaction, path: str) -> str | None:
    """The id of the newest model whose weights are in a directory, or in that of its run."""
    columns = tables.model_versions.c
    query = select(columns.id).where(columns.path.in_([path, f"{path}/model"]))
    return tx.connection.scalars(query.order_by(columns.created_at.desc())).first()


def _registered(tx: Transaction, model_id: str, moved: dict[str, str]) -> Registered:
    names, versions = tables.model_names.c, tables.model_versions.c
    earlier = tables.model_names.alias()
    number = (
        select(func.count())
        .where(earlier.c.name == names.name, earlier.c.number <= names.number)
        .scalar_subquery()
    )
    query = select(names.name, number).where(names.model_id == model_id).order_by(names.number)
    created = select(versions.created_at).where(versions.id == model_id)
    return Registered(
        id=model_id,
        version=load(tx, model_id),
        names={row[0]: row[1] for row in tx.connection.execute(query)},
        aliases=tuple(sorted(alias for alias, to in moved.items() if to == model_id)),
        created_at=tx.connection.execute(created).scalar_one(),
    )


def require(tx: Transaction, model_ids: Iterable[str]) -> None:
    """Raise ``MissingError`` unless every id is that of a registered model."""
    wanted = sorted(set(model_ids))
    for chunk in chunks(wanted):
        column = tables.model_versions.c.id
        found = set(tx.connection.scalars(select(column).where(column.in_(chunk))))
        missing = [one for one in chunk if one not in found]
        if missing:
            raise MissingError(f"model {missing[0]!r} is not in the store; register it first")


def set_alias(
    tx: Transaction, alias: str, model_id: str, *, who: str, why: str, evidence: str | None = None
) -> AliasMove:
    """Point an alias at a model; the move is recorded with who, why and an evidence id."""
    if not alias.strip() or alias.startswith(("mdl_", "import:")):
        raise DataError(f"alias {alias!r} is empty or looks like an id; choose another")
    require(tx, [model_id])
    move = AliasMove(
        alias=alias,
        from_model=get_alias(tx, alias),
        to_model=model_id,
        who=who,
        why=why,
        evidence=evidence,
    )
    row = {"alias": alias, "from_id": move.from_model, "to_id": model_id, "who": who, "why": why}
    tx.connection.execute(
        insert(tables.alias_moves), row | {"evidence_id": evidence, "created_at": tx.now}
    )
    return move


def get_alias(tx: Transaction, alias: str) -> str | None:
    """The id of the model that an alias points at, or None."""
    moves = alias_moves(tx, alias)
    return moves[-1].to_model if moves else None


def alias_moves(tx: Transaction, alias: str) -> list[AliasMove]:
    """The history of an alias, oldest first."""
    columns = tables.alias_moves.c
    query = select(tables.alias_moves).where(columns.alias == alias).order_by(columns.number)
    return [
        AliasMove(
            alias=row.alias,
            from_model=row.from_id,
            to_model=row.to_id,
            who=row.who,
            why=row.why,
            evidence=row.evidence_id,
        )
        for row in tx.connection.execute(query)
    ]


def aliases(tx: Transaction) -> dict[str, str]:
    """The model id that each alias points at."""
    columns = tables.alias_moves.c
    newest = select(func.max(columns.number)).group_by(columns.alias)
    query = select(columns.alias, columns.to_id).where(columns.number.in_(newest))
    return {row.alias: row.to_id for row in tx.connection.execute(query)}


def _add_name(tx: Transaction, model: ModelVersion) -> None:
    columns = tables.model_names.c
    query = select(columns.number).where(columns.name == model.name, columns.model_id == model.id)
    if tx.connection.scalar(query) is None:
        row = {"name": model.name, "model_id": model.id, "created_at": tx.now}
        tx.connection.execute(insert(tables.model_names), row)


def _newest(tx: Transaction, name: str) -> str | None:
    columns = tables.model_names.c
    query = select(columns.model_id).where(columns.name == name).order_by(columns.number.desc())
    return tx.connection.scalar(query.limit(1))


def _by_prefix(tx: Transaction, prefix: str) -> ModelVersion:
    column = tables.model_versions.c.id
    query = select(column).where(column.startswith(prefix, autoescape=True)).order_by(column)
    found = tx.connection.scalars(query.limit(6)).all()
    if not found:
        raise MissingError(f"model {prefix!r} is not in the store; heedful models lists them")
    if len(found) > 1:
        raise MissingError(f"{prefix!r} could be {', '.join(found)}; give more of the id")
    return load(tx, found[0])


def load(tx: Transaction, model_id: str, *, name: str | None = None) -> ModelVersion:
    """A model by its whole id, under ``name`` where that is one of its names."""
    versions, parents, names = tables.model_versions, tables.model_parents, tables.model_names
    row: Any = tx.connection.execute(select(versions).where(versions.c.id == model_id)).one()
    lineage = select(parents.c.parent_id).where(parents.c.model_id == model_id)
    known = tx.connection.scalars(
        select(names.c.name).where(names.c.model_id == model_id).order_by(names.c.number)
    ).all()
    return ModelVersion(
        role=row.role,
        name=name if name and name in known else known[0],
        weights_hash=row.weights_hash,
        path=row.path,
        parents=tuple(tx.connection.scalars(lineage.order_by(parents.c.position))),
        snapshot=row.snapshot_id,
        run=row.run_id,
    )
