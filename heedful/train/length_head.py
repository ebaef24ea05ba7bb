"""ODIN's second head, for length, which learns beside the reward's own and is then dropped.

Its penalty is on correlations over all responses of a step, and a step is run in parts. So scores
are computed once without a graph, and the penalty's gradient in them is what the scores of each
part are pulled by: together they have the gradient of the penalty on the whole step. Chen et al.
2024 (arXiv:2402.07319); the formulas are in ``maths.disentangled``.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from heedful.maths.disentangled import length_terms
from heedful.model.flops import forward_flops
from heedful.model.forward import forward
from heedful.model.trunk import Trunk
from heedful.tensors import Batch
from heedful.train.phases import Phases


class LengthHead:
    """Gives the batches of a step what the scores of the role are pulled by (``Batch.pulls``)."""

    def __init__(self, trunk: Trunk, role: str = "reward") -> None:
        self.trunk = trunk
        self.role = role

    @torch.no_grad()
    def __call__(self, batches: Sequence[Batch], phases: Phases) -> list[Batch]:
        """The batches with their pulls; none where a step says nothing about length."""
        tokens = sum(batch.num_packed for batch in batches)
        with phases("reward", tokens=tokens, flops=forward_flops(self.trunk, self.role, tokens)):
            needs = {"scores", "length_scores"}
            outputs = [forward(self.trunk, batch, self.role, needs) for batch in batches]
        found = pulls(
            torch.cat([one.scores for one in outputs if one.scores is not None]),
            torch.cat([one.length_scores for one in outputs if one.length_scores is not None]),
            torch.cat([batch.mask.sum(dim=1).float() for batch in batches]),
        )
        # the loop divides by the judgements of the step, which the penalty does not grow with
        found = found * sum(batch.judgement_weight for batch in batches)
        parts = torch.split(found, [len(batch.mask) for batch in batches])
        return [replace(batch, pulls=part) for batch, part in zip(batches, parts, strict=True)]


def pulls(
    quality: Float[Tensor, "B"], length_scores: Float[Tensor, "B"], lengths: Float[Tensor, "B"]
) -> Float[Tensor, "B 2"]:
    """Gradient of ``length_terms`` in both scores; zero where lengths or scores are all alike."""
    with torch.enable_grad():
        own, beside = (one.detach().clone().requires_grad_() for one in (quality, length_scores))
        try:
            terms = length_terms(own, beside, lengths)
        except ValueError:  # nothing varies, so nothing correlates
            return torch.zeros(len(quality), 2, device=quality.device)
        return torch.stack(torch.autograd.grad(terms, (own, beside)), dim=1)
