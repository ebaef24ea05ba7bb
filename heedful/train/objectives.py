"""Outputs and a batch in, summed loss and summed metrics out. The loop divides once per step.

An objective returns ``(loss, metrics)`` where both are sums over the batch's unit (tokens or
pairs), so that the result does not depend on micro-batching. The formulas live in ``maths``.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from heedful.errors import ConfigError
from heedful.maths import kl, policy, preference, reward
from heedful.maths.masked import masked_sum
from heedful.registry import Registry, nearest
from heedful.tensors import Batch, Outputs

Metrics = dict[str, Tensor]


class Objective(Protocol):
    """Summed loss and summed metrics of one micro-batch."""

    def __call__(self, outputs: Outputs, batch: Batch, /) -> tuple[Tensor, Metrics]:
        """See the module's docstring."""
        ...


def nll(outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
    """Negative log-likelihood of the response tokens by weight, end of turn included."""
    assert outputs.logprobs is not None
    assert outputs.entropy is not None
    weights = 1.0 if batch.weights is None else batch.weights[:, None]
    loss = -masked_sum(outputs.logprobs * weights, batch.mask)
    entropy = masked_sum(outputs.entropy * weights, batch.mask)
    return loss, {"policy/nll_nats": loss.detach(), "policy/entropy_nats": entropy}


PAIR_LOSSES: Registry[Callable[..., Tensor]] = Registry(
    "reward loss",
    {
        "bradley_terry": reward.bradley_terry,
        "constant_error": reward.constant_error_bradley_terry,
        "unbiased": reward.unbiased_bradley_terry,
    },
)
PREFERENCE_LOSSES: Registry[Callable[..., Tensor]] = Registry(
    "preference loss",
    {
        "dpo": preference.dpo,
        "cdpo": preference.cdpo,
        "robust_dpo": preference.robust_dpo,
        "hinge": preference.hinge,
        "ipo": preference.ipo,
    },
)


def check_params(formula: Callable[..., Tensor], params: Mapping[str, float]) -> None:
    """A loss's keyword-only arguments are its configuration; anything else is refused."""
    signature = inspect.signature(formula)
    names = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    for name in params:
        if name not in names:
            raise ConfigError(
                f"{formula.__name__} has no parameter {name!r}; {nearest(name, names)}"
            )


def pairwise_reward(loss: str, params: Mapping[str, float]) -> Objective:
    """A Bradley-Terry style objective on the scores of pairs."""
    formula = PAIR_LOSSES[loss]
    check_params(formula, params)

    def objective(outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        chosen, rejected = chosen_and_rejected(outputs.scores, batch)
        assert batch.weights is not None
        margins: dict[str, Any] = {}
        if loss == "bradley_terry" and batch.margins is not None:
            margins = {"margin": batch.margins}
        per_pair = formula(chosen, rejected, **{**margins, **params}) * batch.weights
        total = per_pair.sum()
        return total, {
            "reward/loss_nats": total.detach(),
            "reward/accuracy_rate": pair_accuracy(chosen, rejected, batch.weights),
            "reward/margin": ((chosen - rejected).detach() * batch.weights).sum(),
        }

    return objective


def pair_accuracy(chosen: Tensor, rejected: Tensor, weights: Tensor) -> Tensor:
    """Weight of the pairs in the right order; a tie counts one half."""
    return (((chosen > rejected).float() + 0.5 * (chosen == rejected).float()) * weights).sum()


def chosen_and_rejected(rows: Tensor | None, batch: Batch) -> tuple[Tensor, Tensor]:
    """Values per response [B] to values per pair, chosen and rejected [P]."""
    assert rows is not None
    assert batch.pairs is not None
    return rows[batch.pairs[:, 0]], rows[batch.pairs[:, 1]]


def direct_preference(loss: str, params: Mapping[str, float]) -> Objective:
    """A DPO-family objective on summed response log-probabilities."""
    formula = PREFERENCE_LOSSES[loss]
    check_params(formula, params)

    def objective(outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        assert outputs.logprobs is not None
        assert batch.ref_logprobs is not None
        assert batch.weights is not None
        own = masked_sum(outputs.logprobs, batch.mask, dim=1)
        reference = masked_sum(batch.ref_logprobs, batch.mask, dim=1)
        chosen, rejected = chosen_and_rejected(own, batch)
        ref_chosen, ref_rejected = chosen_and_rejected(reference, batch)
        weights = batch.weights
        total = (formula(chosen, rejected, ref_chosen, ref_rejected, **params) * weights).sum()
        gain, loss_of_rejected = chosen - ref_chosen, rejected - ref_rejected
        return total, {
            "preference/loss_nats": total.detach(),
            "preference/accuracy_rate": pair_accuracy(gain, loss_of_rejected, weights).detach(),
            "preference/margin_nats": ((gain - loss_of_rejected).detach() * weights).sum(),
            "preference/chosen_gain_nats": (gain.detach() * weights).sum(),
        }

    return objective


def clipped_policy(
    outputs: Outputs, batch: Batch, clip_range: float, clip_range_high: float | None = None
) -> tuple[Tensor, Metrics]:
    """The clipped policy loss of a rollout, which PPO and its critic-free relatives share."""
    assert outputs.logprobs is not None
    assert outputs.entropy is not None
    assert batch.old_logprobs is not None
    assert batch.advantages is not None
    mask = batch.mask
    given = (outputs.logprobs, batch.old_logprobs, batch.advantages, mask)
    low, high = clip_range, clip_range_high
    loss = masked_sum(
        policy.clipped_policy_loss(*given, clip_range=low, clip_range_high=high), mask
    )
    with torch.no_grad():
        clipped = policy.clip_share(*given, clip_range=low, clip_range_high=high)
        step_kl = kl.kl_k3(batch.old_logprobs, outputs.logprobs)
    return loss, {
        "policy/clipped_loss": loss.detach(),
        "policy/clip_share": clipped * batch.num_tokens,
        "policy/step_kl_nats": masked_sum(step_kl, mask),
        "policy/entropy_nats": masked_sum(outputs.entropy, mask),
    }


def ppo(*, clip_range: float, value_clip_range: float, value_coef: float) -> Objective:
    """Clipped policy loss plus ``value_coef`` times the clipped value loss, per token."""

    def objective(outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        assert outputs.values is not None
        assert batch.old_values is not None
        assert batch.returns is not None
        policy_loss, metrics = clipped_policy(outputs, batch, clip_range)
        per_token = policy.clipped_value_loss(
            outputs.values,
            batch.old_values,
            batch.returns,
            batch.mask,
            value_clip_range=value_clip_range,
        )
        value_loss = masked_sum(per_token, batch.mask)
        metrics["critic/value_loss"] = value_loss.detach()
        return policy_loss + value_coef * value_loss, metrics

    return objective


def grpo(*, clip_range: float, clip_range_high: float | None, kl_coef: float) -> Objective:
    """Clipped policy loss plus ``kl_coef`` times the k3 estimate of the KL, per token.

    Every token weighs alike, as in DAPO; the mean over responses first is another objective.
    """

    def objective(outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        assert outputs.logprobs is not None
        assert batch.ref_logprobs is not None
        loss, metrics = clipped_policy(outputs, batch, clip_range, clip_range_high)
        distance = masked_sum(kl.kl_k3(outputs.logprobs, batch.ref_logprobs), batch.mask)
        metrics["policy/kl_k3_nats"] = distance.detach()
        return loss + kl_coef * distance, metrics

    return objective
