"""From a model's name to a trunk: a base, a run directory, or a version in the store."""

from dataclasses import dataclass
from pathlib import Path

import torch

from heedful.errors import DataError, MissingError
from heedful.model.adapter_files import (
    CARD,
    AdapterCard,
    Parent,
    load_role,
    read_card,
    weights_hash,
)
from heedful.model.base import load_base, resolve
from heedful.model.lora import Rank
from heedful.model.trunk import Trunk
from heedful.store import models as model_table
from heedful.store.database import Store, Transaction
from heedful.train import proofs
from heedful.types import ModelVersion

RULE = "gold:"  # how the name of a reward starts that is a rule
DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


def is_rule(name: str) -> bool:
    """Does a reward's name stand for a rule, and for no model?"""
    return name.startswith(RULE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A base and, for a trained model, the directory of its adapter."""

    base: str
    adapter: Path | None = None

    def card(self) -> AdapterCard | None:
        """The adapter's card, if there is one."""
        return read_card(self.adapter) if self.adapter else None

    def as_parent(self) -> Parent | None:
        """What a model that builds on it writes on its card; nothing of a base."""
        if self.adapter is None:
            return None
        path = str(self.adapter.resolve())
        return Parent(
            role=read_card(self.adapter).role, path=path, weights_hash=weights_hash(self.adapter)
        )


def find_model(name: str, store: Store | None) -> ModelRef:
    """Run directory, adapter directory, id or name in the store; otherwise a base's name."""
    path = Path(name)
    for directory in (path / "model", path):
        if (directory / CARD).exists():
            return ModelRef(base=read_card(directory).base, adapter=directory)
    if store is not None and not path.exists():
        with store.read() as tx:
            known = {version.name for version in model_table.list_all(tx)}
            if name in known or name.startswith("mdl_"):
                version = model_table.get(tx, name)
                if version.role != "base":
                    return find_model(version.path, None)
                return ModelRef(base=version.name)
    return ModelRef(base=name)


def open_trunk(ref: ModelRef, *, dtype: str) -> Trunk:
    """Load the base and prove that we compute as it does; adapters are added by role afterwards.

    Raises ``DataError`` for a reward that has no base.
    """
    if not ref.base:
        raise DataError(
            f"{ref.adapter} is a reward without a model; score, serve and evaluate reward take it, "
            "and fit ppo as --reward"
        )
    trunk = Trunk(load_base(ref.base, dtype=DTYPES[dtype]))
    proofs.computes_as_the_base_does(trunk)
    return trunk


def start_policy(trunk: Trunk, ref: ModelRef) -> str | None:
    """Load the start policy's adapter as ``reference``; None when the base itself is the start."""
    if ref.adapter is None:
        return None
    card = load_role(trunk, ref.adapter, "reference")
    if card.role != "policy":
        raise DataError(f"{ref.adapter} is a {card.role} model; a policy is needed here")
    return "reference"


def start_of(ref: ModelRef, store: Store | None) -> ModelRef:
    """What a policy started from: the base, or the adapter that its card names.

    Raises ``MissingError`` when that adapter is neither where it was nor where the store knows it.
    """
    card = ref.card()
    starts = [one for one in card.parents if one.role == "policy"] if card else []
    if not starts:
        return ModelRef(base=ref.base)
    (start,) = starts
    places = [Path(start.path)]
    if store is not None:
        with store.read() as tx:
            places += [Path(version.path) for version in with_weights(tx, start)]
    for place in places:
        if holds(place, start):
            return ModelRef(base=ref.base, adapter=place)
    raise MissingError(
        f"{ref.adapter} started from {start.path} with weights {start.weights_hash[:8]}, which is "
        "gone or was fitted again; put that model back to compare with it"
    )


def new_policy(
    trunk: Trunk, reference: str | None, *, rank: Rank, alpha: float, first_layer: int, seed: int
) -> None:
    """The policy to train: a copy of the reference's adapter, or a fresh one that does nothing."""
    if reference is not None:
        trunk.copy_adapter(reference, "policy")
    else:
        trunk.add_adapter("policy", rank=rank, alpha=alpha, first_layer=first_layer, seed=seed)


def register_base(store: Store, trunk: Trunk) -> ModelVersion:
    """The base as a ModelVersion in the store."""
    version = ModelVersion(
        role="base",
        name=trunk.base.name,
        weights_hash=trunk.base.weights_hash,
        path=trunk.base.path,
    )
    with store.write() as tx:
        model_table.add(tx, version)
    return version


def version_of(store: Store, trunk: Trunk | None, ref: ModelRef) -> ModelVersion:
    """The version behind a reference; an adapter that the store does not know is registered.

    ``trunk`` is None for a reward that has no base.
    """
    own = ref.as_parent()
    if own:
        return register_adapter(store, trunk, own)
    assert trunk is not None
    return register_base(store, trunk)


def register_adapter(store: Store, trunk: Trunk | None, one: Parent) -> ModelVersion:
    """The version with these weights; a new one has what its card says of its parents."""
    with store.read() as tx:
        known = with_weights(tx, one)
    if known:
        return known[-1]
    directory = Path(one.path)
    card = read_card(directory) if holds(directory, one) else None
    parents = card.parents if card else ()
    versions = [register_adapter(store, trunk, parent) for parent in parents]
    if all(parent.role != "policy" for parent in parents):
        versions = [*base_behind(store, trunk, card), *versions]
    run = directory.parent if directory.name == "model" else directory
    version = ModelVersion(
        role="reward" if one.role == "reward" else "policy",
        name=run.name,
        weights_hash=one.weights_hash,
        path=one.path,
        parents=tuple(version.id for version in versions),
    )
    with store.write() as tx:
        model_table.add(tx, version)
    return version


def base_behind(store: Store, trunk: Trunk | None, card: AdapterCard | None) -> list[ModelVersion]:
    """The base of an adapter as a version: the trunk's, another that its card names, or none."""
    if trunk is not None and (card is None or card.base_hash == trunk.base.weights_hash):
        return [register_base(store, trunk)]
    if card is None or not card.base:
        return []
    path, _ = resolve(card.base)
    version = ModelVersion(role="base", name=card.base, weights_hash=card.base_hash, path=str(path))
    with store.write() as tx:
        model_table.add(tx, version)
    return [version]


def with_weights(tx: Transaction, one: Parent) -> list[ModelVersion]:
    """The registered versions of an adapter, oldest first."""
    return [v for v in model_table.list_all(tx) if v.weights_hash == one.weights_hash]


def holds(directory: Path, one: Parent) -> bool:
    """Whether a directory holds exactly these weights."""
    return (directory / CARD).exists() and weights_hash(directory) == one.weights_hash
