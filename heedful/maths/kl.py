"""KL divergence of the policy from its reference, estimated on tokens the policy sampled.

With ``d = logprobs - ref_logprobs``, all in nats per token and named after Schulman 2020,
"Approximating KL divergence" (http://joschu.net/blog/kl-approx.html). Which one to use where:

- in a reward: ``kl_k1``, detached; unbiased.
- as a differentiable loss: ``kl_k2``, whose gradient is that of KL(policy || reference).
- ``kl_k1`` as a loss has zero expected gradient, and ``kl_k3`` as a loss (as GRPO does) follows
  the gradient of KL(reference || policy).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .precision import at_least_float32


def kl_k1(
    logprobs: Float[Tensor, "*shape"], ref_logprobs: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """``d``: unbiased, of either sign, high variance."""
    return at_least_float32(logprobs) - at_least_float32(ref_logprobs)


def kl_k2(
    logprobs: Float[Tensor, "*shape"], ref_logprobs: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """``d^2 / 2``: biased, at least 0, low variance."""
    return kl_k1(logprobs, ref_logprobs).square() / 2


def kl_k3(
    logprobs: Float[Tensor, "*shape"], ref_logprobs: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """``exp(-d) - 1 + d``: unbiased, at least 0; explodes where the reference is far likelier."""
    difference = kl_k1(logprobs, ref_logprobs)
    return torch.expm1(-difference) + difference


def adaptive_kl_coef(
    kl_coef: float,
    kl: float,
    *,
    target: float,
    horizon: float,
    num_episodes: int,
    floor: float = 1e-4,
    ceiling: float = 10.0,
) -> float:
    """The next KL coefficient: up when ``kl`` is above ``target``, down when below.

    ``kl`` and ``target`` are nats per response (the batch mean of k1 summed over tokens, not a
    mean over tokens); ``horizon`` and ``num_episodes`` count responses. Call it once per rollout
    batch. The result lies in [``floor``, ``ceiling``]. Raises ``ValueError`` when ``kl`` is not
    finite or ``target`` or ``horizon`` is not positive.

    Ziegler et al. 2019 (arXiv:1909.08593), section 2.2, in the form of their code: the gain 0.1
    of the paper is ``num_episodes / horizon`` there. The bounds are ours.
    """
    if not math.isfinite(kl):
        raise ValueError(f"kl is {kl}; it must be finite; look for NaN in the log-probabilities")
    if target <= 0 or horizon <= 0:
        raise ValueError(f"target is {target} and horizon {horizon}; both must be above 0")
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return min(max(kl_coef * (1.0 + error * num_episodes / horizon), floor), ceiling)
