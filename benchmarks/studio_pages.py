"""The studio's pages over 1,000,000 simulated answers: how long they take, how much memory.

    python benchmarks/studio_pages.py --answers 1000000 --out benchmarks/results

Fills a database with projects of simulated annotators (named so in every record), starts the
studio as people do, and asks for each page over HTTP: while the figures are computed beside the
server, and afterwards. ``--store postgresql://...`` runs the same on PostgreSQL.
"""

import argparse
import json
import os
import platform
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from sqlalchemy import insert, update

from heedful.store import Store, open_store, people, projects, tables
from heedful.types import Project, User

PORT = 8398
SHARES = {"simulated-a": 0.4, "simulated-b": 0.3, "simulated-c": 0.2, "simulated-d": 0.1}
OVERLAP, NUM_PEOPLE, NUM_MODELS = 3, 60, 8
BATCH = 20_000
KINDS = ("quality", "patterns", "leaderboard")
SUBJECTS = ("garden soil roses water", "python error loop string", "parcel refund order payment",
            "recipe oven flour butter", "train ticket station platform")  # fmt: skip
SENTENCE = (
    "the and you can with this when your first then make sure that it is good to keep some time "
    "for maybe it could help because often people find such things easy please try it again"
)
WORDS = SENTENCE.split()


