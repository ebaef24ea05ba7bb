"""Run the demo for several golds and seeds, one process each, and write one row per run.

    python benchmarks/demo.py --golds kind concise plain concrete --seeds 0 1 2

Each finished run is appended to ``demo.jsonl`` at once; runs that are there already are skipped.
Nothing else should run on the machine when the seconds are to be believed.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path


def run(gold: str, seed: int, budget: str, scratch: Path) -> dict[str, object]:
    """One demo in a fresh process; returns its JSON result with the machine beside it."""
    out = scratch / f"{Path(gold).stem.replace(':', '-')}-{seed}"
    command = [sys.executable, "-m", "heedful", "demo", "--gold", gold, "--seed", str(seed)]
    command += ["--budget", budget, "--out", str(out), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    result.pop("report")
    return result | {
        "budget": budget,
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }


def main() -> None:
    """Parse, skip what is done, run the rest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golds", nargs="+", default=["kind", "concise", "plain", "concrete"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--budget", default="full")
    parser.add_argument("--note", default="alone", help="what else the machine did")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "demo.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {(row["gold"], row["seed"], row["budget"]) for row in rows}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in arguments.seeds:
            for gold in arguments.golds:
                name = f"{Path(gold.partition(':')[0]).stem}:{gold.partition(':')[2]}"
                if ((gold if ":" not in gold else name), seed, arguments.budget) in done:
                    continue
                row = run(gold, seed, arguments.budget, Path(scratch)) | {"note": arguments.note}
                with file.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
                print(gold, seed, row["win_rate"], row["win_rate_ci"], row["seconds"], flush=True)


if __name__ == "__main__":
    main()
