import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from heedful.maths.reward import (
    annotator_accuracy,
    best_of_k,
    bradley_terry,
    centring_penalty,
    constant_error_bradley_terry,
    crowd_bradley_terry,
    davidson,
    label_evidence,
    plackett_luce,
    ranked_pairs,
    rao_kupper,
    skill_prior,
    unbiased_bradley_terry,
)

LOSSES = [bradley_terry, unbiased_bradley_terry, constant_error_bradley_terry]
STRENGTHS = (torch.tensor([2.0]).double().log(), torch.tensor([1.0]).double().log())


def random_scores(seed: int, *shape: int):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def full(scores):
    return torch.ones_like(scores, dtype=torch.bool)


def fit(loss, features: torch.Tensor) -> torch.Tensor:
    """Weights of a linear reward, chosen minus rejected features, by Newton's method."""
    weights = torch.zeros(features.size(1), dtype=torch.float64)
    zeros = torch.zeros(len(features), dtype=torch.float64)

    def mean_loss(w):
        return loss(features @ w, zeros).mean()

    for _ in range(20):
        gradient = torch.autograd.functional.jacobian(mean_loss, weights)
        hessian = torch.autograd.functional.hessian(mean_loss, weights)
        weights = weights - torch.linalg.solve(hessian, gradient)
    return weights


def simulate(num_pairs: int, flip_rate: float):
    """Chosen-minus-rejected features of simulated answers, and the weights behind them."""
    rng = np.random.default_rng(0)
    truth = np.array([1.0, -0.5, 0.25, 0.0, 0.8])
    difference = rng.normal(size=(num_pairs, 5))
    wins = rng.random(num_pairs) < 1 / (1 + np.exp(-difference @ truth))
    wins ^= rng.random(num_pairs) < flip_rate
    return torch.from_numpy(np.where(wins[:, None], difference, -difference)), torch.from_numpy(
        truth
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), shift=st.floats(-50, 50))
def test_bradley_terry_ignores_a_constant_and_inverts_under_swap(seed, shift):
    chosen, rejected = random_scores(seed, 2, 5)
    loss = bradley_terry(chosen, rejected)
    torch.testing.assert_close(bradley_terry(chosen + shift, rejected + shift), loss)
    total = torch.exp(-loss) + torch.exp(-bradley_terry(rejected, chosen))
    torch.testing.assert_close(total, torch.ones_like(total))


def test_bradley_terry_stays_exact_for_extreme_scores():
    loss = bradley_terry(torch.tensor([0.0, 200.0]), torch.tensor([200.0, 0.0]))
    assert loss.tolist() == [200.0, 0.0]


def test_bradley_terry_gradient_is_the_error_of_the_predicted_probability():
    chosen, rejected = random_scores(0, 2, 5)
    chosen.requires_grad_()
    bradley_terry(chosen, rejected).sum().backward()
    torch.testing.assert_close(chosen.grad, torch.sigmoid((chosen - rejected).detach()) - 1)


def test_bradley_terry_with_margin_costs_log_two_at_the_margin():
    margin = torch.tensor([0.0, 1.0, 3.0])
    loss = bradley_terry(margin + 0.5, torch.full((3,), 0.5), margin=margin)
    torch.testing.assert_close(loss, torch.full((3,), math.log(2)))


def test_bradley_terry_with_smoothing_is_smallest_at_the_log_odds():
    best = torch.tensor([math.log(9)], dtype=torch.float64, requires_grad=True)
    bradley_terry(best, torch.zeros(1).double(), label_smoothing=0.1).backward()
    assert float(best.grad) == pytest.approx(0, abs=1e-12)


def test_bradley_terry_with_smoothing_is_the_mean_over_flips():
    chosen, rejected = random_scores(0, 2, 5)
    flips = 0.8 * bradley_terry(chosen, rejected, margin=0.5)
    flips += 0.2 * bradley_terry(rejected, chosen, margin=0.5)
    torch.testing.assert_close(
        bradley_terry(chosen, rejected, margin=0.5, label_smoothing=0.2), flips
    )


def test_unbiased_bradley_terry_averages_over_flips_to_the_clean_loss():
    chosen, rejected = random_scores(0, 2, 5)
    kept = unbiased_bradley_terry(chosen, rejected, flip_rate=0.3)
    flipped = unbiased_bradley_terry(rejected, chosen, flip_rate=0.3)
    torch.testing.assert_close(0.7 * kept + 0.3 * flipped, bradley_terry(chosen, rejected))


