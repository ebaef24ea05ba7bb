"""Credit: hand-made groups against written-out numpy, and what each kind refuses."""

import math

import numpy as np
import pytest
import torch

from heedful.config import GRPO, KL, PPO
from heedful.errors import ConfigError
from heedful.train.credit import CriticCredit, GroupCredit, Scored, check_group

SCORES = np.array([1.0, 3.0, 5.0, 2.0, 2.0, 2.0])  # two prompts, three answers each
MASK = np.array([[1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 0]], dtype=bool)


def rollout(values: torch.Tensor | None = None) -> Scored:
    logprobs = torch.linspace(-1, -0.2, MASK.size).view(MASK.shape)
    return Scored(
        scores=torch.tensor(SCORES, dtype=torch.float32),
        mask=torch.tensor(MASK),
        logprobs=logprobs,
        ref_logprobs=logprobs - 0.1,
        values=values,
        cut=torch.tensor([False, False, True, False, False, False]),
        group=3,
    )


@pytest.mark.parametrize(
    ("name", "per_answer"),
    [
        ("group", [-2 / (2 + 1e-4), 0, 2 / (2 + 1e-4), 0, 0, 0]),
        ("unscaled", [-2, 0, 2, 0, 0, 0]),
        ("leave_one_out", [-3, 0, 3, 0, 0, 0]),
    ],
)
def test_an_answer_is_credited_against_its_group(name: str, per_answer: list[float]) -> None:
    credited = GroupCredit(GRPO(advantages=name)).assign(rollout())
    wanted = np.where(MASK, np.array(per_answer)[:, None], 0.0)
    np.testing.assert_allclose(credited.advantages.numpy(), wanted, atol=1e-6)
    assert credited.returns is None
    assert credited.metrics["rollout/equal_groups_share"] == 0.5


def test_an_answer_that_was_cut_pays_before_groups_are_compared() -> None:
    grpo = GRPO(advantages="unscaled", missing_eos_penalty=3.0)
    credited = GroupCredit(grpo).assign(rollout())
    np.testing.assert_allclose(credited.advantages[:3, 0].numpy(), [-1, 1, 0], atol=1e-6)


def test_with_a_perfect_critic_nothing_is_left_to_credit_before_the_end() -> None:
    """Values that equal the score make every temporal difference zero but for the KL."""
    values = torch.tensor(np.where(MASK, SCORES[:, None], 7.0), dtype=torch.float32)
    credit = CriticCredit(PPO(), KL(coef=0.0))
    credited = credit.assign(rollout(values))
    assert credited.returns is not None
    np.testing.assert_allclose(
        credited.returns.numpy()[MASK],
        np.broadcast_to(SCORES[:, None], MASK.shape)[MASK],
        atol=1e-5,
    )
    assert credited.metrics["rollout/advantage_std"] < 1e-5
    assert math.isclose(credited.metrics["rollout/explained_variance"], 1.0, abs_tol=1e-5)


def test_only_the_critics_credit_adapts_its_coefficient() -> None:
    critic, group = CriticCredit(PPO(), KL(coef=0.2, target=6)), GroupCredit(GRPO(kl_coef=0.05))
    for credit in (critic, group):
        credit.adapt(60.0, 32)
    assert critic.kl_coef > 0.2
    assert group.kl_coef == 0.05


def test_an_unknown_advantage_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'leave_one_out'"):
        GroupCredit(GRPO(advantages="leave_one_ot"))


def test_a_group_of_one_is_refused() -> None:
    check_group(2)
    with pytest.raises(ConfigError, match=r"samples_per_prompt is 1.*needs at least 2"):
        check_group(1)
