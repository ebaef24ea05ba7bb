"""The studio under load: many annotators, clients that vanish, a server that is killed.

    python benchmarks/studio.py --answers 100000 --annotators 50 --out benchmarks/results

Annotators are simulated: they come within ten pauses, each draws an answer every ``--pause``
seconds on average, and asks as the page's script does: it holds three items, and every answer
brings what comes next. Some answers are sent twice, some annotators vanish with the items that they
hold and come back, and the server is killed (SIGKILL) and started again every now and then; with
``--servers 2`` two of them share the store and half of the annotators each, and die in turn. At the
end the database must hold every answer that was acknowledged, once, and no task more answers than
it has slots unless marked as surplus. ``--store postgresql://...`` runs the same on PostgreSQL.
``disk_ms`` says how long the disk by itself takes to keep what an answer writes.
"""

import argparse
import asyncio
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from sqlalchemy import func, select

from heedful.store import Store, completions, open_store, people, projects, tables
from heedful.types import Completion, Message, Project, Prompt, Task, User

PROJECT = "load"
PORT = 8399
SCOPES = ("enter", "label")
DISK_WRITES, DISK_BYTES, DISK_PAUSE = 600, 80 * 1024, 1 / 15  # pages of SQLite's log an answer
SETTLING_SECONDS = 10.0  # after a restart, when everybody who waited asks at once
CHOICES = ("0", "1", "0+", "1+", "tie", "both_bad")


@dataclass(slots=True)
class Record:
    """What the clients saw."""

    wanted: int
    acknowledged: set[str] = field(default_factory=set)
    sent: list[tuple[float, float]] = field(default_factory=list)  # when, and seconds
    restarts: list[float] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)

    @property
    def is_done(self) -> bool:
        """Is enough acknowledged?"""
        return len(self.acknowledged) >= self.wanted

    def milliseconds(self, *, settled: bool = False) -> dict[str, float]:
        """Percentiles of an answer and what comes next; or of those not just after a restart."""
        kept = [
            1000 * seconds
            for at, seconds in self.sent
            if not settled or not any(0 <= at - one < SETTLING_SECONDS for one in self.restarts)
        ]
        return percentiles(kept)


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    """The middle and the slow end."""
    return {f"p{p}": round(float(np.percentile(milliseconds, p)), 1) for p in (50, 95, 99)}


def fill(store: Store, num_tasks: int, num_annotators: int, overlap: int) -> list[str]:
    """A project with enough tasks, and an API key for every annotator."""
    keys = [f"hk_{secrets.token_urlsafe(24)}" for _ in range(num_annotators)]
    project = Project(dataset=PROJECT, title="Load", form="pairwise", overlap=overlap)
    with store.write() as tx:
        projects.add(tx, project)
        for number, key in enumerate(keys):
            user = User(
                id=f"usr_{number:04d}", name=f"simulated annotator {number}", role="annotator"
            )
            people.add(tx, user)
            people.grant(tx, key, "key", user.id, valid=None, scopes=SCOPES, source="rule")
    for start in range(0, num_tasks, 1000):
        with store.write() as tx:
            made = [make_task(n) for n in range(start, min(start + 1000, num_tasks))]
            completions.add(tx, [side for _, sides in made for side in sides])
            projects.add_tasks(tx, PROJECT, [task for task, _ in made])
    return keys


def make_task(number: int) -> tuple[Task, list[Completion]]:
    """A pair of answers of ordinary length."""
    prompt = Prompt.of(f"Question {number}: what should I do about it?")
    sides = [
        Completion(
            prompt=prompt,
            messages=(Message(role="assistant", content=f"{number} {side} " + "words " * 120),),
            model="import:load",
        )
        for side in ("first", "second")
    ]
    task = Task(form="pairwise", prompt=prompt, completion_ids=tuple(one.id for one in sides))
    return task, sides


def serve(store: str, port: int) -> subprocess.Popen[bytes]:
    """The studio as people start it."""
    command = [sys.executable, "-m", "heedful", "studio", "--store", store, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/sign-in", timeout=1)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return process


async def annotate(key: str, record: Record, rng: random.Random, pause: float, port: int) -> None:
    """One person at work until enough is done."""
    headers = {"authorization": f"Bearer {key}", "accept": "application/json"}
    base = f"http://127.0.0.1:{port}/projects/{PROJECT}"
    ahead: list[Any] = []
    guidelines = set[str]()
    await asyncio.sleep(rng.uniform(0, 10 * pause))
    async with httpx.AsyncClient(headers=headers, timeout=30) as client:
        while not record.is_done:
            if not ahead:
                body = await until_answered(client, "POST", f"{base}/items", record)
                ahead, guidelines = body["items"], set(body.get("guidelines", ()))
            if not ahead:
                record.events["nothing to do"] += 1
                await asyncio.sleep(1)
                continue
            await asyncio.sleep(rng.expovariate(1 / pause))
            if rng.random() < 0.01:
                record.events["client vanished"] += 1
                ahead = []
                continue
            item = ahead.pop(0)
            fields = {
                "task": item["task"],
                "round": str(item["round"]),
                "have": " ".join(f"{one['task']}:{one['round']}" for one in ahead),
                "guidelines": " ".join(guidelines),
                "key": secrets.token_urlsafe(16),
                "choice": rng.choice(CHOICES),
                "seconds": "1.0",
            }
            for _ in range(2 if rng.random() < 0.02 else 1):
                answer = await until_answered(
                    client, "POST", f"{base}/answers", record, data=fields
                )
                record.acknowledged.add(answer["stored"])
            have = {(one["task"], one["round"]) for one in ahead}
            ahead += [one for one in answer["items"] if (one["task"], one["round"]) not in have]
            guidelines |= answer.get("guidelines", {}).keys()


async def until_answered(
    client: httpx.AsyncClient, method: str, address: str, record: Record, **rest: Any
) -> Any:
    """Ask again until the server says something; a request may be answered by its successor."""
    while True:
        started = time.perf_counter()
        try:
            answer = await client.request(method, address, **rest)
        except httpx.TransportError:
            record.events["request lost"] += 1
            await asyncio.sleep(0.1)
            continue
        if answer.status_code >= 500:
            record.events[f"status {answer.status_code}"] += 1
            await asyncio.sleep(0.1)
            continue
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code}: {unescape(answer.text)[:300]}")
        if address.endswith("/answers"):
            record.sent.append((started, time.perf_counter() - started))
        return answer.json()


