"""How much a set of texts repeats itself. Words are split at white space and lower-cased."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Distinct n-grams over all n-grams of the set, above 0 to 1; NaN when there is none.

    Falls with the size of the set, so compare sets of equal size. Li et al. 2016
    (arXiv:1510.03055).
    """
    grams = [gram for text in texts for gram in _ngrams(text, n)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def unique_rate(texts: Sequence[str]) -> float:
    """Distinct texts over all texts, above 0 to 1; NaN for none."""
    return len(set(texts)) / len(texts) if texts else float("nan")


def self_similarity(texts: Sequence[str], n: int = 2) -> float:
    """Mean Jaccard similarity of the n-gram sets of two texts of the set, 0 to 1.

    Two texts without n-grams count as alike when equal. NaN for fewer than two texts. Takes time
    quadratic in their number. A cheaper self-BLEU: no brevity penalty, no smoothing to choose.
    """
    grams = [set(_ngrams(text, n)) or {tuple(text.lower().split())} for text in texts]
    overlaps = [len(a & b) / len(a | b) for a, b in combinations(grams, 2)]
    return float(np.mean(overlaps)) if overlaps else float("nan")


def _ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    words = text.lower().split()
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
