"""The worker: takes jobs from the store, one at a time, and does them.

A fit that is taken up again goes on from its checkpoint, because its directory follows from the
job's id. Errors that a person has to mend end a job; a worker that dies does not.
"""

import _thread
import os
import secrets
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from heedful.config import EvaluateConfig, PPOConfig, RewardCardConfig, RewardConfig, check
from heedful.errors import HeedfulError, ResourceError
from heedful.store import chat, datasets, jobs
from heedful.store.database import Store
from heedful.store.jobs import Job
from heedful.store.run_files import HeldError
from heedful.types import JSON, Project

Say = Callable[[str], None]
Run = Callable[[Store, Job, Path], dict[str, JSON]]
POLL_SECONDS = 1.0
BEAT_SECONDS = 5.0
TEST_DATA = "test"  # rows that are made up


def work(
    store: Store,
    runs: Path,
    *,
    say: Say,
    once: bool = False,
    parent: int | None = None,
    beat_seconds: float = BEAT_SECONDS,
) -> int:
    """Do jobs until interrupted, or with ``once`` until none is due; how many were done.

    While the store cannot be written, as during a long import, it waits and says so.

    ``runs`` is where the directories of fits and evaluations go. A worker with a ``parent`` takes
    no more jobs when that process is gone.
    """
    worker = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    num_done = 0
    told = ""
    while parent is None or os.getppid() == parent:
        try:
            job = take(store, worker)
        except ResourceError as error:
            if once:
                raise
            if str(error) != told:
                say(f"waits: {error}")
            told, job = str(error), None
        if job is not None:
            num_done += 1
            do(store, job, worker, runs.resolve(), say, beat_seconds)
        elif once:
            break
        else:
            time.sleep(POLL_SECONDS)
    return num_done


def take(store: Store, worker: str) -> Job | None:
    """The next job, if there is one; looks before it takes the lock of writers."""
    with store.read() as tx:
        if not jobs.is_due(tx, KINDS):
            return None
    with store.write() as tx:
        return jobs.claim(tx, worker, KINDS)


def do(store: Store, job: Job, worker: str, runs: Path, say: Say, beat_seconds: float) -> None:
    """One job from claim to its end; an interruption from outside gives it back."""
    say(f"{job.id} {job.kind} begins (attempt {job.attempts})")
    out = runs / job.id / str(job.spec.get("name", job.kind))
    unwanted = threading.Event()
    ended = "lost"
    try:
        with beating(store, job, worker, out, unwanted, beat_seconds):
            try:
                if job.kind != "chat":
                    refuse_paths(store, job)
                    make_room()
                result = KINDS[job.kind](store, job, out)
            except KeyboardInterrupt:
                if not unwanted.is_set():
                    raise
                if close(store, jobs.stop, job, worker):
                    ended = "cancelled"
            except HeldError:  # a worker that was thought dead is still at it, and about to notice
                time.sleep(beat_seconds)
                close(store, jobs.give_back, job, worker)
            except HeedfulError as error:
                close(store, jobs.fail, job, worker, str(error))
                ended = f"failed: {error}"
            except Exception as error:
                traceback.print_exc(file=sys.stderr)
                close(store, jobs.fail, job, worker, f"{type(error).__name__}: {error}")
                ended = f"failed: {type(error).__name__}"
            else:
                if close(store, jobs.finish, job, worker, result):
                    ended = "finished"
    except KeyboardInterrupt:
        if not unwanted.is_set():  # else it came a moment after the work was done
            close(store, jobs.give_back, job, worker)
            say(f"{job.id} is given back")
            raise
    say(f"{job.id} {ended}")


def close(store: Store, end: Callable[..., bool], job: Job, worker: str, *values: Any) -> bool:
    """Record how a job ended; False when it is no longer ours.

    Waits for a database that is away: what was done would be lost without it.
    """
    told = ""
    while True:
        try:
            with store.write() as tx:
                return end(tx, job.id, worker, *values)
        except ResourceError as error:
            if str(error) != told:
                print(f"{job.id}: waits to record its end ({error})", file=sys.stderr)
            told = str(error)
            time.sleep(POLL_SECONDS)


