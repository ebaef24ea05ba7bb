"""A frozen weight laid out once for many products with few rows, as decoding has them."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

Product = Callable[[Tensor], Tensor]  # [..., in] to [..., out]


def product(weight: Tensor, bias: Tensor | None = None, *, blocked: bool = True) -> Product:
    """``x W^T + b`` for a weight [out, in] that stays as it is.

    ``blocked`` copies a float32 weight on a CPU into oneDNN's own blocks, which is otherwise done
    again at every product; the operators are those that torch's compiler emits for frozen weights.
    Elsewhere the weight is used as it lies.
    """
    if not (
        blocked
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    ):
        return lambda inputs: linear(inputs, weight, bias)
    blocks = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)

    def multiply(inputs: Tensor) -> Tensor:
        output: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, blocks, bias, "none", [], "")
        return output

    return multiply
