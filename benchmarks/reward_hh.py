"""Reward model on hh-harmless: train 1600, dev 300, one epoch, default settings, by seed.

    python benchmarks/reward_hh.py --data DIR --seeds 0 1 2 --out benchmarks/results

``DIR`` holds ``train.jsonl.gz`` and ``dev.jsonl.gz``. The dev set is read once per reported number.
``--choose 0.5`` compares settings without it: that share of the training prompts is held out and
measured instead, in ``reward_hh_choice.jsonl``.
"""

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from contextlib import suppress
from datetime import date
from pathlib import Path

import numpy as np

from heedful.config import EvaluateConfig, RewardConfig, resolve
from heedful.exchange.importing import import_preferences
from heedful.jobs.evaluate import evaluate
from heedful.jobs.fit import fit_reward
from heedful.stats.calibration import ece_by_halves
from heedful.store import open_store


def run(
    data: Path, model: str, seed: int, share: float, overrides: list[str], scratch: Path
) -> dict[str, object]:
    """Import, fit on train, measure once on dev or on the share that is held out."""
    with open_store(scratch / "hh.db") as store:
        for split in ("train", "dev"):
            file = data / f"{split}.jsonl.gz"
            import_preferences(store, "hh", [file], dataset=f"hh-{split}")
        flags = {"data": "hh-train", "model": model, "seed": seed}
        held_out = f"held_out_share={share}"
        config = resolve(RewardConfig, overrides=[held_out, *overrides], flags=flags)
        started = time.process_time()
        fitted = fit_reward(config, scratch / f"reward-{seed}", store=store)
        cpu_seconds = time.process_time() - started
        if share:
            measured = dict(fitted.metrics)
            measured["nll"] = float(np.mean(np.logaddexp(0.0, -np.array(measured["deltas"]))))
        else:
            settings = EvaluateConfig(data="hh-dev", model=fitted.run, tokens_per_micro_step=1024)
            measured = evaluate(settings, scratch / f"dev-{seed}", store=store)
        deltas = np.array(measured["deltas"])
        measured["deltas"] = deltas.round(3).tolist()  # so that settings compare pair by pair
        is_even = np.arange(len(deltas)) % 2 == 0  # a prompt here has one pair
        with suppress(ValueError):  # a half that is all right or no better than chance
            measured["ece_scaled"], measured["ece_floor"] = ece_by_halves(deltas, is_even)
    return {
        "model": model,
        "seed": seed,
        "overrides": overrides,
        "learning_rate": config.optimiser.learning_rate,
        "dtype": config.dtype,
        **measured,
        "num_train": fitted.metrics["num_train"],
        "fit_seconds": fitted.metrics["seconds"],
        "cpu_seconds": round(cpu_seconds, 1),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }


def main() -> None:
    """Parse and append one row per seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="smollm2", help="'test' tries the runner in a minute")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--choose", type=float, default=0.0, help="share of training held out")
    parser.add_argument("--note", default="alone", help="what else the machine did")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            row = run(
                arguments.data,
                arguments.model,
                seed,
                arguments.choose,
                arguments.overrides,
                Path(scratch),
            )
        row["note"] = arguments.note
        name = "reward_hh_choice.jsonl" if arguments.choose else "reward_hh.jsonl"
        with (arguments.out / name).open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        print({key: value for key, value in row.items() if key != "deltas"}, flush=True)


if __name__ == "__main__":
    main()
