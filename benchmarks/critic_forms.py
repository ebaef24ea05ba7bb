"""Reward by second and by KL for each form of PPO's critic, against one reward model.

    python benchmarks/critic_forms.py DEMO --seeds 0 1 2 --out benchmarks/results

``DEMO`` is the directory of a finished demo; its reward model and prompts are used, with the demo's
settings and the number of rollouts given. One row per form and seed: the curve of rollouts.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Literal

from heedful.config import DemoConfig, PPOConfig
from heedful.jobs.demo import ppo_config
from heedful.jobs.fit import fit_ppo
from heedful.jobs.rundir import RunDirectory
from heedful.store import open_store

FORMS: tuple[Literal["reward", "policy", "adapter"], ...] = ("reward", "policy", "adapter")


def ppo_config_of(
    demo: Path, seed: int, num_rollouts: int, form: Literal["reward", "policy", "adapter"]
) -> PPOConfig:
    """The PPO of a finished demo with another seed, number of rollouts and form of the critic."""
    recorded = json.loads((demo / "config.json").read_text())["config"]
    base = ppo_config(DemoConfig(**recorded | {"seed": seed}), str(demo / "reward"))
    rollouts = base.rollouts.model_copy(update={"num_rollouts": num_rollouts})
    ppo = base.ppo.model_copy(update={"critic": form})
    return base.model_copy(update={"rollouts": rollouts, "ppo": ppo})


def run(config: PPOConfig, demo: Path, scratch: Path) -> list[dict[str, float]]:
    """The curve of one PPO run; seconds are those of the steps, data and sampling included."""
    with open_store(demo / "heedful.db") as store:
        fit_ppo(config, scratch / "run", store=store)
    curve: dict[int, dict[str, float]] = {}
    seconds = 0.0
    for row in RunDirectory.read_metrics(scratch / "run"):
        seconds += row["train/step_seconds"]
        names = ("reward", "kl_nats", "explained_variance")
        curve.setdefault(
            int(row["rollout/number"]), {name: row[f"rollout/{name}"] for name in names}
        )["seconds"] = round(seconds, 1)
    return list(curve.values())


def main() -> None:
    """Parse and append one row per form and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--note", default="alone", help="what else the machine did")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        for form in FORMS:
            with tempfile.TemporaryDirectory() as scratch:
                config = ppo_config_of(given.demo, seed, given.rollouts, form)
                curve = run(config, given.demo, Path(scratch))
            row = {"critic": form, "seed": seed, "curve": curve, "note": given.note}
            with (given.out / "critic_forms.jsonl").open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            print(form, seed, curve[-1], flush=True)


if __name__ == "__main__":
    main()
