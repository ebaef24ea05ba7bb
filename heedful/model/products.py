"""Products with frozen weights that are laid out once, in oneDNN's own blocks.

A plain product lays its weight out anew every time: a third of the time with the few rows of a
decode step, a fifth in training in float32.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

Product = Callable[[Tensor], Tensor]  # [..., in] to [..., out]


def lays_out(device: str, dtype: torch.dtype) -> bool:
    """Whether weights are worth laying out: on a CPU, in a type that oneDNN computes in there."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if device != "cpu" or not available:
        return False
    if dtype == torch.bfloat16:
        computes: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return computes
    return dtype == torch.float32


def product(
    weight: Tensor, bias: Tensor | None = None, *, blocked: bool = True, backward: bool = False
) -> Product:
    """``x W^T + b`` for a weight [out, in] that stays as it is.

    ``blocked`` copies a weight on a CPU; ``backward`` copies it once more, for the gradient in x,
    which a product without it does not have. The operators are those that torch's compiler emits
    for frozen weights. Elsewhere the weight is used as it lies.
    """
    if not (blocked and lays_out(weight.device.type, weight.dtype)):
        return lambda inputs: linear(inputs, weight, bias)
    blocks = in_blocks(weight)
    turned = in_blocks(weight.T) if backward else None

    def multiply(inputs: Tensor) -> Tensor:
        if inputs.requires_grad and torch.is_grad_enabled():
            if turned is None:
                raise ValueError("this product was made without backward=True and has no gradient")
            output: Tensor = _Multiply.apply(inputs, blocks, bias, turned)  # type: ignore[no-untyped-call]
            return output
        return multiplied(inputs, blocks, bias)

    return multiply


def in_blocks(weight: Tensor) -> Tensor:
    """A copy of a weight [out, in] as oneDNN reads it fastest; opaque but to ``multiplied``."""
    blocks: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
    return blocks


def multiplied(inputs: Tensor, blocks: Tensor, bias: Tensor | None) -> Tensor:
    """``x W^T + b`` by the blocks of W."""
    output: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, blocks, bias, "none", [], "")
    return output


class _Multiply(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, blocks: Tensor, bias: Tensor | None, turned: Tensor
    ) -> Tensor:
        ctx.turned = turned
        return multiplied(inputs, blocks, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return multiplied(grad.contiguous(), ctx.turned, None), None, None, None
