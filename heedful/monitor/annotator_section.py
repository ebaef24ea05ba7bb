"""The part of a reward card about each of those who judged the pairs."""

import math
from functools import partial
from typing import Any

from heedful.monitor import charts
from heedful.monitor.charts import percent
from heedful.monitor.demo_figures import shares_in_words
from heedful.monitor.records import Figure, Section, Table
from heedful.monitor.reward_card import FEW_OF_ANNOTATOR, RewardCard, who
from heedful.stats.intervals import Interval

MOST_ANNOTATORS = 40  # in a figure


def annotators_section(card: RewardCard) -> list[Section]:
    """Whose labels the model agrees with; nothing where annotators cannot be told apart."""
    if not card.annotators:
        return []
    shown = sorted(card.annotators, key=lambda one: one.agreement.value)[:MOST_ANNOTATORS]
    rows: list[dict[str, Any]] = [
        {
            "name": f"{who(one)} ({one.agreement.num})",
            "value": one.agreement.value,
            "low": one.agreement.low,
            "high": one.agreement.high,
        }
        for one in shown
    ]
    knows = any(one.learned is not None for one in shown)
    table = Table(
        title="Annotators",
        columns=("annotator", "pairs", "agreement", "less the others", "from", "to")
        + (("learned reliability", "from", "to") if knows else ()),
        rows=[
            (who(one), one.agreement.num, percent(one.agreement.value), *_three(one.lead))
            + (_three(one.learned) if knows else ())
            for one in shown
        ],
        caption=f"Differences have an interval that allows for looking at everybody, and a dash "
        f"below {FEW_OF_ANNOTATOR} pairs. Whoever judged harder pairs agrees less."
        + (
            " Learned reliability is that of the fit, on the pairs it learned from."
            if knows
            else ""
        ),
    )
    return [
        Section(
            title="Annotators",
            text="How often the model, which saw none of these pairs, agrees with each of those "
            "who judged them."
            if card.num_learned is not None
            else "How often the model agrees with each of those who judged the pairs.",
            blocks=[
                Figure(
                    title="Agreement with each annotator",
                    caption="Points with 95 % intervals, in brackets the number of pairs. The "
                    "dashed line is the accuracy on all pairs."
                    + (
                        f" The {len(shown)} lowest of {len(card.annotators)}."
                        if len(shown) < len(card.annotators)
                        else ""
                    ),
                    panels=[
                        partial(
                            charts.intervals,
                            rows,
                            title="agreement",
                            marks={"all pairs": card.accuracy.value},
                        )
                    ],
                    rows=rows,
                    words=shares_in_words(rows),
                    width="half",
                ),
                table,
            ],
        )
    ]


def _three(one: Interval | None) -> tuple[float, float, float]:
    return (one.value, one.low, one.high) if one is not None else (math.nan,) * 3
