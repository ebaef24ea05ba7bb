"""Reward against KL: our PPO and TRL's, on the same reward model, prompts and number of answers.

    python benchmarks/ppo_learning.py DEMO --seeds 0 1 2 --out benchmarks/results

``DEMO`` is the directory of a finished demo; its reward model and prompts are used. Ours runs with
the demo's settings, TRL 1.9.0 with its own (one epoch, the learning rate given), full fine-tuning.
One row per side and seed: the curve of rollouts.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from critic_forms import ppo_config_of, run

from heedful.data.chat import encode_prompt
from heedful.data.collate import Tree
from heedful.jobs import models
from heedful.jobs.bench.runner import PEERS, environment, one_process, peer_of
from heedful.jobs.fit.base import load_rows
from heedful.model.adapter_files import load_role
from heedful.model.base import resolve
from heedful.reward.trained import TrainedReward
from heedful.store import open_store


def trl_job(demo: Path, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """What ``peers/trl_ppo.py`` reads: as many answers as ours, in batches of the same size."""
    config = ppo_config_of(demo, seed, given.rollouts, "reward")
    path, _ = resolve(config.model)
    trunk = models.open_trunk(models.find_model(config.model, None), dtype="float32")
    with open_store(demo / "heedful.db") as store, tempfile.TemporaryDirectory() as scratch:
        rows = load_rows(store, config.data, "prompt", Path(scratch)).rows
    rollouts = config.rollouts
    return {
        "workload": "ppo",
        "model": str(path),
        "dtype": "float32",
        "adapter": "full",
        "prompts": [encode_prompt(trunk.tokenizer, prompt) for prompt in rows],
        "seed": seed,
        "warmup": 0,
        "steps": given.rollouts,
        "count": rollouts.prompts_per_rollout * rollouts.samples_per_prompt,
        "minibatches": config.ppo.minibatches,
        "max_new_tokens": rollouts.max_new_tokens,
        "temperature": rollouts.temperature,
        "kl_coef": given.kl_coef,
        "learning_rate": given.learning_rate,
        "scorer": [sys.executable, __file__, str(demo), "--score"],
    }


def score_lines(demo: Path) -> None:
    """Answer every line of prompts and answers with a line of scores."""
    recorded = json.loads((demo / "config.json").read_text())["config"]
    trunk = models.open_trunk(models.find_model(recorded["model"], None), dtype="float32")
    card = load_role(trunk, models.find_model(str(demo / "reward"), None).adapter, "reward")
    reward = TrainedReward(trunk, mean=card.mean, std=card.std)
    for line in sys.stdin:
        trees = [
            Tree(id="", prompt=tuple(prompt), responses=(tuple(answer),))
            for prompt, answer in json.loads(line)
        ]
        print(json.dumps([s for (s,) in reward.score_trees(trees, 1024)]), flush=True)


def main() -> None:
    """Parse; append one row per side and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--score", action="store_true", help="serve the reward on stdin and stdout")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--sides", nargs="+", default=["heedful", "trl"])
    parser.add_argument("--rollouts", type=int, default=10)
    parser.add_argument("--kl-coef", type=float, default=0.05, help="TRL's; its default")
    parser.add_argument("--learning-rate", type=float, default=1e-5, help="TRL's")
    parser.add_argument("--note", default="alone", help="what else the machine did")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.score:
        score_lines(given.demo)
        return
    for seed in given.seeds:
        for side in given.sides:
            if side == "heedful":
                with tempfile.TemporaryDirectory() as scratch:
                    config = ppo_config_of(given.demo, seed, given.rollouts, "reward")
                    curve = run(config, given.demo, Path(scratch))
                settings = {}
            else:
                python = environment(peer_of("ppo"), print)
                command = [str(python), str(PEERS / "trl_ppo.py")]
                job = trl_job(given.demo, seed, given)
                curve = one_process(command, job)
                settings = {"learning_rate": given.learning_rate, "kl_coef": given.kl_coef}
            row = {"side": side, "seed": seed, "curve": curve, "note": given.note} | settings
            with (given.out / "ppo_learning.jsonl").open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            print(side, seed, curve[-1], flush=True)


if __name__ == "__main__":
    main()