def main() -> None:
    """Fill, serve, measure, write a line of results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--store", default="")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        address = options.store or f"{folder}/pages.db"
        started = time.monotonic()
        with open_store(address) as store:
            key = fill(store, options.answers)
        result: dict[str, Any] = {
            "answers": options.answers,
            "store": "postgresql" if "://" in address else "sqlite",
            "fill_seconds": round(time.monotonic() - started, 1),
        }
        result |= measure(address, key, options.requests)
    result |= {"date": date.today().isoformat(), "cores": os.cpu_count(), "cpu": processor()}
    print(json.dumps(result, indent=1))
    if options.out:
        with (options.out / "studio_pages.jsonl").open("a") as file:
            file.write(json.dumps(result) + "\n")


def fill(store: Store, num_answers: int) -> str:
    """Projects with tasks, slots and answers of simulated people; an API key that may view."""
    rng = np.random.default_rng(0)
    key = f"hk_{secrets.token_urlsafe(24)}"
    texts = [" ".join(rng.choice(WORDS, rng.integers(40, 160))) + "." for _ in range(3000)]
    with store.write() as tx:
        people.add(tx, User(id="usr_owner", name="owner", role="owner"))
        people.grant(tx, key, "key", "usr_owner", valid=None, scopes=("enter", "view"))
        for number in range(NUM_PEOPLE):
            level = {"level": ("expert", "lay")[number % 2]}
            name = f"simulated:{number:03d}"
            people.add(tx, User(id=name, name=name, role="annotator", attributes=level))
    for name, share in SHARES.items():
        with store.write() as tx:
            projects.add(
                tx, Project(dataset=name, title=f"Simulated {name[-1]}", form="pairwise",
                            overlap=OVERLAP)
            )  # fmt: skip
        num_tasks = int(num_answers * share) // OVERLAP
        for start in range(0, num_tasks, BATCH // 2):
            numbers = np.arange(start, min(start + BATCH // 2, num_tasks))
            with store.write() as tx:
                for table, rows in project_rows(name, numbers, texts, rng):
                    tx.connection.execute(insert(table), rows)
        with store.write() as tx:
            counts = update(tables.queues).where(tables.queues.c.project == name)
            tx.connection.execute(counts.values(num_done=num_tasks * OVERLAP))
    return key


def project_rows(
    name: str, numbers: Any, texts: list[str], rng: np.random.Generator
) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """Rows of some tasks of a project: prompts, pairs of answers, slots, and what people said."""
    now = datetime.now(UTC)
    prompts, sides, tasks, shown, items, slots, said = ([] for _ in range(7))
    for number in numbers.tolist():
        code = f"{name[-1]}{number:015x}"
        task, prompt = f"tsk_{code}", f"prm_{code}"
        subject = SUBJECTS[number % len(SUBJECTS)]
        words = [{"role": "user", "content": f"Question {number} about {subject}?"}]
        prompts.append({"id": prompt, "messages": words, "tools": [], "created_at": now})
        models = rng.choice(NUM_MODELS, 2, replace=False)
        ids = [f"cmp_{code}{place}" for place in "ab"]
        picked = rng.integers(0, len(texts), 2)
        for place in (0, 1):
            text = [{"role": "assistant", "content": f"{number} {texts[picked[place]]}"}]
            sides.append({
                "id": ids[place], "prompt_id": prompt, "messages": text, "model_id": None,
                "origin": f"import:simulated-{models[place]}", "draw": 0,
                "finish_reason": "stop", "params": {}, "created_at": now,
            })  # fmt: skip
            shown.append({
                "task_id": task, "position": place, "completion_id": ids[place],
                "prompt_id": prompt,
            })  # fmt: skip
        tasks.append({
            "id": task, "form": "pairwise", "prompt_id": prompt, "guideline": "",
            "slots": OVERLAP, "priority": 0.0, "reason": "random", "created_at": now,
        })  # fmt: skip
        items.append({
            "dataset": name, "item_id": task, "task_id": task, "prompt_id": None,
            "created_at": now,
        })  # fmt: skip
        longer = len(texts[picked[0]]) - len(texts[picked[1]])
        margin = 0.25 * (models[1] - models[0]) + 0.004 * longer
        chance = 1 / (1 + np.exp(-margin))
        for slot, person in enumerate(rng.choice(NUM_PEOPLE, OVERLAP, replace=False).tolist()):
            who = f"simulated:{person:03d}"
            draw = rng.random(3)
            preferred = None if draw[0] < 0.06 else ids[0 if draw[1] < chance else 1]
            slots.append({
                "project": name, "task_id": task, "number": slot, "urgency": 0.0,
                "state": "done", "holder": who, "until": None,
            })  # fmt: skip
            said.append({
                "id": f"ann_{code}{slot}", "task_id": task, "annotator": who,
                "source": "simulated", "payload": {"preferred": preferred},
                "shown_order": ids if draw[2] < 0.5 else ids[::-1], "revision": 0,
                "seconds": 5 + 20 * float(draw[1]), "created_at": now,
            })  # fmt: skip
    yield tables.prompts, prompts
    yield tables.completions, sides
    yield tables.tasks, tasks
    yield tables.task_completions, shown
    yield tables.dataset_items, items
    yield tables.slots, slots
    yield tables.annotations, said


def measure(address: str, key: str, num_requests: int) -> dict[str, Any]:
    """Seconds and memory of the studio on a filled database."""
    command = [sys.executable, "-m", "heedful", "studio", "--store", address, "--port", str(PORT)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{PORT}", timeout=600,
        headers={"authorization": f"Bearer {key}", "accept": "text/html"},
    )  # fmt: skip
    try:
        wait_until_up(client)
        # first views: nothing is there, everything is asked for
        pages = [f"/projects/{name}/{kind}" for name in SHARES for kind in KINDS]
        busy, started = [], time.monotonic()
        computing: dict[str, Any] = {}
        while len(computing) < len(pages):
            for path in pages:
                busy.append(timed(client, path))
                found = client.get(f"/api{path}", headers={"accept": "application/json"}).json()
                if found["state"] == "failed":
                    raise RuntimeError(f"{path}: {found['failure']}")
                if found["data"]:
                    computing[path.removeprefix("/projects/")] = round(found["seconds"], 1)
            time.sleep(0.2)
        all_computed = time.monotonic() - started
        idle = {
            kind: [
                timed(client, f"/projects/{name}/{kind}")
                for _ in range(num_requests)
                for name in SHARES
            ]
            for kind in KINDS
        }
        return {
            "computing_seconds": computing,
            "all_computed_after_seconds": round(all_computed, 1),
            "page_ms": {kind: spread(seconds) for kind, seconds in idle.items()},
            "page_ms_while_computing": spread(busy),
            "server_peak_mib": peak_mib(server.pid),
            "process_beside_it_peak_mib": max(map(peak_mib, children(server.pid)), default=None),
        }
    finally:
        server.terminate()
        server.wait()


def wait_until_up(client: httpx.Client) -> None:
    """Until the studio answers."""
    while True:
        try:
            client.get("/sign-in")
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return


def timed(client: httpx.Client, path: str) -> float:
    """Seconds of one whole page."""
    started = time.perf_counter()
    answer = client.get(path)
    answer.raise_for_status()
    return time.perf_counter() - started


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, 99th percentile and number, milliseconds."""
    median, late = 1000 * np.quantile(seconds, [0.5, 0.99])
    return {"median": round(median, 1), "p99": round(late, 1), "num": len(seconds)}


def peak_mib(pid: int) -> float:
    """The most memory that a process has held."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return round(int(line.split()[1]) / 1024, 1)


def children(pid: int) -> list[int]:
    """Processes that a process started."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(one) for path in found for one in path.read_text().split()]


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


if __name__ == "__main__":
    main()
