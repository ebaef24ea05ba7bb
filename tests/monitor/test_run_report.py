import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from synthetic_results import deltas

from heedful.monitor.profile import packing_density, phase_costs
from heedful.monitor.records import KeyValues, Note, Section, Table
from heedful.monitor.report import Report, read_report_data, render, write_report
from heedful.monitor.run_report import headline, points, run_report
from heedful.types import Finding

CONFIG = {"data": "test", "model": "test", "seed": 3, "adapter": {"rank": 4, "depth": None}}


def rows(**last: float) -> list[dict[str, Any]]:
    return [
        {
            "step": i,
            "train/loss": 1 / (i + 1),
            "rollout/kl_nats": 0.1 * i,
            "train/step_seconds": 0.5,
        }
        for i in range(15)
    ] + [{"step": 15, "train/loss": 0.05, "rollout/kl_nats": 1.5, "train/step_seconds": 2.5} | last]


def notes(report: Report) -> list[str]:
    blocks = [block for section in report.sections for block in section.blocks]
    return [block.finding.rule for block in blocks if isinstance(block, Note)]


def test_every_metric_is_drawn_with_its_data(tmp_path: Path) -> None:
    report = run_report("ppo", CONFIG, rows(), {"seconds": 2.0})
    write_report(report, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for title in ("train: loss", "rollout: KL in nats", "train: step seconds"):
        assert f">{title}</text>" in page
    assert read_report_data(tmp_path / "report.html")["Metrics"] == rows()


def test_the_config_is_shown_dotted() -> None:
    (config,) = [
        block
        for block in run_report("sft", CONFIG, rows(), {}).sections[-1].blocks
        if isinstance(block, KeyValues)
    ]
    assert config.items == {
        "data": "test", "model": "test", "seed": "3", "adapter.rank": "4", "adapter.depth": "None",
    }  # fmt: skip


def test_the_profile_sums_phases_over_steps() -> None:
    metrics = [
        {"step": 0, "profile/update_seconds": 2.0, "profile/update_tokens": 400,
         "profile/update_flops": 6e9, "profile/update_padded_tokens": 600,
         "profile/update_peak_gb": 1.5, "profile/data_seconds": 1.0, "profile/data_tokens": 0},
        {"step": 1, "profile/update_seconds": 1.0, "profile/update_tokens": 200,
         "profile/update_flops": 3e9, "profile/update_padded_tokens": 300,
         "profile/update_peak_gb": 2.5},
    ]  # fmt: skip
    update, data = phase_costs(metrics, peak_flops=12e9)
    assert (update.phase, update.seconds, update.tokens, update.share) == ("update", 3, 600, 0.75)
    assert (update.tokens_per_second, update.gflops_per_second) == (200, 3)
    assert (update.share_of_peak, update.peak_gb) == (0.25, 2.5)
    assert (data.phase, data.seconds, data.tokens_per_second, data.peak_gb) == (
        "data",
        1,
        None,
        None,
    )
    assert packing_density(metrics) == 1.5
    profile = {"phases": [asdict(update), asdict(data)], "packing": 1.5, "peak_gflops": 12.0}
    table, facts, _ = run_report("sft", CONFIG, metrics, {}, profile=profile).sections[-1].blocks
    assert isinstance(table, Table)
    assert table.rows[0] == ("update", 3.0, "75.0 %", 600, 200, 3.0, "25.0 %", 2.5)
    assert table.rows[1] == ("data", 1.0, "25.0 %", "", "", "", "", "")
    assert isinstance(facts, KeyValues)
    assert "1.50 times" in facts.items["packing"]


def test_a_profile_without_measurements_has_no_empty_columns() -> None:
    costs = phase_costs([{"step": 0, "profile/data_seconds": 1.0, "profile/data_tokens": 0}])
    profile = {"phases": [asdict(cost) for cost in costs], "packing": None, "peak_gflops": None}
    table, _ = run_report("sft", CONFIG, [], {}, profile=profile).sections[-1].blocks
    assert isinstance(table, Table)
    assert table.columns == ("phase", "seconds", "share of the time", "tokens")


def test_alarms_on_the_curve_follow_what_is_given() -> None:
    given = Finding(rule="given", level="info", value=0.0, cause="c", remedy="r")
    config = CONFIG | {"kl": {"limit": 1.0}}
    report = run_report("ppo", config, rows(), {}, findings=[given])
    assert notes(report) == ["given", "kl_above_limit"]


def test_sections_of_others_stand_before_the_settings() -> None:
    report = run_report("sft", CONFIG, rows(), {}, sections=[Section(title="Mine")])
    assert [section.title for section in report.sections[-2:]] == ["Mine", "Settings and profile"]


def test_results_become_a_headline_with_intervals_and_changes() -> None:
    metrics = {
        "accuracy": 0.7,
        "accuracy_ci": [0.6, 0.8],
        "drops": {},
        "rollout/reward_first": -1.0,
        "rollout/reward_last": 2.0,
        "num_train": 1200,
    }
    stats = run_report("reward", CONFIG, [], metrics).headline
    assert [(stat.label, stat.value) for stat in stats] == [
        ("accuracy", "70.0 %"),
        ("rollout: reward", "\N{MINUS SIGN}1.00 \N{RIGHTWARDS ARROW} 2.00"),
        ("learned from", "1,200"),
    ]  # fmt: skip
    assert stats[0].detail == "95 % interval 60.0 to 80.0 %"
    assert stats[0].span is not None
    assert (stats[0].span.low, stats[0].span.high) == (0.6, 0.8)


def test_the_headline_begins_with_what_was_measured_and_ends_with_the_cost() -> None:
    metrics = {"seconds": 3.0, "num_held_out": 190, "kl": 2.5, "kl_ci": [2.0, 3.0]}
    stats = headline(metrics)
    assert [stat.label for stat in stats] == [
        "KL from the start, in nats",
        "held out",
        "seconds",
    ]
    assert stats[0].detail == "95 % interval 2.00 to 3.00"


def test_intervals_have_two_ends_and_lists_are_lists() -> None:
    metrics = {"accuracy": 0.7, "accuracy_ci": [0.6, 0.8], "member_accuracy": [0.6, 0.7, 0.8]}
    page = render(run_report("reward", CONFIG, [], metrics))
    assert "0.600 to 0.800" in page
    assert "0.600, 0.700, 0.800" in page


def test_what_changes_with_the_rollout_is_drawn_once_a_rollout() -> None:
    curve = [
        {"step": i, "rollout/number": i // 4, "rollout/reward": i // 4, "train/loss": 0.1 * i}
        for i in range(12)
    ]
    assert [row["step"] for row in points("rollout/reward", curve)] == [0, 4, 8]
    assert points("train/loss", curve) == curve
    assert points("train/loss", rows()) == rows()


def test_the_loss_is_not_drawn_twice() -> None:
    def names(nats: float) -> set[str]:
        curve = [{"step": i, "train/loss": 0.5, "reward/loss_nats": nats} for i in range(3)]
        return set(
            re.findall(r">([a-z]+: loss[^<]*)</text>", render(run_report("x", {}, curve, {})))
        )

    assert names(0.5) == {"reward: loss in nats"}
    assert names(0.4) == {"train: loss", "reward: loss in nats"}


def test_score_differences_become_a_calibration_figure() -> None:
    report = run_report("reward", CONFIG, [], {"deltas": deltas(), "ece": 0.05})
    assert [figure.title for figure in report.figures()] == ["Calibration"]


def test_a_run_without_steps_or_results_still_renders() -> None:
    assert render(run_report("sft", {}, [], {})).endswith("</html>\n")


def test_a_network_of_features_is_no_fit_of_a_base_and_has_no_curves() -> None:
    config = {"model": "smollm2", "data": "d", "backbone": "features", "seed": 0}
    report = run_report("reward", config, [], {"accuracy": 0.7})
    assert report.subtitle == "network of features on d, seed 0"
    assert "Curves" not in [section.title for section in report.sections]


def test_of_many_raters_the_strictest_and_the_mildest_are_shown() -> None:
    people = [
        {"annotator": f"p{n}", "source": "human", "offset": (n - 25) / 10,
         "offset_ci": [(n - 26) / 10, (n - 24) / 10], "num_ratings": 5}
        for n in range(51)
    ]  # fmt: skip
    (told,) = [
        block
        for section in run_report(
            "reward", CONFIG, [], {"rater_offsets": {"kind": people}}
        ).sections
        for block in section.blocks
        if isinstance(block, Table) and block.title == "How high annotators rate"
    ]
    shown = [row[1] for row in told.rows]
    assert (shown[0], shown[-1], len(shown)) == ("p0", "p50", 40)
    assert "p25" not in shown
