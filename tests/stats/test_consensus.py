import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.stats.consensus import majority
from heedful.stats.dawid_skene import dawid_skene, fit_dawid_skene
from heedful.stats.votes import encode_votes

from .simulate import crowd

# Dawid and Skene 1979, table 1: 45 patients, observer 1 thrice, observers 2 to 5 once.
TABLE = """
1111111 3334344 1122122 2223121 2223222 2223322 1222111 3333433 2222223 2322223 4444444 2223343
1111111 2223212 1211111 1112111 1111111 1111111 2222221 2221322 2222222 2222221 2223222 2212222
1111111 1111111 2322222 1111111 1111111 1121121 1111111 3333233 1111111 2222222 2223232 4434343
2212232 2323233 3333432 1111111 1111111 1212111 2322222 1211111 2222222
"""
OBSERVERS = "1112345"


def patients():
    cells = [
        (f"{i:02}", o, c)
        for i, row in enumerate(TABLE.split())
        for o, c in zip(OBSERVERS, row, strict=True)
    ]
    return encode_votes(*zip(*cells, strict=True))


def slow_dawid_skene(counts, num_steps):
    """Equations 2.3 to 2.5 of the paper as loops over counts[patient, observer, label]."""
    num_items, num_people, num = counts.shape
    q = counts.sum(1) / counts.sum((1, 2))[:, None]
    for _ in range(num_steps):
        shares = q.mean(0)
        errors = np.zeros((num_people, num, num))
        for a in range(num_people):
            for k in range(num):
                row = sum(q[i, k] * counts[i, a] for i in range(num_items))
                errors[a, k] = row / row.sum()
        for i in range(num_items):
            joint = [shares[k] * np.prod(errors[:, k] ** counts[i]) for k in range(num)]
            q[i] = np.array(joint) / sum(joint)
    return shares, errors, q


def test_dawid_skene_matches_the_published_shares():
    model = fit_dawid_skene(patients(), full_from=0, pseudo_votes=0, tolerance=1e-7)
    np.testing.assert_allclose(model.shares, [0.40, 0.42, 0.11, 0.07], atol=5e-3)


def test_dawid_skene_equals_a_slow_loop():
    votes = patients()
    counts = np.zeros((45, 5, 4))
    np.add.at(counts, (votes.item, votes.annotator, votes.label), 1)
    shares, errors, q = slow_dawid_skene(counts, 60)
    model = fit_dawid_skene(votes, full_from=0, pseudo_votes=0, tolerance=1e-9)
    np.testing.assert_allclose(model.shares, shares, atol=1e-6)
    np.testing.assert_allclose(model.confusion, errors, atol=1e-6)
    np.testing.assert_allclose(np.exp(model.log_probabilities), q, atol=1e-6)


def test_one_coin_equals_enumeration_of_all_labellings():
    votes = encode_votes(*zip(*ENUMERABLE, strict=True))
    model = fit_dawid_skene(votes, full_from=100, tolerance=1e-12)
    right = np.diagonal(model.confusion, axis1=1, axis2=2)[:, 0]
    chance = np.zeros((3, 2))
    for truth in np.ndindex(2, 2, 2):
        joint = np.prod([model.shares[t] for t in truth])
        for i, a, c in zip(votes.item, votes.annotator, votes.label, strict=True):
            joint *= right[a] if truth[i] == c else 1 - right[a]
        for i, t in enumerate(truth):
            chance[i, t] += joint
    expected = chance / chance.sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(model.log_probabilities), expected, atol=1e-9)
    # The M-step's fixed point: expected right answers plus half a vote, over votes plus one.
    hits = np.zeros(3)
    np.add.at(hits, votes.annotator, expected[votes.item, votes.label])
    np.testing.assert_allclose(right, (hits + 0.5) / (np.bincount(votes.annotator) + 1), atol=1e-9)


ENUMERABLE = [
    ("i", "a", "x"), ("i", "b", "x"), ("i", "c", "y"),
    ("j", "a", "y"), ("j", "b", "y"), ("j", "c", "y"),
    ("k", "a", "x"), ("k", "c", "y"),
]  # fmt: skip


@pytest.mark.parametrize("full_from", [0, 60, 10_000])
def test_log_posterior_never_falls(full_from):
    votes = crowd(3, num_items=120, random_share=0.3).votes
    trace = fit_dawid_skene(votes, full_from=full_from).log_posterior
    assert len(trace) > 5
    assert np.diff(trace).min() > -1e-9


