"""Attention for packed, prefix-shared rows and for decoding, through transformers' registry.

A *layout* says which positions see which; it travels as a keyword through the model's forward to
``heedful_attention``. An architecture works unmodified when it uses the registry and every position
sees all before it: caps on scores and sinks are refused, and so is a row that is longer than the
attention window. ``train/proofs.py`` compares each model with its own forward before it is used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from heedful.errors import DataError

NAME = "heedful"


class Layout(Protocol):
    """Who attends to whom. ``query`` is [1, H, N, D], ``key`` and ``value`` [1, Hkv, N, D].

    ``longest`` is the length of the longest sequence in tokens.
    """

    longest: int

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """Attention output as [1, N, H, D]."""
        ...


def heedful_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    layout: Layout | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The entry in transformers' attention registry; the layout does the work."""
    if layout is None or attention_mask is not None:
        raise ValueError("this model runs packed rows: pass layout= and no attention mask")
    if softcap is not None or s_aux is not None:
        feature = f"caps its attention scores at {softcap}" if softcap else "has attention sinks"
        raise DataError(f"this model {feature}, which is not supported; choose another model")
    if sliding_window is not None and layout.longest > sliding_window:
        raise DataError(
            f"a sequence has {layout.longest} tokens and this model attends to the last "
            f"{sliding_window} only; set batch.max_tokens={sliding_window} or less"
        )
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    layer: int = module.layer_idx  # type: ignore[assignment]
    return layout.attend(layer, query, key, value, scale), None


ALL_ATTENTION_FUNCTIONS.register(NAME, heedful_attention)


@dataclass(frozen=True, slots=True)
class TreeShape:
    """One prompt and the lengths of the responses that share it, in tokens."""

    prompt_tokens: int
    response_tokens: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        """Length of the tree in the packed row."""
        return self.prompt_tokens + sum(self.response_tokens)

    @property
    def longest(self) -> int:
        """Tokens of the prompt with its longest response."""
        return self.prompt_tokens + max(self.response_tokens, default=0)

    def positions(self) -> list[int]:
        """Position ids: every response continues where the prompt ended."""
        ids = list(range(self.prompt_tokens))
        for length in self.response_tokens:
            ids += range(self.prompt_tokens, self.prompt_tokens + length)
        return ids

    def segments(self) -> list[int]:
        """Which part every token belongs to: 0 is the prompt, 1 and up are the responses."""
        parts = [0] * self.prompt_tokens
        for number, length in enumerate(self.response_tokens, start=1):
            parts += [number] * length
        return parts


Attend = Callable[[Tensor, Tensor, Tensor, float], Tensor]

# Up to this many tokens one product under a mask costs no more than bringing responses together:
# SmolLM2-135M's heads, float32, one core, forward and backward: 104 tokens in 4 responses 2.7 ms
# against 4.1 ms, 200 in 4 7.7 against 7.9, 680 in 16 60 against 16.
DENSE_TOKENS = 192
# Scores of one head that are held at once on a CPU: more go through the kernel that holds none.
HELD_SCORES = {torch.bfloat16: 2**17, torch.float32: 2**14}


def attention(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, mask: Tensor | None = None
) -> Tensor:
    """Attention of [B, H, N, D] on [B, Hkv, M, D] under a ``mask`` [N, M], or causal without one.

    On a CPU the scores of short rows are held, because the fused kernel is made for long ones:
    SmolLM2-135M's heads, bfloat16, forward and backward, 4 rows of 47 queries on 107 keys take 2.1
    ms instead of 7.0, 300 on 300 take 4.4 instead of 8.1; in float32 2.9 for 3.7 and 9.0 for 7.1.
    """
    batch, heads, tokens, width = query.shape
    group, seen = heads // key.shape[1], key.shape[2]
    held = HELD_SCORES.get(query.dtype, 0) if query.device.type == "cpu" else 0
    if tokens * seen > held:
        if group > 1:
            key, value = (part.repeat_interleave(group, dim=1) for part in (key, value))
        return scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling
        )
    if mask is None:
        mask = torch.ones(tokens, seen, dtype=torch.bool).tril()
    # heads that share a key lie side by side, as further queries of it
    grouped = (query * scaling).reshape(batch, -1, group * tokens, width)
    scores = torch.matmul(grouped, key.transpose(-1, -2)).view(batch, -1, group, tokens, seen)
    weights = torch.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1)
    mixed = torch.matmul(weights.view(batch, -1, group * tokens, seen), value)
    return mixed.view(batch, heads, tokens, width)


class Causal:
    """A tree of one response, or of none: everything before is seen, ``before`` tokens included."""

    def __init__(self, num_tokens: int, before: int, device: torch.device) -> None:
        ones = torch.ones(num_tokens, before + num_tokens, dtype=torch.bool, device=device)
        self.mask = ones.tril(before) if before else None

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attention output [1, H, N, D]."""
        return attention(query, key, value, scaling, self.mask)


class Dense:
    """A small tree in one product: its responses see the prompt and themselves under a mask."""

    def __init__(self, shape: TreeShape, before: int, device: torch.device) -> None:
        segment = torch.tensor(shape.segments(), device=device)
        ones = torch.ones(shape.num_tokens, shape.num_tokens, dtype=torch.bool, device=device)
        own = (segment[None, :] == 0) | (segment[None, :] == segment[:, None])
        self.mask = torch.cat([ones[:, :1].expand(-1, before), ones.tril() & own], dim=1)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attention output [1, H, N, D]."""
        return attention(query, key, value, scaling, self.mask)


