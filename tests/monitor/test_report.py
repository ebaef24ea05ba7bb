import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from heedful.monitor.alarms import findings
from heedful.monitor.demo_report import DemoData, demo_report
from heedful.monitor.report import Figure, read_report_data, render, write_report
from heedful.monitor.run_report import run_report

HOSTILE = "<script>alert('x')</script>&\"</details>"


def arm(win: float, **more: Any) -> dict[str, Any]:
    return {
        "win_rate": win, "win_rate_ci": [win - 0.08, win + 0.08], "wins": 60, "ties": 10,
        "losses": 50, "tokens": 39.0, "finished_rate": 0.2, "distinct_1": 0.5, "distinct_2": 0.9,
        "unique_rate": 1.0, "proxy": 0.1, "gold": 0.5, "kl": 2.0, "kl_ci": [1.8, 2.2], **more,
    }  # fmt: skip


def synthetic_curve(count: int = 8, **last: float) -> list[dict[str, Any]]:
    rows = [
        {"rollout": i, "reward": 0.1 * i, "gold": 0.5 + 0.01 * i, "kl_nats": 0.4 * i,
         "kl_coef": 0.05, "response_tokens": 39.0, "entropy_nats": 1.7, "clip_share": 0.01,
         "explained_variance": 0.2, "policy_loss": 0.0, "value_loss": 0.1, "seconds": 17.0}
        for i in range(count)
    ]  # fmt: skip
    rows[-1] |= last
    return rows


def evaluation(**changes: Any) -> dict[str, Any]:
    arms = {"policy": arm(0.7), "best_of_n": arm(0.6), "control": arm(0.5), "start": arm(0.5)}
    return {"num_prompts": 120, "win_rate": 0.7, "win_rate_ci": [0.62, 0.78], "kl": 2.0,
            "kl_ci": [1.8, 2.2], "length_ratio": 1.0, "arms": arms} | changes  # fmt: skip


@pytest.fixture(scope="module")
def data() -> DemoData:
    return DemoData(
        gold="kind", gold_statement="Warm.", noise=0.1, model="synthetic", seed=0,
        settings={"reward.epochs": 1}, environment={"python": "3"}, label_counts={"strict": 9},
        reward={"accuracy": 0.7, "accuracy_ci": [0.6, 0.8], "ece": 0.05, "temperature": 1.1,
                "num_held_out": 40, "num_train": 80, "ceiling": 0.9,
                "deltas": [0.1 * i - 1.0 for i in range(40)]},
        reward_curve=[{"step": i, "reward/loss_nats": 0.7, "reward/accuracy_rate": 0.5}
                      for i in range(4)],
        ppo_curve=synthetic_curve(), evaluation=evaluation(),
        gold_parts={"start": {"tone": 0.5}, "policy": {"tone": 0.7}},
        samples=[{"prompt": HOSTILE, "before": HOSTILE, "after": "b", "gold_before": 0.1,
                  "gold_after": 0.2}],
        lengths={"start": [30, 31], "policy": [20, 22]}, lineage=[("policy", "mdl_1")],
        timings={"ppo": 1.0}, seconds=1.0, peak_memory_gb=1.0, next_commands=["heedful --help"],
    )  # fmt: skip


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(data: DemoData) -> str:
    return render(demo_report(data))


def test_page_is_well_formed(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    assert tags.open == []


def test_page_loads_nothing_from_elsewhere(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    for tag, attributes in tags.seen:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name) or ""
            assert not value.startswith(("http:", "https:", "//")), (tag, value)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_hostile_text_is_shown_and_never_run(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    scripts = [attributes for tag, attributes in tags.seen if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "report-data"}]
    assert "&lt;script&gt;alert" in page


def test_every_figure_has_a_text_alternative_and_its_data(page: str, data: DemoData) -> None:
    figures = [b for s in demo_report(data).sections for b in s.blocks if isinstance(b, Figure)]
    assert len(figures) >= 6
    assert page.count('role="img" aria-label="') >= len(figures)
    assert page.count('href="data:text/csv;charset=utf-8;base64,') >= len(figures)


def test_written_data_reads_back_equal(data: DemoData, tmp_path: Path) -> None:
    report = demo_report(data)
    write_report(report, tmp_path / "report.html")
    read = read_report_data(tmp_path / "report.html")
    for section in report.sections:
        for block in section.blocks:
            if isinstance(block, Figure):
                assert read[block.title] == [dict(row) for row in block.rows]
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_report_states_that_annotators_are_simulated(page: str) -> None:
    assert "annotators of this run are simulated" in page


def test_chart_colours_follow_the_page(page: str) -> None:
    assert 'fill="var(--accent)"' in page or "var(--accent)" in page.split("</style>")[1]
    assert "#0d6e6f" not in page


def test_run_report_draws_every_metric() -> None:
    rows = [{"step": i, "train/loss": 1.0 / (i + 1), "train/grad_norm": 0.5} for i in range(5)]
    page = render(run_report("sft", {"data": "test", "adapter": {"rank": 4}}, rows, {"seconds": 2}))
    assert page.count("<svg") >= 1
    assert "loss" in page
    assert "gradient norm" in page or "grad" in page
    assert "adapter.rank" in page


def rules(curve: list[dict[str, Any]], result: dict[str, Any]) -> set[str]:
    return {finding.rule for finding in findings(curve, result)}


def test_a_clean_run_raises_no_alarm() -> None:
    assert rules(synthetic_curve(), evaluation()) == set()


@pytest.mark.parametrize(
    ("planted", "rule"),
    [
        ({"entropy_nats": 0.5}, "entropy_collapse"),
        ({"clip_share": 0.5}, "heavy_clipping"),
    ],
)
def test_a_planted_fault_in_the_curve_is_found(planted: dict[str, float], rule: str) -> None:
    assert rules(synthetic_curve(**planted), evaluation()) == {rule}


def test_length_drift_collapse_and_a_biased_control_are_found() -> None:
    arms = evaluation()["arms"]
    arms["policy"] |= {"distinct_2": 0.3, "tokens": 12.0}
    arms["control"]["win_rate_ci"] = [0.55, 0.7]
    found = rules(synthetic_curve(), evaluation(length_ratio=0.3, arms=arms))
    assert found == {"length_drift", "collapsed_diversity", "control_off_half"}


def test_a_proxy_that_rises_while_the_gold_falls_is_found() -> None:
    curve = [
        row | {"reward": 0.2 * i, "gold": 0.7 - 0.03 * abs(i - 6) - 0.001 * (i % 2)}
        for i, row in enumerate(synthetic_curve(18))
    ]
    assert "over_optimisation" in rules(curve, evaluation())
