"""Pairs of annotators who agree far more than their skills explain, as when one copies the other.

Two independent annotators agree because both see what is right. What is right is judged here by
the others on each item, never by the pair, which would vouch for itself. Items differ in how hard
they are, which makes everybody agree a little more than skills alone explain; the excess of the
median pair, scaled to the pair's skills, is therefore added to what is expected: a pair stands out
from the other pairs of the same project or not at all. With two annotators nobody can stand out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import binom

from heedful.stats.dawid_skene import DawidSkene, fit_dawid_skene, judge, log_votes
from heedful.stats.multiple import holm
from heedful.stats.votes import Codes, Votes

Array = NDArray[np.float64]
NUM_SUSPECTS = 3  # judged again at the price of a fit each


@dataclass(frozen=True, slots=True, kw_only=True)
class PairAgreement:
    """How often two annotators agreed and should have. Made by ``pair_agreements``, shown to teams.

    ``expected`` is a share, 0 to 1, of ``num_common`` items; ``p_value`` that of as much agreement
    by chance, ``adjusted`` by Holm over all pairs. ``PairAgreement(annotators=("ann", "bob"),
    num_common=60, num_agreed=59, expected=0.7, p_value=1e-8, adjusted=1e-7)``
    """

    annotators: tuple[str, str]
    num_common: int
    num_agreed: int
    expected: float
    p_value: float
    adjusted: float


def copied_pairs(
    votes: Votes, *, alpha: float = 0.001, min_common: int = 20, full_from: int = 20
) -> tuple[PairAgreement, ...]:
    """The pairs that agree too well for chance at level ``alpha`` over all pairs.

    Found one at a time: a copied pair outvotes honest annotators on the items it shares and so
    spoils the skills that everybody is judged by. The most suspect pairs are therefore judged
    again by skills learnt without the second one's answers to their common items, the worst is
    taken out for good when it is still suspect, and the rest is looked at anew, with Holm's
    correction at each turn. Arguments and errors as ``pair_agreements``. The result's names go into
    ``drop_copies``. ``alpha`` is as good as the skills are known: 1 false pair came up in 30
    projects of 4 careful and 2 guessing annotators with a fifth of the items near a coin toss,
    none in 60 projects of 20 annotators. Ask before you accuse.
    """
    found: list[PairAgreement] = []
    left = first_votes(votes)
    while True:
        pairs = pair_agreements(left, min_common=min_common, full_from=full_from)
        if not pairs:
            return tuple(found)
        again = [_judged_apart(left, pair, min_common, full_from) for pair in pairs[:NUM_SUSPECTS]]
        worst = min(again, key=lambda pair: pair.p_value)
        adjusted = min(1.0, worst.p_value * len(pairs))
        if adjusted >= alpha:
            return tuple(found)
        found.append(replace(worst, adjusted=adjusted))
        left = drop_copies(left, (worst.annotators,))


def pair_agreements(
    votes: Votes, *, min_common: int = 20, full_from: int = 20
) -> tuple[PairAgreement, ...]:
    """Every pair with at least ``min_common`` items in common, most suspect first.

    Of repeated answers the first counts. The p-value is the upper tail of a binomial with the mean
    expected agreement, which is wider than the sum of unequal chances that it stands for.
    ``full_from`` and errors as in ``fit_dawid_skene``. To tell who copied use ``copied_pairs``.
    """
    once = first_votes(votes)
    return _pair_agreements(once, _fit(once, full_from), min_common)


def _fit(votes: Votes, full_from: int) -> DawidSkene:
    # Agreement is counted in whole items, so probabilities need no more digits than this.
    return fit_dawid_skene(votes, full_from=full_from, tolerance=1e-3)


def _judged_apart(
    votes: Votes, suspect: PairAgreement, min_common: int, full_from: int
) -> PairAgreement:
    """The pair again, by skills learnt without the second one's answers to common items."""
    apart = _fit(drop_copies(votes, (suspect.annotators,)), full_from)
    pairs = _pair_agreements(votes, judge(votes, apart), min_common)
    return next(pair for pair in pairs if pair.annotators == suspect.annotators)


