"""Rewards that are rules on text: any function of prompt and response."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from heedful.tensors import Batch


class RuleReward:
    """``(rule(prompt, response) - mean) / std``; the critic reads the reference's states."""

    reads_states = False
    other_roles: tuple[str, ...] = ()

    def __init__(
        self,
        rule: Callable[[str, str], float],
        *,
        feature_role: str | None,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        self.rule = rule
        self.feature_role = feature_role
        self.mean = mean
        self.std = std

    def score(
        self, batch: Batch, states: Float[Tensor, "N D"] | None, rows: Sequence[Any]
    ) -> Float[Tensor, "B"]:
        """The rule on each response's text."""
        del states
        scores = [(self.rule(p.text, s.text) - self.mean) / self.std for p, s in rows]
        return torch.tensor(scores, device=batch.token_ids.device)

    def score_so_far(self, batch: Batch, states: Float[Tensor, "N D"] | None) -> Float[Tensor, "M"]:
        """Zero: a rule says nothing of unfinished texts."""
        del states
        return torch.zeros(len(batch.targets), device=batch.token_ids.device)
