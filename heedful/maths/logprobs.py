"""Log-probabilities and entropy of chosen tokens from hidden states, never holding [T, V].

The Jacobian of a token's log-probability in its hidden state is one vector,
``d log p(y) / d h = (W[y] - sum_v p(v) W[v]) / temperature``, so the forward pass computes it while
the chunk of logits exists and the backward pass is one multiplication. That is two matrix products
in total where recomputation takes three, and memory does not grow with T x V.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


def linear_logprobs(
    hidden: Float[Tensor, "T D"],
    weight: Float[Tensor, "V D"],
    targets: Int[Tensor, "T"],
    *,
    temperature: float = 1.0,
    chunk_tokens: int = 128,
) -> tuple[Float[Tensor, "T"], Float[Tensor, "T"]]:
    """Log-probabilities of ``targets`` and entropies, from hidden states.

    Logits are ``hidden @ weight.T / temperature``.

    Both in nats and float32. The gradient flows into ``hidden`` from the log-probabilities only:
    the entropy is a measurement, and ``weight`` is frozen. Raises ``ValueError`` when ``weight``
    requires a gradient or ``temperature`` is not positive.
    """
    if weight.requires_grad:
        raise ValueError("weight requires grad; linear_logprobs is for a frozen output embedding")
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")
    result: tuple[Tensor, Tensor] = _LinearLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden, weight, targets, temperature, chunk_tokens
    )
    return result


class _LinearLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        temperature: float,
        chunk_tokens: int,
    ) -> tuple[Tensor, Tensor]:
        wants_grad = hidden.requires_grad
        logprobs = hidden.new_empty(len(targets), dtype=torch.float32)
        entropy = torch.empty_like(logprobs)
        jacobian = torch.empty_like(hidden) if wants_grad else hidden.new_empty(0)
        scratch = logprobs.new_empty(2, min(chunk_tokens, len(targets)), len(weight))
        for start in range(0, len(targets), chunk_tokens):
            part = slice(start, start + chunk_tokens)
            logp, probabilities = scratch[:, : len(targets[part])]
            logp.copy_(hidden[part] @ weight.T).div_(temperature)
            logp.sub_(torch.logsumexp(logp, dim=-1, keepdim=True))
            torch.exp(logp, out=probabilities)
            logprobs[part] = logp.gather(-1, targets[part, None]).squeeze(-1)
            entropy[part] = -torch.linalg.vecdot(probabilities, logp)
            if wants_grad:
                expected = probabilities.to(weight.dtype) @ weight
                jacobian[part] = (weight[targets[part]] - expected) / temperature
        ctx.save_for_backward(jacobian)
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, grad_logprobs: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (jacobian,) = ctx.saved_tensors
        return (grad_logprobs[:, None] * jacobian).to(jacobian.dtype), None, None, None, None
