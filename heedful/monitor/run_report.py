"""The report of one ``fit``: curves, results, settings, profile and alarms."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from heedful.config import listed
from heedful.monitor import alarms, charts
from heedful.monitor.profile import PREFIX
from heedful.monitor.records import (
    Block,
    Figure,
    KeyValues,
    Note,
    Report,
    Section,
    Stat,
    Table,
)
from heedful.types import Finding

Row = Mapping[str, Any]
NUM_HEADLINE = 6
ANNOTATORS = "annotators"
RATERS = "rater_offsets"
MOST_ANNOTATORS = 40  # in a figure
# shares of choices between two, one half by chance
CHOICES = ("accuracy", "win_rate")
NAMES = {
    "num_held_out": "held out",
    "num_train": "learned from",
    "num_prompts": "prompts",
    "num_learned": "left out, since learned from",
    "num_nearly_learned": "nearly learned from",
    "length_ratio": "length relative to the start",
    "kl": "KL from the start, in nats",
}
PART_FIGURES = {
    "num_pairs": "pairs",
    "accuracy": "pairs in order",
    "num": "answers asked about",
    "num_raised": "raised on",
    "average_precision": "average precision",
    "mean_probability": "mean probability",
    "concordance": "concordance",
    "concordance_ci": "95 % interval",
}
WORDS = {
    "ci": "interval",
    "coef": "coefficient",
    "ece": "ECE",
    "grad": "gradient",
    "kl": "KL",
    "nats": "in nats",
    "num": "number",
    "std": "deviation",
}


def run_report(
    kind: str,
    config: Mapping[str, Any],
    rows: Sequence[Row],
    metrics: Mapping[str, Any],
    *,
    profile: Mapping[str, Any] | None = None,
    findings: Sequence[Finding] = (),
    sections: Sequence[Section] = (),
) -> Report:
    """A run's metrics as small multiples, its results, profile and config.

    ``rows`` are those of metrics.jsonl (``step`` and ``area/quantity`` names), ``metrics`` what
    the run returned, ``profile`` where its time went. ``findings`` come on top of the alarms on the
    curve; ``sections`` stand between results and settings.
    """
    data = listed(config.get("data"))
    limit = float(config.get("kl", {}).get("limit") or alarms.KL_LIMIT)
    noticed = [*findings, *alarms.on_curve(short_names(rows), kl_limit=limit)]
    return Report(
        title=f"fit {kind}",
        subtitle=f"{learner(config)} on {data}, seed {config.get('seed')}",
        headline=headline(metrics),
        sections=(
            *(
                [
                    Section(
                        title="Curves",
                        text=f"{len(rows):,} optimiser steps.",
                        blocks=(*(Note(finding=f) for f in noticed), *curves(rows)),
                    )
                ]
                if rows or noticed
                else []
            ),
            Section(title="Results", blocks=results(metrics, config)),
            *sections,
            Section(
                title="Settings and profile",
                short="Settings",
                blocks=[*costs(profile or {}), KeyValues(title="Config", items=flat(config))],
            ),
        ),
    )


def learner(config: Mapping[str, Any]) -> str:
    """What is fitted: a base, or a network of features, which reads none."""
    is_of_features = config.get("backbone") == "features"
    return "network of features" if is_of_features else str(config.get("model"))


def short_names(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """``rollout/kl_nats`` as ``kl_nats``: the names that alarms know."""
    return [{key.rpartition("/")[2]: value for key, value in row.items()} for row in rows]


def headline(metrics: Mapping[str, Any]) -> list[Stat]:
    """The first numbers of the result, with their interval, or from first to last.

    Measurements with an interval stand first, the time that the run took last.
    """
    stats = []
    for key, value in sorted(metrics.items(), key=lambda item: prominence(item[0], metrics)):
        last = metrics.get(f"{key.removesuffix('_first')}_last")
        if not is_number(value) or key.endswith("_last"):
            continue
        if key.endswith("_first") and last is not None:
            span = f"{charts.number(value)} \N{RIGHTWARDS ARROW} {charts.number(last)}"
            stats.append(Stat(label=readable(key.removesuffix("_first")), value=span))
            continue
        stats.append(measured(key, value, metrics.get(f"{key}_ci")))
    return stats[:NUM_HEADLINE]


def prominence(key: str, metrics: Mapping[str, Any]) -> int:
    """0 for what has an interval, 2 for the cost, 1 for the rest."""
    return 0 if f"{key}_ci" in metrics else 2 if key == "seconds" else 1


def measured(key: str, value: float, interval: Sequence[float] | None) -> Stat:
    """A number with its interval when it has one; a share of choices also as a bar."""
    if interval is None:
        return Stat(label=readable(key), value=shown(value))
    low, high = interval
    if key not in CHOICES:
        detail = f"95 % interval {' to '.join(map(shown, interval))}"
        return Stat(label=readable(key), value=shown(value), detail=detail)
    return charts.share(readable(key), value, low, high, marks=((0.5, "chance"),))


def is_number(value: Any) -> bool:
    """A number, and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """A result for reading: three digits, counts in words."""
    if isinstance(value, float):
        return charts.number(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(shown, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {shown(item)}" for key, item in value.items()) or "none"
    return f"{value:,}" if is_number(value) else str(value)


def fact(key: str, value: Any) -> str:
    """The result called ``key`` for reading, an interval as ``low to high``."""
    return " to ".join(map(shown, value)) if key.endswith("_ci") and value else shown(value)


def readable(name: str) -> str:
    """``rollout/kl_nats`` as ``rollout: KL in nats``."""
    area, _, quantity = name.rpartition("/")
    words = " ".join(WORDS.get(word, word) for word in quantity.split("_"))
    return (f"{area}: " if area else "") + NAMES.get(quantity, words)


ROLLOUT = "rollout/number"


def curves(rows: Sequence[Row]) -> list[Block]:
    """One panel per quantity that was measured."""
    names = list(dict.fromkeys(key for row in rows for key in row if "/" in key))
    drawn = [
        name
        for name in names
        if name != ROLLOUT and not name.startswith(PREFIX) and not is_repeated(name, names, rows)
    ]
    if not drawn:
        return []
    return [
        Figure(
            title="Metrics",
            caption="One point per optimiser step, or per rollout for what changes only with it. "
            "Bold: centred moving average; above each panel, where it starts and ends.",
            panels=[
                partial(charts.curve, points(name, rows), "step", name, readable(name))
                for name in drawn
            ],
            rows=[{"step": row["step"]} | {name: row.get(name) for name in names} for row in rows],
            pictured=range(len(drawn)),
        )
    ]


def is_repeated(name: str, names: Sequence[str], rows: Sequence[Row]) -> bool:
    """Whether the loss of the step is also there under its own name."""
    return name == "train/loss" and any(
        other.endswith("/loss_nats") and all(row.get(other) == row.get(name) for row in rows)
        for other in names
    )


def points(name: str, rows: Sequence[Row]) -> Sequence[Row]:
    """The rows to draw: the first of each rollout where all rows of a rollout say the same."""
    firsts: dict[Any, Row] = {}
    for row in rows:
        first = firsts.setdefault(row.get(ROLLOUT), row)
        if row.get(ROLLOUT) is None or row.get(name) != first.get(name):
            return rows
    return list(firsts.values())


def results(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> list[Block]:
    """Calibration where there are score differences, and everything else as facts."""
    blocks: list[Block] = []
    if metrics.get("deltas"):
        # its statistics load numpy and scipy, which pages of runs do without
        from heedful.monitor.demo_figures import calibration

        blocks.append(calibration(metrics, int(config.get("seed") or 0), width="half"))
    apart = ("deltas", "parts", "datasets", ANNOTATORS, RATERS)
    facts = {readable(key): fact(key, value) for key, value in metrics.items() if key not in apart}
    if metrics.get("parts"):
        blocks.append(parts_table(metrics["parts"]))
    if metrics.get(ANNOTATORS):
        blocks.append(annotators(metrics[ANNOTATORS]))
    if metrics.get(RATERS):
        blocks.append(raters(metrics[RATERS]))
    sets = [by_set(metrics["datasets"])] if metrics.get("datasets") else []
    result = KeyValues(title="Result", items=facts, width="half" if blocks else "full")
    return [*sets, *blocks, result]


def by_set(sets: Mapping[str, Mapping[str, Any]]) -> Block:
    """What each of several data sets gave and how well it is predicted."""
    columns = {
        "num_rows": "rows",
        "num_train": "learned from",
        "weight_share": "share of the weight",
        "num_held_out": "held out",
        "accuracy": "accuracy",
        "accuracy_ci": "95 % interval",
        "drops": "dropped",
        "rows_hash": "hash of the rows",
    }

    def of(one: Mapping[str, Any], key: str) -> str:
        if key not in one:
            return ""
        return one[key][:16] if key == "rows_hash" else fact(key, one[key])

    rows = [(name, *(of(one, key) for key in columns)) for name, one in sets.items()]
    return Table(title="Data sets", columns=("data set", *columns.values()), rows=rows)


def parts_table(parts: Mapping[str, Mapping[str, Any]]) -> Block:
    """Each part of a reward beside what people said of it; empty where they said too little."""
    names = [key for key in PART_FIGURES if any(key in one for one in parts.values())]
    return Table(
        title="Parts of the reward",
        columns=("part", *(PART_FIGURES[key] for key in names)),
        rows=[
            (name, *(fact(key, one[key]) if key in one else "" for key in names))
            for name, one in parts.items()
        ],
    )


def annotators(found: Sequence[Mapping[str, Any]]) -> Figure:
    """How reliable each annotator was learned to be, the least reliable first."""
    said = sorted(found, key=lambda one: (one["reliability"], one["annotator"]))
    rows: list[Row] = [
        {
            "name": f"{annotator_name(one)} ({one['num_pairs']})",
            "value": one["reliability"],
            "low": one["reliability_ci"][0],
            "high": one["reliability_ci"][1],
        }
        for one in said[:MOST_ANNOTATORS]
    ]
    cut = (
        f" The {MOST_ANNOTATORS} least reliable of {len(found)}." if len(rows) < len(found) else ""
    )
    return Figure(
        title="Reliability of annotators",
        caption="The chance that an annotator reports the truth, as learned with the scores, with "
        "95 % intervals given the scores; in brackets the number of pairs. One half is tossing "
        "coins. Who gave few pairs stands near the mean." + cut,
        panels=[partial(charts.intervals, rows, title="reliability", marks={"a coin": 0.5})],
        rows=rows,
        words="; ".join(
            f"{row['name']}: {charts.percent(row['value'])}, 95 % interval "
            f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
            for row in rows
        )
        + ".",
        width="half",
    )


def raters(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """How much higher than others annotators rate, by criterion, the strictest first."""
    far = {
        criterion: sorted(people, key=lambda one: (-abs(one["offset"]), one["annotator"]))
        for criterion, people in found.items()
    }
    rows = [
        (
            criterion,
            annotator_name(one),
            charts.number(one["offset"]),
            " to ".join(map(charts.number, one["offset_ci"])),
            one["num_ratings"],
        )
        for criterion, people in far.items()
        for one in sorted(people[:MOST_ANNOTATORS], key=lambda one: one["offset"])
    ]
    return Table(
        title="How high annotators rate",
        columns=("criterion", "annotator", "offset, log-odds", "95 % interval", "ratings"),
        rows=rows,
        caption="What is added to the score of an answer when this annotator rates it; below 0 is "
        "strict. Given the final scores and thresholds. At most "
        f"{MOST_ANNOTATORS} a criterion, those who are farthest from the others.",
        width="half",
    )


def annotator_name(one: Mapping[str, Any]) -> str:
    """The annotator's id, and what it is unless a person."""
    name, source = one["annotator"] or "not known", one["source"]
    return f"{name}, {source}" if source in ("simulated", "model", "rule") else str(name)


def costs(profile: Mapping[str, Any]) -> list[Block]:
    """Seconds, tokens and memory of every phase, and how dense the batches were."""
    phases = profile.get("phases")
    if not phases:
        return []
    columns = {
        "phase": "phase",
        "seconds": "seconds",
        "share": "share of the time",
        "tokens": "tokens",
        "tokens_per_second": "tokens a second",
        "gflops_per_second": "GFLOP/s",
        "share_of_peak": "share of the peak",
        "peak_gb": "peak memory, GB",
    }
    kept = [key for key in columns if any(phase[key] is not None for phase in phases)]
    rows = [tuple(cell(key, phase[key]) for key in kept) for phase in phases]
    table = Table(title="Profile", columns=tuple(columns[key] for key in kept), rows=rows)
    facts = {}
    if profile.get("packing"):
        facts["packing"] = (
            f"padded rows with a prompt each would hold {profile['packing']:.2f} times the tokens"
        )
    if profile.get("peak_gflops"):
        facts["peak"] = f"{profile['peak_gflops']:.0f} GFLOP/s in a square matrix product"
    return [table, *([KeyValues(title="Batches and machine", items=facts)] if facts else [])]


def cell(key: str, value: Any) -> Any:
    """A cell of the profile: shares in percent, nothing where nothing was measured."""
    if value is None or (key == "tokens" and not value):
        return ""
    if key.startswith("share"):
        return charts.percent(value)
    if isinstance(value, float):
        return round(value, 2) if value < 100 else round(value)
    return value


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys and values."""
    items: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            items |= flat(value, f"{prefix}{key}.")
        else:
            items[f"{prefix}{key}"] = str(value)
    return items
