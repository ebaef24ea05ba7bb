"""The oracle itself, and the theory that ties KL-regularised reward to its optimum."""

import pytest
import torch

from heedful.maths.kl import kl_k1, kl_k2
from heedful.maths.masked import masked_sum

from .world import make_world, tilted, total_variation


def test_world_lists_every_response_once():
    world = make_world(num_tokens=4, max_tokens=3)
    assert len(world.tokens) == 40
    assert torch.isclose(
        world.logprobs(world.random_logits(0)).exp().sum(), torch.tensor(1.0).double()
    )


def test_tilted_optimum_matches_golden_numbers():
    rewards = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    ref_logprobs = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()
    optimum = tilted(ref_logprobs, rewards, 0.5)
    expected = torch.tensor([0.732165, 0.247720, 0.020115]).double()
    torch.testing.assert_close(optimum.exp(), expected, atol=1e-6, rtol=0)
    best = (optimum.exp() * (rewards - 0.5 * (optimum - ref_logprobs))).sum()
    assert float(best) == pytest.approx(0.351155, abs=1e-6)


def test_sequence_kl_is_the_expected_sum_of_token_k1():
    world = make_world()
    logits, ref_logits = world.random_logits(0), world.random_logits(1)
    tokens = kl_k1(world.token_logprobs(logits), world.token_logprobs(ref_logits))
    by_token = world.expected(logits, masked_sum(tokens, world.mask, dim=1))
    torch.testing.assert_close(by_token, world.kl(logits, ref_logits))


def test_k1_as_a_loss_has_zero_expected_gradient():
    world = make_world()
    logits = world.random_logits(0).requires_grad_()
    loss = kl_k1(world.token_logprobs(logits), world.token_logprobs(world.random_logits(1)))
    weights = world.logprobs(logits).exp().detach()
    (weights * masked_sum(loss, world.mask, dim=1)).sum().backward()
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), atol=1e-12, rtol=0)


def test_k2_of_the_response_as_a_loss_has_the_gradient_of_the_kl():
    world = make_world()
    logits, ref_logits = world.random_logits(0).requires_grad_(), world.random_logits(1)
    (exact,) = torch.autograd.grad(world.kl(logits, ref_logits), logits)
    weights = world.logprobs(logits).exp().detach()
    loss = (weights * kl_k2(world.logprobs(logits), world.logprobs(ref_logits))).sum()
    (estimated,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(estimated, exact)


def test_gradient_ascent_on_the_objective_reaches_the_tilted_optimum():
    world, beta = make_world(), 0.5
    ref_logits, rewards = world.random_logits(1), world.random_rewards(2)
    logits = ref_logits.clone().requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        (-world.objective(logits, ref_logits, rewards, beta)).backward()
        optimiser.step()
    optimum = tilted(world.logprobs(ref_logits), rewards, beta)
    assert total_variation(world.logprobs(ref_logits), optimum) > 0.3
    assert total_variation(world.logprobs(logits.detach()), optimum) < 0.01


def test_scaling_reward_and_beta_together_leaves_the_optimum_unchanged():
    world = make_world()
    ref_logprobs, rewards = world.logprobs(world.random_logits(1)), world.random_rewards(2)
    torch.testing.assert_close(
        tilted(ref_logprobs, rewards, 0.5), tilted(ref_logprobs, 2 * rewards, 1.0)
    )
