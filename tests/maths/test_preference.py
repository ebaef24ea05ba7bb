import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.maths.preference import (
    cdpo,
    dpo,
    hinge,
    implicit_reward,
    ipo,
    kto,
    kto_baseline,
    length_normalised_dpo,
    length_normalised_ipo,
    length_regularised_dpo,
    log_odds,
    orpo,
    robust_dpo,
    simpo,
)

# Chosen, rejected, and the same under the reference: the margin h of log-ratios is 1.5.
PAIR = tuple(torch.tensor([x], dtype=torch.float64) for x in (-10.0, -12.0, -11.0, -11.5))
TOKENS = (torch.tensor([5]), torch.tensor([8]))
REFERENCE_LOSSES = [dpo, cdpo, robust_dpo, hinge, ipo]


def random_pairs(seed: int, num: int = 6):
    return tuple(-10 * torch.rand(4, num, generator=torch.Generator().manual_seed(seed)).double())


def swapped(pairs):
    chosen, rejected, ref_chosen, ref_rejected = pairs
    return rejected, chosen, ref_rejected, ref_chosen


@pytest.mark.parametrize(
    ("loss", "golden"),
    [
        (dpo(*PAIR, beta=0.1), 0.620957),
        (cdpo(*PAIR, beta=0.1, label_smoothing=0.1), 0.635957),
        (robust_dpo(*PAIR, beta=0.1, flip_rate=0.1), 0.602207),
        (hinge(*PAIR, beta=0.1), 0.85),
        (ipo(*PAIR, tau=0.1), 12.25),
        (length_normalised_ipo(*PAIR, *TOKENS, tau=0.1), 22.443906),
        (length_normalised_dpo(*PAIR, *TOKENS, beta=0.1), 0.680108),
    ],
    ids=["dpo", "cdpo", "robust_dpo", "hinge", "ipo", "ipo_per_token", "dpo_per_token"],
)
def test_preference_losses_match_golden_numbers(loss, golden):
    assert float(loss) == pytest.approx(golden, abs=1e-6)


@pytest.mark.parametrize(
    ("is_desirable", "log_ratio", "golden"), [(True, 1.0, 0.487503), (False, -0.5, 0.475021)]
)
def test_kto_matches_golden_numbers(is_desirable, log_ratio, golden):
    loss = kto(
        torch.tensor([log_ratio]), torch.zeros(1), torch.tensor([is_desirable]), torch.tensor(0.5)
    )
    assert float(loss) == pytest.approx(golden, abs=1e-6)


def test_orpo_matches_golden_numbers():
    chosen, rejected = torch.tensor([-2.5]).double(), torch.tensor([-8.0]).double()
    ratio = log_odds(chosen / 5) - log_odds(rejected / 8)
    assert float(ratio) == pytest.approx(0.974077, abs=1e-6)
    loss = orpo(chosen, rejected, *TOKENS, odds_weight=1.0)
    assert float(loss) == pytest.approx(0.5 + 0.320300, abs=1e-6)


def test_simpo_matches_the_golden_number():
    loss = simpo(torch.tensor([-2.5]), torch.tensor([-10.4]), *TOKENS, beta=2.0, target_margin=1.0)
    assert float(loss) == pytest.approx(0.437488, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), beta=st.floats(0.01, 5))
def test_dpo_at_policy_equal_to_reference_is_log_two(seed, beta):
    chosen, rejected, _, _ = random_pairs(seed)
    loss = dpo(chosen, rejected, chosen, rejected, beta=beta)
    assert torch.equal(loss, torch.full_like(loss, math.log(2)))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_dpo_gradient_flips_sign_under_swap_at_the_reference(seed):
    chosen, rejected, _, _ = random_pairs(seed)

    def pull(pairs):
        policy = [x.clone().requires_grad_() for x in pairs[:2]]
        dpo(*policy, *pairs[2:]).sum().backward()
        return [x.grad for x in policy]

    pairs = (chosen, rejected, chosen, rejected)
    forward, backward = pull(pairs), pull(swapped(pairs))
    torch.testing.assert_close(forward[0], -backward[1])
    torch.testing.assert_close(forward[1], -backward[0])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_dpo_of_a_pair_and_its_swap_are_probabilities_that_sum_to_one(seed):
    pairs = random_pairs(seed)
    total = torch.exp(-dpo(*pairs)) + torch.exp(-dpo(*swapped(pairs)))
    torch.testing.assert_close(total, torch.ones_like(total))


def test_dpo_gradient_equals_the_closed_form():
    chosen, rejected, ref_chosen, ref_rejected = random_pairs(0)
    chosen.requires_grad_()
    dpo(chosen, rejected, ref_chosen, ref_rejected, beta=0.3).sum().backward()
    margin = 0.3 * (chosen - ref_chosen - rejected + ref_rejected).detach()
    torch.testing.assert_close(chosen.grad, -0.3 * torch.sigmoid(-margin))


@pytest.mark.parametrize("loss", REFERENCE_LOSSES)
def test_preference_losses_send_no_gradient_into_the_reference(loss):
    pairs = [x.clone().requires_grad_() for x in random_pairs(0)]
    loss(*pairs).sum().backward()
    assert pairs[0].grad is not None
    assert pairs[2].grad is None
    assert pairs[3].grad is None


