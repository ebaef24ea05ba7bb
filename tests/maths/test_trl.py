"""TRL as an oracle: its loss methods run on a stand-in for the trainer, on our inputs.

What TRL does not expose, or no longer ships, is written out in numpy with its place named.
"""

import warnings
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from heedful.maths.advantages import group_advantages, leave_one_out_advantages
from heedful.maths.kl import kl_k3
from heedful.maths.masked import masked_mean, masked_sum, masked_whiten
from heedful.maths.policy import clipped_policy_loss, clipped_value_loss
from heedful.maths.preference import (
    dpo,
    hinge,
    kto,
    kto_baseline,
    length_normalised_dpo,
    length_normalised_ipo,
    orpo,
    robust_dpo,
    simpo,
)
from heedful.maths.returns import gae
from heedful.maths.reward import bradley_terry, centring_penalty

NUM_PAIRS, NUM_TOKENS = 3, 5
ACCELERATOR = SimpleNamespace(
    device=torch.device("cpu"),
    num_processes=1,
    gather=lambda x: x,
    gather_for_metrics=lambda x: x,
    reduce=lambda x, **_: x,
)


@pytest.fixture(scope="module")
def trl():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.experimental.cpo import CPOTrainer
        from trl.experimental.orpo import ORPOTrainer
        from trl.trainer.dpo_trainer import DPOTrainer
        from trl.trainer.grpo_trainer import GRPOTrainer
        from trl.trainer.kto_trainer import KTOTrainer
        from trl.trainer.reward_trainer import RewardTrainer
        from trl.trainer.rloo_trainer import RLOOTrainer
        from trl.trainer.utils import nanstd
    return SimpleNamespace(
        cpo=CPOTrainer,
        dpo=DPOTrainer,
        grpo=GRPOTrainer,
        kto=KTOTrainer,
        nanstd=nanstd,
        orpo=ORPOTrainer,
        reward=RewardTrainer,
        rloo=RLOOTrainer,
    )


def trainer(**attributes) -> SimpleNamespace:
    """What TRL's loss methods read from ``self``, in evaluation mode."""
    defaults = {
        "accelerator": ACCELERATOR,
        "model": SimpleNamespace(training=False),
        "aux_loss_enabled": False,
        "precompute_ref_logps": True,
        "_metrics": defaultdict(lambda: defaultdict(list)),
        "_total_train_tokens": 0,
    }
    return SimpleNamespace(**(defaults | attributes))


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def fused_model(logprobs: torch.Tensor):
    """A model whose fused head reports these per-token log-probabilities, 0 off the response."""
    zeros = torch.zeros_like(logprobs)
    outputs = SimpleNamespace(
        log_probs=logprobs, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool()
    )
    return lambda **_: outputs


def response_batch(num_rows: int):
    """TRL's inputs for ``num_rows`` rows of one prompt token and a response of varying length."""
    lengths = 1 + torch.arange(num_rows) % NUM_TOKENS
    mask = torch.arange(NUM_TOKENS) < lengths[:, None]
    logprobs = torch.where(mask, -2 * draw(num_rows, NUM_TOKENS), 0)
    inputs = {
        "input_ids": torch.ones(num_rows, NUM_TOKENS + 1, dtype=torch.long),
        "attention_mask": torch.ones(num_rows, NUM_TOKENS + 1, dtype=torch.long),
        "completion_mask": torch.cat([torch.zeros(num_rows, 1), mask], dim=1).long(),
    }
    return inputs, logprobs, lengths


@pytest.mark.parametrize(
    ("loss_type", "loss", "options", "needs_tokens"),
    [
        ("sigmoid", dpo, {"beta": 0.3}, False),
        ("hinge", hinge, {"beta": 0.3}, False),
        ("robust", robust_dpo, {"beta": 0.3, "flip_rate": 0.1}, False),
        ("ipo", length_normalised_ipo, {"tau": 0.3}, True),
        ("sigmoid_norm", length_normalised_dpo, {"beta": 0.3}, True),
    ],
)
def test_preference_losses_equal_trl(trl, loss_type, loss, options, needs_tokens):
    inputs, logprobs, lengths = response_batch(2 * NUM_PAIRS)
    references = -5 * draw(2, NUM_PAIRS, seed=1)
    stand_in = trainer(
        beta=0.3,
        label_smoothing=0.1,
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        loss_types=[loss_type],
        loss_weights=[1.0],
        use_weighting=False,
    )
    inputs |= {"ref_chosen_logps": references[0], "ref_rejected_logps": references[1]}
    theirs = trl.dpo._compute_loss(stand_in, fused_model(logprobs), inputs, False)
    tokens = lengths.chunk(2) if needs_tokens else ()
    ours = loss(*logprobs.sum(1).chunk(2), *references, *tokens, **options)
    torch.testing.assert_close(ours.mean(), theirs)


