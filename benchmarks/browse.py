"""The data browser on a store of a million annotations: how long each page takes.

    python benchmarks/browse.py --store big.db --annotations 1000000

Makes the store when it is absent (minutes), then visits each page of the studio in process,
``--repeats`` times, and appends the median and the slowest in milliseconds, which end to end
includes the query, the template and the session's check. With ``--cold`` the machine forgets the
file of the database before each visit, as if nobody had looked for a long time (SQLite).
"""

import argparse
import json
import os
import random
import statistics
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from heedful.store import (
    Store,
    annotations,
    completions,
    datasets,
    open_store,
    people,
    projects,
    tables,
)
from heedful.store import tasks as task_store
from heedful.types import Annotation, Completion, Message, Project, Prompt, Task, User
from heedful.web.app import create_app
from heedful.web.sign_in import make_link

ANSWERS_PER_TASK = 2.5
START = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 2000
WORDS = [f"word{number}" for number in range(5000)]


def fill(store: Store, num_annotations: int) -> None:
    """Pairs with two or three answers each, of fifty people; a few with a comment."""
    rng = random.Random(1)
    num_tasks = int(num_annotations / ANSWERS_PER_TASK)
    with store.write() as tx:
        projects.add(tx, Project(dataset="big", title="Big", form="pairwise"))
        for who in range(50):
            people.add(tx, User(id=f"usr_{who:02d}", name=f"person {who}", role="annotator"))
    for start in range(0, num_tasks, BATCH):
        shown, asked, given, times = [], [], [], {}
        for number in range(start, min(start + BATCH, num_tasks)):
            prompt = Prompt.of(f"Question {number}: {' '.join(rng.choices(WORDS, k=25))}")
            pair = [
                Completion(
                    prompt=prompt,
                    messages=(
                        Message(role="assistant", content=" ".join(rng.choices(WORDS, k=60))),
                    ),
                    model=f"import:model-{side}",
                )
                for side in "ab"
            ]
            ids = tuple(one.id for one in pair)
            task = Task(form="pairwise", prompt=prompt, completion_ids=ids)
            shown += pair
            asked.append(task)
            for who in rng.sample(range(50), 2 + number % 2):
                payload: dict[str, Any] = {"preferred": rng.choice([*ids, None])}
                if rng.random() < 0.02:
                    payload["comment"] = "Because."
                one = Annotation(
                    task_id=task.id,
                    annotator=f"usr_{who:02d}",
                    source="human",
                    payload=payload,
                    shown_order=ids,
                    seconds=5.0,
                )
                given.append(one)
                times[one.id] = START + timedelta(seconds=number)
        with store.write() as tx:
            completions.add(tx, shown)
            task_store.add(tx, asked)
            datasets.add_tasks(tx, "big", [one.id for one in asked])
            annotations.add(tx, given, times=times)
            tx.insert_new(tables.assignments, [assignment(one, tx.now) for one in given])


def assignment(answer: Annotation, now: datetime) -> dict[str, Any]:
    """The row that says who was given a task, and that they answered it."""
    return {
        "project": "big",
        "task_id": answer.task_id,
        "annotator": answer.annotator,
        "round": 0,
        "kind": "answer",
        "shown_order": list(answer.shown_order),
        "state": "submitted",
        "given": 0,
        "changed_at": now,
    }


def visits(client: TestClient) -> dict[str, str]:
    """The pages: the first, one in the middle, each filter, an item, export."""
    first = client.get("/api/data/big/items?limit=1").json()["items"][0]["id"]
    pages = {
        "data sets": "/data",
        "first page": "/data/big",
        "in the middle": "/data/big?after=tsk_8",
        "at the end": "/data/big?after=tsk_ffff",
        "item": f"/data/big/items/{first}",
        "export page": "/data/big/export?format=hh",
    }
    filters = (
        "annotator=usr_07", "annotator=nobody", "comment=1", "disagreement=1", "state=unanswered",
        "state=skipped", "source=model", "author=import:none", "text=word4321", "text=nowhere",
        "since=2027-01-01", "form=ranking", "annotator=usr_07&comment=1&disagreement=1&text=word1",
    )  # fmt: skip
    return pages | {one: f"/data/big?{one}" for one in filters}


def forget(file: Path) -> None:
    """Take a file's pages out of the machine's memory."""
    with file.open("rb") as stream:
        os.fdatasync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="big.db")
    parser.add_argument("--annotations", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--cold", action="store_true", help="read everything from the disk")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    is_new = not Path(options.store).exists() and "://" not in options.store
    with open_store(options.store) as store:
        if is_new:
            fill(store, options.annotations)
        with store.write() as tx:
            if people.find(tx, "measurer") is None:
                people.add(tx, User(id="usr_measurer", name="measurer", role="owner"))
        client = TestClient(create_app(store), follow_redirects=False)
        client.post(f"/sign-in/{make_link(store, 'measurer', valid=timedelta(hours=1))}")
        pages = {}
        for name, path in visits(client).items():
            taken = []
            for _ in range(options.repeats):
                if options.cold:
                    forget(Path(options.store))
                before = time.perf_counter()
                answer = client.get(path)
                taken.append(1000 * (time.perf_counter() - before))
                assert answer.status_code == 200, (path, answer.status_code)
            pages[name] = {"median_ms": statistics.median(taken), "slowest_ms": max(taken)}
            print(f"{name:<55} median {statistics.median(taken):6.0f}  slowest {max(taken):6.0f}")
    row = {"annotations": options.annotations, "repeats": options.repeats, "cold": options.cold}
    row["pages"] = pages
    row |= {"date": date.today().isoformat(), "machine": f"{os.cpu_count()} cores"}
    with (options.out / "browse.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
