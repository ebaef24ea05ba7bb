"""What each kind of job asks for, and its settings checked before it is queued.

Only what the store knows may be named: a page must not make the worker open a path or run a file.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from heedful.config import EvaluateConfig, PPOConfig, RewardConfig, check
from heedful.errors import DataError, MissingError
from heedful.forms import FORMS
from heedful.store import Transaction, datasets, models
from heedful.types import JSON
from heedful.web.chain import called

BASES = ("smollm2", "test")
TEST_DATA = "test"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
MAX_CHOICES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a job's form. ``key`` is its place in the config, dotted; ``choices`` are filled
    from the store for data and models. ``answers`` are data that can have answers, not prompts
    alone; a ``policy`` can write, a ``model`` is any."""

    key: str
    label: str
    kind: Literal["name", "data", "answers", "policy", "model", "reward", "form", "whole", "number"]
    value: str = ""
    help: str = ""
    low: float = 0
    high: float = 100_000
    is_optional: bool = False
    choices: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of job as people know it."""

    title: str
    button: str
    text: str
    fields: Sequence[Field]


def whole(key: str, label: str, value: int, high: int, low: int = 1) -> Field:
    """A field for a count."""
    return Field(key=key, label=label, kind="whole", value=str(value), low=low, high=high)


def name(key: str, label: str, value: str) -> Field:
    """A field for what will be called so."""
    return Field(key=key, label=label, kind="name", value=value)


def tokens(key: str, value: int) -> Field:
    """A field for how long an answer may be."""
    return whole(key, "Tokens an answer", value, 8192)


MODEL = Field(key="model", label="Start from", kind="policy")
SEED = whole("seed", "Seed", 0, 2**31 - 1, low=0)
NUM_PROMPTS = whole("num_prompts", "Prompts", 100, 10_000)
KINDS: Mapping[str, Kind] = {
    "fit_reward": Kind(
        title="Fit a reward model",
        button="Fit",
        text="Learns from people's answers what they prefer, and measures how well on held-out "
        "ones.",
        fields=(
            name("name", "Name", "reward"),
            Field(key="data", label="Data", kind="answers", help="answered tasks"),
            MODEL,
            whole("epochs", "Epochs", 1, 100),
            Field(key="held_out_share", label="Held out", kind="number", value="0.2", high=0.9,
                  help="share of prompts to measure on"),
            SEED,
        ),
    ),
    "fit_ppo": Kind(
        title="Optimise a policy",
        button="Optimise",
        text="PPO against a reward model, held back by a penalty on how far it moves.",
        fields=(
            name("name", "Name", "policy"),
            Field(key="data", label="Prompts", kind="data"),
            MODEL,
            Field(key="reward", label="Reward model", kind="reward"),
            whole("rollouts.num_rollouts", "Rollouts", 14, 100_000),
            tokens("rollouts.max_new_tokens", 48),
            SEED,
        ),
    ),
    "evaluate": Kind(
        title="Evaluate a model",
        button="Evaluate",
        text="A policy against its start on held-out prompts, judged by a reward model (a proxy); "
        "or the card of a reward model on answered tasks.",
        fields=(
            name("name", "Name", "evaluation"),
            Field(key="data", label="Held-out data", kind="data"),
            Field(key="model", label="Model", kind="model", help="a policy or a reward model"),
            Field(key="reward", label="Judge", kind="reward", is_optional=True,
                  help="for a policy"),
            NUM_PROMPTS,
            SEED,
        ),
    ),
    "sample": Kind(
        title="Ask people",
        button="Sample and queue",
        text="Samples answers of a model and queues them for people to judge.",
        fields=(
            name("project", "Project", "questions"),
            Field(key="prompts", label="Prompts", kind="data"),
            replace(MODEL, label="Model"),
            Field(key="form", label="Form", kind="form", value="pairwise"),
            whole("num_samples", "Answers a prompt", 2, 9),
            NUM_PROMPTS,
            tokens("max_new_tokens", 128),
            Field(key="temperature", label="Temperature", kind="number", value="0.8", low=0.01,
                  high=10),
            SEED,
        ),
    ),
}  # fmt: skip
CONFIGS: Mapping[str, Any] = {
    "fit_reward": RewardConfig,
    "fit_ppo": PPOConfig,
    "evaluate": EvaluateConfig,
}


def kind_of(name: str) -> Kind:
    """A kind of job; raises ``MissingError`` with what there is."""
    if name not in KINDS:
        raise MissingError(f"there is no job {name!r:.40}; choose from {', '.join(KINDS)}")
    return KINDS[name]


def form_of(tx: Transaction, name: str, given: Mapping[str, str]) -> list[Field]:
    """The fields with what can be chosen; ``given`` are values to begin with."""
    known = {kind: once(offered) for kind, offered in choices(tx).items()}
    return [
        replace(field, choices=known.get(field.kind, ()), value=given.get(field.key, field.value))
        for field in kind_of(name).fields
    ]


def once(offered: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without the name of a base that is registered, and so offered as a model, too."""
    labels = {label for _, label in offered}
    return [(value, label) for value, label in offered if f"{value} (base)" not in labels]


