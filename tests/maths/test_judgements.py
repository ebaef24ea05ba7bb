import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

from heedful.maths.judgements import (
    cumulative_link,
    expected_class,
    flag_losses,
    labelled_steps,
    ordered_thresholds,
    ordinal,
    positive_weights,
    rating_regression,
    step_losses,
    step_score,
    thumbs,
)

WEIGHTS = np.array([1.0, -0.5, 0.25])


def random(seed: int, *shape: int):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def newton(loss, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where a mean loss is least, and the matrix of its second derivatives there."""
    x = torch.zeros(size, dtype=torch.float64)
    for _ in range(60):
        gradient = torch.autograd.functional.jacobian(loss, x)
        hessian = torch.autograd.functional.hessian(loss, x)
        step = torch.linalg.solve(hessian, gradient)
        if step.abs().max() < 1e-10:
            break
        x = x - step.clamp(-1, 1)
    return x, torch.autograd.functional.hessian(loss, x)


def test_rating_regression_with_ridge_equals_its_closed_form():
    features, ratings = random(0, 200, 3), 3 + random(1, 200)

    def loss(w):
        return rating_regression(features @ w, ratings).mean() + 0.1 * w @ w

    weights, _ = newton(loss, 3)
    peer = Ridge(alpha=0.1 * 200, fit_intercept=False).fit(features.numpy(), ratings.numpy())
    np.testing.assert_allclose(weights.numpy(), peer.coef_, atol=1e-6)


def test_rating_regression_takes_an_annotators_offset_out_of_the_score():
    scores = random(0, 5)
    assert rating_regression(scores, scores + 0.7, offsets=0.7).abs().max() < 1e-20


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), shift=st.floats(-30, 30))
def test_cumulative_link_gives_probabilities_that_sum_to_one(seed, shift):
    logprobs = cumulative_link(random(seed, 6) + shift, ordered_thresholds(3 * random(seed, 4)))
    torch.testing.assert_close(logprobs.exp().sum(-1), torch.ones(6, dtype=torch.float64))


def test_cumulative_link_equals_differences_of_sigmoids():
    scores, thresholds = random(0, 6), torch.tensor([-1.5, -0.2, 0.4, 2.0]).double()
    below = torch.sigmoid(thresholds - scores[:, None])
    ends = torch.cat([torch.zeros(6, 1), below, torch.ones(6, 1)], dim=1)
    torch.testing.assert_close(cumulative_link(scores, thresholds).exp(), ends.diff(dim=1))


def test_cumulative_link_of_extreme_scores_is_finite_with_its_gradient():
    scores = torch.tensor([-500.0, 500.0], requires_grad=True)
    loss = ordinal(scores, torch.tensor([4, 1]), ordered_thresholds(torch.zeros(3)))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    np.testing.assert_allclose(scores.grad, [-1, 1])


def test_cumulative_link_of_two_classes_is_logistic_regression():
    features, rng = random(0, 500, 3).numpy(), np.random.default_rng(0)
    is_high = rng.random(500) < 1 / (1 + np.exp(-features @ WEIGHTS))
    thresholds = ordered_thresholds(torch.zeros(0, dtype=torch.float64))
    assert thresholds.tolist() == [0.0]
    inputs, classes = torch.from_numpy(features), torch.from_numpy(is_high.astype(np.int64))
    weights, _ = newton(lambda w: ordinal(inputs @ w, classes, thresholds).mean(), 3)
    peer = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(features, is_high)
    np.testing.assert_allclose(weights.numpy(), peer.coef_[0], atol=1e-6)


def test_ordinal_fit_recovers_weights_and_uneven_thresholds():
    rng = np.random.default_rng(0)
    num, truth = 20_000, np.array([-2.0, -1.5, 0.5, 3.0])
    features = rng.normal(size=(num, 3))
    scores = features @ WEIGHTS
    classes = (scores[:, None] + rng.logistic(size=(num, 1)) > truth).sum(axis=1)
    inputs, observed = torch.from_numpy(features), torch.from_numpy(classes)

    def loss(x):
        return ordinal(inputs @ x[:3], observed, ordered_thresholds(x[3:])).mean()

    found, hessian = newton(loss, 6)
    errors = torch.linalg.inv(num * hessian).diagonal().sqrt()
    assert ((found[:3] - torch.from_numpy(WEIGHTS)).abs() < 3 * errors[:3]).all()
    # Thresholds have mean 0, which is the mean of the planted ones. Their errors are about 0.02.
    np.testing.assert_allclose(ordered_thresholds(found[3:]).numpy(), truth, atol=0.08)
    # A regression says the likelihood of a normal with its own mean and spread.
    design = np.column_stack([features, np.ones(num)])
    left = classes - design @ np.linalg.lstsq(design, classes, rcond=None)[0]
    normal = 0.5 * math.log(2 * math.pi * left.var()) + 0.5
    assert float(loss(found)) < normal - 0.02


def test_ordered_thresholds_ascend_around_zero_whatever_the_numbers():
    thresholds = ordered_thresholds(10 * random(0, 20, 4))
    assert (thresholds.diff(dim=-1) > 0).all()
    torch.testing.assert_close(thresholds.mean(-1), torch.zeros(20, dtype=torch.float64))


def test_ordinal_gradients_equal_finite_differences():
    scores, gaps = random(0, 5).requires_grad_(), random(1, 3).requires_grad_()
    classes = torch.tensor([0, 1, 2, 3, 4])
    assert torch.autograd.gradcheck(
        lambda s, g: ordinal(s, classes, ordered_thresholds(g)), (scores, gaps)
    )


def test_ordinal_takes_thresholds_for_every_head():
    scores, gaps = random(0, 4, 2), random(1, 2, 3)
    classes = torch.tensor([[0, 4], [1, 3], [2, 2], [3, 1]])
    together = ordinal(scores, classes, ordered_thresholds(gaps))
    for head in range(2):
        alone = ordinal(scores[:, head], classes[:, head], ordered_thresholds(gaps[head]))
        torch.testing.assert_close(together[:, head], alone)


def test_expected_class_ascends_with_the_score():
    thresholds = ordered_thresholds(torch.zeros(3))
    means = expected_class(cumulative_link(torch.tensor([-40.0, -1.0, 0.0, 1.0, 40.0]), thresholds))
    assert (means.diff() > 0).all()
    np.testing.assert_allclose(means[[0, 2, 4]], [0, 2, 4], atol=1e-5)


def test_ordinal_refuses_ratings_out_of_range():
    thresholds = ordered_thresholds(torch.zeros(3))
    with pytest.raises(ValueError, match="classes are 1 to 5; with 4 thresholds they go from 0"):
        ordinal(torch.zeros(2), torch.tensor([1, 5]), thresholds)


def test_cumulative_link_refuses_thresholds_in_disorder():
    with pytest.raises(ValueError, match="must ascend"):
        cumulative_link(torch.zeros(1), torch.tensor([0.0, 1.0, 0.5]))


def test_thumbs_are_a_coin_at_the_threshold_and_learn_it():
    threshold = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    scores, is_good = torch.tensor([0.3, 0.3]).double(), torch.tensor([True, False])
    torch.testing.assert_close(
        thumbs(scores, is_good, threshold=threshold), torch.full((2,), math.log(2)).double()
    )
    assert torch.autograd.gradcheck(lambda t: thumbs(scores, is_good, threshold=t), threshold)


def test_thumbs_equal_logistic_regression_with_an_intercept():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 3))
    is_good = rng.random(400) < 1 / (1 + np.exp(-features @ WEIGHTS + 0.8))
    inputs, labels = torch.from_numpy(features), torch.from_numpy(is_good)
    found, _ = newton(lambda x: thumbs(inputs @ x[:3], labels, threshold=x[3]).mean(), 4)
    peer = LogisticRegression(C=np.inf, tol=1e-10).fit(features, is_good)
    np.testing.assert_allclose(found[:3].numpy(), peer.coef_[0], atol=1e-5)
    assert float(found[3]) == pytest.approx(-peer.intercept_[0], abs=1e-5)


def test_flag_losses_give_no_gradient_where_nobody_was_asked():
    logits = random(0, 3, 2).requires_grad_()
    flags = torch.tensor([[1.0, math.nan], [0.0, 1.0], [0.5, 0.0]]).double()
    observed = torch.tensor([[True, False], [True, True], [True, True]])
    losses = flag_losses(logits, flags, observed)
    losses.sum().backward()
    assert losses[0, 1] == 0
    assert logits.grad[0, 1] == 0
    expected = torch.where(observed, torch.sigmoid(logits.detach()) - flags.nan_to_num(), 0.0)
    torch.testing.assert_close(logits.grad, expected)


def test_flag_losses_with_weights_count_a_rare_flag_as_often_as_its_absence():
    flags = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    observed = torch.ones(4, 1, dtype=torch.bool)
    weights = positive_weights(flags, observed)
    assert weights.tolist() == [3.0]
    logits = torch.zeros(4, 1, requires_grad=True)
    flag_losses(logits, flags, observed, positive_weights=weights).sum().backward()
    assert float(logits.grad.sum()) == pytest.approx(0, abs=1e-6)


def test_flag_losses_take_a_weight_for_every_severity():
    weights = torch.tensor([[1.0], [3.0]])
    ones, observed = torch.ones(2, 1), torch.ones(2, 1, dtype=torch.bool)
    losses = flag_losses(torch.zeros(2, 1), ones, observed, positive_weights=weights)
    np.testing.assert_allclose(losses[:, 0], [math.log(2), 3 * math.log(2)], rtol=1e-6)


@pytest.mark.parametrize(("value", "missing"), [(0.0, "with it"), (1.0, "without it")])
def test_flags_without_an_example_of_each_kind_are_refused(value, missing):
    flags = torch.tensor([[1.0, value], [0.0, value], [0.0, 1 - value]])
    observed = torch.tensor([[True, True], [True, True], [True, False]])
    with pytest.raises(ValueError, match=f"flag 1 has 0 observed answers {missing}"):
        positive_weights(flags, observed)


def test_labelled_steps_end_with_the_first_error():
    labels = torch.tensor([[1, 0, -1, 1, -1], [1, 1, 0, 1, 9]])
    mask = torch.tensor([[True] * 5, [True] * 4 + [False]])
    expected = [[True, True, True, False, False], [True, True, True, True, False]]
    assert labelled_steps(labels, mask).tolist() == expected


def test_step_losses_are_cross_entropy_with_neutral_as_right():
    logits = torch.tensor([[0.4, -1.0, 2.0, math.nan]]).double()
    losses = step_losses(
        logits, torch.tensor([[1, 0, -1, 0]]), torch.tensor([[True, True, True, False]])
    )
    right = 1 / (1 + np.exp(-np.array([0.4, -1.0, 2.0])))
    expected = [-np.log(right[0]), -np.log(right[1]), -np.log(1 - right[2]), 0]
    np.testing.assert_allclose(losses[0], expected)


@pytest.mark.parametrize(("how", "slow"), [("product", np.prod), ("min", min), ("mean", np.mean)])
def test_step_score_equals_the_slow_aggregate_and_ignores_padding(how, slow):
    logits = random(0, 3, 4)
    mask = torch.tensor([[True] * 4, [True, True, False, False], [True, False, False, False]])
    padded = torch.where(mask, logits, math.nan).requires_grad_()
    scores = step_score(padded, mask, aggregation=how)
    rows = [row[keep].numpy() for row, keep in zip(torch.sigmoid(logits), mask, strict=True)]
    np.testing.assert_allclose(scores.detach().exp(), [slow(row) for row in rows])
    scores.sum().backward()
    assert torch.isfinite(padded.grad).all()


def test_step_score_of_one_bad_step_is_the_same_for_product_and_min():
    logits, mask = torch.tensor([[40.0, -1.0, 40.0]]).double(), torch.ones(1, 3, dtype=torch.bool)
    product, weakest = (step_score(logits, mask, aggregation=how) for how in ("product", "min"))
    torch.testing.assert_close(product, weakest)


def test_step_score_refuses_an_answer_without_steps():
    with pytest.raises(ValueError, match="answer 1 has 0 steps"):
        step_score(torch.zeros(2, 1), torch.tensor([[True], [False]]), aggregation="min")