def test_kto_equals_trl(trl):
    inputs, logprobs, _ = response_batch(4)
    is_desirable = torch.tensor([True, True, False, False])
    references, mismatched = -5 * draw(4, seed=1), -5 * draw(4, seed=2)
    inputs |= {
        "label": is_desirable,
        "ref_logps": references,
        "ref_KL_logps": mismatched - 0.7,
    }
    stand_in = trainer(
        beta=0.3,
        calculate_KL=True,
        loss_type="kto",
        desirable_weight=1.2,
        undesirable_weight=0.8,
        _compute_kl_logps=lambda *_: mismatched,
    )
    theirs = trl.kto._compute_loss(stand_in, fused_model(logprobs), inputs, False)
    baseline = kto_baseline(mismatched, mismatched - 0.7)
    ours = kto(
        logprobs.sum(1),
        references,
        is_desirable,
        baseline,
        beta=0.3,
        desirable_weight=1.2,
        undesirable_weight=0.8,
    )
    torch.testing.assert_close(ours.mean(), theirs)


def test_orpo_equals_trl(trl):
    chosen, rejected = -3 * draw(2, NUM_PAIRS)
    tokens = torch.tensor([2, 5, 9])
    stand_in = trainer(beta=0.1)
    ratio = trl.orpo.odds_ratio_loss(stand_in, chosen, rejected)[0]
    ours = orpo(chosen * tokens, rejected * tokens, tokens, tokens, odds_weight=0.1)
    # orpo_trainer.py, get_batch_loss_metrics: loss = policy_nll_loss - losses.mean()
    torch.testing.assert_close(ours, -chosen - ratio)


def test_simpo_equals_trl(trl):
    chosen, rejected = -3 * draw(2, NUM_PAIRS)
    tokens = torch.tensor([2, 5, 9])
    stand_in = trainer(beta=2.0, simpo_gamma=0.5, alpha=0.0, loss_type="simpo", label_smoothing=0.0)
    theirs = trl.cpo.cpo_loss(stand_in, chosen, rejected)[0]
    ours = simpo(chosen * tokens, rejected * tokens, tokens, tokens, beta=2.0, target_margin=0.5)
    torch.testing.assert_close(ours, theirs)


def test_bradley_terry_with_margin_and_centring_equals_trl(trl):
    chosen, rejected = 3 * draw(2, NUM_PAIRS) - 1
    margin = draw(NUM_PAIRS, seed=1)
    stand_in = trainer(args=SimpleNamespace(center_rewards_coefficient=0.01))
    outputs = SimpleNamespace(logits=torch.cat([chosen, rejected])[:, None])
    theirs = trl.reward.compute_loss(stand_in, lambda **_: outputs, {"margin": margin})
    ours = bradley_terry(chosen, rejected, margin=margin) + 0.01 * centring_penalty(
        chosen, rejected
    )
    torch.testing.assert_close(ours.mean(), theirs)


def policy_batch():
    mask = torch.arange(NUM_TOKENS) < torch.tensor([[2], [5], [3], [4]])
    logprobs = -2 * draw(4, NUM_TOKENS)
    old_logprobs = logprobs + 0.5 * (draw(4, NUM_TOKENS, seed=1) - 0.5)
    inputs = {
        "prompt_ids": torch.ones(4, 1, dtype=torch.long),
        "prompt_mask": torch.ones(4, 1, dtype=torch.long),
        "completion_ids": torch.ones(4, NUM_TOKENS, dtype=torch.long),
        "completion_mask": mask.long(),
        "advantages": torch.tensor([1.0, -1.0, 0.5, -0.5]),
    }
    return inputs, logprobs, old_logprobs, mask


def forward_of(logprobs):
    return lambda *_, **__: (logprobs, torch.zeros_like(logprobs), None)


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo"])
def test_clipped_policy_loss_with_kl_equals_trl_grpo(trl, loss_type):
    inputs, logprobs, old_logprobs, mask = policy_batch()
    ref_logprobs = -2 * draw(4, NUM_TOKENS, seed=2)
    inputs |= {
        "old_per_token_logps": old_logprobs,
        "ref_per_token_logps": ref_logprobs,
        "num_items_in_batch": mask.sum(),
    }
    stand_in = trainer(
        _get_per_token_logps_and_entropies=forward_of(logprobs),
        _entropy_bonus_enabled=False,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None),
        beta=0.04,
        epsilon_low=0.1,
        epsilon_high=0.2,
        importance_sampling_level="token",
        loss_type=loss_type,
        max_completion_length=8,
        off_policy_mask_threshold=None,
        top_entropy_quantile=1.0,
        use_vllm=False,
    )
    theirs = trl.grpo._compute_loss(stand_in, None, inputs)
    loss = clipped_policy_loss(
        logprobs,
        old_logprobs,
        inputs["advantages"][:, None],
        mask,
        clip_range=0.1,
        clip_range_high=0.2,
    )
    loss = loss + 0.04 * kl_k3(logprobs, ref_logprobs)
    ours = {
        "grpo": masked_mean(loss, mask, dim=1).mean(),
        "dr_grpo": masked_sum(loss, mask) / (4 * 8),
        "dapo": masked_mean(loss, mask),
    }
    torch.testing.assert_close(ours[loss_type], theirs)


