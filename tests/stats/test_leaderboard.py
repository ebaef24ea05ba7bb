import math
import warnings
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import t as student

from heedful.stats.comparisons import encode_comparisons
from heedful.stats.leaderboard import POINTS_PER_LOGIT, leaderboard
from heedful.stats.ranking import bradley_terry_strengths

SCORES = np.array([-0.8, -0.2, 0.1, 0.9])


def games(seed, num=800, *, num_people=20, length_effect=0.0, verbose=None, tie_share=0.0):
    """Comparisons of four models with these log strengths, and the length difference of each."""
    rng = np.random.default_rng(seed)
    left = rng.integers(0, 4, num)
    right = (left + rng.integers(1, 4, num)) % 4
    length = rng.normal(size=(2, num))
    if verbose is not None:
        length += 2.0 * np.stack([left == verbose, right == verbose])
    gap = length[0] - length[1]
    chance = 1 / (1 + np.exp(SCORES[right] - SCORES[left] - length_effect * gap))
    points = np.where(rng.random(num) < tie_share, 0.5, rng.random(num) < chance)
    people = [f"a{a}" for a in rng.integers(0, num_people, num)]
    return [f"m{i}" for i in left], [f"m{i}" for i in right], points, people, gap


def by_name(board):
    return {line.candidate: line for line in board.standings}


def centred_points(scores):
    return 1000 + (np.array(scores) - np.mean(scores)) * POINTS_PER_LOGIT


def test_ratings_are_bradley_terry_with_ties_as_half_wins():
    data = encode_comparisons(*games(0, tie_share=0.3)[:4])
    wins = np.zeros((4, 4))
    np.add.at(wins, (data.left, data.right), data.points)
    np.add.at(wins, (data.right, data.left), 1 - data.points)
    lines = by_name(leaderboard(data))
    expected = centred_points(np.log(bradley_terry_strengths(wins)))
    np.testing.assert_allclose([lines[f"m{i}"].rating.value for i in range(4)], expected, atol=1e-5)


def test_ratings_of_two_models_are_the_odds_with_their_textbook_error():
    data = encode_comparisons(["a"] * 40, ["b"] * 40, [1.0] * 30 + [0.0] * 10, ["p"] * 40)
    lines = by_name(leaderboard(data))
    gap = lines["a"].rating.value - lines["b"].rating.value
    assert gap == pytest.approx(math.log(3) * POINTS_PER_LOGIT)
    # The log odds of k in n have variance 1 / k + 1 / (n - k); each rating holds half the gap.
    error = math.sqrt(1 / 30 + 1 / 10) / 2 * POINTS_PER_LOGIT * math.sqrt(40 / 39)
    half_width = (lines["a"].rating.high - lines["a"].rating.low) / 2
    assert half_width == pytest.approx(student.ppf(0.975, 39) * error, rel=1e-6)


def test_intervals_cover_planted_ratings_as_often_as_they_say():
    expected = centred_points(SCORES)
    covered = []
    for seed in range(50):
        lines = by_name(leaderboard(encode_comparisons(*games(seed, 300)[:4])))
        ratings = [lines[f"m{i}"].rating for i in range(4)]
        covered += [r.low <= e <= r.high for r, e in zip(ratings, expected, strict=True)]
    # 200 intervals know 0.95 to 0.03, and less as four go together.
    assert 0.91 <= np.mean(covered) <= 0.985


def few_prompts(seed, num_prompts, num_each=12):
    """Four models whose scores differ by prompt (deviation 0.5), compared on few prompts."""
    rng = np.random.default_rng(seed)
    prompt = np.repeat(np.arange(num_prompts), num_each)
    scores = SCORES + 0.5 * rng.normal(size=(num_prompts, 4))
    left = rng.integers(0, 4, len(prompt))
    right = (left + rng.integers(1, 4, len(prompt))) % 4
    won = rng.random(len(prompt)) < expit(scores[prompt, left] - scores[prompt, right])
    data = encode_comparisons(
        [f"m{i}" for i in left], [f"m{i}" for i in right], won, ["p"] * len(prompt)
    )
    return data, [str(code) for code in prompt]


def test_intervals_cover_planted_ratings_with_few_prompts():
    many, _ = few_prompts(0, 4000)
    planted = {line.candidate: line.rating.value for line in leaderboard(many).standings}
    covered = {num: [] for num in (2, 4, 8)}
    for num, seed in product(covered, range(100)):
        data, clusters = few_prompts(seed, num)
        ratings = by_name(leaderboard(data, clusters=clusters))
        if all(line.rank for line in ratings.values()):  # a rating is relative to the others
            covered[num] += [
                ratings[name].rating.low <= value <= ratings[name].rating.high
                for name, value in planted.items()
            ]
    for num, hits in covered.items():
        # at least 200 intervals, four a board that go together
        assert len(hits) > 200
        assert np.mean(hits) > 0.92, num


def test_one_prompt_gives_ratings_without_intervals_and_no_ranks():
    data, clusters = few_prompts(0, 1, num_each=60)
    board = leaderboard(data, clusters=clusters, style=np.ones((60, 1)))
    assert all(math.isfinite(line.rating.value) for line in board.standings)
    assert all(math.isnan(line.rating.low) and line.rank is None for line in board.standings)
    assert math.isnan(board.style[0].low)
    values = [line.rating.value for line in board.standings]
    assert values == sorted(values, reverse=True)


