"""``heedful bench``: both sides of a workload in fresh processes, turn by turn, as ratios."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
import transformers

from heedful.errors import ConfigError, HeedfulError, MissingError
from heedful.jobs.bench.work import WORKLOADS, Job, Workload, make_job
from heedful.model.base import cache_directory, resolve
from heedful.model.device import default_device, default_dtype
from heedful.types import JSON

PEERS = Path(__file__).parents[3] / "benchmarks" / "peers"
ADAPTERS = ("lora", "full")
Say = Callable[[str], None]


class SideError(HeedfulError):
    """One side of a benchmark failed; its own last words are in the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another program that does the same job.

    ``packages`` go into an environment of its own; without any it runs in ours.
    """

    name: str
    script: str
    packages: tuple[str, ...]
    adapters: tuple[str, ...]


def peer_of(workload: str) -> Peer:
    """Who does this workload besides us: ``generate`` of transformers, or a version of TRL."""
    if workload == "generate":
        return Peer(name="generate", script="generate_side.py", packages=(), adapters=("none",))
    version = "1.9.0" if workload == "ppo" else "1.16.0"  # the last line that has PPO, and today's
    return Peer(
        name=f"trl-{version}",
        script="trl_side.py",
        packages=(f"transformers=={transformers.__version__}", f"trl=={version}", "peft"),
        adapters=ADAPTERS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a benchmark is run; ``data`` is a file of HH transcripts or None for made-up texts."""

    workloads: tuple[str, ...]
    against: str | None
    model: str
    dtype: str
    rounds: int
    steps: int
    warmup: int
    seed: int
    data: Path | None


def run_bench(settings: Settings, *, say: Say) -> dict[str, JSON]:
    """Run the workloads one after the other; medians over all steps of all rounds."""
    from transformers import AutoTokenizer

    if settings.against not in (None, "trl"):
        raise ConfigError(f"--against {settings.against!r} is unknown; choose trl, or leave it out")
    works = [WORKLOADS[name] for name in settings.workloads]
    path, _ = resolve(settings.model)
    dtype = settings.dtype
    if dtype == "auto":
        dtype = str(default_dtype(default_device())).removeprefix("torch.")
    tokenizer = AutoTokenizer.from_pretrained(path)
    pythons: dict[str, Path] = {}
    if settings.against:
        for work in works:
            peer = peer_of(work.name)
            pythons[peer.name] = pythons.get(peer.name) or environment(peer, say)
    rows = []
    for work in works:

        def job(adapter: str, turn: int, work: Workload = work) -> Job:
            return make_job(
                work,
                model=str(path),
                tokenizer=tokenizer,
                dtype=dtype,
                adapter=adapter,
                seed=settings.seed + turn,
                steps=settings.steps,
                warmup=settings.warmup,
                data=settings.data,
            )

        python = pythons.get(peer_of(work.name).name)
        row = compare(work, job, python, settings.rounds, say)
        rows.append(row)
        say(line_of(row))
    return {
        "rows": rows,
        "model": settings.model,
        "dtype": dtype,
        "rounds": settings.rounds,
        "steps": settings.steps,
        "data": settings.data.name if settings.data else "made-up texts",
        "machine": machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": date.today().isoformat(),
    }


def compare(
    work: Workload,
    job: Callable[[str, int], Job],
    python: Path | None,
    rounds: int,
    say: Say,
) -> dict[str, JSON]:
    """One workload: in every round we and then each setting of the peer, in fresh processes."""
    peer = peer_of(work.name)
    own = [sys.executable, "-m", "heedful.jobs.bench.side"]
    ours: list[dict[str, Any]] = []
    theirs: dict[str, list[dict[str, Any]]] = {}
    for turn in range(rounds):
        say(f"{work.name}: round {turn + 1} of {rounds}, heedful")
        ours.append(one_process(own, asdict(job("lora", turn))))
        for adapter in peer.adapters if python else ():
            say(f"{work.name}: round {turn + 1} of {rounds}, {peer.name} {adapter}")
            command = [str(python), str(PEERS / peer.script)]
            theirs.setdefault(adapter, []).append(one_process(command, asdict(job(adapter, turn))))
    row: dict[str, JSON] = {"workload": work.name, "step": work.step, "ours": side_of(ours)}
    if theirs:
        sides = {adapter: side_of(results) for adapter, results in theirs.items()}
        best = min(sides, key=lambda adapter: sides[adapter]["median_seconds"])
        row |= {
            "peers": sides,
            "best_setting": best,
            "speed_ratio": sides[best]["median_seconds"] / row["ours"]["median_seconds"],
            "speed_ratio_by_round": [
                statistics.median(b["seconds"]) / statistics.median(a["seconds"])
                for a, b in zip(ours, theirs[best], strict=True)
            ],
            "memory_ratio": min(side["peak_gb"] for side in sides.values())
            / row["ours"]["peak_gb"],
        }
    return row


