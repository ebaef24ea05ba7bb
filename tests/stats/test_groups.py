import math

import numpy as np
import pytest
from scipy.stats import ttest_ind

from heedful.stats.groups import compare_groups


def answers(rng, shares, *, num_people=15, num_each=20, spread=0.0):
    """Groups, annotators and points, with a share per group that varies between its people."""
    rows = []
    for group, share in shares.items():
        for person in range(num_people):
            own = np.clip(share + spread * rng.normal(), 0, 1)
            rows += [
                (group, f"{group}{person}", float(rng.random() < own)) for _ in range(num_each)
            ]
    return tuple(zip(*rows, strict=True))


def test_equal_counts_give_welch_on_the_annotators_shares():
    groups, people, points = answers(np.random.default_rng(0), {"x": 0.6, "y": 0.4}, spread=0.2)
    ours = compare_groups(groups, people, points).differences[0]
    shares = np.array(points).reshape(2, 15, 20).mean(axis=2)
    theirs = ttest_ind(*shares, equal_var=False)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    interval = theirs.confidence_interval()
    assert (ours.difference.low, ours.difference.high) == pytest.approx(tuple(interval))
    assert ours.difference.value == pytest.approx(shares[0].mean() - shares[1].mean())


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_intervals_cover_a_planted_difference_and_alarms_are_rare(spread):
    rng = np.random.default_rng(1)
    covered, alarms = [], 0
    for _ in range(120):
        ours = compare_groups(*answers(rng, {"x": 0.6, "y": 0.5, "z": 0.5}, spread=spread))
        xy, _, yz = ours.differences
        covered.append(xy.difference.low <= 0.1 <= xy.difference.high)
        alarms += yz.adjusted < 0.05
    # 120 runs know 0.95 to 0.04; the floor makes intervals wider when people do not differ.
    assert 0.9 <= np.mean(covered) <= 1
    assert alarms <= 7


def test_many_answers_of_few_people_do_not_look_certain():
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(40):
        rows = answers(rng, {"x": 0.5, "y": 0.5}, num_people=4, num_each=300, spread=0.15)
        alarms += compare_groups(*rows).differences[0].p_value < 0.05
    assert alarms <= 6  # 2 expected; answers taken as independent alarm 29 times


def test_people_who_are_alike_still_give_an_interval():
    ours = compare_groups(["x"] * 4 + ["y"] * 4, list("aabbccdd"), [1.0] * 4 + [0.0] * 4)
    assert ours.shares["x"].low < 1
    assert ours.differences[0].difference.low < 1


def test_groups_of_one_annotator_have_no_interval():
    ours = compare_groups(list("xxyy"), list("aabc"), [1, 0, 1, 1])
    assert math.isnan(ours.differences[0].p_value)
    assert math.isnan(ours.shares["x"].low)
    assert ours.differences[0].difference.value == -0.5


def test_renamed_groups_flip_the_difference():
    groups, people, points = answers(np.random.default_rng(3), {"x": 0.7, "y": 0.4})
    renamed = ["z" if g == "x" else g for g in groups]
    ours = compare_groups(groups, people, points).differences[0]
    flipped = compare_groups(renamed, people, points).differences[0]
    assert flipped.groups == ("y", "z")
    assert flipped.difference.value == pytest.approx(-ours.difference.value)
    assert flipped.difference.low == pytest.approx(-ours.difference.high)


def test_compare_groups_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match="'a' is in groups 'x' and 'y'"):
        compare_groups(["x", "y"], ["a", "a"], [1, 0])
    with pytest.raises(ValueError, match="points are outside 0 to 1"):
        compare_groups(["x"], ["a"], [2])
    with pytest.raises(ValueError, match="1 groups, 1 annotators and 0 points"):
        compare_groups(["x"], ["a"], [])
