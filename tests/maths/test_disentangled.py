import numpy as np
import pytest
import torch

from heedful.maths.disentangled import correlation, length_terms, odin_penalty, orthogonality
from heedful.maths.reward import bradley_terry


def random(seed: int, *shape: int):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_correlation_equals_numpy():
    x, y = random(0, 30), random(1, 30)
    assert float(correlation(x, y)) == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_correlation_gradient_equals_finite_differences():
    x, y = random(0, 6).requires_grad_(), random(1, 6)
    assert torch.autograd.gradcheck(lambda x: correlation(x, y), x)


def test_correlation_refuses_a_batch_of_equal_lengths():
    with pytest.raises(ValueError, match="the second of 3 values do not vary"):
        correlation(random(0, 3), torch.full((3,), 7.0).double())


def test_correlation_refuses_equal_values_whose_mean_is_rounded():
    equal = torch.full((7,), 0.1)
    assert equal.mean() != equal[0]
    with pytest.raises(ValueError, match="the first of 7 values do not vary"):
        correlation(equal, random(0, 7))


def test_length_terms_are_least_when_the_length_head_alone_knows_the_length():
    lengths = torch.tensor([-1.0, 1.0, -1.0, 1.0]).double()
    quality = torch.tensor([1.0, 1.0, -1.0, -1.0]).double()
    assert float(length_terms(quality, 3 * lengths, lengths)) == pytest.approx(-1)
    assert float(length_terms(-lengths, -lengths, lengths)) == pytest.approx(2)


def test_orthogonality_is_the_cosine_of_centred_weights():
    one, other = random(0, 8), random(1, 8)
    a, b = (w.numpy() - w.numpy().mean() for w in (one, other))
    expected = abs(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))
    assert float(orthogonality(one, other + 5)) == pytest.approx(expected)


def test_penalty_leaves_planted_quality_in_one_head_and_length_in_the_other():
    """Labels by quality + 0.8 length; features are a rotation of both and of noise."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(1000, 2, 8))
    quality, lengths = hidden[..., 0], hidden[..., 1]
    lead = (quality + 0.8 * lengths)[:, 0] - (quality + 0.8 * lengths)[:, 1]
    is_swapped = rng.random(1000) > 1 / (1 + np.exp(-2 * lead))
    hidden[is_swapped] = hidden[is_swapped][:, ::-1].copy()
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    features = torch.from_numpy(hidden @ rotation)
    flat_lengths = torch.from_numpy(hidden[..., 1].copy()).T.reshape(-1)

    def train(weight: float) -> tuple[np.ndarray, np.ndarray]:
        heads = (0.01 * random(0, 2, 8)).requires_grad_()
        optimiser = torch.optim.Adam([heads], lr=0.1)
        for _ in range(150):
            scores = features @ heads.T
            total = scores.sum(-1)
            loss = bradley_terry(total[:, 0], total[:, 1]).mean()
            flat = scores.transpose(0, 1).reshape(-1, 2)
            penalty = odin_penalty(flat[:, 0], flat[:, 1], flat_lengths, *heads)
            optimiser.zero_grad()
            (loss + weight * penalty).backward()
            optimiser.step()
        found = (features @ heads.T).detach().transpose(0, 1).reshape(-1, 2).numpy()
        truth = hidden.transpose(1, 0, 2).reshape(-1, 8)
        return found, truth

    def correlations(weight: float) -> tuple[float, float]:
        found, truth = train(weight)
        ranks = [np.argsort(np.argsort(x)) for x in (found[:, 0], truth[:, 0])]
        return abs(np.corrcoef(found[:, 0], truth[:, 1])[0, 1]), np.corrcoef(*ranks)[0, 1]

    by_length, by_quality = correlations(1.0)
    assert by_length < 0.1
    assert by_quality > 0.8
    assert correlations(0.0)[0] > 0.4
