"""``demo``: preferences in, a better policy out, in one command.

Stages: sample pairs, annotate, fit the reward, optimise the policy, evaluate, report. Each stage
leaves its result in the output directory or its database, and is skipped when that is whole, so
the same command continues wherever it was interrupted.
"""

import json
import platform
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from heedful.annotators.golds import resolve_gold
from heedful.annotators.simulated import SimulatedAnnotator, label_ceiling
from heedful.config import DemoConfig
from heedful.data.chat import encode_prompt
from heedful.data.examples import answer
from heedful.engine.base import Request
from heedful.engine.local import LocalEngine
from heedful.jobs import demo_people as people
from heedful.jobs import models
from heedful.jobs.demo_settings import (
    BUDGETS,
    NUM_SLOTS,
    TEMPERATURE,
    evaluate_config,
    ppo_config,
    reward_config,
)
from heedful.jobs.evaluate import evaluate
from heedful.jobs.fit import FitResult, fit_ppo, fit_reward
from heedful.jobs.progress import progress
from heedful.jobs.rundir import RunDirectory
from heedful.model.adapter_files import write_text
from heedful.prompts import demo_prompts
from heedful.store import annotations as annotation_table
from heedful.store import completions as completion_table
from heedful.store import datasets as dataset_table
from heedful.store import open_store
from heedful.store import tasks as task_table
from heedful.store.database import Store
from heedful.types import JSON, Completion, ModelVersion, Prompt, SamplingParams

Say = Callable[[str], None]


class Costs:
    """Seconds per stage and peak memory, kept over interruptions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        kept = json.loads(path.read_text()) if path.exists() else {}
        self.seconds: dict[str, float] = kept.get("seconds", {})
        self.peak_memory_gb: float = kept.get("peak_memory_gb", 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the block's wall time to the stage, also when it is interrupted."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started
            self.peak_memory_gb = max(self.peak_memory_gb, peak_memory_gb())
            kept = {"seconds": self.seconds, "peak_memory_gb": self.peak_memory_gb}
            write_text(self.path, json.dumps(kept))


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What was answered: counts by outcome, and the data that the reward model learns from."""

    counts: dict[str, int]
    data: str


def run_demo(
    config: DemoConfig,
    out: Path,
    *,
    say: Say,
    as_json: bool = False,
    wanted: int = people.WANTED,
) -> dict[str, JSON]:
    """Run or continue the demo in ``out``; returns the result that ``--json`` prints.

    With ``config.human`` training begins at ``wanted`` answers, or earlier when a person says so.
    """
    if config.human:
        people.check_wanted(wanted)
    else:
        resolve_gold(config.gold)  # an unknown one is refused before anything is written
    directory = RunDirectory(out, "demo", config, snapshot=None)
    done = directory.result()
    if done is None:
        with directory.held():
            announce(config, out, say)
            done = chain(config, out, say, wanted)
            directory.finish(done)
    elif config.human:
        with open_store(out / "heedful.db") as store:
            done |= people.verdict(store, done["policy"])
    say("")
    for line in headline(done):
        say(line)
    if as_json:
        print(json.dumps(done))
    return done


def chain(config: DemoConfig, out: Path, say: Say, wanted: int) -> dict[str, JSON]:
    """All stages in order, with the annotators that were asked for."""
    costs = Costs(out / "costs.json")
    with open_store(out / "heedful.db") as store:
        prepare(store)
        if not config.human:
            return stages(config, out, store, say, costs, partial(simulated, config, store, say))
        with people.studio(store, wanted, config.seed, say) as host:
            ask = partial(from_people, config, store, out, host, say)
            result = stages(config, out, store, say, costs, ask)
            people.end(store, host, result, say)
            return result


def simulated(config: DemoConfig, store: Store, say: Say) -> Labels:
    """Preferences of simulated annotators."""
    annotator = SimulatedAnnotator(
        gold=resolve_gold(config.gold), noise=config.noise, seed=config.seed
    )
    say(f"[1/5] sampling answers and asking {annotator.name} (simulated)")
    return Labels(counts=collect_preferences(config, annotator, store), data="demo")


def from_people(config: DemoConfig, store: Store, out: Path, host: people.Host, say: Say) -> Labels:
    """Preferences of whoever answers in the browser, frozen when training begins."""
    say("[1/5] sampling answers for you to compare")
    frozen = people.frozen(out)
    if frozen is None:
        for rows in sampled(config, store):
            people.queue_pairs(store, rows)
            host.invite(say)
        host.wait(say)
        frozen = people.freeze(store, out)
    host.goal.stage = "training"
    return Labels(counts=frozen.counts, data=frozen.path)


