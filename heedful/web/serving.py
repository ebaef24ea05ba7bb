"""Listening for browsers: a socket that is ours, and a server beside other work."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import uvicorn
from fastapi import FastAPI

from heedful.errors import ConfigError

STOP_SECONDS = 5.0


def listen(host: str, port: int) -> socket.socket:
    """A socket on the address; raises ``ConfigError`` when it cannot be had."""
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host} port {port} ({error.strerror}); choose another with --port"
        ) from error
    # What is accepted inherits it. asyncio sets it only on sockets that name their protocol, which
    # these do not; without it the body of an answer waits 40 ms for the header to be acknowledged.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address_of(listener: socket.socket) -> str:
    """What a browser on this machine opens; no address is every address, which some refuse."""
    host, port = listener.getsockname()[:2]
    if ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def server(app: FastAPI) -> uvicorn.Server:
    """A server that says nothing of its own."""
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))


@contextmanager
def beside(app: FastAPI, listener: socket.socket) -> Iterator[None]:
    """Serve in a thread for the time of the block."""
    serving = server(app)
    # a page that is still open must not keep the program from ending
    serving.config.timeout_graceful_shutdown = 1
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        serving.should_exit = True
        thread.join(STOP_SECONDS)
