"""Time and peak memory of a fit of four reward adapters against one, in fresh processes by turns.

    python benchmarks/ensemble.py --data hh-harmless/train.jsonl.gz --pairs 200 --repeats 3

One row per run: ``one`` is the default fit, ``one_upper`` a single adapter on the layers that
members adapt, ``four`` the default ensemble; ``four_all`` adapts all layers (``--arms``).
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from itertools import islice
from pathlib import Path

from heedful.config import RewardConfig, resolve
from heedful.data import testing
from heedful.data.formats import Parsed, read_files
from heedful.data.snapshot import freeze
from heedful.jobs.fit import fit_reward
from heedful.jobs.rundir import RunDirectory
from heedful.types import Preference

FOUR = ("ensemble.members=4",)
ARMS: dict[str, tuple[str, ...]] = {
    "one": (),
    "one_upper": (),
    "four": FOUR,
    "four_all": (*FOUR, "adapter.first_layer=0"),
}
DEFAULT_ARMS = ("one", "four", "one_upper")


def pairs(data: str, num: int) -> list[Preference]:
    """The first pairs of a file of hh, or of the synthetic ones."""
    if data == testing.NAME:
        return testing.preferences()[:num]
    read = (one.record for one in read_files("hh", [Path(data)]) if isinstance(one, Parsed))
    found = list(islice((one for one in read if isinstance(one, Preference)), num))
    if len(found) < num:
        raise SystemExit(f"{data} has {len(found)} pairs; give --pairs {len(found)} or less")
    return found


def upper_layer(model: str) -> int:
    """The first layer that members adapt."""
    from transformers import AutoConfig

    from heedful.model.base import resolve as resolve_model

    num_layers: int = AutoConfig.from_pretrained(resolve_model(model)[0]).num_hidden_layers
    first, _ = RewardConfig.model_validate({"data": "-", "ensemble": {"members": 4}}).span(
        num_layers
    )
    return first


def fit(arm: str, snapshot: str, model: str, seed: int, overrides: list[str]) -> dict[str, object]:
    """One fit in this process; seconds are those of the steps and of the probe before them."""
    own = list(ARMS[arm])
    if arm == "one_upper":
        own.append(f"adapter.first_layer={upper_layer(model)}")
    flags = {"data": snapshot, "model": model, "seed": seed}
    config = resolve(RewardConfig, overrides=["held_out_share=0", *own, *overrides], flags=flags)
    with tempfile.TemporaryDirectory() as scratch:
        started, cpu = time.perf_counter(), time.process_time()
        fitted = fit_reward(config, Path(scratch) / "run")
        wall, cpu = time.perf_counter() - started, time.process_time() - cpu
        rows = RunDirectory.read_metrics(Path(scratch) / "run")
    phases = ("stem", "update", "optimiser", "data")
    return {
        "arm": arm,
        "model": model,
        "seed": seed,
        "overrides": [*own, *overrides],
        "num_train": fitted.metrics["num_train"],
        "fit_seconds": fitted.metrics["seconds"],
        "whole_seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "phase_seconds": {
            name: round(sum(row.get(f"profile/{name}_seconds", 0.0) for row in rows), 2)
            for name in phases
        },
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }


def summary(rows: list[dict[str, float]], arms: list[str]) -> str:
    """Medians of every arm over those of ``one``."""
    names = ("fit_seconds", "whole_seconds", "peak_memory_gb")
    median = {
        arm: [statistics.median(row[name] for row in rows if row["arm"] == arm) for name in names]
        for arm in arms
    }
    lines = []
    for arm in arms:
        fit, whole, memory = (a / b for a, b in zip(median[arm], median["one"], strict=True))
        lines.append(
            f"{arm:10} {fit:.2f} times the seconds of the fit of one, {whole:.2f} times those of "
            f"the whole run, {memory:.2f} times the memory"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse, and append one row per run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=testing.NAME, help="file of hh, or 'test'")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--model", default="smollm2", help="'test' tries the runner in a minute")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(DEFAULT_ARMS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--note", default="alone", help="what else the machine did")
    parser.add_argument("--fit", nargs=2, metavar=("ARM", "SNAPSHOT"), help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help="of every fit, for example adapter.depth=15")
    given = parser.parse_intermixed_args()
    if given.fit:
        row = fit(*given.fit, given.model, given.seed, given.overrides)
        print(json.dumps(row))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        snapshot = freeze(pairs(given.data, given.pairs), "preference", Path(scratch)).path
        for number in range(given.repeats):
            # the order turns round, so that a machine that warms up favours nobody
            for arm in given.arms if number % 2 == 0 else given.arms[::-1]:
                command = [sys.executable, __file__, "--model", given.model, "--seed",
                           str(given.seed), "--fit", arm, snapshot, *given.overrides]  # fmt: skip
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                row = json.loads(done.stdout.splitlines()[-1])
                row |= {"data": Path(given.data).name, "repeat": number, "note": given.note}
                rows.append(row)
                with (given.out / "ensemble.jsonl").open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
                print(row, flush=True)
    if "one" in given.arms:
        print(summary(rows, given.arms))


if __name__ == "__main__":
    main()
