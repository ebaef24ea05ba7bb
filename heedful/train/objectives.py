"""Outputs and a batch in, summed loss and summed metrics out. The loop divides once per step.

An objective returns ``(loss, metrics)`` where both are sums over the batch's unit (tokens, pairs
or judgements), so that the result does not depend on micro-batching. Formulas live in ``maths``.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

from heedful.config import RewardLoss
from heedful.errors import ConfigError
from heedful.maths import judgements, kl, policy, preference, reward
from heedful.maths.masked import masked_sum
from heedful.registry import Registry, nearest
from heedful.tensors import Batch, Marks, Outputs
from heedful.train import crowd, raters


class Share(NamedTuple):
    """A metric that is a mean over a part of the unit, such as pairs among other feedback."""

    total: Tensor
    weight: Tensor


Metrics = dict[str, Tensor | Share]


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


def check_params(
    formula: Callable[..., Tensor], params: Mapping[str, float], *, besides: str = ""
) -> None:
    """A loss's keyword-only arguments are its configuration; anything else is refused.

    ``besides`` is an argument that comes with the data.
    """
    signature = inspect.signature(formula)
    keywords = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    names = [name for name in keywords if name != besides]
    for name in params:
        if name not in names:
            raise ConfigError(
                f"{formula.__name__} has no parameter {name!r}; {nearest(name, names)}"
            )


def feedback_reward(
    loss: RewardLoss, flag_weights: Mapping[str, float] = MappingProxyType({})
) -> Objective:
    """Likelihoods of everything that was said of responses, given their scores.

    What was said of a named part teaches its own output, and everything else the first one.
    ``flag_weights`` are what a raised flag counts for (``judgements.positive_weights``). Raises
    ``ConfigError`` for a loss that does not exist or parameters that it does not take.
    """
    of_pairs = pair_loss(loss)
    knows_people = loss.annotators == "reliability"

    def objective(outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        scores = outputs.scores
        assert scores is not None
        if batch.style is not None:  # what style explains need not stand in the head
            scores = scores + batch.style @ outputs.links["style"]
        total = scores.sum() * 0.0
        metrics: Metrics = {}
        if batch.pulls is not None:
            assert outputs.length_scores is not None
            assert outputs.heads_alike is not None
            pulled = batch.pulls * torch.stack([scores, outputs.length_scores], dim=1)
            # a gradient without a loss: the penalty's own value is that of the whole step
            total = total + (pulled - pulled.detach()).sum()
            total = total + batch.judgement_weight * outputs.heads_alike
            scores = scores + outputs.length_scores

        def add(name: str, losses: Tensor, weights: Tensor) -> None:
            nonlocal total
            part = (losses * weights).sum()
            total = total + part
            metrics[f"reward/{name}_loss"] = Share(part.detach(), weights.sum())

        if batch.pairs is not None:
            assert batch.weights is not None
            weights = batch.weights
            chosen, rejected = chosen_and_rejected(scores, batch)
            if knows_people:
                prior = crowd.prior(batch, outputs.links)
                add("annotator_prior", prior, torch.ones_like(prior))

            def stated(first: Tensor, second: Tensor) -> Tensor:
                if knows_people:
                    return crowd.pair_losses(first, second, batch, outputs.links)
                return of_pairs(first, second, batch.margins, outputs.links)

            add("pair", soft(stated, chosen, rejected, batch.probabilities), weights)
            if batch.groups is not None:
                own = torch.stack([scores, *list(outputs.parts.values())[1:]])[batch.groups]
                first, second = (own.gather(1, side[:, None])[:, 0] for side in batch.pairs.T)
                has_own = weights * (batch.groups > 0)
                add("group", soft(stated, first, second, batch.probabilities), has_own)
                apart = (first - second) - (chosen - rejected)
                total = total + loss.group_pull * (apart.square() * has_own).sum()
            if loss.centring:
                penalty = loss.centring * reward.centring_penalty(chosen, rejected)
                total = total + (penalty * weights).sum()
            right = pair_accuracy(chosen, rejected, weights).detach()
            lead = ((chosen - rejected).detach() * weights).sum()
            metrics["reward/accuracy_rate"] = Share(right, weights.sum())
            metrics["reward/margin"] = Share(lead, weights.sum())
        if batch.ties is not None:
            assert batch.tie_weights is not None
            first, second = scores[batch.ties[:, 0]], scores[batch.ties[:, 1]]
            outcomes = TIE_MODELS[loss.ties](first, second, outputs.links)
            add("tie", -outcomes[..., 2], batch.tie_weights)
        if batch.rankings is not None:
            found = batch.rankings
            likelihood = reward.plackett_luce(
                scores[found.order], found.mask, num_ranked=found.num_ranked
            )
            add("ranking", likelihood, found.weights)
        for criterion, marks in batch.ratings.items():
            own = outputs.parts.get(criterion, scores)[marks.rows]
            losses = rating_losses(own, marks, criterion, loss, outputs.links)
            add(f"rating_{criterion}" if criterion else "rating", losses, marks.weights)
            if marks.judges is not None:
                away = raters.prior(marks, criterion, outputs.links)
                add("rater_prior", away, torch.ones_like(away))
        if batch.thumbs is not None:
            scaled = scores[batch.thumbs.rows] * outputs.links["thumb/log_slope"].exp()
            threshold = outputs.links["thumb/threshold"]
            is_good = batch.thumbs.values > 0.5
            add(
                "thumb",
                judgements.thumbs(scaled, is_good, threshold=threshold),
                batch.thumbs.weights,
            )
        for name, marks in batch.flags.items():
            losses = raised_losses(outputs.parts[name], marks, flag_weights[name])
            add(f"flag_{name}", losses, marks.weights)
        return total, {"reward/loss_nats": total.detach(), **metrics}

    return objective


Links = Mapping[str, Tensor]


def rao_kupper(first: Tensor, second: Tensor, links: Links) -> Tensor:
    """Log-probabilities of first, second and tie; the threshold is kept above 0 by softplus."""
    return reward.rao_kupper(first, second, threshold=softplus(links["tie"]))


def davidson(first: Tensor, second: Tensor, links: Links) -> Tensor:
    """Log-probabilities of first, second and tie; the link is the log of the ties' strength."""
    return reward.davidson(first, second, log_tie_strength=links["tie"])


