"""Several reward models on one trunk as one: what members share is computed once.

A member is a role ``reward/0``, ``reward/1``, ... with an adapter and a head of its own. The
layers below the first adapted one are the same for all members, so they are a stem. Bradley-Terry
leaves a score's offset free and nothing else, so every member is centred on the same answers and
all are divided by one deviation; then they are put together, and the outcome is normalised as the
score of a single model is.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from heedful.data.collate import Advance, Tree, packed, silent
from heedful.errors import DataError, MissingError
from heedful.maths.aggregates import group_mean, mean_minus_variance, worst_case
from heedful.model.adapter_files import (
    CARD,
    MEMBERS,
    AdapterCard,
    Parent,
    load_role,
    member_directories,
    read_card,
    weights_hash,
    write_directory,
    write_json,
    write_learned,
    write_role,
)
from heedful.model.forward import states_by_role
from heedful.model.trunk import Trunk
from heedful.registry import Registry
from heedful.reward.mixing import check_mix, remixed
from heedful.reward.scorers import (
    Asked,
    Counts,
    Rated,
    Scored,
    TreeScores,
    rate_trees,
    score_trees,
)
from heedful.reward.trained import TrainedReward, shrunk
from heedful.tensors import Batch
from heedful.types import Preference

Aggregate = Callable[[Float[Tensor, "*B K"], float], Float[Tensor, "*B"]]
AGGREGATES: Registry[Aggregate] = Registry(
    "aggregate of an ensemble",
    {
        "mean": lambda members, _: group_mean(members),
        "worst_case": lambda members, _: worst_case(members),
        "mean_minus_variance": lambda members, penalty: mean_minus_variance(
            members, penalty=penalty
        ),
    },
)


def roles_of(num_members: int) -> tuple[str, ...]:
    """The roles of an ensemble's members; of one model the role is ``reward``."""
    if num_members == 1:
        return ("reward",)
    return tuple(f"reward/{number}" for number in range(num_members))


def member_seed(seed: int, number: int) -> int:
    """What a member's adapter and head are drawn from."""
    return int(np.random.SeedSequence([seed, 8, number]).generate_state(1)[0])


def bootstrap_counts(num: int, seed: int, number: int) -> NDArray[np.int64]:
    """How often each of ``num`` prompts is in a member's sample, drawn with replacement.

    About 63 % are in it at least once. Efron 1979; for reward models Christiano et al. 2017
    (arXiv:1706.03741), section 2.2.3.
    """
    rng = np.random.default_rng([seed, 9, number])
    return np.bincount(rng.integers(num, size=num), minlength=num)


