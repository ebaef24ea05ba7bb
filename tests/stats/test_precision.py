import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from heedful.stats.precision import average_precision


@pytest.mark.parametrize("decimals", [1, 6])  # with many ties, and with none
def test_average_precision_is_that_of_scikit_learn(decimals: int) -> None:
    rng = np.random.default_rng(0)
    for rate in (0.05, 0.5, 1.0):
        positive = rng.random(200) <= rate
        scores = np.round(rng.normal(size=200) + positive, decimals)
        wanted = average_precision_score(positive, scores)
        assert average_precision(scores, positive) == pytest.approx(wanted, abs=1e-12)


def test_average_precision_needs_a_positive() -> None:
    with pytest.raises(ValueError, match="none of 3 rows is positive"):
        average_precision([1, 2, 3], [0, 0, 0])
