"""What texts are about: groups of texts that share words, named by these words."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from heedful.stats.votes import Codes

Array = NDArray[np.float64]
WORD = re.compile(r"[^\W\d_]{3,}")
NO_TOPIC = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """Directions in the space of words. Made by ``find_topics``, used by ``assign``.

    ``names[k]`` are the heaviest words of topic k; ``centres[k, w]`` is of length 1 over the words
    of ``vocabulary``, each weighed by ``rarity[w]``. ``Topics(names=("garden, soil, plants",),
    ...)``
    """

    names: tuple[str, ...]
    vocabulary: dict[str, int]
    rarity: Array
    centres: Array

    def assign(self, texts: Iterable[str]) -> Codes:
        """The nearest topic of each text, ``NO_TOPIC`` for a text that shares no word with any."""
        likeness = _rows(texts, self.vocabulary, self.rarity) @ self.centres.T
        return np.where(likeness.max(axis=1) > 0, likeness.argmax(axis=1), NO_TOPIC)


def find_topics(
    texts: Sequence[str],
    num_topics: int,
    *,
    rng: np.random.Generator,
    ignored: Collection[str] = (),
    max_words: int = 2000,
    num_starts: int = 8,
    max_steps: int = 50,
) -> Topics:
    """Topics of texts by k-means on the directions of their word counts (tf-idf).

    Words in fewer than 3 texts, in more than half of them, or in ``ignored`` do not count; of
    the others the ``max_words`` most frequent do. The best of ``num_starts`` starts, each seeded
    far apart. Raises ``ValueError`` when fewer texts than topics have such words. Dhillon and Modha
    2001, section 3; seeding: Arthur and Vassilvitskii 2007.
    """
    seen = Counter(word for text in texts for word in set(WORD.findall(text.lower())))
    most = max(3, len(texts) // 2)
    usable = [w for w, n in seen.most_common() if 3 <= n <= most and w not in ignored]
    vocabulary = {word: place for place, word in enumerate(sorted(usable[:max_words]))}
    rarity = np.array([math.log(len(texts) / seen[word]) + 1 for word in vocabulary])
    rows = _rows(texts, vocabulary, rarity)
    rows = rows[np.flatnonzero(rows.sum(axis=1) > 0)]
    if rows.shape[0] < num_topics:
        raise ValueError(
            f"{rows.shape[0]} texts share words with others; {num_topics} topics need more texts"
        )
    fits = [_fit(rows, num_topics, rng, max_steps) for _ in range(num_starts)]
    centres, _ = max(fits, key=lambda fit: fit[1])
    words = np.array(list(vocabulary))
    names = tuple(", ".join(words[np.argsort(-centre)[:3]]) for centre in centres)
    return Topics(names=names, vocabulary=vocabulary, rarity=rarity, centres=centres)


def _rows(texts: Iterable[str], vocabulary: dict[str, int], rarity: Array) -> csr_array:
    """Word counts of length 1, one row a text; empty where no word is known."""
    starts: list[int] = [0]
    places: list[int] = []
    values: list[float] = []
    for text in texts:
        counted = Counter(w for w in WORD.findall(text.lower()) if w in vocabulary)
        # a word said often says little more than a word said twice
        weights = {
            vocabulary[w]: (1 + math.log(n)) * rarity[vocabulary[w]] for w, n in counted.items()
        }
        length = math.sqrt(sum(value**2 for value in weights.values()))
        places += weights.keys()
        values += [value / length for value in weights.values()]
        starts.append(len(places))
    shape = (len(starts) - 1, len(vocabulary))
    return csr_array((np.array(values, dtype=float), places, starts), shape=shape)


def _fit(
    rows: csr_array, num_topics: int, rng: np.random.Generator, max_steps: int
) -> tuple[Array, float]:
    """Centres, and the sum of the texts' likeness to theirs."""
    centres = _far_apart(rows, num_topics, rng)
    nearest = np.full(rows.shape[0], -1)
    for _ in range(max_steps):
        likeness = rows @ centres.T
        before, nearest = nearest, likeness.argmax(axis=1)
        if (before == nearest).all():
            break
        member = csr_array(
            (np.ones(len(nearest)), (nearest, np.arange(len(nearest)))),
            shape=(num_topics, len(nearest)),
        )
        sums = (member @ rows).toarray()
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.divide(sums, lengths, out=centres, where=lengths > 0)
    return centres, float((rows @ centres.T).max(axis=1).sum())


def _far_apart(rows: csr_array, num: int, rng: np.random.Generator) -> Array:
    """Texts as first centres, each drawn by its distance from those before."""
    drawn = [int(rng.integers(rows.shape[0]))]
    for _ in range(num - 1):
        likeness = (rows @ rows[drawn].T).toarray().max(axis=1)
        weights = np.maximum(1 - likeness, 0) + 1e-12
        drawn.append(int(rng.choice(rows.shape[0], p=weights / weights.sum())))
    return np.asarray(rows[drawn].toarray())
