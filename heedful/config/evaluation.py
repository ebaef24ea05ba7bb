"""What is measured of models, and the demo, which ends with it."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from heedful.config.base import Section


class EvaluateConfig(Section):
    """Held-out comparison of a policy with its start."""

    data: str
    model: str
    reward: str | None = None
    mix: str | None = Field(None, description="of the reward's parts: NAME=WEIGHT,FLAG>LIMIT")
    gold: str | None = None
    seed: NonNegativeInt = 0
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
    seed: NonNegativeInt = 0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    tokens_per_micro_step: PositiveInt = 1024


class DemoConfig(Section):
    """The whole chain on the shipped prompts, with simulated annotators or with people."""

    model: str = "smollm2"
    gold: str = "kind"
    seed: NonNegativeInt = 0
    budget: Literal["small", "full"] = "full"
    noise: float = Field(0.10, ge=0, lt=0.5)
    human: bool = False
