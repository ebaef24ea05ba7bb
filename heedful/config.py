"""One checked config per stage: defaults < TOML file < dotted overrides.

Unknown keys are refused with the nearest name. Defaults are the vetted settings.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from heedful.errors import ConfigError, MissingError
from heedful.registry import nearest


class Section(BaseModel):
    """Frozen, and strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Adapter(Section):
    """The LoRA adapter that is trained: on all linear layers from ``first_layer`` up.

    ``middle`` is half of the base's layers, whatever their number.
    """

    rank: PositiveInt = 16
    alpha: float = Field(32.0, gt=0)
    first_layer: NonNegativeInt | Literal["middle"] = 0

    def span(self, num_layers: int) -> tuple[int, int]:
        """The first layer that is adapted and the number of layers that are run."""
        return place(self.first_layer, num_layers), num_layers


class UpperAdapter(Adapter):
    """The adapter of a policy that is sampled: what lies below it is computed once a rollout."""

    first_layer: NonNegativeInt | Literal["middle"] = "middle"


class RewardAdapter(Adapter):
    """The adapter of a reward model, which reads the state after ``depth`` layers of the base.

    ``depth`` ``None`` reads the last layer. ``first_layer`` ``None`` is 0; of an ensemble it is two
    thirds of the depth, and what lies below is computed once for all members.
    """

    first_layer: NonNegativeInt | Literal["middle"] | None = None  # type: ignore[assignment]
    depth: PositiveInt | Literal["middle"] | None = "middle"

    def span(self, num_layers: int, *, num_members: int = 1) -> tuple[int, int]:
        """The first layer that is adapted and the number of layers that are run."""
        end = num_layers if self.depth is None else place(self.depth, num_layers)
        if self.first_layer is not None:
            return place(self.first_layer, num_layers), end
        return (0 if num_members == 1 else end * 2 // 3), end


def place(layer: int | str, num_layers: int) -> int:
    """The number behind ``middle``."""
    return num_layers // 2 if isinstance(layer, str) else layer


class Optimiser(Section):
    """AdamW with linear warm-up and a schedule over the progress of the run."""

    learning_rate: float = Field(1e-4, gt=0)
    head_learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    warmup_share: float = Field(0.05, ge=0, le=1)
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    max_grad_norm: float = Field(1.0, gt=0)

    def rate_of(self, name: str) -> float:
        """The peak rate of a parameter of this name."""
        return self.head_learning_rate if ":head/" in name else self.learning_rate


class RewardOptimiser(Optimiser):
    """The head starts at its best value on the frozen base, so it moves as slowly as the rest.

    So do thresholds; they are few numbers and may move faster (``link_learning_rate``).
    """

    head_learning_rate: float = Field(1e-4, gt=0)
    link_learning_rate: float = Field(1e-3, gt=0)

    def rate_of(self, name: str) -> float:
        """The peak rate of a parameter of this name."""
        return self.link_learning_rate if ":link/" in name else super().rate_of(name)


class OnlineOptimiser(Optimiser):
    """Few steps, each on fresh answers."""

    learning_rate: float = Field(4e-4, gt=0)


class Packing(Section):
    """Packed tokens per forward, on which no result depends, and tokens of the longest text.

    More are faster and take memory: 512 with a gradient through all layers, or 768 of which half
    the layers and most passes have none. A GPU wants thousands. A longer example goes alone.
    """

    tokens_per_micro_step: PositiveInt = 768
    max_tokens: PositiveInt = 512


class Batching(Packing):
    """Also examples per optimiser step, where the examples are given."""

    tokens_per_micro_step: PositiveInt = 512
    examples_per_step: PositiveInt = 8


class FitConfig(Section):
    """What every fit has.

    ``recompute`` saves the memory of activations for a third more arithmetic: ``auto`` does so only
    when the run would not fit otherwise. ``attention`` of packed rows goes tree by tree (``sdpa``)
    or in one fused product (``flex``, CUDA only). The result depends on neither.
    """

    data: str = Field(description="data set in the store, snapshot file, or 'test'")
    model: str = Field("smollm2", description="base model, model directory or registered model")
    seed: int = 0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_every: PositiveInt = 20
    recompute: Literal["auto", "always", "never"] = "auto"
    attention: Literal["sdpa", "flex"] = "sdpa"
    compile: bool = Field(False, description="torch.compile; its cost is printed")
    adapter: Adapter = Adapter()
    optimiser: Optimiser = Optimiser()
    batch: Packing = Packing()

    def span(self, num_layers: int) -> tuple[int, int]:
        """The first layer that is adapted and the number of layers that are run."""
        return self.adapter.span(num_layers)


class ExampleConfig(FitConfig):
    """What every fit has that learns from given examples."""

    epochs: PositiveInt = 1
    held_out_share: float = Field(0.1, ge=0, lt=1)
    batch: Batching = Batching()


class SFTConfig(ExampleConfig):
    """Imitate demonstrations, or the chosen side of preferences."""


class RewardLoss(Section):
    """What every form of feedback adds to the loss of a reward model.

    One score serves them all; with ``heads="criteria"`` every rated criterion has its own. Flags
    have heads of their own, and are a penalty or a veto in the reward. ``mix`` is how the heads
    make one reward, for example ``overall=1,polite=0.5,unsafe>0.5`` (``heedful.reward.mixing``).

    ``margin`` multiplies the stated strength of a pair. ``ties`` and ``rankings`` say by which
    likelihood they are learned from; ``pairs`` of a ranking are all pairs that it implies. Ratings
    are learned from on all criteria, or on ``criterion`` alone. What comes from a form, a source
    or a data set is multiplied by its weight. ``annotators`` says whether how reliable each of
    them is in pairs is learned with the scores.
    """

    pairs: str = Field("bradley_terry", description="or constant_error, unbiased")
    params: dict[str, float] = Field(default_factory=dict, description="of the loss of pairs")
    margin: float = Field(1.0, ge=0)
    ties: Literal["drop", "rao_kupper", "davidson"] = "drop"
    rankings: Literal["pairs", "plackett_luce", "best_of_k"] = "pairs"
    ratings: Literal["ordinal", "regression", "drop"] = "ordinal"
    criterion: str | None = None
    thumbs: Literal["logistic", "drop"] = "logistic"
    annotators: Literal["none", "reliability"] = "none"
    heads: Literal["shared", "criteria"] = "shared"
    flags: Literal["drop", "penalty", "veto"] = "drop"
    mix: str | None = Field(None, description="NAME=WEIGHT,FLAG=PENALTY,FLAG>LIMIT")
    centring: float = Field(0.0, ge=0, description="weight of (chosen + rejected)^2")
    form_weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    source_weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    dataset_weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _is_a_section(cls, values: Any) -> Any:
        if isinstance(values, str):
            raise ValueError(f"it is a section: write loss.pairs={values}")
        return values


class Remedies(Section):
    """Against a reward that follows length or style; all are off unless they are turned on.

    ``length_bins``: pairs weigh such that in each of so many bins by the difference in length the
    longer answer is chosen as often as the shorter one. ``covariates``: a linear part on the
    ``length`` or the ``style`` of answers learns beside the head and is dropped afterwards.
    ``length_penalty``: log-odds taken from the score a token; ``auto`` makes the scores of answers
    to one training prompt uncorrelated with their length.
    """

    length_bins: NonNegativeInt = 0
    covariates: Literal["none", "length", "style"] = "none"
    length_penalty: NonNegativeFloat | Literal["auto"] = 0.0

    @model_validator(mode="after")
    def _agree(self) -> "Remedies":
        if self.length_penalty and (self.length_bins or self.covariates != "none"):
            other = "length_bins" if self.length_bins else "covariates"
            raise ValueError(
                f"length_penalty beside {other} would take length off twice; drop one of the two"
            )
        return self


class Ensemble(Section):
    """Several reward models as one: an adapter and a head for each of ``members``.

    Each is drawn from its own seed and, with ``bootstrap``, learns from its own sample of the
    prompts. ``aggregate`` makes one reward of theirs; ``penalty`` is that of the variance, in
    squared deviations.
    """

    members: PositiveInt = 1
    bootstrap: bool = True
    aggregate: Literal["mean", "worst_case", "mean_minus_variance"] = "mean"
    penalty: float = Field(0.1, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _is_a_section(cls, values: Any) -> Any:
        if isinstance(values, int | str):
            raise ValueError(f"it is a section: write ensemble.members={values}")
        return values


class RewardConfig(ExampleConfig):
    """Reward model on feedback of any form, from one data set or several."""

    # wider than that of other fits, which nobody reads without knowing the kind of fit
    data: str | tuple[str, ...] = Field(  # type: ignore[assignment]
        description="data set in the store, snapshot file or 'test'; or a list of them"
    )
    backbone: Literal["adapter", "features"] = Field(
        "adapter", description="of the base, or a network on features of the answer"
    )
    adapter: RewardAdapter = RewardAdapter()
    optimiser: RewardOptimiser = RewardOptimiser()
    pooling: Literal["mean", "last", "last_centred"] = "mean"
    warm_start: bool = Field(True, description="start the head at the probe on the base's states")
    loss: RewardLoss = RewardLoss()
    remedies: Remedies = Remedies()
    ensemble: Ensemble = Ensemble()

    @model_validator(mode="after")
    def _balances_pairs(self) -> "RewardConfig":
        if self.remedies.length_bins and self.loss.rankings != "pairs":
            raise ValueError(
                f"remedies.length_bins balances pairs and loss.rankings={self.loss.rankings} makes "
                "none of rankings; drop one of the two"
            )
        has_parts = self.loss.heads != "shared" or self.loss.flags != "drop"
        if has_parts and self.remedies != Remedies():
            raise ValueError(
                f"remedies are for a reward of one score, and loss.heads={self.loss.heads} with "
                f"loss.flags={self.loss.flags} makes named parts; leave the remedies off"
            )
        if self.loss.annotators != "none" and self.remedies != Remedies():
            raise ValueError(
                "remedies change what a label says of an answer and loss.annotators="
                f"{self.loss.annotators} learns how far labels are true; drop one of the two"
            )
        return self

    @field_validator("data", mode="before")
    @classmethod
    def _names_sets(cls, given: Any) -> Any:
        names = (given,) if isinstance(given, str) else given
        if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
            raise ValueError("give the name of a data set, or a list of names")
        if not names:
            raise ValueError("the list is empty; name at least one data set")
        if len(set(names)) < len(names):
            raise ValueError("a data set is named twice, and its rows would count twice")
        return names[0] if len(names) == 1 else tuple(names)

    @property
    def datasets(self) -> tuple[str, ...]:
        """The names of the data sets, also of one."""
        return (self.data,) if isinstance(self.data, str) else self.data

    def span(self, num_layers: int) -> tuple[int, int]:
        """The first layer that is adapted and the number of layers that are run."""
        return self.adapter.span(num_layers, num_members=self.ensemble.members)


class PreferenceConfig(ExampleConfig):
    """Direct preference optimisation."""

    loss: str = "dpo"
    params: dict[str, float] = Field(default_factory=dict, description="of the loss function")


class Rollouts(Section):
    """How the policy is sampled; a group is the answers to one prompt."""

    num_rollouts: PositiveInt = 20
    prompts_per_rollout: PositiveInt = 8
    samples_per_prompt: PositiveInt = 4
    max_new_tokens: PositiveInt = 48
    temperature: float = Field(0.8, gt=0)
    num_slots: PositiveInt = 32


class Updates(Section):
    """How often a rollout is used, and how far one use may move the policy (Schulman 2017)."""

    epochs: PositiveInt = 1
    minibatches: PositiveInt = 2
    clip_range: float = Field(0.2, gt=0)
    missing_eos_penalty: float = Field(0.0, ge=0)


class PPO(Updates):
    """Clipped policy and value losses on token rewards (Ziegler 2019).

    ``critic`` says what the critic's head reads besides the score so far: the frozen states of the
    ``reward`` model, those of the ``policy`` that sampled, or an ``adapter`` of its own.
    """

    critic: Literal["reward", "policy", "adapter"] = "reward"
    value_clip_range: float = Field(0.2, gt=0)
    value_coef: float = Field(0.1, ge=0)
    gamma: float = Field(1.0, ge=0, le=1)
    gae_lambda: float = Field(0.95, ge=0, le=1)


class GRPO(Updates):
    """Clipped policy loss on advantages within a group (Shao 2024), and the KL as a loss term.

    ``advantages`` is ``group`` (centred and scaled), ``unscaled`` (Dr. GRPO) or ``leave_one_out``
    (RLOO); ``clip_range_high`` is ``clip_range`` unless it is given (DAPO).
    """

    advantages: str = "group"
    clip_range_high: float | None = Field(None, gt=0)
    kl_coef: float = Field(0.05, ge=0)


class Stops(Section):
    """When the policy has moved far enough.

    ``limit`` is nats per answer between the policy and its reference and ends the run;
    ``step_limit`` is nats per token between the policy that sampled and the policy being updated
    and ends the use of a rollout.
    """

    limit: float = Field(40.0, gt=0)
    step_limit: float = Field(0.2, gt=0)


class KL(Stops):
    """KL to the reference: a penalty in the reward whose coefficient adapts, and two stops.

    ``target`` is nats per answer.
    """

    coef: float = Field(0.2, ge=0)
    target: float = Field(6.0, gt=0)
    horizon: float = Field(100.0, gt=0)


class OnlineConfig(FitConfig):
    """What every fit has that samples from the policy."""

    reward: str = Field(description="run directory or registered reward model, or gold:NAME")
    mix: str | None = Field(None, description="of the reward's parts: NAME=WEIGHT,FLAG>LIMIT")
    adapter: UpperAdapter = UpperAdapter()
    optimiser: OnlineOptimiser = OnlineOptimiser()
    rollouts: Rollouts = Rollouts()


class PPOConfig(OnlineConfig):
    """PPO against a reward."""

    ppo: PPO = PPO()
    kl: KL = KL()


class GRPOConfig(OnlineConfig):
    """GRPO, Dr. GRPO or RLOO against a reward: no critic, at least two answers a prompt."""

    grpo: GRPO = GRPO()
    kl: Stops = Stops()


class EvaluateConfig(Section):
    """Held-out comparison of a policy with its start."""

    data: str
    model: str
    reward: str | None = None
    mix: str | None = Field(None, description="of the reward's parts: NAME=WEIGHT,FLAG>LIMIT")
    gold: str | None = None
    seed: int = 0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    num_prompts: PositiveInt = 120
    best_of: PositiveInt = 4
    max_new_tokens: PositiveInt = 48
    temperature: float = Field(0.8, gt=0)
    num_slots: PositiveInt = 32
    tokens_per_micro_step: PositiveInt = 1024


class JudgeSettings(Section):
    """A judge behind an OpenAI-compatible endpoint, and how it is asked.

    ``ask`` is ``choice`` between two answers, both ways round, or a ``score`` of each answer.
    ``key_from`` names the environment variable that holds the key; the key is written nowhere.
    """

    url: str | None = None
    ask: Literal["choice", "score"] = "choice"
    key_from: str = "HEEDFUL_JUDGE_KEY"
    timeout_seconds: float = Field(60.0, gt=0)
    num_tries: PositiveInt = 4
    num_at_once: int = Field(4, ge=1, le=64)
    max_new_tokens: PositiveInt = 512


class RewardCardConfig(Section):
    """How good a reward is on feedback that it has not seen.

    ``model`` is a reward run, a directory of a sequence classifier of transformers, or with
    ``judge.url`` the name of a model there. ``format`` says how a file that was not imported is
    written; ``beta`` makes a policy the reward: ``beta`` times its log-ratio to its start.
    ``num_rewritten`` pairs are scored again in each of several other wordings, 0 for none.
    """

    data: str = Field(description="data set in the store, snapshot, file in a format, or 'test'")
    model: str = Field(description="reward run or model, classifier directory, or a judge's name")
    format: str | None = None
    beta: float | None = Field(None, gt=0)
    judge: JudgeSettings = JudgeSettings()
    num_rewritten: int = Field(100, ge=0)
    mix: str | None = Field(None, description="of the reward's parts: NAME=WEIGHT,FLAG>LIMIT")
    seed: int = 0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    tokens_per_micro_step: PositiveInt = 1024


class DemoConfig(Section):
    """The whole chain on the shipped prompts, with simulated annotators or with people."""

    model: str = "smollm2"
    gold: str = "kind"
    seed: int = 0
    budget: Literal["small", "full"] = "full"
    noise: float = Field(0.10, ge=0, lt=0.5)
    human: bool = False


C = TypeVar("C", bound=Section)


def listed(data: str | Iterable[str] | None) -> str:
    """The data sets of a config in words: ``a, b``."""
    return ", ".join((data,) if isinstance(data, str) else data or ())


def resolve(
    kind: type[C],
    *,
    file: Path | None = None,
    overrides: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> C:
    """The config: defaults < ``file`` < ``overrides`` (``kl.coef=0.1``) < flags that are set."""
    values: dict[str, Any] = read_toml(file) if file else {}
    for text in overrides:
        assign(values, text)
    values |= {key: value for key, value in (flags or {}).items() if value is not None}
    return check(kind, values)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML (or resolved JSON) file."""
    try:
        text = path.read_text()
    except OSError as error:
        raise MissingError(f"config file {path}: {error.strerror}; give an existing file") from None
    try:
        values: dict[str, Any] = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"config file {path} cannot be parsed: {error}") from None
    return values


def assign(values: dict[str, Any], text: str) -> None:
    """Apply one dotted override, for example ``optimiser.learning_rate=1e-4``."""
    key, equals, literal = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {text!r} is not KEY=VALUE; write for example seed=1")
    *parents, name = key.strip().lstrip("-").split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override {text!r}: {parent!r} is a value, not a section")
    values[name] = parse_literal(literal)


def parse_literal(literal: str) -> Any:
    """A TOML value where it is one, otherwise the text itself."""
    try:
        return tomllib.loads(f"value = {literal}")["value"]
    except tomllib.TOMLDecodeError:
        return literal


def check(kind: type[C], values: Mapping[str, Any]) -> C:
    """Validate; the first problem becomes a one-line ``ConfigError``."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            names = _names_at(kind, problem["loc"][:-1])
            hint = nearest(str(problem["loc"][-1]), names)
            raise ConfigError(f"unknown config key {place!r}; {hint}") from None
        if problem["type"] == "missing":
            raise ConfigError(f"config key {place!r} is required; set it in the file") from None
        if not place:  # keys that do not go together
            raise ConfigError(problem["msg"].removeprefix("Value error, ")) from None
        raise ConfigError(
            f"config key {place!r} is {problem['input']!r}: {problem['msg'].lower()}"
        ) from None


def _names_at(kind: type[Section], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        annotation = kind.model_fields[str(part)].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, Section)
        kind = annotation
    return list(kind.model_fields)
