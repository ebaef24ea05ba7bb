"""``heedful quality``: how good the feedback of a project is."""

from typing import Annotated, Any

import typer

from heedful.cli.options import DEFAULT_STORE, JsonOption, StoreOption, opened, show


def quality(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Compute agreement, skill, patterns and the leaderboard of a project, and keep them.

    The studio's pages show what is kept. Who stands out is flagged on intervals alone.

    Example: heedful quality support
    """
    from heedful.jobs.quality import compute
    from heedful.store.summaries import KINDS

    with opened(store) as opened_store:
        found: dict[str, dict[str, Any]] = {
            kind: dict(compute(opened_store, project, kind).data) for kind in KINDS
        }
    show(found, as_json, *lines(found))


def lines(found: dict[str, dict[str, Any]]) -> list[str]:
    """The main figures in words."""
    quality, patterns = found["quality"], found["patterns"]
    if not quality["num_answers"]:
        return ["nobody has answered yet; heedful studio shows people what is asked"]
    said = [
        f"{quality['num_answers']} answers of {quality['num_people']} people to "
        f"{quality['num_tasks']} tasks"
    ]
    said += [f"{row['name']:<34}{spoken(row['interval'])}" for row in quality["agreement"]]
    if quality["pace"]:
        said.append(f"{'seconds an item, median':<34}{spoken(quality['pace'], '.1f')}")
    if quality["side"]:
        said.append(f"{'share of left':<34}{spoken(quality['side'])}")
    said += [f"{row['name']}: {flag}" for row in quality["people"] for flag in row["flags"]] or [
        "nobody stands out beyond doubt"
    ]
    said += [
        f"preferred answers: {row['feature']:<22}{spoken(row['more'])} have more"
        for row in patterns["features"]
        if row["adjusted"] is not None and row["adjusted"] < 0.05
    ]
    if patterns["network"]:
        said.append(f"{'feature network, held-out':<34}{spoken(patterns['network']['accuracy'])}")
    said += [
        f"{row['rank'] or '-':>3}  {row['name']:<29}{spoken(row['rating'], '.0f')}"
        for ranking in found["leaderboard"]["rankings"][:1]
        for row in ranking["rows"]
    ]
    return said + [note for part in found.values() for note in part["notes"]]


def spoken(interval: dict[str, Any], form: str = ".3f") -> str:
    """``0.712 (0.660 to 0.759)``; a dash for what is unknown."""
    value, low, high = (
        "\N{EN DASH}" if interval[key] is None else format(interval[key], form)
        for key in ("value", "low", "high")
    )
    return f"{value} ({low} to {high})"
