"""Trees of token ids to packed batches: one copy of the prompt, no padding in the row."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from heedful.errors import DataError
from heedful.tensors import Batch, Judges, Marks, Rankings
from heedful.types import Scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A ``Feedback`` about responses of a tree, by number. Made by encoders, used by reading.

    ``annotator`` is a number that stands for who said it (``Encoded.annotators``), ``group`` the
    part of the group that they belong to, where groups have parts of their own.
    ``Said(scale="order", responses=(2, 0, 1), values=(0, 1, 1))``: the third response is the best.
    ``dataset`` is set where a run learns from several.
    """

    scale: Scale
    responses: tuple[int, ...]
    values: tuple[float, ...]
    criterion: str = ""
    margin: float = 0.0
    probability: float = 1.0
    weight: float = 1.0
    form: str = ""
    source: str = ""
    dataset: str = ""
    annotator: int = 0
    group: str = ""


NOTHING: frozenset[int] = frozenset()


class Ranking(NamedTuple):
    """Responses, best first, of which the first ``num_ranked`` places are known."""

    order: tuple[int, ...]
    num_ranked: int
    weight: float


class Judge(NamedTuple):
    """Who judged a pair, or gave a rating: the place of a skill or of an offset, and its share of
    that person's weight.

    Over the training pairs, or ratings, the shares of a person sum to 1, so a prior that is counted
    by share is counted once in an epoch.
    """

    skill: int
    share: float


class Mark(NamedTuple):
    """A value of one response; ``judge`` gave it, where people's offsets are learned."""

    response: int
    value: float
    weight: float
    judge: Judge | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A prompt and the responses that share it, as token ids.

    Made by encoders and rollouts, used by collate. ``pairs`` are (chosen, rejected) indices into
    ``responses``; ``weights`` are of the pairs, or of the responses where there are none.
    ``probabilities`` say how likely each pair is to be this way round, 1 where none are given.
    ``judges`` are of the pairs, where the reliability of people is learned, and so are ``groups``,
    the places of the parts that pairs teach beside the first one. ``said`` is the
    feedback as it was given; ``data.reading`` makes pairs, ties, rankings and marks of it.
    ``style`` holds features of each response where a loss reads them. ``given`` are the places in
    each response that its writer was given, such as results of tools, which nobody learns to write;
    empty where there are none.
    ``Tree(id="a", prompt=(1, 2), responses=((3, 4), (5,)), pairs=((0, 1),))``
    """

    id: str
    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    pairs: tuple[tuple[int, int], ...] = ()
    weights: tuple[float, ...] = ()
    margins: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()
    judges: tuple[Judge, ...] = ()
    groups: tuple[int, ...] = ()
    ties: tuple[tuple[int, int], ...] = ()
    tie_weights: tuple[float, ...] = ()
    rankings: tuple[Ranking, ...] = ()
    ratings: Mapping[str, tuple[Mark, ...]] = field(default_factory=dict)
    thumbs: tuple[Mark, ...] = ()
    flags: Mapping[str, tuple[Mark, ...]] = field(default_factory=dict)
    said: tuple[Said, ...] = ()
    style: tuple[tuple[float, ...], ...] = ()
    given: tuple[frozenset[int], ...] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens in the packed row."""
        return len(self.prompt) + sum(len(response) for response in self.responses)

    def split(self, max_tokens: int) -> list["Tree"]:
        """The tree in parts of at most ``max_tokens``, each with the prompt; for lone responses.

        A part keeps at least one response. Raises ``ValueError`` for a tree with pairs, whose sides
        belong together, or weights, or anything else that was said of its responses.
        """
        if self.pairs or self.weights or self.said or self.given:
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


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many first tokens two prompts share."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(left), len(right)))


def shared_tokens(trees: Sequence[Tree]) -> int:
    """How many first tokens all prompts share, such as a system message; 0 for a lone tree.

    Every prompt keeps at least its last token, which predicts responses.
    """
    if len(trees) == 1:
        return 0
    prompts = [tree.prompt for tree in trees]
    shared = common_prefix(min(prompts), max(prompts))  # in order, the two that differ first
    return max(min(shared, min(map(len, prompts)) - 1), 0)


