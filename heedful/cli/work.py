"""``heedful work`` and ``heedful up``: the worker, alone and beside the studio."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from heedful.cli.options import DEFAULT_STORE, StoreOption, opened
from heedful.errors import ConfigError

RunsOption = Annotated[Path, typer.Option("--runs", help="Where the directories of runs go.")]
LINK_VALID = timedelta(minutes=30)
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before a worker that died is started again
GOOD_SECONDS = 60.0  # a worker that lived so long died of something new
STOP_SECONDS = 20.0


def work(
    store: StoreOption = DEFAULT_STORE,
    runs: RunsOption = Path("runs"),
    once: Annotated[
        bool, typer.Option("--once", help="End when no job is left instead of waiting for one.")
    ] = False,
    parent: Annotated[int | None, typer.Option("--parent", hidden=True)] = None,
) -> None:
    """Do the jobs that pages ask for: fits, evaluations, sampling. Ctrl-C gives its job back.

    Example: heedful work --store heedful.db --runs runs
    """
    from heedful.jobs.work import work as run

    # a shell starts what runs in the background without the first, and services send the second
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with opened(store) as opened_store:
        typer.echo(f"worker  {store} -> {runs}", err=True)

        def say(line: str) -> None:
            typer.echo(line, err=True)

        try:
            done = run(opened_store, runs, say=say, once=once, parent=parent)
        except KeyboardInterrupt:
            if parent is None:
                raise
            return  # the studio beside it ends it so
    typer.echo(f"{done} jobs done")


def up(
    store: StoreOption = DEFAULT_STORE,
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8321,
    runs: RunsOption = Path("runs"),
    name: Annotated[
        str, typer.Option("--name", help="Who the printed link signs in; made as owner if new.")
    ] = "owner",
) -> None:
    """The studio with a worker, on this machine alone; Ctrl-C ends both.

    Example: heedful up --store heedful.db
    """
    from heedful.web.app import create_app
    from heedful.web.serving import address_of, listen, server
    from heedful.web.sign_in import make_link

    if find_spec("torch") is None:
        raise ConfigError(
            "torch is not installed and the worker needs it; run: pip install 'heedful[train]', "
            "or start the pages alone: heedful studio"
        )
    with listen("127.0.0.1", port) as listener, opened(store) as opened_store:
        secret = make_link(opened_store, name, valid=LINK_VALID)
        typer.echo(f"studio  {address_of(listener)}")
        typer.echo(f"sign in {address_of(listener)}/sign-in/{secret}")
        typer.echo("        works once, for 30 minutes; Ctrl-C ends studio and worker", err=True)
        worker = Worker([sys.executable, "-m", "heedful", "work", "--store", store,
                         "--runs", str(runs), "--parent", str(os.getpid())])  # fmt: skip
        # The server raises the signal that ended it again; it must not end us before the worker.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with suppress(KeyboardInterrupt):  # which is how it ends, at any time from here
                worker.start()
                server(create_app(opened_store)).run(sockets=[listener])
        finally:
            worker.stop()


class Worker:
    """A worker process that is started again when it dies, later and later if it dies at once."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None
        self._ends = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> None:
        """Begin to keep a process running."""
        self._thread.start()

    def _keep(self) -> None:
        wait = FIRST_WAIT
        while not self._ends.is_set():
            started = time.monotonic()
            with self._lock:
                if self._ends.is_set():
                    return
                # a group of its own: Ctrl-C at the terminal reaches it through us, once
                self.process = subprocess.Popen(self.command, start_new_session=True)  # noqa: S603
            code = self.process.wait()
            if self._ends.is_set():
                return
            wait = FIRST_WAIT if time.monotonic() - started > GOOD_SECONDS else wait
            typer.echo(f"the worker ended ({code}); a new one starts in {wait:.0f} s", err=True)
            self._ends.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def stop(self) -> None:
        """Ask the process to give its job back and end; kill it if it does not."""
        with self._lock:
            self._ends.set()
            process = self.process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
