"""``heedful studio``: the pages where people give feedback."""

from contextlib import suppress
from datetime import timedelta
from typing import Annotated

import typer

from heedful.cli.options import DEFAULT_STORE, StoreOption, opened

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
    from heedful.web.app import create_app
    from heedful.web.serving import address_of, listen, server
    from heedful.web.sign_in import make_link

    with listen(host, port) as listener, opened(store) as opened_store:
        secret = make_link(opened_store, name, valid=LINK_VALID)
        address = address_of(listener)
        typer.echo(f"studio  {address}")
        typer.echo(f"sign in {address}/sign-in/{secret}")
        typer.echo("        works once, for 30 minutes; Ctrl-C ends the studio", err=True)
        if host not in LOOPBACK:
            typer.echo(
                f"{host} can be reached from other machines and speaks plain HTTP: put a proxy "
                "with TLS in front of it",
                err=True,
            )
        with suppress(KeyboardInterrupt):  # which is how it ends
            server(create_app(opened_store)).run(sockets=[listener])
