"""``heedful rank``: which tasks are worth asking next."""

from pathlib import Path
from typing import Annotated

import typer

from heedful.cli.options import DEFAULT_STORE, JsonOption, StoreOption, in_store, opened, show


def rank(
    project: Annotated[str, typer.Argument(help="A project of the studio.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="A reward model, a rule (gold:NAME) or a sequence classifier's directory; may be "
            "given several times.",
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            help="disagreement, bald, margin, d_optimal or by_slice; else the project's own.",
        ),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option("--card", help="For by_slice: a run of heedful evaluate reward."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Score the tasks of a project that nobody was given yet, by rewards.

    The project's strategy then begins tasks with the highest score first. Without --model, the
    reward models that were fitted to the project's answers are taken; by_slice reads the newest
    reward card of these, or --card, and puts tasks first in whose slice the model surely errs most.

    Example: heedful rank support --strategy d_optimal
    """
    from dataclasses import asdict

    from heedful.jobs.ranking import rank as run_rank

    with opened(store) as opened_store:
        result = run_rank(opened_store, project, strategy=strategy, names=model or (), card=card)
    lines = [
        f"project   {result.project}",
        f"scored    {result.num_tasks} tasks by {result.strategy} of "
        f"{result.card or ', '.join(result.models)}",
    ]
    if result.num_left_out:
        lines.append(
            f"left out  {result.num_left_out} tasks that a model cannot read, too long or refused "
            "by its template, or that show one answer; they come at random only"
        )
    show(asdict(result), as_json, *lines, f"next      heedful studio{in_store(store)}")