@pytest.mark.parametrize("loss", REFERENCE_LOSSES)
def test_preference_losses_of_half_precision_are_float32(loss):
    assert loss(*(x.bfloat16() for x in random_pairs(0))).dtype == torch.float32


def test_length_normalised_losses_divide_half_precision_in_float32():
    pairs = tuple(x.bfloat16() for x in random_pairs(0))
    tokens = torch.full((6,), 7)
    exact = dpo(*(x.float() / 7 for x in pairs), beta=5.0)
    assert torch.equal(length_normalised_dpo(*pairs, tokens, tokens), exact)


def test_length_normalised_dpo_of_equal_lengths_is_rescaled_dpo():
    tokens, pairs = torch.full((6,), 4), random_pairs(0)
    expected = dpo(*pairs, beta=0.25)
    torch.testing.assert_close(length_normalised_dpo(*pairs, tokens, tokens, beta=1.0), expected)


def test_length_regularised_dpo_of_equal_lengths_is_dpo():
    tokens, pairs = torch.full((6,), 4), random_pairs(0)
    torch.testing.assert_close(length_regularised_dpo(*pairs, tokens, tokens), dpo(*pairs))


def test_length_regularised_dpo_charges_for_the_longer_choice():
    chosen, rejected, _, _ = random_pairs(0)
    loss = length_regularised_dpo(
        chosen, rejected, chosen, rejected, torch.full((6,), 30), torch.full((6,), 10)
    )
    torch.testing.assert_close(loss, torch.full_like(loss, math.log1p(math.exp(0.2))))


@pytest.mark.parametrize("loss", [cdpo, robust_dpo])
def test_noisy_dpo_without_noise_is_dpo(loss):
    option = "label_smoothing" if loss is cdpo else "flip_rate"
    pairs = random_pairs(0)
    torch.testing.assert_close(loss(*pairs, **{option: 0.0}), dpo(*pairs))


def test_robust_dpo_averages_over_flips_to_the_clean_loss():
    pairs = random_pairs(0)
    kept, flipped = robust_dpo(*pairs, flip_rate=0.2), robust_dpo(*swapped(pairs), flip_rate=0.2)
    torch.testing.assert_close(0.8 * kept + 0.2 * flipped, dpo(*pairs))


def test_cdpo_is_smallest_at_the_log_odds_of_the_smoothing():
    best = torch.tensor([math.log(0.9 / 0.1) / 0.1], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1).double()
    cdpo(best, zero, zero, zero, beta=0.1, label_smoothing=0.1).backward()
    torch.testing.assert_close(best.grad, zero, atol=1e-12, rtol=0)


def test_ipo_is_zero_at_its_finite_target():
    zero = torch.zeros(1)
    assert float(ipo(torch.tensor([5.0]), zero, zero, zero, tau=0.1)) == 0


def test_hinge_stops_pulling_beyond_its_margin():
    zero, chosen = torch.zeros(1), torch.tensor([10.5], requires_grad=True)
    hinge(chosen, zero, zero, zero, beta=0.1).backward()
    assert float(chosen.grad) == 0


def test_kto_baseline_is_never_negative_and_carries_no_gradient():
    logprobs = torch.tensor([-3.0, -4.0], requires_grad=True)
    assert float(kto_baseline(logprobs, torch.tensor([-4.0, -7.0]))) == 2.0
    below = kto_baseline(logprobs, torch.zeros(2))
    assert float(below) == 0.0
    assert not below.requires_grad


def test_kto_pushes_desirable_up_and_undesirable_down():
    logprobs = torch.zeros(2, requires_grad=True)
    is_desirable = torch.tensor([True, False])
    kto(logprobs, torch.zeros(2), is_desirable, torch.tensor(0.0)).sum().backward()
    assert logprobs.grad[0] < 0 < logprobs.grad[1]


def test_kto_weights_multiply_their_own_side():
    arguments = (torch.zeros(2), torch.zeros(2), torch.tensor([True, False]), torch.tensor(0.0))
    loss = kto(*arguments, desirable_weight=2.0, undesirable_weight=3.0)
    assert loss.tolist() == [1.0, 1.5]


def test_orpo_without_odds_is_the_mean_token_likelihood():
    chosen, rejected, _, _ = random_pairs(0)
    tokens = torch.full((6,), 4)
    torch.testing.assert_close(orpo(chosen, rejected, tokens, tokens, odds_weight=0.0), -chosen / 4)


@pytest.mark.parametrize("mean_logprob", [-1e-6, -0.3, -1.0, -30.0])
def test_log_odds_in_float32_agree_with_float64_and_have_finite_gradients(mean_logprob):
    logprob = torch.tensor([mean_logprob], requires_grad=True)
    odds = log_odds(logprob)
    odds.backward()
    # float32 carries 24 bits: relative 1e-6 of the value.
    torch.testing.assert_close(
        odds.double(), log_odds(logprob.detach().double()), rtol=1e-6, atol=1e-6
    )
    assert logprob.grad.isfinite()


def test_simpo_costs_log_two_where_the_gap_equals_the_target():
    tokens = torch.tensor([4])
    loss = simpo(torch.tensor([-4.0]), torch.tensor([-6.0]), tokens, tokens)
    assert float(loss) == pytest.approx(math.log(2))


def test_implicit_reward_is_beta_times_the_log_ratio():
    reward = implicit_reward(torch.tensor([-1.0]), torch.tensor([-3.0]), beta=0.5)
    assert reward.tolist() == [1.0]
