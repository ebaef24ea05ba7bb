"""The section of a reward card about the parts of the model."""

from collections.abc import Sequence

from heedful.monitor.charts import percent
from heedful.monitor.records import Section, Table
from heedful.monitor.reward_card import PartFigures


def parts_section(parts: Sequence[PartFigures], mix: str | None) -> list[Section]:
    """Each part beside what people said of it; nothing for a model of one score."""
    if not parts:
        return []
    table = Table(
        title="Parts",
        columns=(
            "part", "in the reward", "pairs in order", "pairs", "concordance", "95 % interval",
            "raised", "average precision",
        ),
        rows=[row_of(one) for one in parts],
        caption="Pairs in order: how often the part alone puts the preferred answer first, a flag "
        "by its absence; where no answers were compared as a whole, the one that is rated higher "
        "on it. Concordance: how often it puts two answers in the order of their ratings "
        "on it, or a flagged one before one that is not (the area under the ROC curve). Chance "
        "gives 50 %, and the share of raised flags as average precision.",
    )  # fmt: skip
    return [
        Section(
            title="Parts of the reward",
            short="Parts",
            text=f"The reward is the mix {mix}; weights are worth deviations on training answers, "
            "and can be changed with --mix.",
            blocks=[table],
        )
    ]


def row_of(one: PartFigures) -> tuple[str | int, ...]:
    """The figures of a part; what nobody was asked about stays empty."""
    is_measured = one.low is not None and one.high is not None
    return (
        f"{one.name} (flag)" if one.kind == "flag" else one.name,
        one.weight,
        share(one.on_pairs),
        one.num_pairs,
        share(one.concordance),
        f"{100 * (one.low or 0):.1f} to {100 * (one.high or 0):.1f}" if is_measured else "",
        f"{one.num_raised} of {one.num_asked}" if one.num_asked else "",
        share(one.average_precision),
    )


def share(value: float | None) -> str:
    """A percentage, or nothing."""
    return "" if value is None else percent(value)
