import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.maths.returns import gae, rewards_to_go, token_rewards

NAN = float("nan")


def right_padded(seed: int, num_rows: int = 4, num_tokens: int = 6):
    generator = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, num_rows, num_tokens, generator=generator).double()
    lengths = torch.randint(1, num_tokens + 1, (num_rows, 1), generator=generator)
    return rewards, values, torch.arange(num_tokens) < lengths


def slow_gae(rewards, values, mask, gamma, gae_lambda):
    advantages = np.zeros(mask.shape)
    for b in range(len(mask)):
        length = int(mask[b].sum())
        for t in range(length):
            for s in range(t, length):
                following = values[b, s + 1] if s + 1 < length else 0.0
                delta = rewards[b, s] + gamma * following - values[b, s]
                advantages[b, t] += (gamma * gae_lambda) ** (s - t) * delta
    return advantages


def test_gae_matches_golden_numbers():
    rewards, values = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.6, 0.7]])
    advantages, returns = gae(rewards, values, torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(advantages, torch.tensor([[0.46575, 0.385, 0.3]]))
    torch.testing.assert_close(returns, torch.tensor([[0.96575, 0.985, 1.0]]))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), gamma=st.floats(0, 1), gae_lambda=st.floats(0, 1))
def test_gae_equals_the_definition_summed_term_by_term(seed, gamma, gae_lambda):
    rewards, values, mask = right_padded(seed)
    advantages, returns = gae(rewards, values, mask, gamma=gamma, gae_lambda=gae_lambda)
    expected = slow_gae(rewards.numpy(), values.numpy(), mask.numpy(), gamma, gae_lambda)
    np.testing.assert_allclose(advantages.numpy(), expected, atol=1e-10)
    np.testing.assert_allclose(returns[mask], (advantages + values)[mask], atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), padding=st.sampled_from([0.0, NAN, float("inf")]))
def test_gae_does_not_see_padding(seed, padding):
    rewards, values, mask = right_padded(seed)
    clean = gae(rewards, values, mask)
    rewards[~mask], values[~mask] = padding, padding
    dirty = gae(rewards, values, mask)
    assert torch.equal(clean[0], dirty[0])
    assert torch.equal(clean[1], dirty[1])


def test_gae_with_lambda_one_equals_return_minus_value():
    rewards, values, mask = right_padded(0)
    advantages, _ = gae(rewards, values, mask, gae_lambda=1.0)
    difference = rewards_to_go(rewards, mask) - torch.where(mask, values, 0)
    torch.testing.assert_close(advantages, difference)


def test_gae_with_lambda_zero_equals_the_one_step_error():
    rewards, values = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.25]])
    advantages, _ = gae(rewards, values, torch.ones(1, 2, dtype=torch.bool), gae_lambda=0.0)
    assert advantages.tolist() == [[0.75, 1.75]]


def test_gae_of_a_perfect_critic_without_noise_is_zero():
    rewards, _, mask = right_padded(1)
    advantages, _ = gae(rewards, rewards_to_go(rewards, mask), mask)
    torch.testing.assert_close(advantages, torch.zeros_like(advantages), atol=1e-12, rtol=0)


def test_gae_carries_no_gradient_into_the_critic():
    rewards, values, mask = right_padded(0)
    advantages, returns = gae(rewards, values.requires_grad_(), mask)
    assert not advantages.requires_grad
    assert not returns.requires_grad


def test_gae_refuses_a_token_after_padding():
    mask = torch.tensor([[True, True, True], [True, False, True]])
    with pytest.raises(ValueError, match="row 1 of the mask"):
        gae(torch.zeros(2, 3), torch.zeros(2, 3), mask)


def test_rewards_to_go_discounts_what_follows():
    rewards, mask = torch.tensor([[1.0, 2.0, 4.0]]), torch.ones(1, 3, dtype=torch.bool)
    assert rewards_to_go(rewards, mask, gamma=0.5).tolist() == [[3.0, 4.0, 4.0]]


def test_token_rewards_put_the_score_on_the_last_response_token():
    logprobs = torch.tensor([[-1.0, -2.0, NAN], [-1.0, -1.0, -1.0]])
    ref_logprobs = torch.tensor([[-2.0, -2.0, 0.0], [-1.0, -1.0, -3.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    rewards = token_rewards(torch.tensor([10.0, 20.0]), logprobs, ref_logprobs, mask, kl_coef=0.5)
    assert rewards.tolist() == [[-0.5, 10.0, 0.0], [0.0, 0.0, 19.0]]


def test_token_rewards_sum_to_the_score_minus_the_kl_penalty():
    logprobs, ref_logprobs, mask = right_padded(3)
    scores = torch.randn(4).double()
    rewards = token_rewards(scores, logprobs, ref_logprobs, mask, kl_coef=0.2)
    penalty = torch.where(mask, logprobs - ref_logprobs, 0).sum(1)
    torch.testing.assert_close(rewards.sum(1), scores - 0.2 * penalty)


def test_token_rewards_carry_no_gradient():
    logprobs, ref_logprobs, mask = right_padded(3)
    rewards = token_rewards(
        torch.zeros(4), logprobs.requires_grad_(), ref_logprobs, mask, kl_coef=0.2
    )
    assert not rewards.requires_grad


def test_token_rewards_refuse_an_empty_response():
    mask = torch.tensor([[True, True], [False, False]])
    with pytest.raises(ValueError, match="row 1 has 0 response tokens"):
        token_rewards(torch.ones(2), torch.zeros(2, 2), torch.zeros(2, 2), mask, kl_coef=0.1)
