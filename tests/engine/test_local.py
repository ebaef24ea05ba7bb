import numpy as np
import pytest
import torch

from heedful.data.collate import Tree, collate
from heedful.engine.base import Request
from heedful.engine.local import LocalEngine, draw_tokens
from heedful.errors import DataError, NumericsError
from heedful.model.base import load_base
from heedful.model.forward import logprobs_of
from heedful.model.trunk import Trunk
from heedful.types import Sample, SamplingParams


@pytest.fixture(scope="module")
def trunk() -> Trunk:
    trunk = Trunk(load_base("test"))
    trunk.add_adapter("policy", rank=4, alpha=8, seed=0)
    with torch.no_grad():
        for number, value in enumerate(trunk.trainable("policy").values()):
            noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(number))
            value.add_(noise * 0.05)
    return trunk


def requests(count: int, *, tokens: int = 12, temperature: float = 0.9) -> list[Request]:
    return [
        Request(
            prompt=tuple(range(10, 13 + i % 5)),
            params=SamplingParams(max_new_tokens=tokens, temperature=temperature, seed=i),
        )
        for i in range(count)
    ]


def test_answers_do_not_depend_on_batch_mates_or_slots(trunk: Trunk) -> None:
    wanted = requests(9)
    together = LocalEngine(trunk, num_slots=16).sample(wanted, role="policy")
    few = LocalEngine(trunk, num_slots=2).sample(wanted, role="policy")
    alone = [LocalEngine(trunk).sample([request], role="policy")[0] for request in wanted]
    assert [s.token_ids for s in together] == [s.token_ids for s in alone]
    assert [s.token_ids for s in together] == [s.token_ids for s in few]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampled_logprobs_equal_the_trainers(trunk: Trunk, temperature: float) -> None:
    wanted = requests(7, temperature=temperature)
    samples = LocalEngine(trunk, num_slots=3).sample(wanted, role="policy")
    trees = [
        Tree(id=str(i), prompt=request.prompt, responses=(sample.token_ids,))
        for i, (request, sample) in enumerate(zip(wanted, samples, strict=True))
    ]
    rows = logprobs_of(trunk, collate(trees, trunk.device), "policy", temperature=temperature)
    for row, sample in zip(rows, samples, strict=True):
        np.testing.assert_allclose(row[: len(sample.logprobs)], sample.logprobs, atol=1e-4)


def test_an_answer_ends_at_its_first_stop_token_or_at_the_limit(trunk: Trunk) -> None:
    stops = trunk.base.stop_ids
    for sample in LocalEngine(trunk, num_slots=8).sample(requests(40, tokens=30)):
        inner, last = sample.token_ids[:-1], sample.token_ids[-1]
        assert not stops & set(inner)
        assert (last in stops) == (sample.finish_reason == "stop")
        assert sample.finish_reason == "stop" or len(sample.token_ids) == 30


def test_every_request_finishes_exactly_once(trunk: Trunk) -> None:
    finished: list[int] = []

    def on_finish(index: int, sample: Sample) -> None:
        assert sample.token_ids
        finished.append(index)

    LocalEngine(trunk, num_slots=3).sample(requests(11), on_finish=on_finish)
    assert sorted(finished) == list(range(11))


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


def test_non_finite_logits_stop_the_run() -> None:
    with pytest.raises(NumericsError, match="not finite"):
        draw_tokens(torch.tensor([[float("nan"), 1.0]]), torch.tensor([0.5]))


@pytest.mark.parametrize(
    ("prompt", "tokens", "temperature", "message"),
    [
        ((), 4, 1.0, "empty prompt"),
        ((5,), 0, 1.0, "max_new_tokens is 0"),
        ((5,), 4, 0.0, "temperature is 0"),
        ((5,) * 2047, 4, 1.0, "this model holds 2048"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused(
    trunk: Trunk, prompt: tuple[int, ...], tokens: int, temperature: float, message: str
) -> None:
    params = SamplingParams(max_new_tokens=tokens, temperature=temperature)
    with pytest.raises(DataError, match=message):
        LocalEngine(trunk).sample([Request(prompt=prompt, params=params)])