def stages(
    config: DemoConfig,
    out: Path,
    store: Store,
    say: Say,
    costs: Costs,
    ask: Callable[[], Labels],
) -> dict[str, JSON]:
    """Annotate, fit, optimise, evaluate, report."""
    with costs.stage("sample and annotate"):
        labels = ask()
    with costs.stage("reward model"):
        say(f"[2/5] reward model on {labels.counts['strict']} comparisons")
        reward = fit_reward(reward_config(config, labels.data), out / "reward", store=store)
        say(describe_reward(reward, None if config.human else config.noise))
    with costs.stage("ppo"):
        say("[3/5] PPO against the reward model")
        policy = fit_ppo(ppo_config(config, reward.run), out / "policy", store=store)
    with costs.stage("evaluate"):
        judge = "by the reward model, as nobody stated a gold" if config.human else "blind"
        say(f"[4/5] evaluation on held-out prompts, {judge}")
        settings = evaluate_config(config, policy.run, reward.run)
        evaluation = evaluate(settings, out / "evaluation", store=store)
    say("[5/5] report")
    started = time.monotonic()
    result = summary(config, out, labels.counts, reward, policy, evaluation, costs, store)
    result["seconds"] = round(sum(costs.seconds.values()) + time.monotonic() - started, 1)
    return result


def announce(config: DemoConfig, out: Path, say: Say) -> None:
    """What will happen, before it does."""
    if config.human:
        say(f"heedful demo: {config.model}, your own preferences, seed {config.seed} -> {out}")
        return
    gold = resolve_gold(config.gold)
    say(f"heedful demo: {config.model}, gold '{gold.name}', seed {config.seed} -> {out}")
    say(f"gold preference: {gold.statement}")
    say(
        f"the annotators are SIMULATED: they follow this gold and flip {100 * config.noise:.0f} % "
        "of their answers"
    )


def prepare(store: Store) -> None:
    """Prompts as data sets, train and held-out apart."""
    with store.write() as tx:
        for name, split in (("demo-prompts", "train"), ("demo-held-out", "held-out")):
            prompts = [row.prompt for row in demo_prompts(split)]
            completion_table.add_prompts(tx, prompts)
            dataset_table.add_prompts(tx, name, prompts)


def collect_preferences(
    config: DemoConfig, annotator: SimulatedAnnotator, store: Store
) -> dict[str, int]:
    """Sample answers for the labelling prompts and have every pair of a prompt compared."""
    counts = {"comparisons": 0, "strict": 0, "ties": 0, "flipped": 0}
    for rows in sampled(config, store):
        for key, number in compare_chunk(store, annotator, rows).items():
            counts[key] += number
    return counts


def sampled(config: DemoConfig, store: Store) -> Iterator[list[Completion]]:
    """Answers of the start policy, some prompts at a time; what is in the store is not redrawn.

    Whoever consumes them stores them.
    """
    budget = BUDGETS[config.budget]
    # by content hash: a random order that depends on nothing
    prompts = sorted((row.prompt for row in demo_prompts("train")), key=lambda prompt: prompt.id)
    prompts = prompts[: budget.label_prompts]
    trunk = models.open_trunk(models.find_model(config.model, None), dtype="auto")
    base = models.register_base(store, trunk)
    with store.read() as tx:
        present = {
            (row.prompt.id, row.draw): row
            for row in completion_table.by_models(tx, base.id)
            if not row.params.get("evaluation")
        }
    engine = LocalEngine(trunk, num_slots=NUM_SLOTS)
    size = NUM_SLOTS // budget.answers_per_prompt
    with progress("sample and compare", len(prompts)) as advance:
        for start in range(0, len(prompts), size):
            chunk = prompts[start : start + size]
            known = [present.get((prompt.id, k)) for prompt in chunk
                     for k in range(budget.answers_per_prompt)]  # fmt: skip
            rows = [row for row in known if row is not None]
            if len(rows) < len(known):
                rows = sample_chunk(config, engine, trunk, base, chunk, start)
            yield rows
            advance(len(chunk))


def sample_chunk(
    config: DemoConfig,
    engine: LocalEngine,
    trunk: Any,
    base: ModelVersion,
    prompts: Sequence[Prompt],
    first: int,
) -> list[Completion]:
    """Answers of the start policy to a few prompts; seeds follow from place and draw."""
    budget = BUDGETS[config.budget]
    wanted = [(place, prompt, draw) for place, prompt in enumerate(prompts)
              for draw in range(budget.answers_per_prompt)]  # fmt: skip
    params = [
        SamplingParams(
            max_new_tokens=budget.max_new_tokens,
            temperature=TEMPERATURE,
            seed=sample_seed(config.seed, first + place, draw),
        )
        for place, _, draw in wanted
    ]  # fmt: skip
    requests = [
        Request(prompt=encode_prompt(trunk.tokenizer, prompt), params=param)
        for (_, prompt, _), param in zip(wanted, params, strict=True)
    ]
    return [
        Completion(
            prompt=prompt,
            messages=answer(sample.text),
            model=base.id,
            draw=draw,
            finish_reason=sample.finish_reason,
            params={"temperature": TEMPERATURE, "seed": param.seed},
        )
        for (_, prompt, draw), param, sample in zip(
            wanted, params, engine.sample(requests), strict=True
        )
    ]


def sample_seed(seed: int, place: int, draw: int) -> int:
    """The seed of one answer: from the run's seed, the prompt's place and the draw."""
    return int(np.random.SeedSequence([seed, 5, place, draw]).generate_state(1)[0])


