"""``heedful evaluate``."""

from typing import Annotated

import typer

from heedful.cli.options import (
    DEFAULT_STORE,
    ConfigOption,
    JsonOption,
    OutOption,
    OverridesArgument,
    SeedOption,
    StoreOption,
    opened,
    percent,
    show,
)


def evaluate(
    out: OutOption,
    overrides: OverridesArgument = None,
    data: Annotated[str | None, typer.Option("--data", help="Held-out data set.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Run or registered model.")] = None,
    reward: Annotated[
        str | None, typer.Option("--reward", help="Reward model that judges or picks best-of-n.")
    ] = None,
    gold: Annotated[str | None, typer.Option("--gold", help="Gold NAME or FILE.py:FUNCTION.")] = (
        None
    ),
    config: ConfigOption = None,
    seed: SeedOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Compare a policy with its start on held-out prompts, or measure a reward model on pairs.

    Example: heedful evaluate --data hh-harmless-dev --model runs/reward --out runs/eval
    """
    from heedful.config import EvaluateConfig, resolve

    flags = {"data": data, "model": model, "reward": reward, "gold": gold, "seed": seed}
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
        lines += [f"ece  {result['ece']:.3f}", f"pairs  {result['num_held_out']}"]
    show(summary | {"run": str(out)}, as_json, *lines, f"result {out / 'result.json'}")
