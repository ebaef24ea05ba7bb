import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from heedful.stats.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha

LEVELS = ["nominal", "ordinal", "interval", "ratio"]
NAN = math.nan
# Fleiss 1971 as tabulated in textbooks: 10 items, 14 raters, 5 categories.
FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]
# Krippendorff 2004, chapter 11: 4 raters, 12 items, gaps.
KRIPPENDORFF = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]


def expand(confusion):
    """Labels of two raters with this table of counts."""
    pairs = [(i, j) for i, row in enumerate(confusion) for j, n in enumerate(row) for _ in range(n)]
    return zip(*pairs, strict=True)


def test_cohen_kappa_matches_the_golden_number():
    assert cohen_kappa(*expand([[20, 5], [10, 15]])) == pytest.approx(0.4, abs=1e-12)


def test_fleiss_kappa_matches_the_golden_number():
    assert fleiss_kappa(FLEISS) == pytest.approx(0.210, abs=5e-4)


@pytest.mark.parametrize(
    ("level", "golden"),
    [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)],
)
def test_krippendorff_alpha_matches_golden_numbers(level, golden):
    assert krippendorff_alpha(KRIPPENDORFF, level=level) == pytest.approx(golden, abs=5e-4)


def slow_alpha(ratings, squared_distance):
    """Krippendorff's alpha as a loop over pairs of ratings."""
    items = [column[~np.isnan(column)] for column in np.asarray(ratings, float).T]
    items = [item for item in items if len(item) >= 2]
    pooled = np.concatenate(items)
    observed = sum(
        squared_distance(a, b) / (len(item) - 1) for item in items for a in item for b in item
    )
    expected = sum(squared_distance(a, b) for a in pooled for b in pooled) / (len(pooled) - 1)
    return 1 - observed / expected


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_krippendorff_alpha_equals_a_slow_loop(seed):
    rng = np.random.default_rng(seed)
    ratings = rng.integers(0, 4, size=(3, 8)).astype(float)
    ratings[rng.random((3, 8)) < 0.2] = NAN
    distances = {
        "nominal": lambda a, b: float(a != b),
        "interval": lambda a, b: (a - b) ** 2,
        "ratio": lambda a, b: ((a - b) / (a + b)) ** 2 if a + b else 0.0,
    }
    for level, distance in distances.items():
        expected = slow_alpha(ratings, distance)
        assert krippendorff_alpha(ratings, level=level) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_cohen_kappa_equals_sklearn(seed):
    first, second = np.random.default_rng(seed).integers(0, 3, size=(2, 30))
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_cohen_kappa_takes_labels_of_any_kind():
    first, second = ["a", "b", "tie", "a"], ["a", "b", "a", "a"]
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_identical_raters_agree_perfectly():
    labels = [1, 2, 3, 1]
    assert cohen_kappa(labels, labels) == 1
    assert fleiss_kappa([[3, 0], [0, 3]]) == 1
    assert all(krippendorff_alpha([labels, labels], level=level) == 1 for level in LEVELS)


def test_independent_raters_agree_by_chance_only():
    ratings = np.random.default_rng(0).integers(1, 4, size=(2, 5000))
    counts = (ratings[:, :, None] == np.array([1, 2, 3])).sum(0)
    # Standard error at 5000 items: about 0.01.
    assert abs(cohen_kappa(*ratings)) < 0.03
    assert abs(fleiss_kappa(counts)) < 0.03
    assert all(abs(krippendorff_alpha(ratings, level=level)) < 0.04 for level in LEVELS)


def test_nominal_agreement_does_not_depend_on_the_names_of_labels():
    renamed = np.select([np.array(KRIPPENDORFF) == v for v in range(1, 6)], [4, 1, 5, 2, 3], NAN)
    assert krippendorff_alpha(renamed) == pytest.approx(krippendorff_alpha(KRIPPENDORFF))


def test_agreement_of_a_single_category_is_undefined():
    assert math.isnan(cohen_kappa([1, 1], [1, 1]))
    assert math.isnan(fleiss_kappa([[2, 0], [2, 0]]))
    assert math.isnan(krippendorff_alpha([[1, 1], [1, 1]]))


def test_cohen_kappa_refuses_no_items():
    with pytest.raises(ValueError, match="there are 0 items"):
        cohen_kappa([], [])


def test_fleiss_kappa_refuses_items_with_different_numbers_of_labels():
    with pytest.raises(ValueError, match="items have 2 to 3 labels"):
        fleiss_kappa([[2, 0], [2, 1]])


def test_krippendorff_alpha_refuses_ratings_without_overlap():
    with pytest.raises(ValueError, match="0 items have two ratings"):
        krippendorff_alpha([[1, NAN], [NAN, 2]])
