import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heedful.engine.sampling import BLOCK, draw_tokens, inverse_cdf, stop_place, truncate
from heedful.errors import NumericsError
from heedful.types import SamplingParams


def test_draws_follow_the_distribution() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2]])).expand(30_000, -1)
    uniforms = torch.tensor(np.random.default_rng(0).random(30_000))
    tokens, logprobs = draw_tokens(logits, uniforms)
    shares = torch.bincount(tokens, minlength=3) / 30_000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.01, rtol=0)
    torch.testing.assert_close(logprobs[0].exp(), torch.tensor([0.5, 0.3, 0.2])[tokens[0]])


def test_a_uniform_of_nearly_one_never_picks_an_impossible_token() -> None:
    logits = torch.tensor([[0.0, 0.0, float("-inf")]])
    tokens, _ = draw_tokens(logits, torch.tensor([1.0 - 1e-9], dtype=torch.float64))
    assert tokens.item() == 1


@given(st.integers(1, 3 * BLOCK + 5), st.floats(0, 1, exclude_max=True), st.integers(0, 2**32 - 1))
def test_a_draw_by_blocks_is_the_place_where_the_running_sum_passes_the_uniform(
    size: int, uniform: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.random(size) * (rng.random(size) < rng.choice([0.01, 0.5, 1.0]))
    weights[rng.integers(size)] = 0.5
    place = int(inverse_cdf(torch.tensor(weights, dtype=torch.float32)[None],
                            torch.tensor([uniform])))  # fmt: skip
    running = np.concatenate([[0.0], np.cumsum(weights)])
    off = 1e-5 * running[-1]  # float32
    assert weights[place] > 0
    assert running[place] - off <= uniform * running[-1] <= running[place + 1] + off


def test_non_finite_logits_stop_the_run() -> None:
    with pytest.raises(NumericsError, match="not finite"):
        draw_tokens(torch.tensor([[float("nan"), 1.0]]), torch.tensor([0.5]))


def slow_truncate(p: np.ndarray, top_k: int, top_p: float, min_p: float) -> np.ndarray:
    kept = np.zeros_like(p)
    mass = 0.0
    for rank, token in enumerate(np.argsort(-p, kind="stable")):
        if rank and (rank >= top_k or mass >= top_p or p[token] < min_p * p.max()):
            break
        kept[token] = p[token]
        mass += p[token]
    return kept


@given(
    weights=st.lists(st.integers(1, 1000), min_size=1, max_size=12, unique=True),
    top_k=st.integers(1, 12),
    top_p=st.floats(0.05, 1.0),
    min_p=st.floats(0.0, 1.0),
)
def test_truncation_equals_a_walk_down_the_sorted_tokens(
    weights: list[int], top_k: int, top_p: float, min_p: float
) -> None:
    p = np.array(weights) / sum(weights)
    ours = truncate(
        torch.tensor(p)[None],
        top_k=torch.tensor([top_k]),
        top_p=torch.tensor([top_p], dtype=torch.float64),
        min_p=torch.tensor([min_p], dtype=torch.float64),
    )[0].numpy()
    np.testing.assert_allclose(ours, slow_truncate(p, top_k, top_p, min_p), atol=1e-12)


def test_truncated_draws_follow_the_renormalised_distribution() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.5, 0.1, 0.3]])).expand(30_000, -1)
    uniforms = torch.tensor(np.random.default_rng(1).random(30_000))
    params = [SamplingParams(max_new_tokens=1, top_p=0.6)] * 30_000
    tokens, logprobs = draw_tokens(logits, uniforms, params)
    shares = torch.bincount(tokens, minlength=4) / 30_000
    torch.testing.assert_close(shares, torch.tensor([0.0, 0.625, 0.0, 0.375]), atol=0.01, rtol=0)
    assert sorted({round(value, 4) for value in logprobs.exp().tolist()}) == [0.3, 0.5]


@pytest.mark.parametrize(
    ("text", "stops", "place"),
    [("a\n\nb", ("\n\n",), 1), ("abc", ("c", "b"), 1), ("abc", ("x",), None), ("abc", (), None)],
)
def test_the_earliest_stop_string_counts(
    text: str, stops: tuple[str, ...], place: int | None
) -> None:
    assert stop_place(text, stops) == place