def collate(trees: Sequence[Tree], device: torch.device, *, shares: bool = True) -> Batch:
    """Pack trees into one row. The first token of a response is predicted at the prompt's end.

    What all prompts begin with stands once, at the start of the row; unless the trees are to stay
    whole, side by side, because the row will be taken apart (``shares=False``).
    """
    before = shared_tokens(trees) if shares else 0
    tokens: list[int] = list(trees[0].prompt[:before])
    positions: list[int] = list(range(before))
    predictors: list[int] = []
    places: list[int] = []
    targets: list[int] = []
    rows: list[int] = []
    columns: list[int] = []
    last: list[int] = []
    lengths: list[int] = []
    pairs: list[tuple[int, int]] = []
    ties: list[tuple[int, int]] = []
    rankings: list[Ranking] = []
    ratings: dict[str, list[Mark]] = {}
    thumbs: list[Mark] = []
    flags: dict[str, list[Mark]] = {}
    for tree in trees:
        if not tree.prompt or not all(tree.responses):
            raise DataError(f"example {tree.id} has an empty prompt or response; drop it first")
        first_row = len(last)
        pairs += [(first_row + chosen, first_row + rejected) for chosen, rejected in tree.pairs]
        ties += [(first_row + first, first_row + second) for first, second in tree.ties]
        rankings += [
            one._replace(order=tuple(first_row + response for response in one.order))
            for one in tree.rankings
        ]
        thumbs += [one._replace(response=first_row + one.response) for one in tree.thumbs]
        for found, own in ((ratings, tree.ratings), (flags, tree.flags)):
            for name, marks in own.items():
                found.setdefault(name, []).extend(
                    one._replace(response=first_row + one.response) for one in marks
                )
        tokens += tree.prompt[before:]
        positions += range(before, len(tree.prompt))
        prompt_end = len(tokens) - 1
        for response, given in zip(tree.responses, tree.given or repeat(NOTHING), strict=False):
            start = len(tokens)
            written = [place for place in range(len(response)) if place not in given]
            if not written:
                raise DataError(f"example {tree.id} has an answer that nobody wrote; drop it first")
            predictors += [start + place - 1 if place else prompt_end for place in written]
            places += [start + place for place in written]
            targets += [response[place] for place in written]
            rows += [len(last)] * len(written)
            columns += written
            positions += range(len(tree.prompt), len(tree.prompt) + len(response))
            tokens += response
            last.append(len(tokens) - 1)
            lengths.append(len(response))

    def long(values: Sequence[object]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    mask = torch.zeros(len(lengths), max(lengths), dtype=torch.bool, device=device)
    mask[long(rows), long(columns)] = True
    flat_weights = [
        weight
        for tree in trees
        for weight in tree.weights or (1.0,) * len(tree.pairs if pairs else tree.responses)
    ]
    flat_probabilities = [
        probability
        for tree in trees
        for probability in tree.probabilities or (1.0,) * len(tree.pairs)
    ]
    judges = [judge for tree in trees for judge in tree.judges]
    flat_margins = [margin for tree in trees for margin in tree.margins or (0.0,) * len(tree.pairs)]
    return Batch(
        token_ids=long(tokens),
        position_ids=long(positions),
        trees=tuple(
            (len(tree.prompt) - before, tuple(len(response) for response in tree.responses))
            for tree in trees
        ),
        before=before,
        predictors=long(predictors),
        places=long(places),
        targets=long(targets),
        rows=long(rows),
        columns=long(columns),
        last=long(last),
        mask=mask,
        ids=tuple(tree.id for tree in trees),
        pairs=long(pairs) if pairs else None,
        weights=torch.tensor(flat_weights, device=device)
        if pairs or any(tree.weights for tree in trees)
        else None,
        margins=torch.tensor(flat_margins, device=device) if pairs else None,
        probabilities=torch.tensor(flat_probabilities, device=device)
        if any(probability < 1 for probability in flat_probabilities)
        else None,
        judges=judging(judges, device),
        groups=long([place for tree in trees for place in tree.groups])
        if any(tree.groups for tree in trees)
        else None,
        ties=long(ties) if ties else None,
        tie_weights=torch.tensor(
            [weight for tree in trees for weight in tree.tie_weights or (1.0,) * len(tree.ties)],
            device=device,
        )
        if ties
        else None,
        rankings=ranked(rankings, device) if rankings else None,
        ratings={criterion: marked(ratings[criterion], device) for criterion in sorted(ratings)},
        thumbs=marked(thumbs, device) if thumbs else None,
        style=torch.tensor([row for tree in trees for row in tree.style], device=device)
        if any(tree.style for tree in trees)
        else None,
        flags={name: marked(flags[name], device) for name in sorted(flags)},
    )


def ranked(rankings: Sequence[Ranking], device: torch.device) -> Rankings:
    """Rankings padded to the longest."""
    longest = max(len(one.order) for one in rankings)
    padded = [(*one.order, *(0,) * (longest - len(one.order))) for one in rankings]
    sizes = torch.tensor([len(one.order) for one in rankings], device=device)
    return Rankings(
        order=torch.tensor(padded, dtype=torch.long, device=device),
        mask=torch.arange(longest, device=device)[None, :] < sizes[:, None],
        num_ranked=torch.tensor([one.num_ranked for one in rankings], device=device),
        weights=torch.tensor([float(one.weight) for one in rankings], device=device),
    )


def marked(marks: Sequence[Mark], device: torch.device) -> Marks:
    """Marks as tensors."""
    return Marks(
        rows=torch.tensor([one.response for one in marks], dtype=torch.long, device=device),
        values=torch.tensor([float(one.value) for one in marks], device=device),
        weights=torch.tensor([float(one.weight) for one in marks], device=device),
        judges=judging([one.judge for one in marks if one.judge is not None], device),
    )


def judging(judges: Sequence[Judge], device: torch.device) -> Judges | None:
    """Who judged as tensors; None of nobody."""
    if not judges:
        return None
    return Judges(
        skills=torch.tensor([one.skill for one in judges], dtype=torch.long, device=device),
        shares=torch.tensor([one.share for one in judges], device=device),
    )
