"""Print the tables of docs/results.md from the rows in benchmarks/results/.

    python benchmarks/tables.py

A test compares the document with them, so a table cannot drift from its measurements.
"""

import json
import statistics
from collections import defaultdict
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
    """Our reward model on hh-harmless, by learning rate, and TRL's: for as long, or one epoch."""
    ours, theirs = rows("reward_hh"), rows("reward_hh_trl")

    def side(row: Row) -> str:
        if row.get("epochs"):
            return (
                f"{row['peer']}, one epoch in {row['dtype']}, rate {spoken(row['learning_rate'])}"
            )
        if "peer" in row:
            return str(row["peer"])
        return ", ".join(["heedful", *settings_of(row)])

    def minutes(row: Row) -> str:
        if "cpu_seconds" in row:
            return f"{row['cpu_seconds'] / 60:.1f} min of processor"
        return f"{row['fit_seconds'] / 60:.1f} min"

    if not ours:
        return []
    found = sorted(
        ours + theirs, key=lambda row: (row["seed"], "peer" in row, bool(row.get("epochs")))
    )
    return table(
        {
            "side": [side(row) for row in found],
            "seed": [str(row["seed"]) for row in found],
            "training": [minutes(row) for row in found],
            "pairs seen": [str(row.get("pairs_seen", row.get("num_train"))) for row in found],
            "accuracy": [percent(row, "accuracy") for row in found],
            "ECE, and calibrated": [", ".join(eces(row)) for row in found],
            "memory": [f"{row['peak_memory_gb']:.1f} GB" for row in found],
            "machine": [row["note"].partition(",")[0] for row in found],
        }
    )


def eces(row: Row) -> list[str]:
    """The error of a fit's probabilities, and after scaling where that was measured."""
    return [f"{row[name]:.3f}" for name in ("ece", "ece_scaled") if name in row]


def settings_of(row: Row) -> list[str]:
    """What a fit of a reward was told beside its defaults, in words, and always its rate."""
    words = {
        "dtype=": "",
        "adapter.depth=30": "depth 30",
        "adapter.rank=": "rank ",
        "batch.max_tokens=": "tokens ",
        "batch.tokens_per_micro_step=": "micro-steps of ",
        "warm_start=false": "no probe",
        "pooling=": "token ",
        "ensemble.members=": "members ",
    }
    found = [
        word + one.removeprefix(key)
        for one in row.get("overrides", ())
        for key, word in words.items()
        if one.startswith(key)
    ]
    return [*found, f"rate {spoken(rate_of(row))}"]


def rate_of(row: Row) -> float:
    """The rate of the adapter or of whole matrices; 1e-4 was an adapter's when rows had none."""
    told = dict(one.split("=", 1) for one in row.get("overrides", ()))
    if told.get("adapter.rank") == "full":
        return float(told.get("optimiser.full_learning_rate", 1e-5))
    return float(told.get("optimiser.learning_rate", row.get("learning_rate", 1e-4)))


def spoken(rate: float) -> str:
    """``3e-4``."""
    return f"{rate:e}".replace("e-0", "e-").replace(".000000", "").replace("00000e", "e")


def learned_from(row: Row) -> int:
    """How many pairs a fit of either side saw."""
    return int(row.get("num_train", row.get("pairs_seen", 0)))


def reward_hh_choice() -> list[str]:
    """Settings and TRL side by side on training pairs of hh-harmless that were held out."""
    ours, theirs = rows("reward_hh_choice"), rows("reward_hh_choice_trl")
    if not ours:
        return []
    found = sorted(ours + theirs, key=lambda row: (row["seed"], learned_from(row)))
    return table(
        {
            "settings": [
                f"{row['peer']}, {row['dtype']}, rate {spoken(row['learning_rate'])}"
                if "peer" in row
                else ", ".join(settings_of(row))
                for row in found
            ],
            "seed": [str(row["seed"]) for row in found],
            "learned from": [str(learned_from(row)) for row in found],
            "held out": [str(row["num_held_out"]) for row in found],
            "accuracy": [percent(row, "accuracy") for row in found],
            "NLL, nats": [f"{row['nll']:.3f}" for row in found],
            "ECE, and calibrated": [
                f"{row['ece']:.3f}, "
                + (f"{row['ece_scaled']:.3f}" if "ece_scaled" in row else "no temperature")
                for row in found
            ],
            "processor": [f"{row['cpu_seconds'] / 60:.0f} min" for row in found],
            "memory": [f"{row['peak_memory_gb']:.1f} GB" for row in found],
        }
    )


def selection() -> list[str]:
    """Labels that selection strategies save, with simulated annotators."""
    return selection_table(rows("selection"))


