"""One forward for every algorithm: a packed batch in, what the algorithm needs out."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from heedful.maths.aggregates import length_penalised
from heedful.maths.disentangled import orthogonality
from heedful.maths.logprobs import linear_logprobs
from heedful.model.attention import Layout, TreeShape
from heedful.model.trunk import Trunk
from heedful.tensors import Batch, Outputs, Stem


def hidden_states(trunk: Trunk, batch: Batch, role: str | None) -> Float[Tensor, "N D"]:
    """Last hidden states of the packed row as ``role``, from the batch's stem if there is one."""
    layout = layout_of(trunk, batch)
    with trunk.acting(role):
        return trunk.hidden(batch.token_ids, batch.position_ids, layout, stem=batch.stem)


def layout_of(trunk: Trunk, batch: Batch) -> Layout:
    """Who sees whom in the batch's row."""
    return trunk.layout([TreeShape(*tree) for tree in batch.trees], before=batch.before)


def states_by_role(
    trunk: Trunk, batch: Batch, roles: Sequence[str | None]
) -> list[Float[Tensor, "N D"]]:
    """``hidden_states`` of each role; layers that none of them adapts are computed once."""
    if len(roles) > 1 and batch.stem is None:
        batch = replace(batch, stem=trunk.stem(*roles))
    return [hidden_states(trunk, batch, role) for role in roles]


def stem_states(trunk: Trunk, batch: Batch, num_layers: int) -> Float[Tensor, "N D"]:
    """States of the packed row after the first layers, without a graph."""
    stem = Stem(num_layers)
    layout = layout_of(trunk, batch)
    trunk.fill(stem, batch.token_ids, batch.position_ids, layout)
    assert stem.states is not None
    return stem.states


def forward(
    trunk: Trunk,
    batch: Batch,
    role: str | None,
    needs: Collection[str],
    *,
    temperature: float = 1.0,
) -> Outputs:
    """Outputs of ``role``; ``needs`` holds any of logprobs, values, scores and length_scores.

    ``length_scores`` come from the head of the role ``length`` on what the role's own head reads.
    ``values`` come from the critic's head on ``batch.features``, which the rollout computed, and on
    the states of the critic's adapter if it has one.
    """
    logprobs = entropy = values = scores = length_scores = heads_alike = None
    parts: dict[str, Tensor] = {}
    if "logprobs" in needs or "scores" in needs:
        states = hidden_states(trunk, batch, role)
        if "logprobs" in needs:
            flat = linear_logprobs(
                states[batch.predictors],
                trunk.output_weight,
                batch.targets,
                temperature=temperature / trunk.logit_scale,
                output=trunk.output,
            )
            logprobs, entropy = (to_rows(batch, part) for part in flat)
        if "scores" in needs:
            if role is None or role not in trunk.heads:
                raise ValueError(f"role {role!r} has no head to score with")
            pooled = pool(states, batch, trunk.pooling[role])
            outputs = head_outputs(trunk, role, pooled, batch.mask.sum(dim=1))
            scores = outputs[:, 0]
            if role in trunk.parts:
                parts = trunk.parts[role].named(outputs)
            if "length_scores" in needs:
                length_scores = apply_head(trunk.heads["length"], pooled)
                heads_alike = orthogonality(
                    trunk.heads[role].weight[0], trunk.heads["length"].weight[0]
                )
    if "values" in needs:
        if batch.features is None:
            raise ValueError("values need batch.features, which the rollout source computes")
        features = batch.features
        if "critic" in trunk.adapters:
            own = normalise(hidden_states(trunk, batch, "critic")[batch.predictors])
            features = torch.cat([own, features], dim=1)
        values = to_rows(batch, apply_head(trunk.heads["critic"], features))
    links = trunk.links.get(role, {}) if role is not None and scores is not None else {}
    return Outputs(
        logprobs=logprobs,
        entropy=entropy,
        values=values,
        scores=scores,
        parts=parts,
        length_scores=length_scores,
        heads_alike=heads_alike,
        links=links,
    )


def head_outputs(
    trunk: Trunk, role: str, pooled: Float[Tensor, "B D"], lengths: Int[Tensor, "B"]
) -> Float[Tensor, "B H"]:
    """The role's head on pooled states, less its penalty on the tokens of each response."""
    outputs = apply_outputs(trunk.heads[role], pooled)
    per_token = trunk.length_penalty.get(role, 0.0)
    if not per_token:
        return outputs
    return length_penalised(
        outputs, lengths[:, None].float().expand_as(outputs), per_unit=per_token
    )


def apply_head(head: nn.Linear, states: Float[Tensor, "M D"]) -> Float[Tensor, "M"]:
    """Scalar per state, in float32; of a head with one output."""
    return apply_outputs(head, states).squeeze(-1)


def apply_outputs(head: nn.Linear, states: Float[Tensor, "M D"]) -> Float[Tensor, "M H"]:
    """Every output of the head per state, in float32."""
    result: Tensor = head(states.float())
    return result


def pool(states: Float[Tensor, "N D"], batch: Batch, pooling: str) -> Float[Tensor, "B D"]:
    """One state per response: its ``last`` token's, or the ``mean`` over its tokens.

    Scaled to unit root mean square, so that one head initialisation and learning rate suit every
    base. ``last_centred`` takes the state's own mean off first, as a LayerNorm does.
    """
    if pooling != "mean":
        return of_last(states[batch.last], pooling)
    own = states[batch.places].float()
    sums = own.new_zeros(len(batch.last), own.shape[1]).index_add(0, batch.rows, own)
    return normalise(sums)


def of_last(states: Float[Tensor, "M D"], pooling: str) -> Float[Tensor, "M D"]:
    """What a head on the ``last`` state reads, or on the ``last_centred`` one."""
    if pooling == "last_centred":
        states = states.float() - states.float().mean(dim=-1, keepdim=True)
    return normalise(states)


def normalise(states: Float[Tensor, "M D"]) -> Float[Tensor, "M D"]:
    """States of unit root mean square, in float32."""
    states = states.float()
    return states * torch.rsqrt(states.square().mean(dim=-1, keepdim=True) + 1e-6)


def to_rows(batch: Batch, flat: Float[Tensor, "M"]) -> Float[Tensor, "B T"]:
    """Scatter per-token values to one row per response, zero where there is no token."""
    rows = flat.new_zeros(batch.mask.shape)
    return rows.index_put((batch.rows, batch.columns), flat)


@torch.no_grad()
def logprobs_of(
    trunk: Trunk, batch: Batch, role: str | None, *, temperature: float = 1.0
) -> Float[Tensor, "B T"]:
    """Log-probabilities without a graph: the reference's, or a check of the sampler's."""
    result = forward(trunk, batch, role, {"logprobs"}, temperature=temperature).logprobs
    assert result is not None
    return result
