"""The trained reward: the head of the reward role, its parts mixed, normalised."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from heedful.data.collate import Advance, Tree, packed, silent
from heedful.model.forward import head_outputs, hidden_states, normalise, of_last, pool
from heedful.model.trunk import Trunk
from heedful.tensors import Batch

# after so many tokens the score so far tells half of its distance from the mean
HALF_SHRUNK = 8.0


class Judgement(NamedTuple):
    """A reward, and its parts: scores in deviations from their mean, flags as probabilities.

    ``uncertainty`` is the deviation of an ensemble's members, None of a single model.
    ``vetoed_by`` are the flags above their limits, None where no flag has a limit.
    """

    reward: float
    parts: dict[str, float]
    uncertainty: float | None = None
    vetoed_by: tuple[str, ...] | None = None


class TrainedReward:
    """``(head(pooled states) - mean) / std``; the scale on which kl_coef is tuned.

    A head with several parts is mixed as ``trunk.parts`` says (``Parts.total``).
    """

    reads_states = True
    other_roles: tuple[str, ...] = ()

    def __init__(
        self, trunk: Trunk, *, role: str = "reward", mean: float = 0.0, std: float = 1.0
    ) -> None:
        self.trunk = trunk
        self.feature_role: str | None = role
        self.role = role
        self.mean = mean
        self.std = std

    def score(
        self, batch: Batch, states: Float[Tensor, "N D"] | None, rows: Sequence[Any]
    ) -> Float[Tensor, "B"]:
        """Scores from the hidden states that the caller has computed as ``feature_role``."""
        del rows
        assert states is not None
        return (self.mixed(self.outputs(batch, states)) - self.mean) / self.std

    def outputs(self, batch: Batch, states: Float[Tensor, "N D"]) -> Float[Tensor, "B H"]:
        """What the head gives for every response."""
        pooled = pool(states, batch, self.trunk.pooling[self.role])
        return head_outputs(self.trunk, self.role, pooled, batch.mask.sum(dim=1))

    def mixed(self, outputs: Float[Tensor, "*B H"]) -> Float[Tensor, "*B"]:
        """The one reward of a head's outputs, before it is normalised."""
        parts = self.trunk.parts.get(self.role)
        return outputs.squeeze(-1) if parts is None else parts.total(outputs)

    def score_so_far(self, batch: Batch, states: Float[Tensor, "N D"] | None) -> Float[Tensor, "M"]:
        """The score of the tokens before each response token, shrunk towards the mean score 0.

        The factor ``n / (n + 8)`` after n tokens is the slope of the final score on the score so
        far (docs/results.md); before the first token it is 0.
        """
        return shrunk(self.score_of_prefixes(batch, states), batch)

    def score_of_prefixes(
        self, batch: Batch, states: Float[Tensor, "N D"] | None
    ) -> Float[Tensor, "M"]:
        """The score of the tokens before each response token, as if the response ended there."""
        assert states is not None
        pooling = self.trunk.pooling[self.role]
        if pooling == "mean":
            pooled = normalise(sums_before(states[batch.places].float(), batch))
        else:
            pooled = of_last(states[batch.predictors], pooling)
        raw = self.mixed(head_outputs(self.trunk, self.role, pooled, batch.columns))
        return (raw - self.mean) / self.std

    def score_trees(
        self, trees: Sequence[Tree], max_tokens: int, advance: Advance = silent
    ) -> list[list[float]]:
        """Scores of every tree's responses, each closed by an end of turn."""
        return self.of_outputs(trees, self.outputs_of(trees, max_tokens, advance))

    def of_outputs(self, trees: Sequence[Tree], outputs: Float[Tensor, "B H"]) -> list[list[float]]:
        """The scores of every tree's responses, from the head's outputs on all of them."""
        flat = iter(((self.mixed(outputs) - self.mean) / self.std).tolist())
        return [[next(flat) for _ in tree.responses] for tree in trees]

    @torch.no_grad()
    def outputs_of(
        self, trees: Sequence[Tree], max_tokens: int, advance: Advance = silent
    ) -> Float[Tensor, "B H"]:
        """The head's outputs on the responses of all trees, each closed by an end of turn."""
        base = self.trunk.base
        closed = [tree.closed(base.stop_id, base.stop_ids) for tree in trees]
        found = [
            self.outputs(batch, hidden_states(self.trunk, batch, self.role))
            for batch in packed(closed, self.trunk.device, max_tokens, advance)
        ]
        head = self.trunk.heads[self.role]
        return torch.cat([head.weight.new_zeros(0, head.out_features), *found])


def shrunk(scores: Float[Tensor, "M"], batch: Batch) -> Float[Tensor, "M"]:
    """Scores of the tokens before each response token, drawn towards the mean score 0."""
    num_before = batch.columns.float()
    return scores * num_before / (num_before + HALF_SHRUNK)


def sums_before(states: Float[Tensor, "M D"], batch: Batch) -> Float[Tensor, "M D"]:
    """Sums over the earlier tokens of the same response."""
    grid = states.new_zeros(*batch.mask.shape, states.shape[1])
    grid = grid.index_put((batch.rows, batch.columns), states)
    sums: Tensor = (grid.cumsum(dim=1) - grid)[batch.rows, batch.columns]
    return sums


@torch.no_grad()
def pair_deltas(
    trunk: Trunk,
    trees: Sequence[Tree],
    *,
    max_tokens: int,
    role: str = "reward",
    advance: Advance = silent,
) -> list[float]:
    """Score differences, chosen minus rejected, of every pair in order."""
    reward = TrainedReward(trunk, role=role)
    deltas: list[float] = []
    for batch in packed(trees, trunk.device, max_tokens, advance):
        scores = reward.mixed(reward.outputs(batch, hidden_states(trunk, batch, role)))
        if batch.pairs is not None:
            deltas += (scores[batch.pairs[:, 0]] - scores[batch.pairs[:, 1]]).tolist()
    return deltas
