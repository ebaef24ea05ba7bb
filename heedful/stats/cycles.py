"""Preferences that run in a circle: A over B, B over C, C over A.

A person's cycles show carelessness or answers that differ on several counts at once; a group's
can arise from members who are each free of them (Condorcet). Noise makes cycles as well, so
compare a share with ``expected_cycle_share`` of the noise, or with 1/4, that of tossing coins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.stats.votes import encode

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycles:
    """How many triples run in a circle. Made by ``count_cycles``, shown on quality pages.

    ``num_triples`` counts triples with a strict preference in all three pairs, ``num_cyclic`` those
    in a circle. ``Cycles(num_cyclic=1, num_triples=4)``
    """

    num_cyclic: int
    num_triples: int

    @property
    def share(self) -> float:
        """Cyclic triples among all, 0 to 1; NaN without triples."""
        return self.num_cyclic / self.num_triples if self.num_triples else float("nan")


def count_cycles(
    prompts: Sequence[str], preferred: Sequence[str], rejected: Sequence[str]
) -> Cycles:
    """Cycles of one person or group, over triples of the same prompt's candidates.

    One entry per strict preference; leave ties out. Where a pair was answered several times the
    more frequent direction counts, and a draw counts as no preference. Candidates of different
    prompts never form a triple. Raises ``ValueError`` for lists of different lengths.
    """
    if not len(prompts) == len(preferred) == len(rejected):
        raise ValueError(
            f"{len(prompts)} prompts, {len(preferred)} preferred and {len(rejected)} rejected; "
            "give one of each per preference"
        )
    by_prompt: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        by_prompt.setdefault(prompt, []).append(row)
    tables = [
        _beats([preferred[r] for r in rows], [rejected[r] for r in rows])
        for rows in by_prompt.values()
    ]
    found = [cyclic_triples(table) for table in tables]
    return Cycles(
        num_cyclic=sum(cycles.num_cyclic for cycles in found),
        num_triples=sum(cycles.num_triples for cycles in found),
    )


def cyclic_triples(beats: ArrayLike) -> Cycles:
    """Cycles in ``beats[i, j]``, true where i is preferred to j; pairs may lack a preference.

    A circle of three is one of the closed walks of three steps, of which it makes three. Raises
    ``ValueError`` when i is preferred to j and j to i.
    """
    table = np.asarray(beats, dtype=bool).astype(float)
    if (table * table.T).any():
        raise ValueError("two candidates are each preferred to the other; give the net preference")
    joined = table + table.T
    return Cycles(
        num_cyclic=round(np.einsum("ij,jk,ki->", table, table, table) / 3),
        num_triples=round(np.einsum("ij,jk,ki->", joined, joined, joined) / 6),
    )


def zeta(beats: ArrayLike) -> float:
    """Coefficient of consistence: 1 without cycles, 0 with as many as n candidates can have.

    ``beats`` as for ``cyclic_triples``; NaN unless all pairs of at least 3 have a preference, for
    which it is defined. Kendall and Babington Smith 1940, section 6.
    """
    table = np.asarray(beats, dtype=bool)
    num = len(table)
    if num < 3 or table.sum() != num * (num - 1) / 2:
        return float("nan")
    most = (num**3 - (num if num % 2 else 4 * num)) / 24
    return 1 - cyclic_triples(table).num_cyclic / most


def expected_cycle_share(probabilities: ArrayLike) -> float:
    """Chance that a random triple runs in a circle when answers are independent given these.

    ``probabilities[i, j]`` of preferring i to j, such as sigmoid of a score difference. Raises
    ``ValueError`` for fewer than 3 candidates.
    """
    p = np.asarray(probabilities, dtype=float)
    if len(p) < 3:
        raise ValueError(f"there are {len(p)} candidates; a triple needs 3")
    chances = [
        p[i, j] * p[j, k] * p[k, i] + p[j, i] * p[k, j] * p[i, k]
        for i, j, k in combinations(range(len(p)), 3)
    ]
    return float(np.mean(chances))


def _beats(preferred: Sequence[str], rejected: Sequence[str]) -> NDArray[np.bool_]:
    names, codes = encode([*preferred, *rejected])
    net = np.zeros((len(names), len(names)))
    np.add.at(net, (codes[: len(preferred)], codes[len(preferred) :]), 1.0)
    return np.asarray(net > net.T)
