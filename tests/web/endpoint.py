"""A server that speaks OpenAI's chat API over HTTP, and remembers what it was asked."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoint:
    """``answers`` are given in turn; ``status`` and ``location`` make it fail or send away."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answers = ["Hello **there**.", "Good day to you.", "Howdy."]
        self.status, self.location, self.raw = 200, "", ""
        self.pause, self.told = 0.0, "wrong key "
        self.keep_alives = 0
        self.lock = threading.Lock()
        self.address = ""


@contextmanager
def serving() -> Iterator[Endpoint]:
    known = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            length = int(self.headers["content-length"])
            body = json.loads(self.rfile.read(length))
            with known.lock:
                text = known.answers[len(known.asked) % len(known.answers)]
                known.asked.append(body)
                known.keys.append(self.headers.get("authorization"))
            self.send_response(known.status)
            if known.location:
                self.send_header("location", known.location)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            if known.status != 200:
                self.wfile.write(f"{known.told}{self.headers.get('authorization')}".encode())
                return
            if known.raw:
                with suppress(OSError):  # whoever reads it may have had enough
                    self.wfile.write(known.raw.encode())
                return
            for _ in range(known.keep_alives):
                self.wfile.write(b": still here\n\n")
                self.wfile.flush()
                time.sleep(0.25)
            for piece in text.split(" "):
                self.event({"delta": {"content": piece if text.startswith(piece) else f" {piece}"}})
                time.sleep(known.pause)
            self.event({"delta": {}, "finish_reason": "stop"})
            self.wfile.write(b"data: [DONE]\n\n")

        def event(self, choice: dict[str, Any]) -> None:
            told = {"model": "tiny-2026-01", "choices": [{"index": 0, **choice}]}
            self.wfile.write(f"data: {json.dumps(told)}\n\n".encode())
            self.wfile.flush()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield known
    server.shutdown()
    server.server_close()
    thread.join()