def _pair_agreements(once: Votes, model: DawidSkene, min_common: int) -> tuple[PairAgreement, ...]:
    first, second = _co_votes(once)
    num_people = len(once.annotators)
    keys, pair, num_common = np.unique(
        once.annotator[first] * num_people + once.annotator[second],
        return_inverse=True,
        return_counts=True,
    )
    is_kept = num_common >= min_common
    if not is_kept.any():
        return ()
    rows = is_kept[pair]
    first, second = first[rows], second[rows]
    pair = (np.cumsum(is_kept) - 1)[pair[rows]]
    keys, num_common = keys[is_kept], num_common[is_kept]
    num_agreed = np.bincount(pair, weights=once.label[first] == once.label[second])
    chance = np.bincount(pair, weights=_expected(once, model, first, second, pair)) / num_common
    skill = np.diagonal(model.confusion, axis1=1, axis2=2) @ model.shares
    above_chance = np.maximum(skill - 1 / len(once.categories), 0.0)
    sight = above_chance[keys // num_people] * above_chance[keys % num_people]
    excess = _typical_excess(num_agreed / num_common - chance, sight, num_common)
    expected = np.minimum(chance + excess * sight, 1.0)
    p_values = binom.sf(num_agreed - 1, num_common, expected)
    adjusted = holm(p_values)
    return tuple(
        PairAgreement(
            annotators=(
                once.annotators[keys[i] // num_people],
                once.annotators[keys[i] % num_people],
            ),
            num_common=int(num_common[i]),
            num_agreed=int(num_agreed[i]),
            expected=float(expected[i]),
            p_value=float(p_values[i]),
            adjusted=float(adjusted[i]),
        )
        for i in np.argsort(p_values, kind="stable")
    )


def _typical_excess(excess: Array, sight: Array, num_common: Codes) -> float:
    """Excess agreement per unit of ``sight``: the weighted median of the pairs, at least 0.

    Hard items make two annotators fail together in proportion to how far each sees beyond chance
    at all, and guessers not; so ``sight`` is the product of the two. A median, because the copied
    pairs are among those that it is taken over.
    """
    seeing = np.flatnonzero(sight > 0)
    if len(seeing) == 0:
        return 0.0
    ratio = excess[seeing] / sight[seeing]
    order = np.argsort(ratio)
    weight = np.cumsum((num_common * sight)[seeing][order])
    middle = np.searchsorted(weight, weight[-1] / 2)
    return max(0.0, float(ratio[order[middle]]))


def first_votes(votes: Votes) -> Votes:
    """The votes without an annotator's second and later answers to the same item."""
    visit = votes.item * len(votes.annotators) + votes.annotator
    return _select(votes, np.sort(np.unique(visit, return_index=True)[1]))


def drop_copies(votes: Votes, pairs: tuple[tuple[str, str], ...]) -> Votes:
    """The votes with one of two answers left wherever both annotators of a pair answered.

    A copied answer is no second opinion, whoever copied: a consensus that counts both is wrong
    more often than the majority. The answers of the pair's first annotator stay.
    """
    codes = [(votes.annotators.index(one), votes.annotators.index(two)) for one, two in pairs]
    return _select(votes, np.flatnonzero(without_copies(votes.item, votes.annotator, codes)))


def without_copies(
    item: Codes, annotator: Codes, pairs: Sequence[tuple[int, int]]
) -> NDArray[np.bool_]:
    """Which answers ``drop_copies`` keeps, of whatever was answered: a mask, shape [answers]."""
    is_kept = np.ones(len(item), dtype=bool)
    for original, copy in pairs:
        is_original, is_copy = annotator == original, annotator == copy
        is_kept &= ~(is_copy & np.isin(item, item[is_original & is_kept]))
    return is_kept


def _select(votes: Votes, index: Codes) -> Votes:
    return Votes(
        item=votes.item[index],
        annotator=votes.annotator[index],
        label=votes.label[index],
        items=votes.items,
        annotators=votes.annotators,
        categories=votes.categories,
    )


def _co_votes(votes: Votes) -> tuple[Codes, Codes]:
    """Indices of all pairs of votes on the same item, the smaller annotator code first."""
    order = np.lexsort((votes.annotator, votes.item))
    item = votes.item[order]
    firsts, seconds = [], []
    for step in range(1, int(np.bincount(item).max())):
        start = np.flatnonzero(item[:-step] == item[step:])
        firsts.append(order[start])
        seconds.append(order[start + step])
    if not firsts:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    return np.concatenate(firsts), np.concatenate(seconds)


def _expected(votes: Votes, model: DawidSkene, first: Codes, second: Codes, pair: Codes) -> Array:
    """Chance of agreement of each pair of votes if they were independent given the right label."""
    log_all = model.log_probabilities[votes.item[first]]
    logs = log_votes(votes, model.confusion)
    log_others = log_all - logs[first] - logs[second]
    confusions = [
        _confusion_without_partner(votes, model, vote, pair, log_others) for vote in (first, second)
    ]
    same = np.einsum("pkc,pkc->pk", *confusions)
    return np.asarray((softmax(log_others, axis=1) * same[pair]).sum(axis=1))


def _confusion_without_partner(
    votes: Votes, model: DawidSkene, vote: Codes, pair: Codes, log_others: Array
) -> Array:
    """Confusion, one per pair, of one side of it, its common items judged without the partner."""
    num_pairs, num_categories = int(pair.max()) + 1, len(votes.categories)
    person = np.zeros(num_pairs, dtype=np.int64)
    person[pair] = votes.annotator[vote]
    all_said = _sum_said(
        votes.annotator,
        votes.label,
        np.exp(model.log_probabilities[votes.item]),
        len(votes.annotators),
    )
    said, judged = votes.label[vote], np.exp(model.log_probabilities[votes.item[vote]])
    apart = np.maximum(all_said[person] - _sum_said(pair, said, judged, num_pairs), 0.0)
    confusion = model.confusion[person]
    for _ in range(20):  # by then it moves by less than 1e-3, far below the noise
        judged = softmax(log_others + np.log(confusion[pair, :, said]), axis=1)
        total = apart + _sum_said(pair, said, judged, num_pairs) + 1 / num_categories
        confusion = total / total.sum(axis=2, keepdims=True)
    return confusion


def _sum_said(group: Codes, said: Codes, judged: Array, num_groups: int) -> Array:
    """``sums[g, k, c]``: the weight of right label k over the votes of group g for c."""
    num_categories = judged.shape[1]
    cell = group * num_categories + said
    size = num_groups * num_categories
    sums = np.array([np.bincount(cell, column, size) for column in judged.T], dtype=float)
    return sums.reshape(num_categories, num_groups, num_categories).transpose(1, 0, 2)
