"""``heedful ask``: candidates for people to judge."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from heedful.cli.options import DEFAULT_STORE, JsonOption, StoreOption, in_store, opened, show


def ask(
    project: Annotated[str, typer.Argument(help="Name of the project; made if it is new.")],
    prompts: Annotated[
        str, typer.Option("--prompts", help="JSON Lines with a 'prompt', or a data set's name.")
    ],
    models: Annotated[
        str, typer.Option("--models", help="Models that answer, separated by commas.")
    ] = "smollm2",
    form: Annotated[str, typer.Option("--form", help="What people are asked.")] = "pairwise",
    samples: Annotated[
        int | None,
        typer.Option("--samples", min=1, max=9, help="Answers of each model; enough for the form."),
    ] = None,
    criteria: Annotated[
        str, typer.Option("--criteria", help="What a rating rates: helpful,honest,harmless.")
    ] = "",
    overlap: Annotated[
        int, typer.Option("--overlap", min=1, help="How many people answer each task.")
    ] = 1,
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy",
            help="Which task a new project begins next: random, disagreement, bald, margin, "
            "d_optimal, by_slice.",
        ),
    ] = "random",
    qualify_with: Annotated[
        int, typer.Option("--qualify-with", min=0, help="Known answers that people give first.")
    ] = 0,
    qualify_at: Annotated[
        float, typer.Option("--qualify-at", min=0.5, max=1, help="Share of them to hit.")
    ] = 0.8,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1)] = 128,
    temperature: Annotated[float, typer.Option("--temperature", min=0.01)] = 0.8,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Sample answers to prompts and queue them for people to judge in the studio.

    Asking the same again adds nothing; a project that is there keeps its settings.

    Example: heedful ask support --prompts test --models test --form pairwise
    """
    from dataclasses import asdict

    from heedful.forms import FORMS
    from heedful.jobs.asking import Sampling, read_prompts
    from heedful.jobs.asking import ask as run_ask
    from heedful.types import Project

    names = tuple(name.strip() for name in models.split(",") if name.strip())
    fewest, _ = FORMS[form].num_completions
    sampling = Sampling(
        num_samples=samples or -(-fewest // max(1, len(names))),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
    )
    with opened(store) as opened_store, tempfile.TemporaryDirectory() as scratch:
        read = read_prompts(opened_store, prompts, Path(scratch))
        made = Project(
            dataset=project,
            title=project,
            form=form,
            overlap=overlap,
            criteria=tuple(one.strip() for one in criteria.split(",") if one.strip()),
            strategy=strategy,
            qualify_with=qualify_with,
            qualify_at=qualify_at,
        )
        result = run_ask(opened_store, made, read.prompts, names, sampling)
    show(
        asdict(result) | {"dropped": dict(read.drops)},
        as_json,
        f"project {result.project}: {result.num_tasks} new tasks from {result.num_prompts} prompts "
        f"and {result.num_completions} answers",
        *(f"dropped  {num} rows of {prompts}: {rule}" for rule, num in read.drops.items()),
        f"next   heedful {'studio' if strategy == 'random' else f'rank {result.project}'}"
        f"{in_store(store)}",
    )
