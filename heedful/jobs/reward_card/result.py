"""Cards as JSON, and what they claim of a model."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from heedful.jobs.quality.plain import plain
from heedful.monitor.answer_card import AnswerCard, answer_card_findings
from heedful.monitor.answer_figures import AnswerFigures
from heedful.monitor.reward_card import RewardCard, findings
from heedful.stats.intervals import Interval
from heedful.types import JSON


def result_of(card: RewardCard) -> dict[str, JSON]:
    """The card as JSON: the main numbers by the names that evaluations use, then everything."""
    result: dict[str, Any] = {"num_held_out": card.accuracy.num}
    result |= named("accuracy", card.accuracy)
    result |= {"num_learned": card.num_learned, "num_prompts": card.num_prompts}
    if card.near is not None:
        result["num_nearly_learned"] = card.near.num
    if card.mean_of_subsets is not None:
        result |= named("mean_of_subsets", card.mean_of_subsets)
    if card.matched is not None:
        result |= named("length_matched_accuracy", card.matched.accuracy)
    if card.without_length is not None:
        result |= named("accuracy_without_length", card.without_length.accuracy)
    if card.people is not None and card.people.ceiling is not None:
        result |= named("human_accuracy", card.people.ceiling.human)
    if card.style is not None:
        result |= named("style_share", card.style)
    result |= {name: getattr(card.measured, name) for name in ("ece", "brier", "nll")}
    if card.scaling is not None:
        result |= {"ece_scaled": card.scaling.after.ece, "temperature": card.scaling.temperature}
    if card.mix is not None:
        result["mix"] = card.mix
    result |= named_answers(card.answers)
    result |= {"forms": dict(card.forms)}
    result |= {"without_pair": dict(card.without_pair), "drops": dict(card.drops)}
    result["warnings"] = [asdict(one) for one in findings(card)]
    result["card"] = asdict(card)
    whole: dict[str, JSON] = plain(result)
    return whole


def answer_result(card: AnswerCard) -> dict[str, JSON]:
    """The card without pairs as JSON; the first scale's order stands as the accuracy."""
    first = card.answers[0]
    result: dict[str, Any] = {"num_held_out": first.num}
    result |= named("accuracy", first.concordance)
    result |= {"accuracy_is": _concordance(first), "num_learned": card.num_learned}
    if card.num_near is not None:
        result["num_nearly_learned"] = card.num_near
    result |= named_answers(card.answers)
    if card.mix is not None:
        result["mix"] = card.mix
    result["without_pair"] = dict(card.without_pair)
    result["warnings"] = [asdict(one) for one in answer_card_findings(card)]
    result["card"] = asdict(card)
    whole: dict[str, JSON] = plain(result)
    return whole


def named_answers(found: Sequence[AnswerFigures]) -> dict[str, JSON]:
    """The figures of ratings, thumbs and flags under the names of results."""
    result: dict[str, JSON] = {}
    for one in found:
        result |= named(_concordance(one), one.concordance)
        for name, correlation in one.correlations.items():
            result |= named(f"{name}_{one.name}", correlation)
        if one.people is not None:
            result |= named(f"human_spearman_{one.name}", one.people.human)
        if one.thumbs is not None:
            result["thumbs_nll"] = one.thumbs.measured.nll
            result["thumbs_ece"] = one.thumbs.measured.ece
    return result


def _concordance(one: AnswerFigures) -> str:
    """``concordance_helpful``, ``concordance_flags_of_bias``; criteria are spelt as they are."""
    return f"concordance_{one.name.replace(' ', '_') if one.is_flag else one.name}"


def named(name: str, one: Interval) -> dict[str, JSON]:
    """A number and its interval under the names of results."""
    return {name: one.value, f"{name}_ci": [one.low, one.high]}


def claims_of(card: RewardCard) -> dict[str, Interval]:
    """Accuracy, and accuracy without length."""
    claims = {"accuracy": card.accuracy}
    if card.matched is not None:
        claims["length-matched accuracy"] = card.matched.accuracy
    return claims
