"""The report of a demo whose annotators were people: no gold, so no claim that only a gold allows.

What the reward model says of the policy that was trained to please it is shown as what it is, a
proxy; whether people prefer the result is for people to say, blind.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from heedful.monitor import charts
from heedful.monitor import demo_figures as figures
from heedful.monitor.demo_report import (
    NO_ALARM,
    DemoData,
    about_reward,
    alarm_notes,
    before_and_after,
    kl_stat,
    lineage_section,
    other_stats,
    reward_stat,
    steps,
    win_stat,
    writing,
)
from heedful.monitor.records import Figure, KeyValues, Report, Section

LABELS = {
    "comparisons": "comparisons by people",
    "strict": "with a preference",
    "ties": "equal, or both bad",
    "people": "people",
}


def human_report(data: DemoData) -> Report:
    """The page as records."""
    return Report(
        title="Your preferences in, another policy out",
        subtitle=f"{data.model}, seed {data.seed}; {people(data)} compared "
        f"{data.label_counts['comparisons']:,} pairs.",
        notice=(
            "No gold preference was stated, so nothing here says whether people prefer the new "
            "policy. The win rate is the reward model's own, a proxy: it is what the policy was "
            "trained to raise. Compare old and new answers blind in the studio to find out."
        ),
        headline=(
            win_stat(data, "reward model's win rate (proxy)"),
            reward_stat(data),
            kl_stat(data),
            *other_stats(data),
        ),
        sections=(
            outcome(data),
            before_and_after(
                data,
                "reward model",
                "Read them: the reward model may like what you do not. These are the first "
                f"held-out prompts {data.sample_rule}; none was picked.",
            ),
            Section(
                title="Optimisation",
                short="PPO",
                text="The proxy is the learned reward, scaled to mean 0 and deviation 1 on the "
                "answers it was trained on: that and the KL penalty is what PPO sees.",
                blocks=(figures.ppo(data.ppo_curve, data.settings),),
            ),
            reward_section(data),
            writing(data),
            lineage_section(data),
        ),
    )


def people(data: DemoData) -> str:
    """How many people answered."""
    number = data.label_counts["people"]
    return "one person" if number == 1 else f"{number} people"


def outcome(data: DemoData) -> Section:
    """What was done, the alarms, and the proxy's win rates."""
    fine = replace(
        NO_ALARM,
        cause="No alarm: KL, entropy, clipping, length, diversity and the control are within "
        "their bounds.",
    )
    compared = f"{data.label_counts['strict']:,} preferences of {people(data)}"
    arms = {name: arm for name, arm in data.evaluation["arms"].items() if name != "best_of_n"}
    return Section(
        title="What came of it",
        short="Outcome",
        text="As a control the start policy plays against itself: its interval must cover one "
        "half. Best of n is left out: the reward model chose its answers and would be its judge.",
        blocks=(
            steps(data, compared=compared, judged="by proxy"),
            *alarm_notes(data, fine),
            figures.win_rates(data.evaluation | {"arms": arms}, judge="Reward model's"),
        ),
    )


def reward_section(data: DemoData) -> Section:
    """Accuracy, calibration, labels and the training curve."""
    reward = data.reward
    counts = {LABELS[name]: count for name, count in data.label_counts.items()}
    return about_reward(
        data,
        accuracy(reward["accuracy"], reward["accuracy_ci"]),
        KeyValues(title="Answers", items=counts, width="half"),
        " How far people agree with themselves bounds it; one answer a pair does not tell how far "
        "that is.",
    )


def accuracy(value: float, interval: Sequence[float]) -> Figure:
    """Accuracy on held-out answers beside chance."""
    row = {"name": "reward model", "value": value, "low": interval[0], "high": interval[1]}
    return Figure(
        title="Accuracy on held-out answers",
        caption="Share of held-out preferences that the reward model foretells, with its 95 % "
        "interval. The dashed line is chance.",
        panels=[partial(charts.intervals, [row], title="accuracy", marks={"chance": 0.5})],
        rows=[row],
        words=figures.shares_in_words([row]),
        width="half",
    )
