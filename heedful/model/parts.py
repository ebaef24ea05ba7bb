"""The named outputs of a reward head, and how they make one reward.

Weights change without touching the head: they are in the card, and what they refer to is a sample
of the outputs, which is saved beside the head.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from heedful.maths.aggregates import penalised, standardise, vetoed, weighted_sum
from heedful.types import OVERALL, Part

SMALLEST_DEVIATION = 1e-3  # of a part that says about the same of all answers
FLOOR_DEVIATIONS = 4.0  # below the mean: what a vetoed answer is worth


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """How parts make one reward. Made by ``reward.mixing``, used by ``Parts``, kept in the card.

    ``weights`` are of scores in deviations, ``penalties`` times the probability of a flag, and
    above its limit a flag is a veto. What is not named has no say.
    ``Mix(weights={"overall": 1.0, "polite": 0.5}, limits={"unsafe": 0.5})``
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    penalties: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_linear(self) -> bool:
        """Whether the reward is a weighted sum of the head's outputs."""
        return not any(self.penalties.values()) and not self.limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a role's head in the order of its outputs, and their mix.

    ``sample`` holds the outputs on up to 256 training answers; empty while the head learns. The
    unit of the reward is the deviation of the overall score on it, so that the reward is the
    overall score up to a constant where nothing else weighs; without one, it is 1.
    """

    parts: tuple[Part, ...]
    mix: Mix = field(default_factory=Mix)
    sample: Float[Tensor, "N H"]

    @property
    def names(self) -> list[str]:
        """The parts' names in order."""
        return [part.name for part in self.parts]

    @property
    def scores(self) -> list[int]:
        """The places of parts that are scores."""
        return [place for place, part in enumerate(self.parts) if part.kind == "score"]

    @property
    def flags(self) -> list[int]:
        """The places of flags."""
        return [place for place, part in enumerate(self.parts) if part.kind == "flag"]

    @property
    def overall(self) -> int | None:
        """The place of the overall score; None for a head without one."""
        return self.names.index(OVERALL) if OVERALL in self.names else None

    @property
    def is_log_odds(self) -> bool:
        """Whether the reward is the overall score up to a constant, as with one score."""
        return self.mix == Mix(weights={OVERALL: 1.0})

    def named(self, outputs: Float[Tensor, "B H"]) -> dict[str, Float[Tensor, "B"]]:
        """The outputs by name."""
        return dict(zip(self.names, outputs.unbind(-1), strict=True))

    def total(self, outputs: Float[Tensor, "*B H"]) -> Float[Tensor, "*B"]:
        """The one reward: weighted sum, less penalties, at most the floor where a flag vetoes."""
        total = self._before_veto(outputs)
        floor = self._floor() if self.mix.limits else -torch.inf
        flags = outputs[..., self.flags].sigmoid()
        return vetoed(total, flags, self._limits(outputs), floor=floor)

    def vetoes(self, outputs: Float[Tensor, "B H"]) -> list[tuple[str, ...]]:
        """The flags above their limits, by response: why ``total`` holds it at the floor."""
        above = (outputs[..., self.flags].sigmoid() > self._limits(outputs)).tolist()
        names = [self.names[place] for place in self.flags]
        return [
            tuple(name for name, is_above in zip(names, row, strict=True) if is_above)
            for row in above
        ]

    def moments(self) -> tuple[float, float]:
        """Mean and deviation of the reward on the sample."""
        totals = self.total(self.sample)
        return totals.mean().item(), max(totals.std(correction=0).item(), SMALLEST_DEVIATION)

    def shown(self, outputs: Float[Tensor, "*B H"]) -> Float[Tensor, "*B H"]:
        """What people are shown: scores in deviations from their mean, flags as probabilities."""
        shown = outputs.sigmoid()
        shown[..., self.scores] = self._standardised(outputs)
        return shown

    def linear(self) -> tuple[Float[Tensor, "H"], float]:
        """Coefficients and constant of a reward that is linear in the outputs."""
        assert self.mix.is_linear
        weights = self._of(self.scores, self.mix.weights, 0.0, self.sample)
        mean, std = self._sample_moments()
        coefficients = self.sample.new_zeros(len(self.parts))
        coefficients[self.scores] = weights * self._unit() / std
        return coefficients, -(coefficients[self.scores] * mean).sum().item()

    def _before_veto(self, outputs: Tensor) -> Tensor:
        unit = self._unit()
        weights = self._of(self.scores, self.mix.weights, 0.0, outputs)
        penalties = self._of(self.flags, self.mix.penalties, 0.0, outputs)
        total = unit * weighted_sum(self._standardised(outputs), weights)
        return penalised(total, outputs[..., self.flags].sigmoid(), unit * penalties)

    def _standardised(self, outputs: Tensor) -> Tensor:
        mean, std = (one.to(outputs.device) for one in self._sample_moments())
        return standardise(outputs[..., self.scores], mean, std)

    def _sample_moments(self) -> tuple[Tensor, Tensor]:
        assert len(self.sample), "a mix needs a sample of what the parts say"
        own = self.sample[:, self.scores]
        mean = own.mean(0)
        # torch's own std warns where there is no score
        return mean, (own - mean).square().mean(0).sqrt().clamp(min=SMALLEST_DEVIATION)

    def _unit(self) -> float:
        if self.overall is None:
            return 1.0
        own = self.sample[:, self.overall]
        return max(own.std(correction=0).item(), SMALLEST_DEVIATION)

    def _limits(self, like: Tensor) -> Tensor:
        return self._of(self.flags, self.mix.limits, 1.0, like)

    def _floor(self) -> float:
        totals = self._before_veto(self.sample)
        return float(totals.mean() - FLOOR_DEVIATIONS * totals.std(correction=0))

    def _of(
        self, places: list[int], values: Mapping[str, float], default: float, like: Tensor
    ) -> Tensor:
        """The value of the part at each place."""
        found = [values.get(self.parts[place].name, default) for place in places]
        return torch.tensor(found, device=like.device, dtype=torch.float32)
