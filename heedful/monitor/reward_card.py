"""What is known of a reward model on pairs that it has not seen, and what to be wary of."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from heedful.monitor.answer_figures import AnswerFigures, answer_findings
from heedful.monitor.charts import percent
from heedful.monitor.reward_checks import (
    Lean,
    Rewording,
    Writer,
    lean_findings,
    spread,
    wording_findings,
    writer_findings,
)
from heedful.monitor.wary import gravest_first, unknown_leakage
from heedful.stats.calibration import Calibration
from heedful.stats.ceiling import HumanCeiling
from heedful.stats.intervals import Interval, mean_of_shares
from heedful.stats.shortcuts import MatchedAccuracy
from heedful.stats.uncertainty import Bin, RiskCoverage
from heedful.types import Finding

FEW_IN_SLICE = 40  # an accuracy near 0.7 has an interval of 14 points either way
FEW = 100  # and of 9 points
MUCH_STYLE = 0.5  # of the variance within prompts: style explains more than all else together
ECE_ABOVE_FLOOR = 0.05
MUCH_DROPPED = 0.1
SWAPPED_ALIKE = 0.95
CHANCE = 0.5
FEW_OF_ANNOTATOR = 20
MAX_QUOTED = 80
SUBSET = "subset"  # the kind of slices that a file names itself
FAR = 0.05  # a lead surely below minus this is far from the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The pairs of one kind: ``Slice(kind="turns", name="2 turns", measured=Calibration(...))``."""

    kind: str
    name: str
    measured: Calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class WithoutLength:
    """Scores less the curve by which they follow length, beside the scores as they are.

    ``before`` and ``after`` are correlations with the logarithm of the words within prompts;
    ``accuracy`` is that of what is left, ``matched`` the same on pairs matched by length.
    """

    before: Interval
    after: Interval
    accuracy: Interval
    matched: MatchedAccuracy | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """What a temperature does to calibration, seen on pairs that it was not fitted to.

    ``temperature`` fits all pairs best and is the one to use. ``after`` is measured with two
    others: each half of the prompts is scaled by what fits the other half, which is in ``halves``.
    ``reliability`` are its bins.
    """

    temperature: float
    halves: tuple[float, float]
    after: Calibration
    reliability: Sequence[Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NearLearned:
    """Pairs whose prompts are nearly equal to learned ones, and the accuracy on the others.

    ``apart`` is None where there are no others. ``examples`` are a prompt and the learned one.
    """

    num: int
    apart: Interval | None
    examples: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """How far people agree on these pairs, and what that leaves for a model.

    ``agreement`` is that of two answers to one pair (``of``: by whom), and the best possible
    accuracy lies between ``best_low`` and ``best_high`` (``accuracy_ceiling``). ``ceiling`` needs
    pairs that two people answered, ``majority`` is the model's accuracy against their majority.
    """

    of: str
    agreement: Interval
    best_low: Interval
    best_high: Interval
    ceiling: HumanCeiling | None = None
    majority: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One annotator's pairs against the model's order, and against everybody else's pairs.

    ``lead`` is how much more often the model agrees with them than with the others, at a
    confidence that allows for looking at all annotators; None below ``FEW_OF_ANNOTATOR`` pairs.
    ``learned`` is their reliability in the model's fit, where it was learned.
    """

    annotator: str
    source: str
    agreement: Interval
    lead: Interval | None
    learned: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A pair that the reward model ranks the wrong way round, and how sure it is of it."""

    prompt: str
    chosen: str
    rejected: str
    confidence: float
    annotations: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """The spread of an ensemble's members against its errors, on pairs without a tie.

    ``bins`` go from the pairs on which they agree most to those on which they agree least.
    """

    num_members: int
    detection: Interval
    curve: RiskCoverage
    bins: Sequence[Bin] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFigures:
    """A part of the reward beside what people said of it; None for what nobody was asked.

    ``weight`` says in words what say it has. ``on_pairs`` is its accuracy on the preferences, and
    ``concordance`` that with ratings on it, or the area under the ROC curve of a flag.
    """

    name: str
    kind: str
    weight: str
    on_pairs: float | None
    num_pairs: int
    concordance: float | None
    low: float | None
    high: float | None
    num_raised: int | None
    num_asked: int | None
    average_precision: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardCard:
    """The card. Made by ``jobs.reward_card``, drawn by ``reward_report``, kept as JSON.

    ``num_learned`` pairs were left out because the model or its parents were fitted to their
    prompts, None: that could not be told; of ``near`` the same. ``num_contradicted`` pairs of
    answers were judged both ways. ``without_pair`` counts by rule the answers that state no pair,
    such as ties, and the rows of a file that could not be used; ``drops`` the pairs that were not
    scored. ``reliability`` are the bins of ``measured``, as scored, and ``num_alike`` counts the
    pairs with equal scores. ``correlations`` are those of the score with each feature of style,
    within prompts. ``notes`` say what was left out and why. ``forms`` counts the pairs by how they
    were asked for; ``concordance`` is by rating criterion, or thumbs, over answers to all prompts.
    ``parts`` are those of a model with several, and ``mix`` is how they made the scores.
    """

    model: str
    data: str
    scale: str
    seed: int
    num_prompts: int
    num_learned: int | None
    near: NearLearned | None = None
    num_contradicted: int
    without_pair: Mapping[str, int]
    drops: Mapping[str, int]
    measured: Calibration
    reliability: Sequence[Mapping[str, float]]
    num_alike: int = 0
    matched: MatchedAccuracy | None
    correlations: Mapping[str, Interval]
    style: Interval | None
    without_length: WithoutLength | None = None
    people: People | None
    annotators: Sequence[Judged] = ()
    scaling: Scaling | None
    slices: Sequence[Slice]
    swap: Interval | None
    doubt: Doubt | None
    mistakes: Sequence[Mistake]
    notes: Sequence[str]
    forms: Mapping[str, int] = field(default_factory=dict)
    answers: Sequence[AnswerFigures] = ()
    rewordings: Sequence[Rewording] = ()
    writers: Sequence[Writer] = ()
    leans: Sequence[Lean] = ()
    mix: str | None = None
    parts: Sequence[PartFigures] = ()

    @property
    def accuracy(self) -> Interval:
        """Share of the pairs whose chosen side scores higher, a tie one half."""
        return self.measured.accuracy

    @property
    def mean_of_subsets(self) -> Interval | None:
        """Accuracy with all subsets of the data as heavy as each other; None without any."""
        shares = [one.measured.accuracy for one in self.slices if one.kind == SUBSET]
        return mean_of_shares(shares) if shares else None


def lower(interval: Interval) -> float:
    """The lower bound; the value itself where nothing varied that could be resampled."""
    return interval.value if math.isnan(interval.low) else interval.low


def findings(card: RewardCard) -> list[Finding]:
    """What to be wary of, in words, the gravest first."""
    found = [
        *_leakage(card),
        *_figures(card),
        *_shortcuts(card),
        *answer_findings(card.answers),
        *wording_findings(card.rewordings),
        *writer_findings(card.writers),
        *_people(card),
        *_slices(card),
        *lean_findings(card.leans),
        *_data(card),
    ]
    return gravest_first(found)


def _leakage(card: RewardCard) -> Iterator[Finding]:
    yield from unknown_leakage(card.num_learned)
    if card.num_learned:
        yield Finding(
            rule="leakage",
            level="info",
            value=float(card.num_learned),
            cause=f"{card.num_learned:,} pairs were left out: the model, or one that it builds on, "
            "was fitted to their prompts.",
            remedy="The figures are of the other pairs alone.",
        )
    if card.near is not None and card.near.num:
        (asked, learned), *_ = card.near.examples
        apart = card.near.apart
        yield Finding(
            rule="near_leakage",
            level="warning",
            value=float(card.near.num),
            cause=f"{card.near.num:,} of {card.accuracy.num:,} pairs have a prompt that is nearly "
            f"equal to one that was learned from, such as {_quoted(asked)} to {_quoted(learned)}.",
            remedy=f"Trust the accuracy on the others: {spread(apart)}."
            if apart is not None
            else "Measure it on other prompts.",
        )


def _quoted(text: str) -> str:
    return f'"{textwrap.shorten(text, MAX_QUOTED, placeholder=" …")}"'


def _pairs(num: int) -> str:
    return "1 pair" if num == 1 else f"{num:,} pairs"


def _figures(card: RewardCard) -> Iterator[Finding]:
    accuracy = card.accuracy
    if accuracy.high < CHANCE:
        yield Finding(
            rule="below_chance",
            level="error",
            value=accuracy.value,
            cause=f"Accuracy is {spread(accuracy)}: worse than tossing a coin.",
            remedy="Look whether chosen and rejected have changed places somewhere, or whether it "
            "likes what these people reject.",
        )
    elif accuracy.low <= CHANCE:
        yield Finding(
            rule="chance",
            level="warning",
            value=accuracy.value,
            cause=f"Accuracy is {spread(accuracy)}: no better than tossing a coin, as far as "
            f"{_pairs(accuracy.num)} can tell.",
            remedy="Measure more pairs, or fit to more or cleaner preferences.",
        )
    if card.num_alike:
        yield Finding(
            rule="scored_alike",
            level="warning",
            value=float(card.num_alike),
            cause=f"{card.num_alike:,} of {accuracy.num:,} pairs have the same score on both "
            "sides; each counts as half right.",
            remedy="A veto, features beyond all that it learned from, or a score in few steps does "
            "that; optimising against it learns nothing from such pairs.",
        )
    if accuracy.num < FEW:
        yield Finding(
            rule="few_pairs",
            level="warning",
            value=float(accuracy.num),
            cause=f"It was measured on {_pairs(accuracy.num)}, so every figure is rough.",
            remedy=f"Measure at least {FEW}; 1,000 know an accuracy to 3 points.",
        )
    kept = card.scaling.after if card.scaling else card.measured
    if kept.ece > kept.ece_floor + ECE_ABOVE_FLOOR:
        yield Finding(
            rule="calibration",
            level="warning",
            value=kept.ece,
            cause=f"The probabilities are off by {100 * kept.ece:.1f} points on average, where "
            f"chance alone would show {100 * kept.ece_floor:.1f}.",
            remedy="Use the order of its scores, and no threshold on its probabilities.",
        )
    people = card.people and card.people.ceiling
    if people and people.lead is not None and people.lead.high < 0:
        yield Finding(
            rule="below_people",
            level="info",
            value=people.lead.value,
            cause="It agrees with the majority of the others "
            f"{-100 * people.lead.value:.1f} points less often than a person does.",
            remedy="There is something left to learn: more labels, or a larger model.",
        )
    if card.swap is not None and card.swap.value < SWAPPED_ALIKE:
        yield Finding(
            rule="swap",
            level="warning",
            value=card.swap.value,
            cause=f"Only {spread(card.swap)} of its judgements stay the same when the two answers "
            "change places.",
            remedy="Ask it both ways round and average.",
        )
    if card.doubt is not None and lower(card.doubt.detection) <= CHANCE:
        yield Finding(
            rule="uncertainty",
            level="warning",
            value=card.doubt.detection.value,
            cause="Where its members disagree it is not shown to err more often.",
            remedy="Do not lean on its uncertainty; members fitted to other pairs differ more.",
        )


def _shortcuts(card: RewardCard) -> Iterator[Finding]:
    matched = card.matched
    if (
        matched is not None
        and lower(matched.accuracy) <= CHANCE < card.accuracy.low
        and matched.accuracy.value < card.accuracy.low
    ):
        yield Finding(
            rule="length",
            level="warning",
            value=matched.accuracy.value,
            cause=f"Length does most of the work: accuracy is {spread(card.accuracy)}, but "
            f"{spread(matched.accuracy)} where length tells nothing.",
            remedy="Balance the pairs by length, or keep length out of the reward, and compare "
            "models by length-matched accuracy.",
        )
    if card.style is not None and card.style.value > MUCH_STYLE:
        yield Finding(
            rule="style",
            level="warning",
            value=card.style.value,
            cause=f"Style foretells {percent(card.style.value)} of the variance of its scores "
            "within prompts.",
            remedy="Look at the features that it follows most; a policy will follow them too.",
        )


def _people(card: RewardCard) -> Iterator[Finding]:
    far = [one for one in card.annotators if one.lead is not None and one.lead.high < -FAR]
    for one in sorted(far, key=lambda one: one.lead.value if one.lead else 0.0):
        assert one.lead is not None
        low, high = -100 * one.lead.high, -100 * one.lead.low
        yield Finding(
            rule="annotator",
            level="warning",
            value=one.lead.value,
            cause=f"The labels of {who(one)} are far from the others: the model agrees with them "
            f"{low:.0f} to {high:.0f} points less often ({one.agreement.num} pairs).",
            remedy="Look at their answers and at what they were asked; they may be careless, mean "
            "something else, or be right. loss.annotators=reliability weighs people as they prove.",
        )


def who(one: Judged) -> str:
    """The annotator's id, and what it is unless a person."""
    return one.annotator if one.source in ("", "human") else f"{one.annotator}, {one.source}"


def _slices(card: RewardCard) -> Iterator[Finding]:
    few = [one for one in card.slices if one.measured.accuracy.num < FEW_IN_SLICE]
    if few:
        yield Finding(
            rule="few_in_slice",
            level="warning",
            value=float(len(few)),
            cause=f"Too few pairs to judge by: {_named(few)}.",
            remedy=f"Collect at least {FEW_IN_SLICE} pairs of each before you compare them.",
        )
    weak = [
        one
        for one in card.slices
        if one.measured.accuracy.num >= FEW_IN_SLICE
        and one.measured.accuracy.high < card.accuracy.value
    ]
    if weak:
        yield Finding(
            rule="weak_slice",
            level="warning",
            value=min(one.measured.accuracy.value for one in weak),
            cause=f"It does worse on {_named(weak)} than on all pairs. Of {len(card.slices)} "
            "slices about one in forty would look so by chance.",
            remedy="Collect preferences there first.",
        )


def _named(slices: Sequence[Slice]) -> str:
    return "; ".join(
        f"{one.kind}: {one.name} ({one.measured.accuracy.num} pairs, "
        f"{percent(one.measured.accuracy.value)})"
        for one in slices
    )


def _data(card: RewardCard) -> Iterator[Finding]:
    dropped = sum(card.drops.values())
    total = dropped + card.accuracy.num
    if dropped:
        rules = ", ".join(f"{rule.replace('_', ' ')}: {n:,}" for rule, n in card.drops.items())
        yield Finding(
            rule="dropped",
            level="warning" if dropped > MUCH_DROPPED * total else "info",
            value=dropped / total,
            cause=f"{dropped:,} of {total:,} pairs could not be scored ({rules}).",
            remedy="The figures are of the others alone.",
        )
    if card.num_contradicted:
        yield Finding(
            rule="contradicted",
            level="info",
            value=float(card.num_contradicted),
            cause=f"{card.num_contradicted:,} pairs of answers were judged both ways, where no "
            "model is right twice.",
            remedy="Read accuracy beside the agreement of people.",
        )
