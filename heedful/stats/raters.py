"""Who rates higher than others, shrunk to 0 where little is known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from heedful.stats.intervals import Interval, normal_quantile
from heedful.stats.votes import encode

NOISE_OF_ALL = 10  # ratings of one's own that the noise of all people counts for


@dataclass(frozen=True, slots=True, kw_only=True)
class RaterOffsets:
    """How far each annotator rates above the rest. Made by ``rater_offsets``.

    In units of the rating; ``spread`` is the deviation of offsets between annotators, ``noise``
    that of each one's ratings. ``RaterOffsets(by_annotator={"ann": Interval(value=0.4, low=0.1,
    high=0.7, num=30)}, spread=0.5, noise={"ann": 0.9})``
    """

    by_annotator: dict[str, Interval]
    spread: float
    noise: dict[str, float]


def rater_offsets(
    annotators: Sequence[str], residuals: ArrayLike, *, confidence: float = 0.95
) -> RaterOffsets:
    """Offsets b of ``residual = common + b + error``, b and error normal: their posterior means.

    ``residuals[n]`` is a rating less what others gave the answer, or less a model's prediction of
    it. People differ in noise, so each has the variance of their own ratings, of which ten more are
    those of all: somebody who guesses has a wide interval and nobody else. The spread is the
    analysis of variance's estimate for groups of unequal size, at least 0; an annotator with n
    ratings keeps the share ``n spread^2 / (n spread^2 + noise^2)`` of the difference of means.
    Intervals take both as known. Subtracting offsets from ratings is right only if annotators got
    answers alike in quality. Raises ``ValueError`` for lists of different lengths, fewer than 2
    annotators, or none with 2 ratings. Searle, Casella and McCulloch 1992, chapter 3, there with
    one noise for all.
    """
    values = np.asarray(residuals, dtype=float)
    if len(annotators) != values.size:
        raise ValueError(f"{len(annotators)} annotators with {values.size} ratings; give one each")
    names, person = encode(annotators)
    num = np.bincount(person, minlength=len(names)).astype(float)
    if len(names) < 2 or num.max() < 2:
        raise ValueError(
            f"{len(names)} annotators gave {values.size} ratings; offsets need at least 2 people "
            "and 2 ratings of one of them"
        )
    means = np.bincount(person, weights=values) / num
    total, num_people = num.sum(), len(names)
    within = np.bincount(person, weights=(values - means[person]) ** 2)
    pooled = within.sum() / (total - num_people)
    noise_squared = (within + NOISE_OF_ALL * pooled) / (num - 1 + NOISE_OF_ALL)
    between = float((num * (means - values.mean()) ** 2).sum())
    by_noise = float((noise_squared * (1 - num / total)).sum())
    spread_squared = max(0.0, (between - by_noise) / (total - (num**2).sum() / total))
    variance = spread_squared + noise_squared / num
    if not variance.any():  # all ratings are alike
        variance = np.ones(num_people)
    kept = spread_squared / variance
    common = float((means / variance).sum() / (1 / variance).sum())
    reach = normal_quantile(confidence) * np.sqrt(spread_squared * (1 - kept))
    offsets = kept * (means - common)
    return RaterOffsets(
        by_annotator={
            name: Interval(value=float(b), low=float(b - r), high=float(b + r), num=int(n))
            for name, b, r, n in zip(names, offsets, reach, num, strict=True)
        },
        spread=spread_squared**0.5,
        noise=dict(zip(names, np.sqrt(noise_squared).tolist(), strict=True)),
    )
