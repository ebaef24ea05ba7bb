"""``heedful bench``."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from heedful.cli.options import JsonOption, show


def read_limits(path: Path, known: Iterable[str]) -> dict[str, dict[str, float]]:
    """The limits of a JSON file; refuses what would never be compared."""
    from heedful.errors import ConfigError
    from heedful.registry import nearest

    try:
        limits: dict[str, dict[str, float]] = json.loads(path.read_text())
        names = {name: set(values) for name, values in limits.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"limits file {path} cannot be read: {error}; write for example "
            '{"dpo": {"speed_ratio": 3, "peak_gb": 3}}'
        ) from None
    for name, keys in names.items():
        if name not in known:
            raise ConfigError(f"limits file {path}: no workload {name!r}; {nearest(name, known)}")
        for key in keys - {"speed_ratio", "peak_gb"}:
            hint = nearest(key, ("speed_ratio", "peak_gb"))
            raise ConfigError(f"limits file {path}: {name} has no limit {key!r}; {hint}")
    return limits


def bench(
    workload: Annotated[
        str, typer.Option("--workload", help="ppo, grpo, dpo, reward, sft, generate or all.")
    ] = "all",
    against: Annotated[
        str | None, typer.Option("--against", help="trl: also time the peer, as a ratio.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="smollm2, test or a directory.")
    ] = "smollm2",
    dtype: Annotated[
        str, typer.Option("--dtype", help="auto (the faster here), float32 or bfloat16.")
    ] = "auto",
    data: Annotated[
        Path | None,
        typer.Option("--data", help="File of HH transcripts; without it texts are made up."),
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Fresh processes a side.")] = 3,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Measured steps a process.")] = 2,
    seed: Annotated[int, typer.Option("--seed", help="Chooses the examples.")] = 0,
    limits: Annotated[
        Path | None, typer.Option("--limits", help="JSON file; exit 1 when a row is worse.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Append the result here.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Time the workloads of training and sampling on this machine, also against TRL.

    Both sides take turns in fresh processes with the same prompts, sizes and dtype. Run nothing
    beside it.

    Example: heedful bench --workload dpo --against trl
    """
    from heedful.errors import ConfigError, MissingError
    from heedful.jobs.bench import WORKLOADS, Settings, run_bench, too_slow

    names = tuple(WORKLOADS) if workload == "all" else (workload,)
    for path in (data, limits):
        if path is not None and not path.is_file():
            raise MissingError(f"file {path} does not exist; give an existing file")
    if dtype not in ("auto", "float32", "bfloat16"):
        raise ConfigError(f"--dtype is {dtype!r}; choose auto, float32 or bfloat16")
    allowed = read_limits(limits, WORKLOADS) if limits else {}
    if out is not None and not out.parent.is_dir():
        raise MissingError(f"directory {out.parent} does not exist; make it, or give another --out")
    settings = Settings(
        workloads=names,
        against=against,
        model=model,
        dtype=dtype,
        rounds=rounds,
        steps=steps,
        warmup=1,
        seed=seed,
        data=data,
    )
    try:
        result = run_bench(settings, say=lambda text: typer.echo(text, err=True))
    except KeyboardInterrupt:
        typer.echo("error: interrupted; nothing is kept of a benchmark: run it again", err=True)
        raise typer.Exit(130) from None
    if out is not None:
        with out.open("a") as stream:
            stream.write(json.dumps(result) + "\n")
    worse = too_slow(result["rows"], allowed)
    lines = (f"worse than its limit: {text}" for text in worse)
    show(result | {"worse": worse}, as_json, *lines)
    if worse:
        raise typer.Exit(1)
