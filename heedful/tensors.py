"""Batch and Outputs: the only records that hold torch. The same fields for every algorithm.

Axes: N tokens of the packed row, M predicted tokens, B responses, T longest response, P pairs,
E ties, R rankings of at most K responses, G marks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(slots=True)
class Stem:
    """States of a packed row after the first ``num_layers`` layers, which several roles share.

    The first pass over the row fills it; later passes start from it.
    """

    num_layers: int
    states: Float[Tensor, "N D"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rankings:
    """Response numbers ``order``, best first; the first ``num_ranked`` places are known."""

    order: Int[Tensor, "R K"]
    mask: Bool[Tensor, "R K"]
    num_ranked: Int[Tensor, "R"]
    weights: Float[Tensor, "R"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judges:
    """Who judged each pair, or gave each rating: the number of a skill or of an offset, and the
    pair's share of that person's weight."""

    skills: Int[Tensor, "P"]
    shares: Float[Tensor, "P"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What was said of single responses: ``values[g]`` of response ``rows[g]``.

    ``judges`` are of all of them, None where nobody's offset is learned.
    """

    rows: Int[Tensor, "G"]
    values: Float[Tensor, "G"]
    weights: Float[Tensor, "G"]
    judges: Judges | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Trees packed into one row without padding. Made by collate, used by forward and objectives.

    A tree is a prompt and the responses that share it; ``trees[i] = (prompt length, response
    lengths)``. What all prompts begin with stands once, in the ``before`` first places of the row,
    and does not count in their lengths. Predicted token m belongs to response ``rows[m]`` at
    ``columns[m]`` and stands at row position ``places[m]``; its distribution is read at row
    position ``predictors[m]``.
    ``pairs[p]`` are (chosen, rejected) response numbers and ``probabilities[p]`` how likely that
    is, None where all are certain; ``weights`` are of the pairs, or of the
    responses of demonstrations, where there are none. ``groups[p]`` is the place of the part that
    pair p teaches beside the first one, 0 for none. ``ties`` are pairs of response numbers,
    ``ratings`` are by criterion; ``thumbs`` have the values 1 and 0. ``flags`` are by name, with
    the severity in units of the flag's mean one, 0 where it was not raised. ``style`` are features
    of responses that a loss may explain judgements by, beside their scores; ``pulls`` are the
    gradient of a penalty on all responses of the step, in the score and the length score of each.
    A rollout without
    ``old_logprobs`` is learned from by the very policy that sampled it. ``role`` is who learns from
    the batch where the algorithm trains several apart.
    """

    token_ids: Int[Tensor, "N"]
    position_ids: Int[Tensor, "N"]
    trees: tuple[tuple[int, tuple[int, ...]], ...]
    before: int
    predictors: Int[Tensor, "M"]
    places: Int[Tensor, "M"]
    targets: Int[Tensor, "M"]
    rows: Int[Tensor, "M"]
    columns: Int[Tensor, "M"]
    last: Int[Tensor, "B"]
    mask: Bool[Tensor, "B T"]
    ids: tuple[str, ...]
    pairs: Int[Tensor, "P 2"] | None = None
    weights: Float[Tensor, "P"] | Float[Tensor, "B"] | None = None
    margins: Float[Tensor, "P"] | None = None
    probabilities: Float[Tensor, "P"] | None = None
    judges: Judges | None = None
    groups: Int[Tensor, "P"] | None = None
    ties: Int[Tensor, "E 2"] | None = None
    tie_weights: Float[Tensor, "E"] | None = None
    rankings: Rankings | None = None
    ratings: Mapping[str, Marks] = field(default_factory=dict)
    thumbs: Marks | None = None
    style: Float[Tensor, "B S"] | None = None
    pulls: Float[Tensor, "B 2"] | None = None
    flags: Mapping[str, Marks] = field(default_factory=dict)
    ref_logprobs: Float[Tensor, "B T"] | None = None
    old_logprobs: Float[Tensor, "B T"] | None = None
    old_values: Float[Tensor, "B T"] | None = None
    advantages: Float[Tensor, "B T"] | None = None
    returns: Float[Tensor, "B T"] | None = None
    features: Float[Tensor, "M F"] | None = None
    stem: Stem | None = None
    role: str | None = None

    @property
    def num_tokens(self) -> int:
        """Response tokens."""
        return len(self.targets)

    @property
    def num_passed(self) -> int:
        """Layers that a pass over the row can leave out, since the stem has their outcome."""
        return self.stem.num_layers if self.stem and self.stem.states is not None else 0

    @property
    def token_weight(self) -> float:
        """Response tokens by weight: the normaliser of token losses."""
        if self.weights is None or self.pairs is not None:
            return float(self.num_tokens)
        return self.weights[self.rows].sum().item()

    @property
    def pair_weight(self) -> float:
        """Compared pairs by weight: the normaliser of pairwise losses."""
        return 0.0 if self.weights is None or self.pairs is None else self.weights.sum().item()

    @property
    def judgement_weight(self) -> float:
        """All that was said of responses by weight: the normaliser of losses of feedback."""
        marks = (self.thumbs, *self.ratings.values(), *self.flags.values())
        said = [one.weights for one in (self.rankings, *marks) if one]
        if self.tie_weights is not None:
            said.append(self.tie_weights)
        return self.pair_weight + sum(weights.sum().item() for weights in said)

    @property
    def num_packed(self) -> int:
        """Tokens in the row, prompts and what they share once."""
        return len(self.token_ids)

    @property
    def num_padded(self) -> int:
        """Tokens that one padded row per response, each with its own prompt, would take."""
        longest = max(prompt + max(responses) for prompt, responses in self.trees)
        return len(self.mask) * (self.before + longest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What the model says about a batch; only what the algorithm needs is filled.

    ``scores`` are outputs of the reward head on pooled response states; ``parts`` are all of them
    by name where it has several, of which ``scores`` are the first. ``length_scores`` are of a
    head for length beside it, and ``heads_alike`` is how far the two heads point one way, 0 to 1.
    ``links`` are the learned numbers between scores and what people say, such as the threshold of
    a tie.
    """

    logprobs: Float[Tensor, "B T"] | None = None
    entropy: Float[Tensor, "B T"] | None = None
    values: Float[Tensor, "B T"] | None = None
    scores: Float[Tensor, "B"] | None = None
    parts: Mapping[str, Float[Tensor, "B"]] = field(default_factory=dict)
    length_scores: Float[Tensor, "B"] | None = None
    heads_alike: Float[Tensor, ""] | None = None
    links: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The micro-batches of one optimiser step. Made by sources, used by the loop.

    ``progress`` in [0, 1] drives the learning-rate schedule; ``count`` is the one normaliser of
    the whole step, ``counts`` those of roles that learn apart.
    """

    micro_batches: tuple[Batch, ...]
    count: float
    progress: float
    metrics: dict[str, float] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