def selection_table(found: list[Row]) -> list[str]:
    """Labels, accuracies, and where the true reward is known, regret."""

    def share(value: float | None) -> str:
        return "never" if value is None else f"{100 * value:.0f} %"

    def points(row: Row) -> str:
        low, high = row["lead_ci"]
        return f"{100 * row['lead']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"

    columns = {
        "world": [row["world"] for row in found],
        "strategy": [row["strategy"] for row in found],
        "labels for random's last accuracy": [
            f"{share(row['share'])} ({' to '.join(map(share, row['share_ci']))})" for row in found
        ],
        "accuracy with all labels": [percent(row, "accuracy") for row in found],
        "points above random": [points(row) for row in found],
    }
    if "mean_regret" in found[0]:
        columns["mean regret"] = [f"{row['mean_regret']:.3f}" for row in found]
    return table(columns)


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
            "database": [
                row["database"]
                + (f", {row['servers']} servers" if row.get("servers", 1) > 1 else "")
                for row in found
            ],
            "answers": [f"{row['answers']:,}" for row in found],
            "pause": [f"{row['pause']:g} s" for row in found],
            "a second": [f"{row['answers'] / row['seconds']:.0f}" for row in found],
            "kills": [str(row["kills"]) for row in found],
            "p50 / p95 / p99, ms": [milliseconds(row, "submit_ms") for row in found],
            "10 s after restarts left out": [milliseconds(row, "settled_ms") for row in found],
            "the disk alone": [
                milliseconds(row, "disk_ms") if "disk_ms" in row else "" for row in found
            ],
            "lost": [str(row[lost]) for row in found],
            "tasks with a wrong count": [str(row[wrong]) for row in found],
            "kept as surplus": [str(row["surplus"]) for row in found],
            "memory": [f"{row['events']['server MB']} MB" for row in found],
        }
    )


def studio_pages() -> list[str]:
    """Pages of results over a million answers."""
    (found,) = rows("studio_pages")
    kinds = found["page_ms"]
    return table(
        {
            "page": [*kinds, "any, while figures are computed"],
            "median, ms": [
                f"{one['median']:.0f}"
                for one in (*kinds.values(), found["page_ms_while_computing"])
            ],
            "p99, ms": [
                f"{one['p99']:.0f}" for one in (*kinds.values(), found["page_ms_while_computing"])
            ],
            "views": [
                f"{one['num']:,}" for one in (*kinds.values(), found["page_ms_while_computing"])
            ],
        }
    )


def browse() -> list[str]:
    """Pages of the data browser, each with one filter or a few."""
    pages = [(name, one) for row in rows("browse") for name, one in row["pages"].items()]
    return table(
        {
            "page or filter": [f"`{name}`" if "=" in name else name for name, _ in pages],
            "median, ms": [f"{one['median_ms']:.0f}" for _, one in pages],
            "slowest, ms": [f"{one['slowest_ms']:.0f}" for _, one in pages],
        }
    )


def queue() -> list[str]:
    """The queue of a project with a million slots, inside the store."""
    (found,) = rows("queue")
    names = ("lease", "submit", "skip", "extend", "progress", "recent")
    deeds = [f"{who} {name}" for who in ("many", "one") for name in names]

    def cells(percentile: str) -> list[str]:
        return [f"{found['milliseconds'][deed][percentile]:.1f}" for deed in deeds]

    return table(
        {
            "who": [{"many": "50 in turn", "one": "one alone"}[deed.split()[0]] for deed in deeds],
            "what": [deed.split()[1] for deed in deeds],
            "p50, ms": cells("p50"),
            "p95, ms": cells("p95"),
            "p99, ms": cells("p99"),
        }
    )


def selection_people() -> list[str]:
    """Labels that selection strategies save, with people's labels."""
    return selection_table(rows("selection_people"))


def critic_forms() -> list[str]:
    """Reward and distance late in short runs, and their seconds, by form of the critic."""
    found = rows("critic_forms")
    forms = list(dict.fromkeys(row["critic"] for row in found))

    def late(form: str, name: str) -> str:
        own = [row["curve"][-3:] for row in found if row["critic"] == form]
        return ", ".join(f"{statistics.mean(p[name] for p in points):.2f}" for points in own)

    def seconds(form: str) -> str:
        own = [row["curve"][-1]["seconds"] for row in found if row["critic"] == form]
        return ", ".join(f"{one:.0f}" for one in own)

    return table(
        {
            "critic": forms,
            "reward of the last three rollouts, by seed": [late(form, "reward") for form in forms],
            "KL, nats": [late(form, "kl_nats") for form in forms],
            "explained variance": [late(form, "explained_variance") for form in forms],
            "seconds in all": [seconds(form) for form in forms],
        }
    )


def growth() -> list[str]:
    """A GRPO step by completion length and group size."""
    found = rows("growth")
    return table(
        {
            "new tokens": [str(row["length"]) for row in found],
            "group": [str(row["group"]) for row in found],
            "seconds a step": [f"{row['seconds']:.1f}" for row in found],
            "memory": [f"{row['peak_gb']:.2f} GB" for row in found],
        }
    )


