import math
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.stats.cycles import count_cycles, cyclic_triples, expected_cycle_share, zeta


def random_tournament(rng, num):
    upper = np.triu(rng.random((num, num)) < 0.5, 1)
    return upper | np.tril(~upper.T, -1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), num=st.integers(3, 7))
def test_cycles_equal_enumeration(seed, num):
    rng = np.random.default_rng(seed)
    beats = random_tournament(rng, num)
    hidden = np.triu(rng.random((num, num)) < 0.2, 1)
    beats &= ~(hidden | hidden.T)
    triples = cyclic = 0
    for triple in combinations(range(num), 3):
        triples += all(beats[i, j] or beats[j, i] for i, j in combinations(triple, 2))
        cyclic += any(
            beats[i, j] and beats[j, k] and beats[k, i] for i, j, k in permutations(triple)
        )
    ours = cyclic_triples(beats)
    assert (ours.num_cyclic, ours.num_triples) == (cyclic, triples)


def every_tournament(num):
    pairs = list(combinations(range(num), 2))
    for bits in np.ndindex(*[2] * len(pairs)):
        beats = np.zeros((num, num), dtype=bool)
        for (i, j), bit in zip(pairs, bits, strict=True):
            beats[(i, j) if bit else (j, i)] = True
        yield beats


@pytest.mark.parametrize(("num", "most"), [(3, 1), (4, 2), (5, 5)])
def test_zeta_is_one_without_cycles_and_zero_with_the_most(num, most):
    # Kendall and Babington Smith 1940: at most (n^3 - n) / 24, or (n^3 - 4n) / 24 for even n.
    cyclic = np.array([cyclic_triples(beats).num_cyclic for beats in every_tournament(num)])
    zetas = np.array([zeta(beats) for beats in every_tournament(num)])
    assert cyclic.max() == most
    assert (zetas[cyclic == 0] == 1).all()
    np.testing.assert_allclose(zetas[cyclic == most], 0, atol=1e-12)
    assert (cyclic == 0).sum() == math.factorial(num)


def test_zeta_is_undefined_when_pairs_lack_a_preference():
    assert math.isnan(zeta([[0, 1, 1], [0, 0, 0], [0, 0, 0]]))


def test_expected_share_is_a_quarter_for_coins_and_exact_by_enumeration():
    assert expected_cycle_share(np.full((5, 5), 0.5)) == pytest.approx(0.25)
    p = np.array([[0.5, 0.9, 0.4], [0.1, 0.5, 0.7], [0.6, 0.3, 0.5]])
    expected = sum(
        math.prod(p[i, j] for i, j in np.argwhere(beats)) * cyclic_triples(beats).num_cyclic
        for beats in every_tournament(3)
    )
    assert expected_cycle_share(p) == pytest.approx(expected)


def test_planted_cycles_exceed_the_share_of_noise():
    rng = np.random.default_rng(0)
    scores = np.arange(4.0)
    chance = 1 / (1 + np.exp(scores - scores[:, None]))
    upper = np.triu(rng.random((500, 4, 4)) < chance, 1)
    noisy = [cyclic_triples(u | np.tril(~u.T, -1)) for u in upper]
    share = sum(c.num_cyclic for c in noisy) / sum(c.num_triples for c in noisy)
    assert share == pytest.approx(expected_cycle_share(chance), abs=0.02)  # standard error 0.007
    circle = count_cycles(["p"] * 3, ["a", "b", "c"], ["b", "c", "a"])
    assert circle.share == 1


def test_cycles_stay_within_a_prompt_and_use_net_preferences():
    assert count_cycles(["p", "p", "q"], list("abc"), list("bca")).num_triples == 0
    prompts, preferred, rejected = ["p"] * 5, list("abcaa"), list("bcacc")
    # c over a once, a over c twice: the net preference makes the triple consistent.
    ours = count_cycles(prompts, preferred, rejected)
    assert (ours.num_cyclic, ours.num_triples) == (0, 1)
    # Once each is no preference, so no triple either.
    assert math.isnan(count_cycles(prompts[:4], preferred[:4], rejected[:4]).share)


def test_a_group_can_run_in_a_circle_when_no_member_does():
    members = ["abc", "bca", "cab"]
    pairs = [pair for order in members for pair in combinations(order, 2)]
    assert all(
        count_cycles(["p"] * 3, *zip(*combinations(order, 2), strict=True)).num_cyclic == 0
        for order in members
    )
    assert count_cycles(["p"] * 9, *zip(*pairs, strict=True)).num_cyclic == 1


def test_cycles_refuse_contradictions_and_bad_lists():
    with pytest.raises(ValueError, match="give the net preference"):
        cyclic_triples([[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="1 prompts, 2 preferred"):
        count_cycles(["p"], ["a", "b"], ["b"])
    with pytest.raises(ValueError, match="a triple needs 3"):
        expected_cycle_share([[0.5]])
