"""The clipped losses of PPO per token, and what to watch while they are minimised.

The ratio is ``exp(logprobs - old_logprobs)`` without a clamp: a log-ratio that overflows float32
is a broken run, and a clamp would hide it behind a zero gradient. For a ratio per response pass
log-probabilities summed to shape [B, 1].
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .masked import masked_mean, masked_var, zero_padding
from .precision import at_least_float32


def clipped_policy_loss(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B #T"],
    mask: Bool[Tensor, "B T"],
    *,
    clip_range: float = 0.2,
    clip_range_high: float | None = None,
) -> Float[Tensor, "B T"]:
    """``max(-A ratio, -A clip(ratio, 1 - clip_range, 1 + clip_range_high))``; 0 on padding.

    ``advantages`` is per token, or [B, 1] for one per response. Schulman et al. 2017
    (arXiv:1707.06347), equation 7. ``clip_range_high`` is ``clip_range`` unless given; DAPO (Yu et
    al. 2025, arXiv:2503.14476, "clip-higher") sets 0.2 and 0.28.
    """
    low, high = _ratio_bounds(clip_range, clip_range_high)
    ratio = _ratio(logprobs, old_logprobs, mask)
    advantages = at_least_float32(advantages).detach()
    loss = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(low, high))
    return zero_padding(loss, mask)


def clipped_value_loss(
    values: Float[Tensor, "B T"],
    old_values: Float[Tensor, "B T"],
    returns: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    value_clip_range: float = 0.2,
) -> Float[Tensor, "B T"]:
    """Half the larger squared error of the value and of the value kept near its old one.

    In squared units of the return; 0 on padding. ``value_clip_range=math.inf`` gives the plain
    squared error. Used by Ziegler et al. 2019 (arXiv:1909.08593) and after; not in the PPO paper.
    """
    values = zero_padding(at_least_float32(values), mask)
    old_values = at_least_float32(old_values).detach()
    returns = at_least_float32(returns).detach()
    near = torch.clamp(values, old_values - value_clip_range, old_values + value_clip_range)
    loss = torch.maximum((values - returns).square(), (near - returns).square()) / 2
    return zero_padding(loss, mask)


def clip_share(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B #T"],
    mask: Bool[Tensor, "B T"],
    *,
    clip_range: float = 0.2,
    clip_range_high: float | None = None,
) -> Float[Tensor, ""]:
    """Share of response tokens, 0 to 1, whose policy gradient the clip has set to zero.

    Raises ``ValueError`` when the mask is empty.
    """
    low, high = _ratio_bounds(clip_range, clip_range_high)
    ratio = _ratio(logprobs, old_logprobs, mask).detach()
    clipped = ((advantages > 0) & (ratio > high)) | ((advantages < 0) & (ratio < low))
    return masked_mean(clipped.to(ratio), mask)


def explained_variance(
    values: Float[Tensor, "B T"], returns: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """``1 - var(returns - values) / var(returns)``: 1 is perfect, 0 no better than a constant.

    Below 0 when the values mislead, NaN when all returns are equal. Raises ``ValueError`` when the
    mask is empty.
    """
    values, returns = at_least_float32(values).detach(), at_least_float32(returns).detach()
    variance = masked_var(returns, mask, ddof=0)
    unexplained = masked_var(returns - values, mask, ddof=0)
    return torch.where(variance > 0, 1 - unexplained / variance, torch.nan)


def _ratio_bounds(clip_range: float, clip_range_high: float | None) -> tuple[float, float]:
    return 1 - clip_range, 1 + (clip_range if clip_range_high is None else clip_range_high)


def _ratio(
    logprobs: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    log_ratio = at_least_float32(logprobs) - at_least_float32(old_logprobs).detach()
    return torch.exp(zero_padding(log_ratio, mask))