EQUAL_KL = (0.3, 1.0)  # nats, where the curves of both sides have rollouts


def ppo_learning() -> list[str]:
    """Reward and KL along as many rollouts, ours and TRL's, and the reward at equal KL."""
    low, high = EQUAL_KL
    cells: dict[str, list[str]] = defaultdict(list)
    for row in rows("ppo_learning"):
        curve = row["curve"]
        between = [one["reward"] for one in curve if low <= one["kl_nats"] <= high]
        cells["side"].append(row["side"])
        cells["seed"].append(str(row["seed"]))
        cells["rollouts"].append(str(len(curve)))
        cells["first reward"].append(f"{curve[0]['reward']:.2f}")
        cells["last reward"].append(f"{curve[-1]['reward']:.2f}")
        cells["last KL, nats"].append(f"{curve[-1]['kl_nats']:.2f}")
        at = f"{statistics.fmean(between):.2f}" if between else "none"
        cells[f"reward at {low:g} to {high:g} nats (rollouts)"].append(f"{at} ({len(between)})")
    return table(cells)


def pandalm() -> list[str]:
    """A reward model beside the people it learned from."""
    found = rows("pandalm")
    return table(
        {
            "seed": [str(row["seed"]) for row in found],
            "settings": [", ".join(settings_of(row)) for row in found],
            "pairs": [str(row["with_majority"]) for row in found],
            "model, of the majority": [percent(row, "accuracy") for row in found],
            "model, of the other two": [percent(row, "model_of_others") for row in found],
            "a person, of the other two": [percent(row, "person_of_others") for row in found],
        }
    )


def shortcuts() -> list[str]:
    """Remedies against length: means over seeds and how far seeds lie apart, or one with its CI."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows("shortcuts"):
        pairs = row["task"] + (", training pairs held out" if row.get("choose") else "")
        if row["task"] != "simulated":
            pairs += f", {', '.join(settings_of({'overrides': row['settings']}))}"
        found.setdefault((pairs, row["remedy"]), []).append(row)

    def mean(group: list[Row], name: str, *, is_share: bool = True) -> str:
        scale, digits, unit, sign = (100, 1, " %", "") if is_share else (1, 2, "", "+")
        measured = [row for row in group if row.get(name) is not None]
        values = [scale * row[name] for row in measured]
        if not values:
            return ""
        centre = sum(values) / len(values)
        shown = f"{centre:{sign}.{digits}f}{unit}"
        if len(values) == 1:
            low, high = (scale * one for one in measured[0][f"{name}_ci"])
            return f"{shown} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"
        return f"{shown} ± {statistics.stdev(values):.{digits}f}"

    return table(
        {
            "pairs": [pairs for pairs, _ in found],
            "remedy": [remedy for _, remedy in found],
            "seeds": [str(len(group)) for group in found.values()],
            "accuracy": [mean(group, "accuracy") for group in found.values()],
            "of pairs of one length": [mean(group, "matched") for group in found.values()],
            "of people who do not mind length": [
                mean(group, "unbiased") for group in found.values()
            ],
            "correlation with length": [
                mean(group, "correlation", is_share=False) for group in found.values()
            ],
        }
    )


def ensemble() -> list[str]:
    """What an ensemble costs, as a multiple of one model."""
    found = rows("ensemble")
    arms = list(dict.fromkeys(row["arm"] for row in found))

    def median(arm: str, name: str) -> float:
        return float(statistics.median(row[name] for row in found if row["arm"] == arm))

    def times(name: str) -> list[str]:
        return [f"{median(arm, name) / median('one', name):.2f}" for arm in arms]

    return table(
        {
            "arm": arms,
            "runs": [str(sum(row["arm"] == arm for row in found)) for arm in arms],
            "seconds of the fit": [f"{median(arm, 'fit_seconds'):.0f}" for arm in arms],
            "times those of one": times("fit_seconds"),
            "memory": [f"{median(arm, 'peak_memory_gb'):.2f} GB" for arm in arms],
            "times that of one": times("peak_memory_gb"),
        }
    )


TABLES = (
    demo,
    demo_seconds,
    demo_tuning,
    score_so_far,
    reward_hh,
    reward_hh_choice,
    selection,
    label_noise,
    label_noise_recovery,
    bench,
    studio,
    studio_pages,
    browse,
    queue,
    critic_forms,
    ppo_learning,
    growth,
    ensemble,
    shortcuts,
    pandalm,
    selection_people,
)


def main() -> None:
    """Print all tables."""
    for make in TABLES:
        print(f"<!-- {make.__name__} -->", *make(), "", sep="\n")


if __name__ == "__main__":
    main()
