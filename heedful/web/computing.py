"""A process beside the server that computes statistics; the server only reads what it stored."""

import json
import logging
import subprocess
import sys
import threading
import time
import weakref
from typing import NamedTuple

from heedful.store import Store
from heedful.store.summaries import Kind

# by name: jobs are above the pages and load what the server never needs
WORKER = "heedful.jobs.quality.worker"
RETRY_SECONDS = 60.0
log = logging.getLogger(__name__)


class Job(NamedTuple):
    """What is to be computed."""

    project: str
    kind: Kind


class Computing:
    """Asks for summaries, one at a time, each at most once at the same time. Safe for threads.

    The process starts with the first job, ends when it has been idle and is started again when it
    is gone. A job whose process died has failed, and is not tried again at once.
    """

    def __init__(self, store: Store) -> None:
        self._address = store.engine.url.render_as_string(hide_password=False)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: dict[Job, subprocess.Popen[bytes]] = {}
        self._failed: dict[Job, tuple[float, str]] = {}

    def ask(self, job: Job) -> None:
        """Have it computed, unless it is being computed or has just failed."""
        with self._lock:
            failed = self._failed.get(job)
            if job in self._waiting or (failed and time.monotonic() < failed[0] + RETRY_SECONDS):
                return
            try:
                process = self._running()
                self._waiting[job] = process
                _write(process, job._asdict())
            except OSError as error:  # it ended in this moment, or cannot be started
                self._waiting.pop(job, None)
                self._failed[job] = (time.monotonic(), f"no process takes the job: {error}")

    def is_waiting(self, job: Job) -> bool:
        """Is it still to be done?"""
        return job in self._waiting

    def failure(self, job: Job) -> str | None:
        """Why it was not done the last time; None when it was."""
        failed = self._failed.get(job)
        return failed[1] if failed else None

    def close(self) -> None:
        """End the process."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            _end(process)

    def _running(self) -> "subprocess.Popen[bytes]":
        """The process, started when there is none."""
        if self._process is None or self._process.poll() is not None:
            process = subprocess.Popen(  # noqa: S603 - a module of ours, no words of a visitor
                [sys.executable, "-m", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            self._process = process
            weakref.finalize(self, _end, process)
            arguments = (weakref.ref(self), process)
            threading.Thread(target=_listen, args=arguments, daemon=True).start()
            _write(process, {"store": self._address})
        return self._process

    def done(self, job: Job, error: str | None) -> None:
        """Note how a job ended."""
        with self._lock:
            self._failed.pop(job, None)
            if error is not None:
                self._failed[job] = (time.monotonic(), error)
            self._waiting.pop(job, None)

    def lost(self, process: "subprocess.Popen[bytes]") -> None:
        """Note that a process is gone, with what it had not done."""
        with self._lock:
            if self._process is process:
                self._process = None
            unfinished = [job for job, owner in self._waiting.items() if owner is process]
        for job in unfinished:
            self.done(job, f"the process ended with code {process.returncode}")


def _write(process: "subprocess.Popen[bytes]", message: dict[str, str]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()


def _listen(owner: "weakref.ref[Computing]", process: "subprocess.Popen[bytes]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        answer = json.loads(line)
        error = answer.pop("error")
        if error:
            log.warning("summary %s: %s", answer, error)
        if computing := owner():
            computing.done(Job(**answer), error)
        del computing
    process.wait()
    if computing := owner():
        computing.lost(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
