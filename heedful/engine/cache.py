"""The preallocated cache of keys and values, and attention of one decode step on it."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from heedful.model.trunk import Trunk

GROWTH = 32  # tokens that a row has more room for when the longest is full


class KeyValueCache:
    """Keys and values of up to ``num_slots`` rows, a layer [slot, head, token, D].

    Its rows have room for little more than the longest of them: products read all of it as it
    lies, where a part of a longer row would be copied first.
    """

    def __init__(self, trunk: Trunk, num_slots: int, max_tokens: int) -> None:
        config = trunk.base.model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or trunk.width // config.num_attention_heads
        empty = torch.zeros(
            (num_slots, heads, 0, width), dtype=trunk.base.model.dtype, device=trunk.device
        )
        self.max_tokens = max_tokens
        self.keys = [empty] * config.num_hidden_layers
        self.values = [empty] * config.num_hidden_layers

    @property
    def room(self) -> int:
        """Tokens that a row has room for now."""
        return self.keys[0].shape[2]

    def hold(self, num_tokens: int) -> None:
        """Have room for rows of so many tokens, layer by layer, so that one is there twice."""
        if num_tokens <= self.room:
            return
        more = min(num_tokens + GROWTH, self.max_tokens) - self.room
        for parts in (self.keys, self.values):
            for layer, part in enumerate(parts):
                parts[layer] = pad(part, (0, 0, 0, more))

    def write_prompt(
        self, layer: int, slots: Sequence[int], place: int, key: Tensor, value: Tensor
    ) -> None:
        """Copy keys and values [H, T, D] of prompt tokens from ``place`` on into ``slots``."""
        part = slice(place, place + key.shape[1])
        for slot in slots:
            self.keys[layer][slot, :, part] = key
            self.values[layer][slot, :, part] = value

    def move(self, source: int, target: int, length: int) -> None:
        """Move a row to another slot so that the busy slots stay a prefix."""
        for part in (*self.keys, *self.values):
            part[target, :, :length] = part[source, :, :length]


class DecodeLayout:
    """One new token for each busy slot; slot i writes at position ``lengths[i]``.

    The query heads that share a key head are laid out as query positions, so that a step is two
    batched matrix products per layer and no key or value is repeated.
    """

    def __init__(self, cache: KeyValueCache, lengths: Tensor) -> None:
        self.cache = cache
        self.longest = int(lengths.max()) + 1
        cache.hold(self.longest)
        # once a far longer row has left, a copy of the part in use is the smaller cost
        self.span = cache.room if 2 * self.longest > cache.room else self.longest
        heads = cache.keys[0].shape[1]
        first = torch.arange(len(lengths) * heads, device=lengths.device) * cache.room
        self.places = first + lengths.repeat_interleave(heads)
        seen = torch.arange(self.span, device=lengths.device)[None] <= lengths[:, None]
        # 0 and minus infinity, so that adding them in any type loses nothing
        self.bias = torch.zeros(seen.shape, dtype=cache.keys[0].dtype, device=lengths.device)
        self.bias.masked_fill_(~seen, float("-inf"))

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """One step. ``query`` is [1, H, R, D] with a row per slot; returns [1, R, H, D]."""
        _, num_heads, num_rows, width = query.shape
        keys = self.with_newest(self.cache.keys[layer], key)
        values = self.with_newest(self.cache.values[layer], value)
        grouped = query[0].transpose(0, 1).reshape(len(keys), -1, width)
        scores = torch.bmm(grouped * scaling, keys.transpose(1, 2)).view(num_rows, -1, self.span)
        weights = torch.softmax(scores.add_(self.bias[:, None]), dim=-1)
        mixed = torch.bmm(weights.view(len(keys), -1, self.span), values)
        return mixed.view(1, num_rows, num_heads, width)

    def with_newest(self, part: Tensor, newest: Tensor) -> Tensor:
        """Write ``newest`` [1, Hkv, R, D] into the cache; keys or values in use [R Hkv, T, D]."""
        rows = newest[0].transpose(0, 1).reshape(len(self.places), -1)
        part.view(-1, rows.shape[1]).index_copy_(0, self.places, rows)
        return part.view(-1, *part.shape[2:])[: len(rows), : self.span]
