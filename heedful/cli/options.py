"""Options that several commands share, and how results are printed."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from heedful.data.formats.base import Drop
    from heedful.store import Store

StoreOption = Annotated[
    str,
    typer.Option("--store", envvar="HEEDFUL_STORE", help="SQLite file or database URL."),
]
DEFAULT_STORE = "heedful.db"
JsonOption = Annotated[
    bool, typer.Option("--json", help="End with one JSON object on the last line of stdout.")
]
OutOption = Annotated[Path, typer.Option("--out", help="Run directory; made if needed.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="TOML file; flags and overrides win over it.")
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Dotted overrides, for example optimiser.learning_rate=1e-4."
    ),
]
MixOption = Annotated[
    str | None,
    typer.Option(
        "--mix", help="Weights of the reward's parts: helpful=2,polite=0.5,bias=1,unsafe>0.5."
    ),
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")]

ShowDroppedOption = Annotated[
    bool, typer.Option("--show-dropped", help="List the rows that were left out, and why.")
]


def in_store(url: str) -> str:
    """The option that names the store again in a command to type next, if it needs one."""
    return "" if url == DEFAULT_STORE else f" --store {shlex.quote(url)}"


@contextmanager
def opened(url: str) -> Iterator["Store"]:
    """The store for the time of a command."""
    from heedful.store import open_store

    with open_store(url) as store:
        yield store


def show(result: Mapping[str, Any], as_json: bool, *lines: str) -> None:
    """Human lines, or with ``--json`` the result as the last line."""
    if not as_json:
        for line in lines:
            typer.echo(line)
        return
    for line in lines:
        typer.echo(line, err=True)
    typer.echo(json.dumps(dict(result)))


def dropped(rules: Mapping[str, int], drops: Sequence["Drop"], *, listed: bool) -> list[str]:
    """Rows that were left out, counted by rule; ``listed``: those that are known, one by one."""
    lines = [f"  {rule}  {count}" for rule, count in sorted(rules.items())]
    if listed:
        lines += [f"{one.file}:{one.line}  {one.rule}  {one.detail}" for one in drops]
        if more := sum(rules.values()) - len(drops):
            lines.append(f"and {more} more")
    return lines


def percent(value: float, interval: tuple[float, float] | list[float]) -> str:
    """``71.2 % (95 % interval 66.0 to 75.9)``."""
    low, high = interval
    return f"{100 * value:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f})"