async def run(store: str, keys: list[str], record: Record, options: argparse.Namespace) -> int:
    """All annotators, and the killer; how often the server was killed."""
    ports = [PORT + number for number in range(options.servers)]
    servers, kills = {port: serve(store, port) for port in ports}, 0
    rng = random.Random(options.seed)
    crowd = [
        asyncio.create_task(
            annotate(key, record, random.Random(number), options.pause, ports[number % len(ports)])
        )
        for number, key in enumerate(keys)
    ]
    try:
        while not all(one.done() for one in crowd):
            await asyncio.wait(crowd, timeout=options.kill_every * rng.uniform(0.5, 1.5))
            if options.kills > kills and not record.is_done:
                port = ports[kills % len(ports)]
                servers[port].send_signal(signal.SIGKILL)
                servers[port].wait()
                servers[port] = await asyncio.to_thread(serve, store, port)
                kills += 1
                record.restarts.append(time.perf_counter())
            print(f"{len(record.acknowledged)} of {record.wanted}, {kills} kills", flush=True)
        for one in crowd:
            one.result()
        record.events["server MB"] = max(resident_mb(one.pid) for one in servers.values())
    finally:
        for one in servers.values():
            one.kill()
    return kills


def resident_mb(pid: int) -> int:
    """Peak resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


def verify(store: Store, record: Record) -> dict[str, int]:
    """What must hold of the database; each number but the first two has to be 0."""
    stored, sent, slots = tables.annotations.c, tables.submissions.c, tables.slots.c
    with store.read() as tx:
        keys = set(tx.connection.scalars(select(sent.key)))
        num_stored = tx.connection.scalar(select(func.count()).select_from(tables.annotations))
        surplus = tx.connection.scalar(select(func.count()).where(sent.is_surplus))
        done = tx.connection.execute(
            select(slots.task_id, func.count()).where(slots.state == "done").group_by(slots.task_id)
        )
        filled = {row[0]: row[1] for row in done}
        rows = tx.connection.execute(
            select(stored.task_id, func.count(func.distinct(stored.annotator)))
            .join(tables.submissions, sent.annotation_id == stored.id)
            .where(~sent.is_surplus)
            .group_by(stored.task_id)
        )
        unmatched = sum(1 for task, number in rows if filled.get(task, 0) != number)
    return {
        "stored": num_stored or 0,
        "surplus": surplus or 0,
        "acknowledged but lost": len(record.acknowledged - keys),
        "tasks whose answers are not its filled slots": unmatched,
    }


def disk_milliseconds(file: Path) -> dict[str, float]:
    """How long writing one answer's bytes takes until they are kept, as often as answers come."""
    took = []
    with file.open("wb") as stream:
        stream.write(bytes(DISK_WRITES * DISK_BYTES))
        stream.flush()
        os.fsync(stream.fileno())
        for number in range(DISK_WRITES):
            said = os.urandom(DISK_BYTES)
            started = time.perf_counter()
            os.pwrite(stream.fileno(), said, number * DISK_BYTES)
            os.fdatasync(stream.fileno())
            took.append(1e3 * (time.perf_counter() - started))
            time.sleep(DISK_PAUSE)
    return percentiles(took)


def main() -> None:
    """Run, verify, and append a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=2000)
    parser.add_argument("--annotators", type=int, default=50)
    parser.add_argument("--overlap", type=int, default=2)
    parser.add_argument("--servers", type=int, default=1, help="that share the store")
    parser.add_argument("--pause", type=float, default=1.0, help="mean seconds between answers")
    parser.add_argument("--kills", type=int, default=3, help="how often the server dies")
    parser.add_argument("--kill-every", type=float, default=20.0, help="seconds, on average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", help="a database URL; a new SQLite file otherwise")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        disk = disk_milliseconds(Path(scratch) / "disk")
        address = options.store or str(Path(scratch) / "heedful.db")
        with open_store(address) as store:
            num_tasks = options.answers // options.overlap + 10 * options.annotators
            keys = fill(store, num_tasks, options.annotators, options.overlap)
            record = Record(wanted=options.answers)
            started = time.perf_counter()
            kills = asyncio.run(run(address, keys, record, options))
            seconds = time.perf_counter() - started
            found = verify(store, record)
    row = {
        "database": "postgresql" if options.store else "sqlite",
        "servers": options.servers,
        "annotators": options.annotators,
        "pause": options.pause,
        "answers": len(record.acknowledged),
        "kills": kills,
        "seconds": round(seconds, 1),
        "submit_ms": record.milliseconds(),
        "settled_ms": record.milliseconds(settled=True),
        "disk_ms": disk,
        "events": dict(record.events),
        **found,
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores",
    }
    print(json.dumps(row, indent=2))
    with (options.out / "studio.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")
    if found["acknowledged but lost"] or found["tasks whose answers are not its filled slots"]:
        sys.exit("an answer was lost or a slot was filled twice")


if __name__ == "__main__":
    main()
