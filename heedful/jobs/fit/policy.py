"""What every fit that trains a policy shares."""

from collections.abc import Sequence
from typing import TypeVar

from heedful.config import FitConfig
from heedful.data.collate import Tree, collate
from heedful.errors import ConfigError
from heedful.jobs import models
from heedful.model.adapter_files import read_settings
from heedful.model.trunk import Trunk
from heedful.store.database import Store
from heedful.train import proofs

C = TypeVar("C", bound=FitConfig)


def with_adapter_of_start(config: C, store: Store | None) -> C:
    """The config with the adapter that the policy will have: it goes on with that of its start.

    Raises ``ConfigError`` when the config asks for another one.
    """
    ref = models.find_model(config.model, store)
    if ref.adapter is None:
        return config
    own, start = config.adapter, read_settings(ref.adapter)
    asked = own.model_dump() | {"first_layer": own.span(start.depth)[0]}
    found = {"rank": start.rank, "alpha": start.alpha, "first_layer": start.first_layer}
    for key in sorted(own.model_fields_set):
        if asked[key] != found[key]:
            raise ConfigError(
                f"adapter.{key} is {getattr(own, key)!r} and the policy starts from {ref.adapter}, "
                f"whose adapter has {found[key]}; leave adapter.{key} out, or start from a base"
            )
    return config.model_copy(update={"adapter": own.model_copy(update=found)})


def add_policy(config: FitConfig, trunk: Trunk, reference: str | None) -> None:
    """The policy adapter as the config wants it."""
    models.new_policy(
        trunk,
        reference,
        rank=config.adapter.rank,
        alpha=config.adapter.alpha,
        first_layer=config.adapter.span(trunk.num_layers)[0],
        seed=config.seed,
    )


def prove_policy(trunk: Trunk, trees: Sequence[Tree], reference: str | None) -> None:
    """The proofs of every run that trains a policy."""
    few = sorted(trees, key=lambda tree: tree.num_tokens)[:2]
    proofs.packing_changes_nothing(trunk, few, reference)
    proofs.policy_equals_reference(trunk, collate(few, trunk.device), reference)