def choices(tx: Transaction) -> dict[str, list[tuple[str, str]]]:
    """What the store has of everything that a job can name."""
    found = models.newest(tx, limit=MAX_CHOICES)
    told = [(one.id, f"{called(one)} ({one.version.role})", one.version.role) for one in found]
    policies = [(name, name) for name in BASES]
    policies += [(id_, label) for id_, label, role in told if role != "reward"]
    rewards = [(id_, label) for id_, label, role in told if role == "reward"]
    return {
        "policy": policies,
        "model": [*policies, *rewards],
        "reward": rewards,
        "data": with_test(datasets.names(tx)),
        "answers": with_test(datasets.with_tasks(tx)),
        "form": [(name, name) for name in FORMS],
    }


def with_test(names: Sequence[str]) -> list[tuple[str, str]]:
    """Datasets to choose from, and made-up rows unless one is called like them."""
    known = [(name, name) for name in names]
    return known if TEST_DATA in names else [*known, (TEST_DATA, "test (made up)")]


def spec_of(tx: Transaction, kind: str, given: Mapping[str, Any]) -> dict[str, JSON]:
    """The checked spec of a job; raises ``DataError`` or ``ConfigError`` with what is allowed."""
    known = choices(tx)
    fields = kind_of(kind).fields
    odd = sorted(set(given) - {field.key for field in fields})
    if odd:
        allowed = ", ".join(field.key for field in fields)
        raise DataError(f"{kind} takes no {odd[0]!r:.60}; it takes {allowed}")
    values = {
        field.key: parsed(field, given.get(field.key, field.value), known) for field in fields
    }
    values = {key: value for key, value in values.items() if value is not None}
    if kind == "sample":
        return values
    config: dict[str, Any] = {}
    for key, value in values.items():
        head, _, rest = key.partition(".")
        if rest:
            config.setdefault(head, {})[rest] = value
        elif key != "name":
            config[key] = value
    return {
        "name": values["name"],
        # only what was given: a fit tells a setting that was asked for from a default
        "config": check(CONFIGS[kind], config).model_dump(mode="json", exclude_unset=True),
    }


def parsed(field: Field, value: Any, known: Mapping[str, Sequence[tuple[str, str]]]) -> JSON:
    """One value of a form; None for an optional one that is left empty."""
    text = str(value).strip()
    if not text and field.is_optional:
        return None
    if field.kind == "name":
        if not NAME.fullmatch(text):
            raise DataError(
                f"{field.key} is {text!r:.60}; use small letters, digits and dashes, at most 60"
            )
        return text
    if field.kind in known:
        if text not in {choice for choice, _ in known[field.kind]}:
            listed = ", ".join(choice for choice, _ in known[field.kind][:12]) or "nothing yet"
            raise DataError(f"{field.key} is {text!r:.60}; the store has {listed}")
        return text
    try:
        number = int(text) if field.kind == "whole" else float(text)
    except ValueError:
        raise DataError(f"{field.key} is {text!r:.60}; give a number") from None
    if not field.low <= number <= field.high:
        raise DataError(f"{field.key} is {number}; give {field.low:g} to {field.high:g}")
    return number
