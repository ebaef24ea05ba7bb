"""The rollout source: sample, score, credit, and iterate PPO's epochs and mini-batches.

The critic is a float32 head on frozen features: the hidden state before a token as the reward model
(or the reference, when the reward is no model), and the reward model's score of the answer so far.
The rollout computes both anyway, so values cost no pass of their own and no gradient of the value
loss reaches a trunk. It starts as the reward model (Stiennon 2020, arXiv:2009.01325, section 3.4):
weight 1 on the score so far.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from heedful.config import Adapter, GRPOConfig, PPOConfig, Updates
from heedful.data.collate import Tree, collate, micro_batches
from heedful.engine.base import Engine, Request
from heedful.maths.kl import kl_k1
from heedful.maths.masked import masked_mean, masked_sum
from heedful.model.flops import forward_flops
from heedful.model.forward import (
    forward,
    hidden_states,
    logprobs_of,
    normalise,
    states_by_role,
    to_rows,
)
from heedful.model.trunk import Trunk
from heedful.tensors import Batch, Step
from heedful.train.credit import Credit, Scored, deviation
from heedful.train.phases import Phases
from heedful.types import Prompt, Sample, SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRow:
    """A prompt ready for rollouts: its id, text and tokens.

    ``prompt`` is for rewards that read texts instead of the policy's tokens.
    """

    id: str
    text: str
    token_ids: tuple[int, ...]
    prompt: Prompt | None = None


class RewardFunction(Protocol):
    """Scores responses, whole and so far; the critic reads the states of ``feature_role``.

    Without ``reads_states`` the scores need none, and ``states`` may be None. Members of an
    ensemble besides the first are ``other_roles``, and ``states`` are then those of all of them.
    """

    feature_role: str | None
    other_roles: tuple[str, ...]
    reads_states: bool

    def score(
        self,
        batch: Batch,
        states: Float[Tensor, "*K N D"] | None,
        rows: Sequence[tuple[PromptRow, Sample]],
    ) -> Float[Tensor, "B"]:
        """One score per response; ``states`` are hidden states as ``feature_role``."""
        ...

    def score_so_far(
        self, batch: Batch, states: Float[Tensor, "*K N D"] | None
    ) -> Float[Tensor, "M"]:
        """What the final score is expected to be before each response token; 0 if unknown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRow:
    """One sampled answer with everything that was computed about it; a row of the rollout file."""

    rollout: int
    prompt_id: str
    prompt: str
    response: str
    finish_reason: str
    num_tokens: int
    reward: float
    kl_nats: float
    value_first: float | None
    advantage_mean: float


OnRollout = Callable[[int, list[RolloutRow]], None]
Progress = Callable[[int, int], None]


