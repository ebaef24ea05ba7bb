"""Reductions over the elements that count. Padding may hold anything, NaN and infinity included.

Three reductions of a per-token loss are three objectives: ``masked_mean(loss, mask)`` weighs every
token alike (DAPO), ``masked_mean(loss, mask, dim=1).mean()`` every response alike (GRPO), and
``masked_sum(loss, mask) / constant`` leaves the gradient of a token independent of its
neighbours' lengths (Dr. GRPO).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .precision import at_least_float32


def zero_padding(
    x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """``x`` where ``mask`` holds and 0 elsewhere; no gradient reaches the rest.

    A product with the mask would turn NaN padding into a NaN result.
    """
    return torch.where(mask, x, 0.0)


def masked_sum(
    x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"], dim: int | None = None
) -> Float[Tensor, "..."]:
    """Sum of ``x`` where ``mask`` holds, over all elements or along ``dim``; 0 when none does."""
    kept = zero_padding(at_least_float32(x), mask)
    return kept.sum() if dim is None else kept.sum(dim)


def masked_mean(
    x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"], dim: int | None = None
) -> Float[Tensor, "..."]:
    """Mean of ``x`` where ``mask`` holds, over all elements or along ``dim``.

    Raises ``ValueError`` when there is nothing to average, also in one slice of many.
    """
    count = mask.sum() if dim is None else mask.sum(dim)
    if (count == 0).any():
        where = "the mask" if dim is None else f"a slice of the mask along dim {dim}"
        raise ValueError(
            f"{where} selects 0 elements; a mean needs at least 1; drop rows without tokens first"
        )
    return masked_sum(x, mask, dim) / count


def masked_var(
    x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"], *, ddof: int = 1
) -> Float[Tensor, ""]:
    """Variance of all elements of ``x`` where ``mask`` holds, in squared units of ``x``.

    Raises ``ValueError`` unless more than ``ddof`` elements remain.
    """
    num_kept = int(mask.sum())
    if num_kept <= ddof:
        raise ValueError(
            f"the mask selects {num_kept} elements; a variance with ddof={ddof} needs at least "
            f"{ddof + 1}; use a larger batch"
        )
    squared_error = (at_least_float32(x) - masked_mean(x, mask)).square()
    return masked_sum(squared_error, mask) / (num_kept - ddof)


def masked_whiten(
    x: Float[Tensor, "*shape"],
    mask: Bool[Tensor, "*shape"],
    *,
    shift_mean: bool = True,
    eps: float = 1e-8,
) -> Float[Tensor, "*shape"]:
    """``x`` scaled to unit variance over the mask, and to zero mean if ``shift_mean``; 0 elsewhere.

    Raises ``ValueError`` when fewer than two elements remain. Ziegler et al. 2019
    (arXiv:1909.08593) whiten rewards without the shift and advantages with it. As in TRL the
    variance is unbiased and ``eps`` is added under the root.
    """
    mean = masked_mean(x, mask)
    white = (at_least_float32(x) - mean) * torch.rsqrt(masked_var(x, mask) + eps)
    return zero_padding(white if shift_mean else white + mean, mask)


def last_index(mask: Bool[Tensor, "B T"]) -> Int[Tensor, "B"]:
    """Position of the last token that counts in every row.

    Raises ``ValueError`` when a row has none.
    """
    if not mask.any(dim=1).all():
        row = int((~mask.any(dim=1)).nonzero()[0])
        raise ValueError(
            f"row {row} has 0 response tokens; every row needs at least 1, the end-of-turn token "
            "counts; drop empty responses first"
        )
    return mask.size(1) - 1 - mask.flip(1).int().argmax(dim=1)