def test_clipped_policy_loss_of_whole_responses_equals_trl_rloo(trl):
    inputs, logprobs, old_logprobs, mask = policy_batch()
    summed, old_summed = (masked_sum(x, mask, dim=1) for x in (logprobs, old_logprobs))
    inputs["old_logps"] = old_summed
    stand_in = trainer(
        _get_per_token_logps_and_entropies=forward_of(logprobs), epsilon_low=0.2, epsilon_high=0.2
    )
    theirs = trl.rloo._compute_loss(stand_in, None, inputs)
    ours = clipped_policy_loss(
        summed[:, None],
        old_summed[:, None],
        inputs["advantages"][:, None],
        torch.ones(4, 1, dtype=torch.bool),
    )
    torch.testing.assert_close(ours.mean(), theirs)


def test_group_advantages_equal_trl(trl):
    rewards = draw(3, 4)
    # grpo_trainer.py, _generate_and_score_completions, scale_rewards="group"
    theirs = (rewards - rewards.mean(1, keepdim=True)) / (
        trl.nanstd(rewards, dim=1, keepdim=True) + 1e-4
    )
    torch.testing.assert_close(group_advantages(rewards), theirs)


def test_leave_one_out_advantages_equal_trl():
    rewards = draw(3, 4)
    # rloo_trainer.py, _generate_and_score_completions
    theirs = rewards - (rewards.sum(1, keepdim=True) - rewards) / (4 - 1)
    torch.testing.assert_close(leave_one_out_advantages(rewards), theirs)


def ppo_batch():
    rng = np.random.default_rng(0)
    mask = np.arange(6) < np.array([[3], [6], [1]])
    return rng.normal(size=(3, 6)), rng.normal(size=(3, 6)), rng.normal(size=(3, 6)), mask


def trl_masked_whiten(values, mask, shift_mean):
    """trl 1.9.0, trl/experimental/ppo/ppo_trainer.py: masked_mean, masked_var, masked_whiten."""
    count = mask.sum()
    mean = (values * mask).sum() / count
    variance = ((values - mean) ** 2 * mask).sum() / count * count / (count - 1)
    whitened = (values - mean) / np.sqrt(variance + 1e-8)
    return whitened if shift_mean else whitened + mean


@pytest.mark.parametrize("shift_mean", [True, False])
def test_masked_whiten_equals_trl_ppo(shift_mean):
    values, _, _, mask = ppo_batch()
    theirs = trl_masked_whiten(values, mask, shift_mean)
    ours = masked_whiten(torch.from_numpy(values), torch.from_numpy(mask), shift_mean=shift_mean)
    np.testing.assert_allclose(ours.numpy()[mask], theirs[mask], atol=1e-12)


def test_gae_equals_trl_ppo():
    rewards, values, _, mask = ppo_batch()
    rewards, values = rewards * mask, values * mask
    # trl 1.9.0, trl/experimental/ppo/ppo_trainer.py, train: "6. compute advantages and returns"
    last, reversed_advantages = 0, []
    for t in reversed(range(6)):
        next_values = values[:, t + 1] if t < 5 else 0.0
        delta = rewards[:, t] + 0.9 * next_values - values[:, t]
        last = delta + 0.9 * 0.95 * last
        reversed_advantages.append(last)
    theirs = np.stack(reversed_advantages[::-1], axis=1)
    ours, returns = gae(*map(torch.from_numpy, (rewards, values, mask)), gamma=0.9)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-12)
    np.testing.assert_allclose(returns.numpy(), theirs + values, atol=1e-12)


def test_clipped_losses_equal_trl_ppo():
    new, change, targets, mask = ppo_batch()
    old = new + 0.3 * change
    # trl 1.9.0, trl/experimental/ppo/ppo_trainer.py, train: vf_loss and pg_loss
    near = np.clip(new, old - 0.2, old + 0.2)
    value_loss = 0.5 * np.maximum((new - targets) ** 2, (near - targets) ** 2)[mask].mean()
    ratio = np.exp(new - old)
    policy_loss = np.maximum(-targets * ratio, -targets * np.clip(ratio, 0.8, 1.2))[mask].mean()
    tensors = [torch.from_numpy(x) for x in (new, old, targets, mask)]
    ours = [masked_mean(f(*tensors), tensors[3]) for f in (clipped_value_loss, clipped_policy_loss)]
    assert [float(x) for x in ours] == pytest.approx([value_loss, policy_loss], rel=1e-12)
