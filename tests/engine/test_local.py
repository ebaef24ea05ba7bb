import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from heedful.data.collate import Tree, collate
from heedful.engine import local
from heedful.engine.base import Request
from heedful.engine.cache import DecodeLayout
from heedful.engine.local import LocalEngine, share_prefixes
from heedful.errors import DataError
from heedful.model.attention import PackedLayout
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


def requests(
    count: int, *, tokens: int = 12, temperature: float = 0.9, role: str | None = "policy"
) -> list[Request]:
    return [
        Request(
            prompt=tuple(range(10, 13 + i % 5)),
            params=SamplingParams(max_new_tokens=tokens, temperature=temperature, seed=i),
            role=role,
        )
        for i in range(count)
    ]


def test_answers_do_not_depend_on_batch_mates_or_slots(trunk: Trunk) -> None:
    wanted = requests(9)
    together = LocalEngine(trunk, num_slots=16).sample(wanted)
    few = LocalEngine(trunk, num_slots=2).sample(wanted)
    alone = [LocalEngine(trunk).sample([request])[0] for request in wanted]
    assert [s.token_ids for s in together] == [s.token_ids for s in alone]
    assert [s.token_ids for s in together] == [s.token_ids for s in few]


def test_a_cache_that_grows_and_outlives_a_long_row_changes_no_answer(
    trunk: Trunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = replace(requests(1, tokens=2)[0], prompt=tuple(range(10, 60)))
    wanted = [*requests(5), long, *requests(5)]
    alone = [LocalEngine(trunk).sample([request])[0] for request in wanted]
    spans = []
    attend = DecodeLayout.attend

    def noted(layout: DecodeLayout, *given: Any) -> torch.Tensor:
        spans.append((layout.cache.room, layout.span))
        return attend(layout, *given)

    monkeypatch.setattr("heedful.engine.cache.GROWTH", 1)
    monkeypatch.setattr(DecodeLayout, "attend", noted)
    together = LocalEngine(trunk, num_slots=2).sample(wanted)
    assert [s.token_ids for s in together] == [s.token_ids for s in alone]
    rooms = [room for room, _ in spans]
    assert len(set(rooms)) > 3  # it grew step by step
    assert any(room == span for room, span in spans)
    assert any(2 * span <= room for room, span in spans)  # after the long row had left


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampled_logprobs_equal_the_trainers(trunk: Trunk, temperature: float) -> None:
    wanted = requests(7, temperature=temperature)
    samples = LocalEngine(trunk, num_slots=3).sample(wanted)
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"min_p": -0.1}, "min_p is -0.1"),
        ({"stop": ("x", "")}, "a stop string is empty"),
    ],
)
def test_impossible_sampling_settings_are_refused(
    trunk: Trunk, settings: dict[str, Any], message: str
) -> None:
    params = SamplingParams(max_new_tokens=4, **settings)
    with pytest.raises(DataError, match=message):
        LocalEngine(trunk).sample([Request(prompt=(5,), params=params)])


def with_settings(wanted: list[Request], **settings: Any) -> list[Request]:
    return [replace(one, params=replace(one.params, **settings)) for one in wanted]


def test_an_answer_ends_before_its_first_stop_string(trunk: Trunk) -> None:
    wanted = requests(20, tokens=60)
    free = LocalEngine(trunk).sample(wanted)
    # printable strings that were really said, and one that never comes
    said = [re.findall(r"[!-~]{2,3}", sample.text) for sample in free]
    stops = {i: strings[-1] for i, strings in enumerate(said) if strings}
    assert len(stops) > 5
    cut = LocalEngine(trunk, num_slots=5).sample(
        [with_settings([wanted[i]], stop=(stop, "never said"))[0] for i, stop in stops.items()]
    )
    for (i, stop), after in zip(stops.items(), cut, strict=True):
        assert after.text == free[i].text[: free[i].text.find(stop)]
        assert after.token_ids == free[i].token_ids[: len(after.token_ids)]
        assert len(after.logprobs) == len(after.token_ids)
        assert after.finish_reason == "stop"


