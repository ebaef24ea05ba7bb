"""Attention for packed, prefix-shared rows and for decoding, through transformers' registry.

A *layout* says which positions see which; it travels as a keyword through the model's forward to
``heedful_attention``. Every architecture of transformers that uses the registry works unmodified.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "heedful"


class Layout(Protocol):
    """Who attends to whom. ``query`` is [1, H, N, D], ``key`` and ``value`` [1, Hkv, N, D]."""

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
    **_: Any,
) -> tuple[Tensor, None]:
    """The entry in transformers' attention registry; the layout does the work."""
    if layout is None or attention_mask is not None:
        raise ValueError("this model runs packed rows: pass layout= and no attention mask")
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

    def positions(self) -> list[int]:
        """Position ids: every response continues where the prompt ended."""
        ids = list(range(self.prompt_tokens))
        for length in self.response_tokens:
            ids += range(self.prompt_tokens, self.prompt_tokens + length)
        return ids

    def mask(self, device: torch.device) -> Tensor | None:
        """True where row i sees column j; None when plain causal attention says the same."""
        if len(self.response_tokens) <= 1:
            return None
        segment = torch.zeros(self.num_tokens, dtype=torch.long, device=device)
        start = self.prompt_tokens
        for number, length in enumerate(self.response_tokens, start=1):
            segment[start : start + length] = number
            start += length
        causal = torch.ones(
            self.num_tokens, self.num_tokens, dtype=torch.bool, device=device
        ).tril()
        return causal & ((segment[None, :] == 0) | (segment[None, :] == segment[:, None]))


class PackedLayout:
    """Trees side by side in one row; each attends within itself only.

    ``keep(layer, key, value)`` receives keys and values as they are made, which is how the engine
    fills its cache during prefill.
    """

    def __init__(self, shapes: Sequence[TreeShape], device: torch.device, keep: Any = None) -> None:
        bounds = [0]
        for shape in shapes:
            bounds.append(bounds[-1] + shape.num_tokens)
        self.spans = list(pairwise(bounds))
        self.masks = [shape.mask(device) for shape in shapes]
        self.keep = keep

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """Attention per tree; grouped key heads are repeated."""
        if self.keep is not None:
            self.keep(layer, key, value)
        group = query.shape[1] // key.shape[1]
        if group > 1:
            key = key.repeat_interleave(group, dim=1)
            value = value.repeat_interleave(group, dim=1)
        parts = [
            scaled_dot_product_attention(
                query[:, :, start:end],
                key[:, :, start:end],
                value[:, :, start:end],
                attn_mask=mask,
                is_causal=mask is None,
                scale=scaling,
            )
            for (start, end), mask in zip(self.spans, self.masks, strict=True)
        ]
        return torch.cat(parts, dim=2).transpose(1, 2)
