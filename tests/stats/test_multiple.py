import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from heedful.stats.multiple import holm


def test_holm_matches_a_worked_example():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


@given(npst.arrays(float, st.integers(1, 8), elements=st.floats(0, 1)), st.floats(0.001, 0.999))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values, alpha):
    rejected = np.zeros(len(p_values), dtype=bool)
    for step, i in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[i] * (len(p_values) - step) > alpha:
            break
        rejected[i] = True
    np.testing.assert_array_equal(holm(p_values) <= alpha, rejected)


def test_holm_leaves_out_tests_that_were_not_made():
    np.testing.assert_allclose(holm([0.02, np.nan, 0.5]), [0.04, np.nan, 0.5])
    assert np.isnan(holm([np.nan])).all()
    assert holm([]).shape == (0,)


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match="0 to 1"):
        holm([0.5, 1.5])
