from synthetic_results import HOSTILE, demo_data

from heedful.monitor.demo_report import DemoData
from heedful.monitor.human_report import human_report
from heedful.monitor.report import render


def by_people(num_people: int = 2) -> DemoData:
    samples = [
        {
            "prompt": HOSTILE,
            "before": HOSTILE,
            "after": "b",
            "score_before": 0.1,
            "score_after": 0.2,
        }
    ]
    counts = {"comparisons": 120, "strict": 100, "ties": 20, "people": num_people}
    return demo_data(
        gold="", gold_statement="", noise=0.0, gold_parts={}, samples=samples, label_counts=counts
    )


def test_without_a_gold_the_win_rate_is_named_a_proxy_and_nothing_is_claimed() -> None:
    report = human_report(by_people())
    assert report.headline[0].label == "reward model's win rate (proxy)"
    assert report.verdict == ""
    assert "a proxy" in report.notice
    html = render(report)
    assert "simulated" not in html
    assert "Gold win rate" not in html
    assert "gold preference above" not in html
    assert HOSTILE not in html


def test_the_judge_does_not_judge_what_it_chose_itself() -> None:
    (figure,) = [
        one for one in human_report(by_people()).figures() if "win rate against" in one.title
    ]
    names = {row["name"] for row in figure.rows}
    assert len(names) == 2
    assert not any("best" in name for name in names)


def test_one_person_is_called_one_person() -> None:
    assert "one person compared 120 pairs" in human_report(by_people(1)).subtitle
    assert "2 people compared 120 pairs" in human_report(by_people()).subtitle
