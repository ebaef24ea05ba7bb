"""How large a run's examples and roles are, before anything is loaded."""

from pathlib import Path

import pytest
import torch

from heedful.config import GRPOConfig, RewardConfig, Rollouts, SFTConfig, resolve
from heedful.data import testing
from heedful.jobs.fit import fit_sft
from heedful.jobs.fit.memory import Means, about_trees, announce_memory, memory_lines
from heedful.jobs.fit.policy import with_adapter_of_start
from heedful.model import budget
from heedful.model.products import lays_out
from heedful.types import Demonstration, Message, Preference, Prompt


def said(size: int) -> tuple[Message, ...]:
    return (Message(role="assistant", content="x" * size),)


def test_the_sides_of_a_prompt_count_together_and_each_text_up_to_its_limit() -> None:
    prompt = Prompt.of("y" * 276)  # about 100 tokens
    pairs = [
        Preference(prompt=prompt, chosen=said(276), rejected=said(576)),  # 100 and 200
        Preference(prompt=prompt, chosen=said(276), rejected=said(30_000)),
        Preference(prompt=Prompt.of("z"), chosen=said(3), rejected=said(6)),
    ]
    config = RewardConfig(data="d")
    (shared, answers), (_, few) = about_trees(pairs, config)
    assert (shared, sorted(answers), len(few)) == (100, [100, 200, 924], 2)
    told = [Demonstration(prompt=prompt, response=said(size)) for size in (276, 576)]
    assert about_trees(told, config) == [(100, [100]), (100, [200])]


def test_the_samples_of_a_rollout_share_their_prompt_up_to_a_micro_step() -> None:
    rollouts = Rollouts(samples_per_prompt=20, max_new_tokens=50)
    config = GRPOConfig(data="d", reward="gold:kind", rollouts=rollouts)
    prompt = Prompt.of("y" * 180)  # about 100 tokens with the template
    assert about_trees([prompt], config) == [(100, [50] * 13)]


def test_a_policy_that_starts_from_an_adapter_is_counted_with_its_rank(tmp_path: Path) -> None:
    flags = {"data": "test", "model": "test"}
    start = fit_sft(
        resolve(SFTConfig, overrides=["adapter.rank=4", "held_out_share=0"], flags=flags),
        tmp_path / "start",
    )
    config = with_adapter_of_start(SFTConfig(data="test", model=start.run), None)
    lines = {
        line.role: line
        for line in memory_lines(
            "sft", config, None, testing.demonstrations(), Means(lays_out=False)
        )
    }
    own = memory_lines(
        "sft", resolve(SFTConfig, overrides=["adapter.rank=4"], flags=flags), None,
        testing.demonstrations(), Means(lays_out=False),
    )  # fmt: skip
    assert lines["policy"].num_parameters == own[1].num_parameters


@pytest.mark.skipif(not lays_out("cpu", torch.float32), reason="this torch has no oneDNN")
def test_copies_are_kept_while_memory_has_room_and_given_up_before_activations(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = GRPOConfig(data="test", model="test", reward="gold:kind", dtype="float32")
    rows = testing.prompts()
    totals = {
        lays: budget.total_bytes(memory_lines("grpo", config, None, rows, Means(lays_out=lays)))
        for lays in (True, False)
    }
    assert totals[True] > totals[False]
    for lays, free in totals.items():
        monkeypatch.setattr(budget, "available_bytes", lambda _, free=free: free)
        means = announce_memory("grpo", config, None, rows)
        assert means == Means(lays_out=lays)
        assert ("laid out" in capsys.readouterr().err) == lays
    sft = SFTConfig(data="test", model="test", dtype="float32")
    monkeypatch.setattr(budget, "available_bytes", lambda _: None)
    assert announce_memory("sft", sft, None, testing.demonstrations()) == Means(lays_out=False)


@pytest.mark.skipif(not lays_out("cpu", torch.bfloat16), reason="no products in bfloat16 here")
@pytest.mark.parametrize(("rank", "lays"), [(16, True), ("full", False)])
def test_no_copies_are_kept_of_weights_that_whole_matrices_replace(
    rank: int | str, lays: bool
) -> None:
    config = SFTConfig.model_validate(
        {"data": "test", "model": "test", "dtype": "bfloat16", "adapter": {"rank": rank}}
    )
    assert announce_memory("sft", config, None, testing.demonstrations()).lays_out == lays
