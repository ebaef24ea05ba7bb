"""The reward that a policy implies: how much likelier an answer is than under its start."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from heedful.data.collate import Advance, Tree, packed, silent
from heedful.maths.preference import implicit_reward
from heedful.model.forward import logprobs_of
from heedful.model.trunk import Trunk


@torch.no_grad()
def implicit_scores(
    trunk: Trunk,
    trees: Sequence[Tree],
    reference: str | None,
    *,
    beta: float,
    max_tokens: int,
    role: str = "policy",
    advance: Advance = silent,
) -> list[list[float]]:
    """``beta`` times the summed log-ratio of ``role`` to ``reference``, by tree and response.

    Up to a constant per prompt, so only answers to one prompt compare. Rafailov et al. 2023
    (arXiv:2305.18290), equation 5.
    """
    scores: list[float] = []
    for plain in packed(trees, trunk.device, max_tokens, advance):
        batch = replace(plain, stem=trunk.stem(role, reference))
        before = logprobs_of(trunk, batch, reference).sum(dim=1)
        now = logprobs_of(trunk, batch, role).sum(dim=1)
        scores += implicit_reward(now, before, beta=beta).tolist()
    flat = iter(scores)
    return [[next(flat) for _ in tree.responses] for tree in trees]
