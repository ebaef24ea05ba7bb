"""Direct preference optimisation on the enumerable world: every pair, exact probabilities."""

import pytest
import torch

from heedful.maths.preference import dpo, ipo, kto, kto_baseline

from .world import World, make_world, tilted, total_variation

BETA = 0.5


@pytest.fixture(scope="module")
def setting():
    world = make_world()
    return world, world.random_logits(1), world.random_rewards(2)


def minimise(loss, logits, num_steps: int = 200, lr: float = 0.1):
    logits = logits.clone().requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=lr)
    for _ in range(num_steps):
        optimiser.zero_grad()
        loss(logits).backward()
        optimiser.step()
    return logits.detach()


def every_pair(world: World, logits, ref_logits):
    """Log-probabilities of all ordered pairs (i chosen, j rejected), flattened."""
    logprobs, ref_logprobs = world.logprobs(logits), world.logprobs(ref_logits)
    num = len(logprobs)
    chosen, rejected = (
        grid.flatten() for grid in torch.meshgrid(*2 * [torch.arange(num)], indexing="ij")
    )
    return logprobs[chosen], logprobs[rejected], ref_logprobs[chosen], ref_logprobs[rejected]


def fit_dpo(world: World, ref_logits, wins: torch.Tensor):
    def loss(logits):
        return (wins.flatten() * dpo(*every_pair(world, logits, ref_logits), beta=BETA)).mean()

    return minimise(loss, ref_logits)


def test_dpo_on_exact_preferences_reaches_the_tilted_optimum(setting):
    world, ref_logits, rewards = setting
    wins = torch.sigmoid(rewards[:, None] - rewards)
    optimum = tilted(world.logprobs(ref_logits), rewards, BETA)
    logits = fit_dpo(world, ref_logits, wins)
    assert total_variation(world.logprobs(logits), optimum) < 0.02


def test_dpo_on_coin_tosses_stays_at_the_reference(setting):
    world, ref_logits, rewards = setting
    wins = torch.full((len(rewards), len(rewards)), 0.5, dtype=torch.float64)
    logits = fit_dpo(world, ref_logits, wins)
    assert total_variation(world.logprobs(logits), world.logprobs(ref_logits)) < 1e-6


@pytest.mark.parametrize(("loss", "is_bounded"), [(dpo, False), (ipo, True)])
def test_only_ipo_has_a_finite_goal_for_deterministic_preferences(setting, loss, is_bounded):
    world, ref_logits, _ = setting
    ref_logprobs = world.logprobs(ref_logits)

    def margin(logits):
        log_ratios = world.logprobs(logits) - ref_logprobs
        return log_ratios[0] - log_ratios[1]

    def pair_loss(logits):
        logprobs = world.logprobs(logits)
        return loss(*logprobs[:2].split(1), *ref_logprobs[:2].split(1)).sum()

    margins = [float(margin(minimise(pair_loss, ref_logits, n))) for n in (200, 400)]
    if is_bounded:
        assert margins == pytest.approx([5.0, 5.0], abs=0.05)
    else:
        assert margins[1] > margins[0] + 1 > 6


def test_kto_on_unpaired_marks_recovers_the_good_responses(setting):
    world, ref_logits, rewards = setting
    ref_logprobs, is_good = world.logprobs(ref_logits), rewards > 0

    def loss(logits):
        logprobs = world.logprobs(logits)
        baseline = kto_baseline(logprobs.roll(1), ref_logprobs.roll(1))
        return kto(logprobs, ref_logprobs, is_good, baseline, beta=BETA).mean()

    logits = minimise(loss, ref_logits)
    good = is_good.double()
    assert world.expected(logits, good) > world.expected(ref_logits, good) + 0.2
