"""Print the tables of docs/results.md from the rows in benchmarks/results/.

    python benchmarks/tables.py

A test compares the document with them, so a table cannot drift from its measurements.
"""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


def rows(name: str) -> list[Row]:
    """The rows of ``results/NAME.jsonl``; none when it was never measured."""
    file = RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def table(columns: dict[str, list[str]]) -> list[str]:
    """A markdown table from its columns."""
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(cells)} |" for cells in zip(*columns.values(), strict=True)]
    return lines


def percent(row: Row, name: str) -> str:
    """``75.0 % (66.2 to 82.2)``."""
    low, high = row[f"{name}_ci"]
    return f"{100 * row[name]:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def demo_columns(found: list[Row]) -> dict[str, list[str]]:
    """What every table of demo runs shows."""
    return {
        "gold win rate": [percent(row, "win_rate") for row in found],
        "best of 4": [f"{100 * row['best_of_n_win_rate']:.1f} %" for row in found],
        "control": [f"{100 * row['control_win_rate']:.1f} %" for row in found],
        "KL": [f"{row['kl']:.1f}" for row in found],
        "length ratio": [f"{row['length_ratio']:.2f}" for row in found],
        "distinct-2": [f"{r['distinct_2_start']:.2f} to {r['distinct_2']:.2f}" for r in found],
        "reward accuracy": [percent(row, "reward_accuracy") for row in found],
    }


def demo() -> list[str]:
    """Runs with the default settings."""
    found = rows("demo")
    names = {
        "gold": [row["gold"] for row in found],
        "seed": [str(row["seed"]) for row in found],
        "machine": [row["note"].partition(",")[0] for row in found],
    }
    more = {
        "ECE": [f"{row['reward_ece']:.3f}" for row in found],
        "memory": [f"{row['peak_memory_gb']:.1f} GB" for row in found],
    }
    return table(names | demo_columns(found) | more)


def demo_seconds() -> list[str]:
    """Where the time of a run goes that had the machine for itself."""
    found = [row for row in rows("demo") if row["note"].startswith("alone")]
    names = {
        "gold": [row["gold"] for row in found],
        "seed": [str(row["seed"]) for row in found],
        "machine": [row["note"].partition(",")[0] for row in found],
        "in all": [f"{row['seconds']:.0f} s" for row in found],
    }
    stages = {
        name: [f"{row['stages'][name]:.0f} s" for row in found] for name in found[0]["stages"]
    }
    return table(names | stages)


def demo_tuning() -> list[str]:
    """Runs with other settings."""
    found = rows("demo-tuning")
    names = {
        "gold": [row["gold"] for row in found],
        "settings": [row["settings"] for row in found],
    }
    return table(names | demo_columns(found))


def score_so_far() -> list[str]:
    """How far the score of an unfinished answer foretells the final one."""
    found = rows("score_so_far")
    lengths = [row["tokens"] for row in found[0]["rows"]]
    columns = {
        "tokens": [str(n) for n in lengths],
        "factor at the start": [f"{row['start']:.2f}" for row in found[0]["rows"]],
    }
    for run in found:
        columns[f"{run['gold']}: slope (correlation)"] = [
            f"{row['slope']:.2f} ({row['correlation']:.2f})" for row in run["rows"]
        ]
    return table(columns)


def reward_hh() -> list[str]:
    """Our reward model on hh-harmless, by learning rate, and TRL's in at least the same time."""
    ours, theirs = rows("reward_hh"), rows("reward_hh_trl")

    def side(row: Row) -> str:
        rates = [one for one in row.get("overrides", ()) if one.startswith("optimiser.learning")]
        return ", rate ".join(["heedful", *(one.partition("=")[2] for one in rates)])

    def minutes(row: Row) -> str:
        if "cpu_seconds" in row:
            return f"{row['cpu_seconds'] / 60:.1f} min of processor"
        return f"{row['fit_seconds'] / 60:.1f} min"

    if not ours:
        return []
    found = sorted(ours + theirs, key=lambda row: (row["seed"], "peer" in row))
    return table(
        {
            "side": [row.get("peer") or side(row) for row in found],
            "seed": [str(row["seed"]) for row in found],
            "training": [minutes(row) for row in found],
            "pairs seen": [str(row.get("pairs_seen", row.get("num_train"))) for row in found],
            "accuracy": [percent(row, "accuracy") for row in found],
            "ECE": [f"{row['ece']:.3f}" for row in found],
            "memory": [f"{row['peak_memory_gb']:.1f} GB" for row in found],
            "machine": [row["note"].partition(",")[0] for row in found],
        }
    )