TIE_MODELS: Registry[Callable[[Tensor, Tensor, Links], Tensor]] = Registry(
    "model of ties", {"rao_kupper": rao_kupper, "davidson": davidson}
)


def pair_loss(loss: RewardLoss) -> Callable[[Tensor, Tensor, Tensor | None, Links], Tensor]:
    """The loss of pairs that were decided, with their margins where it knows margins."""
    formula = PAIR_LOSSES[loss.pairs]
    crowd.check_loss(loss)
    raters.check_loss(loss)
    if "margin" in loss.params:
        raise ConfigError(
            f"loss.params.margin is {loss.params['margin']}; margins are the stated strengths "
            "times loss.margin: set that"
        )
    check_params(formula, loss.params, besides="margin")
    try:
        formula(torch.zeros(1), torch.zeros(1), **loss.params)
    except ValueError as error:
        raise ConfigError(f"loss.params: {error}") from None
    if loss.ties == "drop":

        def decided(chosen: Tensor, rejected: Tensor, margins: Tensor | None, _: Links) -> Tensor:
            knows_margins = loss.pairs == "bradley_terry" and margins is not None
            return formula(
                chosen, rejected, **({"margin": margins} if knows_margins else {}), **loss.params
            )

        return decided
    if loss.pairs != "bradley_terry" or loss.params:
        raise ConfigError(
            f"loss.ties is {loss.ties!r} and loss.pairs is {loss.pairs!r} with parameters "
            f"{loss.params}; a model of ties has its own likelihood of pairs: drop one of the two"
        )
    model = TIE_MODELS[loss.ties]

    def beside_ties(
        chosen: Tensor, rejected: Tensor, margins: Tensor | None, links: Links
    ) -> Tensor:
        lead = chosen if margins is None else chosen - margins
        return -model(lead, rejected, links)[..., 0]

    return beside_ties


def rating_losses(
    scores: Tensor, marks: Marks, criterion: str, loss: RewardLoss, links: Links
) -> Tensor:
    """Loss of ratings by regression or of their classes by cumulative link.

    A slope and a shift per criterion link the one score to what is rated; the offset of whoever
    gave the rating adds to it, where offsets are learned. ``scores`` are those of the marks.
    """
    scaled = scores * links[f"rating/{criterion}/log_slope"].exp()
    scaled = raters.shifted(scaled, marks, criterion, links)
    shift = links[f"rating/{criterion}/shift"]
    if loss.ratings == "regression":
        return judgements.rating_regression(scaled, marks.values, offsets=shift)
    gaps = links.get(f"rating/{criterion}/gaps", scores.new_zeros(0))
    thresholds = judgements.ordered_thresholds(gaps) - shift
    return judgements.ordinal(scaled, marks.values.long(), thresholds)


def soft(
    stated: Callable[[Tensor, Tensor], Tensor],
    chosen: Tensor,
    rejected: Tensor,
    probabilities: Tensor | None,
) -> Tensor:
    """The loss of pairs that hold with a probability: its mean over both ways round.

    As of so many people who say the one and so many who say the other.
    """
    losses = stated(chosen, rejected)
    if probabilities is None:
        return losses
    return probabilities * losses + (1 - probabilities) * stated(rejected, chosen)


def raised_losses(logits: Tensor, marks: Marks, weight: float) -> Tensor:
    """Loss of a flag being raised or not, [G]; ``logits`` are of all responses.

    A raised one counts ``weight`` times its severity in units of the mean one. That alone would
    add ``log weight`` to the logits; it is added in the loss instead, so that the head learns the
    log-odds as people raise the flag (King and Zeng 2001, prior correction).
    """
    is_raised = (marks.values > 0).float()[:, None]
    return judgements.flag_losses(
        (logits[marks.rows] + math.log(weight))[:, None],
        is_raised,
        torch.ones_like(is_raised, dtype=torch.bool),
        positive_weights=weight * marks.values[:, None],
    ).squeeze(-1)


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
        losses = formula(chosen, rejected, ref_chosen, ref_rejected, **params)
        if batch.probabilities is not None:
            other = formula(rejected, chosen, ref_rejected, ref_chosen, **params)
            losses = batch.probabilities * losses + (1 - batch.probabilities) * other
        total = (losses * weights).sum()
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
    """The clipped policy loss of a rollout, which PPO and its critic-free relatives share.

    Without old log-probabilities the batch's policy is the one that sampled it: the ratio is 1.
    """
    assert outputs.logprobs is not None
    assert outputs.entropy is not None
    assert batch.advantages is not None
    mask, old = batch.mask, batch.old_logprobs
    if old is None:
        old = outputs.logprobs.detach()
    given = (outputs.logprobs, old, batch.advantages, mask)
    low, high = clip_range, clip_range_high
    loss = masked_sum(
        policy.clipped_policy_loss(*given, clip_range=low, clip_range_high=high), mask
    )
    with torch.no_grad():
        clipped = policy.clip_share(*given, clip_range=low, clip_range_high=high)
        step_kl = kl.kl_k3(old, outputs.logprobs)
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
