import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.maths.masked import last_index, masked_mean, masked_sum, masked_var, masked_whiten

NAN, INF = float("nan"), float("inf")
X = torch.tensor([[1.0, 2.0, NAN], [4.0, -INF, INF]])
MASK = torch.tensor([[True, True, False], [True, False, False]])


def test_masked_sum_ignores_nan_and_infinity_under_padding():
    assert masked_sum(X, MASK) == 7.0
    assert masked_sum(X, MASK, dim=1).tolist() == [3.0, 4.0]


def test_masked_mean_divides_by_the_true_count():
    assert float(masked_mean(X, MASK)) == pytest.approx(7 / 3)
    assert masked_mean(X, MASK, dim=1).tolist() == [1.5, 4.0]


def test_masked_mean_gradient_is_finite_and_zero_under_padding():
    x = X.clone().requires_grad_()
    masked_mean(x, MASK).backward()
    torch.testing.assert_close(x.grad, MASK / 3)


def test_masked_mean_refuses_an_empty_mask():
    with pytest.raises(ValueError, match="selects 0 elements"):
        masked_mean(X, torch.zeros_like(MASK))


def test_masked_mean_refuses_an_empty_row():
    with pytest.raises(ValueError, match="along dim 1"):
        masked_mean(X, torch.tensor([[True] * 3, [False] * 3]), dim=1)


def test_masked_sum_of_half_precision_is_computed_in_float32():
    x = torch.ones(4096, dtype=torch.bfloat16)
    total = masked_sum(x, torch.ones(4096, dtype=torch.bool))
    assert total.dtype == torch.float32
    assert total == 4096


def test_masked_var_equals_numpy():
    x, mask = torch.randn(4, 5, dtype=torch.float64), torch.rand(4, 5) > 0.3
    expected = np.var(x[mask].numpy(), ddof=1)
    assert float(masked_var(x, mask)) == pytest.approx(expected, rel=1e-12)


def test_masked_var_refuses_a_single_element():
    with pytest.raises(ValueError, match="needs at least 2"):
        masked_var(X, torch.tensor([[True, False, False], [False] * 3]))


def test_masked_whiten_gives_mean_zero_and_variance_one():
    torch.manual_seed(0)
    x, mask = 3 + 5 * torch.randn(6, 7, dtype=torch.float64), torch.rand(6, 7) > 0.4
    white = masked_whiten(x, mask)[mask]
    assert float(white.mean()) == pytest.approx(0, abs=1e-9)
    assert float(white.var()) == pytest.approx(1, abs=1e-9)


def test_masked_whiten_without_shift_keeps_the_mean():
    x, mask = 3 + 5 * torch.randn(6, 7, dtype=torch.float64), torch.rand(6, 7) > 0.4
    white = masked_whiten(x, mask, shift_mean=False)[mask]
    assert float(white.mean()) == pytest.approx(float(x[mask].mean()))
    assert float(white.var()) == pytest.approx(1, abs=1e-9)


def test_masked_whiten_is_zero_under_padding():
    assert masked_whiten(X, MASK)[~MASK].tolist() == [0.0, 0.0, 0.0]


def test_last_index_finds_the_last_token_on_either_side_of_padding():
    mask = torch.tensor([[True, True, False], [False, True, True], [True, False, False]])
    assert last_index(mask).tolist() == [1, 2, 0]


def test_last_index_names_the_row_without_a_token():
    with pytest.raises(ValueError, match="row 1 has 0 response tokens"):
        last_index(torch.tensor([[True, False], [False, False]]))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31), pad=st.integers(0, 4), value=st.sampled_from([0.0, NAN, INF, 1e30])
)
def test_reductions_do_not_see_padding(seed, pad, value):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    mask = torch.ones(3, 4, dtype=torch.bool)
    wide_x = torch.cat([x, torch.full((3, pad), value, dtype=x.dtype)], dim=1)
    wide_mask = torch.cat([mask, torch.zeros(3, pad, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(masked_sum(wide_x, wide_mask), masked_sum(x, mask))
    torch.testing.assert_close(masked_mean(wide_x, wide_mask, 1), masked_mean(x, mask, 1))
    torch.testing.assert_close(masked_whiten(wide_x, wide_mask)[:, :4], masked_whiten(x, mask))
