"""The demo's report: what was asked, what came of it, and whether to believe it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heedful.monitor import alarms
from heedful.monitor import demo_figures as figures
from heedful.monitor.charts import between, percent
from heedful.monitor.records import (
    Block,
    Chain,
    Code,
    Comparison,
    KeyValues,
    Link,
    Note,
    Pair,
    Report,
    Section,
    Span,
    Stat,
    Table,
    Tone,
)
from heedful.types import Finding

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoData:
    """Everything the report shows. Made by the demo, used by ``demo_report`` and ``human_report``.

    Without a gold (people answered) everything of a gold is empty or left out.

    ``reward``            accuracy, accuracy_ci, ceiling, ece, temperature, num_train,
                          num_held_out, deltas (chosen minus rejected score per held-out pair)
    ``reward_curve``      per step: step, reward/loss_nats, reward/accuracy_rate
    ``ppo_curve``         per rollout: rollout, reward, gold, kl_nats, kl_coef, response_tokens,
                          entropy_nats, clip_share, explained_variance, clipped_loss, value_loss
    ``evaluation``        num_prompts, win_rate, win_rate_ci, kl, kl_ci, length_ratio, and per arm
                          (start, policy, best_of_n, control) under ``arms`` what
                          ``jobs.evaluate`` measures, with its mean ``gold``
    ``gold_parts``        per arm (start, policy) the mean of every part of the gold
    ``samples``           prompt, before, after, score_before, score_after (gold, or proxy)
    ``lengths``           words of every answer, per arm (start, policy)
    ``settings``          resolved settings, dotted, the stage first
    ``best_of_n``         n, kl (the bound log n - (n - 1)/n), proxy, gold for n = 1, 2, 4, ...;
                          empty: the evaluation's best-of-n arm alone
    """

    model: str
    seed: int
    settings: Json
    environment: Mapping[str, str]
    label_counts: Mapping[str, int]
    reward: Json
    reward_curve: Sequence[Json]
    ppo_curve: Sequence[Json]
    evaluation: Json
    samples: Sequence[Json]
    lengths: Mapping[str, Sequence[int]]
    lineage: Sequence[tuple[str, str]]
    timings: Mapping[str, float]
    seconds: float
    peak_memory_gb: float
    next_commands: Sequence[str]
    gold: str = ""
    gold_statement: str = ""
    noise: float = 0.0
    gold_parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    best_of_n: Sequence[Json] = ()
    sample_rule: str = "in the order in which the evaluation took them"


def demo_report(data: DemoData) -> Report:
    """The page as records."""
    text, tone = verdict(data.evaluation)
    return Report(
        title=f"Preferences in, a better policy out: {data.gold}",
        subtitle=f"{data.model}, seed {data.seed}. Gold preference: {data.gold_statement}",
        verdict=text,
        tone=tone,
        notice=(
            "The annotators of this run are simulated; no person was asked. They follow the gold "
            f"preference above and flip {100 * data.noise:.0f} % of their answers at random; every "
            "record names them as simulated."
        ),
        headline=headline(data),
        sections=(
            outcome(data),
            before_and_after(
                data,
                "gold",
                "Read them: numbers can be right for the wrong reason. These are the first "
                f"held-out prompts {data.sample_rule}; none was picked. Answers end at the length "
                "limit of the run.",
            ),
            optimisation(data),
            reward_section(data),
            writing(data),
            lineage_section(data),
        ),
    )


def verdict(evaluation: Json) -> tuple[str, Tone]:
    """The answer in one sentence: better, worse or not shown."""
    low, high = evaluation["win_rate_ci"]
    blind = f"{evaluation['num_prompts']} blind comparisons on held-out prompts"
    won = f"{percent(evaluation['win_rate'])} of {blind} ({between(low, high)})"
    if low > 0.5:
        return (
            f"The policy became better: it wins {won} against its start.",
            "good",
        )
    if high < 0.5:
        return f"The policy became worse: it wins only {won} against its start.", "bad"
    return f"No difference was shown: the policy wins {won}, and the interval covers half.", "warn"


def headline(data: DemoData) -> tuple[Stat, ...]:
    """The numbers that answer whether it worked, at what price."""
    return (
        win_stat(data, "gold win rate", verdict(data.evaluation)[1]),
        reward_stat(data, data.reward["ceiling"]),
        kl_stat(data),
        *other_stats(data),
    )


def win_stat(data: DemoData, label: str, tone: Tone = "plain") -> Stat:
    """The claim itself."""
    result = data.evaluation
    low, high = result["win_rate_ci"]
    return Stat(
        label=label,
        value=percent(result["win_rate"]),
        detail=f"against the start policy; {between(low, high)}; {result['num_prompts']} prompts",
        tone=tone,
        span=Span(low=low, value=result["win_rate"], high=high, marks=((0.5, "chance"),)),
    )


def reward_stat(data: DemoData, ceiling: float | None = None) -> Stat:
    """Whether the reward model foretells answers that it has not seen, and what bounds it."""
    reward = data.reward
    low, high = reward["accuracy_ci"]
    bounds = () if ceiling is None else ((ceiling, "ceiling"),)
    return Stat(
        label="reward model accuracy",
        value=percent(reward["accuracy"]),
        detail=f"{between(low, high)}; {reward['num_held_out']} held-out pairs; "
        f"ECE {reward['ece']:.3f}"
        + "".join(f"; label noise sets the ceiling at {percent(at)}" for at, _ in bounds),
        span=Span(low=low, value=reward["accuracy"], high=high, marks=((0.5, "chance"), *bounds)),
    )


def kl_stat(data: DemoData) -> Stat:
    """How far the policy went."""
    result = data.evaluation
    value, interval = result["kl"], result["kl_ci"]
    low, high = interval or (value, value)
    target = data.settings.get("policy.kl.target")
    marks = ((float(target), "target"),) if target else ()
    end = 1.15 * max(high, *(at for at, _ in marks), 1.0)
    return Stat(
        label="KL to the start",
        value=f"{value:.2f} nats",
        detail="per answer"
        + (f"; 95 % interval {low:.2f} to {high:.2f}" if interval else ", of one prompt")
        + (f"; the brake pulls towards {target:g}" if target else ""),
        span=Span(low=low, value=value, high=high, end=end, marks=marks),
    )


def other_stats(data: DemoData) -> tuple[Stat, ...]:
    """Length, diversity and cost."""
    start, policy = data.evaluation["arms"]["start"], data.evaluation["arms"]["policy"]
    return (
        Stat(
            label="length",
            value=f"{data.evaluation['length_ratio']:.2f}\N{MULTIPLICATION SIGN}",
            detail=f"mean answer {start['tokens']:.0f} tokens before, {policy['tokens']:.0f} after",
        ),
        Stat(
            label="diversity, distinct-2",
            value=f"{policy['distinct_2']:.2f}",
            detail=f"{start['distinct_2']:.2f} before; share of word pairs that differ",
        ),
        Stat(
            label="cost",
            value=f"{data.seconds / 60:.1f} min" if data.seconds >= 60 else f"{data.seconds:.0f} s",
            detail=f"all stages; {data.peak_memory_gb:.1f} GB of memory at the peak",
        ),
    )


def outcome(data: DemoData) -> Section:
    """What was done, the alarms, win rates of every arm, and what the gold liked."""
    labels = data.label_counts
    strict = labels.get("strict", sum(labels.values()))
    return Section(
        title="Did it work?",
        short="Outcome",
        text=f"The gold judges two answers to each of {data.evaluation['num_prompts']} held-out "
        "prompts blind, in random order. As a control the start policy plays against itself: its "
        "interval must cover one half.",
        blocks=(
            steps(data, compared=f"{strict:,} simulated preferences", judged="blind"),
            *alarm_notes(data, NO_ALARM),
            figures.win_rates(data.evaluation),
            figures.parts(data.gold_parts),
        ),
    )


NO_ALARM = Finding(
    rule="none",
    level="info",
    value=0.0,
    cause="No alarm: KL, entropy, clipping, length, diversity, gold against proxy and the control "
    "are within their bounds.",
    remedy="",
)


def alarm_notes(data: DemoData, fine: Finding) -> list[Note]:
    """The alarms of the run, or that there is none."""
    limit = float(data.settings.get("policy.kl.limit") or alarms.KL_LIMIT)
    found = alarms.findings(data.ppo_curve, data.evaluation, kl_limit=limit)
    return [Note(finding=one) for one in found or [fine]]


def steps(data: DemoData, *, compared: str, judged: str) -> Chain:
    """The stages of the demo with their sizes: what was compared, and how it was judged."""
    reward, result = data.reward, data.evaluation
    return Chain(
        title="What was done, in order",
        links=(
            Link(label="Sample", detail=f"answers of {data.model}"),
            Link(label="Compare", detail=compared),
            Link(label="Reward", detail=f"Bradley-Terry on {reward['num_train']:,} pairs"),
            Link(label="Optimise", detail=f"PPO, {len(data.ppo_curve)} rollouts"),
            Link(label="Evaluate", detail=f"{result['num_prompts']} held-out prompts, {judged}"),
        ),
    )


def before_and_after(data: DemoData, score_name: str, text: str) -> Section:
    """Answers to read, with the scores of ``score_name``."""
    pairs = [Pair(**row) for row in data.samples]
    return Section(
        title="Before and after",
        short="Samples",
        text=text,
        blocks=(
            Comparison(
                title=f"{len(pairs)} prompts, before and after", pairs=pairs, score_name=score_name
            ),
        ),
    )


def optimisation(data: DemoData) -> Section:
    """PPO's curves, and gold against proxy."""
    return Section(
        title="Optimisation",
        short="PPO",
        text="The proxy is the learned reward, scaled to mean 0 and deviation 1 on the answers it "
        "was trained on: that and the KL penalty is what PPO sees. The gold is what the simulated "
        "people prefer: PPO never sees it.",
        blocks=(
            figures.distance(data.ppo_curve, data.evaluation["arms"], data.best_of_n),
            figures.ppo(data.ppo_curve, data.settings),
        ),
    )


