"""Best-of-n sampling: what it costs in KL and what it yields, from one batch of samples."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def best_of_n_kl_bound(num_samples: int) -> float:
    """``log n - (n - 1) / n`` nats: the largest KL of best-of-n from the policy it samples.

    Exact when no two responses share a probability atom or a score, otherwise a bound: Beirami et
    al. 2024 (arXiv:2401.01879). Raises ``ValueError`` when ``num_samples`` is below 1.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}; best-of-n needs at least 1")
    return math.log(num_samples) - (num_samples - 1) / num_samples


def best_of_n_weights(num_scored: int, *, num_samples: int) -> Float[Tensor, "N"]:
    """Probability that each of N scored samples, worst first, is the best of n drawn from them.

    ``C(i - 1, n - 1) / C(N, n)`` in float64, summing to 1. Raises ``ValueError`` unless
    ``1 <= num_samples <= num_scored``. Nakano et al. 2021 (arXiv:2112.09332).
    """
    if not 1 <= num_samples <= num_scored:
        raise ValueError(
            f"num_samples is {num_samples} with {num_scored} scored samples; it must be from 1 to "
            f"{num_scored}; score more samples per prompt"
        )
    num_subsets = math.comb(num_scored, num_samples)
    weights = [math.comb(rank, num_samples - 1) / num_subsets for rank in range(num_scored)]
    return torch.tensor(weights, dtype=torch.float64)


def best_of_n_estimate(
    proxy_scores: Float[Tensor, "B N"], outcomes: Float[Tensor, "B N"], *, num_samples: int
) -> Float[Tensor, "B"]:
    """Expected ``outcomes`` of the sample with the highest proxy score among n, per prompt.

    Unbiased, and far less noisy than drawing subsets. ``outcomes`` may be the proxy itself or a
    gold score; ordering by the gold score would measure another selection. Equal proxy scores
    keep their order, which is fair as long as samples come in random order. In float64. Raises
    ``ValueError`` unless ``1 <= num_samples <= N``.
    """
    weights = best_of_n_weights(proxy_scores.size(1), num_samples=num_samples)
    order = proxy_scores.argsort(dim=1, stable=True)
    return outcomes.double().gather(1, order) @ weights.to(outcomes.device)