def one_process(command: Sequence[str], job: Mapping[str, Any]) -> Any:
    """Run a side on a job in a process of its own; raises ``SideError`` with its last line."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "job.json"
        path.write_text(json.dumps(job))
        quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(  # noqa: S603 - our own scripts
            [*command, str(path)],
            env=os.environ | quiet,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word on stderr"])[-1]
        raise SideError(f"{command[-1]} failed on workload {job['workload']}: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def side_of(results: Sequence[dict[str, Any]]) -> dict[str, JSON]:
    """One side's rounds together."""
    seconds = sorted(second for result in results for second in result["seconds"])
    extra = {k: v for k, v in results[-1].items() if k not in ("seconds", "peak_gb", "version")}
    return {
        "version": results[-1]["version"],
        "median_seconds": statistics.median(seconds),
        "seconds": [round(second, 3) for second in seconds],
        "peak_gb": max(result["peak_gb"] for result in results),
        **extra,
    }


def environment(peer: Peer, say: Say) -> Path:
    """The Python of the peer's own environment, made at first use with our torch's version."""
    if not (PEERS / peer.script).is_file():
        raise MissingError(
            f"{peer.script} is not there; comparisons need a source checkout, with benchmarks/peers"
        )
    if not peer.packages:
        return Path(sys.executable)
    home = cache_directory() / "peers" / peer.name
    python = home / "bin" / "python"
    if (home / "complete").exists():
        return python
    say(f"making an environment for {peer.name} in {home}")
    venv.create(home, with_pip=True, clear=True)
    packages = [f"torch=={torch.__version__.partition('+')[0]}", *peer.packages]
    for package in (packages[:1], packages[1:]):  # torch first: it decides what the rest may bring
        done = subprocess.run(  # noqa: S603 - pip, with names from this file
            [str(python), "-m", "pip", "install", "--quiet", *package],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word from pip"])[-1]
            raise SideError(f"pip could not install {' '.join(package)}: {last}")
    (home / "complete").touch()
    return python


def line_of(row: dict[str, Any]) -> str:
    """One workload in one line."""
    ours = row["ours"]
    text = f"{row['workload']:<9} heedful {ours['median_seconds']:.2f} s, {ours['peak_gb']:.1f} GB"
    for adapter, side in row.get("peers", {}).items():
        text += f"; {side['version']} {adapter} {side['median_seconds']:.2f} s"
        text += f", {side['peak_gb']:.1f} GB"
    if "speed_ratio" in row:
        low, high = min(row["speed_ratio_by_round"]), max(row["speed_ratio_by_round"])
        text += f"; {row['speed_ratio']:.2f} times as fast ({low:.2f} to {high:.2f} by round)"
    return text


def too_slow(rows: Sequence[dict[str, Any]], limits: dict[str, dict[str, float]]) -> list[str]:
    """What is worse than its limit: ``speed_ratio`` at least, ``peak_gb`` at most."""
    found = []
    for row in rows:
        limit = limits.get(row["workload"], {})
        ratio, memory = row.get("speed_ratio"), row["ours"]["peak_gb"]
        if ratio is not None and ratio < limit.get("speed_ratio", 0.0):
            found.append(
                f"{row['workload']} is {ratio:.2f} times as fast as the peer, the limit is "
                f"{limit['speed_ratio']:g}"
            )
        if memory > limit.get("peak_gb", float("inf")):
            found.append(
                f"{row['workload']} takes {memory:.2f} GB, the limit is {limit['peak_gb']:g}"
            )
    return found


def machine() -> str:
    """Cores and processor, or the GPU's name."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    known = [name for name in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if name in flags]
    return f"{os.cpu_count()} cores, {platform.machine()}, {known[0] if known else 'no AVX'}"
