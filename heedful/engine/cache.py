"""The preallocated cache of keys and values, and attention of one decode step on it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from heedful.model.trunk import Trunk


class KeyValueCache:
    """Keys and values of up to ``num_slots`` rows, laid out [layer, slot, head, token, D]."""

    def __init__(self, trunk: Trunk, num_slots: int, max_tokens: int) -> None:
        config = trunk.base.model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or trunk.width // config.num_attention_heads
        shape = (config.num_hidden_layers, num_slots, heads, max_tokens, width)
        dtype = trunk.base.model.dtype
        self.keys = torch.zeros(shape, dtype=dtype, device=trunk.device)
        self.values = torch.zeros(shape, dtype=dtype, device=trunk.device)

    @property
    def num_bytes(self) -> int:
        """Memory of the cache."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def write_prompt(
        self, layer: int, slots: Sequence[int], place: int, key: Tensor, value: Tensor
    ) -> None:
        """Copy keys and values [H, T, D] of prompt tokens from ``place`` on into ``slots``."""
        part = slice(place, place + key.shape[1])
        for slot in slots:
            self.keys[layer, slot, :, part] = key
            self.values[layer, slot, :, part] = value

    def move(self, source: int, target: int, length: int) -> None:
        """Move a row to another slot so that the busy slots stay a prefix."""
        self.keys[:, target, :, :length] = self.keys[:, source, :, :length]
        self.values[:, target, :, :length] = self.values[:, source, :, :length]


class DecodeLayout:
    """One new token for each busy slot; slot i writes at position ``lengths[i]``.

    The query heads that share a key head are laid out as query positions, so that a step is two
    batched matrix products per layer and no key or value is repeated.
    """

    def __init__(self, cache: KeyValueCache, lengths: Tensor) -> None:
        self.cache = cache
        self.lengths = lengths
        self.slots = torch.arange(len(lengths), device=lengths.device)
        self.span = self.longest = int(lengths.max()) + 1
        seen = torch.arange(self.span, device=lengths.device)[None] <= lengths[:, None]
        self.bias = torch.zeros(seen.shape, dtype=torch.float32, device=lengths.device)
        self.bias.masked_fill_(~seen, float("-inf"))

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """One step. ``query`` is [1, H, R, D] with a row per slot; returns [1, R, H, D]."""
        _, num_heads, num_rows, width = query.shape
        cache = self.cache
        cache.keys[layer, self.slots, :, self.lengths] = key[0].transpose(0, 1)
        cache.values[layer, self.slots, :, self.lengths] = value[0].transpose(0, 1)
        keys = cache.keys[layer, :num_rows, :, : self.span]
        values = cache.values[layer, :num_rows, :, : self.span]
        grouped = query[0].transpose(0, 1).reshape(num_rows, keys.shape[1], -1, width)
        scores = torch.matmul(grouped * scaling, keys.transpose(-1, -2)).float()
        weights = torch.softmax(scores + self.bias[:, None, None], dim=-1).to(values.dtype)
        return torch.matmul(weights, values).reshape(1, num_rows, num_heads, width)