LABELS = {
    "comparisons": "comparisons by simulated annotators",
    "strict": "with a preference",
    "ties": "ties",
    "flipped": "flipped by the stated noise",
}


def reward_section(data: DemoData) -> Section:
    """Training curve, calibration, and the ceiling."""
    labels = {LABELS.get(name, name): count for name, count in data.label_counts.items()}
    return about_reward(
        data,
        figures.ceiling(data.reward),
        KeyValues(title="Labels", items=labels, width="half"),
    )


def about_reward(data: DemoData, accuracy: Block, counts: Block, more: str = "") -> Section:
    """How right the reward model is, how well it knows, what it learnt from, and how."""
    reward = data.reward
    blocks = [accuracy]
    if reward["deltas"]:
        blocks.append(figures.calibration(reward, data.seed, width="tall"))
    blocks.append(counts)
    if data.reward_curve:
        blocks.append(figures.reward_training(data.reward_curve))
    return Section(
        title="Reward model",
        short="Reward",
        text=f"A Bradley-Terry model on {reward['num_train']:,} preferences, measured on "
        f"{reward['num_held_out']:,} about other prompts.{more}",
        blocks=blocks,
    )


MEASURES = {
    "gold": "gold, mean",
    "proxy": "proxy reward, mean",
    "tokens": "tokens, mean",
    "finished_rate": "share that ended by itself",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "unique_rate": "share of answers unlike all others",
}


