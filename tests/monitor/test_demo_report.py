from pathlib import Path

import numpy as np
import pytest
from synthetic_results import HOSTILE, PROMPTS, best_of_n, curve, demo_data, evaluation

from heedful.monitor.demo_figures import calibration_rows
from heedful.monitor.demo_report import demo_report, verdict
from heedful.monitor.records import Chain, Comparison, Note
from heedful.monitor.report import Report, read_report_data, render, write_report
from heedful.stats.calibration import ece


@pytest.fixture(scope="module")
def report() -> Report:
    samples = [
        {"prompt": HOSTILE, "before": HOSTILE, "after": "", "score_before": 0.1, "score_after": 0.1}
    ]
    return demo_report(demo_data(samples=samples, best_of_n=best_of_n()))


@pytest.fixture(scope="module")
def path(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(report, path)
    return path


@pytest.fixture(scope="module")
def page(path: Path) -> str:
    return path.read_text()


def test_the_report_says_that_annotators_are_simulated(page: str) -> None:
    assert "annotators of this run are simulated; no person was asked" in page
    assert "flip 10 %" in page


def test_every_figure_is_drawn_and_carries_its_data(report: Report, page: str, path: Path) -> None:
    figures = report.figures()
    assert page.count("<figure ") == page.count('role="img"') == len(figures)
    assert page.count("<svg ") == sum(len(figure.panels) for figure in figures)
    assert page.count('href="data:text/csv') == len(figures) + 1  # and the samples
    assert read_report_data(path) == {f.title: [dict(row) for row in f.rows] for f in figures}


def test_all_that_was_promised_is_there(report: Report) -> None:
    assert {figure.title for figure in report.figures()} == {
        "Gold win rate against the start policy",
        "What the gold saw",
        "Gold and proxy against the distance moved",
        "PPO",
        "Accuracy against its ceiling",
        "Calibration",
        "Training of the reward model",
        "Answer length in words",
        "Where the time went",
    }


def test_a_distance_of_one_prompt_claims_no_interval() -> None:
    found = demo_report(demo_data(evaluation=evaluation(num_prompts=1, kl_ci=None)))
    (distance,) = [stat for stat in found.headline if stat.label == "KL to the start"]
    assert distance.value == "7.20 nats"
    assert distance.detail.startswith("per answer, of one prompt")


def test_hostile_samples_are_shown_and_never_run(page: str) -> None:
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "(no text)" in page


def test_samples_are_shown_in_the_order_given() -> None:
    sections = demo_report(demo_data()).sections
    (comparison,) = [b for s in sections for b in s.blocks if isinstance(b, Comparison)]
    assert [pair.prompt for pair in comparison.pairs] == list(PROMPTS)


@pytest.mark.parametrize(
    ("interval", "words", "tone"),
    [
        ([0.51, 0.7], "became better", "good"),
        ([0.3, 0.49], "became worse", "bad"),
        ([0.45, 0.6], "No difference was shown", "warn"),
    ],
)
def test_the_verdict_follows_from_the_interval(
    interval: list[float], words: str, tone: str
) -> None:
    text, found = verdict(evaluation(win_rate_ci=interval))
    assert words in text
    assert found == tone


def test_alarms_stand_in_the_report_with_the_limit_of_the_run() -> None:
    data = demo_data(
        ppo_curve=curve(kl_nats=np.linspace(0, 9, 20)), settings={"policy.kl.limit": 8.0}
    )
    notes = [b.finding for b in demo_report(data).sections[0].blocks if isinstance(b, Note)]
    assert [note.rule for note in notes] == ["kl_above_limit"]


def test_best_of_n_and_the_start_stand_beside_ppo(report: Report) -> None:
    (figure,) = [f for f in report.figures() if "distance" in f.title]
    points = [(row["method"], row.get("n")) for row in figure.rows]
    assert points[:20] == [("PPO", None)] * 20
    assert points[20:] == [("best of n", n) for n in (1, 2, 4, 8)] + [("start", None)]
    best = figure.rows[21]
    assert best["sqrt_kl"] == pytest.approx((np.log(2) - 0.5) ** 0.5)


def test_the_bins_drawn_are_those_of_the_ece() -> None:
    data = demo_data()
    probabilities = 1 / (1 + np.exp(-np.array(data.reward["deltas"])))
    rows = calibration_rows(data.reward["deltas"])
    gap = sum(row["pairs"] * abs(row["accuracy"] - row["confidence"]) for row in rows)
    expected = ece(probabilities, np.ones(len(probabilities)))
    assert gap / len(probabilities) == pytest.approx(expected, abs=1e-12)


def test_a_kl_estimate_below_zero_is_drawn_at_zero() -> None:
    data = demo_data(ppo_curve=curve(kl_nats=np.full(20, -0.02)))
    (figure,) = [f for f in demo_report(data).figures() if "distance" in f.title]
    assert {row["sqrt_kl"] for row in figure.rows if row["method"] == "PPO"} == {0.0}


def test_lineage_is_a_chain_of_ids(report: Report) -> None:
    (chain,) = [b for b in report.sections[-1].blocks if isinstance(b, Chain)]
    assert [link.id[:4] for link in chain.links] == ["mdl_", "snp_", "mdl_", "snp_", "mdl_", "evd_"]


def test_a_run_of_one_rollout_with_few_quantities_still_renders() -> None:
    data = demo_data()
    few = demo_data(
        ppo_curve=[{"rollout": 0, "reward": 0.1, "gold": 0.4, "kl_nats": 0.0}],
        reward_curve=[],
        reward={**data.reward, "deltas": []},
        lengths={"start": [7], "policy": [7]},
    )
    titles = {figure.title for figure in demo_report(few).figures()}
    assert "Calibration" not in titles
    assert "PPO" in titles
    assert render(demo_report(few)).endswith("</html>\n")