class EnsembleReward:
    """``(aggregate of the members - mean) / std``; see the module's docstring.

    Members are ``TrainedReward`` with the mean of each and one ``std`` for all. States are those of
    all members, [K, N, D].
    """

    reads_states = True

    def __init__(
        self,
        trunk: Trunk,
        members: Sequence[TrainedReward],
        *,
        aggregate: str = "mean",
        penalty: float = 0.0,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        self.trunk = trunk
        self.members = list(members)
        self.aggregate = aggregate
        self.penalty = penalty
        self.mean = mean
        self.std = std
        self._aggregated = AGGREGATES[aggregate]

    @property
    def roles(self) -> tuple[str, ...]:
        """The members' roles."""
        return tuple(member.role for member in self.members)

    @property
    def feature_role(self) -> str:
        """Whose states a critic reads: the first member's."""
        return self.roles[0]

    @property
    def other_roles(self) -> tuple[str, ...]:
        """The other members."""
        return self.roles[1:]

    def together(self, values: Float[Tensor, "*B K"]) -> Float[Tensor, "*B"]:
        """The reward from the members' scores."""
        return (self._aggregated(values, self.penalty) - self.mean) / self.std

    def uncertainty(self, values: Float[Tensor, "*B K"]) -> Float[Tensor, "*B"]:
        """Sample deviation of the members' scores, in units of the reward."""
        return values.std(-1, correction=1) / self.std

    def log_odds(self, values: Float[Tensor, "*B K"]) -> Float[Tensor, "*B"]:
        """The aggregate on the scale of the loss, up to a constant."""
        return self._aggregated(values, self.penalty) * self.members[0].std

    def score(
        self, batch: Batch, states: Float[Tensor, "K N D"] | None, rows: Sequence[Any]
    ) -> Float[Tensor, "B"]:
        """Scores from the hidden states of the members."""
        return self.together(self.member_scores(batch, states, rows))

    def member_scores(
        self, batch: Batch, states: Float[Tensor, "K N D"] | None, rows: Sequence[Any]
    ) -> Float[Tensor, "B K"]:
        """What each member gives."""
        assert states is not None
        found = [
            member.score(batch, own, rows) for member, own in zip(self.members, states, strict=True)
        ]
        return torch.stack(found, dim=-1)

    def score_so_far(
        self, batch: Batch, states: Float[Tensor, "K N D"] | None
    ) -> Float[Tensor, "M"]:
        """The aggregate of the tokens before each response token, shrunk as a single score is."""
        assert states is not None
        found = [
            member.score_of_prefixes(batch, own)
            for member, own in zip(self.members, states, strict=True)
        ]
        return shrunk(self.together(torch.stack(found, dim=-1)), batch)

    @torch.no_grad()
    def read_trees(
        self, trees: Sequence[Tree], max_tokens: int, advance: Advance = silent
    ) -> Float[Tensor, "R K"]:
        """What each member gives the responses of all trees in order, closed by an end of turn."""
        base = self.trunk.base
        closed = [tree.closed(base.stop_id, base.stop_ids) for tree in trees]
        found = [
            self.member_scores(
                batch, torch.stack(states_by_role(self.trunk, batch, self.roles)), ()
            )
            for batch in packed(closed, self.trunk.device, max_tokens, advance)
        ]
        nothing = torch.zeros(0, len(self.members), device=self.trunk.device)
        return torch.cat([nothing, *found])

    def score_trees(
        self, trees: Sequence[Tree], max_tokens: int, advance: Advance = silent
    ) -> TreeScores:
        """The reward of every tree's responses."""
        return by_tree(trees, self.together(self.read_trees(trees, max_tokens, advance)).tolist())

    def judge_trees(
        self, trees: Sequence[Tree], max_tokens: int, advance: Advance = silent
    ) -> tuple[TreeScores, TreeScores]:
        """The reward of every tree's responses, and how far the members differ on each."""
        values = self.read_trees(trees, max_tokens, advance)
        return (
            by_tree(trees, self.together(values).tolist()),
            by_tree(trees, self.uncertainty(values).tolist()),
        )

    def pair_deltas(
        self, trees: Sequence[Tree], max_tokens: int, advance: Advance = silent
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Chosen minus rejected of every pair in log-odds: of the whole [P], by member [P, K]."""
        values = self.read_trees(trees, max_tokens, advance).double()
        firsts = np.cumsum([0, *(len(tree.responses) for tree in trees)])
        pairs = np.array(
            [
                (first + chosen, first + rejected)
                for first, tree in zip(firsts, trees, strict=False)
                for chosen, rejected in tree.pairs
            ],
            dtype=np.int64,
        ).reshape(-1, 2)
        whole = self.log_odds(values).cpu().numpy()
        members = values.cpu().numpy() * self.members[0].std
        return (
            whole[pairs[:, 0]] - whole[pairs[:, 1]],
            members[pairs[:, 0]] - members[pairs[:, 1]],
        )

    def normalise(
        self, trees: Sequence[Tree], max_tokens: int, advance: Advance = silent
    ) -> tuple[float, float]:
        """Centre the members and the aggregate on these trees; returns the aggregate's moments."""
        for member in self.members:
            member.mean, member.std = 0.0, 1.0
        raw = self.read_trees(trees, max_tokens, advance).double()
        means = raw.mean(dim=0)
        # one deviation for all: a member that tells answers less apart counts for less
        std = max(float((raw - means).square().mean().sqrt()), 1e-3)
        for member, mean in zip(self.members, means.tolist(), strict=True):
            member.mean, member.std = mean, std
        values = self._aggregated((raw - means) / std, self.penalty)
        self.mean, self.std = float(values.mean()), max(float(values.std(correction=0)), 1e-3)
        return self.mean, self.std


def by_tree(trees: Sequence[Tree], flat: Sequence[Any]) -> list[list[Any]]:
    """Values of responses in order, by tree."""
    rest = iter(flat)
    return [[next(rest) for _ in tree.responses] for tree in trees]


class EnsembleScorer:
    """An ensemble as a scorer of pairs: a column for each member, and the aggregate."""

    reads_pairs = False
    counts: Counts = "prompts"

    def __init__(self, reward: EnsembleReward, *, max_tokens: int) -> None:
        self.reward = reward
        self.max_tokens = max_tokens
        name = reward.aggregate.replace("_", " ")
        self.scale = f"ensemble of {len(reward.members)} reward models, {name}, log-odds"

    def score(self, pairs: Sequence[Preference], advance: Advance = silent) -> Scored:
        """See ``Scorer``; a conversation that the model cannot read is left out."""
        return score_trees(self.reward.trunk, pairs, self.max_tokens, self._scores, advance)

    def rate(self, asked: Sequence[Asked], advance: Advance = silent) -> Rated:
        """See ``Rater``; the aggregate; what the model cannot read is left out."""
        return rate_trees(self.reward.trunk, asked, self.max_tokens, self._totals, advance)

    def _totals(self, trees: Sequence[Tree], limit: int, advance: Advance) -> TreeScores:
        values = self.reward.read_trees(trees, limit, advance)
        return by_tree(trees, self.reward.log_odds(values).tolist())

    def _scores(self, trees: Sequence[Tree], limit: int, advance: Advance) -> list[list[Any]]:
        values = self.reward.read_trees(trees, limit, advance)
        parts = [self.reward.log_odds(values)[:, None], values * self.reward.members[0].std]
        return by_tree(trees, torch.cat(parts, dim=1).tolist())


def save_ensemble(
    reward: EnsembleReward,
    target: Path,
    *,
    parents: tuple[Parent, ...] = (),
    learned: frozenset[str] | None = None,
) -> str:
    """Write all members, each an adapter that peft reads, and one card; returns their hash."""
    trunk = reward.trunk

    def write(directory: Path) -> None:
        for number, member in enumerate(reward.members):
            place = directory / MEMBERS / str(number)
            place.mkdir(parents=True)
            write_role(trunk, member.role, place, mean=member.mean, std=member.std, parents=parents)
            write_learned(place, learned)  # a member may be measured alone
        card = AdapterCard(
            role="reward",
            base=trunk.base.name,
            base_hash=trunk.base.weights_hash,
            has_head=False,  # its members have
            mean=reward.mean,
            std=reward.std,
            pooling=trunk.pooling[reward.feature_role],
            parents=parents,
            members=len(reward.members),
            aggregate=reward.aggregate,
            penalty=reward.penalty,
        )
        write_json(directory / CARD, asdict(card))
        write_learned(directory, learned)

    write_directory(target, write)
    return weights_hash(target)


def saver(reward: EnsembleReward) -> Callable[..., str]:
    """``save_ensemble`` in the place of ``save_role``, which is told a role and its moments."""

    def save(
        trunk: Trunk,
        role: str,
        target: Path,
        *,
        mean: float,
        std: float,
        parents: tuple[Parent, ...] = (),
        learned: frozenset[str] | None = None,
    ) -> str:
        del trunk, role, mean, std
        return save_ensemble(reward, target, parents=parents, learned=learned)

    return save


def load_reward(
    trunk: Trunk, directory: Path, role: str = "reward", *, mix: str | None = None
) -> tuple[TrainedReward | EnsembleReward, AdapterCard]:
    """A saved reward model as ``role``, its parts mixed as ``mix`` says, or members as ``role/0``.

    Raises ``DataError`` for what is no reward model, ``MissingError`` when members are missing, and
    ``ConfigError`` for a mix that the model cannot have.
    """
    card = read_card(directory)
    if card.role != "reward":
        raise DataError(f"{directory} is a {card.role} model; a reward model is needed")
    if card.members == 1:
        card = remixed(trunk, role, load_role(trunk, directory, role), mix)
        return TrainedReward(trunk, role=role, mean=card.mean, std=card.std), card
    check_mix(card, str(directory), mix)
    places = member_directories(directory)
    if [place.name for place in places] != [str(number) for number in range(card.members)]:
        raise MissingError(
            f"{directory} is an ensemble of {card.members} and holds members "
            f"{', '.join(place.name for place in places) or 'none'}; copy the whole directory again"
        )
    members = []
    for number, place in enumerate(places):
        own = load_role(trunk, place, f"{role}/{number}")
        members.append(TrainedReward(trunk, role=f"{role}/{number}", mean=own.mean, std=own.std))
    reward = EnsembleReward(
        trunk,
        members,
        aggregate=card.aggregate,
        penalty=card.penalty,
        mean=card.mean,
        std=card.std,
    )
    return reward, card