def writing(data: DemoData) -> Section:
    """How the answers changed: length and diversity."""
    arms = data.evaluation["arms"]
    names = [name for name in ("start", "policy", "best_of_n", "control") if name in arms]
    return Section(
        title="How the answers changed",
        short="Writing",
        text="A policy may win by writing longer, shorter or always the same. Here is whether it "
        "did.",
        blocks=(
            figures.lengths(data.lengths),
            Table(
                title="Length and diversity",
                caption="Over the held-out prompts. Distinct-n is the share of n-word sequences "
                "that differ.",
                columns=("measure", *(name.replace("_", " ") for name in names)),
                rows=[
                    (title, *(arms[name].get(measure) for name in names))
                    for measure, title in MEASURES.items()
                    if any(measure in arms[name] for name in names)
                ],
                width="half",
            ),
        ),
    )


def lineage_section(data: DemoData) -> Section:
    """Where everything came from, with what settings, at what cost, and what to do next."""
    return Section(
        title="Lineage, settings and next steps",
        short="Lineage",
        text="Every artefact is registered under its id; heedful trace ID follows it down to the "
        "single answers.",
        blocks=(
            Chain(
                title="Artefacts, each made from those before it",
                links=[Link(label=label, id=name) for label, name in data.lineage],
            ),
            Code(title="Next", text="\n".join(data.next_commands)),
            figures.stages(data.timings),
            KeyValues(
                title="Environment",
                items=dict(data.environment) | {"seed": data.seed},
                width="half",
            ),
            *settings_by_stage(data.settings),
        ),
    )


def settings_by_stage(settings: Json) -> list[KeyValues]:
    """One folded list for each first part of the dotted keys."""
    stages: dict[str, Json] = {}
    for key, value in settings.items():
        stage, _, rest = key.partition(".")
        stages.setdefault(stage, {})[rest or key] = value
    return [
        KeyValues(title=f"Settings: {stage}", items=items, is_folded=True)
        for stage, items in stages.items()
    ]