def test_constant_error_matches_the_golden_probability():
    loss = constant_error_bradley_terry(
        torch.tensor([1.0]), torch.tensor([0.0]), constant_error=0.1
    )
    assert float(torch.exp(-loss)) == pytest.approx(0.707953, abs=1e-6)


def test_constant_error_bounds_the_cost_of_one_label():
    loss = constant_error_bradley_terry(torch.tensor([-1e4]), torch.tensor([0.0]))
    assert float(loss) == pytest.approx(math.log(20))


@pytest.mark.parametrize("rate", [-0.1, 0.5, math.nan])
def test_noise_rates_without_information_are_refused(rate):
    scores = torch.zeros(1)
    with pytest.raises(ValueError, match="label_smoothing is"):
        bradley_terry(scores, scores, label_smoothing=rate)
    with pytest.raises(ValueError, match="flip_rate is"):
        unbiased_bradley_terry(scores, scores, flip_rate=rate)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_constant_error_outside_its_range_is_refused(rate):
    with pytest.raises(ValueError, match="constant_error is"):
        constant_error_bradley_terry(torch.zeros(1), torch.zeros(1), constant_error=rate)


def test_bradley_terry_fit_equals_logistic_regression():
    features, truth = simulate(20_000, flip_rate=0.0)
    weights = fit(bradley_terry, features)
    peer = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8)
    both = np.concatenate([features.numpy(), -features.numpy()])
    peer.fit(both, np.repeat([1, 0], len(features)))
    np.testing.assert_allclose(weights.numpy(), peer.coef_[0], atol=1e-4)
    # The standard error of a weight is about 0.02 here.
    assert (weights - truth).abs().max() < 0.06


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (unbiased_bradley_terry, {"flip_rate": 0.25}),
        (constant_error_bradley_terry, {"constant_error": 0.5}),
    ],
)
def test_noise_corrections_recover_the_weights_that_plain_bradley_terry_shrinks(loss, options):
    features, truth = simulate(20_000, flip_rate=0.25)
    corrected = fit(lambda a, b: loss(a, b, **options), features)
    # Noise of 25 % doubles the standard error to about 0.05.
    assert (corrected - truth).abs().max() < 0.15
    assert fit(bradley_terry, features)[0] < 0.6 * truth[0]


def test_skill_prior_is_minus_the_log_density_of_two_normals():
    skill, mean = random_scores(0, 5), torch.tensor(0.7, dtype=torch.float64)
    normal = torch.distributions.Normal
    spread = {"spread": 1.5, "typical": 2.0, "typical_spread": 0.8}

    def exact(at, around):
        own = normal(around, 1.5).log_prob(at).sum()
        return -own - normal(torch.tensor(2.0).double(), 0.8).log_prob(around)

    moved = skill + 0.3
    ours = skill_prior(moved, mean + 0.2, **spread) - skill_prior(skill, mean, **spread)
    theirs = exact(moved, mean + 0.2) - exact(skill, mean)
    torch.testing.assert_close(ours.sum(), theirs)  # the densities' constants fall out


def test_crowd_bradley_terry_mixes_the_label_and_its_opposite():
    chosen, rejected, skill = random_scores(0, 3, 6)
    accuracy = annotator_accuracy(skill)
    assert ((accuracy > 0.5) & (accuracy < 1)).all()
    right = torch.sigmoid(chosen - rejected)
    expected = -torch.log(accuracy * right + (1 - accuracy) * (1 - right))
    torch.testing.assert_close(crowd_bradley_terry(chosen, rejected, skill=skill), expected)


def test_crowd_bradley_terry_asks_for_the_margin_on_the_side_that_is_true():
    chosen, rejected, skill = random_scores(0, 3, 6)
    margin = torch.tensor([0.0, 1.0, 2.0, 3.0, 0.5, 1.5], dtype=torch.float64)
    accuracy, lead = annotator_accuracy(skill), chosen - rejected
    right, wrong = torch.sigmoid(lead - margin), torch.sigmoid(-lead - margin)
    expected = -torch.log(accuracy * right + (1 - accuracy) * wrong)
    loss = crowd_bradley_terry(chosen, rejected, skill=skill, margin=margin)
    torch.testing.assert_close(loss, expected)


