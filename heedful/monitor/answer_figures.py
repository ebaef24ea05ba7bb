"""What ratings, thumbs and flags say of a reward: no pair is needed, any two answers compare."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from heedful.monitor import charts
from heedful.monitor.charts import percent
from heedful.monitor.demo_figures import shares_in_words
from heedful.monitor.records import Block, Figure, Section, Table
from heedful.monitor.reward_checks import correlation_in_words, spread
from heedful.monitor.reward_checks_report import share_row
from heedful.stats.calibration import Calibration
from heedful.stats.ceiling import HumanCeiling
from heedful.stats.concordance import OrderWithin
from heedful.stats.intervals import Interval
from heedful.types import Finding

CHANCE = 0.5
FLAGS_OF = "flags of "  # begins the name of a flag's scale
ECE_ABOVE_FLOOR = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ThumbCalibration:
    """Chances of a thumb up that a logistic curve makes of scores, on thumbs it was not fitted to.

    ``share_up`` of the thumbs point up; who always states that share has a log-loss of
    ``plain_nll``, in nats. ``ThumbCalibration(share_up=0.62, plain_nll=0.66,
    measured=Calibration(...))``
    """

    share_up: float
    plain_nll: float
    measured: Calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFigures:
    """A reward beside the ratings on one criterion, beside thumbs, or beside one kind of flag.

    Made by ``jobs.reward_card.answers``. ``num`` ratings of ``num_answers`` answers to
    ``num_prompts`` prompts. ``concordance`` is over any two of them (of thumbs the area under the
    ROC curve), ``correlations`` are rank correlations by name, of ratings alone, ``within`` is the
    order of answers to one prompt by their mean rating, and ``people`` need answers that two of
    them rated. None: the data do not allow it.
    """

    name: str
    num: int
    num_answers: int
    num_prompts: int
    concordance: Interval
    correlations: Mapping[str, Interval]
    within: OrderWithin | None = None
    people: HumanCeiling | None = None
    thumbs: ThumbCalibration | None = None

    @property
    def called(self) -> str:
        """What people gave, in words."""
        if self.name in ("thumbs", "ratings") or self.is_flag:
            return self.name
        return f"ratings of {self.name}"

    @property
    def is_flag(self) -> bool:
        """Is it beside a kind of flag, where an answer that has none should score higher?"""
        return self.name.startswith(FLAGS_OF)


def answer_findings(found: Sequence[AnswerFigures]) -> Iterator[Finding]:
    """What to be wary of, in words."""
    for one in found:
        shared = {"value": one.concordance.value}
        if one.is_flag:
            yield from _prefers_flagged(one)
        elif one.concordance.high < CHANCE:
            yield Finding(
                rule="against_ratings",
                level="error",
                cause=f"It orders two answers as {one.called} do in {spread(one.concordance)} of "
                "cases: worse than tossing a coin.",
                remedy="Look whether more means better on this scale.",
                **shared,
            )
        elif one.concordance.low <= CHANCE:
            yield Finding(
                rule="chance_on_ratings",
                level="warning",
                cause=f"It orders two answers as {one.called} do in {spread(one.concordance)} of "
                f"cases: no better than tossing a coin, as far as {one.num:,} of them tell.",
                remedy="Measure more answers, or fit to feedback of this kind.",
                **shared,
            )
        kept = one.thumbs.measured if one.thumbs is not None else None
        if kept is not None and kept.ece > kept.ece_floor + ECE_ABOVE_FLOOR:
            yield Finding(
                rule="calibration_of_thumbs",
                level="warning",
                value=kept.ece,
                cause="Chances of a thumb up are off by "
                f"{100 * kept.ece:.1f} points on average, where chance alone would show "
                f"{100 * kept.ece_floor:.1f}.",
                remedy="Use the order of its scores, and no threshold on such a chance.",
            )
        lead = one.people.lead if one.people is not None else None
        if lead is not None and lead.high < 0:
            yield Finding(
                rule="below_raters",
                level="info",
                value=lead.value,
                cause=f"On {one.called} its rank correlation with the others is {-lead.value:.2f} "
                "below that of a person.",
                remedy="There is something left to learn: more labels, or a larger model.",
            )


def _prefers_flagged(one: AnswerFigures) -> Iterator[Finding]:
    """A reward need not know of a flag, but should not like what is flagged."""
    if one.concordance.high >= CHANCE:
        return
    yield Finding(
        rule="prefers_flagged",
        level="warning",
        value=one.concordance.value,
        cause=f"An answer with {one.called} scores below one without in only "
        f"{spread(one.concordance)} of cases: it prefers what people flagged.",
        remedy="Read such answers; fit to these flags with loss.flags, and let the part be a "
        "penalty or a veto.",
    )


def answers_section(found: Sequence[AnswerFigures]) -> list[Section]:
    """The section; nothing without judgements of single answers."""
    if not found:
        return []
    rows: list[dict[str, Any]] = []
    for one in found:
        rows.append(share_row(f"{one.name}, any two answers", one.concordance))
        if one.within is not None:
            rows.append(share_row(f"{one.name}, within a prompt", one.within.share))
    figure = Figure(
        title="Order of rated answers",
        caption="Share of pairs of answers that the scores put in the order of their ratings, with "
        "95 % intervals, in brackets the number of observations. Any two answers: a tie of scores "
        "counts one half; of thumbs it is the area under the ROC curve. Within a prompt: by the "
        "mean rating of an answer. Of flags, the lesser is the better. The dashed line is chance.",
        panels=[partial(charts.intervals, rows, title="share", marks={"chance": CHANCE})],
        rows=rows,
        words=shares_in_words(rows),
    )
    tables = [_ranks(found), _ceilings(found), _thumbs(found)]
    blocks: list[Block] = [figure, *(one for one in tables if one is not None)]
    return [
        Section(
            title="Ratings, thumbs and flags",
            short="Ratings",
            text="Scores beside what people said of single answers, over all prompts. Prompts "
            "differ in how well they can be answered, so these figures and those of pairs need not "
            "agree.",
            blocks=blocks,
        )
    ]


def _ranks(found: Sequence[AnswerFigures]) -> Table:
    return Table(
        title="What was rated",
        columns=("scale", "ratings", "answers", "prompts", "Spearman", "Kendall tau-b",
                 "pairs judged alike", "scored alike"),
        rows=[
            (
                one.name,
                one.num,
                one.num_answers,
                one.num_prompts,
                *(
                    correlation_in_words(one.correlations[name]) if one.correlations else ""
                    for name in ("spearman", "kendall")
                ),
                one.within.num_judged_alike if one.within else "",
                one.within.num_scored_alike if one.within else "",
            )
            for one in found
        ],
        caption="Rank correlations of scores and single ratings, \N{MINUS SIGN}1 to 1, with 95 % "
        "intervals over prompts. Alike are pairs of answers to one prompt.",
    )  # fmt: skip


def _ceilings(found: Sequence[AnswerFigures]) -> Table | None:
    rows = [
        (one.name, one.people.human.num,
         *(correlation_in_words(each)
           for each in (one.people.human, one.people.model, one.people.lead)))
        for one in found
        if one.people is not None and one.people.model is not None and one.people.lead is not None
    ]  # fmt: skip
    if not rows:
        return None
    return Table(
        title="Beside a person",
        columns=("scale", "ratings", "a person", "model", "model minus person"),
        rows=rows,
        caption="Spearman's correlation with the mean of what the other people gave the same "
        "answer: of a person's own ratings, and of the scores.",
    )


def _thumbs(found: Sequence[AnswerFigures]) -> Table | None:
    rows = [
        (percent(one.thumbs.share_up), one.thumbs.measured.nll, one.thumbs.plain_nll,
         one.thumbs.measured.brier, one.thumbs.measured.ece, one.thumbs.measured.ece_floor)
        for one in found
        if one.thumbs is not None
    ]  # fmt: skip
    if not rows:
        return None
    return Table(
        title="Chances of a thumb up",
        columns=("thumbs up", "log-loss, nats", "of stating the share", "Brier", "ECE",
                 "ECE of chance alone"),
        rows=rows,
        caption="A logistic curve of the score, each half of the prompts by the curve that fits "
        "the other half.",
    )  # fmt: skip
