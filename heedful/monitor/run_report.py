"""The report of one ``fit``: curves, results, settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from heedful.monitor import charts
from heedful.monitor.demo_report import calibration_rows
from heedful.monitor.report import Block, Figure, Report, Section, Stat, Table


def run_report(
    kind: str,
    config: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
) -> Report:
    """A run's metrics as small multiples, its results and its config as tables."""
    names = sorted({key for row in rows for key in row if "/" in key})
    flat = [{"step": row["step"]} | {key.replace("/", " "): row.get(key) for key in names}
            for row in rows]  # fmt: skip
    curves: list[Block] = []
    if flat:
        titles = [(key.replace("/", " "), key) for key in names]
        curves.append(
            Figure(
                title="Metrics",
                caption="One point per optimiser step.",
                chart=charts.curves(flat, "step", titles),
                rows=flat,
            )
        )
    if metrics.get("deltas"):
        calibration = calibration_rows(metrics["deltas"])
        curves.append(
            Figure(
                title="Calibration",
                caption="Held-out accuracy by confidence with 95 % intervals.",
                chart=charts.reliability(calibration),
                rows=calibration,
            )
        )
    values = [
        (k, v if isinstance(v, int | float) else str(v))
        for k, v in metrics.items()
        if k != "deltas"
    ]
    numbers = {k: v for k, v in metrics.items() if isinstance(v, int | float)}
    return Report(
        title=f"fit {kind}",
        subtitle=f"{config.get('model')} on {config.get('data')}, seed {config.get('seed')}",
        headline=[Stat(label=k, value=f"{v:.4g}") for k, v in list(numbers.items())[:6]],
        sections=(
            Section(title="Curves", blocks=curves),
            Section(
                title="Results",
                blocks=(
                    Table(
                        title="",
                        columns=("metric", "value"),
                        rows=values,
                    ),
                ),
            ),
            Section(
                title="Settings",
                blocks=(Table(title="", columns=("key", "value"), rows=list(flatten(config))),),
            ),
        ),
    )


def flatten(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted keys and values."""
    rows: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            rows += flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", str(value)))
    return rows