def test_a_lead_short_of_its_margin_speaks_for_the_annotator():
    skill = torch.zeros(3, requires_grad=True)
    margin = torch.tensor([1.0, 2.0, 3.0])
    crowd_bradley_terry(margin / 2, torch.zeros(3), skill=skill, margin=margin).sum().backward()
    assert (skill.grad < 0).all()


def test_the_evidence_of_a_label_is_what_the_loss_knows_of_a_skill():
    lead, skill, other = random_scores(0, 3, 6)
    margin = torch.tensor([0.0, 1.0, 2.0, 3.0, 0.5, 1.5], dtype=torch.float64)
    zero, evidence = torch.zeros_like(lead), label_evidence(lead, margin)
    of_lead, of_evidence = (
        crowd_bradley_terry(of, zero, skill=skill, margin=asked)
        - crowd_bradley_terry(of, zero, skill=other, margin=asked)
        for of, asked in ((lead, margin), (evidence, 0.0))
    )
    torch.testing.assert_close(of_lead, of_evidence)
    torch.testing.assert_close(label_evidence(lead), lead)


def test_crowd_bradley_terry_of_one_accuracy_is_a_constant_error():
    chosen, rejected = random_scores(0, 2, 5)
    skill = torch.full((5,), math.log(9), dtype=torch.float64)
    torch.testing.assert_close(
        crowd_bradley_terry(chosen, rejected, skill=skill),
        constant_error_bradley_terry(chosen, rejected, constant_error=0.1),
    )


def test_crowd_bradley_terry_is_finite_with_its_gradient_for_perfect_annotators():
    skill = torch.tensor([500.0], requires_grad=True)
    chosen = torch.tensor([-30.0], requires_grad=True)
    loss = crowd_bradley_terry(chosen, torch.zeros(1), skill=skill)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(30)
    assert torch.isfinite(skill.grad).all()
    assert float(chosen.grad) == pytest.approx(-1)


