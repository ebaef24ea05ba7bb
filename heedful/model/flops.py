"""Arithmetic of a pass, and how much of it the machine can do at best.

Only matrix products with weights are counted; attention is left out, so shares are lower bounds.
"""

import time

import torch

from heedful.model.lora import FULL
from heedful.model.trunk import Trunk


def forward_flops(
    trunk: Trunk, role: str | None, num_tokens: int, num_logits: int = 0, *, first: int = 0
) -> float:
    """Floating-point operations to run ``num_tokens`` as ``role`` and read ``num_logits`` rows.

    ``first`` is the first layer that is computed: those before it came from a stem.
    """
    settings = trunk.adapters.get(role or "")
    depth = settings.depth if settings else None
    return 2.0 * num_tokens * weights(trunk, first, depth) + 2.0 * num_logits * output_weights(
        trunk
    )


def update_flops(
    trunk: Trunk, role: str, num_tokens: int, num_logits: int, *, first: int = 0
) -> float:
    """Forward and backward: gradients flow down to the first adapted layer; weights are frozen.

    With an adapter of a full rank they flow into its matrices as well.
    """
    settings = trunk.adapters[role]
    down = weights(trunk, settings.first_layer, settings.depth) * (1 + (settings.rank == FULL))
    # the Jacobian of the log-probabilities costs one more product with the output embedding
    heads = 2.0 * num_logits * output_weights(trunk)
    ahead = forward_flops(trunk, role, num_tokens, num_logits, first=first)
    return ahead + 2.0 * num_tokens * down + heads


def weights(trunk: Trunk, first: int, end: int | None) -> int:
    """Weights of the decoder's linear layers from ``first`` to before ``end``."""
    return sum(trunk.layer_weights[first:end])


def output_weights(trunk: Trunk) -> int:
    """Size of the output embedding."""
    return trunk.output_weight.numel()


def matrix_product_peak(
    device: torch.device, dtype: torch.dtype, *, size: int = 2048, repeats: int = 3
) -> float:
    """Floating-point operations a second of a square matrix product, best of ``repeats``."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(repeats + 1):
        started = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = max(best, 2.0 * size**3 / (time.perf_counter() - started))
    return best
