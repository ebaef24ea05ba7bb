"""Log-probabilities and entropy of chosen tokens from hidden states, never holding [T, V].

The Jacobian of a token's log-probability in its hidden state is one vector,
``d log p(y) / d h = (W[y] - sum_v p(v) W[v]) / temperature``, so the forward pass computes it while
the chunk of logits exists and the backward pass is one multiplication. That is two matrix products
in total where recomputation takes three, and memory does not grow with T x V.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK_TOKENS = 256  # of one product with the output embedding
ROWS_AT_ONCE = 16  # of logits in float32 on a CPU, 3 MB for a vocabulary of 50,000


def rows_at_once(device: torch.device, num_rows: int) -> int:
    """Of ``num_rows`` of logits, how many are worked on together.

    A few on a CPU, so that what is done to a logit is done while it is in the cache; elsewhere all.
    """
    return min(ROWS_AT_ONCE, num_rows) if device.type == "cpu" else num_rows


def linear_logprobs(
    hidden: Float[Tensor, "T D"],
    weight: Float[Tensor, "V D"],
    targets: Int[Tensor, "T"],
    *,
    temperature: float = 1.0,
    chunk_tokens: int = CHUNK_TOKENS,
    output: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Float[Tensor, "T"], Float[Tensor, "T"]]:
    """Log-probabilities of ``targets`` and entropies, from hidden states.

    Logits are ``hidden @ weight.T / temperature``; ``output`` may do that product faster.

    Both in nats and float32. The gradient flows into ``hidden`` from the log-probabilities only:
    the entropy is a measurement, and ``weight`` is frozen. Raises ``ValueError`` when ``weight``
    requires a gradient or ``temperature`` is not positive.
    """
    if weight.requires_grad:
        raise ValueError("weight requires grad; linear_logprobs is for a frozen output embedding")
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")
    result: tuple[Tensor, Tensor] = _LinearLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden, weight, targets, temperature, chunk_tokens, output
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
        output: Callable[[Tensor], Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        wants_grad = hidden.requires_grad
        logprobs = hidden.new_empty(len(targets), dtype=torch.float32)
        entropy = torch.empty_like(logprobs)
        jacobian = torch.empty_like(hidden) if wants_grad else hidden.new_empty(0)
        num_rows = rows_at_once(hidden.device, min(chunk_tokens, len(targets)))
        scratch = logprobs.new_empty(num_rows, len(weight))
        for start in range(0, len(targets), chunk_tokens):
            chunk = slice(start, start + chunk_tokens)
            logits = hidden[chunk] @ weight.T if output is None else output(hidden[chunk])
            totals = logprobs.new_empty(len(logits), 1)
            for first in range(0, len(logits), num_rows):
                rows = logits[first : first + num_rows]
                part = slice(start + first, start + first + len(rows))
                below = scratch[: len(rows)].copy_(rows).div_(temperature)
                below.sub_(below.amax(dim=-1, keepdim=True))
                chosen = below.gather(-1, targets[part, None])
                weights = below.exp()
                total = weights.sum(dim=-1, keepdim=True)
                logprobs[part] = (chosen - total.log()).squeeze(-1)
                mean = torch.linalg.vecdot(weights, below)[:, None] / total
                entropy[part] = (total.log() - mean).squeeze(-1)
                if wants_grad:
                    rows.copy_(weights)
                    totals[first : first + len(rows)] = total
            if wants_grad:
                expected = (logits @ weight) / totals
                jacobian[chunk] = (weight[targets[chunk]] - expected) / temperature
        ctx.save_for_backward(jacobian)
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, grad_logprobs: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (jacobian,) = ctx.saved_tensors
        return (grad_logprobs[:, None] * jacobian).to(jacobian.dtype), *[None] * 5
