"""A reward with a head of its own for length, which is then thrown away: ODIN.

Both heads read the same features and are trained on the sum, ``bradley_terry(q_w + l_w, q_l +
l_l)``; the terms here pull what length explains into the length head. The policy sees the quality
head alone. Chen et al. 2024 (arXiv:2402.07319).
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from .precision import at_least_float32


def correlation(x: Float[Tensor, "B"], y: Float[Tensor, "B"]) -> Float[Tensor, ""]:
    """Pearson's, -1 to 1, with gradients. Raises ``ValueError`` when ``x`` or ``y`` is constant.

    Over a small batch it is mostly noise, about ``1 / sqrt(B)``: gather the whole optimiser step.
    """
    for name, side in (("first", x), ("second", y)):
        # Not by the distances from the mean, which rounding takes from 0.
        if side.numel() < 2 or bool((side == side[0]).all()):
            raise ValueError(
                f"the {name} of {side.numel()} values do not vary; a correlation needs at least 2 "
                "that differ; use a larger batch"
            )
    x, y = (at_least_float32(side) - at_least_float32(side).mean() for side in (x, y))
    return cosine_similarity(x, y, dim=0)


def length_terms(
    quality: Float[Tensor, "B"], length_scores: Float[Tensor, "B"], lengths: Float[Tensor, "B"]
) -> Float[Tensor, ""]:
    """``|correlation(quality, length)| - correlation(length score, length)``, -1 to 2.

    Its weight in the authors' code is 1.
    """
    return correlation(quality, lengths).abs() - correlation(length_scores, lengths)


def orthogonality(
    quality_head: Float[Tensor, "D"], length_head: Float[Tensor, "D"]
) -> Float[Tensor, ""]:
    """``|cosine|`` of the two heads' weights, each less its mean, 0 to 1.

    Centred as in the authors' code, where its weight is 1.
    """
    return correlation(quality_head, length_head).abs()


def odin_penalty(
    quality: Float[Tensor, "B"],
    length_scores: Float[Tensor, "B"],
    lengths: Float[Tensor, "B"],
    quality_head: Float[Tensor, "D"],
    length_head: Float[Tensor, "D"],
    *,
    length_weight: float = 1.0,
    orthogonality_weight: float = 1.0,
) -> Float[Tensor, ""]:
    """What is added to the mean ranking loss of the summed heads over a step."""
    terms = length_terms(quality, length_scores, lengths)
    return length_weight * terms + orthogonality_weight * orthogonality(quality_head, length_head)
