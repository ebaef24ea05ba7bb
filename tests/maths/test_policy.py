import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.maths.masked import masked_mean, masked_sum
from heedful.maths.policy import (
    clip_share,
    clipped_policy_loss,
    clipped_value_loss,
    explained_variance,
)

NAN = float("nan")
ONE = torch.ones(1, 1, dtype=torch.bool)


def random_batch(seed: int, num_rows: int = 3, num_tokens: int = 5):
    generator = torch.Generator().manual_seed(seed)
    first, second, third = torch.randn(3, num_rows, num_tokens, generator=generator).double()
    lengths = torch.randint(1, num_tokens + 1, (num_rows, 1), generator=generator)
    return first, first + 0.3 * second, third, torch.arange(num_tokens) < lengths


def policy_gradient(ratio: float, advantage: float, **options) -> float:
    """Derivative of the loss in the log-probability."""
    logprobs = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    old, advantages = torch.zeros(1, 1).double(), torch.full((1, 1), advantage).double()
    clipped_policy_loss(logprobs, old, advantages, ONE, **options).sum().backward()
    return float(logprobs.grad)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_policy_loss_equals_a_slow_loop(seed):
    logprobs, old_logprobs, advantages, mask = random_batch(seed)
    expected = np.zeros(mask.shape)
    for b, t in zip(*np.nonzero(mask.numpy()), strict=True):
        ratio = math.exp(logprobs[b, t] - old_logprobs[b, t])
        clipped = min(max(ratio, 0.8), 1.2)
        expected[b, t] = -min(ratio * advantages[b, t], clipped * advantages[b, t])
    loss = clipped_policy_loss(logprobs, old_logprobs, advantages, mask)
    np.testing.assert_allclose(loss.numpy(), expected, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_value_loss_equals_a_slow_loop(seed):
    values, old_values, returns, mask = random_batch(seed)
    v, old, goal = values.numpy(), old_values.numpy(), returns.numpy()
    expected = np.zeros(mask.shape)
    for b, t in zip(*np.nonzero(mask.numpy()), strict=True):
        near = min(max(v[b, t], old[b, t] - 0.2), old[b, t] + 0.2)
        expected[b, t] = 0.5 * max((v[b, t] - goal[b, t]) ** 2, (near - goal[b, t]) ** 2)
    loss = clipped_value_loss(values, old_values, returns, mask)
    np.testing.assert_allclose(loss.numpy(), expected, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_policy_loss_on_policy_is_minus_the_advantage(seed):
    logprobs, _, advantages, mask = random_batch(seed)
    loss = clipped_policy_loss(logprobs, logprobs, advantages, mask)
    assert torch.equal(loss[mask], -advantages[mask])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), padding=st.sampled_from([NAN, math.inf, -math.inf, 1e4]))
def test_losses_and_their_gradients_do_not_see_padding(seed, padding):
    logprobs, old_logprobs, advantages, mask = random_batch(seed)

    def run(fill):
        inputs = [torch.where(mask, x, fill) for x in (logprobs, old_logprobs, advantages)]
        inputs[0].requires_grad_()
        policy_loss, value_loss = (
            clipped_policy_loss(*inputs, mask),
            clipped_value_loss(*inputs, mask),
        )
        (gradient,) = torch.autograd.grad((policy_loss + value_loss).sum(), inputs[0])
        return policy_loss, value_loss, gradient

    for clean, dirty in zip(run(0.0), run(padding), strict=True):
        assert torch.equal(clean, dirty)


@pytest.mark.parametrize(
    ("ratio", "advantage", "gradient"),
    [
        (1.3, 1.0, 0.0),
        (1.3, -1.0, 1.3),
        (0.7, 1.0, -0.7),
        (0.7, -1.0, 0.0),
        (1.1, 1.0, -1.1),
        (0.9, -1.0, 0.9),
    ],
)
def test_policy_gradient_vanishes_only_where_the_clip_binds(ratio, advantage, gradient):
    assert policy_gradient(ratio, advantage) == pytest.approx(gradient)


def test_policy_loss_with_a_higher_ceiling_lets_rare_tokens_grow():
    assert policy_gradient(1.25, 1.0) == 0.0
    assert policy_gradient(1.25, 1.0, clip_range_high=0.28) == pytest.approx(-1.25)
    assert policy_gradient(0.75, -1.0, clip_range_high=0.28) == 0.0


def test_policy_loss_broadcasts_one_advantage_per_response():
    logprobs, old_logprobs, _, mask = random_batch(0)
    per_response = torch.tensor([[1.0], [-1.0], [0.5]]).double()
    spread = clipped_policy_loss(logprobs, old_logprobs, per_response.expand(3, 5), mask)
    assert torch.equal(clipped_policy_loss(logprobs, old_logprobs, per_response, mask), spread)


def test_policy_loss_of_half_precision_is_float32():
    x = torch.zeros(1, 1, dtype=torch.bfloat16)
    assert clipped_policy_loss(x, x, x, ONE).dtype == torch.float32


def test_value_loss_of_an_unlimited_range_is_half_the_squared_error():
    values, old_values, returns, mask = random_batch(0)
    loss = clipped_value_loss(values, old_values, returns, mask, value_clip_range=math.inf)
    torch.testing.assert_close(loss[mask], (values - returns)[mask] ** 2 / 2)


def test_clip_share_counts_the_tokens_without_gradient():
    logprobs = torch.tensor([[1.3, 1.3, 0.7, 0.7, 1.0, 9.0]]).log()
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, True, True, True, False]])
    assert float(clip_share(logprobs, torch.zeros(1, 6), advantages, mask)) == pytest.approx(2 / 5)


def test_clip_share_on_policy_is_zero():
    logprobs, _, advantages, mask = random_batch(0)
    assert clip_share(logprobs, logprobs, advantages, mask) == 0


def test_explained_variance_of_perfect_values_is_one():
    _, _, returns, mask = random_batch(0)
    assert float(explained_variance(returns + 3, returns, mask)) == pytest.approx(1)


def test_explained_variance_of_a_constant_is_zero():
    _, _, returns, mask = random_batch(0)
    assert float(explained_variance(torch.zeros_like(returns), returns, mask)) == pytest.approx(0)


def test_explained_variance_of_equal_returns_is_undefined():
    values, _, _, mask = random_batch(0)
    assert explained_variance(values, torch.ones_like(values), mask).isnan()


def test_reductions_weigh_two_wrong_answers_by_length_only_under_grpo():
    mask = torch.arange(50) < torch.tensor([[5], [50]])
    reductions = {
        "grpo": lambda loss: masked_mean(loss, mask, dim=1).mean(),
        "dapo": lambda loss: masked_mean(loss, mask),
        "dr_grpo": lambda loss: masked_sum(loss, mask) / (2 * 50),
    }
    push = {}
    for name, reduce in reductions.items():
        logprobs = torch.zeros(2, 50, requires_grad=True)
        loss = clipped_policy_loss(logprobs, torch.zeros(2, 50), -torch.ones(2, 1), mask)
        (push[name],) = torch.autograd.grad(reduce(loss), logprobs)
    assert float(push["grpo"][0, 0] / push["grpo"][1, 0]) == pytest.approx(10)
    assert push["dapo"][0, 0] == push["dapo"][1, 0]
    assert push["dr_grpo"][0, 0] == push["dr_grpo"][1, 0]
