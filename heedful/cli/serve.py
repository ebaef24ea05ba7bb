"""``heedful serve``: models for other programs to ask."""

import os
from typing import Annotated

import typer

from heedful.cli.options import DEFAULT_STORE, JsonOption, MixOption, StoreOption, opened, show
from heedful.cli.studio import LOOPBACK
from heedful.errors import ConfigError

TOKEN = "HEEDFUL_TOKEN"  # noqa: S105 - the name of the variable that has it
MIN_TOKEN = 16  # characters
LEAVE_SECONDS = 5  # for requests that are being answered when the service ends
app = typer.Typer(no_args_is_help=True, help="Answer other programs over HTTP.")


@app.callback()
def serve() -> None:
    """Answer other programs over HTTP."""


@app.command("reward")
def serve_reward(
    model: Annotated[
        str,
        typer.Argument(help="Reward run, registered model, classifier directory, or gold:NAME."),
    ],
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; loopback unless given.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8322,
    mix: MixOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Give rewards to trainers: OpenRLHF, verl, or anything that posts JSON. Ctrl-C ends it.

    Beyond this machine every request needs the token in the variable HEEDFUL_TOKEN.

    Example: heedful serve reward runs/reward
    """
    token = read_token(host)

    from heedful.jobs.rewards import check_reward, open_reward
    from heedful.jobs.serving import RewardWorker
    from heedful.web.reward_service import create_service
    from heedful.web.serving import address_of, listen, server

    with opened(store) as opened_store:
        check_reward(model, opened_store, mix)
        with listen(host, port) as listener:
            typer.echo(f"load {model}", err=True)
            with RewardWorker(open_reward(model, opened_store, mix=mix)) as worker:
                address = address_of(listener)
                lines = [
                    f"reward    {address}",
                    f"openrlhf  --reward.remote_url {address}/get_reward",
                    f"verl      {address}/classify",
                    f"token     {'needed: ' + TOKEN if token else 'none; this machine only'}",
                ]
                summary = {"address": address, "model": model, "token": token is not None}
                show(summary, as_json, *lines)
                if host not in LOOPBACK:
                    typer.echo(
                        f"{host} can be reached from other machines and speaks plain HTTP: put a "
                        "proxy with TLS in front of it",
                        err=True,
                    )
                serving = server(create_service(worker, token=token))
                serving.config.timeout_graceful_shutdown = LEAVE_SECONDS
                serving.run(sockets=[listener])


def read_token(host: str) -> str | None:
    """The token of the environment; raises ``ConfigError`` beyond loopback without one."""
    token = os.environ.get(TOKEN) or None
    if token is None and host not in LOOPBACK:
        raise ConfigError(
            f"{host} can be reached from other machines and {TOKEN} is not set; set it to a secret "
            f"of at least {MIN_TOKEN} characters, or listen on 127.0.0.1"
        )
    if token is not None and len(token) < MIN_TOKEN:
        raise ConfigError(
            f"{TOKEN} has {len(token)} characters; give at least {MIN_TOKEN}, for example out of "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return token
