"""A trained reward as a sequence classifier of transformers, written only when it scores the same.

A stock classifier reads the state of the last token that is not padding, after the final norm, with
a linear layer that has no bias. A reward that reads the last token after ``depth`` layers is one:

    layers       the first ``depth`` of the base, the adapter folded in
    final norm   of unit weight, so that it is the scaling of ``forward.pool``
    score        head weight / std

and ``reward = logit + (head bias - mean) / std``. That offset is one number for all texts, so no
comparison and no advantage depends on it; ``config.json`` states it under ``heedful``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.pytorch_utils import Conv1D

from heedful.data.chat import render
from heedful.data.collate import Tree
from heedful.errors import ConfigError, DataError, ProofError
from heedful.model.adapter_files import AdapterCard, write_directory
from heedful.model.forward import of_last
from heedful.model.trunk import AdapterSettings, Trunk
from heedful.reward.reading import answers_tree
from heedful.reward.trained import TrainedReward
from heedful.types import JSON, Message, Prompt, messages_json

TOLERANCE = 1e-5  # of a reward in float32: its sums are taken in another order
PAD = "<|pad|>"
REMEDY = "fit it with pooling=last and adapter.depth below all layers, or use heedful serve reward"
# short, long and of several turns, so that a batch of them is padded
PROBES: tuple[tuple[str, ...], ...] = (
    ("Hello", "Hello, how can I help?"),
    ("What is the capital of France?", "Paris. It has been the seat of kings and parliaments."),
    ("Name a colour.", "Blue", "Why that one?", "It is what the sky has, and the sea on good days"),
    ("Say nothing kind.", "No"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """What was written. ``offset`` has no place in it; ``error`` is the largest seen difference."""

    path: str
    num_layers: int
    offset: float
    error: float
    pad_token: str


def check_one(card: AdapterCard) -> None:
    """Raise ``ConfigError`` for an ensemble; needs no model."""
    if card.members > 1:
        raise ConfigError(
            f"this reward model is an ensemble of {card.members} adapters, and a sequence "
            "classifier is one set of weights: no average of the members' weights gives the "
            "aggregate of their scores; export one member, the directory members/0 of the model, "
            "or use heedful serve reward"
        )


def check_pooling(card: AdapterCard) -> None:
    """Raise ``ConfigError`` for a reward on what a classifier does not read; needs no model."""
    if card.length_penalty:
        raise ConfigError(
            f"this reward model takes {card.length_penalty:.4g} a token off its score and a "
            "sequence classifier does not count tokens; fit it with remedies.covariates=length "
            "instead"
        )
    if card.pooling == "mean":
        raise ConfigError(
            "this reward model reads the mean over the answer's tokens and a sequence classifier "
            f"reads the last token alone; {REMEDY}"
        )


def check_depth(settings: AdapterSettings, num_layers: int) -> None:
    """Raise ``ConfigError`` for a reward on the state after the final norm, which it scales."""
    if settings.depth == num_layers:
        raise ConfigError(
            f"this reward model reads all {num_layers} layers and scales the state after the final "
            f"norm once more, which a sequence classifier does not; {REMEDY}"
        )


@torch.no_grad()
def write_classifier(
    trunk: Trunk, role: str, target: Path, *, card: AdapterCard, about: Mapping[str, JSON]
) -> Classifier:
    """Write the float32 checkpoint with tokeniser and chat template to the new directory.

    ``about`` joins the offset and the deviation that the reward is in, in log-odds, under
    ``heedful`` in ``config.json``. Raises ``ConfigError`` or
    ``DataError`` for what a classifier cannot hold, and ``ProofError`` when what was written gives
    another reward; then nothing is left behind.
    """
    if target.exists():
        raise ConfigError(f"{target} is there already; choose another --out")
    settings, head = trunk.adapters[role], trunk.heads[role]
    check_pooling(card)
    check_depth(settings, trunk.num_layers)
    offset = (head.bias.item() - card.mean) / card.std
    tokenizer = AutoTokenizer.from_pretrained(trunk.base.path)
    choose_pad(tokenizer, trunk.base.stop_ids)
    tokenizer.padding_side = "right"  # on the left it would move learned positions
    tokenizer.chat_template = ending(trunk.tokenizer)
    config = shortened(trunk, settings.depth)
    config.pad_token_id = tokenizer.pad_token_id
    config.vocab_size = max(config.vocab_size, len(tokenizer))
    config.heedful = {"offset": offset, "std": card.std, **about}
    model = empty(config, trunk.base.name)
    model.load_state_dict(merged(trunk, role, model, card))
    errors: list[float] = []

    def write(directory: Path) -> None:
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        errors.append(prove(trunk, role, directory, card, offset))

    write_directory(target, write)
    return Classifier(
        path=str(target),
        num_layers=settings.depth,
        offset=offset,
        error=errors[0],
        pad_token=tokenizer.pad_token,
    )


def shortened(trunk: Trunk, depth: int) -> Any:
    """The base's config with so many layers and one label."""
    config: Any = AutoConfig.from_pretrained(trunk.base.path)
    for key, value in config.to_dict().items():
        if "layer" in key and isinstance(value, list) and len(value) == trunk.num_layers:
            setattr(config, key, value[:depth])
    config.num_hidden_layers = depth
    config.id2label, config.label2id = {0: "reward"}, {"reward": 0}
    return config


def empty(config: Any, name: str) -> Any:
    """The stock classifier of the config's architecture."""
    make: Any = AutoModelForSequenceClassification.from_config
    try:
        return make(config, dtype=torch.float32).eval()
    except ValueError as error:
        raise DataError(
            f"transformers has no sequence classifier for {config.model_type}, the architecture of "
            f"{name}; use heedful serve reward"
        ) from error


