"""The page of a reward card."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from heedful.monitor import charts
from heedful.monitor.annotator_section import annotators_section
from heedful.monitor.answer_figures import answers_section
from heedful.monitor.charts import number, percent
from heedful.monitor.demo_figures import shares_in_words
from heedful.monitor.part_report import parts_section
from heedful.monitor.records import (
    Block,
    Figure,
    KeyValues,
    Report,
    Section,
    Stat,
    Table,
)
from heedful.monitor.reward_card import (
    CHANCE,
    Doubt,
    Mistake,
    People,
    RewardCard,
    Slice,
    WithoutLength,
    findings,
)
from heedful.monitor.reward_checks import correlation_in_words, spread
from heedful.monitor.reward_checks_report import (
    share_row,
    short_names,
    wording_blocks,
    writer_sections,
)
from heedful.monitor.wary import no_claim, wary_section
from heedful.stats.calibration import Calibration
from heedful.stats.intervals import Interval
from heedful.stats.shortcuts import MatchedAccuracy

Row = dict[str, Any]
MAX_TEXT = 400


def reward_report(card: RewardCard) -> Report:
    """The page as records."""
    return Report(
        title=f"Reward card of {card.model}",
        subtitle=f"{card.accuracy.num:,} pairs of {card.num_prompts:,} prompts from {card.data}, "
        f"seed {card.seed}. Scores: {card.scale}.",
        verdict=verdict(card),
        notice=no_claim(card.num_learned),
        headline=headline(card),
        sections=(
            wary_section(findings(card)),
            accuracy_section(card),
            *annotators_section(card),
            calibration_section(card),
            *answers_section(card.answers),
            Section(
                title="Length and other shortcuts",
                short="Shortcuts",
                text="People may like what these features go with; a reward that follows them more "
                "than people do will be exploited by a policy.",
                blocks=shortcuts(card),
            ),
            slices_section(card),
            *writer_sections(card.writers),
            *parts_section(card.parts, card.mix),
            *consistency(card),
            Section(
                title="Most confident mistakes",
                short="Mistakes",
                text="Where it is surest that the rejected answer is the better one. Some of these "
                "labels are wrong.",
                blocks=[mistakes(card.mistakes)],
            ),
            Section(
                title="About this card",
                short="About",
                blocks=[
                    KeyValues(title="What was measured", items=facts(card), width="half"),
                    left_out(card.notes),
                ],
            ),
        ),
    )


def main_figures(card: RewardCard) -> dict[str, str]:
    """The figures that stand for the card elsewhere, in words."""
    shown = {"accuracy": spread(card.accuracy), "pairs": f"{card.accuracy.num:,}"}
    if card.mean_of_subsets is not None:
        shown["mean of subsets"] = spread(card.mean_of_subsets)
    if card.people is not None:
        low, high = card.people.best_low.value, card.people.best_high.value
        shown["best possible, as people agree"] = f"{percent(low)} to {percent(high)}"
        if card.people.ceiling is not None:
            shown["a person with the others' majority"] = spread(card.people.ceiling.human)
    if card.matched is not None:
        shown["length-matched accuracy"] = spread(card.matched.accuracy)
    if card.style is not None:
        shown["variance that style foretells"] = true_minus(percent(card.style.value))
    shown["ECE"] = number(card.measured.ece)
    kept = card.scaling
    if kept is not None:
        after, temperature = number(kept.after.ece), number(kept.temperature)
        shown["ECE after scaling"] = f"{after} at temperature {temperature}"
    warnings = [one.rule.replace("_", " ") for one in findings(card) if one.level != "info"]
    shown["warnings"] = ", ".join(warnings) or "none"
    return shown


def verdict(card: RewardCard) -> str:
    """The answer in a sentence."""
    said = f"It ranks {percent(card.accuracy.value)} of the pairs as they were judged"
    if card.matched is not None:
        said += f", {percent(card.matched.accuracy.value)} where length tells nothing"
    if card.people is not None and card.people.ceiling is not None:
        said += f"; a person agrees with the others on {percent(card.people.ceiling.human.value)}"
    return f"{said}."


def headline(card: RewardCard) -> list[Stat]:
    """Accuracy, accuracy without length, calibration and style."""
    marks = [(CHANCE, "chance")]
    if card.people is not None and card.people.ceiling is not None:
        marks.append((card.people.ceiling.human.value, "a person"))
    stats = [_share("accuracy", card.accuracy, marks)]
    if card.mean_of_subsets is not None:
        stats.append(_share("mean of subsets", card.mean_of_subsets, [(CHANCE, "chance")]))
    if card.matched is not None:
        stats.append(_share("length-matched accuracy", card.matched.accuracy, [(CHANCE, "chance")]))
    kept = card.scaling.after if card.scaling else card.measured
    when = "after scaling" if card.scaling else "as scored"
    stats.append(
        Stat(
            label=f"calibration error, {when}",
            value=number(kept.ece),
            detail=f"chance alone would show {number(kept.ece_floor)}",
        )
    )
    if card.style is not None:
        stats.append(
            Stat(
                label="variance that style foretells",
                value=true_minus(percent(card.style.value)),
                detail=f"{true_minus(_range(card.style))}; at or below 0 nothing",
            )
        )
    return stats


def true_minus(text: str) -> str:
    """Words with numbers whose signs are no hyphens; for texts without hyphens of their own."""
    return text.replace("-", "\N{MINUS SIGN}")


def _share(label: str, one: Interval, marks: Sequence[tuple[float, str]]) -> Stat:
    if math.isnan(one.low):  # no variation to resample
        return Stat(label=label, value=percent(one.value))
    return charts.share(label, one.value, one.low, one.high, marks=marks)


def _range(one: Interval) -> str:
    if math.isnan(one.low):
        return "no variation"
    return charts.between(one.low, one.high)


def accuracy_section(card: RewardCard) -> Section:
    """Accuracy beside people."""
    rows = [share_row("model, all pairs", card.accuracy)]
    if card.matched is not None:
        rows.append(share_row("model, length matched", card.matched.accuracy))
    words = "Share of pairs whose chosen answer scores higher, a tie one half."
    people = card.people
    if people is not None:
        rows += people_rows(people)
        words += " " + about_people(people)
    return Section(
        title="Accuracy and people",
        short="Accuracy",
        text=words,
        blocks=[
            Figure(
                title="Accuracy beside the agreement of people",
                caption="Points with 95 % intervals, in brackets the number of answers. The others "
                "are the majority of the other people who judged the pair. Undecided answers do "
                "not count. The dashed line is chance.",
                panels=[partial(charts.intervals, rows, title="share", marks={"chance": CHANCE})],
                rows=rows,
                words=shares_in_words(rows),
                pictured=(0,),
            )
        ],
    )


def people_rows(people: People) -> list[Row]:
    """What people and model do on the pairs that several people judged."""
    rows = []
    if people.ceiling is not None:
        rows.append(share_row("a person, with the others", people.ceiling.human))
        if people.ceiling.model is not None:
            rows.append(share_row("model, with the same others", people.ceiling.model))
    if people.majority is not None:
        rows.append(share_row("model, with the majority", people.majority))
    rows.append(share_row(f"{people.of}, alike", people.agreement))
    return rows


def about_people(people: People) -> str:
    """What their agreement leaves for a model."""
    said = (
        f"As {people.of} agree on {percent(people.agreement.value)}, the best possible accuracy "
        f"against one answer lies between {percent(people.best_low.value)} and "
        f"{percent(people.best_high.value)}."
    )
    lead = people.ceiling.lead if people.ceiling else None
    if lead is not None:
        said += (
            f" Against the same references the model is {100 * lead.value:+.1f} points from a "
            f"person ({100 * lead.low:+.1f} to {100 * lead.high:+.1f})."
        )
    return true_minus(said)


def calibration_section(card: RewardCard) -> Section:
    """NLL, Brier, ECE and the reliability diagrams."""
    kept = card.scaling
    columns = ("probabilities", "pairs", "NLL, nats", "Brier", "ECE", "ECE of chance alone")
    rows = [_quality("as scored", card.measured)]
    blocks: list[Block] = [_reliability("as scored", card.measured, card.reliability)]
    text = "A probability is the logistic function of the difference of two scores."
    if kept is not None:
        one, other = map(number, kept.halves)
        text += (
            f" Dividing scores by {number(kept.temperature)} fits best. What that does is shown on "
            "pairs that it was not fitted to: each half of the prompts is divided by what fits the "
            f"other half, {one} and {other}."
        )
        rows.append(_quality("after scaling", kept.after))
        blocks.append(_reliability("after scaling", kept.after, kept.reliability))
    table = Table(
        title="Probabilities",
        columns=columns,
        rows=rows,
        caption="Always saying one half has an NLL of 0.693 and a Brier score of 0.25.",
    )
    return Section(title="Calibration", text=text, blocks=[*blocks, table])


def _quality(name: str, one: Calibration) -> tuple[Any, ...]:
    return (name, one.accuracy.num, one.nll, one.brier, one.ece, one.ece_floor)


def _reliability(when: str, one: Calibration, bins: Sequence[Mapping[str, float]]) -> Figure:
    rows = [dict(each) for each in bins]
    return Figure(
        title=f"Reliability, {when}",
        caption="How often it is right, by how sure it is, with 95 % intervals; the diagonal is "
        f"perfect. ECE {number(one.ece)}, by chance alone {number(one.ece_floor)}.",
        panels=[partial(charts.reliability, rows)],
        rows=rows,
        width="half",
        pictured=(0,),
    )


def shortcuts(card: RewardCard) -> list[Block]:
    """What the scores follow besides what people chose."""
    blocks: list[Block] = []
    matched = card.matched
    if matched is not None:
        items = {
            "the longer answer was chosen": percent(matched.larger_wins),
            "accuracy on all pairs": spread(card.accuracy),
            "accuracy on pairs matched by length": spread(matched.accuracy),
            "matched pairs": f"{matched.num_matched:,}",
            "pairs without a match": f"{matched.num_unmatched:,}",
        }
        blocks.append(KeyValues(title="Length", items=items, width="half"))
    if card.without_length is not None:
        blocks.append(length_table(card, card.without_length))
    if card.correlations:
        ordered = sorted(
            card.correlations.items(),
            key=lambda item: 1.0 if math.isnan(item[1].value) else -abs(item[1].value),
        )
        blocks.append(
            Table(
                title="What the score goes with",
                columns=("feature", "correlation", "from", "to"),
                rows=[(name, one.value, one.low, one.high) for name, one in ordered],
                caption="Correlation of the score with each feature among the answers to one "
                "prompt, \N{MINUS SIGN}1 to 1, with its 95 % interval; a dash where one of them "
                "does not vary."
                + (
                    f" Together they foretell {true_minus(percent(card.style.value))} "
                    f"({true_minus(_range(card.style))}) of the variance of scores on "
                    "prompts that the fit did not see; at or below 0 they foretell nothing."
                    if card.style is not None
                    else ""
                ),
                width="half",
            )
        )
    return blocks


def length_table(card: RewardCard, without: WithoutLength) -> Table:
    """The scores as they are beside what is left without the curve of length."""

    def row(
        name: str, all_pairs: Interval, matched: MatchedAccuracy | None, follows: Interval
    ) -> tuple[str, ...]:
        same = "" if matched is None else spread(matched.accuracy)
        return (name, spread(all_pairs), same, correlation_in_words(follows))

    return Table(
        title="Without length",
        columns=("scores", "accuracy", "length matched", "correlation with log words"),
        rows=[
            row("as they are", card.accuracy, card.matched, without.before),
            row("less a curve of length", without.accuracy, without.matched, without.after),
        ],
        caption="What is left of the scores when the curve by which they follow the number of "
        "words within prompts is taken off, each fifth of the prompts by the curve of the others. "
        "No label is read for it. Where accuracy stays, length did no work; where it rises, length "
        "was in the way; where it falls, people like length, or what goes with it.",
        width="half",
    )


def slices_section(card: RewardCard) -> Section:
    """Accuracy by kind of pair."""
    blocks: list[Block] = []
    if card.slices:
        names = short_names([f"{one.kind}: {one.name}" for one in card.slices])
        rows = [
            share_row(name, one.measured.accuracy)
            for name, one in zip(names, card.slices, strict=True)
        ]
        half = middle_of(card.slices)
        blocks = [
            Figure(
                title="Accuracy by slice",
                caption="Points with 95 % intervals, in brackets the number of pairs. The dashed "
                "line is the accuracy on all pairs.",
                panels=[
                    partial(
                        charts.intervals,
                        part,
                        title="accuracy",
                        marks={"all pairs": card.accuracy.value},
                    )
                    for part in (rows[:half], rows[half:])
                    if part
                ],
                rows=rows,
                words=shares_in_words(rows),
            ),
            slice_table(card.slices),
        ]
    return Section(
        title="Where it is right",
        short="Slices",
        text="A pair is in one slice of every kind."
        if card.slices
        else "The pairs do not differ in anything that slices are made by.",
        blocks=blocks,
    )


def middle_of(slices: Sequence[Slice]) -> int:
    """Where to break slices into two columns, between kinds."""
    starts = [n for n in range(1, len(slices)) if slices[n].kind != slices[n - 1].kind]
    return min(starts, key=lambda n: abs(n - len(slices) / 2), default=len(slices))


def slice_table(slices: Sequence[Slice]) -> Table:
    """The figures of every slice."""
    return Table(
        title="Slices",
        columns=("slice", "pairs", "accuracy", "from", "to", "NLL, nats", "ECE", "of chance alone"),
        rows=[
            (
                f"{one.kind}: {one.name}",
                one.measured.accuracy.num,
                percent(one.measured.accuracy.value),
                percent(one.measured.accuracy.low),
                percent(one.measured.accuracy.high),
                one.measured.nll,
                one.measured.ece,
                one.measured.ece_floor,
            )
            for one in slices
        ],
    )


def consistency(card: RewardCard) -> list[Section]:
    """Other wordings, swapped sides, uncertainty against error; nothing where none was measured."""
    blocks: list[Block] = wording_blocks(card.rewordings)
    if card.swap is not None:
        rows = [share_row("judged alike both ways round", card.swap)]
        blocks.append(
            Figure(
                title="Swap consistency",
                caption="Share of pairs that are judged the same when their answers change places.",
                panels=[partial(charts.intervals, rows, title="share", marks={})],
                rows=rows,
                words=shares_in_words(rows),
                width="half",
            )
        )
    if card.doubt is not None:
        blocks += [_doubt(card.doubt), _bins(card.doubt)]
    if not blocks:
        return []
    return [Section(title="Can its judgement be trusted?", short="Trust", blocks=blocks)]


def _doubt(doubt: Doubt) -> Figure:
    curve = doubt.curve
    rows = [
        {"percent kept": 100 * float(coverage), "error": float(risk)}
        for coverage, risk in zip(curve.coverage, curve.risk, strict=True)
    ]
    detection = doubt.detection
    return Figure(
        title="Uncertainty against error",
        caption=f"Error rate among the pairs on which {doubt.num_members} members agree most. A "
        f"wrong pair is more disputed than a right one in {percent(detection.value)} of cases "
        f"({_range(detection)}; half would be no use). The area under the curve stands at "
        f"{number(curve.excess)} between 0, all errors last, and 1, no order.",
        panels=[partial(charts.curve, rows, "percent kept", "error", "error rate")],
        rows=rows,
        width="half",
    )


def _bins(doubt: Doubt) -> Table:
    return Table(
        title="Errors by uncertainty",
        columns=("members differ by, log-odds", "pairs", "wrong", "from", "to"),
        rows=[
            (
                f"{number(one.low)} to {number(one.high)}",
                one.error.num,
                percent(one.error.value),
                percent(one.error.low),
                percent(one.error.high),
            )
            for one in doubt.bins
        ],
        caption="From the pairs on which the members agree most to those on which they do least.",
    )


def mistakes(found: Sequence[Mistake]) -> Block:
    """The mistakes as a table; texts are cut."""
    if not found:
        return KeyValues(title="Mistakes", items={"mistakes": "none"})
    return Table(
        title="Mistakes",
        columns=("prompt", "chosen by people", "scored higher", "sure by"),
        rows=[
            (_short(one.prompt), _short(one.chosen), _short(one.rejected), percent(one.confidence))
            for one in found
        ],
        caption=f"Texts are cut after {MAX_TEXT} characters.",
    )


def _short(text: str) -> str:
    return textwrap.shorten(text, MAX_TEXT, placeholder=" …") or "(no text)"


def facts(card: RewardCard) -> dict[str, Any]:
    """What was measured on what."""
    return {
        "model": card.model,
        "data": card.data,
        "scores": card.scale,
        "pairs": f"{card.accuracy.num:,}",
        "prompts": f"{card.num_prompts:,}",
        **{f"pairs from {form}": f"{num:,}" for form, num in card.forms.items()},
        "left out: learned from": "not known" if card.num_learned is None else card.num_learned,
        "prompt nearly learned": "not known" if card.near is None else card.near.num,
        **{f"no pair: {rule.replace('_', ' ')}": num for rule, num in card.without_pair.items()},
        **{f"left out: {rule.replace('_', ' ')}": num for rule, num in card.drops.items()},
        "judged both ways": card.num_contradicted,
        "seed": card.seed,
    }


def left_out(notes: Sequence[str]) -> Block:
    """What the card does not say, and why."""
    items = {}
    for note in notes:
        what, _, why = note.removeprefix("No ").partition(": ")
        items[what] = why
    return KeyValues(title="What it does not say", items=items or {"nothing": ""}, width="half")
