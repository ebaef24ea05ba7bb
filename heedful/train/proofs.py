"""What can be proved at start-up is proved at start-up, on the run's own model and data.

Each proof raises ``ProofError`` naming the invariant, the value seen and the value allowed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from heedful.data.collate import Tree, collate
from heedful.errors import ProofError
from heedful.maths import preference
from heedful.model.forward import forward, hidden_states, logprobs_of
from heedful.model.trunk import Trunk
from heedful.tensors import Batch
from heedful.types import Sample

# Worst absolute difference of one log-probability between two ways to compute it, in nats:
# float32 sums in another order; bfloat16 has 8 bits of mantissa on logits of size 20.
TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.25}

# What the sampler says about its own tokens stands as the old log-probability up to a quarter of
# the usual clip range; more is recomputed. A nat is no rounding: somebody else has sampled.
REUSED_NATS = 0.05
GROSS_NATS = 1.0


def refuse(name: str, seen: str, allowed: str) -> None:
    """Raise the ``ProofError`` of a broken invariant."""
    raise ProofError(f"start-up proof failed: {name}; seen {seen}, allowed {allowed}; not starting")


def trainable_are_intended(trunk: Trunk, roles: Sequence[str]) -> None:
    """Exactly the adapters and heads of ``roles`` require gradients."""
    wanted = {id(value) for value in trunk.trainable(*roles).values()}
    modules = [trunk.base.model, *trunk.heads.values()]
    links = [value for role in trunk.links.values() for value in role.values()]
    every = [*(p for module in modules for p in module.parameters()), *links]
    found = {id(p) for p in every if p.requires_grad}
    if wanted != found or not wanted:
        refuse(
            f"only {' and '.join(roles)} are trainable",
            f"{len(found - wanted)} others trainable, {len(wanted - found)} frozen",
            "none of either",
        )


@torch.no_grad()
def computes_as_the_base_does(trunk: Trunk) -> None:
    """Log-probabilities of trainer and sampler equal those of the base's own forward."""
    prompt, *rest = trunk.tokenizer.encode("Heed what people say.", add_special_tokens=False)
    batch = collate([Tree(id="text", prompt=(prompt,), responses=(tuple(rest),))], trunk.device)
    stock = torch.log_softmax(trunk.stock_logits(batch.token_ids), dim=-1)
    states = hidden_states(trunk, batch, None)
    sampler = torch.log_softmax(trunk.logits(states), dim=-1)
    trainer = logprobs_of(trunk, batch, None)[0]
    for own in (sampler[batch.predictors, batch.targets], trainer):
        difference = (own - stock[batch.predictors, batch.targets]).abs().max().item()
        agree(f"log-probabilities are those of {trunk.base.name} itself", difference, trunk)


def packing_changes_nothing(trunk: Trunk, trees: Sequence[Tree], role: str | None) -> None:
    """Log-probabilities of packed, prefix-shared trees equal those of separate sequences."""
    packed = logprobs_of(trunk, collate(trees, trunk.device), role)
    row = 0
    for tree in trees:
        for response in tree.responses:
            alone = Tree(id=tree.id, prompt=tree.prompt, responses=(response,))
            expected = logprobs_of(trunk, collate([alone], trunk.device), role)[0]
            agree(
                "packed log-probabilities equal unpacked ones",
                (packed[row, : len(response)] - expected).abs().max().item(),
                trunk,
            )
            row += 1


def packing_changes_no_score(trunk: Trunk, trees: Sequence[Tree], role: str = "reward") -> None:
    """Reward scores of packed, prefix-shared trees equal those of separate sequences."""
    packed = reward_scores(trunk, trees, role)
    alone = [
        reward_scores(trunk, [Tree(id=tree.id, prompt=tree.prompt, responses=(response,))], role)
        for tree in trees
        for response in tree.responses
    ]
    worst = (packed - torch.cat(alone)).abs().max().item()
    agree("packed scores equal unpacked ones", worst, trunk)


@torch.no_grad()
def reward_scores(trunk: Trunk, trees: Sequence[Tree], role: str) -> Tensor:
    """Raw scores of every response in order; of a head with parts, all of them [B, H]."""
    outputs = forward(trunk, collate(trees, trunk.device), role, {"scores"})
    assert outputs.scores is not None
    return torch.stack(list(outputs.parts.values()) or [outputs.scores], dim=1)


def agree(name: str, difference: float, trunk: Trunk) -> None:
    """``difference`` is within the tolerance of the trunk's dtype."""
    limit = TOLERANCE[trunk.base.model.dtype]
    if not difference <= limit:
        refuse(name, f"a difference of {difference:.2g} nats", f"at most {limit:g}")


def policy_equals_reference(trunk: Trunk, batch: Batch, reference: str | None) -> None:
    """KL(policy, reference) is 0 before the first step: every log-probability is the same."""
    own = logprobs_of(trunk, batch, "policy")
    difference = (own - logprobs_of(trunk, batch, reference)).abs().max().item()
    agree("policy equals reference at step 0", difference, trunk)
    if batch.pairs is not None:
        sums = own.sum(dim=1)
        chosen, rejected = sums[batch.pairs[:, 0]], sums[batch.pairs[:, 1]]
        loss = preference.dpo(chosen, rejected, chosen, rejected)
        if not torch.allclose(loss, torch.full_like(loss, 2.0).log()):
            refuse("DPO at policy = reference is log 2", str(loss.tolist()), "0.6931")


def swap_flips_sign(trunk: Trunk, tree: Tree, role: str = "reward") -> None:
    """The reward model's score difference is odd under a swap of the pair."""
    scores = reward_scores(trunk, [tree], role)
    turned = Tree(id=tree.id, prompt=tree.prompt, responses=tree.responses[::-1])
    swapped = reward_scores(trunk, [turned], role)
    worst = (scores - swapped.flip(0)).abs().max().item()
    agree("a response's score does not depend on its place", worst, trunk)


def rewards_sit_on_the_last_token(
    batch: Batch, samples: Sequence[Sample], stops: frozenset[int]
) -> None:
    """The last response token, where the score is paid, is the end of turn of a finished answer."""
    for place, sample in zip(batch.last.tolist(), samples, strict=True):
        token = int(batch.token_ids[place])
        if token != sample.token_ids[-1] or (sample.finish_reason == "stop") != (token in stops):
            refuse(
                "the score sits on the last response token, end of turn included",
                f"token {token} for an answer that ended by {sample.finish_reason}",
                "its end-of-turn token",
            )


def sampler_agrees(difference: float) -> bool:
    """Whether sampled log-probabilities can be the old ones; refuses what no rounding explains."""
    if not difference <= GROSS_NATS:
        refuse(
            "sampler and trainer log-probabilities agree (ratio = 1)",
            f"a difference of {difference:.2g} nats",
            f"at most {REUSED_NATS:g}, or {GROSS_NATS:g} with recomputation",
        )
    return difference <= REUSED_NATS


def base_checksum(trunk: Trunk) -> float:
    """A number that changes when any frozen weight does."""
    total = 0.0
    for parameter in trunk.base.model.parameters():
        if not parameter.requires_grad:
            # the norm adds in float64 without a copy of the weights in it
            total += torch.linalg.vector_norm(parameter.detach(), 1, dtype=torch.float64).item()
    return total
