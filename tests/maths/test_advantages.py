import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.maths.advantages import (
    group_advantages,
    leave_one_out_advantages,
    reinforce_plus_plus_advantages,
)

REWARDS = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
SIGNS = torch.tensor([[1.0, -1.0, -1.0, 1.0]])


def test_group_advantages_match_golden_numbers():
    torch.testing.assert_close(group_advantages(REWARDS), 0.865875 * SIGNS, atol=1e-6, rtol=0)


def test_group_advantages_with_population_variance_match_golden_numbers():
    torch.testing.assert_close(group_advantages(REWARDS, ddof=0, eps=0.0), SIGNS)


def test_group_advantages_without_scale_are_centred_rewards():
    torch.testing.assert_close(group_advantages(REWARDS, scale=False), 0.5 * SIGNS)


def test_leave_one_out_advantages_match_golden_numbers():
    torch.testing.assert_close(
        leave_one_out_advantages(REWARDS), 0.666667 * SIGNS, atol=1e-6, rtol=0
    )


def test_group_advantages_of_equal_rewards_are_zero():
    assert group_advantages(torch.full((2, 4), 0.3)).abs().max() < 1e-3
    assert torch.equal(group_advantages(torch.full((2, 4), 0.5)), torch.zeros(2, 4))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), group_size=st.integers(2, 8), shift=st.floats(-5, 5))
def test_group_advantages_ignore_shift_and_scale(seed, group_size, shift):
    rewards = torch.randn(3, group_size, generator=torch.Generator().manual_seed(seed)).double()
    moved = group_advantages(3 * rewards + shift, eps=0.0)
    torch.testing.assert_close(moved, group_advantages(rewards, eps=0.0), atol=1e-8, rtol=1e-8)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), group_size=st.integers(2, 8))
def test_leave_one_out_advantages_are_the_scaled_centred_reward(seed, group_size):
    rewards = torch.randn(3, group_size, generator=torch.Generator().manual_seed(seed)).double()
    advantages = leave_one_out_advantages(rewards)
    centred = group_advantages(rewards, scale=False)
    torch.testing.assert_close(advantages, group_size / (group_size - 1) * centred)
    torch.testing.assert_close(advantages.sum(1), torch.zeros(3).double(), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("formula", "algorithm"), [(group_advantages, "GRPO"), (leave_one_out_advantages, "RLOO")]
)
def test_group_formulas_refuse_a_group_of_one(formula, algorithm):
    message = f"group_size is 1; {algorithm} needs at least 2 to centre rewards; set --group-size 8"
    with pytest.raises(ValueError, match=message):
        formula(torch.zeros(3, 1))


def test_reinforce_plus_plus_whitens_rewards_to_go_over_the_batch():
    rewards = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 3.0]]).double()
    mask = torch.tensor([[True, True, False], [True, True, True]])
    advantages = reinforce_plus_plus_advantages(rewards, mask)
    returns = torch.tensor([1.0, 1.0, 3.0, 3.0, 3.0]).double()
    torch.testing.assert_close(advantages[mask], (returns - returns.mean()) / returns.std())
    assert advantages[0, 2] == 0


def test_reinforce_plus_plus_has_a_signal_with_one_response_per_prompt():
    rewards, mask = torch.tensor([[1.0], [0.0]]), torch.ones(2, 1, dtype=torch.bool)
    advantages = reinforce_plus_plus_advantages(rewards, mask)
    assert advantages[0, 0] > 0 > advantages[1, 0]
