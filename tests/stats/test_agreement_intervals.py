import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.stats.agreement import (
    alpha_of_counts,
    cohen_kappa,
    count_ratings,
    fleiss_kappa,
    krippendorff_alpha,
)
from heedful.stats.agreement_intervals import (
    cohen_kappa_interval,
    fleiss_kappa_interval,
    krippendorff_alpha_interval,
    raw_agreement,
)
from heedful.stats.intervals import wilson

# Krippendorff 2011, "Computing Krippendorff's alpha-reliability": 3 observers, 15 units, gaps.
OBSERVERS = [
    "* * * * * 3 4 1 2 1 1 3 3 * 3",
    "1 * 2 1 3 3 4 3 * * * * * * *",
    "* * 2 1 3 4 4 * 2 1 1 3 3 * 4",
]
RATINGS = np.array([[math.nan if x == "*" else float(x) for x in o.split()] for o in OBSERVERS])


@pytest.mark.parametrize(
    ("level", "published"), [("nominal", 0.691), ("ordinal", 0.807), ("interval", 0.811)]
)
def test_alpha_matches_the_published_example(level, published):
    counts, values = count_ratings(RATINGS)
    interval = krippendorff_alpha_interval(
        counts, values, level=level, rng=np.random.default_rng(0)
    )
    assert interval.value == pytest.approx(published, abs=5e-4)
    assert interval.low < published < interval.high


