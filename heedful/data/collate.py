"""Trees of token ids to packed batches: one copy of the prompt, no padding in the row."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heedful.errors import DataError
from heedful.tensors import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A prompt and the responses that share it, as token ids.

    Made by encoders and rollouts, used by collate. ``pairs`` are (chosen, rejected) indices into
    ``responses``; ``weights`` are of the pairs, or of the responses where there are none.
    ``Tree(id="a", prompt=(1, 2), responses=((3, 4), (5,)), pairs=((0, 1),))``
    """

    id: str
    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    pairs: tuple[tuple[int, int], ...] = ()
    weights: tuple[float, ...] = ()
    margins: tuple[float, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens in the packed row."""
        return len(self.prompt) + sum(len(response) for response in self.responses)

    def split(self, max_tokens: int) -> list["Tree"]:
        """The tree in parts of at most ``max_tokens``, each with the prompt; for lone responses.

        A part keeps at least one response. Raises ``ValueError`` for a tree with pairs, whose sides
        belong together, or weights.
        """
        if self.pairs or self.weights:
            raise ValueError(f"tree {self.id} has pairs or weights; only lone responses are split")
        parts: list[list[tuple[int, ...]]] = []
        room = 0
        for response in self.responses:
            if not parts or len(response) > room:
                parts.append([])
                room = max_tokens - len(self.prompt)
            parts[-1].append(response)
            room -= len(response)
        return [replace(self, responses=tuple(part)) for part in parts]

    def closed(self, stop: int, stops: frozenset[int]) -> "Tree":
        """The tree as a reward model reads it: an answer cut at the length limit gets its end.

        A reward model learns from texts, which all end; without this it would meet ends in RL
        that it never saw in training.
        """
        return replace(
            self,
            responses=tuple(
                response if response[-1] in stops else (*response, stop)
                for response in self.responses
            ),
        )


def micro_batches(trees: Sequence[Tree], max_tokens: int) -> list[list[Tree]]:
    """Consecutive groups of at most ``max_tokens`` packed tokens; order is kept.

    A longer tree is a group of its own: its responses share one copy of the prompt.
    """
    groups: list[list[Tree]] = []
    room = 0
    for tree in trees:
        if tree.num_tokens > room:
            groups.append([])
            room = max_tokens
        groups[-1].append(tree)
        room -= tree.num_tokens
    return groups


Advance = Callable[[int], object]


def silent(_: int) -> None:
    """Nobody listens to the progress."""


def packed(
    trees: Sequence[Tree],
    device: torch.device,
    max_tokens: int,
    advance: Advance = silent,
) -> Iterator[Batch]:
    """All trees in order, packed into batches; ``advance`` hears how many trees are done."""
    for group in micro_batches(trees, max_tokens):
        yield collate(group, device)
        advance(len(group))


def collate(trees: Sequence[Tree], device: torch.device) -> Batch:
    """Pack trees into one row. The first token of a response is predicted at the prompt's end."""
    tokens: list[int] = []
    positions: list[int] = []
    predictors: list[int] = []
    places: list[int] = []
    targets: list[int] = []
    rows: list[int] = []
    columns: list[int] = []
    last: list[int] = []
    lengths: list[int] = []
    pairs: list[tuple[int, int]] = []
    for tree in trees:
        if not tree.prompt or not all(tree.responses):
            raise DataError(f"example {tree.id} has an empty prompt or response; drop it first")
        first_row = len(last)
        pairs += [(first_row + chosen, first_row + rejected) for chosen, rejected in tree.pairs]
        tokens += tree.prompt
        positions += range(len(tree.prompt))
        prompt_end = len(tokens) - 1
        for response in tree.responses:
            start = len(tokens)
            predictors += [prompt_end, *range(start, start + len(response) - 1)]
            places += range(start, start + len(response))
            targets += response
            rows += [len(last)] * len(response)
            columns += range(len(response))
            positions += range(len(tree.prompt), len(tree.prompt) + len(response))
            tokens += response
            last.append(len(tokens) - 1)
            lengths.append(len(response))

    def long(values: Sequence[object]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    columns_range = torch.arange(max(lengths), device=device)
    flat_weights = [
        weight
        for tree in trees
        for weight in tree.weights or (1.0,) * len(tree.pairs if pairs else tree.responses)
    ]
    flat_margins = [margin for tree in trees for margin in tree.margins or (0.0,) * len(tree.pairs)]
    return Batch(
        token_ids=long(tokens),
        position_ids=long(positions),
        trees=tuple(
            (len(tree.prompt), tuple(len(response) for response in tree.responses))
            for tree in trees
        ),
        predictors=long(predictors),
        places=long(places),
        targets=long(targets),
        rows=long(rows),
        columns=long(columns),
        last=long(last),
        mask=columns_range[None, :] < long(lengths)[:, None],
        ids=tuple(tree.id for tree in trees),
        pairs=long(pairs) if pairs else None,
        weights=torch.tensor(flat_weights, device=device)
        if pairs or any(tree.weights for tree in trees)
        else None,
        margins=torch.tensor(flat_margins, device=device) if pairs else None,
    )
