"""``heedful evaluate`` and ``heedful evaluate reward``."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from heedful.cli.options import (
    DEFAULT_STORE,
    ConfigOption,
    JsonOption,
    MixOption,
    OutOption,
    OverridesArgument,
    SeedOption,
    StoreOption,
    in_store,
    opened,
    percent,
    show,
)

if TYPE_CHECKING:
    from heedful.config import RewardCardConfig

DEFAULT = "policy"


class WithDefault(TyperGroup):
    """A group that runs ``policy`` when the first word is none of its commands."""

    def with_default(self, arguments: list[str]) -> list[str]:
        """The arguments with the command named."""
        if arguments and (arguments[0] in self.commands or arguments[0] == "--help"):
            return arguments
        return [DEFAULT, *arguments]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what ``with_default`` says."""
        return super().parse_args(ctx, self.with_default(args))


app = typer.Typer(
    cls=WithDefault,
    rich_markup_mode=None,
    help="Measure: a policy against its start (also without the word policy), or a reward's card.",
)


@app.command(DEFAULT)
def evaluate(
    out: OutOption,
    overrides: OverridesArgument = None,
    data: Annotated[str | None, typer.Option("--data", help="Held-out data set.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Run or registered model.")] = None,
    reward: Annotated[
        str | None, typer.Option("--reward", help="Reward model that judges or picks best-of-n.")
    ] = None,
    mix: MixOption = None,
    gold: Annotated[str | None, typer.Option("--gold", help="Gold NAME or FILE.py:FUNCTION.")] = (
        None
    ),
    config: ConfigOption = None,
    seed: SeedOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Compare a policy with its start on held-out prompts, or count a reward model's right pairs.

    The word 'policy' may be left out.

    Example: heedful evaluate policy --data hh-dev --model runs/ppo --gold kind --out runs/e
    """
    from heedful.config import EvaluateConfig, resolve

    flags = {"data": data, "model": model, "reward": reward, "gold": gold, "seed": seed}
    flags["mix"] = mix
    resolved = resolve(EvaluateConfig, file=config, overrides=overrides or (), flags=flags)
    typer.echo(f"evaluate {resolved.model} on {resolved.data} -> {out}", err=True)

    from heedful.jobs.evaluate import evaluate as run

    with opened(store) as opened_store:
        result = run(resolved, out, store=opened_store)
    claim = "win_rate" if "win_rate" in result else "accuracy"
    summary = {k: v for k, v in result.items() if k not in ("samples", "deltas")}
    lines = [f"{claim}  {percent(result[claim], result[f'{claim}_ci'])}"]
    if claim == "win_rate":
        lines += [f"kl  {result['kl']:.2f} nats", f"length ratio  {result['length_ratio']:.2f}"]
    else:
        lines += [f"ece  {result['ece']:.3f}"] if "ece" in result else []
        lines.append(f"{counted(result)}  {result['num_held_out']}")
    show(summary | {"run": str(out)}, as_json, *lines, f"result {out / 'result.json'}")


@app.command("reward")
def reward(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Reward run, registered model, classifier directory, or a judge's model name.",
        ),
    ],
    overrides: OverridesArgument = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Data set in the store, snapshot, file (--format) or 'test'."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option("--format", help="How the file is written, such as hh; it is not imported."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run directory; runs/card-MODEL-DATA otherwise.")
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option("--beta", help="Measure a policy as the reward that it implies."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option("--judge", help="OpenAI-compatible endpoint at which MODEL judges."),
    ] = None,
    ask: Annotated[
        str | None, typer.Option("--ask", help="A judge's question: choice (both orders) or score.")
    ] = None,
    mix: MixOption = None,
    config: ConfigOption = None,
    seed: SeedOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Write the card of a reward: accuracy beside people, calibration, slices, length, mistakes.

    Ratings, thumbs and flags without pairs have a card of rank correlations and orders.

    The model may also be a sequence classifier of transformers in a directory, or with --judge one
    behind an endpoint, whose key is read from HEEDFUL_JUDGE_KEY (or as judge.key_from says).

    Example: heedful evaluate reward runs/reward --data hh-dev
    """
    from heedful.config import RewardCardConfig, resolve

    flags = {"model": model, "data": data, "format": format, "beta": beta, "seed": seed}
    asked = {"judge.url": judge, "judge.ask": ask}
    given = [*(overrides or ()), *(f"{key}={one}" for key, one in asked.items() if one is not None)]
    flags["mix"] = mix
    resolved = resolve(RewardCardConfig, file=config, overrides=given, flags=flags)
    target = out or default_out(resolved.model, resolved.data)
    typer.echo(f"evaluate reward {resolved.model} on {resolved.data} -> {target}", err=True)

    from heedful.jobs.reward_card import reward_card

    with opened(store) as opened_store:
        result = reward_card(resolved, target, store=opened_store)
    show(
        {k: v for k, v in result.items() if k != "card"} | {"run": str(target)},
        as_json,
        *card_lines(result),
        f"report {target / 'report.html'}",
        f"result {target / 'result.json'}",
        *(f"{step}{in_store(store)}" for step in next_step(resolved, result)),
    )


def next_step(config: "RewardCardConfig", result: Mapping[str, Any]) -> list[str]:
    """What to type next: only a reward that beats a coin is worth a policy; a judge is none."""
    if config.judge.url is not None or config.beta is not None or result["accuracy_ci"][0] <= 0.5:
        return []
    reward = shlex.quote(config.model)
    return [f"next   heedful fit ppo --reward {reward} --data PROMPTS --out runs/ppo"]


def default_out(model: str, data: str) -> Path:
    """``runs/card-reward-hh-dev`` for ``runs/reward`` and ``hh-dev.jsonl.gz``."""
    path = Path(model)
    name = path.parent.name if path.name == "model" else path.name
    name = name.replace(":", "-")  # of a rule
    return Path("runs") / f"card-{name}-{Path(data).name.partition('.')[0]}"


def counted(result: Mapping[str, Any]) -> str:
    """What the accuracy of a result is counted over."""
    return "judgements" if "accuracy_is" in result else "pairs"


def card_lines(result: dict[str, Any]) -> list[str]:
    """The main figures and the warnings, one a line."""
    names = {
        "accuracy": "accuracy",
        "mean_of_subsets": "mean of subsets",
        "length_matched_accuracy": "length-matched",
        "human_accuracy": "a person",
        "style_share": "style foretells",
    }
    if "accuracy_is" in result:
        del names["accuracy"]
    names |= {
        name: f"order of {scale.replace('flags_of_', 'flags of ')}"
        for name in result
        if (scale := name.removeprefix("concordance_")) != name and not name.endswith("_ci")
    }
    lines = [
        f"{label}  {percent(result[name], result[f'{name}_ci'])}"
        for name, label in names.items()
        if name in result and None not in (result[name], *result[f"{name}_ci"])
    ]
    lines += [
        f"{kind} with {name.removeprefix(prefix)}  {result[name]:.2f}"
        for prefix, kind in (("spearman_", "Spearman"), ("kendall_", "Kendall"))
        for name in result
        if name.startswith(prefix) and not name.endswith("_ci") and result[name] is not None
    ]
    if "ece" in result:
        lines.append(f"ece  {result['ece']:.3f}")
    if "temperature" in result:
        lines.append(f"ece at temperature {result['temperature']:.2f}  {result['ece_scaled']:.3f}")
    lines.append(f"{counted(result)}  {result['num_held_out']}")
    return lines + [f"{one['level']}  {one['cause']} {one['remedy']}" for one in result["warnings"]]
