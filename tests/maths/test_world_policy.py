"""Policy optimisation on the enumerable world: does it climb, and where does it end?"""

import pytest
import torch

from heedful.maths.advantages import group_advantages, leave_one_out_advantages
from heedful.maths.kl import kl_k1
from heedful.maths.masked import masked_sum
from heedful.maths.policy import clipped_policy_loss, clipped_value_loss, explained_variance
from heedful.maths.returns import gae, token_rewards

from .world import World, make_world, tilted, total_variation

BETA = 0.5


def ppo(world: World, ref_logits, rewards, *, num_iterations: int, kl_coef: float = BETA):
    """PPO whose rollout is the list of all responses, weighted by their probability."""
    logits = ref_logits.clone().requires_grad_()
    table = torch.zeros(world.num_states, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([logits, table], lr=0.05)
    ref_logprobs = world.token_logprobs(ref_logits)
    for _ in range(num_iterations):
        with torch.no_grad():
            old_logprobs, old_values = world.token_logprobs(logits), table[world.states]
            weights = world.logprobs(logits).exp()
        scores = token_rewards(rewards, old_logprobs, ref_logprobs, world.mask, kl_coef=kl_coef)
        advantages, returns = gae(scores, old_values, world.mask)
        for _ in range(4):
            policy_loss = clipped_policy_loss(
                world.token_logprobs(logits), old_logprobs, advantages, world.mask
            )
            value_loss = clipped_value_loss(table[world.states], old_values, returns, world.mask)
            loss = weights @ masked_sum(policy_loss + value_loss, world.mask, dim=1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return logits.detach(), explained_variance(table[world.states], returns, world.mask)


@pytest.fixture(scope="module")
def setting():
    world = make_world()
    return world, world.random_logits(1), world.random_rewards(2)


def test_ppo_reaches_the_tilted_optimum(setting):
    world, ref_logits, rewards = setting
    optimum = tilted(world.logprobs(ref_logits), rewards, BETA)
    logits, explained = ppo(world, ref_logits, rewards, num_iterations=60)
    assert total_variation(world.logprobs(ref_logits), optimum) > 0.3
    assert total_variation(world.logprobs(logits), optimum) < 0.05
    assert explained > 0


def test_ppo_without_reward_returns_to_the_reference(setting):
    world, ref_logits, rewards = setting
    start, _ = ppo(world, ref_logits, rewards, num_iterations=10, kl_coef=0.0)
    ended, _ = ppo(world, ref_logits, torch.zeros_like(rewards), num_iterations=10)
    assert float(world.kl(start, ref_logits)) > 0.1
    assert float(world.kl(ended, ref_logits)) < 1e-3


def rloo_gradients(world: World, logits, ref_logits, rewards, *, num_groups: int, group_size: int):
    """One gradient of the objective per group, [num_groups, S * V], by RLOO and by REINFORCE."""
    generator = torch.Generator().manual_seed(0)
    drawn = world.sample(logits, num_groups * group_size, generator).view(num_groups, group_size)
    tokens = kl_k1(world.token_logprobs(logits), world.token_logprobs(ref_logits))
    regularised = rewards - BETA * masked_sum(tokens, world.mask, dim=1)
    scores = world.scores(logits)[drawn]
    advantages = leave_one_out_advantages(regularised[drawn])
    with_baseline = (advantages[..., None] * scores).mean(1)
    return with_baseline, (regularised[drawn][..., None] * scores).mean(1)


def test_rloo_gradient_is_unbiased(setting):
    world, ref_logits, rewards = setting
    logits = world.random_logits(3).requires_grad_()
    objective = world.objective(logits, ref_logits, rewards, BETA)
    (exact,) = torch.autograd.grad(objective, logits)
    exact = exact.flatten()
    gradients, _ = rloo_gradients(
        world, logits.detach(), ref_logits, rewards, num_groups=20_000, group_size=4
    )
    along = gradients @ (exact / exact.norm())
    standard_error = along.std() / len(along) ** 0.5
    assert abs(along.mean() - exact.norm()) < 3 * standard_error
    # 21 coordinates: the largest of as many standard normals stays below 4.
    errors = (gradients.mean(0) - exact) / (gradients.std(0) / len(gradients) ** 0.5)
    assert errors.abs().max() < 4


def test_rloo_has_less_variance_than_reinforce_without_a_baseline(setting):
    world, ref_logits, rewards = setting
    with_baseline, without = rloo_gradients(
        world, world.random_logits(3), ref_logits, rewards + 2, num_groups=2000, group_size=4
    )
    assert with_baseline.var(0).sum() < 0.5 * without.var(0).sum()


def grpo_gain(world: World, ref_logits, rewards, *, scale: bool, seed: int, is_blind: bool = False):
    """Rise of the expected reward in 60 updates; a blind run sees rewards of other responses."""
    generator = torch.Generator().manual_seed(seed)
    logits = ref_logits.clone().requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.05)
    for _ in range(60):
        drawn = world.sample(logits.detach(), 64, generator)
        seen = rewards[drawn[torch.randperm(64, generator=generator)] if is_blind else drawn]
        advantages = group_advantages(seen.view(8, 8), scale=scale).view(64, 1)
        mask, logprobs = world.mask[drawn], world.token_logprobs(logits)[drawn]
        loss = clipped_policy_loss(logprobs, logprobs.detach(), advantages, mask)
        optimiser.zero_grad()
        masked_sum(loss, mask).div(64).backward()
        optimiser.step()
    return float(world.expected(logits.detach(), rewards) - world.expected(ref_logits, rewards))


@pytest.mark.parametrize("scale", [True, False], ids=["grpo", "dr_grpo"])
def test_grpo_raises_the_expected_reward_and_needs_the_reward_for_it(setting, scale):
    world, ref_logits, rewards = setting
    runs = [(seed, is_blind) for is_blind in (False, True) for seed in range(5)]
    gains = torch.tensor(
        [grpo_gain(world, ref_logits, rewards, scale=scale, seed=s, is_blind=b) for s, b in runs]
    ).view(2, 5)
    standard_error = gains.std(1) / 5**0.5
    assert gains[0].mean() - 4 * standard_error[0] > 0.3
    assert gains[1].mean() - 4 * standard_error[1] < 0.1


def test_grpo_of_equal_rewards_has_no_gradient(setting):
    world, ref_logits, _ = setting
    logits = ref_logits.clone().requires_grad_()
    drawn = world.sample(ref_logits, 8, torch.Generator().manual_seed(0))
    advantages = group_advantages(torch.ones(1, 8).double()).T
    logprobs, mask = world.token_logprobs(logits)[drawn], world.mask[drawn]
    masked_sum(clipped_policy_loss(logprobs, logprobs.detach(), advantages, mask), mask).backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))
