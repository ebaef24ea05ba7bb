"""The memory budget of a fit: printed by role, and refused when it cannot fit."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from heedful.config import FitConfig, OnlineConfig, PPOConfig, RewardConfig
from heedful.engine.local import PREFILL_TOKENS
from heedful.jobs import models, rewards
from heedful.model import budget
from heedful.model.adapter_files import member_directories
from heedful.model.base import resolve
from heedful.model.device import default_device, default_dtype
from heedful.model.lora import FULL
from heedful.model.products import lays_out
from heedful.reward.ensemble import roles_of
from heedful.store.database import Store
from heedful.types import Demonstration, Feedback, Message, Preference, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a fit does with its memory: copies that save time, or time that saves memory."""

    lays_out: bool
    recomputes: bool = False


def announce_memory(
    kind: str, config: FitConfig, store: Store | None, rows: Sequence[Any]
) -> Means:
    """Print the budget on stderr; returns how the fit is to work.

    Raises ``ResourceError`` when memory does not suffice either way.
    """
    free = budget.available_bytes(default_device())
    dtype = dtype_of(config)
    # of float32 only where answers are sampled, which needs such copies anyway: learning from
    # examples gains a fifth there for twice the base's memory. A compiler lays weights out itself.
    # Whole matrices make weights of their own in every pass, which nothing lays out.
    learns = dtype == torch.bfloat16 and config.adapter.rank != FULL
    gains = learns or isinstance(config, OnlineConfig)
    can = gains and lays_out(default_device().type, dtype) and not config.compile
    always = config.recompute == "always"
    choices = [Means(lays_out=True, recomputes=always)] if can else []
    choices.append(Means(lays_out=False, recomputes=always))
    if config.recompute == "auto":
        choices.append(Means(lays_out=False, recomputes=True))
    for means in choices:
        lines = memory_lines(kind, config, store, rows, means)
        if free is None or budget.total_bytes(lines) <= free:
            break
    for text in budget.describe(lines, free):
        print(text, file=sys.stderr)
    if means.recomputes:
        print("activations are recomputed in the backward pass", file=sys.stderr)
    budget.refuse_what_cannot_fit(lines, free)
    return means


def dtype_of(config: FitConfig) -> torch.dtype:
    """What the fit computes in."""
    return models.DTYPES[config.dtype] or default_dtype(default_device())


def memory_lines(
    kind: str,
    config: FitConfig,
    store: Store | None,
    rows: Sequence[Any],
    means: Means,
) -> list[budget.Line]:
    """The roles of a fit, from the config, the files that it names and the length of its texts."""
    ref = models.find_model(config.model, store)
    path, base_hash = resolve(ref.base)
    dtype = dtype_of(config)
    shape = budget.read_shape(path, dtype)
    trees = about_trees(rows, config)
    longest = max(prompt + sum(responses) for prompt, responses in trees)
    tokens = max(config.batch.tokens_per_micro_step, longest)  # it is a micro-step of its own
    is_split = config.attention == "sdpa"
    copied = max(budget.copied_prompts(*tree) for tree in trees) if is_split else 0.0
    first_layer, depth = config.span(shape.num_layers)
    lines = [budget.base_line(shape)]
    if means.lays_out:
        lines.append(budget.blocks_line(shape, first_layer=first_layer, depth=depth))
    if ref.adapter is not None:
        lines.append(budget.frozen_line("reference", ref.adapter))
    num_members = config.ensemble.members if isinstance(config, RewardConfig) else 1
    trained = budget.trained_line(
        shape,
        "reward" if kind == "reward" else "policy",
        rank=config.adapter.rank,
        first_layer=first_layer,
        depth=depth,
        tokens=tokens,
        copied=copied,
        recomputes=means.recomputes,
    )
    # members work one after another, so each is a phase of its own
    lines += [
        replace(trained, role=role, phase=trained.phase if num_members == 1 else f"update {role}")
        for role in (roles_of(num_members) if kind == "reward" else [trained.role])
    ]
    if isinstance(config, PPOConfig) and config.ppo.critic == "adapter":
        lines.append(replace(lines[-1], role="critic"))
    if kind != "reward":
        lines.append(budget.logits_line(shape, tokens))
    if isinstance(config, OnlineConfig):
        copies_all = lays_out(default_device().type, dtype) and not means.lays_out
        lines += online_lines(
            config,
            shape,
            store,
            longest_prompt(rows),
            copies_all=copies_all,
            base_hash=base_hash,
        )
    return lines


