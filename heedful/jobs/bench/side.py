"""Our side of ``heedful bench``: ``python -m heedful.jobs.bench.side JOB.json``.

It runs the same functions as the command line, with their default settings; only sizes and the
dtype come from the job.
"""

import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import heedful
from heedful.config import (
    GRPOConfig,
    PPOConfig,
    PreferenceConfig,
    RewardAdapter,
    RewardConfig,
    SFTConfig,
    resolve,
)
from heedful.data.chat import encode_prompt
from heedful.data.snapshot import Example, Kind, freeze
from heedful.engine.base import Request
from heedful.engine.local import LocalEngine
from heedful.jobs import fit, models
from heedful.jobs.bench.work import Job
from heedful.jobs.rundir import RunDirectory
from heedful.model.adapter_files import save_role
from heedful.types import Demonstration, Message, Preference, Prompt, SamplingParams

RULE = '''def words(prompt, response):
    """Few words."""
    return -0.01 * len(response.split())
'''


def main() -> None:
    """Run the job and print what it cost."""
    job = Job.read(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as scratch:
        work = generate if job.workload == "generate" else train
        seconds, detail = work(job, Path(scratch))
    result = {
        "seconds": seconds[job.warmup :],
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "version": f"heedful {heedful.__version__}",
        **detail,
    }
    print(json.dumps(result))


def train(job: Job, scratch: Path) -> tuple[list[float], dict[str, Any]]:
    """Seconds of every optimiser step of the fit, data and sampling included."""
    total = job.warmup + job.steps
    flags = {
        "model": job.model,
        "dtype": job.dtype,
        "seed": job.seed,
        "checkpoint_every": total + 1,
        "adapter": {"rank": job.rank, "alpha": job.alpha},
    }
    rate = [f"optimiser.learning_rate={job.learning_rate}"]
    size = [f"batch.examples_per_step={job.count}", f"batch.max_tokens={2 * job.max_tokens}"]
    rollouts = [
        f"rollouts.num_rollouts={total}",
        f"rollouts.prompts_per_rollout={job.count}",
        f"rollouts.samples_per_prompt={job.samples_per_prompt}",
        f"rollouts.max_new_tokens={job.max_new_tokens}",
        f"rollouts.temperature={job.temperature}",
    ]
    out = scratch / "run"
    if job.workload in ("ppo", "grpo"):
        flags["data"] = snapshot(prompts(job), "prompt", scratch)
    if job.workload == "ppo":
        flags["reward"] = str(untrained_reward(job, scratch))
        once = [*rollouts, "ppo.minibatches=1", f"kl.coef={job.kl_coef}", "kl.limit=1e6"]
        fit.fit_ppo(resolve(PPOConfig, overrides=[*rate, *once], flags=flags), out)
    elif job.workload == "grpo":
        flags["reward"] = f"gold:{rule(scratch)}:words"
        once = [*rollouts, "grpo.minibatches=1", f"grpo.kl_coef={job.kl_coef}", "kl.limit=1e6"]
        fit.fit_grpo(resolve(GRPOConfig, overrides=[*rate, *once], flags=flags), out)
    elif job.workload == "dpo":
        flags["data"] = snapshot(pairs(job), "preference", scratch)
        given = [*rate, *size, "held_out_share=0"]
        fit.fit_preference(resolve(PreferenceConfig, overrides=given, flags=flags), out)
    elif job.workload == "reward":
        flags["data"] = snapshot(pairs(job), "preference", scratch)
        given = [*rate, *size, "held_out_share=0", "warm_start=false"]
        fit.fit_reward(resolve(RewardConfig, overrides=given, flags=flags), out)
    else:
        flags["data"] = snapshot(demonstrations(job), "demonstration", scratch)
        given = [*rate, *size, "held_out_share=0"]
        fit.fit_sft(resolve(SFTConfig, overrides=given, flags=flags), out)
    rows = RunDirectory.read_metrics(out)
    phases = json.loads((out / "result.json").read_text())["profile"]["phases"]
    detail = {
        "phases": {phase["phase"]: round(phase["seconds"], 2) for phase in phases},
        "response_tokens": statistics.mean(row.get("rollout/response_tokens", 0.0) for row in rows),
    }
    return [row["train/step_seconds"] for row in rows], detail


def generate(job: Job, scratch: Path) -> tuple[list[float], dict[str, Any]]:
    """Seconds for every batch of prompts."""
    del scratch
    trunk = models.open_trunk(models.find_model(job.model, None), dtype=job.dtype)
    engine = LocalEngine(trunk, num_slots=128)
    seconds, tokens = [], 0
    encoded = [encode_prompt(trunk.tokenizer, prompt) for prompt in prompts(job)]
    for step in range(job.warmup + job.steps):
        requests = [
            Request(
                prompt=prompt,
                params=SamplingParams(
                    max_new_tokens=job.max_new_tokens,
                    temperature=job.temperature,
                    seed=int(np.random.SeedSequence([job.seed, step, i]).generate_state(1)[0]),
                ),
            )
            for i, prompt in enumerate(encoded[step * job.count : (step + 1) * job.count])
        ]
        started = time.perf_counter()
        samples = engine.sample(requests)
        seconds.append(time.perf_counter() - started)
        tokens += sum(len(sample.token_ids) for sample in samples)
    return seconds, {"response_tokens": tokens / len(encoded)}


def prompts(job: Job) -> list[Prompt]:
    """The job's prompts as records."""
    return [Prompt.of(text) for text in job.prompts]


def pairs(job: Job) -> list[Preference]:
    """The job's pairs as records."""
    return [
        Preference(
            prompt=Prompt(messages=messages(pair["prompt"])),
            chosen=messages(pair["chosen"]),
            rejected=messages(pair["rejected"]),
        )
        for pair in job.pairs
    ]


def demonstrations(job: Job) -> list[Demonstration]:
    """The chosen sides as records."""
    return [Demonstration(prompt=pair.prompt, response=pair.chosen) for pair in pairs(job)]


def messages(rows: list[dict[str, str]]) -> tuple[Message, ...]:
    """Dicts as messages."""
    return tuple(Message(role=row["role"], content=row["content"]) for row in rows)  # type: ignore[arg-type]


def snapshot(rows: list[Any], kind: Kind, scratch: Path) -> str:
    """Rows as the file that a fit reads."""
    frozen: list[Example] = list(rows)
    return str(freeze(frozen, kind, scratch).path)


def rule(scratch: Path) -> Path:
    """The rule that both sides of GRPO score with."""
    path = scratch / "rule.py"
    path.write_text(RULE)
    return path


def untrained_reward(job: Job, scratch: Path) -> Path:
    """A reward model with a random head: its scores mean nothing, its cost does."""
    trunk = models.open_trunk(models.find_model(job.model, None), dtype=job.dtype)
    _, depth = RewardAdapter().span(trunk.num_layers)
    trunk.add_adapter("reward", rank=job.rank, alpha=job.alpha, seed=job.seed, depth=depth)
    trunk.add_head("reward", std=0.02, seed=job.seed, pooling="mean")
    save_role(trunk, "reward", scratch / "reward")
    return scratch / "reward"


if __name__ == "__main__":
    main()
