"""The local engine: continuous batching over a preallocated cache.

Finished rows leave the batch at once and waiting prompts enter. A prompt that several requests
share is computed once. The answer to a request depends on its seed and prompt, not on its
batch-mates, up to the rounding of matrix products of another shape.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from heedful.data.collate import common_prefix
from heedful.engine.base import OnFinish, OnText, Request
from heedful.engine.cache import DecodeLayout, KeyValueCache
from heedful.engine.sampling import draw_tokens, stop_place
from heedful.engine.streaming import TextStream
from heedful.errors import DataError
from heedful.maths.logprobs import rows_at_once
from heedful.model.attention import TreeShape
from heedful.model.trunk import Trunk
from heedful.types import Sample

PREFILL_TOKENS = 4096  # of prompts in one pass, which bounds its memory; a longer prompt goes alone

Asked = tuple[str | None, tuple[int, ...]]  # a role and a prompt
Drawn = tuple[list[int], list[float]]  # tokens and their log-probabilities


class Segment(NamedTuple):
    """Tokens ``start`` to ``end`` of a pack: a prompt from ``place`` on, wanted in ``slots``."""

    start: int
    end: int
    place: int
    slots: list[int]


@dataclass(slots=True)
class Row:
    """A request in flight, in one slot of the cache."""

    index: int
    request: Request
    length: int
    uniforms: np.ndarray
    stream: TextStream
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class LocalEngine:
    """Samples from the trunk on this device, ``num_slots`` answers at a time."""

    def __init__(self, trunk: Trunk, *, num_slots: int = 32) -> None:
        self.trunk = trunk
        self.num_slots = num_slots

    @torch.no_grad()
    def sample(
        self,
        requests: Sequence[Request],
        *,
        on_finish: OnFinish | None = None,
        on_text: OnText | None = None,
    ) -> list[Sample]:
        """Answer every request; raises ``DataError`` for one that cannot fit.

        When all are for one role, its adapter is folded into the weights; otherwise every row
        takes its own adapter's term. Weights are laid out for decoding when there is more than one
        request: it takes as long as one answer saves.
        """
        if not requests:
            return []
        for number, request in enumerate(requests):
            check_request(number, request, self.trunk)
        longest = max(len(r.prompt) + r.params.max_new_tokens for r in requests)
        slots = min(self.num_slots, len(requests))
        roles = {request.role for request in requests}
        is_mixed = len(roles) > 1
        with self.trunk.sampling(None if is_mixed else roles.pop(), blocked=len(requests) > 1):
            batch = _Batch(self.trunk, KeyValueCache(self.trunk, slots, longest), slots)
            batch.on_finish, batch.on_text, batch.is_mixed = on_finish, on_text, is_mixed
            return batch.run(requests)


def check_request(number: int, request: Request, trunk: Trunk) -> None:
    """Refuse what could never be answered, before anything is computed."""
    params, max_tokens = request.params, trunk.max_tokens
    settings = trunk.adapters.get(request.role or "")
    if settings is not None and settings.depth < trunk.num_layers:
        raise DataError(
            f"request {number} asks role {request.role!r}, which ends after layer "
            f"{settings.depth} and cannot write; ask a policy"
        )
    if not request.prompt:
        raise DataError(f"request {number} has an empty prompt; give at least one token")
    if params.max_new_tokens < 1:
        raise DataError(f"max_new_tokens is {params.max_new_tokens}; it must be at least 1")
    if params.temperature <= 0:
        raise DataError(f"temperature is {params.temperature}; sampling needs more than 0")
    if params.top_k < 0:
        raise DataError(f"top_k is {params.top_k}; give 1 or more, or 0 for all tokens")
    if not 0 < params.top_p <= 1:
        raise DataError(f"top_p is {params.top_p}; it must be above 0 and at most 1")
    if not 0 <= params.min_p <= 1:
        raise DataError(f"min_p is {params.min_p}; it must be from 0 to 1")
    if not all(params.stop):
        raise DataError("a stop string is empty and would end every answer; leave it out")
    if len(request.prompt) + params.max_new_tokens > max_tokens:
        raise DataError(
            f"request {number} has {len(request.prompt)} prompt tokens and asks for "
            f"{params.max_new_tokens}; this model holds {max_tokens}: shorten one of them"
        )


def share_prefixes(
    prompts: Sequence[tuple[int, ...]],
) -> list[tuple[int, list[tuple[int, ...]]]]:
    """Groups of distinct prompts and the number of first tokens that each group shares.

    A prompt joins the group before it when that saves tokens, even if the group then shares fewer,
    and unless it has far more in common with its follower. Every prompt keeps at least its last
    token to itself.
    """
    groups: list[tuple[int, list[tuple[int, ...]]]] = []
    ordered = sorted(prompts)
    for prompt, follower in zip(ordered, [*ordered[1:], ()], strict=True):
        if groups:
            prefix, members = groups[-1]
            shared = min(prefix, common_prefix(members[0], prompt), len(prompt) - 1)
            saves = shared * len(members) > prefix * (len(members) - 1)
            if saves and 2 * shared >= common_prefix(prompt, follower):
                groups[-1] = (shared, [*members, prompt])
                continue
        groups.append((len(prompt) - 1, [prompt]))
    return groups


Entering = tuple[int, Request]  # a request with its place in the call


def prefill_groups(entering: Sequence[Entering]) -> list[list[Entering]]:
    """Consecutive requests whose distinct prompts have at most ``PREFILL_TOKENS`` together."""
    groups: list[list[Entering]] = []
    seen: set[Asked] = set()
    room = 0
    for index, request in entering:
        asked = request.role, request.prompt
        needed = 0 if asked in seen else len(request.prompt)
        if not groups or needed > room:
            groups.append([])
            seen, room, needed = set(), PREFILL_TOKENS, len(request.prompt)
        groups[-1].append((index, request))
        seen.add(asked)
        room -= needed
    return groups


class _Batch:
    """The state of one call: rows in flight are slots 0 to len(rows) - 1."""

    def __init__(self, trunk: Trunk, cache: KeyValueCache, num_slots: int) -> None:
        self.trunk = trunk
        self.cache = cache
        self.num_slots = num_slots
        self.on_finish: OnFinish | None = None
        self.on_text: OnText | None = None
        self.is_mixed = False
        self.rows: list[Row] = []
        self.samples: dict[int, Sample] = {}
        self.stops = trunk.base.stop_ids

    def run(self, requests: Sequence[Request]) -> list[Sample]:
        waiting = list(enumerate(requests))[::-1]
        while waiting or self.rows:
            free = self.num_slots - len(self.rows)
            if waiting and (not self.rows or free >= min(len(waiting), self.num_slots // 4 or 1)):
                for group in prefill_groups(
                    [waiting.pop() for _ in range(min(free, len(waiting)))]
                ):
                    self.admit(group)
            if self.rows:
                self.step()
        return [self.samples[index] for index in range(len(requests))]

    def admit(self, entering: Sequence[Entering]) -> None:
        """Prefill the entering prompts, each distinct prompt once, and draw first tokens."""
        first = len(self.rows)
        slots_of: dict[Asked, list[int]] = {}
        for offset, (index, request) in enumerate(entering):
            uniforms = np.random.default_rng(request.params.seed).random(
                request.params.max_new_tokens
            )
            stream = TextStream(self.decode, request.params.stop)
            self.rows.append(Row(index, request, len(request.prompt), uniforms, stream))
            slots_of.setdefault((request.role, request.prompt), []).append(first + offset)
        self.cache.hold(max(len(request.prompt) for _, request in entering))
        states = self.prefill(slots_of)
        self.take(first, self.draw(self.rows[first:], states))

    def prefill(self, slots_of: dict[Asked, list[int]]) -> Tensor:
        """Last hidden state of each entering row, in slot order; fills the cache.

        What prompts begin with in common, such as a system message, is computed once per role.
        """
        prompts_of: dict[str | None, list[tuple[int, ...]]] = {}
        for role, prompt in slots_of:
            prompts_of.setdefault(role, []).append(prompt)
        shapes: list[TreeShape] = []
        segments: list[Segment] = []
        last: dict[int, int] = {}
        tokens: list[int] = []
        roles: list[str | None] = []

        def add(part: tuple[int, ...], place: int, slots: list[int]) -> None:
            segments.append(Segment(len(tokens), len(tokens) + len(part), place, slots))
            tokens.extend(part)

        for role, prompts in prompts_of.items():
            for prefix, members in share_prefixes(prompts):
                rests = tuple(len(prompt) - prefix for prompt in members)
                shapes.append(TreeShape(prefix, rests))
                sharing = [slot for prompt in members for slot in slots_of[role, prompt]]
                add(members[0][:prefix], 0, sharing)
                for prompt in members:
                    add(prompt[prefix:], prefix, slots_of[role, prompt])
                    last |= dict.fromkeys(slots_of[role, prompt], len(tokens) - 1)
            roles += [role] * (len(tokens) - len(roles))

        def keep(layer: int, key: Tensor, value: Tensor) -> None:
            for start, end, place, slots in segments:
                part = slice(start, end)
                self.cache.write_prompt(layer, slots, place, key[0, :, part], value[0, :, part])

        device = self.trunk.device
        positions = [place for shape in shapes for place in shape.positions()]
        with self.acting(roles):
            states = self.trunk.hidden(
                torch.tensor(tokens, device=device),
                torch.tensor(positions, device=device),
                self.trunk.layout(shapes, keep),
            )
        return states[[last[slot] for slot in sorted(last)]]

    def acting(self, roles: Sequence[str | None]) -> AbstractContextManager[None]:
        """Each token's own adapter, unless one is folded into the weights for all."""
        return self.trunk.acting_by_token(roles) if self.is_mixed else nullcontext()

    def step(self) -> None:
        """One token for every row in flight."""
        device = self.trunk.device
        lengths = torch.tensor([row.length for row in self.rows], device=device)
        tokens = torch.tensor([row.token_ids[-1] for row in self.rows], device=device)
        layout = DecodeLayout(self.cache, lengths)
        with self.acting([row.request.role for row in self.rows]):
            states = self.trunk.hidden(tokens, lengths, layout)
        for row in self.rows:
            row.length += 1
        self.take(0, self.draw(self.rows, states))

    def draw(self, rows: Sequence[Row], states: Tensor) -> Drawn:
        """A token for each row and its log-probability."""
        raw = self.trunk.output(states)
        drawn: Drawn = ([], [])
        num_rows = rows_at_once(states.device, len(rows))
        for first in range(0, len(rows), num_rows):
            few = rows[first : first + num_rows]
            params = [row.request.params for row in few]
            logits = raw[first : first + len(few)]
            scales = [self.trunk.logit_scale / one.temperature for one in params]
            if any(scale != 1 for scale in scales):
                logits = logits.float() * torch.tensor(scales, device=logits.device)[:, None]
            uniforms = torch.tensor([row.uniforms[len(row.token_ids)] for row in few])
            tokens, logprobs = draw_tokens(logits, uniforms.to(states.device), params)
            drawn[0].extend(tokens.tolist())
            drawn[1].extend(logprobs.tolist())
        return drawn

    def take(self, first: int, drawn: Drawn) -> None:
        """Give the slots from ``first`` on their tokens; rows that end leave, from the back."""
        pairs = list(zip(*drawn, strict=True))
        for slot, (token, logprob) in reversed(list(enumerate(pairs, start=first))):
            row = self.rows[slot]
            row.token_ids.append(token)
            row.logprobs.append(logprob)
            full = len(row.token_ids) == row.request.params.max_new_tokens
            if token in self.stops or self.said_stop(row):
                self.finish(slot, "stop")
            elif full:
                self.finish(slot, "length")
            elif self.on_text is not None:
                text = row.stream.push(row.token_ids)
                if text and self.on_text(row.index, text) is False:
                    self.finish(slot, "cancelled")

    def said_stop(self, row: Row) -> bool:
        """Does the newest token complete a stop string? Every token holds at least one byte."""
        stops = row.request.params.stop
        if not stops:
            return False
        reach = max(len(stop.encode()) for stop in stops) + 1
        return stop_place(self.decode(row.token_ids[-reach:]), stops) is not None

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        text: str = self.trunk.tokenizer.decode(token_ids, skip_special_tokens=True)
        return text

    def finish(self, slot: int, reason: Literal["stop", "length", "cancelled"]) -> None:
        """Hand out the sample and fill the slot with the last row."""
        row = self.rows[slot]
        ended = row.token_ids[-1] in self.stops
        text = self.decode(row.token_ids[:-1] if ended else row.token_ids)
        sample = Sample(
            token_ids=tuple(row.token_ids),
            logprobs=tuple(row.logprobs),
            finish_reason=reason,
            text=text[: stop_place(text, row.request.params.stop)],
        )
        self.samples[row.index] = sample
        rest = row.stream.end(sample.text)
        if self.on_text is not None and rest and reason != "cancelled":
            self.on_text(row.index, rest)
        mover = self.rows.pop()
        if slot < len(self.rows):
            self.rows[slot] = mover
            self.cache.move(len(self.rows), slot, mover.length)
        if self.on_finish is not None:
            self.on_finish(row.index, sample)
