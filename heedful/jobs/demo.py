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
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from heedful.annotators.golds import Gold, resolve_gold
from heedful.annotators.simulated import SimulatedAnnotator, label_ceiling
from heedful.config import (
    PPO,
    Batching,
    DemoConfig,
    EvaluateConfig,
    PPOConfig,
    RewardConfig,
    Rollouts,
)
from heedful.data.chat import encode_prompt
from heedful.data.examples import answer
from heedful.engine.base import Request
from heedful.engine.local import LocalEngine
from heedful.jobs import models
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
from heedful.types import JSON, Completion, ModelVersion, Prompt, SamplingParams, Task

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much work each stage does. Made from the table below, used by the stages."""

    label_prompts: int
    answers_per_prompt: int
    num_rollouts: int
    held_out_prompts: int
    max_new_tokens: int
    best_of: int = 4


BUDGETS = {
    "full": Budget(
        label_prompts=160,
        answers_per_prompt=4,
        num_rollouts=14,
        held_out_prompts=110,
        max_new_tokens=40,
    ),
    "small": Budget(
        label_prompts=48,
        answers_per_prompt=4,
        num_rollouts=6,
        held_out_prompts=100,
        max_new_tokens=32,
        best_of=2,
    ),
}
TEMPERATURE = 0.8
NUM_SLOTS = 128


def reward_config(config: DemoConfig) -> RewardConfig:
    """The reward model of the demo."""
    return RewardConfig(
        data="demo",
        model=config.model,
        seed=config.seed,
        epochs=1,
        held_out_share=0.2,
        batch=Batching(examples_per_step=4, tokens_per_micro_step=900, max_tokens=600),
    )


def ppo_config(config: DemoConfig, reward: str) -> PPOConfig:
    """The policy optimisation of the demo."""
    budget = BUDGETS[config.budget]
    return PPOConfig(
        data="demo-prompts",
        model=config.model,
        reward=reward,
        seed=config.seed,
        checkpoint_every=2,
        batch=Batching(tokens_per_micro_step=900, max_tokens=600),
        rollouts=Rollouts(
            num_rollouts=budget.num_rollouts,
            prompts_per_rollout=8,
            samples_per_prompt=4,
            max_new_tokens=budget.max_new_tokens,
            temperature=TEMPERATURE,
            num_slots=NUM_SLOTS,
        ),
        ppo=PPO(epochs=1, minibatches=4),
    )


def evaluate_config(config: DemoConfig, policy: str, reward: str) -> EvaluateConfig:
    """The evaluation of the demo."""
    budget = BUDGETS[config.budget]
    return EvaluateConfig(
        data="demo-held-out",
        model=policy,
        reward=reward,
        gold=config.gold,
        seed=config.seed,
        num_prompts=budget.held_out_prompts,
        best_of=budget.best_of,
        max_new_tokens=budget.max_new_tokens,
        temperature=TEMPERATURE,
        num_slots=NUM_SLOTS,
        tokens_per_micro_step=900,
    )


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


def run_demo(config: DemoConfig, out: Path, *, say: Say, as_json: bool = False) -> dict[str, JSON]:
    """Run or continue the demo in ``out``; returns the result that ``--json`` prints."""
    gold = resolve_gold(config.gold)
    directory = RunDirectory(out, "demo", config, snapshot=None)
    done = directory.result()
    if done is None:
        announce(config, gold, out, say)
        done = chain(config, gold, out, say)
        directory.finish(done)
    say("")
    for line in headline(done):
        say(line)
    if as_json:
        print(json.dumps(done))
    return done


def chain(config: DemoConfig, gold: Gold, out: Path, say: Say) -> dict[str, JSON]:
    """All stages in order."""
    annotator = SimulatedAnnotator(gold=gold, noise=config.noise, seed=config.seed)
    costs = Costs(out / "costs.json")
    with open_store(out / "heedful.db") as store:
        prepare(store)
        with costs.stage("sample and annotate"):
            say(f"[1/5] sampling answers and asking {annotator.name} (simulated)")
            labels = collect_preferences(config, annotator, store)
        with costs.stage("reward model"):
            say(f"[2/5] reward model on {labels['strict']} comparisons")
            reward = fit_reward(reward_config(config), out / "reward", store=store)
            say(describe_reward(reward, config.noise))
        with costs.stage("ppo"):
            say("[3/5] PPO against the reward model")
            policy = fit_ppo(ppo_config(config, reward.run), out / "policy", store=store)
        with costs.stage("evaluate"):
            say("[4/5] blind evaluation on held-out prompts")
            settings = evaluate_config(config, policy.run, reward.run)
            evaluation = evaluate(settings, out / "evaluation", store=store)
        say("[5/5] report")
        started = time.monotonic()
        result = summary(config, gold, out, labels, reward, policy, evaluation, costs, store)
        result["seconds"] = round(sum(costs.seconds.values()) + time.monotonic() - started, 1)
        return result


def announce(config: DemoConfig, gold: Gold, out: Path, say: Say) -> None:
    """What will happen, before it does."""
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
    counts = {"comparisons": 0, "strict": 0, "ties": 0, "flipped": 0}
    size = NUM_SLOTS // budget.answers_per_prompt
    with progress("sample and compare", len(prompts)) as advance:
        for start in range(0, len(prompts), size):
            chunk = prompts[start : start + size]
            rows = [present.get((prompt.id, k)) for prompt in chunk
                    for k in range(budget.answers_per_prompt)]  # fmt: skip
            if not all(rows):
                rows = list(sample_chunk(config, engine, trunk, base, chunk, start))
            for key, number in compare_chunk(store, annotator, rows).items():  # type: ignore[arg-type]
                counts[key] += number
            advance(len(chunk))
    return counts


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
    by_prompt: dict[str, list[Completion]] = {}
    for row in rows:
        by_prompt.setdefault(row.prompt.id, []).append(row)
    tasks = [
        Task(form="pairwise", prompt=left.prompt, completion_ids=(left.id, right.id))
        for group in by_prompt.values()
        for left, right in combinations(group, 2)
        if left.text != right.text
    ]
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


def describe_reward(reward: FitResult, noise: float) -> str:
    """The reward model's line on screen."""
    m = reward.metrics
    low, high = m["accuracy_ci"]
    return (
        f"      held-out accuracy {100 * m['accuracy']:.1f} % (95 % {100 * low:.1f} to "
        f"{100 * high:.1f}, {m['num_held_out']} pairs), ECE {m['ece']:.3f}, "
        f"ceiling set by label noise {100 * label_ceiling(noise):.0f} %"
    )


