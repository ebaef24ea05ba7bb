"""The card of a reward on ratings, thumbs and flags that tell no two answers to a prompt apart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from heedful.monitor.answer_figures import AnswerFigures, answer_findings, answers_section
from heedful.monitor.charts import share
from heedful.monitor.part_report import parts_section
from heedful.monitor.records import KeyValues, Report, Section, Stat
from heedful.monitor.reward_card import FEW, PartFigures
from heedful.monitor.reward_checks import correlation_in_words, spread
from heedful.monitor.reward_report import left_out
from heedful.monitor.wary import gravest_first, no_claim, unknown_leakage, wary_section
from heedful.types import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCard:
    """The card. Made by ``jobs.reward_card``, kept as JSON.

    ``answers`` are figures by scale, at least one. ``num_learned`` statements were left out because
    the model or its parents were fitted to their prompts, None: that could not be told;
    ``num_near`` of the others have a prompt that is nearly equal to a learned one.
    """

    model: str
    data: str
    scale: str
    seed: int
    num_learned: int | None
    num_near: int | None = None
    answers: Sequence[AnswerFigures]
    without_pair: Mapping[str, int]
    notes: Sequence[str]
    mix: str | None = None
    parts: Sequence[PartFigures] = ()


def answer_card_findings(card: AnswerCard) -> list[Finding]:
    """What to be wary of, in words, the gravest first."""
    return gravest_first([*_data(card), *answer_findings(card.answers)])


def _data(card: AnswerCard) -> Iterator[Finding]:
    yield from unknown_leakage(card.num_learned)
    if card.num_near:
        yield Finding(
            rule="near_leakage",
            level="warning",
            value=float(card.num_near),
            cause=f"{card.num_near:,} statements about single answers are on a prompt that is "
            "nearly equal to one that was learned from.",
            remedy="Measure it on other prompts.",
        )
    yield Finding(
        rule="no_pairs",
        level="info",
        value=0.0,
        cause="No two answers to a prompt that was not learned from are told apart, so there is no "
        "accuracy on pairs.",
        remedy="Ask for comparisons, or have several answers to a prompt rated: a policy "
        "learns from differences within a prompt, which pairs alone measure.",
    )
    for one in card.answers:
        if one.num_prompts < FEW:
            yield Finding(
                rule="few_answers",
                level="warning",
                value=float(one.num_prompts),
                cause=f"There are {one.called} on {one.num_prompts} prompts, so every figure is "
                "rough.",
                remedy=f"Measure at least {FEW} prompts.",
            )


def answer_report(card: AnswerCard) -> Report:
    """The page as records."""
    first = card.answers[0]
    return Report(
        title=f"Reward card of {card.model}",
        subtitle=f"{first.num:,} {first.called} for {first.num_answers:,} answers from "
        f"{card.data}, seed {card.seed}. Scores: {card.scale}.",
        verdict=f"It orders any two answers as {first.called} do in {spread(first.concordance)} of "
        "cases.",
        notice=no_claim(card.num_learned),
        headline=headline(card),
        sections=(
            wary_section(answer_card_findings(card)),
            *answers_section(card.answers),
            *parts_section(card.parts, card.mix),
            Section(
                title="About this card",
                short="About",
                blocks=[
                    KeyValues(
                        title="What was measured",
                        items={
                            "model": card.model,
                            "data": card.data,
                            "scores": card.scale,
                            "left out: learned from": "not known"
                            if card.num_learned is None
                            else card.num_learned,
                            "prompt nearly learned": "not known"
                            if card.num_near is None
                            else card.num_near,
                            **{
                                f"no pair: {rule.replace('_', ' ')}": num
                                for rule, num in card.without_pair.items()
                            },
                            "seed": card.seed,
                        },
                        width="half",
                    ),
                    left_out(card.notes),
                ],
            ),
        ),
    )


def headline(card: AnswerCard) -> list[Stat]:
    """The order of any two answers by scale, with the rank correlation of ratings."""
    stats = []
    for one in card.answers:
        order = one.concordance
        marks = [(0.5, "chance")]
        stats.append(share(f"order of {one.name}", order.value, order.low, order.high, marks=marks))
        if "spearman" in one.correlations:
            found = one.correlations["spearman"]
            value, _, bounds = correlation_in_words(found).partition(" (")
            detail = f"{bounds.removesuffix(')')}; 0 is no order" if bounds else "0 is no order"
            stats.append(Stat(label=f"Spearman with {one.name}", value=value, detail=detail))
    return stats


def answer_figures_in_words(card: AnswerCard) -> dict[str, str]:
    """The figures that stand for the card elsewhere."""
    shown: dict[str, str] = {}
    for one in card.answers:
        shown[f"order of {one.name}"] = spread(one.concordance)
        for name, found in one.correlations.items():
            shown[f"{name.capitalize()} with {one.name}"] = correlation_in_words(found)
    named = answer_card_findings(card)
    rules = [one.rule.replace("_", " ") for one in named if one.level != "info"]
    shown["warnings"] = ", ".join(rules) or "none"
    return shown
