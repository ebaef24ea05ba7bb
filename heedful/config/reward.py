"""Reward models: what they learn from and by which losses."""

from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from heedful.config.base import Section
from heedful.config.fitting import Adapter, ExampleConfig, Optimiser, place


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


class RewardOptimiser(Optimiser):
    """The head starts at its best value on the frozen base, so it moves more slowly than the rest.

    So do thresholds; they are few numbers and may move faster (``link_learning_rate``).
    """

    learning_rate: float = Field(3e-4, gt=0)
    head_learning_rate: float = Field(1e-4, gt=0)
    link_learning_rate: float = Field(1e-3, gt=0)

    def rate_of(self, name: str) -> float:
        """The peak rate of a parameter of this name."""
        return self.link_learning_rate if ":link/" in name else super().rate_of(name)


class RewardLoss(Section):
    """What every form of feedback adds to the loss of a reward model.

    One score serves them all; with ``heads="criteria"`` every rated criterion has its own, with
    ``heads="groups"`` every group of annotators by the attribute ``group_by``, beside the one that
    all teach; ``group_pull`` is the weight of the squared difference between their leads. Flags
    have heads of their own, and are a penalty or a veto in the reward. ``mix`` is how the heads
    make one reward, for example ``overall=1,polite=0.5,unsafe>0.5`` (``heedful.reward.mixing``).

    ``margin`` multiplies the stated strength of a pair. ``ties`` and ``rankings`` say by which
    likelihood they are learned from; ``pairs`` of a ranking are all pairs that it implies. Ratings
    are learned from on all criteria, or on ``criterion`` alone. What comes from a form, a source
    or a data set is multiplied by its weight. ``annotators`` says whether how reliable each of
    them is in pairs is learned with the scores, ``rater_offsets`` whether it is learned how much
    higher than others each of them rates.
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
    rater_offsets: bool = Field(False, description="learn how high each annotator rates")
    heads: Literal["shared", "criteria", "groups"] = "shared"
    group_by: str | None = Field(None, description="attribute of annotators, for heads=groups")
    group_pull: float = Field(0.1, ge=0)
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

    @model_validator(mode="after")
    def _knows_groups(self) -> "RewardLoss":
        if (self.heads == "groups") != (self.group_by is not None):
            raise ValueError(
                f"loss.heads is {self.heads!r} and loss.group_by is {self.group_by!r}; heads of "
                "groups need the name of an attribute, and nothing else does"
            )
        if self.heads == "groups" and (self.ties != "drop" or self.rankings != "pairs"):
            raise ValueError(
                f"heads of groups learn from pairs, and loss.ties is {self.ties!r} and "
                f"loss.rankings {self.rankings!r}; leave both at their defaults"
            )
        return self


class Remedies(Section):
    """Against a reward that follows length or style; all are off unless they are turned on.

    ``length_bins``: pairs weigh such that in each of so many bins by the difference in length the
    longer answer is chosen as often as the shorter one. ``covariates``: a linear part on the
    ``length`` or the ``style`` of answers learns beside the head and is dropped afterwards.
    ``length_head``: ODIN, a second head that is made to follow length while the reward's is kept
    from it, dropped afterwards.
    ``length_penalty``: log-odds taken from the score a token; ``auto`` makes the scores of answers
    to one training prompt uncorrelated with their length.
    """

    length_bins: NonNegativeInt = 0
    covariates: Literal["none", "length", "style"] = "none"
    length_head: bool = False
    length_penalty: NonNegativeFloat | Literal["auto"] = 0.0

    @model_validator(mode="after")
    def _agree(self) -> "Remedies":
        beside = {
            "length_head": self.length_head,
            "length_penalty": self.length_penalty,
            "covariates": self.covariates != "none",
            "length_bins": self.length_bins,
        }
        one, *others = [name for name, is_on in beside.items() if is_on] or [""]
        if others and one in ("length_head", "length_penalty"):
            raise ValueError(
                f"{one} beside {others[0]} would take length off twice; drop one of the two"
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
        if self.loss.rater_offsets and self.remedies != Remedies():
            raise ValueError(
                "remedies change what a rating says of an answer and loss.rater_offsets learns how "
                "high each annotator rates; drop one of the two"
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
