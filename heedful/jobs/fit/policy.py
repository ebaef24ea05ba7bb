"""What every fit that trains a policy shares."""

from collections.abc import Sequence

from heedful.config import FitConfig
from heedful.data.collate import Tree, collate
from heedful.jobs import models
from heedful.model.trunk import Trunk
from heedful.train import proofs


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