@pytest.mark.parametrize("full_from", [0, 10_000])
def test_dawid_skene_recovers_planted_skills(full_from):
    world = crowd(0, num_items=1500, num_annotators=10, random_share=0.3)
    skill = [s.value for s in dawid_skene(world.votes, full_from=full_from).skill]
    is_right = world.choice == world.truth[world.item]
    true = [is_right[world.annotator == a].mean() for a in range(10)]
    # 750 answers each: the standard error is 0.018, and more for doubtful labels.
    np.testing.assert_allclose(skill, true, atol=0.06)


@pytest.mark.parametrize("full_from", [0, 10_000])
def test_skill_intervals_cover_the_truth_as_often_as_they_say(full_from):
    rng = np.random.default_rng(0)
    skills = np.array([0.95, 0.9, 0.8, 0.8, 0.7, 0.6])
    covered = []
    for _ in range(30):
        truth = rng.integers(0, 2, 150)
        said = np.where(rng.random((6, 150)) < skills[:, None], truth, 1 - truth)
        cells = [(f"{i}", f"{a}", f"{said[a, i]}") for a in range(6) for i in range(150)]
        fitted = dawid_skene(encode_votes(*zip(*cells, strict=True)), full_from=full_from).skill
        covered += [s.low <= p <= s.high for s, p in zip(fitted, skills, strict=True)]
    # 180 intervals know 0.95 to 0.03; taking the others' skills as known costs about as much.
    assert 0.88 <= np.mean(covered) <= 1


def test_skill_of_an_annotator_who_answered_little_is_wide():
    votes = encode_votes(*zip(*ENUMERABLE, strict=True))
    assert all(s.high - s.low > 0.4 for s in dawid_skene(votes).skill)
    assert all(0 <= s.low <= s.value <= s.high <= 1 for s in dawid_skene(votes).skill)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_consensus_follows_renamed_annotators_and_permuted_votes(seed):
    world = crowd(seed % 50, num_items=40, num_annotators=6, overlap=3)
    votes = world.votes
    rng = np.random.default_rng(seed)
    order, new = rng.permutation(len(world.item)), rng.permutation(6)
    renamed = encode_votes(
        [votes.items[i] for i in votes.item[order]],
        [f"ann_{new[a]:03}" for a in votes.annotator[order]],
        [votes.categories[c] for c in votes.label[order]],
    )
    for fit in (majority, dawid_skene):
        before, after = fit(votes), fit(renamed)
        np.testing.assert_allclose(after.probabilities, before.probabilities, atol=1e-6)
        moved = [after.skill[new[a]].value for a in range(6)]
        np.testing.assert_allclose(moved, [s.value for s in before.skill], atol=1e-6)
        assert after.labels == before.labels


def test_majority_shows_ties_and_shares():
    votes = encode_votes(["i", "i", "j", "j", "j"], list("ababc"), list("xyxyy"))
    result = majority(votes)
    assert result.labels == (None, "y")
    np.testing.assert_allclose(result.probabilities, [[0.5, 0.5], [1 / 3, 2 / 3]])


def test_majority_skill_compares_with_the_others_only():
    # Alone against two: c is right in none of its answers although it is a third of each vote.
    votes = encode_votes(["i", "i", "i", "j", "j", "j"], list("abcabc"), list("xxyyyx"))
    skill = majority(votes).skill
    # a sees b and c disagree, which counts one half.
    assert [s.value for s in skill] == [0.5, 0.5, 0.0]
    assert skill[2].high > 0.5


def test_majority_skill_of_a_lone_annotator_is_unknown():
    result = majority(encode_votes(["i", "j"], ["a", "b"], ["x", "y"]))
    assert all(math.isnan(s.value) and s.num == 0 for s in result.skill)
    assert np.isnan(result.confusion).all()


def test_annotators_below_the_limit_get_one_coin_and_others_a_full_matrix():
    world = crowd(0, num_items=100, num_annotators=5, overlap=3)
    cells = [(n, a, c) for n, a, c in zip(world.item, world.annotator, world.choice, strict=True)]
    few = [cell for cell in cells if cell[1] != 0 or cell[0] < 20]
    votes = encode_votes(*zip(*[(str(i), str(a), str(c)) for i, a, c in few], strict=True))
    confusion = fit_dawid_skene(votes).confusion
    num = np.bincount(votes.annotator)
    is_symmetric = np.isclose(confusion[:, 0, 0], confusion[:, 1, 1])
    np.testing.assert_array_equal(is_symmetric, num < 20)


def test_consensus_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match="at least 2 categories"):
        dawid_skene(encode_votes(["i"], ["a"], ["x"]))
    with pytest.raises(ArithmeticError, match="after 2 steps"):
        dawid_skene(patients(), max_steps=2)
    with pytest.raises(ValueError, match="2 items, 1 annotators"):
        encode_votes(["i", "j"], ["a"], ["x", "y"])
