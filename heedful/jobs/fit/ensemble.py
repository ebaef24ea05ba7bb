"""The members of an ensemble in a fit of rewards: what each learns from, and where it starts."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from heedful.config import Remedies, RewardConfig
from heedful.data.collate import Mark, Tree, packed
from heedful.errors import ConfigError, DataError
from heedful.jobs.progress import progress
from heedful.model.forward import apply_head
from heedful.model.trunk import Trunk
from heedful.reward.ensemble import EnsembleReward, bootstrap_counts, member_seed, roles_of
from heedful.reward.probe import differences_of, fit_probe, pair_weights, pooled_states, set_head
from heedful.reward.trained import TrainedReward
from heedful.tensors import Batch, Outputs
from heedful.train.links import fit_links
from heedful.train.members import Member
from heedful.train.objectives import Objective


def check_ensemble(config: RewardConfig) -> None:
    """Refuse an ensemble beside what is for one model, before anything is read."""
    loss, remedies, num = config.loss, config.remedies, config.ensemble.members
    off = Remedies()
    others = [
        name
        for name in ("covariates", "length_head", "length_penalty")
        if getattr(remedies, name) != getattr(off, name)
    ]
    if num > 1 and others:
        raise ConfigError(
            f"ensemble.members is {num} and remedies.{others[0]} is "
            f"{getattr(remedies, others[0])!r}, "
            "which is for one model; balance the pairs with remedies.length_bins, or leave it out"
        )
    if num > 1 and loss.annotators != "none":
        raise ConfigError(
            f"ensemble.members is {num} and loss.annotators is {loss.annotators!r}; the samples of "
            "members hold different labels of a person: learn the reliability with one model"
        )
    if num > 1 and loss.rater_offsets:
        raise ConfigError(
            f"ensemble.members is {num} and loss.rater_offsets is on; the samples of members hold "
            "different ratings of a person: learn the offsets with one model"
        )
    if num > 1 and (loss.heads != "shared" or loss.flags != "drop" or loss.mix is not None):
        raise ConfigError(
            f"ensemble.members is {num} and the reward is to have parts of its own (loss.heads is "
            f"{loss.heads!r}, loss.flags {loss.flags!r}, loss.mix {loss.mix!r}); an ensemble has "
            "one score: leave these at their defaults, or fit one model with ensemble.members=1"
        )


def roles_and_seeds(config: RewardConfig) -> list[tuple[str, int]]:
    """The roles of a run and what their parameters are drawn from."""
    num = config.ensemble.members
    if num == 1:
        return [("reward", config.seed)]
    return [(role, member_seed(config.seed, n)) for n, role in enumerate(roles_of(num))]


def new_ensemble(config: RewardConfig, trunk: Trunk) -> EnsembleReward | None:
    """The members of a run as one reward, before they are normalised; None for a single model."""
    settings = config.ensemble
    if settings.members == 1:
        return None
    members = [TrainedReward(trunk, role=role) for role in roles_of(settings.members)]
    return EnsembleReward(trunk, members, aggregate=settings.aggregate, penalty=settings.penalty)


def members_of(config: RewardConfig, taught: Sequence[Tree]) -> list[Member]:
    """Each member with its sample of the prompts, or with all of them."""
    members = []
    for number, role in enumerate(roles_of(config.ensemble.members)):
        counts = np.ones(len(taught), dtype=np.int64)
        if config.ensemble.bootstrap:
            counts = bootstrap_counts(len(taught), config.seed, number)
        trees = {
            tree.id: repeated(tree, num)
            for tree, num in zip(taught, counts.tolist(), strict=True)
            if num
        }
        members.append(Member(role=role, trees=trees, counts=tuple(counts.tolist())))
    return members


def repeated(tree: Tree, num: int) -> Tree:
    """The tree as if all that it teaches were there ``num`` times."""

    def marks(given: Sequence[Mark]) -> tuple[Mark, ...]:
        return tuple(one._replace(weight=one.weight * num) for one in given)

    return replace(
        tree,
        weights=tuple(weight * num for weight in tree.weights),
        tie_weights=tuple(weight * num for weight in tree.tie_weights),
        rankings=tuple(one._replace(weight=one.weight * num) for one in tree.rankings),
        ratings={name: marks(given) for name, given in tree.ratings.items()},
        thumbs=marks(tree.thumbs),
        flags={name: marks(given) for name, given in tree.flags.items()},
    )


def start_members(
    config: RewardConfig,
    trunk: Trunk,
    members: Sequence[Member],
    taught: Sequence[Tree],
    paired: Sequence[Tree],
    across: Sequence[tuple[int, int]],
    objective: Objective,
) -> None:
    """Set every member's head to the probe on its sample, then its thresholds.

    Adapters are new, so all members read the base's features: one pass serves them all. Pairs count
    by their weight, as often as the sample holds their prompt.
    """
    has_links = any(trunk.links[member.role] for member in members)
    if not (config.warm_start or has_links):
        return
    limit = config.batch.tokens_per_micro_step
    with progress("probe", len(paired)) as advance:
        states = pooled_states(trunk, paired, limit, advance, role=members[0].role)
    if config.warm_start:
        differences, groups = differences_of(states.cpu().numpy(), paired, across)
        weights = pair_weights(paired, len(across))
        for member in members:
            rows = np.repeat(np.arange(len(groups)), np.array(member.counts)[groups])
            if not len(rows):
                raise DataError(
                    f"the sample of {member.role} has no two answers that were told apart; there "
                    "are too few for samples: set ensemble.bootstrap=false"
                )
            probe = fit_probe(differences[rows], groups[rows], weights[rows])
            set_head(trunk, member.role, probe)
    if has_links:
        sizes = [len(tree.responses) for tree in taught]
        by_tree = torch.split(states, sizes)
        for member in members:
            scored = list(scores_at_start(trunk, member, taught, by_tree, limit))
            fit_links(trunk.links[member.role], scored, objective)


@torch.no_grad()
def scores_at_start(
    trunk: Trunk, member: Member, taught: Sequence[Tree], states: Sequence[Tensor], limit: int
) -> Iterator[tuple[Batch, Outputs]]:
    """The batches of a member's sample with the scores that its head gives."""
    own = [state for tree, state in zip(taught, states, strict=True) if tree.id in member.trees]
    scores = apply_head(trunk.heads[member.role], torch.cat(own))
    first = 0
    for batch in packed(list(member.trees.values()), trunk.device, limit):
        yield batch, Outputs(scores=scores[first : first + len(batch.mask)])
        first += len(batch.mask)
