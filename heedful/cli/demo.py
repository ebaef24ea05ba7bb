"""``heedful demo``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from heedful.cli.options import JsonOption


class Budget(StrEnum):
    """How much work the demo does."""

    small = "small"
    full = "full"


def demo(
    model: Annotated[
        str, typer.Option("--model", help="smollm2, test, a directory, or a hub name.")
    ] = "smollm2",
    gold: Annotated[
        str, typer.Option("--gold", help="What the simulated people prefer: NAME or FILE.py:FUNC.")
    ] = "kind",
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random.")] = 0,
    out: Annotated[Path, typer.Option("--out", help="Where everything goes.")] = Path(
        "heedful-demo"
    ),
    budget: Annotated[
        Budget, typer.Option("--budget", help="small does about a third of the work.")
    ] = Budget.full,
    human: Annotated[
        bool, typer.Option("--human", help="You compare the answers, in the browser.")
    ] = False,
    answers: Annotated[
        int, typer.Option("--answers", help="With --human: answers that begin training.")
    ] = 100,
    as_json: JsonOption = False,
) -> None:
    """Preferences in, a better policy out: the whole chain, on this machine.

    Samples pairs, lets simulated annotators compare them, fits a reward model, optimises the
    policy with PPO, evaluates blind, and writes report.html. Run it again to resume or to see the
    result again. With --human the annotators are you and whoever you invite: a page opens for
    labelling, and training begins when enough answers are in or when you say so.

    Example: heedful demo --gold concise --out demo-concise
    """
    from heedful.config import DemoConfig
    from heedful.jobs.demo import run_demo

    config = DemoConfig(model=model, gold=gold, seed=seed, budget=budget.value, human=human)
    run_demo(
        config,
        out,
        say=lambda line: typer.echo(line, err=as_json),
        as_json=as_json,
        wanted=answers,
    )
