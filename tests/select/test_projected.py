"""Weights in a ball: against one dimension, a grid of two, and worlds whose weights lie in it."""

import numpy as np
import pytest
from scipy.special import expit

from heedful.select import projected_weights
from heedful.select.simulation import fit_weights


def answered(
    rng: np.random.Generator, num: int, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    rows = rng.normal(size=(num, len(weights)))
    rows /= np.maximum(1, np.linalg.norm(rows, axis=1, keepdims=True))
    return rows, rng.random(num) < expit(rows @ weights)


def test_weights_within_the_ball_stay_the_penalised_likelihoods() -> None:
    rows, first = answered(np.random.default_rng(0), 40, np.array([0.5, -0.2, 0.1]))
    found = projected_weights(rows, first, radius=100)
    np.testing.assert_allclose(found, fit_weights(rows, first, ridge=1 / 3), atol=1e-9)


def test_in_one_dimension_the_projection_is_the_end_of_the_interval() -> None:
    """What is predicted rises with the weight, so the nearest point is the nearest weight."""
    rows = np.array([[1.0], [0.5], [0.8]])
    assert projected_weights(rows, [True, True, True], radius=0.3) == pytest.approx([0.3])
    assert projected_weights(rows, [False, False, False], radius=0.3) == pytest.approx([-0.3])


@pytest.mark.parametrize("seed", range(4))
def test_in_two_dimensions_no_point_of_a_fine_grid_is_nearer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, first = answered(rng, 12, 3 * rng.normal(size=2))
    radius, ridge = 0.4, 0.5
    free = fit_weights(rows, first, ridge=ridge)
    assert np.linalg.norm(free) > radius
    inverse = np.linalg.inv(ridge * np.eye(2) + rows.T @ rows)

    def distance(at: np.ndarray) -> np.ndarray:
        gap = ridge * (at - free) + (expit(at @ rows.T) - expit(free @ rows.T)) @ rows
        return np.einsum("...i,ij,...j->...", gap, inverse, gap)

    angles, sizes = np.linspace(0, 2 * np.pi, 721), np.linspace(0, radius, 41)
    grid = sizes[:, None, None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    found = projected_weights(rows, first, radius=radius, ridge=ridge)
    assert np.linalg.norm(found) <= radius + 1e-12
    assert distance(found) <= distance(grid).min() + 1e-9


def test_few_labels_err_less_when_the_ball_is_known() -> None:
    gains = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=6)
        truth /= np.linalg.norm(truth)
        rows, first = answered(rng, 60, truth)
        free = fit_weights(rows, first, ridge=1 / 6)
        kept = projected_weights(rows, first)
        gains.append(np.sum((free - truth) ** 2) - np.sum((kept - truth) ** 2))
    assert np.mean(gains) > 2 * np.std(gains, ddof=1) / np.sqrt(20)


def test_what_is_no_ball_or_no_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="both must be above 0"):
        projected_weights([[1.0]], [True], radius=0)
    with pytest.raises(ValueError, match=r"shape \(1, 1\) and is_first \(2,\)"):
        projected_weights([[1.0]], [True, False])


@pytest.mark.parametrize(
    ("num_features", "scale", "seed"), [(2, 1.0, 3), (3, 0.3, 25), (5, 5.0, 45)]
)
def test_a_search_that_rounding_ends_has_found_the_nearest_point(
    num_features: int, scale: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(300, num_features)) * scale
    truth = rng.normal(size=num_features)
    first = rng.random(300) < expit(rows @ (1.2 * truth / np.linalg.norm(truth)))
    ridge = 1 / num_features
    free = fit_weights(rows, first, ridge=ridge)
    inverse = np.linalg.inv(ridge * np.eye(num_features) + rows.T @ rows)

    def distance(at: np.ndarray) -> float:
        gap = ridge * (at - free) + (expit(rows @ at) - expit(rows @ free)) @ rows
        return float(gap @ inverse @ gap)

    found = projected_weights(rows, first)
    assert np.linalg.norm(free) > 1
    assert np.linalg.norm(found) == pytest.approx(1)
    for _ in range(100):
        other = found + 10 ** rng.uniform(-4, 0) * rng.normal(size=num_features)
        other /= max(1, np.linalg.norm(other))
        assert distance(found) <= distance(other) * (1 + 1e-9)