@contextmanager
def beating(
    store: Store,
    job: Job,
    worker: str,
    out: Path,
    unwanted: threading.Event,
    seconds: float,
) -> Iterator[None]:
    """Renew the lease beside the work; interrupts the work when nobody wants it any more.

    ``unwanted`` is set before the interruption: that tells it from one that came from outside.
    """
    over = threading.Event()
    progress: Mapping[str, JSON] | None = {"out": str(out)}

    def beat() -> None:
        told = progress
        while True:
            try:
                with store.write() as tx:
                    wanted = jobs.beat(tx, job.id, worker, told)
            except HeedfulError as error:  # the lease outlives a database that is away for a while
                print(f"{job.id}: no heartbeat ({error})", file=sys.stderr)
                wanted = True
            told = None
            if not wanted and not over.is_set():
                unwanted.set()
                _thread.interrupt_main()
                return
            if over.wait(seconds):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def make_room() -> None:
    """Let go of the model that was talked to: a fit may need the memory."""
    from heedful.jobs.chatting import loaded

    loaded.cache_clear()


def refuse_paths(store: Store, job: Job) -> None:
    """Raise ``MissingError`` unless the job's data are data sets of the store, or made up: what
    pages ask for never makes this process open a file."""
    data = job.spec.get("prompts") or job.spec.get("config", {}).get("data")
    for name in data if isinstance(data, list | tuple) else (str(data),):
        if name != TEST_DATA:
            with store.read() as tx:
                datasets.require(tx, name)


def fit_reward(store: Store, job: Job, out: Path) -> dict[str, JSON]:
    """Fit a reward model."""
    from heedful.jobs.fit import fit_reward as run

    out.mkdir(parents=True, exist_ok=True)
    return trained(run(check(RewardConfig, job.spec["config"]), out, store=store))


def fit_ppo(store: Store, job: Job, out: Path) -> dict[str, JSON]:
    """Optimise a policy."""
    from heedful.jobs.fit import fit_ppo as run

    out.mkdir(parents=True, exist_ok=True)
    return trained(run(check(PPOConfig, job.spec["config"]), out, store=store))


def trained(result: Any) -> dict[str, JSON]:
    """What a fit leaves."""
    return {"model": result.model, "run": result.run}


def evaluate(store: Store, job: Job, out: Path) -> dict[str, JSON]:
    """Evaluate a model; a reward by its card, if the data allow one."""
    from heedful.jobs.evaluate import evaluate as run
    from heedful.jobs.models import find_model
    from heedful.jobs.reward_card import NoPairsError, reward_card

    out.mkdir(parents=True, exist_ok=True)
    config = check(EvaluateConfig, job.spec["config"])
    card = find_model(config.model, store).card()
    found: dict[str, JSON] | None = None
    if card is not None and card.role == "reward":
        wanted = RewardCardConfig(data=config.data, model=config.model, seed=config.seed)
        try:
            found = reward_card(wanted, out, store=store)
        except NoPairsError as error:
            print(f"{job.id}: no reward card: {error}", file=sys.stderr)
    if found is None:
        found = run(config, out, store=store)
    return {key: found[key] for key in ("win_rate", "accuracy", "judge") if key in found}


def sample(store: Store, job: Job, out: Path) -> dict[str, JSON]:
    """Sample answers and queue them for people."""
    from heedful.jobs.asking import Sampling, ask, read_prompts

    del out
    spec = job.spec
    project = Project(dataset=spec["project"], title=spec["project"], form=spec["form"])
    sampling = Sampling(
        num_samples=spec["num_samples"],
        max_new_tokens=spec["max_new_tokens"],
        temperature=spec["temperature"],
        seed=spec["seed"],
    )
    with TemporaryDirectory() as scratch:
        prompts = read_prompts(store, spec["prompts"], Path(scratch)).prompts
        made = ask(store, project, prompts[: spec["num_prompts"]], [spec["model"]], sampling)
    return {"project": made.project, "num_tasks": made.num_tasks}


def write_draft(store: Store, job: Job, out: Path) -> dict[str, JSON]:
    """Write a draft of a conversation; whoever waits for it is told when that fails."""
    from heedful.jobs.chatting import write_draft as run

    del out
    try:
        return run(store, job.spec["draft"])
    except Exception as error:
        with store.write() as tx:
            chat.fail(tx, job.spec["draft"], str(error) or type(error).__name__)
        raise


KINDS: Mapping[str, Run] = {
    "chat": write_draft,
    "fit_reward": fit_reward,
    "fit_ppo": fit_ppo,
    "evaluate": evaluate,
    "sample": sample,
}