def test_two_prompts_that_happen_to_be_alike_do_not_look_certain():
    data = encode_comparisons(["a"] * 8, ["b"] * 8, [1.0, 1.0, 1.0, 0.0] * 2, ["p"] * 8)
    best = leaderboard(data, clusters=["x"] * 4 + ["y"] * 4).standings[0].rating
    assert best.low < leaderboard(data).standings[0].rating.low < 1000


def test_clustered_intervals_are_wider_when_comparisons_repeat():
    left, right, points, people, _ = games(0, 200)
    rows = [f"{i}" for i in range(200)]
    alone = leaderboard(encode_comparisons(left, right, points, people), clusters=rows)
    tripled = encode_comparisons(left * 3, right * 3, np.tile(points, 3), people * 3)
    repeated = leaderboard(tripled, clusters=rows * 3)
    naive = leaderboard(tripled)
    for one, three, wrong in zip(alone.standings, repeated.standings, naive.standings, strict=True):
        assert three.rating.low == pytest.approx(one.rating.low)
        assert wrong.rating.low > one.rating.low


def test_style_control_recovers_its_effect_and_the_ratings():
    *rows, gap = games(0, 4000, length_effect=0.7, verbose=0)
    data = encode_comparisons(*rows)
    raw, controlled = leaderboard(data), leaderboard(data, style=gap[:, None])
    expected = centred_points(SCORES)[0]
    assert by_name(raw)["m0"].rating.low > expected
    rating = by_name(controlled)["m0"].rating
    assert rating.low < expected < rating.high
    effect = 0.7 * math.sqrt((gap**2).mean()) * POINTS_PER_LOGIT
    assert controlled.style[0].low < effect < controlled.style[0].high


def test_a_column_of_ones_measures_the_side():
    rng = np.random.default_rng(0)
    points = rng.random(2000) < 0.55
    left = rng.integers(0, 2, 2000)
    names = np.array(["a", "b"])
    data = encode_comparisons(list(names[left]), list(names[1 - left]), points, ["p"] * 2000)
    side = leaderboard(data, style=np.ones((2000, 1))).style[0]
    assert 0 < side.low < math.log(0.55 / 0.45) * POINTS_PER_LOGIT < side.high


def test_the_vote_cap_stops_one_annotator_from_making_the_ranking():
    left, right, points, people, _ = games(0, 400)
    # 400 rigged votes against 20 annotators with about 20 votes each.
    rigged = encode_comparisons(
        left + ["m0"] * 400, right + ["m3"] * 400, [*points, *[1.0] * 400], people + ["rig"] * 400
    )
    assert leaderboard(rigged).standings[0].candidate == "m0"
    capped = leaderboard(rigged, vote_cap=20)
    assert capped.standings[0].candidate == "m3"


def test_a_cap_above_every_count_changes_nothing():
    data = encode_comparisons(*games(0, 200)[:4])
    assert leaderboard(data, vote_cap=200) == leaderboard(data)


def test_a_person_without_a_comparison_needs_no_cap():
    data = encode_comparisons(*games(0, 200)[:4])
    more = replace(data, annotators=("a", *data.annotators, "zoe"), annotator=data.annotator + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert leaderboard(more, vote_cap=5) == leaderboard(data, vote_cap=5)


def test_rank_counts_models_that_are_surely_better():
    board = leaderboard(encode_comparisons(*games(0, 800)[:4]))
    assert [line.candidate for line in board.standings] == ["m3", "m2", "m1", "m0"]
    for line in board.standings:
        better = sum(other.rating.low > line.rating.high for other in board.standings)
        assert line.rank == 1 + better


def test_a_model_that_never_lost_is_listed_without_a_rating():
    left, right, points, people, _ = games(0, 200)
    data = encode_comparisons([*left, "new"], [*right, "m0"], [*points, 1.0], [*people, "a0"])
    board = leaderboard(data)
    last = board.standings[-1]
    assert (last.candidate, last.rank, last.rating.num) == ("new", None, 1)
    assert math.isnan(last.rating.value)
    assert board.num_used == 200


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_leaderboard_ignores_sides_and_the_order_of_rows(seed):
    rng = np.random.default_rng(seed)
    left, right, points, people, gap = games(seed % 20, 150, length_effect=0.5)
    order, is_swapped = rng.permutation(150), rng.random(150) < 0.5
    shuffled = [
        (right[i], left[i], 1 - points[i], people[i], -gap[i])
        if is_swapped[i]
        else (left[i], right[i], points[i], people[i], gap[i])
        for i in order
    ]
    *rows, gaps = zip(*shuffled, strict=True)
    ours = leaderboard(encode_comparisons(left, right, points, people), style=gap[:, None])
    other = leaderboard(encode_comparisons(*rows), style=np.array(gaps)[:, None])
    for a, b in zip(ours.standings, other.standings, strict=True):
        assert a.candidate == b.candidate
        assert (a.rating.low, a.rating.high) == pytest.approx((b.rating.low, b.rating.high))


def test_leaderboard_refuses_what_it_cannot_rank():
    data = encode_comparisons(["a"], ["b"], [1.0], ["p"])
    with pytest.raises(ValueError, match="no two models have each beaten"):
        leaderboard(data)
    data = encode_comparisons(["a", "a"], ["b", "b"], [1.0, 0.0], ["p", "p"])
    with pytest.raises(ValueError, match="vote_cap is 0"):
        leaderboard(data, vote_cap=0)
    with pytest.raises(ValueError, match="give 2 rows"):
        leaderboard(data, style=[[1.0]])
    with pytest.raises(ValueError, match="2 comparisons with 1 clusters"):
        leaderboard(data, clusters=["x"])
    with pytest.raises(ValueError, match="no single finite maximum"):
        leaderboard(data, style=[[1.0], [1.0]])