def test_a_stop_string_that_never_comes_changes_nothing(trunk: Trunk) -> None:
    wanted = requests(6)
    engine = LocalEngine(trunk)
    assert engine.sample(with_settings(wanted, stop=("never said",))) == engine.sample(wanted)


def test_truncation_is_per_request_and_keeps_the_trainers_logprobs(trunk: Trunk) -> None:
    wanted = requests(8, tokens=10)
    greedy = with_settings(wanted[:4], top_k=1)
    mixed = LocalEngine(trunk).sample([*greedy, *wanted[4:]])
    free = LocalEngine(trunk).sample(wanted)
    assert [s.token_ids for s in mixed[4:]] == [s.token_ids for s in free[4:]]
    assert [s.token_ids for s in mixed[:4]] != [s.token_ids for s in free[:4]]
    trees = [
        Tree(id=str(i), prompt=one.prompt, responses=(sample.token_ids,))
        for i, (one, sample) in enumerate(zip(wanted, mixed, strict=True))
    ]
    rows = logprobs_of(trunk, collate(trees, trunk.device), "policy", temperature=0.9)
    for row, sample in zip(rows, mixed, strict=True):
        np.testing.assert_allclose(row[: len(sample.logprobs)], sample.logprobs, atol=1e-4)
    assert all(min(sample.logprobs) > -np.log(262) for sample in mixed[:4])


