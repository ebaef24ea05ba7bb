import numpy as np
import pytest

from heedful.select import label_counts, label_sequence, optimal_design
from heedful.stats.design import kiefer_wolfowitz


def log_det(rows: np.ndarray, weights: np.ndarray) -> float:
    return float(np.linalg.slogdet(rows.T @ (weights[:, None] * rows))[1])


def test_optimal_design_of_a_parabola_matches_golden_numbers():
    x = np.linspace(-1, 1, 9)
    design = optimal_design(np.stack([np.ones_like(x), x, x**2], axis=1), tolerance=1e-6)
    np.testing.assert_allclose(design.weights, np.isin(x, [-1, 0, 1]) / 3, atol=1e-5)
    assert design.dimension == 3


@pytest.mark.parametrize("seed", range(3))
def test_optimal_design_certifies_itself_and_equals_the_multiplicative_one(seed: int):
    rows = np.random.default_rng(seed).normal(size=(300, 6))
    design = optimal_design(rows, tolerance=1e-5)
    inverse = np.linalg.inv(rows.T @ (design.weights[:, None] * rows))
    largest = np.einsum("nd,de,ne->n", rows, inverse, rows).max()
    assert largest / 6 - 1 == pytest.approx(design.excess, abs=1e-9)
    assert design.excess <= 1e-5
    peer = log_det(rows, kiefer_wolfowitz(rows, tolerance=1e-3))
    # d log(1 + tolerance) bounds how far each is below the optimum.
    assert -6e-5 <= log_det(rows, design.weights) - peer <= 6e-3


def test_optimal_design_puts_its_weight_on_few_pairs():
    rows = np.random.default_rng(0).normal(size=(1000, 5))
    design = optimal_design(rows, tolerance=1e-4)
    assert design.weights.sum() == pytest.approx(1)
    assert (design.weights >= 0).all()
    # Some optimum has at most d (d + 1) / 2 pairs.
    assert 5 <= (design.weights > 0).sum() <= 15


def test_optimal_design_lives_in_the_span_of_the_pairs():
    rng = np.random.default_rng(0)
    rows, basis = rng.normal(size=(60, 3)), rng.normal(size=(3, 7))
    inside, outside = (optimal_design(x, tolerance=1e-8) for x in (rows, rows @ basis))
    assert outside.dimension == 3
    np.testing.assert_allclose(outside.weights, inside.weights, atol=1e-4)


def test_optimal_design_of_one_dimension_takes_the_widest_pair():
    assert optimal_design([[1.0], [-3.0], [2.0]]).weights.tolist() == [0, 1, 0]


def test_optimal_design_refuses_what_has_no_direction():
    with pytest.raises(ValueError, match="all differences are 0"):
        optimal_design(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="not finite"):
        optimal_design([[np.nan, 1.0]])


def test_optimal_design_says_when_the_steps_do_not_suffice():
    rows = np.random.default_rng(0).normal(size=(300, 6))
    with pytest.raises(ArithmeticError, match="after 2 steps"):
        optimal_design(rows, tolerance=1e-6, max_steps=2)


def test_label_counts_are_rounded_up_and_no_further():
    design = optimal_design(np.random.default_rng(0).normal(size=(200, 5)))
    counts = label_counts(design, 100)
    assert (counts >= 100 * design.weights - 1e-6).all()
    assert 100 <= counts.sum() < 100 + (design.weights > 0).sum()
    assert label_counts(optimal_design(np.eye(4)), 8).tolist() == [2, 2, 2, 2]


def test_label_sequence_is_the_efficient_rounding():
    """Pukelsheim and Rieder: ceil((n - l / 2) w) first, then one by one until the sum is n."""
    design = optimal_design(np.random.default_rng(0).normal(size=(200, 5)))
    weights = design.weights[design.weights > 0]
    num = 100
    counts = np.ceil((num - len(weights) / 2) * weights)
    while counts.sum() != num:
        if counts.sum() < num:
            counts[np.argmin(counts / weights)] += 1
        else:
            counts[np.argmax((counts - 1) / weights)] -= 1
    found = np.bincount(label_sequence(design, num), minlength=200)
    np.testing.assert_array_equal(found[design.weights > 0], counts)


def test_label_sequence_goes_on_where_a_shorter_one_ends():
    design = optimal_design(np.random.default_rng(1).normal(size=(50, 3)))
    longer = label_sequence(design, 40)
    for num in (0, 1, 5, 25):
        np.testing.assert_array_equal(label_sequence(design, num), longer[:num])
