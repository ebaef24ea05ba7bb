"""The one rule of precision: losses are never computed below float32."""

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_float32(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``x`` in float32, or in float64 when it is already there, so that oracles keep theirs."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
