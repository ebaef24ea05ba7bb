"""A reward beside ratings, thumbs and flags of single answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit

from heedful.data.reading import Values
from heedful.data.snapshot import split_by_prompt
from heedful.errors import DataError
from heedful.jobs.progress import progress
from heedful.jobs.quality.plain import attempt
from heedful.jobs.reward_card.feedback import THUMBS, Singles
from heedful.monitor.answer_figures import FLAGS_OF, AnswerFigures, ThumbCalibration
from heedful.reward.scorers import Rater, Scorer
from heedful.stats.calibration import Calibration, calibration_by_slice, nll
from heedful.stats.ceiling import rating_ceiling
from heedful.stats.concordance import (
    Coefficient,
    OrderWithin,
    concordance,
    order_within,
    rank_correlation,
)
from heedful.stats.intervals import Interval
from heedful.stats.logistic import fit_logistic
from heedful.stats.votes import Codes

Array = NDArray[np.float64]


def told_apart(singles: Singles) -> dict[str, Values]:
    """The scales on which some two answers got different values; flags come last."""
    found = {name: one for name, one in singles.values.items() if len(set(one.values)) > 1}
    return {name: found[name] for name in sorted(found, key=lambda one: one.startswith(FLAGS_OF))}


def measure_answers(
    scorer: Scorer, singles: Singles, seed: int, notes: list[str]
) -> list[AnswerFigures]:
    """The figures of every scale; none for scores that compare answers to one prompt only.

    What the data do not allow is left out with a note. Raises ``DataError`` for a score that is not
    finite.
    """
    scales = told_apart(singles)
    if not scales:
        return []
    if not isinstance(scorer, Rater):
        notes.append(
            "No order of ratings, thumbs or flags: these scores compare answers to one prompt."
        )
        return []
    with progress("score rated answers", len(singles.answers)) as advance:
        rated = scorer.rate(singles.answers, advance)
    if not np.isfinite(list(rated.scores.values())).all():
        raise DataError("a score is not finite; fit the model again")
    if rated.drops:
        rules = ", ".join(f"{num} {rule}" for rule, num in sorted(rated.drops.items()))
        notes.append(f"No ratings of answers that cannot be read: {rules}.")
    found = [
        _figures(name, values, singles, rated.scores, seed, notes)
        for name, values in scales.items()
    ]
    return [one for one in found if one is not None]


def _figures(
    name: str,
    given: Values,
    singles: Singles,
    scores: Mapping[int, float],
    seed: int,
    notes: list[str],
) -> AnswerFigures | None:
    said = _Said.of(given, scores)
    order = attempt(
        notes,
        f"order of {name}",
        lambda: concordance(
            said.scores, said.values, clusters=said.prompts, rng=np.random.default_rng(seed)
        ),
    )
    if order is None:
        return None
    is_rough = name == THUMBS or name.startswith(FLAGS_OF)  # most values are alike
    return AnswerFigures(
        name=name,
        num=len(said.values),
        num_answers=len(np.unique(said.answers)),
        num_prompts=len(np.unique(said.prompts)),
        concordance=order,
        correlations={} if is_rough else said.correlations(seed),
        within=attempt(notes, f"order of {name} within prompts", said.within),
        people=attempt(
            notes,
            f"human ceiling of {name}",
            lambda: rating_ceiling(
                said.answers.tolist(),
                [singles.annotators[one] for one in said.annotators],
                said.values,
                said.scores,
                clusters=said.prompts.tolist(),
                rng=np.random.default_rng(seed),
            ),
        ),
        thumbs=_calibrated_thumbs(said, singles, seed, notes) if name == THUMBS else None,
    )


@dataclass(frozen=True, slots=True)
class _Said:
    """Ratings on one scale: entry n is of the answer ``answers[n]``, by ``annotators[n]``."""

    answers: Codes
    prompts: Codes
    annotators: Codes
    values: Array
    scores: Array

    @classmethod
    def of(cls, given: Values, scores: Mapping[int, float]) -> "_Said":
        """Those of answers that have a score."""
        kept = [n for n, response in enumerate(given.responses) if response in scores]
        return cls(
            answers=np.array([given.responses[n] for n in kept], dtype=np.int64),
            prompts=np.array([given.trees[n] for n in kept], dtype=np.int64),
            annotators=np.array([given.annotators[n] for n in kept], dtype=np.int64),
            values=np.array([given.values[n] for n in kept], dtype=float),
            scores=np.array([scores[given.responses[n]] for n in kept], dtype=float),
        )

    def correlations(self, seed: int) -> dict[str, Interval]:
        """Rank correlations by name, with intervals by prompt."""
        return {
            name: rank_correlation(
                self.scores,
                self.values,
                coefficient=name,
                clusters=self.prompts,
                rng=np.random.default_rng(seed),
            )
            for name in get_args(Coefficient)
        }

    def within(self) -> OrderWithin:
        """The order of the answers to one prompt, by their mean rating."""
        _, first, answer = np.unique(self.answers, return_index=True, return_inverse=True)
        means = np.bincount(answer, weights=self.values) / np.bincount(answer)
        return order_within(self.scores[first], means, self.prompts[first].tolist())


def _calibrated_thumbs(
    said: _Said, singles: Singles, seed: int, notes: list[str]
) -> ThumbCalibration | None:
    """Chances of a thumb up by a logistic curve, each half of the prompts by that of the other."""
    prompts = [singles.answers[answer][0] for answer in said.answers]
    try:
        _, held = split_by_prompt(prompts, 0.5, seed)
    except DataError as error:
        notes.append(f"No chances of a thumb up: {error}.")
        return None
    ids = {prompt.id for prompt in held}
    is_held = np.array([prompt.id in ids for prompt in prompts])
    chances = np.empty(len(prompts))

    def fit() -> Calibration:
        for half in (is_held, ~is_held):
            chances[half] = _curve(said, ~half)(said.scores[half])
        names = [THUMBS] * len(chances)
        rng = np.random.default_rng(seed)
        return calibration_by_slice(chances, said.values, names, rng=rng, clusters=said.prompts)[
            THUMBS
        ]

    measured = attempt(notes, "chances of a thumb up", fit)
    if measured is None:
        return None
    share = float(said.values.mean())
    return ThumbCalibration(
        share_up=share,
        plain_nll=nll(np.full(len(said.values), share), said.values),
        measured=measured,
    )


def _curve(said: _Said, rows: NDArray[np.bool_]) -> Callable[[Array], Array]:
    """The logistic curve from score to chance that fits these thumbs best."""
    design = np.stack([np.ones(rows.sum()), said.scores[rows]], axis=1)
    fitted = fit_logistic(
        csr_array(design),
        said.values[rows],
        weights=np.ones(len(design)),
        cluster=said.prompts[rows],
    )
    offset, slope = fitted.coefficients
    return lambda scores: np.asarray(expit(offset + slope * scores))
