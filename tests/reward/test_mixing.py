"""A mix in words: what it changes, what it leaves, and what is refused with the reason."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from heedful.config import RewardLoss
from heedful.errors import ConfigError
from heedful.model.adapter_files import AdapterCard
from heedful.model.base import load_base
from heedful.model.parts import Mix, Parts
from heedful.model.trunk import Trunk
from heedful.reward.mixing import (
    check_linear,
    check_mix,
    default_mix,
    fold,
    in_words,
    mixed,
    remixed,
)
from heedful.types import Part

PARTS = (
    Part("helpful", "score"), Part("polite", "score"), Part("bias", "flag"), Part("unsafe", "flag"),
)  # fmt: skip
SAVED = Mix(weights={"helpful": 1.0}, penalties={"bias": 1.0}, limits={"unsafe": 0.5})
CARD = AdapterCard(
    role="reward", base="", base_hash="", has_head=True, parts=PARTS, mix=SAVED, pooling="last"
)


def test_scores_that_are_named_replace_all_weights_and_flags_stay() -> None:
    found = mixed(PARTS, SAVED, "polite=0.5")
    assert found == Mix(weights={"polite": 0.5}, penalties={"bias": 1.0}, limits={"unsafe": 0.5})


def test_a_flag_that_is_named_replaces_its_own_penalty_and_limit() -> None:
    found = mixed(PARTS, SAVED, "unsafe=2, bias=0, bias>0.9")
    assert found.weights == SAVED.weights
    assert (found.penalties, found.limits) == ({"unsafe": 2.0}, {"bias": 0.9})
    assert mixed(PARTS, SAVED, "unsafe>1").limits == {}


@pytest.mark.parametrize("text", ["helpful=2,polite=-0.5", "bias=3,unsafe>0.25", "polite=1"])
def test_a_mix_is_read_from_its_own_words(text: str) -> None:
    found = mixed(PARTS, SAVED, text)
    assert mixed(PARTS, SAVED, in_words(found)) == found


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("helpfull=1", "'helpfull', which is no part of this model; did you mean 'helpful'"),
        ("kind=1", "choose from: bias, helpful, polite, unsafe"),
        ("helpful=0", None),
        ("helpful=0,polite=0", None),
        ("helpful=0,bias=0", "leaves every weight at 0"),
        ("helpful", "'helpful', which is no weight; write for example"),
        ("helpful=nan", "which is no weight"),
        ("helpful=", "which is no weight"),
        ("", "which is no weight"),
        ("helpful=1,helpful=2", "states helpful= twice"),
        ("bias=-1", "penalty of a flag is at least 0"),
        ("unsafe>1.5", "is a probability, from 0 to 1"),
        ("helpful>0.5", "only flags have a limit"),
    ],
)
def test_a_mix_that_cannot_be_is_refused_with_the_reason(text: str, match: str | None) -> None:
    if match is None:  # the penalty still tells answers apart
        assert mixed(PARTS, SAVED, text).weights == {}
        return
    with pytest.raises(ConfigError, match=match):
        mixed(PARTS, SAVED, text)


def test_without_words_the_overall_score_weighs_alone_or_all_criteria_alike() -> None:
    loss = RewardLoss(flags="penalty")
    assert default_mix((Part("overall", "score"), *PARTS), loss) == Mix(
        weights={"overall": 1.0}, penalties={"bias": 1.0, "unsafe": 1.0}
    )
    vetoing = default_mix(PARTS, RewardLoss(flags="veto"))
    assert vetoing.weights == {"helpful": 1.0, "polite": 1.0}
    assert vetoing.limits == {"bias": 0.5, "unsafe": 0.5}


def test_one_score_has_nothing_to_mix() -> None:
    with pytest.raises(ConfigError, match="runs/reward has one score and no parts"):
        check_mix(replace(CARD, parts=(), mix=None), "runs/reward", "helpful=1")
    check_mix(replace(CARD, parts=(), mix=None), "runs/reward", None)


def test_a_mix_that_bends_the_reward_is_no_linear_head() -> None:
    with pytest.raises(ConfigError, match=r"a veto bends.*--mix bias=0,unsafe=0"):
        check_linear(CARD, "r", None)
    with pytest.raises(ConfigError, match=r"a penalty on a probability bends.*--mix bias=0"):
        check_linear(CARD, "r", "unsafe=0")
    check_linear(CARD, "r", "unsafe=0,bias=0")
    check_linear(replace(CARD, parts=(), mix=None), "r", None)


@pytest.fixture
def trunk() -> Trunk:
    made = Trunk(load_base("test"))
    head = made.add_head("reward", std=0.3, seed=0, num_outputs=len(PARTS))
    with torch.no_grad():
        head.bias.copy_(torch.tensor([0.5, -1.0, 0.2, 0.0]))
    sample = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)) * 3 + 1
    made.parts["reward"] = Parts(parts=PARTS, mix=SAVED, sample=sample)
    return made


def test_a_new_mix_has_its_own_mean_and_deviation_and_leaves_the_weights(trunk: Trunk) -> None:
    before = {key: value.clone() for key, value in trunk.heads["reward"].state_dict().items()}
    card = remixed(trunk, "reward", CARD, "helpful=2,polite=-1,bias=0,unsafe=0")
    sample = trunk.parts["reward"].sample.double()
    z = (sample[:, :2] - sample[:, :2].mean(0)) / sample[:, :2].std(0, correction=0)
    totals = 2 * z[:, 0] - z[:, 1]
    assert card.mean == pytest.approx(float(totals.mean()), abs=1e-5)
    assert card.std == pytest.approx(float(totals.std(correction=0)), abs=1e-5)
    after: Any = trunk.heads["reward"].state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert remixed(trunk, "reward", CARD, None) is CARD


@torch.no_grad()
def test_folded_parts_are_one_head_that_gives_the_mix(trunk: Trunk) -> None:
    remixed(trunk, "reward", CARD, "helpful=2,polite=-1,bias=0,unsafe=0")
    states = torch.randn(20, trunk.width)
    wanted = trunk.parts["reward"].total(trunk.heads["reward"](states))
    fold(trunk, "reward")
    assert "reward" not in trunk.parts
    given = trunk.heads["reward"](states)
    assert given.shape == (20, 1)
    torch.testing.assert_close(given[:, 0], wanted, atol=1e-5, rtol=1e-5)
