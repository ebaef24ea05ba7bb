"""Time and memory of a GRPO step against completion length and group size.

    python benchmarks/growth.py --out benchmarks/results

One prompt of 40 tokens per step; every answer is made as long as the point says, whatever the model
would do. Every point is a process of its own: one warm-up step, then the median of three.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from heedful.config import GRPOConfig, resolve
from heedful.data.snapshot import freeze
from heedful.jobs.fit import fit_grpo
from heedful.jobs.rundir import RunDirectory
from heedful.model.base import Base
from heedful.monitor.profile import phase_costs
from heedful.types import Prompt

LENGTHS = (64, 128, 256, 512, 1024)
GROUPS = (2, 4, 8, 16, 32)
STEPS = 4


def point(model: str, length: int, group: int) -> dict[str, object]:
    """Cost of a step with ``group`` answers of ``length`` tokens."""
    Base.stop_ids = property(lambda _: frozenset())  # type: ignore[assignment,method-assign]
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        text = "Tell me about the history of bridges, and why some of them fall down."
        data = freeze([Prompt.of(f"{text} {n}") for n in range(STEPS)], "prompt", out).path
        config = resolve(
            GRPOConfig,
            flags={"model": model, "data": data, "reward": "gold:concise"},
            overrides=[
                f"rollouts.num_rollouts={STEPS}",
                "rollouts.prompts_per_rollout=1",
                f"rollouts.samples_per_prompt={group}",
                f"rollouts.max_new_tokens={length}",
                "grpo.minibatches=1",
                f"batch.max_tokens={length + 100}",
                f"batch.tokens_per_micro_step={max(1024, length + 100)}",
                "checkpoint_every=100",
            ],
        )
        fit_grpo(config, out / "run")
        rows = RunDirectory.read_metrics(out / "run")
    return {
        "length": length,
        "group": group,
        "seconds": round(statistics.median(row["train/step_seconds"] for row in rows[1:]), 2),
        "tokens": statistics.mean(row["rollout/response_tokens"] for row in rows),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "phases": [asdict(cost) for cost in phase_costs(rows[1:])],
    }


def main() -> None:
    """One point, or all of them in fresh processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--point", nargs=2, type=int, metavar=("LENGTH", "GROUP"))
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    if given.point:
        print(json.dumps(point(given.model, *given.point)))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    points = [(length, 4) for length in LENGTHS] + [(64, group) for group in GROUPS if group != 4]
    for length, group in points:
        command = [sys.executable, __file__, "--model", given.model, "--point"]
        done = subprocess.run(
            [*command, str(length), str(group)], stdout=subprocess.PIPE, text=True, check=True
        )
        row = json.loads(done.stdout.splitlines()[-1])
        with (given.out / "growth.jsonl").open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        print({k: v for k, v in row.items() if k != "phases"}, flush=True)


if __name__ == "__main__":
    main()