def test_crowd_bradley_terry_recovers_planted_accuracies_and_weights():
    rng = np.random.default_rng(0)
    truth, accuracies = np.array([3.0, -1.5, 0.75, 0.0, 2.4]), np.linspace(0.55, 0.95, 10)
    features, annotator = rng.normal(size=(40_000, 5)), rng.integers(10, size=40_000)
    wins = rng.random(40_000) < 1 / (1 + np.exp(-features @ truth))
    wins ^= rng.random(40_000) > accuracies[annotator]
    signed = torch.from_numpy(np.where(wins[:, None], features, -features))
    person = torch.from_numpy(annotator)
    found = torch.zeros(15, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([found], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        leads = signed @ found[:5]
        loss = crowd_bradley_terry(leads, torch.zeros_like(leads), skill=found[5:][person]).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    recovered = annotator_accuracy(found[5:].detach())
    np.testing.assert_allclose(recovered.numpy(), accuracies, atol=0.05)
    # Labels of this crowd leave a standard error of about 0.1 on the largest weight.
    np.testing.assert_allclose(found[:5].detach().numpy(), truth, atol=0.35)


def test_centring_penalty_vanishes_only_for_opposite_scores():
    chosen, rejected = torch.tensor([1.0, 1.0]), torch.tensor([-1.0, 2.0])
    assert centring_penalty(chosen, rejected).tolist() == [0.0, 9.0]


def test_rao_kupper_matches_golden_probabilities():
    probabilities = rao_kupper(*STRENGTHS, threshold=math.log(1.5)).exp()
    golden = torch.tensor([[0.571429, 0.25, 0.178571]]).double()
    torch.testing.assert_close(probabilities, golden, atol=1e-6, rtol=0)


def test_davidson_matches_golden_probabilities():
    probabilities = davidson(*STRENGTHS, log_tie_strength=math.log(0.5)).exp()
    golden = torch.tensor([[0.539504, 0.269752, 0.190744]]).double()
    torch.testing.assert_close(probabilities, golden, atol=1e-6, rtol=0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), threshold=st.floats(0.01, 3))
def test_tie_models_give_probabilities_that_sum_to_one(seed, threshold):
    first, second = random_scores(seed, 2, 5)
    ones = torch.ones(5, dtype=torch.float64)
    for logprobs in (
        rao_kupper(first, second, threshold=threshold),
        davidson(first, second, log_tie_strength=threshold),
    ):
        torch.testing.assert_close(logprobs.exp().sum(-1), ones)


def test_tie_models_without_ties_are_bradley_terry():
    first, second = random_scores(0, 2, 5)
    plain = -bradley_terry(first, second)
    torch.testing.assert_close(rao_kupper(first, second, threshold=0.0)[:, 0], plain)
    torch.testing.assert_close(davidson(first, second, log_tie_strength=-math.inf)[:, 0], plain)


def test_rao_kupper_threshold_can_be_learned():
    threshold = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    first, second = random_scores(0, 2, 5)
    assert torch.autograd.gradcheck(
        lambda eta: rao_kupper(first, second, threshold=eta).sum(), threshold
    )


def test_rao_kupper_refuses_a_negative_threshold():
    with pytest.raises(ValueError, match="must be at least 0"):
        rao_kupper(*STRENGTHS, threshold=-0.1)


def test_plackett_luce_matches_the_golden_probability():
    scores = torch.tensor([[2.0, 1.0, 0.0]])
    assert float(torch.exp(-plackett_luce(scores, full(scores)))) == pytest.approx(
        0.486330, abs=1e-6
    )


def test_plackett_luce_over_all_orders_sums_to_one():
    orders = torch.tensor(list(permutations(random_scores(0, 4).tolist())), dtype=torch.float64)
    assert float(torch.exp(-plackett_luce(orders, full(orders))).sum()) == pytest.approx(1)


def test_plackett_luce_of_two_is_bradley_terry():
    scores = random_scores(0, 5, 2)
    expected = bradley_terry(scores[:, 0], scores[:, 1])
    torch.testing.assert_close(plackett_luce(scores, full(scores)), expected)


def test_plackett_luce_of_one_place_is_best_of_k():
    scores = random_scores(0, 5, 4)
    expected = best_of_k(scores, torch.zeros(5, dtype=torch.long))
    torch.testing.assert_close(plackett_luce(scores, full(scores), num_ranked=1), expected)


def test_each_ranking_may_be_known_to_a_place_of_its_own() -> None:
    scores = random_scores(3, 4, 5)
    known = torch.tensor([0, 1, 3, 4])
    each = [
        plackett_luce(scores[row, None], full(scores[row, None]), num_ranked=int(known[row]))
        for row in range(4)
    ]
    together = plackett_luce(scores, full(scores), num_ranked=known)
    torch.testing.assert_close(together, torch.cat(each))
    assert together[0] == 0


@pytest.mark.parametrize("padding", [math.nan, math.inf, 1e9])
def test_plackett_luce_and_its_gradient_do_not_see_padding(padding):
    scores = random_scores(0, 3, 3)
    wide = torch.cat([scores, torch.full((3, 2), padding).double()], dim=1).requires_grad_()
    mask = torch.arange(5).expand(3, 5) < 3
    loss = plackett_luce(wide, mask)
    torch.testing.assert_close(loss, plackett_luce(scores, full(scores)))
    loss.sum().backward()
    assert torch.equal(wide.grad[:, 3:], torch.zeros(3, 2).double())


def test_plackett_luce_gradient_equals_finite_differences():
    scores = random_scores(0, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: plackett_luce(x, full(x)), scores)


def test_ranked_pairs_equal_the_mean_over_all_pairs():
    scores = random_scores(0, 2, 4)
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    losses = torch.stack([bradley_terry(scores[:, i], scores[:, j]) for i, j in pairs])
    torch.testing.assert_close(ranked_pairs(scores), losses.mean(0))


def test_ranked_pairs_of_two_is_bradley_terry():
    scores = random_scores(0, 5, 2)
    torch.testing.assert_close(ranked_pairs(scores), bradley_terry(scores[:, 0], scores[:, 1]))


def test_ranked_pairs_refuse_a_single_candidate():
    with pytest.raises(ValueError, match="a ranking has 1 candidates"):
        ranked_pairs(torch.zeros(2, 1))


def test_best_of_k_probabilities_sum_to_one():
    scores = random_scores(0, 1, 4).expand(4, 4)
    assert float(torch.exp(-best_of_k(scores, torch.arange(4))).sum()) == pytest.approx(1)


@pytest.mark.parametrize("loss", LOSSES)
def test_reward_losses_of_half_precision_are_float32(loss):
    scores = torch.zeros(2, dtype=torch.bfloat16)
    assert loss(scores, scores).dtype == torch.float32