def test_a_shared_prefix_changes_no_answer_and_is_computed_once(
    trunk: Trunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tuple(range(20, 60))
    tails = [(3, 4), (3, 4, 5), (3,), (7,), (), (8, 9, 10)]
    prompts = [system + tail for tail in tails] + [(5,), (70, 71)]
    params = SamplingParams(max_new_tokens=8, temperature=0.9, seed=3)
    wanted = [Request(prompt=prompt, params=params, role="policy") for prompt in prompts]
    alone = [LocalEngine(trunk).sample([one])[0] for one in wanted]
    computed: list[int] = []
    hidden = Trunk.hidden

    def counting(self: Trunk, tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
        computed.append(len(tokens))
        return hidden(self, tokens, *rest)

    monkeypatch.setattr(Trunk, "hidden", counting)
    together = LocalEngine(trunk).sample(wanted)
    assert [s.token_ids for s in together] == [s.token_ids for s in alone]
    for left, right in zip(together, alone, strict=True):
        np.testing.assert_allclose(left.logprobs, right.logprobs, atol=1e-5)
    # 39 shared tokens, 1 + len(tail) for each of the six, and the two prompts that share nothing
    assert computed[0] == 39 + 6 + sum(map(len, tails)) + 1 + 2


def test_prefix_groups_hold_every_prompt_and_save_tokens() -> None:
    rng = np.random.default_rng(0)
    starts = [(1, 2, 3, 4, 5, 6), (1, 7, 8, 9, 9, 9, 9), ()]
    prompts = {
        starts[rng.integers(0, 3)] + tuple(rng.integers(10, 99, size=rng.integers(1, 9)).tolist())
        for _ in range(300)
    }
    groups = share_prefixes(list(prompts))
    assert sorted(prompt for _, members in groups for prompt in members) == sorted(prompts)
    for shared, members in groups:
        assert len({member[:shared] for member in members}) == 1
        assert all(len(member) > shared for member in members)
    computed = sum(shared + sum(len(m) - shared for m in members) for shared, members in groups)
    apart = sum(map(len, prompts))
    with_system = [prompt for prompt in prompts if prompt[0] == 1]
    # two system messages with one token in common stay two groups
    assert computed <= apart - 0.9 * sum(6 if p[1] == 2 else 7 for p in with_system)


def test_a_lone_prompt_does_not_spoil_what_the_next_ones_share() -> None:
    system = tuple(range(20, 60))
    prompts = [(1, 2, 3), *((1, *system, n) for n in range(5))]
    assert share_prefixes(prompts) == [(2, [prompts[0]]), (41, prompts[1:])]


def test_every_request_has_its_own_adapter(trunk: Trunk) -> None:
    if "other" not in trunk.adapters:
        trunk.add_adapter("other", rank=2, alpha=4, seed=9)
        with torch.no_grad():
            for number, value in enumerate(trunk.adapter_parameters("other").values()):
                noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(number))
                value.add_(noise * 0.05)
    roles = ["policy", None, "other", "policy", None]
    wanted = [replace(one, role=role) for one, role in zip(requests(5), roles, strict=True)]
    mixed = LocalEngine(trunk, num_slots=3).sample(wanted)
    alone = [LocalEngine(trunk).sample([one])[0] for one in wanted]
    assert [s.token_ids for s in mixed] == [s.token_ids for s in alone]
    for left, right in zip(mixed, alone, strict=True):
        np.testing.assert_allclose(left.logprobs, right.logprobs, atol=1e-5)
    same = LocalEngine(trunk).sample([replace(one, role=None) for one in wanted])
    assert [s.token_ids for s in same] != [s.token_ids for s in mixed]


def test_a_role_that_ends_early_cannot_write(trunk: Trunk) -> None:
    if "judge" not in trunk.adapters:
        trunk.add_adapter("judge", rank=2, alpha=4, seed=1, depth=1)
    with pytest.raises(DataError, match="'judge', which ends after layer 1 and cannot write"):
        LocalEngine(trunk).sample(requests(1, role="judge"))


def test_pieces_of_text_join_to_the_answer(trunk: Trunk) -> None:
    pieces: dict[int, list[str]] = {}

    def on_text(index: int, text: str) -> None:
        assert text
        pieces.setdefault(index, []).append(text)

    wanted = with_settings(requests(12, tokens=40), stop=("e", "zq"))
    samples = LocalEngine(trunk, num_slots=5).sample(wanted, on_text=on_text)
    for index, sample in enumerate(samples):
        assert "".join(pieces.get(index, [])) == sample.text
    assert max(map(len, pieces.values())) > 3
    unheard = LocalEngine(trunk, num_slots=5).sample(wanted)
    assert [s.text for s in samples] == [s.text for s in unheard]


def test_a_listener_ends_its_own_answer_only(trunk: Trunk) -> None:
    heard: list[str] = []

    def on_text(index: int, text: str) -> bool:
        if index == 2:
            heard.append(text)
        return index != 2 or len(heard) < 3

    free = LocalEngine(trunk, num_slots=3).sample(requests(6, tokens=40))
    assert len(free[2].token_ids) > 6
    told = LocalEngine(trunk, num_slots=3).sample(requests(6, tokens=40), on_text=on_text)
    assert told[2].finish_reason == "cancelled"
    assert len(heard) == 3
    assert told[2].token_ids == free[2].token_ids[: len(told[2].token_ids)]
    others = [i for i in range(6) if i != 2]
    assert [told[i].token_ids for i in others] == [free[i].token_ids for i in others]


def test_prompts_enter_in_groups_of_bounded_size_and_answer_the_same(
    trunk: Trunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [replace(one, prompt=(*one.prompt, i)) for i, one in enumerate(requests(9), start=40)]
    wanted += requests(1) * 3  # copies cost nothing
    free = LocalEngine(trunk, num_slots=12).sample(wanted)
    computed: list[int] = []
    hidden = Trunk.hidden

    def counting(self: Trunk, tokens: torch.Tensor, positions: Any, layout: Any) -> torch.Tensor:
        if isinstance(layout, PackedLayout):
            computed.append(len(tokens))
        return hidden(self, tokens, positions, layout)

    monkeypatch.setattr(Trunk, "hidden", counting)
    monkeypatch.setattr(local, "PREFILL_TOKENS", 10)
    few = LocalEngine(trunk, num_slots=12).sample(wanted)
    assert [s.token_ids for s in few] == [s.token_ids for s in free]
    assert len(computed) > 2
    assert max(computed) <= 10
    groups = local.prefill_groups(list(enumerate(wanted)))
    assert [one for group in groups for one in group] == list(enumerate(wanted))
    assert len(groups[-1]) >= 3
