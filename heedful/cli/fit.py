"""``heedful fit sft | reward | preference | ppo | grpo``."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

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

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Train: SFT, reward model, direct preference, PPO, GRPO. Resumes where it was killed.",
)
DataOption = Annotated[
    str | None, typer.Option("--data", help="Data set in the store, snapshot file, or 'test'.")
]
SetsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        help="Data set in the store, snapshot file, or 'test'; may be given several times.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="smollm2, test, a directory, a run, or a registered model."),
]
ProfileOption = Annotated[
    bool,
    typer.Option("--profile", help="Show seconds, tokens and memory by phase; also in the report."),
]
RewardOption = Annotated[
    str | None,
    typer.Option("--reward", help="Reward run or model, classifier directory, or gold:NAME."),
]


def run(
    config_name: str,
    fit_name: str,
    *,
    out: Path,
    store: str,
    config: Path | None,
    overrides: list[str] | None,
    flags: dict[str, Any],
    as_json: bool,
    profile: bool,
    then: Callable[[Any, str], str],
) -> None:
    """Resolve the config, run the fit, print where it went and what to type next.

    ``then`` gets the resolved config and the run's directory.
    """
    from heedful import config as configs

    kind = getattr(configs, config_name)
    resolved = configs.resolve(kind, file=config, overrides=overrides or (), flags=flags)
    is_of_features = getattr(resolved, "backbone", None) == "features"
    fitted = "network of features" if is_of_features else resolved.model
    typer.echo(f"fit {fit_name}: {fitted} on {configs.listed(resolved.data)} -> {out}", err=True)

    from heedful.jobs import fit

    with opened(store) as opened_store:
        result = getattr(fit, f"fit_{fit_name}")(resolved, out, store=opened_store, profile=profile)
    metrics = {k: v for k, v in result.metrics.items() if k != "deltas"}
    show(
        {"model": result.model, "path": result.path, "run": result.run, **metrics}
        | ({"profile": result.profile} if profile else {}),
        as_json,
        *(
            line
            for name, value in metrics.items()
            if "_ci" not in name
            for line in lines_of(name, value, metrics)
        ),
        *(profile_lines(result.profile) if profile else ()),
        f"model  {result.model}",
        f"path   {result.path}",
        f"report {Path(result.run) / 'report.html'}",
        f"next   {then(resolved, shlex.quote(result.run))}{in_store(store)}",
    )


def evaluated_by_its_reward(used: Any, path: str) -> str:
    """What follows PPO and GRPO."""
    reward = f"--reward {shlex.quote(used.reward)}"
    return f"heedful evaluate --data HELD_OUT --model {path} {reward} --out runs/evaluate"


def lines_of(name: str, value: Any, metrics: dict[str, Any]) -> list[str]:
    """One metric, or the figures of every part of a reward, or of every data set."""
    if name == "datasets":
        return [line for one, figures in value.items() for line in set_lines(one, figures)]
    if name != "parts":
        return [line_of(name, value, metrics)]
    return [
        f"part {part}  "
        + ", ".join(line_of(key, one, figures) for key, one in figures.items() if "_ci" not in key)
        for part, figures in value.items()
    ]


def line_of(name: str, value: Any, metrics: dict[str, Any]) -> str:
    """One metric, with its interval where it has one."""
    if f"{name}_ci" in metrics:
        return f"{name}  {percent(value, metrics[f'{name}_ci'])}"
    return f"{name}  {spoken(value)}"


def spoken(value: Any) -> str:
    """A figure, or a few; what has many parts is left to the result."""
    if value is None or (isinstance(value, list | dict) and not value):
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict) and all(isinstance(one, int) for one in value.values()):
        return ", ".join(f"{num} {what}" for what, num in value.items())
    if isinstance(value, list) and all(isinstance(one, float) for one in value):
        return ", ".join(map(spoken, value))
    return f"{len(value)}, in result.json" if isinstance(value, list | dict) else str(value)


def set_lines(name: str, one: dict[str, Any]) -> list[str]:
    """What one of several data sets gave, and how well it is predicted."""
    drops = ", ".join(f"{num} {rule}" for rule, num in one["drops"].items())
    gave = f"{one['num_train']} judgements, {100 * one['weight_share']:.0f} % of the weight"
    right = "nothing held out that tells two answers apart"
    if "accuracy" in one:
        what = one.get("accuracy_is", "accuracy")
        right = f"held-out {what} {percent(one['accuracy'], one['accuracy_ci'])}"
    elif any({"accuracy", "concordance"} & set(part) for part in one.get("parts", {}).values()):
        right = "held-out figures of its parts in result.json"
    return [f"data {name}  {gave}; {right}" + (f"; dropped: {drops}" if drops else "")]


def profile_lines(profile: dict[str, Any]) -> list[str]:
    """The costs of the phases as a table."""
    rows = [("phase", "seconds", "share", "tokens", "tokens/s", "of peak", "peak GB")]
    for phase in profile["phases"]:
        rate, share, memory = (phase[k] for k in ("tokens_per_second", "share_of_peak", "peak_gb"))
        rows.append(
            (
                phase["phase"],
                f"{phase['seconds']:.1f}",
                f"{100 * phase['share']:.0f} %",
                f"{phase['tokens']}" if phase["tokens"] else "",
                f"{rate:.0f}" if rate else "",
                f"{100 * share:.0f} %" if share else "",
                f"{memory:.2f}" if memory else "",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if place == 0 else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


@app.command("sft")
def sft(
    out: OutOption,
    overrides: OverridesArgument = None,
    data: DataOption = None,
    model: ModelOption = None,
    config: ConfigOption = None,
    seed: SeedOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    profile: ProfileOption = False,
) -> None:
    """Imitate demonstrations, or the chosen side of preferences.

    Example: heedful fit sft --data hh-harmless-train --out runs/sft epochs=1
    """
    run(
        "SFTConfig",
        "sft",
        out=out,
        store=store,
        config=config,
        overrides=overrides,
        flags={"data": data, "model": model, "seed": seed},
        as_json=as_json,
        profile=profile,
        then=lambda used, path: (
            f"heedful fit preference --data {used.data} --model {path} --out runs/dpo"
        ),
    )


@app.command("reward")
def reward(
    out: OutOption,
    overrides: OverridesArgument = None,
    data: SetsOption = None,
    model: ModelOption = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            help="adapter: of the base; features: a network on features of the answer, in seconds. "
            "A rule needs no fit: its name gold:NAME is a reward.",
        ),
    ] = None,
    config: ConfigOption = None,
    seed: SeedOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    profile: ProfileOption = False,
) -> None:
    """Fit a reward model to feedback: pairs, ties, rankings, ratings and thumbs.

    Several --data are learned from together, each as heavily as loss.dataset_weights says.

    Example: heedful fit reward --data hh-harmless-train --out runs/reward loss.ties=davidson
    """
    run(
        "RewardConfig",
        "reward",
        out=out,
        store=store,
        config=config,
        overrides=overrides,
        flags={"data": data or None, "model": model, "backbone": backbone, "seed": seed},
        as_json=as_json,
        profile=profile,
        then=lambda used, path: (
            f"heedful fit ppo --data {used.datasets[0]} --reward {path} --out runs/ppo"
        ),
    )


@app.command("preference")
def preference(
    out: OutOption,
    overrides: OverridesArgument = None,
    data: DataOption = None,
    model: ModelOption = None,
    loss: Annotated[
        str | None, typer.Option("--loss", help="dpo, cdpo, robust_dpo, hinge or ipo.")
    ] = None,
    config: ConfigOption = None,
    seed: SeedOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    profile: ProfileOption = False,
) -> None:
    """Optimise the policy on preferences directly, without a reward model.

    Example: heedful fit preference --loss dpo --data hh-harmless-train --out runs/dpo
    """
    run(
        "PreferenceConfig",
        "preference",
        out=out,
        store=store,
        config=config,
        overrides=overrides,
        flags={"data": data, "model": model, "loss": loss, "seed": seed},
        as_json=as_json,
        profile=profile,
        then=lambda _, path: f"heedful evaluate --data HELD_OUT --model {path} --out runs/evaluate",
    )


@app.command("ppo")
def ppo(
    out: OutOption,
    overrides: OverridesArgument = None,
    data: DataOption = None,
    model: ModelOption = None,
    reward: RewardOption = None,
    mix: MixOption = None,
    config: ConfigOption = None,
    seed: SeedOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    profile: ProfileOption = False,
) -> None:
    """Optimise the policy with PPO against a reward model, with a KL penalty.

    Example: heedful fit ppo --data hh-harmless-train --reward runs/reward --out runs/ppo
    """
    run(
        "PPOConfig",
        "ppo",
        out=out,
        store=store,
        config=config,
        overrides=overrides,
        flags={"data": data, "model": model, "reward": reward, "mix": mix, "seed": seed},
        as_json=as_json,
        profile=profile,
        then=evaluated_by_its_reward,
    )


@app.command("grpo")
def grpo(
    out: OutOption,
    overrides: OverridesArgument = None,
    data: DataOption = None,
    model: ModelOption = None,
    reward: RewardOption = None,
    mix: MixOption = None,
    config: ConfigOption = None,
    seed: SeedOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    profile: ProfileOption = False,
) -> None:
    """Optimise the policy with GRPO, Dr. GRPO or RLOO: no critic, groups of answers.

    Example: heedful fit grpo --data hh-harmless-train --reward runs/reward --out runs/grpo
    """
    run(
        "GRPOConfig",
        "grpo",
        out=out,
        store=store,
        config=config,
        overrides=overrides,
        flags={"data": data, "model": model, "reward": reward, "mix": mix, "seed": seed},
        as_json=as_json,
        profile=profile,
        then=evaluated_by_its_reward,
    )