def summary(
    config: DemoConfig,
    gold: Gold,
    out: Path,
    labels: dict[str, int],
    reward: FitResult,
    policy: FitResult,
    evaluation: dict[str, Any],
    costs: Costs,
    store: Store,
) -> dict[str, JSON]:
    """The result, and the report that shows it."""
    from heedful.jobs.demo_data import write_demo_report

    report = out / "report.html"
    result: dict[str, JSON] = {
        "win_rate": evaluation["win_rate"],
        "win_rate_ci": evaluation["win_rate_ci"],
        "kl": evaluation["kl"],
        "length_ratio": evaluation["length_ratio"],
        "reward_accuracy": reward.metrics["accuracy"],
        "reward_accuracy_ci": reward.metrics["accuracy_ci"],
        "reward_ece": reward.metrics["ece"],
        "reward_ceiling": label_ceiling(config.noise),
        "best_of_n_win_rate": evaluation["arms"]["best_of_n"]["win_rate"],
        "control_win_rate": evaluation["arms"]["control"]["win_rate"],
        "control_win_rate_ci": evaluation["arms"]["control"]["win_rate_ci"],
        "distinct_2": evaluation["arms"]["policy"]["distinct_2"],
        "distinct_2_start": evaluation["arms"]["start"]["distinct_2"],
        "labels": labels,
        "gold": gold.name,
        "annotators": "simulated",
        "model": config.model,
        "seed": config.seed,
        "policy": policy.model,
        "reward_model": reward.model,
        "report": str(report),
        "peak_memory_gb": round(costs.peak_memory_gb, 2),
        "stages": {name: round(value, 1) for name, value in costs.seconds.items()},
    }
    write_demo_report(config, gold, out, result, reward, evaluation, store)
    return result


def peak_memory_gb() -> float:
    """Peak resident memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if platform.system() == "Darwin" else peak / 2**20


def headline(result: dict[str, Any]) -> list[str]:
    """What the demo prints last."""
    low, high = result["win_rate_ci"]
    return [
        f"gold win rate against the start policy: {100 * result['win_rate']:.1f} % "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f}); best of n: "
        f"{100 * result['best_of_n_win_rate']:.1f} %; control: "
        f"{100 * result['control_win_rate']:.1f} %",
        f"KL {result['kl']:.2f} nats, length ratio {result['length_ratio']:.2f}, distinct-2 "
        f"{result['distinct_2_start']:.2f} -> {result['distinct_2']:.2f}, "
        f"{result['seconds']:.0f} s, {result['peak_memory_gb']:.1f} GB",
        f"report  {result['report']}",
        *(f"next    {command}" for command in next_commands(result)),
    ]


def next_commands(result: dict[str, Any]) -> list[str]:
    """What to type next."""
    out = Path(result["report"]).parent
    return [
        f"heedful trace {result['policy']} --store {out / 'heedful.db'}",
        f"heedful demo --gold concise --out {out}-concise",
        "heedful import hh FILE.jsonl.gz && heedful fit reward --help",
    ]