class Split:
    """A large tree, response by response as a batch: nothing grows with the square of the group."""

    def __init__(self, shape: TreeShape, before: int, device: torch.device) -> None:
        self.prompt = shape.prompt_tokens
        self.before = before
        self.of_prompt = Causal(self.prompt, before, device)
        lengths = torch.tensor(shape.response_tokens, device=device)
        starts = self.prompt + lengths.cumsum(0) - lengths
        place = torch.arange(int(lengths.max()), device=device)
        self.is_token = place < lengths[:, None]
        # padding repeats a response's last token; it stands after every token that counts
        self.places = starts[:, None] + torch.minimum(place, lengths[:, None] - 1)
        shared = before + self.prompt
        ones = torch.ones(len(place), shared + len(place), dtype=torch.bool, device=device)
        self.mask = ones.tril(shared)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attention output [1, H, N, D]."""
        shared = slice(self.before + self.prompt)
        places = self.before + self.places
        out = attention(
            self.rows(query, self.places),
            torch.cat([self.for_all(key[:, :, shared]), self.rows(key, places)], dim=2),
            torch.cat([self.for_all(value[:, :, shared]), self.rows(value, places)], dim=2),
            scaling,
            self.mask,
        )
        own = out.transpose(0, 1)[:, self.is_token][None]
        if not self.prompt:
            return own
        prompt = self.of_prompt(
            query[:, :, : self.prompt], key[:, :, shared], value[:, :, shared], scaling
        )
        return torch.cat([prompt, own], dim=2)

    def rows(self, part: Tensor, places: Tensor) -> Tensor:
        """[1, H, N, D] to one row per response, [G, H, L, D]."""
        return part[0][:, places].transpose(0, 1)

    def for_all(self, part: Tensor) -> Tensor:
        """The shared part for every response, without a copy."""
        return part.expand(len(self.places), -1, -1, -1)


def attention_of(shape: TreeShape, before: int, device: torch.device) -> Attend:
    """How a tree attends, by its size, to itself and the ``before`` tokens that all trees share."""
    if len(shape.response_tokens) <= 1:
        return Causal(shape.num_tokens, before, device)
    return (Dense if shape.num_tokens <= DENSE_TOKENS else Split)(shape, before, device)


Keep = Callable[[int, Tensor, Tensor], None]


class PackedLayout:
    """Trees side by side in one row, product by product: each attends to itself and ``before``.

    ``before`` is how many first tokens of the row all trees share. ``keep(layer, key, value)``
    receives keys and values as they are made, which is how the engine fills its cache.
    """

    def __init__(
        self,
        shapes: Sequence[TreeShape],
        device: torch.device,
        keep: Keep | None = None,
        before: int = 0,
    ) -> None:
        bounds = [before]
        for shape in shapes:
            bounds.append(bounds[-1] + shape.num_tokens)
        self.spans = list(pairwise(bounds))
        self.attends = [attention_of(shape, before, device) for shape in shapes]
        self.longest = before + max(shape.longest for shape in shapes)
        self.keep = keep
        self.before = before

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """Attention per tree."""
        if self.keep is not None:
            self.keep(layer, key, value)
        first, parts = slice(self.before), []
        if self.before:
            parts.append(
                attention(query[:, :, first], key[:, :, first], value[:, :, first], scaling)
            )

        def seen(part: Tensor, own: slice) -> Tensor:
            if not self.before:
                return part[:, :, own]
            return torch.cat([part[:, :, first], part[:, :, own]], dim=2)

        for span, attend in zip(self.spans, self.attends, strict=True):
            own = slice(*span)
            parts.append(attend(query[:, :, own], seen(key, own), seen(value, own), scaling))
        return torch.cat(parts, dim=2).transpose(1, 2)


class FlexLayout:
    """The same as ``PackedLayout`` in one fused product: FlexAttention, for CUDA.

    On a CPU it has no backward pass and is not compiled; it is there to be compared.
    """

    def __init__(
        self,
        shapes: Sequence[TreeShape],
        device: torch.device,
        keep: Keep | None = None,
        before: int = 0,
    ) -> None:
        trees = [number for number, shape in enumerate(shapes) for _ in range(shape.num_tokens)]
        tree = torch.tensor([-1] * before + trees, device=device)
        parts = [part for shape in shapes for part in shape.segments()]
        part = torch.tensor([0] * before + parts, device=device)

        def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            del batch, head
            own = (part[key] == 0) | (part[key] == part[query])
            is_near = (tree[key] == tree[query]) | (tree[key] == -1)
            return (key <= query) & is_near & own

        size = len(tree)
        self.mask = create_block_mask(sees, None, None, size, size, device=str(device))
        self.flex = fused(device.type)
        self.longest = before + max(shape.longest for shape in shapes)
        self.keep = keep

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """Attention of the whole row; key heads are shared, not repeated."""
        if self.keep is not None:
            self.keep(layer, key, value)
        out: Tensor = self.flex(
            query,
            key,
            value,
            block_mask=self.mask,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return out.transpose(1, 2)


@cache
def fused(device: str) -> Any:
    """FlexAttention, compiled where it has to be."""
    return torch.compile(flex_attention, dynamic=True) if device == "cuda" else flex_attention


LAYOUTS: dict[str, Callable[..., Layout]] = {"sdpa": PackedLayout, "flex": FlexLayout}
