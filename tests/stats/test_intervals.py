import math
import tracemalloc
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from heedful.stats.intervals import (
    Interval,
    bootstrap,
    bootstrap_mean,
    difference_of_shares,
    mean_of_shares,
    share_by_cluster,
    student_quantile,
    wilson,
    win_rate,
)


@given(total=st.integers(1, 500), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.95]))
def test_wilson_equals_scipy(total, share, confidence):
    successes = round(share * total)
    theirs = binomtest(successes, total).proportion_ci(confidence, method="wilson")
    ours = wilson(successes, total, confidence=confidence)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1
    assert (ours.value, ours.num) == (successes / total, total)


def test_wilson_of_no_success_in_ten_matches_the_published_interval():
    interval = wilson(0, 10)
    assert interval.low == 0
    assert interval.high == pytest.approx(0.2775, abs=1e-4)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_wilson_covers_the_truth_as_often_as_it_says(share):
    counts = np.random.default_rng(0).binomial(60, share, size=4000)
    intervals = [wilson(int(count), 60) for count in counts]
    covered = np.mean([i.low <= share <= i.high for i in intervals])
    assert 0.93 < covered < 0.98


@pytest.mark.parametrize(("successes", "total"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_impossible_counts(successes, total):
    with pytest.raises(ValueError, match=f"{successes} successes of {total}"):
        wilson(successes, total)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_wilson_refuses_a_confidence_that_is_no_probability(confidence):
    with pytest.raises(ValueError, match="confidence is"):
        wilson(1, 2, confidence=confidence)


def pairs_of_prompts(rng, num_prompts, *, share=0.65, correlation=0.3):
    """Pairs of prompts, one to seven each, that are right alike within a prompt."""
    spread = (1 - correlation) / correlation
    chance = rng.beta(share * spread, (1 - share) * spread, num_prompts)
    prompt = np.repeat(np.arange(num_prompts), rng.integers(1, 8, num_prompts))
    return (rng.random(len(prompt)) < chance[prompt]).astype(float), prompt


@pytest.mark.parametrize("num_prompts", [2, 5, 20, 100])
def test_share_by_cluster_covers_the_truth_where_pairs_of_a_prompt_go_together(num_prompts):
    rng = np.random.default_rng(num_prompts)
    samples = [pairs_of_prompts(rng, num_prompts) for _ in range(600)]
    intervals = [share_by_cluster(points, prompt) for points, prompt in samples]
    # 600 runs know a coverage of 0.95 to 0.02; with few prompts the interval errs on the wide side
    assert np.mean([one.low <= 0.65 <= one.high for one in intervals]) > 0.93
    naive = [wilson(points.sum(), len(points)) for points, _ in samples]
    assert np.mean([one.low <= 0.65 <= one.high for one in naive]) < 0.88


def test_share_by_cluster_is_wilson_with_one_point_a_cluster_or_one_cluster():
    points = [1.0, 0.0, 0.5, 1.0, 1.0]
    for clusters in (None, list("abcde"), ["a"] * 5):
        assert share_by_cluster(points, clusters) == wilson(3.5, 5)


@given(
    points=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=30),
    num_clusters=st.integers(1, 8),
)
def test_share_by_cluster_is_never_narrower_than_wilson(points, num_clusters):
    ours = share_by_cluster(points, np.arange(len(points)) % num_clusters)
    plain = wilson(sum(points), len(points))
    assert (ours.value, ours.num) == (plain.value, plain.num)
    assert 0 <= ours.low <= plain.low + 1e-12
    assert plain.high - 1e-12 <= ours.high <= 1


def test_share_by_cluster_of_copies_knows_no_more_than_one_copy():
    points = np.random.default_rng(0).random(200) < 0.7
    repeated, prompts = np.repeat(points, 5), np.repeat(np.arange(200), 5)
    alone, copies = share_by_cluster(points), share_by_cluster(repeated, prompts)
    assert copies.high - copies.low == pytest.approx(alone.high - alone.low, rel=0.02)


def test_student_quantile_reaches_further_than_the_normal_one():
    assert student_quantile(0.95, 1) == pytest.approx(12.706, abs=1e-3)
    assert student_quantile(0.95, 1e9) == pytest.approx(1.95996, abs=1e-4)
    assert np.isnan(student_quantile(0.95, 0))


def test_bootstrap_mean_agrees_with_the_normal_interval_of_many_values():
    x = np.random.default_rng(0).normal(3, 2, size=2000)
    interval = bootstrap_mean(x, rng=np.random.default_rng(1))
    spread = 1.96 * x.std() / np.sqrt(len(x))
    assert interval.value == x.mean()
    # The ends are quantiles of 2000 resamples, known to about 5 % of their distance.
    assert interval.low == pytest.approx(x.mean() - spread, abs=0.1 * spread)
    assert interval.high == pytest.approx(x.mean() + spread, abs=0.1 * spread)


def test_bootstrap_mean_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.exponential(size=(300, 60))
    intervals = [bootstrap_mean(x, rng=rng, num_resamples=300) for x in samples]
    # 300 runs know a coverage of 0.95 to 0.025; skew costs the percentile method about 0.02.
    assert 0.90 < np.mean([i.low <= 1 <= i.high for i in intervals]) < 0.98


def test_bootstrap_mean_over_clusters_is_wider_when_values_repeat():
    x = np.random.default_rng(0).normal(size=50)
    repeated, prompts = np.repeat(x, 8), np.repeat(np.arange(50), 8)
    alone = bootstrap_mean(x, rng=np.random.default_rng(1))
    clustered = bootstrap_mean(repeated, clusters=prompts, rng=np.random.default_rng(1))
    naive = bootstrap_mean(repeated, rng=np.random.default_rng(1))
    assert (clustered.low, clustered.high) == pytest.approx((alone.low, alone.high))
    assert naive.high - naive.low < 0.5 * (clustered.high - clustered.low)
    assert clustered.num == 400


def test_bootstrap_mean_repeats_with_the_same_seed():
    x = np.arange(10.0)
    first, second = (bootstrap_mean(x, rng=np.random.default_rng(7)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("x", "clusters"), [([1.0], None), ([1.0, 2.0], ["p", "p"])])
def test_bootstrap_mean_refuses_a_single_independent_value(x, clusters):
    with pytest.raises(ValueError, match="there are 1 independent values"):
        bootstrap_mean(x, clusters=clusters, rng=np.random.default_rng(0))


def test_bootstrap_mean_refuses_a_cluster_list_of_another_length():
    with pytest.raises(ValueError, match="2 values with 1 clusters"):
        bootstrap_mean([1.0, 2.0], clusters=["p"], rng=np.random.default_rng(0))


def test_win_rate_counts_ties_as_one_half():
    assert win_rate(3, 4, 1).value == 5 / 8


def test_win_rate_without_ties_is_wilson():
    assert win_rate(7, 0, 3) == wilson(7, 10)


def test_win_rate_mirrors_when_the_sides_swap():
    ours, theirs = win_rate(7, 2, 3), win_rate(3, 2, 7)
    assert (ours.low, ours.high) == pytest.approx((1 - theirs.high, 1 - theirs.low))


def test_win_rate_with_ties_is_conservative():
    rng = np.random.default_rng(0)
    counts = rng.multinomial(80, [0.4, 0.3, 0.3], size=2000)
    intervals = [win_rate(*map(int, row)) for row in counts]
    assert np.mean([i.low <= 0.55 <= i.high for i in intervals]) > 0.96


def test_win_rate_refuses_a_negative_count():
    with pytest.raises(ValueError, match="none may be negative"):
        win_rate(-1, 2, 3)


def test_interval_is_a_value():
    assert Interval(value=0.5, low=0.4, high=0.6, num=9) == Interval(
        value=0.5, low=0.4, high=0.6, num=9
    )


def test_bootstrap_of_a_mean_is_bootstrap_mean():
    x = np.random.default_rng(0).normal(size=40)
    clusters = np.repeat(np.arange(20), 2)[::-1]
    for labels in (None, clusters):
        ours = bootstrap(
            lambda rows: x[rows].mean(), 40, rng=np.random.default_rng(1), clusters=labels
        )
        peer = bootstrap_mean(x, rng=np.random.default_rng(1), clusters=labels, num_resamples=1000)
        assert (ours.value, ours.low, ours.high) == pytest.approx((peer.value, peer.low, peer.high))


def test_bootstrap_holds_one_resample_at_a_time():
    num, num_resamples = 20_000, 400
    tracemalloc.start()
    bootstrap(lambda _: 0.0, num, rng=np.random.default_rng(0), num_resamples=num_resamples)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    all_at_once = 8 * num * num_resamples
    assert peak < all_at_once / 4


def test_bootstrap_leaves_out_resamples_without_a_value():
    x = np.array([1.0, 2.0, np.nan])

    def undefined_with_the_last(rows):
        return float(x[rows].mean())

    found = bootstrap(undefined_with_the_last, 3, rng=np.random.default_rng(0))
    assert np.isnan(found.value)
    assert 1 <= found.low < found.high <= 2
    same = bootstrap(lambda _: 1.0, 3, rng=np.random.default_rng(0))
    assert np.isnan(same.low)


def test_bootstrap_refuses_one_cluster():
    with pytest.raises(ValueError, match="there are 1 independent rows"):
        bootstrap(lambda _: 0.0, 3, rng=np.random.default_rng(0), clusters=[7, 7, 7])


def test_difference_of_shares_is_newcombes_published_example():
    # Newcombe 1998, Statistics in Medicine 17, 873, table II (a), method 10: 56/70 - 48/80
    found = difference_of_shares(wilson(56, 70), wilson(48, 80))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert found.num == 150
    back = difference_of_shares(wilson(48, 80), wilson(56, 70))
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


def test_the_mean_of_shares_holds_the_truth_as_often_as_it_says():
    # every outcome of 12, 20 and 30 tosses with unlike chances, each with its probability
    chances, sizes = (0.9, 0.6, 0.75), (12, 20, 30)
    tables = [
        [(wilson(k, n), binom.pmf(k, n, chance)) for k in range(n + 1)]
        for chance, n in zip(chances, sizes, strict=True)
    ]
    truth, covered = sum(chances) / 3, 0.0
    for outcome in product(*tables):
        found = mean_of_shares([one for one, _ in outcome])
        if found.low <= truth <= found.high:
            covered += math.prod(weight for _, weight in outcome)
    assert covered == pytest.approx(0.95, abs=0.01)


def test_the_mean_of_one_share_is_that_share_and_small_ones_are_as_heavy_as_large_ones():
    assert mean_of_shares([wilson(7, 10)]) == wilson(7, 10)
    found = mean_of_shares([wilson(10, 10), wilson(500, 1000)])
    assert (found.value, found.num) == (0.75, 1010)
    with pytest.raises(ValueError, match="at least 1"):
        mean_of_shares([])