def selection() -> list[str]:
    """Labels that selection strategies save, with simulated annotators."""
    found = rows("selection")

    def share(value: float | None) -> str:
        return "never" if value is None else f"{100 * value:.0f} %"

    def points(row: Row) -> str:
        low, high = row["lead_ci"]
        return f"{100 * row['lead']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"

    return table(
        {
            "world": [row["world"] for row in found],
            "strategy": [row["strategy"] for row in found],
            "labels for random's last accuracy": [
                f"{share(row['share'])} ({' to '.join(map(share, row['share_ci']))})"
                for row in found
            ],
            "accuracy with all labels": [percent(row, "accuracy") for row in found],
            "points above random": [points(row) for row in found],
            "mean regret": [f"{row['mean_regret']:.3f}" for row in found],
        }
    )


def label_noise() -> list[str]:
    """What wrong labels of simulated annotators cost, by loss."""
    found = [row for row in rows("label_noise") if row["what"] == "effect"]

    def points(row: Row) -> str:
        low, high = row["lost_ci"]
        return f"{100 * row['lost']:.1f} ({100 * low:.1f} to {100 * high:.1f})"

    def share(row: Row) -> str:
        low, high = row["share_ci"]
        return f"{100 * row['share']:.0f} % ({100 * low:.0f} to {100 * high:.0f})"

    return table(
        {
            "who is wrong": [row["world"] for row in found],
            "loss": [row["loss"] for row in found],
            "accuracy": [percent(row, "accuracy") for row in found],
            "points lost to unspoiled labels": [points(row) for row in found],
            "of what the plain one loses": [
                "" if row["loss"] == "plain" else share(row) for row in found
            ],
        }
    )


def label_noise_recovery() -> list[str]:
    """How near learned reliabilities come to those of simulated annotators."""
    found = [row for row in rows("label_noise") if row["what"] == "recovery"]

    def number(row: Row, name: str) -> str:
        low, high = row[f"{name}_ci"]
        return f"{row[name]:.3f} ({low:.3f} to {high:.3f})"

    return table(
        {
            "labels of each": [str(row["labels"]) for row in found],
            "mean absolute error": [number(row, "error") for row in found],
            "mean error": [number(row, "bias") for row in found],
            "annotators within 0.05": [percent(row, "near") for row in found],
            "inside their 95 % interval": [percent(row, "covered") for row in found],
        }
    )


def bench() -> list[str]:
    """``heedful bench --against trl``: medians, ratios and memory."""
    found = [row | {"run": run} for run in rows("bench") for row in run["rows"]]
    cells: dict[str, list[str]] = {}
    for row in found:
        ours, best = row["ours"], row["peers"][row["best_setting"]]
        low, high = min(row["speed_ratio_by_round"]), max(row["speed_ratio_by_round"])
        for name, text in {
            "workload": row["workload"],
            "a step": row["step"],
            "heedful": f"{ours['median_seconds']:.1f} s, {ours['peak_gb']:.1f} GB",
            "peer": f"{best['median_seconds']:.1f} s, {best['peak_gb']:.1f} GB",
            "peer's best setting": f"{best['version']}, {row['best_setting']}",
            "times as fast (by round)": f"{row['speed_ratio']:.2f} ({low:.2f} to {high:.2f})",
            "dtype": row["run"]["dtype"],
        }.items():
            cells.setdefault(name, []).append(text)
    return table(cells) if cells else []


def studio() -> list[str]:
    """The studio with fifty annotators at once."""
    found = rows("studio")

    def milliseconds(row: Row, name: str) -> str:
        return " / ".join(f"{row[name][p]:.0f}" for p in ("p50", "p95", "p99"))

    lost, wrong = "acknowledged but lost", "tasks whose answers are not its filled slots"
    return table(
        {
            "database": [row["database"] for row in found],
            "answers": [f"{row['answers']:,}" for row in found],
            "pause": [f"{row['pause']:g} s" for row in found],
            "a second": [f"{row['answers'] / row['seconds']:.0f}" for row in found],
            "kills": [str(row["kills"]) for row in found],
            "p50 / p95 / p99, ms": [milliseconds(row, "submit_ms") for row in found],
            "10 s after restarts left out": [milliseconds(row, "settled_ms") for row in found],
            "lost": [str(row[lost]) for row in found],
            "tasks with a wrong count": [str(row[wrong]) for row in found],
            "kept as surplus": [str(row["surplus"]) for row in found],
            "memory": [f"{row['events']['server MB']} MB" for row in found],
        }
    )


TABLES = (
    demo,
    demo_seconds,
    demo_tuning,
    score_so_far,
    reward_hh,
    selection,
    label_noise,
    label_noise_recovery,
    bench,
    studio,
)


def main() -> None:
    """Print all tables."""
    for make in TABLES:
        print(f"<!-- {make.__name__} -->", *make(), "", sep="\n")


if __name__ == "__main__":
    main()
