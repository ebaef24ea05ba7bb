"""The steps of an ensemble: every member's batches of the same examples, on one stem.

Members take the same steps in the same order and differ in their parameters and in the weights of
their samples. What lies below the first adapted layer is computed once for all of them; then each
has its forward and backward pass by itself, so that activations are those of one model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heedful.data.collate import Tree, collate, micro_batches
from heedful.errors import DataError
from heedful.model.flops import forward_flops
from heedful.model.forward import stem_states
from heedful.model.trunk import Trunk
from heedful.tensors import Batch, Stem
from heedful.train.phases import Phases


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Who learns what: trees by id, weighed by the member's sample; others are not in it.

    ``counts`` is how often each tree of the run is in the sample.
    ``Member(role="reward/0", trees={"a": tree}, counts=(1, 0))``
    """

    role: str
    trees: Mapping[str, Tree]
    counts: tuple[int, ...]


class MemberBatches:
    """Trees to the batches of all members; a member's own trees fill its batches."""

    def __init__(self, trunk: Trunk, members: Sequence[Member], *, max_tokens: int) -> None:
        self.trunk = trunk
        self.members = tuple(members)
        self.max_tokens = max_tokens

    def __call__(self, trees: Sequence[Tree], phases: Phases) -> list[Batch]:
        """The batches of one step, member by member, with their roles and stems."""
        if len({tree.id for tree in trees}) < len(trees):
            raise DataError("two examples have the same id; the answers of a prompt are one tree")
        stems = self.stems(trees, phases)
        batches = []
        with phases("data"):
            for member in self.members:
                own = [member.trees[tree.id] for tree in trees if tree.id in member.trees]
                for group in micro_batches(own, self.max_tokens):
                    row = collate(group, self.trunk.device, shares=not stems)
                    batch = replace(row, role=member.role)
                    if stems:
                        states = torch.cat([stems[tree.id] for tree in group])
                        batch = replace(batch, stem=Stem(self.first_layer, states))
                    batches.append(batch)
        return batches

    @property
    def first_layer(self) -> int:
        """The first layer that a member adapts."""
        shared = self.trunk.stem(*(member.role for member in self.members))
        return shared.num_layers if shared else 0

    def stems(self, trees: Sequence[Tree], phases: Phases) -> dict[str, Tensor]:
        """States after the layers that no member adapts, by tree; nothing where there are none."""
        if not self.first_layer:
            return {}
        states: dict[str, Tensor] = {}
        used = [tree for tree in trees if any(tree.id in one.trees for one in self.members)]
        for group in micro_batches(used, self.max_tokens):
            with phases("data"):
                batch = collate(group, self.trunk.device, shares=False)
            whole = forward_flops(self.trunk, None, batch.num_packed)
            above = forward_flops(self.trunk, None, batch.num_packed, first=self.first_layer)
            with phases("stem", tokens=batch.num_packed, flops=whole - above):
                row = stem_states(self.trunk, batch, self.first_layer)
            parts = torch.split(row, [tree.num_tokens for tree in group])
            states |= {tree.id: part for tree, part in zip(group, parts, strict=True)}
        return states
