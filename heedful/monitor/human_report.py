"""The report of a demo whose annotators were people: no gold, so no claim that only a gold allows.

What the reward model says of the policy that was trained to please it is shown as what it is, a
proxy; whether people prefer the result is for people to say, blind.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from heedful.monitor import alarms, charts
from heedful.monitor import demo_figures as figures
from heedful.monitor.charts import percent
from heedful.monitor.demo_report import (
    NO_ALARM,
    DemoData,
    between,
    kl_stat,
    lineage_section,
    other_stats,
    writing,
)
from heedful.monitor.records import (
    Block,
    Chain,
    Comparison,
    Figure,
    KeyValues,
    Link,
    Note,
    Pair,
    Report,
    Section,
    Span,
    Stat,
)

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
        headline=(win_stat(data), reward_stat(data), kl_stat(data), *other_stats(data)),
        sections=(
            outcome(data),
            before_and_after(data),
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


def win_stat(data: DemoData) -> Stat:
    """The proxy's claim, marked as such."""
    result = data.evaluation
    low, high = result["win_rate_ci"]
    return Stat(
        label="reward model's win rate (proxy)",
        value=percent(result["win_rate"]),
        detail=f"against the start policy; {between((low, high))}; {result['num_prompts']} prompts",
        span=Span(low=low, value=result["win_rate"], high=high, marks=((0.5, "chance"),)),
    )


def reward_stat(data: DemoData) -> Stat:
    """Whether the reward model foretells answers that it has not seen."""
    reward = data.reward
    low, high = reward["accuracy_ci"]
    return Stat(
        label="reward model accuracy",
        value=percent(reward["accuracy"]),
        detail=f"{between((low, high))}; {reward['num_held_out']} held-out pairs; "
        f"ECE {reward['ece']:.3f}",
        span=Span(low=low, value=reward["accuracy"], high=high, marks=((0.5, "chance"),)),
    )


def outcome(data: DemoData) -> Section:
    """What was done, the alarms, and the proxy's win rates."""
    limit = float(data.settings.get("policy.kl.limit") or alarms.KL_LIMIT)
    found = alarms.findings(data.ppo_curve, data.evaluation, kl_limit=limit)
    fine = replace(
        NO_ALARM,
        cause="No alarm: KL, entropy, clipping, length, diversity and the control are within "
        "their bounds.",
    )
    arms = {name: arm for name, arm in data.evaluation["arms"].items() if name != "best_of_n"}
    return Section(
        title="What came of it",
        short="Outcome",
        text="As a control the start policy plays against itself: its interval must cover one "
        "half. Best of n is left out: the reward model chose its answers and would be its judge.",
        blocks=(
            steps(data),
            *(Note(finding=one) for one in found or [fine]),
            figures.win_rates(data.evaluation | {"arms": arms}, judge="Reward model's"),
        ),
    )


def steps(data: DemoData) -> Chain:
    """The stages of the demo with their sizes."""
    labels, reward, result = data.label_counts, data.reward, data.evaluation
    return Chain(
        title="What was done, in order",
        links=(
            Link(label="Sample", detail=f"answers of {data.model}"),
            Link(label="Compare", detail=f"{labels['strict']:,} preferences of {people(data)}"),
            Link(label="Reward", detail=f"Bradley-Terry on {reward['num_train']:,} pairs"),
            Link(label="Optimise", detail=f"PPO, {len(data.ppo_curve)} rollouts"),
            Link(label="Evaluate", detail=f"{result['num_prompts']} held-out prompts, by proxy"),
        ),
    )


def before_and_after(data: DemoData) -> Section:
    """Answers to read."""
    pairs = [
        Pair(
            prompt=row["prompt"],
            before=row["before"],
            after=row["after"],
            score_before=row["proxy_before"],
            score_after=row["proxy_after"],
        )
        for row in data.samples
    ]
    return Section(
        title="Before and after",
        short="Samples",
        text="Read them: the reward model may like what you do not. These are the first held-out "
        f"prompts {data.sample_rule}; none was picked.",
        blocks=(
            Comparison(
                title=f"{len(pairs)} prompts, before and after",
                pairs=pairs,
                score_name="reward model",
            ),
        ),
    )


def reward_section(data: DemoData) -> Section:
    """Accuracy, calibration, labels and the training curve."""
    reward = data.reward
    blocks: list[Block] = [accuracy(reward["accuracy"], reward["accuracy_ci"])]
    if reward["deltas"]:
        blocks.append(figures.calibration(reward, data.seed, width="tall"))
    counts = {LABELS[name]: count for name, count in data.label_counts.items()}
    blocks.append(KeyValues(title="Answers", items=counts, width="half"))
    if data.reward_curve:
        blocks.append(figures.reward_training(data.reward_curve))
    return Section(
        title="Reward model",
        short="Reward",
        text=f"A Bradley-Terry model on {reward['num_train']:,} preferences, measured on "
        f"{reward['num_held_out']:,} about other prompts. How far people agree with themselves "
        "bounds it; one answer a pair does not tell how far that is.",
        blocks=blocks,
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
