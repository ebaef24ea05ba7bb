"""Low-rank adapters by role on frozen linear layers (Hu 2021, arXiv:2106.09685).

``W' = W + (alpha / rank) B A`` with ``A`` random and ``B`` zero, so a new adapter changes nothing.
Several roles share one layer; ``Switch.role`` says whose adapter is on. Adapters are float32 and
are applied in the dtype of the activations. Files use peft's names and settings, so peft reads
them; an adapter that peft wrote lacks our card and is refused. We keep our own layer because
several roles share one module and the engine samples with weights of its own that leave the base's
untouched.
"""

import math
import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from heedful.model.products import Product, product

LINEARS = (nn.Linear, Conv1D)


class Switch:
    """Whose adapter is active in all layers of one trunk; None is the bare base.

    ``rows`` overrules ``role``: the places of a packed row that each role owns.
    """

    role: str | None = None
    rows: tuple[tuple[str, Tensor], ...] | None = None


class AdaptedLinear(nn.Module):
    """A frozen linear layer with one optional low-rank term per role."""

    def __init__(self, base: nn.Module, switch: Switch) -> None:
        super().__init__()
        self.base = base
        self.switch = switch
        self.lora_a = nn.ParameterDict()
        self.lora_b = nn.ParameterDict()
        self.scale: dict[str, float] = {}
        self.fixed: Product | None = None  # instead of the base's own product, while sampling
        self.laid: Product | None = None  # the base's own product, on a copy that is laid out
        weight: Tensor = base.weight  # type: ignore[assignment]
        shape = weight.shape if isinstance(base, nn.Linear) else weight.T.shape
        self.out_features, self.in_features = shape

    def add(self, role: str, rank: int, alpha: float, generator: torch.Generator) -> None:
        """A fresh adapter for ``role``: A uniform as in nn.Linear, B zero."""
        weight: Tensor = self.base.weight  # type: ignore[assignment]
        bound = 1 / math.sqrt(self.in_features)
        a = (torch.rand(rank, self.in_features, generator=generator) * 2 - 1) * bound
        self.lora_a[role] = nn.Parameter(a.to(weight.device))
        self.lora_b[role] = nn.Parameter(torch.zeros(self.out_features, rank, device=weight.device))
        self.scale[role] = alpha / rank

    def forward(self, inputs: Tensor) -> Tensor:
        """Base output plus the active role's low-rank term."""
        output: Tensor = (self.fixed or self.laid or self.base)(inputs)
        if self.switch.rows is not None:
            for name, places in self.switch.rows:
                if name in self.scale:
                    term = self.low_rank(name, inputs[:, places])
                    output.index_add_(1, places, term, alpha=self.scale[name])
            return output
        role = self.switch.role
        if role is None or role not in self.scale:
            return output
        return torch.add(output, self.low_rank(role, inputs), alpha=self.scale[role])

    def low_rank(self, role: str, inputs: Tensor) -> Tensor:
        """The role's term before its scale."""
        low = inputs @ self.lora_a[role].to(inputs.dtype).T
        term: Tensor = low @ self.lora_b[role].to(inputs.dtype).T
        return term

    def fix(self, role: str | None, *, blocked: bool) -> None:
        """Ready the weight for sampling, with the role's term folded in if it has one."""
        if role not in self.scale and (self.laid or not blocked):
            return
        self.fixed = product(self.folded(role), self.base.bias, blocked=blocked)  # type: ignore[arg-type]

    def lay_out(self, *, backward: bool) -> None:
        """Keep a copy of the base's weight that products are faster with, and its gradient's."""
        bias: Tensor | None = self.base.bias  # type: ignore[assignment]
        self.laid = product(self.folded(None), bias, backward=backward)

    def folded(self, role: str | None) -> Tensor:
        """The weight ``[out, in]`` with the role's term added, if it has one."""
        weight: Tensor = self.base.weight  # type: ignore[assignment]
        weight = weight if isinstance(self.base, nn.Linear) else weight.T
        if role not in self.scale:
            return weight
        delta = (self.lora_b[role] @ self.lora_a[role]) * self.scale[role]
        folded: Tensor = (weight.float() + delta).to(weight.dtype)
        return folded


def layer_number(path: str) -> int | None:
    """The number of the decoder layer that a module path lies in, if any."""
    match = re.search(r"\.(?:layers|h)\.(\d+)\.", f".{path}.")
    return int(match.group(1)) if match else None


def adapt(model: nn.Module, switch: Switch) -> dict[str, AdaptedLinear]:
    """Wrap every linear layer inside the decoder layers; returns them by path."""
    paths = [
        path
        for path, module in model.named_modules()
        if isinstance(module, LINEARS) and layer_number(path) is not None
    ]
    adapted = {}
    for path in paths:
        parent, _, name = path.rpartition(".")
        owner = model.get_submodule(parent)
        layer = AdaptedLinear(getattr(owner, name), switch)
        setattr(owner, name, layer)
        adapted[path] = layer
    return adapted


def peft_names(path: str) -> Iterator[tuple[str, str]]:
    """(which, name) of a layer's two matrices in a peft adapter file."""
    yield "lora_a", f"base_model.model.{path}.lora_A.weight"
    yield "lora_b", f"base_model.model.{path}.lora_B.weight"
