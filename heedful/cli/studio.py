"""``heedful studio``: the pages where people give feedback."""

import socket
from datetime import timedelta
from typing import Annotated

import typer

from heedful.cli.options import DEFAULT_STORE, StoreOption, opened
from heedful.errors import ConfigError

LINK_VALID = timedelta(minutes=30)
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def studio(
    store: StoreOption = DEFAULT_STORE,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; loopback unless given.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8321,
    name: Annotated[
        str, typer.Option("--name", help="Who the printed link signs in; made as owner if new.")
    ] = "owner",
) -> None:
    """Serve the studio: projects, labelling and who may do what.

    Prints a link that signs you in once. Nothing is open to anybody else.

    Example: heedful studio --store heedful.db
    """
    import uvicorn

    from heedful.web.app import create_app
    from heedful.web.sign_in import make_link

    with listen(host, port) as listener, opened(store) as opened_store:
        secret = make_link(opened_store, name, valid=LINK_VALID)
        config = uvicorn.Config(create_app(opened_store), log_level="warning", access_log=False)
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}"
        typer.echo(f"studio  {address}")
        typer.echo(f"sign in {address}/sign-in/{secret}")
        typer.echo("        works once, for 30 minutes; Ctrl-C ends the studio", err=True)
        if host not in LOOPBACK:
            typer.echo(
                f"{host} can be reached from other machines and speaks plain HTTP: put a proxy "
                "with TLS in front of it",
                err=True,
            )
        uvicorn.Server(config).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A socket on the address; raises ``ConfigError`` when it cannot be had."""
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host} port {port} ({error.strerror}); choose another with --port"
        ) from error
