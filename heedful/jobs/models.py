"""From a model's name to a trunk: a base, a run directory, or a version in the store."""

from dataclasses import dataclass
from pathlib import Path

import torch

from heedful.errors import DataError
from heedful.model.adapter_files import CARD, AdapterCard, load_role, read_card, weights_hash
from heedful.model.base import load_base
from heedful.model.trunk import Trunk
from heedful.store import models as model_table
from heedful.store.database import Store
from heedful.types import ModelVersion

DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A base and, for a trained model, the directory of its adapter."""

    base: str
    adapter: Path | None = None

    def card(self) -> AdapterCard | None:
        """The adapter's card, if there is one."""
        return read_card(self.adapter) if self.adapter else None


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
    """Load the base; adapters are added by role afterwards."""
    return Trunk(load_base(ref.base, dtype=DTYPES[dtype]))


def start_policy(trunk: Trunk, ref: ModelRef) -> str | None:
    """Load the start policy's adapter as ``reference``; None when the base itself is the start."""
    if ref.adapter is None:
        return None
    card = load_role(trunk, ref.adapter, "reference")
    if card.role != "policy":
        raise DataError(f"{ref.adapter} is a {card.role} model; a policy is needed here")
    return "reference"


def new_policy(
    trunk: Trunk, reference: str | None, *, rank: int, alpha: float, first_layer: int, seed: int
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


def version_of(store: Store, trunk: Trunk, ref: ModelRef) -> ModelVersion:
    """The registered version behind a reference: the adapter's when known, else the base's."""
    base = register_base(store, trunk)
    if ref.adapter is None:
        return base
    wanted = weights_hash(ref.adapter)
    with store.read() as tx:
        found = [v for v in model_table.list_all(tx) if v.weights_hash == wanted]
    return found[-1] if found else base
