"""The trunk: one frozen base, a LoRA adapter per role, and small float32 heads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heedful.errors import ConfigError
from heedful.model.attention import Layout
from heedful.model.base import Base
from heedful.model.lora import Switch, adapt, layer_number


class Trunk:
    """Policy, reference, reward and critic on one base. Roles are names such as ``policy``.

    A role that has no adapter is the base itself, which is how the reference of an instruct model
    costs nothing.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self.tokenizer = base.tokenizer
        self.switch = Switch()
        self.layers = adapt(base.model, self.switch)
        self.heads: dict[str, nn.Linear] = {}
        self.adapters: dict[str, dict[str, float]] = {}

    @property
    def device(self) -> torch.device:
        """Where the base lives."""
        device: torch.device = self.base.model.device
        return device

    @property
    def width(self) -> int:
        """Size of a hidden state."""
        width: int = self.base.model.config.hidden_size
        return width

    @property
    def output_weight(self) -> Float[Tensor, "V D"]:
        """The frozen output embedding."""
        weight: Tensor = self.base.model.get_output_embeddings().weight
        return weight

    @property
    def max_tokens(self) -> int:
        """The longest sequence the base has positions for."""
        length: int = self.base.model.config.max_position_embeddings
        return length

    def add_adapter(
        self, role: str, *, rank: int, alpha: float, seed: int, first_layer: int = 0
    ) -> None:
        """A fresh adapter on every linear layer of the decoder layers from ``first_layer`` up."""
        if role in self.adapters:
            raise ConfigError(f"role {role!r} already has an adapter; roles are unique")
        num_layers = self.base.model.config.num_hidden_layers
        if not 0 <= first_layer < num_layers:
            raise ConfigError(
                f"adapter.first_layer is {first_layer}; this base has layers 0 to {num_layers - 1}"
            )
        generator = torch.Generator().manual_seed(seed)
        for path, layer in self.layers.items():
            if (layer_number(path) or 0) >= first_layer:
                layer.add(role, rank, alpha, generator)
        self.adapters[role] = {"rank": rank, "alpha": alpha, "first_layer": first_layer}

    def copy_adapter(self, source: str, target: str) -> None:
        """A second adapter with the same values: a policy starts at its reference."""
        settings = self.adapters[source]
        self.add_adapter(
            target,
            rank=int(settings["rank"]),
            alpha=settings["alpha"],
            seed=0,
            first_layer=int(settings["first_layer"]),
        )
        with torch.no_grad():
            own = self.adapter_parameters(target)
            for name, value in self.adapter_parameters(source).items():
                own[name].copy_(value)

    def add_head(self, role: str, *, std: float, seed: int) -> nn.Linear:
        """A float32 scalar head; ``std`` 0 starts it at zero."""
        head = nn.Linear(self.width, 1, device=self.device, dtype=torch.float32)
        head.requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            head.weight.copy_(torch.randn(1, self.width, generator=generator) * std)
            head.bias.zero_()
        self.heads[role] = head
        return head

    def adapter_parameters(self, role: str) -> dict[str, nn.Parameter]:
        """The role's adapter matrices by ``path/lora_a`` and ``path/lora_b``; stable order."""
        parameters = {}
        for path, layer in self.layers.items():
            if role in layer.scale:
                parameters[f"{path}/lora_a"] = layer.lora_a[role]
                parameters[f"{path}/lora_b"] = layer.lora_b[role]
        return parameters

    def trainable(self, *roles: str) -> dict[str, nn.Parameter]:
        """Everything that belongs to ``roles``, adapters and heads, by ``role:name``."""
        parameters: dict[str, nn.Parameter] = {}
        for role in roles:
            for name, value in self.adapter_parameters(role).items():
                parameters[f"{role}:{name}"] = value
            if role in self.heads:
                for name, value in self.heads[role].named_parameters():
                    parameters[f"{role}:head/{name}"] = value
        return parameters

    @contextmanager
    def acting(self, role: str | None) -> Iterator[None]:
        """Run the block as ``role``; a role without an adapter is the base."""
        before = self.switch.role
        self.switch.role = role if role in self.adapters else None
        try:
            yield
        finally:
            self.switch.role = before

    @contextmanager
    def merged(self, role: str | None) -> Iterator[None]:
        """Run the block with the role's adapter folded into the weights, restored exactly after.

        For generation: one product per layer instead of three.
        """
        if role not in self.adapters:
            with self.acting(None):
                yield
            return
        layers = [layer for layer in self.layers.values() if role in layer.scale]
        originals = [layer.base.weight.data for layer in layers]
        try:
            with torch.no_grad():
                for layer in layers:
                    layer.base.weight.data = layer.merged_weight(role)
            with self.acting(None):
                yield
        finally:
            for layer, original in zip(layers, originals, strict=True):
                layer.base.weight.data = original

    def hidden(
        self, token_ids: Tensor, position_ids: Tensor, layout: Layout
    ) -> Float[Tensor, "N D"]:
        """Last hidden states (after the final norm) of a packed row, as the acting role."""
        states: Tensor = self.base.model.base_model(
            input_ids=token_ids[None],
            position_ids=position_ids[None],
            use_cache=False,
            layout=layout,
        ).last_hidden_state
        return states[0]

    def logits(self, states: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """Next-token logits in float32."""
        return (states @ self.output_weight.T).float()