def labels_with_kappa(seed, num_items):
    """Two raters who are right with 0.8 on two even labels: kappa is 0.36."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, num_items)
    return np.abs(truth - (rng.random((2, num_items)) < 0.2))


@pytest.mark.parametrize("measure", ["cohen", "fleiss", "alpha"])
def test_intervals_cover_the_truth_as_often_as_they_say(measure):
    covered = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        labels = labels_with_kappa(seed, 120)
        counts, _ = count_ratings(labels)
        if measure == "cohen":
            interval = cohen_kappa_interval(*labels, rng=rng, num_resamples=100)
        elif measure == "fleiss":
            interval = fleiss_kappa_interval(counts, rng=rng, num_resamples=100)
        else:
            interval = krippendorff_alpha_interval(counts, rng=rng, num_resamples=100)
        covered += interval.low <= 0.36 <= interval.high
    # 50 runs know a coverage of 0.95 to 0.06.
    assert covered >= 43


def test_resampling_kinds_of_items_equals_resampling_items():
    labels = labels_with_kappa(1, 80)
    rng = np.random.default_rng(0)
    drawn = [cohen_kappa(*labels[:, rng.integers(80, size=80)]) for _ in range(2000)]
    ours = cohen_kappa_interval(*labels, rng=np.random.default_rng(1), num_resamples=2000)
    # Quantiles of 2000 resamples are known to about 0.006 here.
    np.testing.assert_allclose((ours.low, ours.high), np.quantile(drawn, [0.025, 0.975]), atol=0.02)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_multiplicity_equals_repeated_rows(seed):
    rng = np.random.default_rng(seed)
    counts, times = rng.multinomial(3, [0.5, 0.3, 0.2], size=6), rng.integers(1, 4, size=6)
    repeated = np.repeat(counts, times, axis=0)
    pairs = [
        (fleiss_kappa(counts, multiplicity=times), fleiss_kappa(repeated)),
        (
            alpha_of_counts(counts, level="ordinal", multiplicity=times),
            alpha_of_counts(repeated, level="ordinal"),
        ),
    ]
    for ours, slow in pairs:
        assert ours == pytest.approx(slow, abs=1e-12, nan_ok=True)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_raw_agreement_equals_a_loop_over_pairs(seed):
    rng = np.random.default_rng(seed)
    labels = [rng.integers(0, 3, size=rng.integers(1, 5)) for _ in range(8)] + [np.array([0, 1])]
    counts = [np.bincount(x, minlength=3) for x in labels]
    shares = [
        np.mean([x[i] == x[j] for i in range(len(x)) for j in range(len(x)) if i != j])
        for x in labels
        if len(x) > 1
    ]
    ours = raw_agreement(counts)
    assert ours.value == pytest.approx(np.mean(shares))
    assert ours.num == len(shares)


def test_raw_agreement_of_two_labels_an_item_is_wilson():
    assert raw_agreement([[2, 0], [1, 1], [0, 2], [0, 2]]) == wilson(3, 4)


def test_agreement_does_not_depend_on_the_order_of_annotators_and_items():
    order = np.random.default_rng(0)
    shuffled = RATINGS[order.permutation(3)][:, order.permutation(15)]
    for level in ("nominal", "ordinal", "interval"):
        ours = krippendorff_alpha(shuffled, level=level)
        assert ours == pytest.approx(krippendorff_alpha(RATINGS, level=level))


def test_copies_of_an_item_in_one_task_know_no_more_than_the_item():
    labels = labels_with_kappa(1, 60)
    task = np.tile(np.arange(60), 4)
    (first, second), counts = np.tile(labels, 4), np.tile(count_ratings(labels)[0], (4, 1))
    for measure, alone, copied in (
        (cohen_kappa_interval, tuple(labels), (first, second)),
        (fleiss_kappa_interval, (counts[:60],), (counts,)),
        (krippendorff_alpha_interval, (counts[:60],), (counts,)),
    ):
        one = measure(*alone, rng=np.random.default_rng(0))
        tasks = measure(*copied, clusters=task, rng=np.random.default_rng(0))
        items = measure(*copied, rng=np.random.default_rng(0))
        assert tasks.num == items.num == 240
        assert tasks.high - tasks.low == pytest.approx(one.high - one.low, rel=0.1)
        assert items.high - items.low < 0.65 * (one.high - one.low)
    raw, naive = raw_agreement(counts, clusters=task), raw_agreement(counts)
    assert raw.high - raw.low > 1.8 * (naive.high - naive.low)


def test_clusters_of_one_item_each_are_items():
    labels = labels_with_kappa(1, 60)
    own = np.random.default_rng(0).permutation(60)
    drawn, plain = (
        cohen_kappa_interval(*labels, clusters=clusters, rng=np.random.default_rng(0))
        for clusters in (own, None)
    )
    assert drawn.value == plain.value
    assert (drawn.low, drawn.high) == pytest.approx((plain.low, plain.high), abs=0.02)
    with pytest.raises(ValueError, match="60 items with 2 clusters"):
        cohen_kappa_interval(*labels, clusters=[0, 1], rng=np.random.default_rng(0))


def test_bounds_are_undefined_when_all_agree():
    interval = cohen_kappa_interval([0, 1, 0, 1], [0, 1, 0, 1], rng=np.random.default_rng(0))
    assert interval.value == 1
    assert math.isnan(interval.low)
    assert raw_agreement([[2, 0], [0, 2]]).low == wilson(2, 2).low


def test_agreement_intervals_repeat_with_the_same_seed():
    first, second = (
        cohen_kappa_interval(*labels_with_kappa(0, 50), rng=np.random.default_rng(5))
        for _ in range(2)
    )
    assert first == second


def test_agreement_intervals_refuse_items_without_overlap():
    with pytest.raises(ValueError, match="0 items have two labels"):
        raw_agreement([[1, 0], [0, 1]])
    with pytest.raises(ValueError, match="0 items have two labels"):
        krippendorff_alpha_interval([[1, 0]], rng=np.random.default_rng(0))


def test_alpha_of_counts_refuses_a_distance_without_values():
    with pytest.raises(ValueError, match="values are missing"):
        alpha_of_counts([[2, 0]], level="interval")
    with pytest.raises(ValueError, match="give 2 that ascend"):
        alpha_of_counts([[2, 0]], [3, 1], level="interval")
