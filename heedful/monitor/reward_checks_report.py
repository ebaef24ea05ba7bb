"""How the further checks of a reward card are shown."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from heedful.monitor import charts
from heedful.monitor.charts import number, percent
from heedful.monitor.demo_figures import shares_in_words
from heedful.monitor.records import Block, Figure, Section, Table
from heedful.monitor.reward_checks import Rewording, Writer, spread
from heedful.stats.intervals import Interval

DASH = "\N{EN DASH}"


def share_row(name: str, one: Interval) -> dict[str, Any]:
    """A share as charts of intervals take it; where nothing varied the bounds are the value."""
    low, high = (one.value if bound != bound else bound for bound in (one.low, one.high))
    return {"name": f"{name} ({one.num})", "value": one.value, "low": low, "high": high,
            "observations": one.num}  # fmt: skip


def wording_blocks(found: Sequence[Rewording]) -> list[Block]:
    """What other wordings do; nothing where none was tried."""
    if not found:
        return []
    rows = [share_row(one.name, one.kept) for one in found]
    figure = Figure(
        title="Consistency under other wordings",
        caption="Share of pairs that keep their order when both sides are put into another form, "
        "with 95 % intervals, in brackets the number of pairs that the form changes. The forms are "
        "fixed rules, no paraphrases by a writer: code stays, and what is said should stay.",
        panels=[partial(charts.intervals, rows, title="share kept", marks={})],
        rows=rows,
        words=shares_in_words(rows),
        width="half",
    )
    table = Table(
        title="Change of scores",
        columns=("form", "mean change", "from", "to", "of the usual gap"),
        rows=[
            (
                one.name,
                *(
                    (DASH,) * 3
                    if one.change is None
                    else (
                        f"{part:.4f}"
                        for part in (one.change.value, one.change.low, one.change.high)
                    )
                ),
                DASH
                if one.change is None or not one.typical
                else percent(one.change.value / one.typical),
            )
            for one in found
        ],
        caption="Mean absolute change of the score of an answer that the form changes, with its "
        "95 % interval, and as a share of the mean absolute difference of the two sides before.",
        width="half",
    )
    return [figure, table]


def writer_sections(found: Sequence[Writer]) -> list[Section]:
    """Scores by who wrote the answers; nothing for one writer, or none that is known."""
    if len(found) < 2 and all(one.beyond is None for one in found):
        return []
    seen = {True: "yes", False: "no", None: DASH}
    return [
        Section(
            title="Answers of different models",
            short="Writers",
            text="A reward is fitted to the answers of some models and asked about those of "
            "others. Accuracy by writer stands among the slices.",
            blocks=[
                Table(
                    title="Scores by writer",
                    columns=("written by", "answers", "in the fit", "mean score", "5 %", "median",
                             "95 %", "far from the fit"),
                    rows=[
                        (
                            one.name,
                            one.num,
                            seen[one.is_learned],
                            number(one.mean),
                            number(one.low),
                            number(one.middle),
                            number(one.high),
                            DASH if one.beyond is None else spread(one.beyond),
                        )
                        for one in found
                    ],
                    caption="Each distinct answer once, with quantiles of its scores. Far from the "
                    "fit: the share that scores more than two deviations from the mean of the "
                    "answers that the model was fitted to, of which at most a quarter can. A dash: "
                    "not known.",
                )
            ],
        )
    ]  # fmt: skip


def short_names(names: Sequence[str], most: int = 32) -> list[str]:
    """Names that fit into a chart on a phone; whole where two would become one."""
    cut = [name if len(name) <= most else f"{name[: most - 2].rstrip(' ,:')} …" for name in names]
    return [
        short if cut.count(short) == 1 else name for short, name in zip(cut, names, strict=True)
    ]
