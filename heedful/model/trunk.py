"""The trunk: one frozen base, a LoRA adapter per role, and small float32 heads."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heedful.errors import ConfigError
from heedful.model.attention import LAYOUTS, NAME, Keep, Layout, TreeShape
from heedful.model.base import Base
from heedful.model.lora import Rank, Switch, adapt, layer_number
from heedful.model.parts import Parts
from heedful.model.passes import BaseForward, Run
from heedful.model.products import Product, product
from heedful.tensors import Stem


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """How a role's adapter was made; ``depth`` layers of the base are used."""

    rank: Rank
    alpha: float
    first_layer: int
    depth: int


class Trunk:
    """Policy, reference, reward and critic on one base. Roles are names such as ``policy``.

    A role that has no adapter is the base itself, which is how the reference of an instruct model
    costs nothing.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self.tokenizer: Any = base.tokenizer
        self.logit_scale = base.logit_scale
        self.switch = Switch()
        self.layers = adapt(base.model, self.switch)
        self.base_forward = BaseForward(base.model)
        self.heads: dict[str, nn.Linear] = {}
        self.links: dict[str, dict[str, nn.Parameter]] = {}
        self.pooling: dict[str, str] = {}
        self.length_penalty: dict[str, float] = {}  # taken from a role's scores, a response token
        self.parts: dict[str, Parts] = {}  # of heads with named outputs
        self.adapters: dict[str, AdapterSettings] = {}
        self.attention: Literal["sdpa", "flex"] = "sdpa"
        self._output: Product | None = None  # of the output embedding, on a laid out copy
        self.is_compiled = False  # torch's compiler cannot follow a product with laid out weights
        self.recomputes = False  # layers in the backward pass, instead of keeping their states

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
    def num_layers(self) -> int:
        """Decoder layers of the base."""
        number: int = self.base.model.config.num_hidden_layers
        return number

    @property
    def output_weight(self) -> Float[Tensor, "V D"]:
        """The frozen output embedding."""
        weight: Tensor = self.base.model.get_output_embeddings().weight
        return weight

    @property
    def max_tokens(self) -> int:
        """The longest sequence that the base can read as a whole."""
        return self.base.max_tokens

    @cached_property
    def layer_weights(self) -> list[int]:
        """Weights of the linear layers, by decoder layer."""
        sizes = [0] * self.num_layers
        for path, layer in self.layers.items():
            sizes[layer_number(path) or 0] += int(layer.in_features * layer.out_features)
        return sizes

    def add_adapter(
        self,
        role: str,
        *,
        rank: Rank,
        alpha: float,
        seed: int,
        first_layer: int = 0,
        depth: int | None = None,
    ) -> None:
        """A fresh adapter on every linear layer of the decoder layers from ``first_layer`` up.

        With ``depth`` the role ends after that many layers: cheaper, and for judging a whole
        answer the middle layers of a small model know more than its last.
        """
        if role in self.adapters:
            raise ConfigError(f"role {role!r} already has an adapter; roles are unique")
        end = self.num_layers if depth is None else depth
        if not 0 <= first_layer < end <= self.num_layers:
            raise ConfigError(
                f"adapter.first_layer is {first_layer} and adapter.depth is {depth}; this base has "
                f"layers 0 to {self.num_layers - 1}"
            )
        generator = torch.Generator().manual_seed(seed)
        for path, layer in self.layers.items():
            if first_layer <= (layer_number(path) or 0) < end:
                layer.add(role, rank, alpha, generator)
        self.adapters[role] = AdapterSettings(rank, alpha, first_layer, end)

    def copy_adapter(self, source: str, target: str) -> None:
        """A second adapter with the same values: a policy starts at its reference."""
        settings = self.adapters[source]
        self.add_adapter(
            target,
            rank=settings.rank,
            alpha=settings.alpha,
            seed=0,
            first_layer=settings.first_layer,
            depth=settings.depth,
        )
        with torch.no_grad():
            own = self.adapter_parameters(target)
            for name, value in self.adapter_parameters(source).items():
                own[name].copy_(value)

    def add_head(
        self,
        role: str,
        *,
        std: float,
        seed: int,
        pooling: str = "last",
        num_extra: int = 0,
        num_outputs: int = 1,
    ) -> nn.Linear:
        """A float32 head on a state and ``num_extra`` more features; ``std`` 0: all zero.

        ``pooling`` says what a head that scores whole responses reads (``forward.pool``).
        """
        width = self.width + num_extra
        head = nn.Linear(width, num_outputs, device=self.device, dtype=torch.float32)
        head.requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            head.weight.copy_(torch.randn(num_outputs, width, generator=generator) * std)
            head.bias.zero_()
        self.heads[role] = head
        self.pooling[role] = pooling
        return head

    def add_links(self, role: str, values: Mapping[str, Tensor]) -> None:
        """Learned numbers between the role's scores and what people say, such as thresholds."""
        self.links[role] = {
            name: nn.Parameter(value.to(self.device, torch.float32), requires_grad=False)
            for name, value in values.items()
        }

    def adapter_parameters(self, role: str) -> dict[str, nn.Parameter]:
        """The role's adapter matrices by ``path/lora_a`` and so on; stable order."""
        return {
            f"{path}/{which}": value
            for path, layer in self.layers.items()
            for which, value in layer.parameters_of(role).items()
        }

    def trainable(self, *roles: str) -> dict[str, nn.Parameter]:
        """Everything that belongs to ``roles``: adapters, heads and links, by ``role:name``."""
        parameters: dict[str, nn.Parameter] = {}
        for role in roles:
            for name, value in self.adapter_parameters(role).items():
                parameters[f"{role}:{name}"] = value
            if role in self.heads:
                for name, value in self.heads[role].named_parameters():
                    parameters[f"{role}:head/{name}"] = value
            for name, value in self.links.get(role, {}).items():
                parameters[f"{role}:link/{name}"] = value
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
    def acting_by_token(self, roles: Sequence[str | None]) -> Iterator[None]:
        """Run the block with a role for every token of the packed row; for sampling only."""
        names = sorted({role for role in roles if role in self.adapters})
        self.switch.rows = tuple(
            (
                name,
                torch.tensor([i for i, role in enumerate(roles) if role == name]).to(self.device),
            )
            for name in names
        )
        try:
            yield
        finally:
            self.switch.rows = None

    def lay_out(self, *trained: str) -> None:
        """Keep copies of the base's weights that products are faster with on this CPU.

        Of the layers that some role uses; once more, for gradients, above the first that one of
        the ``trained`` adapts.
        """
        depth = max((one.depth for one in self.adapters.values()), default=self.num_layers)
        spans = [self.adapters[role] for role in trained if role in self.adapters]
        first = min((one.first_layer for one in spans), default=depth)
        for path, layer in self.layers.items():
            number = layer_number(path) or 0
            if number < depth:
                layer.lay_out(backward=number >= first)
        if depth == self.num_layers:
            self._output = product(self.output_weight)

    @contextmanager
    def sampling(self, role: str | None, *, blocked: bool = True) -> Iterator[None]:
        """Run the block with the role's adapter folded into a copy of the weights it adapts.

        One product per layer instead of three; the base's own weights are not touched. ``blocked``
        copies the others too, laid out for decoding.
        """
        output = self._output
        try:
            with torch.no_grad():
                for layer in self.layers.values():
                    layer.fix(role, blocked=blocked and not self.is_compiled)
            self._output = output or product(self.output_weight, blocked=blocked)
            with self.acting(None):
                yield
        finally:
            for layer in self.layers.values():
                layer.fixed = None
            self._output = output

    def layout(
        self, shapes: Sequence[TreeShape], keep: Keep | None = None, *, before: int = 0
    ) -> Layout:
        """Who sees whom in a packed row of trees, by the trunk's kind of attention.

        All see the ``before`` first tokens of the row.
        """
        return LAYOUTS[self.attention](shapes, self.device, keep, before)

    def stem(self, *roles: str | None) -> Stem | None:
        """An empty stem of the layers that none of ``roles`` adapts; None when there are none."""
        firsts = [self.adapters[role].first_layer for role in roles if role in self.adapters]
        shared = min(firsts, default=0)
        return Stem(shared) if shared else None

    def hidden(
        self,
        token_ids: Tensor,
        position_ids: Tensor,
        layout: Layout,
        *,
        stem: Stem | None = None,
    ) -> Float[Tensor, "N D"]:
        """Last hidden states of a packed row as the acting role.

        After the final norm, or raw after the last layer that the role uses. A ``stem`` that holds
        states saves its layers, an empty one is filled; the acting role must not adapt them.
        """
        role = self.switch.role
        settings = None if role is None else self.adapters[role]
        if stem is not None and settings is not None and settings.first_layer < stem.num_layers:
            raise ValueError(f"role {role!r} adapts a layer below {stem.num_layers}: not its stem")
        again = None
        if self.recomputes and settings is not None and torch.is_grad_enabled():
            again = settings.first_layer
        depth = self.num_layers if settings is None else settings.depth
        run = Run(depth, stem, again, partial(self.acting, role))
        return self.base_forward(token_ids, position_ids, layout, run)

    @torch.no_grad()
    def fill(self, stem: Stem, token_ids: Tensor, position_ids: Tensor, layout: Layout) -> None:
        """Compute the layers of an empty stem, and none above them."""
        with self.acting(None):
            stem.states = self.base_forward(token_ids, position_ids, layout, Run(stem.num_layers))

    @property
    def decoder_layers(self) -> nn.ModuleList:
        """The base's layers in order."""
        return self.base_forward.layers

    @property
    def output(self) -> Product:
        """The product with the frozen output embedding; without a gradient where it is laid out."""
        return self._output or product(self.output_weight, blocked=False)

    def logits(self, states: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """Next-token logits in float32."""
        return self.scaled(self.output(states))

    def scaled(self, logits: Float[Tensor, "N V"]) -> Float[Tensor, "N V"]:
        """What ``output`` gives, in float32 and by the model's own scale."""
        logits = logits.float()
        return logits if self.logit_scale == 1 else logits * self.logit_scale

    @torch.no_grad()
    def stock_logits(self, token_ids: Tensor) -> Float[Tensor, "N V"]:
        """Logits of one sequence by the base's own forward and its own attention, in float32."""
        config = self.base.model.config
        config._attn_implementation = "eager"
        try:
            with self.acting(None):
                logits: Tensor = self.base.model(input_ids=token_ids[None], use_cache=False).logits
        finally:
            config._attn_implementation = NAME
        return logits[0].float()
