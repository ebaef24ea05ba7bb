"""Low-rank adapters by role on frozen linear layers (Hu 2021, arXiv:2106.09685).

``W' = W + (alpha / rank) B A`` with ``A`` random and ``B`` zero, so a new adapter changes nothing.
Of a ``full`` rank it is ``W' = W + D`` with a whole matrix ``D`` that starts at zero: what full
fine-tuning of the linear layers learns, on a base that stays as it is for the other roles.
Several roles share one layer; ``Switch.role`` says whose adapter is on. Adapters are float32 and
are applied in the dtype of the activations. Files use peft's names and settings, so peft reads
them, but for those of a full rank, which it has no place for; an adapter that peft wrote lacks our
card and is refused. We keep our own layer because several roles share one module and the engine
samples with weights of its own that leave the base's untouched.
"""

import math
import re
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from heedful.model.products import Product, product

LINEARS = (nn.Linear, Conv1D)
FULL: Literal["full"] = "full"  # the rank of an adapter that is a whole matrix
Rank = int | Literal["full"]


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
        self.delta = nn.ParameterDict()
        self.scale: dict[str, float] = {}
        self.fixed: Product | None = None  # instead of the base's own product, while sampling
        self.laid: Product | None = None  # the base's own product, on a copy that is laid out
        weight: Tensor = base.weight  # type: ignore[assignment]
        shape = weight.shape if isinstance(base, nn.Linear) else weight.T.shape
        self.out_features, self.in_features = shape

    def add(self, role: str, rank: Rank, alpha: float, generator: torch.Generator) -> None:
        """A fresh adapter for ``role``: A uniform as in nn.Linear, B zero; of a full rank, zero."""
        weight: Tensor = self.base.weight  # type: ignore[assignment]
        if rank == FULL:
            zero = torch.zeros(self.out_features, self.in_features, device=weight.device)
            self.delta[role] = nn.Parameter(zero)
            self.scale[role] = 1.0
            return
        bound = 1 / math.sqrt(self.in_features)
        a = (torch.rand(rank, self.in_features, generator=generator) * 2 - 1) * bound
        self.lora_a[role] = nn.Parameter(a.to(weight.device))
        self.lora_b[role] = nn.Parameter(torch.zeros(self.out_features, rank, device=weight.device))
        self.scale[role] = alpha / rank

    def forward(self, inputs: Tensor) -> Tensor:
        """Base output plus the active role's term; in one product for a whole matrix."""
        active = self.switch.role if self.switch.rows is None else None
        if active is not None and active in self.delta and self.fixed is None:
            return linear(inputs, self.folded(active), self.base.bias)  # type: ignore[arg-type]
        output: Tensor = (self.fixed or self.laid or self.base)(inputs)
        if self.switch.rows is not None:
            for name, places in self.switch.rows:
                if name in self.scale:
                    term = self.term(name, inputs[:, places])
                    output.index_add_(1, places, term, alpha=self.scale[name])
            return output
        role = self.switch.role
        if role is None or role not in self.scale:
            return output
        return torch.add(output, self.term(role, inputs), alpha=self.scale[role])

    def term(self, role: str, inputs: Tensor) -> Tensor:
        """The role's term before its scale."""
        if role in self.delta:
            return linear(inputs, self.delta[role].to(inputs.dtype))
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

    def parameters_of(self, role: str) -> dict[str, nn.Parameter]:
        """The role's matrices by name; none where it adapts nothing."""
        named = {"lora_a": self.lora_a, "lora_b": self.lora_b, "delta": self.delta}
        return {name: each[role] for name, each in named.items() if role in each}

    def folded(self, role: str | None) -> Tensor:
        """The weight ``[out, in]`` with the role's term added, if it has one."""
        weight: Tensor = self.base.weight  # type: ignore[assignment]
        weight = weight if isinstance(self.base, nn.Linear) else weight.T
        if role not in self.scale:
            return weight
        if role in self.delta:
            delta: Tensor = self.delta[role]
        else:
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


PEFT_NAMES = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight", "delta": "delta.weight"}


def file_name(path: str, which: str) -> str:
    """What a layer's matrix is called in a file; as in peft's where peft has such a matrix."""
    return f"base_model.model.{path}.{PEFT_NAMES[which]}"
