"""One project with a million slots: seconds of a lease, a submit and a count inside the store.

    python benchmarks/label_queue.py --slots 1000000 --answers 3000 --out benchmarks/results

Some people take turns at random, so that the queue holds many tasks that are half done; then one
works on alone, past more and more tasks that wait for a second person. ``--store postgresql://...``
runs the same on PostgreSQL.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import numpy as np
from sqlalchemy import bindparam, text

from heedful.store import (
    Store,
    completions,
    open_store,
    people,
    projects,
    queue,
    tables,
    tallies,
    undo,
)
from heedful.types import Completion, Message, Project, Prompt, Task, User

PROJECT = "load"
NUM_PEOPLE = 50
Times = dict[str, list[float]]


def fill(store: Store, num_tasks: int, overlap: int) -> None:
    """A project with many tasks about one pair of answers, and people.

    The rows are those that adding tasks one by one leaves, in one statement a table; ids are
    scattered, as hashes are.
    """
    task, sides = make_task()
    with store.write() as tx:
        projects.add(tx, Project(dataset=PROJECT, title="Load", form="pairwise", overlap=overlap))
        completions.add(tx, sides)
        for number in range(NUM_PEOPLE):
            people.add(tx, User(id=f"usr_{number}", name=f"person {number}", role="annotator"))
        values = {"prompt": task.prompt.id, "num": num_tasks, "overlap": overlap, "now": tx.now}
        values |= {"project": PROJECT} | {f"side_{n}": one.id for n, one in enumerate(sides)}
        for table, columns in ROWS.items():
            numbers = "select 0 union all select n + 1 from numbers where n + 1 < :num"
            statement = text(
                f"with recursive numbers(n) as ({numbers}), {TASKS} insert into {table} {columns}"
            )
            used = {name: value for name, value in values.items() if f":{name}" in str(statement)}
            if "now" in used:
                statement = statement.bindparams(bindparam("now", type_=tables.UtcTime))
            tx.connection.execute(statement, used)
        tallies.change_queue(tx, PROJECT, num_open=num_tasks * overlap)
    if store.engine.dialect.name == "postgresql":
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("vacuum analyze"))


LARGEST = 1_000_003  # a prime, so that multiples of another number hit every remainder once
TASKS = (
    f"tasks_made as (select n, 'tsk_' || cast(2000000 + (n * 7919) % {LARGEST} as varchar) as id "
    "from numbers)"
)
ROWS = {
    "tasks": "select id, 'pairwise', :prompt, '', :overlap, 0, 'load', :now from tasks_made",
    "task_completions": "select id, side, case side when 0 then :side_0 else :side_1 end, :prompt "
    "from tasks_made, (select 0 as side union all select 1) sides",
    "dataset_items": "select :project, id, id, null, :now from tasks_made",
    "queue_items (project, task_id, urgency, place, is_disputed)": "select :project, id, 0, n, "
    "false from tasks_made",
    "slots (project, task_id, number, urgency, state)": "select :project, t.id, s.n, 0, 'open' "
    "from tasks_made t join numbers s on s.n < :overlap",
}


def make_task() -> tuple[Task, list[Completion]]:
    """A pair of short answers."""
    prompt = Prompt.of("What should I do about it?")
    sides = [
        Completion(
            prompt=prompt,
            messages=(Message(role="assistant", content=f"Do {side}."),),
            model="import:load",
        )
        for side in ("this", "that")
    ]
    task = Task(form="pairwise", prompt=prompt, completion_ids=tuple(one.id for one in sides))
    return task, sides


def work(store: Store, who: str, rng: random.Random, times: Times, prefix: str) -> None:
    """One person takes an item, answers it or not, and looks how far the project is."""
    with clocked(times, f"{prefix} lease"), store.write() as tx:
        found = queue.lease(tx, PROJECT, who, count=1, rng=rng)
    assert isinstance(found, list)
    with clocked(times, f"{prefix} progress"), store.read() as tx:
        queue.progress(tx, PROJECT, who)
    view = found[0]
    if rng.random() < 0.02:
        with clocked(times, f"{prefix} skip"), store.write() as tx:
            queue.skip(tx, PROJECT, who, view.task_id, "no")
        return
    answer = {"preferred": rng.choice(view.shown_order)}
    key = f"{rng.getrandbits(64):x}"
    with clocked(times, f"{prefix} submit"), store.write() as tx:
        queue.submit(tx, PROJECT, who, view.task_id, answer, key=key, seconds=1.0)
    if rng.random() < 0.1:
        with clocked(times, f"{prefix} recent"), store.read() as tx:
            undo.recent(tx, PROJECT, who)
        with clocked(times, f"{prefix} extend"), store.write() as tx:
            queue.extend(tx, PROJECT, who)


@contextmanager
def clocked(times: Times, name: str) -> Iterator[None]:
    """Add the milliseconds of a block, by the clock and of computing, to two lists."""
    started, used = time.perf_counter(), time.thread_time()
    yield
    times[name].append(1000 * (time.perf_counter() - started))
    times[f"{name} cpu"].append(1000 * (time.thread_time() - used))


def main() -> None:
    """Fill, work, and append a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=1_000_000)
    parser.add_argument("--overlap", type=int, default=2)
    parser.add_argument("--answers", type=int, default=3000, help="of many, then of one alone")
    parser.add_argument("--store", help="a database URL; a new SQLite file otherwise")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    times: Times = defaultdict(list)
    with (
        tempfile.TemporaryDirectory() as scratch,
        open_store(options.store or f"{scratch}/heedful.db") as store,
    ):
        fill(store, options.slots // options.overlap, options.overlap)
        for _ in range(options.answers):
            work(store, f"usr_{rng.randrange(1, NUM_PEOPLE)}", rng, times, "many")
        for _ in range(options.answers):
            work(store, "usr_0", rng, times, "one")
        with store.read() as tx:
            counts = queue.progress(tx, PROJECT, "usr_0")
    row = {
        "database": "postgresql" if options.store else "sqlite",
        "slots": counts.num_slots,
        "done": counts.num_done,
        "people": NUM_PEOPLE,
        "overlap": options.overlap,
        "milliseconds": {name: percentiles(values) for name, values in sorted(times.items())},
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores",
    }
    print(json.dumps(row, indent=2))
    with (options.out / "queue.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")


def percentiles(values: list[float]) -> dict[str, float]:
    """Median and tail, in milliseconds."""
    return {f"p{p}": round(float(np.percentile(values, p)), 2) for p in (50, 95, 99)}


if __name__ == "__main__":
    main()
