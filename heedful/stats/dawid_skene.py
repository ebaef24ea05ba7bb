"""Consensus that weighs each vote by the skill of its annotator, learnt from the votes alone.

Each item has one right label; annotator a says c where k is right with probability e[a, k, c],
independently of the others. Expectation maximisation alternates between the labels given the
skills and the skills given the labels. It starts from the vote shares, so it needs annotators who
are right more often than not on the whole, and it takes independence at its word: look for
copied answers with ``copying`` beside it.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import log_softmax, logsumexp, softmax

from heedful.stats.consensus import Consensus, likeliest, own_counts
from heedful.stats.intervals import Interval, normal_quantile
from heedful.stats.votes import Votes

Array = NDArray[np.float64]
TINY = 1e-300  # stands for 0 under a logarithm


@dataclass(frozen=True, slots=True, kw_only=True)
class DawidSkene:
    """A fitted model. Made by ``fit_dawid_skene``, read by ``dawid_skene`` and ``copying``.

    ``shares[k]`` of items whose right label is k; ``confusion[a, k, c]``; ``log_probabilities[i,
    k]`` of item i being k; ``log_posterior`` after each step, which never falls. One item, one
    annotator who said 0 of 2: ``shares == [0.75, 0.25]`` or so.
    """

    shares: Array
    confusion: Array
    log_probabilities: Array
    log_posterior: Array


def dawid_skene(
    votes: Votes,
    *,
    full_from: int = 20,
    pseudo_votes: float = 1.0,
    tolerance: float = 1e-5,
    max_steps: int = 2000,
    confidence: float = 0.95,
) -> Consensus:
    """Consensus labels with probabilities and every annotator's chance of being right.

    Arguments and errors as ``fit_dawid_skene``. The interval of a skill holds where the likelihood
    of the annotator's votes is within chi-squared's reach of its best when the whole confusion
    moves towards always right or always wrong, given what the *others* say about each item; it
    counts the doubt about labels, but takes the others' skills as known, so it is a little narrow
    with few annotators. ``num`` counts votes. Pure guessing has skill 1 / number of categories.
    """
    model = fit_dawid_skene(
        votes,
        full_from=full_from,
        pseudo_votes=pseudo_votes,
        tolerance=tolerance,
        max_steps=max_steps,
    )
    probabilities = np.exp(model.log_probabilities)
    return Consensus(
        items=votes.items,
        annotators=votes.annotators,
        categories=votes.categories,
        labels=likeliest(probabilities, votes.categories),
        probabilities=probabilities,
        skill=_skill_intervals(votes, model, confidence),
        confusion=model.confusion,
    )


def fit_dawid_skene(
    votes: Votes,
    *,
    full_from: int = 20,
    pseudo_votes: float = 1.0,
    tolerance: float = 1e-5,
    max_steps: int = 2000,
) -> DawidSkene:
    """The likeliest skills and the probabilities of labels that follow from them.

    An annotator with fewer than ``full_from`` votes gets one number, the chance of being right,
    with errors spread evenly (one coin); the others get a full confusion matrix. 0 and a huge
    number give the two pure models. Each annotator, each row of a confusion matrix and the shares
    of the labels start with ``pseudo_votes`` spread evenly; 0 is maximum likelihood. Stops when no
    probability moves by ``tolerance``; raises ``ArithmeticError`` when ``max_steps`` do not
    suffice and ``ValueError`` when all votes are for one category. Dawid and Skene 1979, equations
    2.3 to 2.5, with a Dirichlet prior; one coin: Zhang et al. 2014 (arXiv:1406.3824), section 2.
    """
    num_people, num_categories = len(votes.annotators), len(votes.categories)
    if num_categories < 2:
        raise ValueError(
            f"all votes are {votes.categories[0]!r}; skill needs at least 2 categories to show"
        )
    tally = _tally(votes)
    num_votes = np.bincount(votes.annotator, minlength=num_people)
    is_one_coin = num_votes < full_from
    prior = pseudo_votes / num_categories
    counts = votes.counts()
    probabilities = counts / counts.sum(axis=1, keepdims=True)
    trace: list[float] = []
    for _ in range(max_steps):
        shares = _normalise(probabilities.sum(axis=0) + prior)
        said = (tally.T @ probabilities).reshape(num_people, num_categories, num_categories)
        confusion = _confusion(said.transpose(0, 2, 1), is_one_coin, prior)
        log_joint = _log_joint(tally, shares, confusion)
        trace.append(
            float(logsumexp(log_joint, axis=1).sum())
            + _log_prior(shares, confusion, is_one_coin, prior)
        )
        previous, probabilities = probabilities, softmax(log_joint, axis=1)
        if np.abs(probabilities - previous).max() < tolerance:
            return DawidSkene(
                shares=shares,
                confusion=confusion,
                log_probabilities=log_softmax(log_joint, axis=1),
                log_posterior=np.array(trace),
            )
    raise ArithmeticError(
        f"a probability still moved by {np.abs(probabilities - previous).max():.2g} after "
        f"{max_steps} steps; raise max_steps or tolerance, or collect more votes an item"
    )


def judge(votes: Votes, model: DawidSkene) -> DawidSkene:
    """The model with the probabilities of labels that its skills give to these votes.

    The votes may be others than it was fitted on, with the same annotators and categories.
    """
    log_joint = _log_joint(_tally(votes), model.shares, model.confusion)
    return replace(model, log_probabilities=log_softmax(log_joint, axis=1))


def log_votes(votes: Votes, confusion: Array) -> Array:
    """``log e[a, k, c]`` of each vote, one row a vote and one column a right label k."""
    return np.log(np.maximum(confusion[votes.annotator, :, votes.label], TINY))


def _tally(votes: Votes) -> csr_array:
    """How often item i (row) was given label c by annotator a (column a C + c)."""
    num_categories = len(votes.categories)
    columns = votes.annotator * num_categories + votes.label
    shape = (len(votes.items), len(votes.annotators) * num_categories)
    return csr_array((np.ones(len(columns)), (votes.item, columns)), shape=shape)


def _log_joint(tally: csr_array, shares: Array, confusion: Array) -> Array:
    rows = confusion.transpose(0, 2, 1).reshape(-1, len(shares))
    log_joint = tally @ np.log(np.maximum(rows, TINY)) + np.log(np.maximum(shares, TINY))
    return np.asarray(log_joint)


def _confusion(said: Array, is_one_coin: NDArray[np.bool_], prior: float) -> Array:
    """The M-step; ``said[a, k, c]`` is the expected count of c where k is right."""
    num_categories = said.shape[1]
    confusion = _normalise(said + prior)
    right = np.trace(said, axis1=1, axis2=2) + prior
    total = said.sum(axis=(1, 2)) + prior * num_categories
    chance = np.full_like(total, 1 / num_categories)
    skill = np.divide(right, total, out=chance, where=total > 0)
    is_right = np.eye(num_categories, dtype=bool)
    one_coin = np.where(
        is_right, skill[:, None, None], (1 - skill[:, None, None]) / (num_categories - 1)
    )
    confusion[is_one_coin] = one_coin[is_one_coin]
    return confusion


def _log_prior(
    shares: Array, confusion: Array, is_one_coin: NDArray[np.bool_], prior: float
) -> float:
    if prior == 0:
        return 0.0
    logs = np.log(np.maximum(confusion, TINY))
    # One row stands for all of a one-coin annotator's; spread evenly, it has the same prior.
    return prior * float(
        np.log(shares).sum() + logs[~is_one_coin].sum() + logs[is_one_coin, 0].sum()
    )


def _normalise(weights: Array) -> Array:
    totals = weights.sum(axis=-1, keepdims=True)
    even = np.full_like(weights, 1 / weights.shape[-1])
    return np.asarray(np.divide(weights, totals, out=even, where=totals > 0))


def _skill_intervals(votes: Votes, model: DawidSkene, confidence: float) -> tuple[Interval, ...]:
    limit = normal_quantile(confidence) ** 2 / 2
    num_votes = np.bincount(votes.annotator, minlength=len(votes.annotators))
    diagonal = np.diagonal(model.confusion, axis1=1, axis2=2)
    skill = diagonal @ model.shares
    others = softmax(_log_others(votes, model), axis=1)
    said = model.confusion[votes.annotator, :, votes.label]
    is_said = np.eye(len(votes.categories))[votes.label]
    now = np.maximum((others * said).sum(axis=1), TINY)
    if_right = (others * is_said).sum(axis=1)
    wrong = np.maximum(1 - diagonal[votes.annotator], TINY)
    if_wrong = (others * (1 - is_said) * said / wrong).sum(axis=1)
    up = _reach(votes.annotator, if_right / now, limit, len(votes.annotators))
    down = _reach(votes.annotator, if_wrong / now, limit, len(votes.annotators))
    return tuple(
        Interval(value=float(s), low=float(s * (1 - d)), high=float(s + u * (1 - s)), num=int(n))
        for s, d, u, n in zip(skill, down, up, num_votes, strict=True)
    )


def _log_others(votes: Votes, model: DawidSkene) -> Array:
    """Log probabilities, up to a constant, of each vote's item without its annotator's votes."""
    own = own_counts(votes)
    logs = np.log(np.maximum(model.confusion, TINY))[votes.annotator]
    return np.asarray(model.log_probabilities[votes.item] - np.einsum("nc,nkc->nk", own, logs))


def _reach(person: NDArray[np.int64], ratio: Array, limit: float, num_people: int) -> Array:
    """The largest t in [0, 1] at which mixing in t of the alternative costs ``limit`` nats.

    ``ratio`` is the likelihood of each vote under the alternative over that now. The loss is
    convex in t, so halving finds the one crossing.
    """
    low, high = np.zeros(num_people), np.ones(num_people)
    for _ in range(30):
        middle = (low + high) / 2
        gain = np.log(1 + middle[person] * (ratio - 1))
        is_within = -np.bincount(person, weights=gain, minlength=num_people) <= limit
        low, high = np.where(is_within, middle, low), np.where(is_within, high, middle)
    return low
