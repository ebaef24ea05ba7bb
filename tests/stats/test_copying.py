import numpy as np
import pytest
from scipy.stats import binom

from heedful.stats.copying import copied_pairs, drop_copies, first_votes, pair_agreements
from heedful.stats.dawid_skene import dawid_skene
from heedful.stats.votes import encode_votes

from .simulate import crowd

PAIR = ("ann_000", "ann_001")


@pytest.mark.parametrize("copy_share", [0.8, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_planted_copied_pair_is_found_alone(seed, copy_share):
    found = copied_pairs(crowd(seed, copy_share=copy_share).votes)
    assert [pair.annotators for pair in found] == [PAIR]


@pytest.mark.parametrize("seed", range(20))
def test_clean_annotators_raise_no_alarm(seed):
    clean = {"random_share": 0.3 * (seed % 2), "hard_share": 0.15 * (seed % 3)}
    assert copied_pairs(crowd(seed, **clean).votes) == ()


def test_a_copying_ring_of_three_is_found_link_by_link():
    world = crowd(0, num_items=300, num_annotators=12)
    choice = {(i, a): c for i, a, c in zip(world.item, world.annotator, world.choice, strict=True)}
    ring = {(i, a): choice[i, 0] if a in (1, 2) and (i, 0) in choice else c
            for (i, a), c in choice.items()}  # fmt: skip
    cells = [(f"{i}", f"{a:02}", f"{c}") for (i, a), c in ring.items()]
    found = copied_pairs(encode_votes(*zip(*cells, strict=True)))
    assert {pair.annotators for pair in found} == {("00", "01"), ("00", "02")}


def test_expected_agreement_matches_planted_skills():
    world = crowd(0, num_items=2000, num_annotators=8, overlap=5, skill=(0.6, 0.95))
    is_right = world.choice == world.truth[world.item]
    skill = {f"ann_{a:03}": is_right[world.annotator == a].mean() for a in range(8)}
    for pair in pair_agreements(world.votes):
        a, b = (skill[name] for name in pair.annotators)
        # About 700 items in common; skills learnt from the others are known to 0.02.
        assert pair.expected == pytest.approx(a * b + (1 - a) * (1 - b), abs=0.06)
        tail = binom.sf(pair.num_agreed - 1, pair.num_common, pair.expected)
        assert pair.p_value == pytest.approx(tail)


def test_p_values_of_clean_pairs_are_no_smaller_than_chance():
    p_values = [p.p_value for seed in range(6) for p in pair_agreements(crowd(seed).votes)]
    # 180 pairs: 5 % are 9, known to 3.
    assert np.mean(np.array(p_values) < 0.05) < 0.1


def test_pairs_follow_renamed_annotators():
    world = crowd(1, copy_share=1.0)
    votes = world.votes
    renamed = encode_votes(
        [votes.items[i] for i in votes.item],
        [f"{99 - a}" for a in votes.annotator],
        [votes.categories[c] for c in votes.label],
    )
    assert [p.annotators for p in copied_pairs(renamed)] == [("98", "99")]
    ours, theirs = (pair_agreements(v)[0] for v in (votes, renamed))
    assert theirs.expected == pytest.approx(ours.expected, abs=1e-6)


def test_pairs_with_few_common_items_are_left_out():
    votes = crowd(0, num_items=30, num_annotators=4, overlap=2).votes
    assert pair_agreements(votes, min_common=31) == ()
    assert pair_agreements(encode_votes(["i", "j"], ["a", "b"], ["x", "y"])) == ()


def test_first_votes_keep_the_first_answer():
    votes = encode_votes(list("iiij"), list("aaba"), list("xyyy"))
    once = first_votes(votes)
    answers = list(zip(once.item, once.annotator, once.label, strict=True))
    assert answers == [(0, 0, 0), (0, 1, 1), (1, 0, 1)]


def test_drop_copies_leaves_one_answer_where_both_answered():
    votes = encode_votes(list("iijk"), list("abba"), list("xxyy"))
    left = drop_copies(votes, (("a", "b"),))
    answers = [
        (votes.items[i], votes.annotators[a])
        for i, a in zip(left.item, left.annotator, strict=True)
    ]
    assert answers == [("i", "a"), ("j", "b"), ("k", "a")]


def test_an_annotator_left_without_answers_has_an_unknown_skill():
    votes = drop_copies(crowd(0, num_items=30, num_annotators=3, overlap=3).votes, (PAIR,))
    for pseudo_votes in (0.0, 1.0):
        skill = dawid_skene(votes, pseudo_votes=pseudo_votes).skill[1]
        assert (skill.value, skill.num) == (0.5, 0)
        assert (skill.low, skill.high) == pytest.approx((0, 1), abs=1e-6)
