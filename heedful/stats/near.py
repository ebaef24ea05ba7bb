"""Which texts are nearly equal to others: the same question with a word changed, or two."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Shingles = NDArray[np.uint64]
SPAN = 5  # characters of a shingle
LEAST = 0.8
ROUNDING = 1e-9
FACTORS = np.uint64(0x9E3779B97F4A7C15) ** np.arange(1, SPAN + 1, dtype=np.uint64)  # odd: no loss


def near(texts: Iterable[str], others: Sequence[str], *, least: float = LEAST) -> list[int | None]:
    """The place in ``others`` of what each text is most like; None where nothing is that near.

    Likeness is the Jaccard index of the sets of shingles, above 0 to 1: all runs of 5 characters
    of the text without case, punctuation and spacing. Of equal likeness the first counts. Only
    texts that share a rare shingle are compared, which misses none (prefix filtering: Bayardo et
    al. 2007, doi:10.1145/1242572.1242591). Raises ``ValueError`` for ``least`` outside (0, 1].
    """
    if not 0 < least <= 1:
        raise ValueError(f"least is {least}; choose a likeness above 0, up to 1")
    sets = [shingles(text) for text in others]
    known, spread = np.unique(np.concatenate([*sets, shingles("")]), return_counts=True)

    def rarest(each: Shingles) -> Shingles:
        # a set that is near shares all but most - 1 of these, so at least one of any most of them
        most = len(each) - math.ceil(least * len(each) - ROUNDING) + 1
        places = np.minimum(np.searchsorted(known, each), len(known) - 1)
        frequency = np.where(known[places] == each, spread[places], 0)
        return each[np.lexsort((each, frequency))[:most]]

    rare = [rarest(each) for each in sets]
    held = np.concatenate([*rare, np.empty(0, dtype=np.uint64)])
    holders = np.repeat(np.arange(len(sets)), np.array([len(one) for one in rare], dtype=int))
    order = np.argsort(held, kind="stable")
    held, holders = held[order], holders[order]
    found = []
    for text in texts:
        each = shingles(text)
        asked = rarest(each)
        ends = zip(np.searchsorted(held, asked), np.searchsorted(held, asked, "right"), strict=True)
        places = np.unique(np.concatenate([holders[low:high] for low, high in ends]))
        found.append(_nearest(each, sets, places.tolist(), least))
    return found


def _nearest(
    each: Shingles, sets: Sequence[Shingles], places: Sequence[int], least: float
) -> int | None:
    """The first of the places whose set is most like this one."""
    best = None
    for place in places:
        common = len(np.intersect1d(each, sets[place], assume_unique=True))
        likeness = common / (len(each) + len(sets[place]) - common)
        if likeness > least or (likeness == least and best is None):
            best, least = place, likeness
    return best


def shingles(text: str) -> Shingles:
    """The runs of 5 letters and digits of a text, as numbers; the whole of a shorter text."""
    plain = "".join(one for one in text.casefold() if one.isalnum()).ljust(SPAN, "\0")
    letters = np.array([ord(one) for one in plain], dtype=np.uint64)
    runs = np.lib.stride_tricks.sliding_window_view(letters, SPAN)
    return np.unique((runs * FACTORS).sum(axis=1))
