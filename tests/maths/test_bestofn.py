from itertools import combinations

import numpy as np
import pytest
import torch

from heedful.maths.bestofn import best_of_n_estimate, best_of_n_kl_bound, best_of_n_weights

from .world import make_world


def exact_best_of_n(logprobs: torch.Tensor, scores: torch.Tensor, num_samples: int) -> torch.Tensor:
    """Probabilities of best-of-n over listed responses with distinct scores."""
    order = scores.argsort()
    at_most = logprobs.exp()[order].cumsum(0) ** num_samples
    probabilities = torch.empty_like(at_most)
    probabilities[order] = at_most.diff(prepend=torch.zeros(1, dtype=at_most.dtype))
    return probabilities


def test_kl_bound_matches_golden_numbers():
    golden = {2: 0.193147, 4: 0.636294, 8: 1.204442, 16: 1.835089, 64: 3.174508, 1000: 5.908755}
    for num_samples, bound in golden.items():
        assert best_of_n_kl_bound(num_samples) == pytest.approx(bound, abs=1e-6)


@pytest.mark.parametrize("num_samples", [1, 2, 4, 16, 64])
def test_exact_kl_of_best_of_n_is_within_the_bound(num_samples):
    world = make_world()
    logprobs = world.logprobs(world.random_logits(0))
    best = exact_best_of_n(logprobs, world.random_rewards(1), num_samples)
    kl = float(torch.special.xlogy(best, best).sum() - (best * logprobs).sum())
    assert kl <= best_of_n_kl_bound(num_samples) + 1e-12


def test_kl_bound_refuses_less_than_one_sample():
    with pytest.raises(ValueError, match="needs at least 1"):
        best_of_n_kl_bound(0)


def test_weights_match_golden_numbers():
    golden = torch.tensor([0, 1 / 6, 1 / 3, 1 / 2], dtype=torch.float64)
    torch.testing.assert_close(best_of_n_weights(4, num_samples=2), golden)


@pytest.mark.parametrize("num_samples", [1, 7, 500, 1000])
def test_weights_of_many_samples_sum_to_one(num_samples):
    assert float(best_of_n_weights(1000, num_samples=num_samples).sum()) == pytest.approx(1)


@pytest.mark.parametrize("num_samples", [0, 5])
def test_weights_refuse_more_samples_than_scored(num_samples):
    with pytest.raises(ValueError, match="must be from 1 to 4"):
        best_of_n_weights(4, num_samples=num_samples)


def test_estimate_equals_the_mean_over_all_subsets():
    proxy, gold = torch.randn(2, 1, 6, generator=torch.Generator().manual_seed(0))
    subsets = [list(subset) for subset in combinations(range(6), 3)]
    picks = [gold[0, subset][proxy[0, subset].argmax()] for subset in subsets]
    estimate = best_of_n_estimate(proxy, gold, num_samples=3)
    assert float(estimate) == pytest.approx(float(torch.stack(picks).mean()), rel=1e-6)


def test_estimate_of_one_sample_is_the_mean():
    proxy, gold = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(best_of_n_estimate(proxy, gold, num_samples=1), gold.mean(1))


def test_estimate_of_the_proxy_rises_with_the_number_of_samples():
    proxy = torch.randn(1, 16, generator=torch.Generator().manual_seed(0))
    curve = [float(best_of_n_estimate(proxy, proxy, num_samples=n)) for n in range(1, 17)]
    assert curve == sorted(curve)
    assert curve[-1] == pytest.approx(float(proxy.max()))


def test_estimate_of_uniform_scores_is_n_over_n_plus_one():
    scores = torch.rand(2000, 16, generator=torch.Generator().manual_seed(0))
    estimates = best_of_n_estimate(scores, scores, num_samples=4).numpy()
    standard_error = estimates.std() / np.sqrt(len(estimates))
    assert abs(estimates.mean() - 4 / 5) < 3 * standard_error