class RolloutSource:
    """Synchronous rollouts; each is used for ``epochs`` times ``minibatches`` steps.

    ``critic`` names the form of the critic, as in the config.
    """

    def __init__(
        self,
        trunk: Trunk,
        engine: Engine,
        reward: RewardFunction,
        prompts: Sequence[PromptRow],
        config: PPOConfig | GRPOConfig,
        *,
        updates: Updates,
        credit: Credit,
        reference_role: str | None,
        critic: str = "reward",
        on_rollout: OnRollout = lambda *_: None,
    ) -> None:
        self.trunk = trunk
        self.engine = engine
        self.reward = reward
        self.prompts = list(prompts)
        self.config = config
        self.updates = updates
        self.credit = credit
        self.reference_role = reference_role
        self.critic = critic
        self.on_rollout = on_rollout
        self.phases = Phases(trunk.device)
        self.recomputes = False  # the old log-probabilities, because the sampler's are too coarse
        self.number = 0
        self.last_kl = 0.0
        self.in_use: dict[str, float] | None = None  # a rollout's metrics until it is used up

    @property
    def num_steps(self) -> int:
        """Optimiser steps if no stop cuts a rollout short."""
        updates = self.updates
        return self.config.rollouts.num_rollouts * updates.epochs * updates.minibatches

    @property
    def resumable(self) -> bool:
        """Between rollouts nothing is held that a checkpoint does not hold."""
        return self.in_use is None

    @property
    def reward_roles(self) -> tuple[str | None, ...]:
        """Whose hidden states the reward reads; the critic reads the first."""
        return (self.reward.feature_role, *self.reward.other_roles)

    def reward_flops(self, num_tokens: int) -> float:
        """Arithmetic of a pass of the reward's trunk; what members share is done once."""
        first, *others = self.reward_roles
        shared = self.trunk.stem(first, *others) if others else None
        return forward_flops(self.trunk, first, num_tokens) + sum(
            forward_flops(self.trunk, role, num_tokens, first=shared.num_layers if shared else 0)
            for role in others
        )

    @property
    def reads_states(self) -> bool:
        """Whether scores or values need hidden states of the reward's trunk."""
        return self.reward.reads_states or (self.credit.has_critic and self.critic == "reward")

    def __iter__(self) -> Iterator[Step]:
        """Steps from the current rollout on; a checkpoint is exact after a rollout's last step."""
        total = self.config.rollouts.num_rollouts
        while self.number < total and self.last_kl < self.config.kl.limit:
            number, started_kl_coef = self.number, self.credit.kl_coef
            parts, self.in_use = self.collect(number)
            metrics = self.in_use | {"rollout/kl_coef": started_kl_coef}
            plan = self.minibatch_plan(len(parts))
            for place, part in enumerate(plan):
                if place == len(plan) - 1:
                    self.advance()
                batches = parts[part]
                if place == 0 and self.skips_first:
                    batches = [replace(batch, old_logprobs=None) for batch in batches]
                yield Step(
                    micro_batches=tuple(batches),
                    count=sum(batch.num_tokens for batch in parts[part]),
                    progress=(number + place / len(plan)) / total,
                    metrics=metrics,
                )
                if self.in_use is None:
                    break

    @property
    def skips_first(self) -> bool:
        """Whether old log-probabilities need not be recomputed for a rollout's first step.

        It is taken by the policy that sampled, so its own forward pass finds them.
        """
        return self.recomputes and self.updates.epochs == 1 and not self.credit.reads_logprobs

    def advance(self) -> None:
        """The rollout is used up; the KL coefficient adapts once per rollout."""
        assert self.in_use is not None
        rollouts = self.config.rollouts
        self.number += 1
        self.last_kl = self.in_use["rollout/kl_nats"]
        self.in_use = None
        self.credit.adapt(self.last_kl, rollouts.prompts_per_rollout * rollouts.samples_per_prompt)

    def minibatch_plan(self, num_parts: int) -> list[int]:
        """Which part of the rollout makes which optimiser step, epoch by epoch, shuffled."""
        plan: list[int] = []
        for epoch in range(self.updates.epochs):
            rng = np.random.default_rng([self.config.seed, 2, self.number, epoch])
            plan += rng.permutation(num_parts).tolist()
        return plan

    def collect(self, number: int) -> tuple[list[list[Batch]], dict[str, float]]:
        """Sample and credit rollout ``number``; returns batches by mini-batch, and metrics."""
        prompts, samples = self.sample(number)
        rollouts = self.config.rollouts
        group = rollouts.samples_per_prompt
        trees = [
            Tree(
                id=f"{prompt.id}/{number}",
                prompt=prompt.token_ids,
                responses=tuple(s.token_ids for s in samples[i * group : (i + 1) * group]),
            )
            for i, prompt in enumerate(prompts)
        ]
        rows = [(prompts[i // group], sample) for i, sample in enumerate(samples)]
        batches = []
        scores: list[Tensor] = []
        parts = self.parts(trees)
        first = self.minibatch_plan(len(parts))[0] if self.skips_first else None
        for place, packed in ((place, one) for place, part in enumerate(parts) for one in part):
            recomputes = self.recomputes and place != first
            batch, group_scores = self.judge(packed, rows[len(scores) :], recomputes=recomputes)
            batches.append(batch)
            scores += group_scores
        batches, metrics = self.assign(batches, torch.stack(scores), samples)
        self.on_rollout(number, self.rollout_rows(number, batches, rows, torch.stack(scores)))
        rest = iter(batches)
        return [[next(rest) for _ in part] for part in parts], metrics

    def parts(self, trees: Sequence[Tree]) -> list[list[list[Tree]]]:
        """Prompts by mini-batch, whatever the packing is; then packed within the token limit."""
        wanted = -(-len(trees) // self.updates.minibatches)
        limit = self.config.batch.tokens_per_micro_step
        return [
            micro_batches([t for tree in trees[i : i + wanted] for t in tree.split(limit)], limit)
            for i in range(0, len(trees), wanted)
        ]

    def sample(self, number: int) -> tuple[list[PromptRow], list[Sample]]:
        """Answers of the current policy; seeds follow from the run's seed and the rollout."""
        rollouts = self.config.rollouts
        prompts = [self.prompts[i] for i in self.prompt_numbers(number)]
        seeds = np.random.SeedSequence([self.config.seed, 1, number]).generate_state(
            len(prompts) * rollouts.samples_per_prompt
        )
        requests = [
            Request(
                prompt=prompts[i // rollouts.samples_per_prompt].token_ids,
                params=SamplingParams(
                    max_new_tokens=rollouts.max_new_tokens,
                    temperature=rollouts.temperature,
                    seed=int(seed),
                ),
                role="policy",
            )
            for i, seed in enumerate(seeds)
        ]
        with self.phases("generate"):
            samples = self.engine.sample(requests)
        sampled = sum(len(sample.token_ids) for sample in samples)
        self.phases.add("generate_tokens", sampled)
        self.phases.add("generate_flops", forward_flops(self.trunk, "policy", sampled, sampled))
        return prompts, samples

    def prompt_numbers(self, number: int) -> list[int]:
        """Prompts of a rollout: epochs over a shuffled list, also across its end."""
        wanted = self.config.rollouts.prompts_per_rollout
        numbers = []
        for place in range(number * wanted, (number + 1) * wanted):
            epoch, offset = divmod(place, len(self.prompts))
            order = np.random.default_rng([self.config.seed, 3, epoch]).permutation(
                len(self.prompts)
            )
            numbers.append(int(order[offset]))
        return numbers

    @torch.no_grad()
    def judge(
        self, trees: Sequence[Tree], rows: Sequence[tuple[PromptRow, Sample]], *, recomputes: bool
    ) -> tuple[Batch, list[Tensor]]:
        """Pack, add reference log-probabilities, old ones, features and values; and score."""
        temperature = self.config.rollouts.temperature
        with self.phases("data"):
            batch = collate(trees, self.trunk.device)
            batch = replace(batch, stem=self.trunk.stem("policy", "critic", self.reference_role))
        rows = rows[: len(batch.mask)]
        tokens, role = batch.num_packed, self.reference_role
        flops = forward_flops(self.trunk, role, tokens, batch.num_tokens)
        with self.phases("reference", tokens=tokens, flops=flops):
            reference = logprobs_of(self.trunk, batch, role, temperature=temperature)
        flops = self.reward_flops(tokens)
        with self.phases("reward", tokens=tokens, flops=flops if self.reads_states else 0.0):
            scores, states, so_far = self.read(trees, batch, rows)
        old = self.trainers_logprobs(batch) if recomputes else samplers_logprobs(batch, rows)
        batch = replace(batch, ref_logprobs=reference, old_logprobs=old)
        if self.credit.has_critic:
            with self.phases("critic", tokens=batch.num_tokens):
                if self.critic == "policy":
                    states = hidden_states(self.trunk, batch, "policy")[batch.predictors]
                parts = [so_far[:, None]]
                if self.critic != "adapter":
                    assert states is not None
                    parts.insert(0, normalise(states))
                batch = replace(batch, features=torch.cat(parts, dim=1))
                values = forward(self.trunk, batch, None, {"values"}).values
            batch = replace(batch, old_values=values)
        return batch, list(scores)

    def trainers_logprobs(self, batch: Batch) -> Float[Tensor, "B T"]:
        """The policy's log-probabilities of what it sampled, computed once more."""
        temperature, tokens = self.config.rollouts.temperature, batch.num_packed
        flops = forward_flops(
            self.trunk, "policy", tokens, batch.num_tokens, first=batch.num_passed
        )
        with self.phases("old", tokens=tokens, flops=flops):
            return logprobs_of(self.trunk, batch, "policy", temperature=temperature)

    def read(
        self, trees: Sequence[Tree], batch: Batch, rows: Sequence[tuple[PromptRow, Sample]]
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "M D"] | None, Float[Tensor, "M"]]:
        """One pass of the reward's trunk over closed answers: scores, states, and scores so far.

        The last two are those before each token, so the end that closing adds is unseen. The pass
        is left out where neither the scores nor the critic read states.
        """
        base = self.trunk.base
        closed = collate([t.closed(base.stop_id, base.stop_ids) for t in trees], self.trunk.device)
        states = own = None
        if self.reads_states:
            found = states_by_role(self.trunk, closed, self.reward_roles)
            own, states = found[0], torch.stack(found) if len(found) > 1 else found[0]
        sampled = closed.columns < batch.mask.sum(dim=1)[closed.rows]
        before = None if own is None else own[closed.predictors][sampled]
        so_far = self.reward.score_so_far(closed, states)[sampled]
        return self.reward.score(closed, states, rows), before, so_far

    def assign(
        self, batches: list[Batch], scores: Tensor, samples: Sequence[Sample]
    ) -> tuple[list[Batch], dict[str, float]]:
        """The batches with advantages and returns, and what the rollout was like."""
        widest = max(batch.mask.shape[1] for batch in batches)

        def stack(name: str) -> Tensor:
            return torch.cat([widen(getattr(batch, name), widest) for batch in batches])

        mask, logprobs, reference = stack("mask"), stack("old_logprobs"), stack("ref_logprobs")
        cut = torch.tensor([s.finish_reason == "length" for s in samples], device=mask.device)
        credited = self.credit.assign(
            Scored(
                scores=scores,
                mask=mask,
                logprobs=logprobs,
                ref_logprobs=reference,
                values=stack("old_values") if self.credit.has_critic else None,
                cut=cut,
                group=self.config.rollouts.samples_per_prompt,
            )
        )
        parts = []
        start = 0
        for batch in batches:
            rows, width = slice(start, start + len(batch.mask)), batch.mask.shape[1]
            returns = None if credited.returns is None else credited.returns[rows, :width]
            parts.append(
                replace(batch, advantages=credited.advantages[rows, :width], returns=returns)
            )
            start = rows.stop
        kl = masked_sum(kl_k1(logprobs, reference), mask, dim=1)
        return parts, {
            "rollout/number": float(self.number),
            "rollout/reward": scores.mean().item(),
            "rollout/reward_std": deviation(scores),
            "rollout/kl_nats": kl.mean().item(),
            "rollout/response_tokens": mask.sum(dim=1).float().mean().item(),
            "rollout/finished_rate": 1.0 - cut.float().mean().item(),
            **credited.metrics,
        }

    def rollout_rows(
        self,
        number: int,
        batches: Sequence[Batch],
        rows: Sequence[tuple[PromptRow, Sample]],
        scores: Tensor,
    ) -> list[RolloutRow]:
        """The rollout as rows for the run directory."""
        records = []
        place = 0
        for batch in batches:
            assert batch.old_logprobs is not None
            assert batch.ref_logprobs is not None
            assert batch.advantages is not None
            values = batch.old_values
            kl = masked_sum(kl_k1(batch.old_logprobs, batch.ref_logprobs), batch.mask, dim=1)
            advantage = masked_mean(batch.advantages, batch.mask, dim=1)
            for i in range(len(batch.mask)):
                prompt, sample = rows[place]
                records.append(
                    RolloutRow(
                        rollout=number,
                        prompt_id=prompt.id,
                        prompt=prompt.text,
                        response=sample.text,
                        finish_reason=sample.finish_reason,
                        num_tokens=len(sample.token_ids),
                        reward=scores[place].item(),
                        kl_nats=kl[i].item(),
                        value_first=None if values is None else values[i, 0].item(),
                        advantage_mean=advantage[i].item(),
                    )
                )
                place += 1
        return records

    def observe(self, metrics: dict[str, float]) -> None:
        """Leave this rollout's remaining mini-batches when the policy has moved far enough."""
        if self.in_use is not None and metrics["policy/step_kl_nats"] > self.config.kl.step_limit:
            self.advance()

    def state(self) -> dict[str, float]:
        """Next rollout, KL state, and where old log-probabilities come from."""
        return {
            "number": self.number,
            "kl_coef": self.credit.kl_coef,
            "last_kl": self.last_kl,
            "recomputes": self.recomputes,
        }

    def load(self, state: dict[str, float]) -> None:
        """Continue at a saved rollout."""
        self.number = int(state["number"])
        self.credit.kl_coef = state["kl_coef"]
        self.last_kl = state["last_kl"]
        self.recomputes = bool(state["recomputes"])


def samplers_logprobs(
    batch: Batch, rows: Sequence[tuple[PromptRow, Sample]]
) -> Float[Tensor, "B T"]:
    """What the engine said about its own tokens."""
    said = [logprob for _, sample in rows for logprob in sample.logprobs]
    return to_rows(batch, torch.tensor(said, device=batch.token_ids.device))


def add_critic(trunk: Trunk, seed: int, adapter: Adapter | None = None) -> None:
    """The critic's head, which starts as the reward model's score of the answer so far.

    With ``adapter`` the critic also has an adapter of its own.
    """
    if adapter is not None:
        trunk.add_adapter(
            "critic",
            rank=adapter.rank,
            alpha=adapter.alpha,
            first_layer=adapter.span(trunk.num_layers)[0],
            seed=seed,
        )
    head = trunk.add_head("critic", std=0.0, seed=seed, num_extra=1)
    with torch.no_grad():
        head.weight[0, -1] = 1.0


def widen(rows: Tensor, width: int) -> Tensor:
    """Right-pad [B, T] to [B, width] with zeros."""
    return torch.nn.functional.pad(rows, (0, width - rows.shape[1]))
