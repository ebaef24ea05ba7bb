"""``fit ppo`` and ``fit grpo``: optimise a policy against a reward, with and without a critic."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from heedful.config import GRPOConfig, OnlineConfig, PPOConfig, Updates
from heedful.data.chat import encode_prompt
from heedful.data.collate import Tree, collate
from heedful.data.examples import last_user_text
from heedful.engine.base import Request
from heedful.engine.local import LocalEngine
from heedful.errors import DataError
from heedful.jobs import models, rewards
from heedful.jobs.fit.base import FitResult, Plan, load_rows, open_for, run_fit, say_dropped
from heedful.jobs.fit.policy import add_policy, with_adapter_of_start
from heedful.jobs.rundir import RunDirectory
from heedful.model.adapter_files import AdapterCard
from heedful.model.forward import logprobs_of
from heedful.model.trunk import Trunk
from heedful.reward.ensemble import load_reward
from heedful.reward.mixing import in_words
from heedful.reward.texts import ApartReward
from heedful.store.database import Store
from heedful.train import algorithms, proofs
from heedful.train.algorithms import Algorithm
from heedful.train.credit import Credit, CriticCredit, GroupCredit, check_group
from heedful.train.rollouts import PromptRow, RolloutSource, add_critic
from heedful.types import JSON, Prompt, SamplingParams


def fit_ppo(
    config: PPOConfig, out: Path, *, store: Store | None = None, profile: bool = False
) -> FitResult:
    """PPO with a critic against a trained reward model, or a rule (``gold:NAME``)."""
    ppo = config.ppo
    algorithm = algorithms.proximal(
        clip_range=ppo.clip_range,
        value_clip_range=ppo.value_clip_range,
        value_coef=ppo.value_coef,
        temperature=config.rollouts.temperature,
    )
    return fit_online(
        "ppo", config, ppo, CriticCredit(ppo, config.kl), algorithm, out, store, profile
    )


def fit_grpo(
    config: GRPOConfig, out: Path, *, store: Store | None = None, profile: bool = False
) -> FitResult:
    """GRPO, Dr. GRPO or RLOO against a trained reward model, or a rule (``gold:NAME``)."""
    grpo = config.grpo
    check_group(config.rollouts.samples_per_prompt)
    algorithm = algorithms.group_relative(
        clip_range=grpo.clip_range,
        clip_range_high=grpo.clip_range_high,
        kl_coef=grpo.kl_coef,
        temperature=config.rollouts.temperature,
    )
    return fit_online("grpo", config, grpo, GroupCredit(grpo), algorithm, out, store, profile)


def fit_online(
    kind: str,
    config: PPOConfig | GRPOConfig,
    updates: Updates,
    credit: Credit,
    algorithm: Algorithm,
    out: Path,
    store: Store | None,
    profile: bool,
) -> FitResult:
    """What the two share: prompts, a reward, rollouts, and the proofs before the first step."""
    config = with_adapter_of_start(config, store)
    rewards.check_reward(config.reward, store, config.mix)
    data = load_rows(store, config.data, "prompt", out)
    critic = config.ppo.critic if isinstance(config, PPOConfig) else "reward"

    def build() -> Plan:
        ref, trunk, reference = open_for(config, store)
        add_policy(config, trunk, reference)
        reward, reward_ref = open_reward(config.reward, trunk, store, reference, config.mix)
        if credit.has_critic:
            add_critic(trunk, config.seed, config.adapter if critic == "adapter" else None)
        prompts, drops = prompt_rows(trunk, data.rows, config)
        check_lengths(reward, prompts, config)
        source = RolloutSource(
            trunk,
            LocalEngine(trunk, num_slots=config.rollouts.num_slots),
            reward,
            prompts,
            config,
            updates=updates,
            credit=credit,
            reference_role=reference,
            critic=critic,
            on_rollout=RunDirectory.rollout_writer(out),
        )
        refs = (ref, reward_ref) if reward_ref else (ref,)
        return Plan(
            trunk=trunk,
            algorithm=algorithm,
            source=source,
            refs=refs,
            shown={
                "rollout/reward": "reward",
                "rollout/kl_nats": "kl",
                "rollout/response_tokens": "length",
                "policy/entropy_nats": "entropy",
            },
            prove=lambda: prove_online(trunk, source, prompts, config, reference),
            finish=lambda: online_metrics(out) | {"drops": dict(drops)} | mix_of(trunk, reward),
        )

    return run_fit(kind, config, out, store, data, build, profile=profile)


def open_reward(
    name: str, trunk: Trunk, store: Store | None, reference: str | None, mix: str | None = None
) -> tuple[Any, models.ModelRef | None]:
    """A trained reward as role ``reward`` or its members; others have no model of ours behind them.

    A rule, a sequence classifier, and a reward on features or on another base than the trunk's are
    apart and read texts.
    ``mix`` is how the parts of a single model make one reward. Raises as
    ``jobs.rewards.check_reward``.
    """
    ref = None
    if rewards.is_ours(name, store):
        ref, directory, card = rewards.find_reward(name, store, mix)
        if not is_apart(card, trunk):
            return load_reward(trunk, directory, mix=mix)[0], ref
    return ApartReward(rewards.open_reward(name, store, mix=mix), feature_role=reference), ref


def is_apart(card: AdapterCard, trunk: Trunk) -> bool:
    """Is it a reward that the trunk cannot host?"""
    return card.backbone != "adapter" or card.base_hash != trunk.base.weights_hash


def check_lengths(reward: Any, prompts: Sequence[PromptRow], config: OnlineConfig) -> None:
    """Refuse prompts that leave a reward with a tokeniser of its own no room for an answer."""
    if not isinstance(reward, ApartReward):
        return
    model = reward.reward
    room = model.max_tokens - config.rollouts.max_new_tokens
    for row in prompts:
        assert row.prompt is not None
        num = len(encode_prompt(model.tokenizer, row.prompt))
        if num > room:
            raise DataError(
                f"prompt {row.id} has {num} tokens for the reward {model.name}, which reads "
                f"{model.max_tokens} with the answer of {config.rollouts.max_new_tokens}; lower "
                "batch.max_tokens, so that long prompts are dropped, or rollouts.max_new_tokens"
            )


def mix_of(trunk: Trunk, reward: Any) -> dict[str, JSON]:
    """How the parts of the reward were mixed; nothing for one score or a rule."""
    if isinstance(reward, ApartReward):
        return {} if reward.reward.mix is None else {"mix": reward.reward.mix}
    parts = trunk.parts.get("reward")
    return {} if parts is None else {"mix": in_words(parts.mix)}


def prompt_rows(
    trunk: Trunk, prompts: Sequence[Prompt], config: OnlineConfig
) -> tuple[list[PromptRow], Counter[str]]:
    """Prompts as tokens; one that leaves no room for an answer is dropped and counted."""
    # the reward model reads one token more: the end of an answer that was cut
    longest = min(config.batch.max_tokens, trunk.max_tokens - 1)
    room = longest - config.rollouts.max_new_tokens
    rows: list[PromptRow] = []
    drops: Counter[str] = Counter()
    for prompt in prompts:
        tokens = encode_prompt(trunk.tokenizer, prompt)
        if len(tokens) > room:
            drops["too_long"] += 1
            continue
        text = last_user_text(prompt)
        rows.append(PromptRow(id=prompt.id, text=text, token_ids=tokens, prompt=prompt))
    if not rows:
        raise DataError(f"no prompt leaves room for an answer; dropped {dict(drops)}")
    say_dropped(drops, room)
    return rows, drops


def prove_online(
    trunk: Trunk,
    source: RolloutSource,
    prompts: Sequence[PromptRow],
    config: OnlineConfig,
    reference: str | None,
) -> None:
    """On two short answers: sampler = trainer, policy = reference, reward on the last token."""
    params = SamplingParams(
        max_new_tokens=min(8, config.rollouts.max_new_tokens),
        temperature=config.rollouts.temperature,
        seed=config.seed,
    )
    few = list(prompts[:2])
    samples = source.engine.sample(
        [Request(prompt=row.token_ids, params=params, role="policy") for row in few]
    )
    trees = [
        Tree(id=row.id, prompt=row.token_ids, responses=(sample.token_ids,))
        for row, sample in zip(few, samples, strict=True)
    ]
    batch = collate(trees, trunk.device)
    proofs.rewards_sit_on_the_last_token(batch, samples, trunk.base.stop_ids)
    proofs.packing_changes_nothing(trunk, trees, reference)
    proofs.policy_equals_reference(trunk, batch, reference)
    own = logprobs_of(trunk, batch, "policy", temperature=params.temperature)
    said = torch.tensor([logprob for sample in samples for logprob in sample.logprobs])
    difference = (own[batch.rows, batch.columns].cpu() - said).abs().max().item()
    source.recomputes = not proofs.sampler_agrees(difference)
    if source.recomputes:
        print(
            f"sampler and trainer differ by up to {difference:.2g} nats a token, the limit is "
            f"{proofs.REUSED_NATS:g}: old log-probabilities are recomputed, a pass more a rollout",
            file=sys.stderr,
        )


def online_metrics(out: Path) -> dict[str, JSON]:
    """First and last rollout side by side."""
    rows = RunDirectory.read_metrics(out)
    if not rows:
        return {}
    first, last = rows[0], rows[-1]
    names = ("rollout/reward", "rollout/kl_nats", "rollout/response_tokens", "policy/entropy_nats")
    return {f"{name}_first": first[name] for name in names} | {
        f"{name}_last": last[name] for name in names
    }
