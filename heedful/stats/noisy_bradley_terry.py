"""Bradley-Terry scores from annotators who differ in skill and lean to a side.

Annotator a prefers left with probability ``sigmoid(skill_a (s_left - s_right) + lean_a)``. Skill 1
is typical, 0 guesses, below 0 prefers what others reject; lean 0 has no favourite side. With all
skills 1 and leans 0 it is the Bradley-Terry model. Chen et al. 2013 and crowd-kit mix right
answers with guesses instead; this form gives careful annotators a side as well, and its gradient
is that of a logistic regression.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import coo_array
from scipy.special import expit

from heedful.stats.comparisons import Comparisons
from heedful.stats.intervals import Interval, normal_quantile

Array = NDArray[np.float64]
MAX_PARAMETERS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyBradleyTerry:
    """A fit. Made by ``noisy_bradley_terry``, shown on quality pages.

    ``scores`` in log-odds of a typical annotator, mean near 0, one per candidate; ``skill`` and
    ``left_share``, the chance of choosing left between equals, one per annotator;
    ``mean_left_share`` is that of the mean lean of these annotators. ``num`` counts comparisons.
    A spammer: ``skill=(Interval(value=0.05, low=-0.2, high=0.3, num=100),)``
    """

    candidates: tuple[str, ...]
    annotators: tuple[str, ...]
    scores: tuple[Interval, ...]
    skill: tuple[Interval, ...]
    left_share: tuple[Interval, ...]
    mean_left_share: Interval


def noisy_bradley_terry(
    comparisons: Comparisons,
    *,
    score_scale: float = 3.0,
    skill_scale: float = 0.5,
    lean_scale: float = 0.5,
    confidence: float = 0.95,
) -> NoisyBradleyTerry:
    """The most probable scores, skills and leans, with normal intervals around them.

    Scores come from a normal with mean 0 and deviation ``score_scale``, skills around 1, leans
    around a common lean, which itself is around 0. The prior on skill fixes the unit of scores and
    pulls who answered little to the middle. A tie is half a preference for each side. Time and
    memory grow with the square of the number of parameters: raises ``ValueError`` above 5,000;
    compare models then, not completions. Raises ``ArithmeticError`` when the optimiser stops early.
    """
    num_candidates, num_people = len(comparisons.candidates), len(comparisons.annotators)
    num_parameters = num_candidates + 2 * num_people + 1
    if num_parameters > MAX_PARAMETERS:
        raise ValueError(
            f"{num_candidates} candidates and {num_people} annotators make {num_parameters} "
            f"parameters, above {MAX_PARAMETERS}; compare models instead of completions"
        )
    posterior = _Posterior(comparisons=comparisons, scales=(score_scale, skill_scale, lean_scale))
    start = np.zeros(num_parameters)
    start[num_candidates : num_candidates + num_people] = 1.0
    fit = minimize(
        posterior.loss_and_gradient,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 10000, "ftol": 1e-13, "gtol": 1e-6},
    )
    if not fit.success:
        raise ArithmeticError(f"the fit stopped early: {fit.message}; use smaller prior scales")
    try:
        np.linalg.cholesky(posterior.hessian(fit.x))
    except np.linalg.LinAlgError as error:
        raise ArithmeticError("the fit ended on a ridge; use smaller prior scales") from error
    covariance = np.linalg.inv(posterior.hessian(fit.x))
    people_end = num_candidates + num_people
    leans = slice(people_end, people_end + num_people)
    # The common lean is that of annotators to come; a team asks about those it has.
    value = np.append(fit.x[:-1], fit.x[leans].mean())
    variance = np.append(np.diagonal(covariance)[:-1], covariance[leans, leans].mean())
    reach = normal_quantile(confidence) * np.sqrt(variance)
    sizes = posterior.num_observations()
    intervals = [
        Interval(value=float(v), low=float(v - r), high=float(v + r), num=int(n))
        for v, r, n in zip(value, reach, sizes, strict=True)
    ]
    return NoisyBradleyTerry(
        candidates=comparisons.candidates,
        annotators=comparisons.annotators,
        scores=tuple(intervals[:num_candidates]),
        skill=tuple(intervals[num_candidates:people_end]),
        left_share=tuple(_as_share(lean) for lean in intervals[people_end:-1]),
        mean_left_share=_as_share(intervals[-1]),
    )


def _as_share(lean: Interval) -> Interval:
    value, low, high = (float(expit(x)) for x in (lean.value, lean.low, lean.high))
    return Interval(value=value, low=low, high=high, num=lean.num)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Posterior:
    """Minus the log posterior over scores, skills, leans and the common lean, in this order."""

    comparisons: Comparisons
    scales: tuple[float, float, float]

    def loss_and_gradient(self, parameters: Array) -> tuple[float, Array]:
        data = self.comparisons
        scores, skill, lean, common = self._split(parameters)
        gap = scores[data.left] - scores[data.right]
        margin = skill[data.annotator] * gap + lean[data.annotator]
        loss = np.logaddexp(0, margin).sum() - data.points @ margin
        slope = expit(margin) - data.points
        by_score = slope * skill[data.annotator]
        num_people = len(skill)
        score_scale, skill_scale, lean_scale = self.scales
        apart = lean - common
        loss += (scores @ scores) / (2 * score_scale**2)
        loss += ((skill - 1) @ (skill - 1)) / (2 * skill_scale**2)
        loss += (apart @ apart + common**2) / (2 * lean_scale**2)
        gradient = [
            np.bincount(data.left, by_score, len(scores))
            - np.bincount(data.right, by_score, len(scores))
            + scores / score_scale**2,
            np.bincount(data.annotator, slope * gap, num_people) + (skill - 1) / skill_scale**2,
            np.bincount(data.annotator, slope, num_people) + apart / lean_scale**2,
            np.array([(common - apart.sum()) / lean_scale**2]),
        ]
        return float(loss), np.concatenate(gradient)

    def hessian(self, parameters: Array) -> Array:
        data = self.comparisons
        scores, skill, lean, _ = self._split(parameters)
        gap = scores[data.left] - scores[data.right]
        own = skill[data.annotator]
        share = expit(own * gap + lean[data.annotator])
        skill_at = len(scores) + data.annotator
        lean_at = skill_at + len(skill)
        ones = np.ones(len(gap))
        rows = np.arange(len(gap))
        columns = [data.left, data.right, skill_at, lean_at]
        values = [own, -own, gap, ones]
        size = len(parameters)
        jacobian = coo_array(
            (np.concatenate(values), (np.tile(rows, 4), np.concatenate(columns))),
            shape=(len(gap), size),
        ).tocsr()
        curvature = (jacobian.T @ jacobian.multiply((share * (1 - share))[:, None])).toarray()
        slope = share - data.points
        for score_at, sign in ((data.left, 1.0), (data.right, -1.0)):
            np.add.at(curvature, (score_at, skill_at), sign * slope)
            np.add.at(curvature, (skill_at, score_at), sign * slope)
        return np.asarray(curvature + self._prior_hessian(len(scores), len(skill)))

    def num_observations(self) -> NDArray[np.int64]:
        data = self.comparisons
        shown = np.bincount(np.concatenate([data.left, data.right]), minlength=len(data.candidates))
        answered = np.bincount(data.annotator, minlength=len(data.annotators))
        return np.concatenate([shown, answered, answered, [len(data.points)]])

    def _prior_hessian(self, num_candidates: int, num_people: int) -> Array:
        score_scale, skill_scale, lean_scale = self.scales
        diagonal = np.concatenate(
            [
                np.full(num_candidates, score_scale**-2.0),
                np.full(num_people, skill_scale**-2.0),
                np.full(num_people, lean_scale**-2.0),
                [(num_people + 1) * lean_scale**-2.0],
            ]
        )
        hessian = np.diag(diagonal)
        leans = slice(num_candidates + num_people, -1)
        hessian[leans, -1] = hessian[-1, leans] = -(lean_scale**-2.0)
        return hessian

    def _split(self, parameters: Array) -> tuple[Array, Array, Array, float]:
        num_candidates = len(self.comparisons.candidates)
        people_end = num_candidates + len(self.comparisons.annotators)
        return (
            parameters[:num_candidates],
            parameters[num_candidates:people_end],
            parameters[people_end:-1],
            float(parameters[-1]),
        )
