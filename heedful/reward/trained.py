"""The trained reward: the head of the reward role, normalised on the start policy."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from heedful.data.collate import Advance, Tree, packed, silent
from heedful.model.forward import apply_head, forward, hidden_states, normalise, of_last, pool
from heedful.model.trunk import Trunk
from heedful.tensors import Batch

# after so many tokens the score so far tells half of its distance from the mean
HALF_SHRUNK = 8.0


class TrainedReward:
    """``(head(pooled states) - mean) / std``; the scale on which kl_coef is tuned."""

    reads_states = True

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
        pooled = pool(states, batch, self.trunk.pooling[self.role])
        raw = apply_head(self.trunk.heads[self.role], pooled)
        return (raw - self.mean) / self.std

    def score_so_far(self, batch: Batch, states: Float[Tensor, "N D"] | None) -> Float[Tensor, "M"]:
        """The score of the tokens before each response token, shrunk towards the mean score 0.

        The factor ``n / (n + 8)`` after n tokens is the slope of the final score on the score so
        far (docs/results.md); before the first token it is 0.
        """
        assert states is not None
        num_before = batch.columns.float()
        pooling = self.trunk.pooling[self.role]
        if pooling == "mean":
            pooled = normalise(sums_before(states[batch.places].float(), batch))
        else:
            pooled = of_last(states[batch.predictors], pooling)
        raw = apply_head(self.trunk.heads[self.role], pooled)
        return (raw - self.mean) / self.std * num_before / (num_before + HALF_SHRUNK)

    @torch.no_grad()
    def score_trees(
        self, trees: Sequence[Tree], max_tokens: int, advance: Advance = silent
    ) -> list[list[float]]:
        """Scores of every tree's responses, each closed by an end of turn."""
        base = self.trunk.base
        closed = [tree.closed(base.stop_id, base.stop_ids) for tree in trees]
        scores: list[float] = []
        for batch in packed(closed, self.trunk.device, max_tokens, advance):
            states = hidden_states(self.trunk, batch, self.role)
            scores += self.score(batch, states, ()).tolist()
        flat = iter(scores)
        return [[next(flat) for _ in tree.responses] for tree in trees]


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
    deltas: list[float] = []
    for batch in packed(trees, trunk.device, max_tokens, advance):
        scores = forward(trunk, batch, role, {"scores"}).scores
        assert scores is not None
        if batch.pairs is not None:
            deltas += (scores[batch.pairs[:, 0]] - scores[batch.pairs[:, 1]]).tolist()
    return deltas
