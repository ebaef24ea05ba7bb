import math

import pytest
import torch
from jaxtyping import TypeCheckError

from heedful.maths.kl import adaptive_kl_coef, kl_k1, kl_k2, kl_k3

POLICY = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
REFERENCE = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


@pytest.mark.parametrize(
    ("estimator", "mean", "variance"),
    [(kl_k1, 0.085123, 0.152929), (kl_k2, 0.080088, 0.002951), (kl_k3, 0.085123, 0.005761)],
)
def test_kl_estimators_match_golden_moments(estimator, mean, variance):
    samples = estimator(POLICY.log(), REFERENCE.log())
    expectation = (POLICY * samples).sum()
    assert float(expectation) == pytest.approx(mean, abs=1e-6)
    assert float((POLICY * (samples - expectation) ** 2).sum()) == pytest.approx(variance, abs=1e-6)


@pytest.mark.parametrize(
    ("estimator", "gradient"),
    [
        (kl_k1, (0.0, 0.0, 0.0)),
        (kl_k2, (0.175945, -0.098118, -0.077827)),
        (kl_k3, (0.2, -0.1, -0.1)),
    ],
)
def test_kl_estimators_as_losses_match_golden_gradients(estimator, gradient):
    logits = POLICY.log().requires_grad_()
    (POLICY * estimator(logits.log_softmax(0), REFERENCE.log())).sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor(gradient).double(), atol=1e-6, rtol=0)


def test_exact_kl_gradient_matches_golden_numbers():
    logits = POLICY.log().requires_grad_()
    logprobs = logits.log_softmax(0)
    (logprobs.exp() * kl_k1(logprobs, REFERENCE.log())).sum().backward()
    golden = torch.tensor([0.175945, -0.098118, -0.077827]).double()
    torch.testing.assert_close(logits.grad, golden, atol=1e-6, rtol=0)


def test_kl_k3_keeps_its_digits_near_zero():
    logprobs = torch.tensor([-1.0, -2.0])
    k3 = kl_k3(logprobs, logprobs - 2e-4)
    torch.testing.assert_close(k3, torch.full((2,), 2e-8), rtol=0.02, atol=0)


def test_shapes_that_contradict_the_annotations_are_refused_in_tests():
    with pytest.raises(TypeCheckError):
        kl_k1(torch.zeros(2), torch.zeros(3))


def test_kl_of_half_precision_is_float32():
    assert kl_k3(torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2)).dtype == torch.float32


def test_adaptive_kl_coef_matches_the_golden_multiplier():
    coef = adaptive_kl_coef(1.0, 12.0, target=6.0, horizon=1e4, num_episodes=256)
    assert coef == pytest.approx(1.00512, abs=1e-9)


def test_adaptive_kl_coef_falls_when_the_kl_is_low():
    coef = adaptive_kl_coef(1.0, 5.4, target=6.0, horizon=1e4, num_episodes=256)
    assert coef == pytest.approx(1 - 0.1 * 0.0256, abs=1e-9)


def test_adaptive_kl_coef_steers_a_simulated_run_to_its_target():
    coef = 0.15
    for _ in range(1500):
        coef = adaptive_kl_coef(coef, 3.0 / coef, target=6.0, horizon=1e4, num_episodes=256)
    assert 3.0 / coef == pytest.approx(6.0, rel=0.1)


def test_adaptive_kl_coef_stays_within_its_bounds():
    arguments = {"target": 6.0, "horizon": 1.0, "num_episodes": 100}
    assert adaptive_kl_coef(1.0, 0.0, **arguments) == 1e-4
    assert adaptive_kl_coef(1.0, 99.0, **arguments) == 10.0


@pytest.mark.parametrize("kl", [math.nan, math.inf])
def test_adaptive_kl_coef_refuses_a_kl_that_is_not_finite(kl):
    with pytest.raises(ValueError, match="must be finite"):
        adaptive_kl_coef(1.0, kl, target=6.0, horizon=1e4, num_episodes=256)


@pytest.mark.parametrize(("target", "horizon"), [(0.0, 1e4), (6.0, 0.0)])
def test_adaptive_kl_coef_refuses_a_target_or_horizon_of_zero(target, horizon):
    with pytest.raises(ValueError, match="must be above 0"):
        adaptive_kl_coef(1.0, 6.0, target=target, horizon=horizon, num_episodes=256)