def online_lines(
    config: OnlineConfig,
    shape: budget.Shape,
    store: Store | None,
    prompt_tokens: int,
    *,
    copies_all: bool,
    base_hash: str,
) -> list[budget.Line]:
    """The reward that scores, with its base where that is another, and the engine's cache."""
    lines = []
    if rewards.is_classifier(config.reward, store):
        lines.append(classifier_line(Path(config.reward)))
    elif not models.is_rule(config.reward):
        found = models.find_model(config.reward, store)
        directory, card = found.adapter, found.card()
        if card is not None and card.backbone == "adapter" and card.base_hash != base_hash:
            # it shares nothing with the policy's trunk
            other, _ = resolve(card.base)
            dtype = models.DTYPES["auto"] or default_dtype(default_device())
            own = budget.base_line(budget.read_shape(other, dtype))
            lines.append(replace(own, role="reward's base"))
        if directory is not None and (card is None or card.backbone == "adapter"):
            places = member_directories(directory)
            lines += [
                budget.frozen_line(role, place)
                for role, place in zip(
                    roles_of(len(places) or 1), places or [directory], strict=True
                )
            ]
    rollouts = config.rollouts
    lines.append(
        budget.generation_line(
            shape,
            slots=min(
                rollouts.num_slots, rollouts.prompts_per_rollout * rollouts.samples_per_prompt
            ),
            tokens=min(prompt_tokens + rollouts.max_new_tokens, config.batch.max_tokens),
            prefilled=min(
                PREFILL_TOKENS,
                prompt_tokens * min(rollouts.prompts_per_rollout, rollouts.num_slots),
            ),
            copies_all=copies_all,
            first_layer=config.span(shape.num_layers)[0],
        )
    )
    return lines


def classifier_line(directory: Path) -> budget.Line:
    """The weights of a classifier as they are on disk, which is how they are loaded."""
    size = sum(file.stat().st_size for file in directory.glob("*.safetensors"))
    shapes = budget.stored_shapes(directory).values()
    num = sum(math.prod(shape) for shape in shapes)
    return budget.Line(role="reward", num_parameters=num, num_bytes=size)


AboutTree = tuple[int, list[int]]  # tokens of a prompt and of the responses that share it


def about_trees(rows: Sequence[Any], config: FitConfig) -> list[AboutTree]:
    """About how many tokens the largest examples take: each a prompt and all that answers it.

    Of feedback and preferences the answers share the prompt, of a rollout the samples; a tree of a
    rollout that is larger than a micro-step is split. Each text has ``batch.max_tokens`` at most.
    """
    most = config.batch.max_tokens
    if isinstance(config, OnlineConfig):
        prompt = min(longest_prompt(rows), most)
        response = min(config.rollouts.max_new_tokens, max(most - prompt, 1))
        room = max((config.batch.tokens_per_micro_step - prompt) // response, 1)
        return [(prompt, [response] * min(config.rollouts.samples_per_prompt, room))]
    sides: dict[str, set[tuple[Message, ...]]] = {}
    prompts: dict[str, int] = {}
    for number, row in enumerate(rows):
        is_alone = isinstance(row, Demonstration)  # one prompt may have several, each by itself
        name = f"{number}" if is_alone else row.prompt.id
        prompts[name] = min(about_tokens(row.prompt.messages), most)
        sides.setdefault(name, set()).update(_answers(row))
    return [
        (prompts[name], [min(about_tokens(one), most - prompts[name]) for one in answers])
        for name, answers in sides.items()
    ]


def _answers(row: Feedback | Preference | Demonstration) -> tuple[tuple[Message, ...], ...]:
    if isinstance(row, Preference):
        return (row.chosen, row.rejected)
    return (row.response,) if isinstance(row, Demonstration) else row.responses


def about_tokens(messages: Sequence[Message]) -> int:
    """Three characters each, and the template."""
    return sum(8 + len(message.content) // 3 for message in messages)


def longest_prompt(rows: Sequence[Prompt]) -> int:
    """About how many tokens the longest prompt takes: three characters each, and the template."""
    return 40 + max(sum(len(m.content) for m in row.messages) for row in rows) // 3