def compare_chunk(
    store: Store, annotator: SimulatedAnnotator, rows: Sequence[Completion]
) -> dict[str, int]:
    """Tasks and annotations for every pair of different answers to one prompt."""
    tasks = [task for group in people.by_prompt(rows) for task in people.pairs(group)]
    known = {row.id: row for row in rows}
    answers = [annotator.annotate(task, known) for task in tasks]
    with store.write() as tx:
        completion_table.add(tx, rows)
        task_table.add(tx, tasks)
        dataset_table.add_tasks(tx, "demo", [task.id for task in tasks])
        annotation_table.add(tx, answers)
    strict = [a for a in answers if a.payload["preferred"] is not None]
    return {
        "comparisons": len(answers),
        "strict": len(strict),
        "ties": len(answers) - len(strict),
        "flipped": sum(annotator.is_flipped(a.task_id) for a in strict),
    }


def describe_reward(reward: FitResult, noise: float | None) -> str:
    """The reward model's line on screen; of people the noise is not known."""
    m = reward.metrics
    low, high = m["accuracy_ci"]
    ceiling = ""
    if noise is not None:
        ceiling = f", ceiling set by label noise {100 * label_ceiling(noise):.0f} %"
    return (
        f"      held-out accuracy {100 * m['accuracy']:.1f} % (95 % {100 * low:.1f} to "
        f"{100 * high:.1f}, {m['num_held_out']} pairs), ECE {m['ece']:.3f}{ceiling}"
    )


def summary(
    config: DemoConfig,
    out: Path,
    labels: dict[str, int],
    reward: FitResult,
    policy: FitResult,
    evaluation: dict[str, Any],
    costs: Costs,
    store: Store,
) -> dict[str, JSON]:
    """The result, and the report that shows it."""
    from heedful.jobs.demo_data import write_demo_report, write_human_report

    report = out / "report.html"
    result: dict[str, JSON] = {
        "win_rate": evaluation["win_rate"],
        "win_rate_ci": evaluation["win_rate_ci"],
        "kl": evaluation["kl"],
        "length_ratio": evaluation["length_ratio"],
        "reward_accuracy": reward.metrics["accuracy"],
        "reward_accuracy_ci": reward.metrics["accuracy_ci"],
        "reward_ece": reward.metrics["ece"],
        "reward_ceiling": None if config.human else label_ceiling(config.noise),
        "best_of_n_win_rate": evaluation["arms"]["best_of_n"]["win_rate"],
        "control_win_rate": evaluation["arms"]["control"]["win_rate"],
        "control_win_rate_ci": evaluation["arms"]["control"]["win_rate_ci"],
        "distinct_2": evaluation["arms"]["policy"]["distinct_2"],
        "distinct_2_start": evaluation["arms"]["start"]["distinct_2"],
        "labels": labels,
        "judge": "reward model (proxy)" if config.human else f"gold {config.gold}",
        "gold": None if config.human else resolve_gold(config.gold).name,
        "annotators": "human" if config.human else "simulated",
        "model": config.model,
        "seed": config.seed,
        "policy": policy.model,
        "reward_model": reward.model,
        "report": str(report),
        "peak_memory_gb": round(costs.peak_memory_gb, 2),
        "stages": {name: round(value, 1) for name, value in costs.seconds.items()},
    }
    if config.human:
        write_human_report(config, out, result, reward, evaluation, store)
    else:
        write_demo_report(config, out, result, reward, evaluation, store)
    return result


def peak_memory_gb() -> float:
    """Peak resident memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if platform.system() == "Darwin" else peak / 2**20


def headline(result: dict[str, Any]) -> list[str]:
    """What the demo prints last."""
    low, high = result["win_rate_ci"]
    is_human = result["annotators"] == "human"
    # best of n is chosen by the reward model: its win rate by the same judge says nothing
    best = "" if is_human else f"best of n: {100 * result['best_of_n_win_rate']:.1f} %; "
    return [
        f"{'reward model (proxy)' if is_human else 'gold'} win rate against the start policy: "
        f"{100 * result['win_rate']:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f}); "
        f"{best}control: {100 * result['control_win_rate']:.1f} %",
        *people.verdict_lines(result),
        f"KL {result['kl']:.2f} nats, length ratio {result['length_ratio']:.2f}, distinct-2 "
        f"{result['distinct_2_start']:.2f} -> {result['distinct_2']:.2f}, "
        f"{result['seconds']:.0f} s, {result['peak_memory_gb']:.1f} GB",
        f"report  {result['report']}",
        *(f"next    {command}" for command in next_commands(result)),
    ]


def next_commands(result: dict[str, Any]) -> list[str]:
    """What to type next."""
    out = Path(result["report"]).parent
    store = out / "heedful.db"
    if result["annotators"] == "human":
        return [
            f"heedful studio --store {store}   # compare old and new blind, then run this again",
            f"heedful trace {result['policy']} --store {store}",
        ]
    return [
        f"heedful trace {result['policy']} --store {store}",
        f"heedful demo --gold concise --out {out}-concise",
        "heedful import hh FILE.jsonl.gz && heedful fit reward --help",
    ]
