"""A frozen weight laid out once for many products with few rows, as decoding has them."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

Product = Callable[[Tensor], Tensor]  # [..., in] to [..., out]


def lays_out(device: str, dtype: torch.dtype) -> bool:
    """Whether weights are worth laying out: float32 on a CPU with oneDNN."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return device == "cpu" and dtype == torch.float32 and available


def product(weight: Tensor, bias: Tensor | None = None, *, blocked: bool = True) -> Product:
    """``x W^T + b`` for a weight [out, in] that stays as it is.

    ``blocked`` copies a float32 weight on a CPU into oneDNN's own blocks, which is otherwise done
    again at every product; the operators are those that torch's compiler emits for frozen weights.
    Elsewhere the weight is used as it lies.
    """
    if not (blocked and lays_out(weight.device.type, weight.dtype)):
        return lambda inputs: linear(inputs, weight, bias)
    blocks = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)

    def multiply(inputs: Tensor) -> Tensor:
        output: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, blocks, bias, "none", [], "")
        return output

    return multiply