def merged(trunk: Trunk, role: str, model: Any, card: AdapterCard) -> dict[str, Tensor]:
    """The classifier's weights by name: the base's with the adapter folded in, norm and head."""
    norm, unit = unit_norm(model.base_model, trunk.width, card.pooling)
    norm_path = next(path for path, module in model.named_modules() if module is norm)
    own = trunk.base.model.state_dict()
    weights: dict[str, Tensor] = {}
    for name, place in model.state_dict().items():
        path, _, kind = name.rpartition(".")
        layer = trunk.layers.get(path)
        if name == "score.weight":
            found = trunk.heads[role].weight / card.std
        elif path == norm_path:
            found = unit[kind]
        elif layer is not None and kind == "weight":
            found = layer.folded(role)
            found = found.T if isinstance(layer.base, Conv1D) else found
        else:
            found = own[f"{path}.base.{kind}" if layer is not None else name]
        found = found.detach().cpu().float()
        if "embed" in path or "wte" in path:
            found = pad(found, (0, 0, 0, len(place) - len(found)))  # rows for new tokens
        weights[name] = found.contiguous()
    return weights


def unit_norm(decoder: nn.Module, width: int, pooling: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """The final norm, and the weights with which it is the scaling that the head was fitted on.

    Raises ``DataError`` when there are none.
    """
    norms = [
        child
        for child in decoder.children()
        if {tuple(value.shape) for value in child.parameters()} == {(width,)}
    ]
    states = torch.linspace(-30, 50, 8 * width).sin().mul(20).add(3).view(8, width)
    for norm in norms:
        for fill in (1.0, 0.0):  # some architectures multiply by one plus the weight
            unit = {
                name: torch.full((width,), 0.0 if name == "bias" else fill)
                for name, _ in norm.named_parameters()
            }
            norm.load_state_dict(unit)
            if torch.allclose(norm(states), of_last(states, pooling), rtol=1e-5, atol=1e-5):
                return norm, unit
    seen = ", ".join(type(norm).__name__ for norm in norms) or "none"
    other = "last_centred" if pooling == "last" else "last"
    raise DataError(
        f"the final norm of this base ({seen}) does not scale a state as pooling={pooling} does; "
        f"fit the reward model with pooling={other}, or use heedful serve reward"
    )


def choose_pad(tokenizer: Any, stops: frozenset[int]) -> None:
    """Padding that ends no turn: the classifier takes what stands before the padding as the end."""
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id not in stops:
        return
    taken = {*stops, tokenizer.bos_token_id}
    free = [token for token in tokenizer.all_special_ids if token not in taken]
    if free:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(free[0])
    else:
        tokenizer.add_special_tokens({"pad_token": PAD})


def ending(tokenizer: Any) -> str:
    """The chat template, made to end where an answer does: reward models read the end of turn.

    Templates write a line break or more after it, which the classifier would read instead.
    """
    template: str = tokenizer.get_chat_template()
    end = tokenizer.eos_token
    if render(tokenizer, conversation(PROBES[0]), answer_next=False).endswith(end):
        return template
    quoted = "'" + end.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return (
        "{% set rendered %}" + template + "{% endset %}"
        f"{{% if add_generation_prompt or {quoted} not in rendered %}}{{{{ rendered }}}}"
        f"{{% else %}}{{{{ rendered[:rendered.rfind({quoted}) + {len(end)}] }}}}{{% endif %}}"
    )


def prove(trunk: Trunk, role: str, directory: Path, card: AdapterCard, offset: float) -> float:
    """The largest difference between the reward and the classifier that is read back.

    It is relative to the reward, to the offset or to 1, whichever is largest.
    Raises ``ProofError`` when it is above the tolerance.
    """
    trees = [probe_tree(trunk.tokenizer, probe) for probe in PROBES]
    reward = TrainedReward(trunk, role=role, mean=card.mean, std=card.std)
    rewards = torch.tensor(reward.score_trees(trees, trunk.max_tokens))[:, 0]
    tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory, use_safetensors=True)
    rows = tokenizer.apply_chat_template(
        [messages_json(conversation(probe)) for probe in PROBES],
        padding=True,
        return_tensors="pt",
        return_dict=True,
    )
    for tree, ids, mask in zip(trees, rows["input_ids"], rows["attention_mask"], strict=True):
        if ids[mask.bool()].tolist() != [*tree.prompt, *tree.responses[0]]:
            raise DataError(
                f"the tokeniser of {trunk.base.name} splits a conversation otherwise than prompt "
                "and answer apart, so a classifier of its texts would read other tokens; use "
                "heedful serve reward"
            )
    given = model.eval()(**rows).logits[:, 0] + offset
    # a reward near 0 may be what is left of a large logit and a large offset
    largest = rewards.abs().clamp(min=max(1.0, abs(offset)))
    worst: float = ((given - rewards).abs() / largest).max().item()
    if not worst <= TOLERANCE:
        raise ProofError(
            f"the classifier's rewards differ from the model's by {worst:.1e}, allowed is "
            f"{TOLERANCE:g}; nothing was written: use heedful serve reward"
        )
    return worst


def conversation(turns: Sequence[str]) -> tuple[Message, ...]:
    """User and assistant in turn."""
    return tuple(
        Message(role="assistant" if number % 2 else "user", content=turn)
        for number, turn in enumerate(turns)
    )


def probe_tree(tokenizer: Any, turns: Sequence[str]) -> Tree:
    """A conversation as training reads it."""
    *asked, said = conversation(turns)
    return answers_tree(tokenizer, turns[0], Prompt(messages=tuple(asked)), [[said]])
