"""The worker with real jobs, asked for over the API of the studio."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fresh import fresh_store
from starlette.testclient import TestClient

from heedful.cli import work as cli_work
from heedful.errors import ResourceError
from heedful.jobs import work as work_module
from heedful.jobs.work import work
from heedful.store import Store, completions, jobs, people, runs, tables
from heedful.types import Prompt, User
from heedful.web.app import create_app
from heedful.web.job_specs import KINDS

SMALL = {"rollouts.num_rollouts": 1, "rollouts.max_new_tokens": 4}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with fresh_store(tmp_path / "heedful.db") as opened:
        with opened.write() as tx:
            people.add(tx, User(id="usr_ada", name="ada", role="owner"))
            people.grant(
                tx, "hk_1", "key", "usr_ada", valid=None, scopes=("enter", "view", "manage")
            )
        yield opened


@pytest.fixture
def client(store: Store) -> TestClient:
    return TestClient(
        create_app(store),
        follow_redirects=False,
        headers={"authorization": "Bearer hk_1", "accept": "application/json"},
    )


def ask(client: TestClient, kind: str, key: str = "k", **spec: Any) -> dict[str, Any]:
    answer = client.post("/api/jobs", json={"kind": kind, "spec": spec, "key": key})
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def quiet(_: str) -> None: ...


def test_a_reward_a_policy_an_evaluation_and_a_project_one_job_each(
    store: Store, client: TestClient, tmp_path: Path
) -> None:
    ask(client, "fit_reward", data="test", model="test", held_out_share=0.3)
    assert work(store, tmp_path / "runs", say=quiet, once=True) == 1
    (reward,) = client.get("/api/models").json()[:1]
    assert (reward["role"], reward["names"]) == ("reward", {"reward": 1})
    ask(client, "fit_ppo", data="test", model="test", reward=reward["id"], **SMALL)
    work(store, tmp_path / "runs", say=quiet, once=True)
    policy = client.get("/api/models").json()[0]
    assert policy["role"] == "policy"
    assert reward["id"] in policy["parents"]
    measured = {"model": policy["id"], "reward": reward["id"], "num_prompts": 4}
    ask(client, "evaluate", data="test", **measured)
    ask(client, "evaluate", "card", data="test", model=reward["id"], name="card")
    ask(client, "sample", project="asked", prompts="test", model=policy["id"], num_prompts=3,
        max_new_tokens=4)  # fmt: skip
    assert work(store, tmp_path / "runs", say=quiet, once=True) == 3
    done = client.get("/api/jobs").json()
    (card,) = [one for one in done if one["spec"].get("name") == "card"]
    page = client.get(f"/runs/{card['run']}/files/report.html").text
    assert "Reward card of" in page
    assert card["result"]["accuracy"] >= 0
    done.remove(card)
    states = {one["kind"]: (one["state"], one["error"]) for one in done}
    assert states == dict.fromkeys(KINDS, ("finished", ""))
    kinds = {one["kind"]: one for one in done}
    assert kinds["fit_ppo"]["result"]["model"] == policy["id"]
    assert kinds["evaluate"]["result"]["judge"].startswith("reward ")
    assert kinds["sample"]["result"]["num_tasks"] == 3
    listed = client.get("/api/runs").json()
    assert {one["kind"] for one in listed} == {"reward", "ppo", "evaluate", "reward_card"}
    assert kinds["fit_ppo"]["run"] in {one["id"] for one in listed}
    html = client.get("/jobs", headers={"accept": "text/html"}).text
    assert f'href="/models/{policy["id"]}"' in html
    assert "3 tasks in asked" in html


@pytest.mark.parametrize(
    ("kind", "spec", "message"),
    [
        ("dance", {}, "there is no job 'dance'; choose from fit_reward"),
        ("fit_reward", {"data": "nothing", "model": "test"}, "data is 'nothing'; the store has"),
        ("fit_reward", {"data": "test", "model": "/etc"}, "model is '/etc'; the store has"),
        ("fit_reward", {"data": "/etc/passwd", "model": "test"}, "data is '/etc/passwd'"),
        ("fit_ppo", {"data": "test", "model": "test", "reward": "gold:x.py:f"}, "reward is 'gold"),
        ("fit_reward", {"data": "test", "model": "test", "name": "../up"}, "name is '../up'"),
        ("fit_reward", {"data": "test", "model": "test", "epochs": "many"}, "give a number"),
        ("fit_reward", {"data": "test", "model": "test", "epochs": 0}, "epochs is 0; give 1 to"),
        ("fit_reward", {"data": "test", "model": "test", "attention": "flex"}, "takes no 'attent"),
    ],
)
def test_a_job_that_cannot_be_is_refused_before_it_is_queued(
    client: TestClient, kind: str, spec: dict[str, Any], message: str
) -> None:
    answer = client.post("/api/jobs", json={"kind": kind, "spec": spec, "key": "k"})
    assert answer.status_code in (404, 422)
    assert message in answer.json()["error"]["message"]
    assert client.get("/api/jobs").json() == []


def test_a_job_reads_data_sets_by_name_and_opens_no_file(
    store: Store, client: TestClient, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"prompt": "TOP SECRET"}\n')
    frozen = tmp_path / "frozen.parquet"
    frozen.write_text("no snapshot")
    names = (str(secret), str(frozen), "test")
    with store.write() as tx:
        for number, name in enumerate(names):
            prompt = Prompt.of(f"Of the store {number}")
            completions.add_prompts(tx, [prompt])
            tx.insert_new(tables.datasets, [{"name": name}])  # as no rule of today would have it
            item = {"dataset": name, "item_id": prompt.id, "prompt_id": prompt.id, "task_id": None}
            tx.insert_new(tables.dataset_items, [item])
    for number, name in enumerate(names):
        ask(client, "sample", key=name, project=f"asked-{number}", prompts=name, model="test",
            max_new_tokens=2)  # fmt: skip
    assert work(store, tmp_path / "runs", say=quiet, once=True) == len(names)
    for number in range(len(names)):
        with store.read() as tx:
            (prompt,) = completions.prompts_by_dataset(tx, f"asked-{number}")
        assert prompt == Prompt.of(f"Of the store {number}")


def test_a_job_that_names_a_file_has_failed(store: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"prompt": "TOP SECRET"}\n')
    with store.write() as tx:
        spec = {"project": "p", "prompts": str(secret), "model": "test"}
        job = jobs.add(tx, "sample", spec, who="usr_ada", key="k")
    work(store, tmp_path / "runs", say=quiet, once=True)
    with store.read() as tx:
        found = jobs.get(tx, job)
    assert found.state == "failed"
    assert "not in the store" in found.error


def test_an_error_of_a_job_is_told_and_the_worker_goes_on(
    store: Store, client: TestClient, tmp_path: Path
) -> None:
    ask(client, "sample", project="few", prompts="test", model="test", num_samples=1)
    ask(client, "sample", key="b", project="enough", prompts="test", model="test", num_prompts=1,
        max_new_tokens=2)  # fmt: skip
    assert work(store, tmp_path / "runs", say=quiet, once=True) == 2
    failed, done = sorted(client.get("/api/jobs").json(), key=lambda one: one["state"] != "failed")
    assert "pairwise compares at least 2 answers" in failed["error"]
    assert done["state"] == "finished"


def test_a_worker_waits_while_the_store_cannot_be_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    tries = iter([ResourceError("locked"), ResourceError("locked"), KeyboardInterrupt()])

    def locked(*_: object) -> None:
        raise next(tries)

    monkeypatch.setattr(work_module, "take", locked)
    monkeypatch.setattr(work_module, "POLL_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        work(store, tmp_path / "runs", say=said.append)
    assert said == ["waits: locked"]
    tries = iter([ResourceError("locked")])
    with pytest.raises(ResourceError, match="locked"):
        work(store, tmp_path / "runs", say=quiet, once=True)


def test_cancelling_a_running_fit_stops_it_and_asking_again_goes_on(
    store: Store, client: TestClient, tmp_path: Path
) -> None:
    long = SMALL | {"rollouts.num_rollouts": 5000}
    ask(client, "fit_reward", data="test", model="test", held_out_share=0.3)
    work(store, tmp_path / "runs", say=quiet, once=True)
    reward = client.get("/api/models").json()[0]["id"]
    job = ask(client, "fit_ppo", data="test", model="test", reward=reward, **long)["id"]

    def cancel_when_it_runs() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            run = client.get(f"/api/jobs/{job}").json()["run"]
            if run and client.get(f"/api/runs/{run}").json()["num_done"]:
                break
            time.sleep(0.05)
        client.post(f"/api/jobs/{job}/cancel")

    thread = threading.Thread(target=cancel_when_it_runs)
    thread.start()
    work(store, tmp_path / "runs", say=quiet, once=True, beat_seconds=0.05)
    thread.join()
    told = client.get(f"/api/jobs/{job}").json()
    assert told["state"] == "cancelled"
    assert client.get(f"/api/runs/{told['run']}").json()["state"] == "interrupted"


def wait_until(look: Any) -> Any:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen")


SIGNALLED_AFTER_A_CHECKPOINT = """
import os, signal, sys
from heedful.cli import main
from heedful.train import checkpoint

how, save = signal.Signals[sys.argv.pop(1)], checkpoint.save

def signalled(*state):
    save(*state)
    os.kill(os.getpid(), how)

checkpoint.save = signalled
main()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_ends_in_the_middle_is_followed_by_another_that_goes_on(
    store: Store, client: TestClient, tmp_path: Path, how: signal.Signals
) -> None:
    spec = {"data": "test", "model": "test", "epochs": 25, "held_out_share": 0.3}
    job = ask(client, "fit_reward", **spec)["id"]
    command = [sys.executable, "-c", SIGNALLED_AFTER_A_CHECKPOINT, how.name, "work", "--store",
               str(tmp_path / "heedful.db"), "--runs", str(tmp_path / "runs")]  # fmt: skip
    subprocess.run(command, check=False, capture_output=True, timeout=300)
    assert any((tmp_path / "runs").glob("*/reward/checkpoints/*"))
    with store.write() as tx:
        left = jobs.get(tx, job)
        assert left.state == ("running" if how == signal.SIGKILL else "waiting")
        if how == signal.SIGKILL:  # as if its lease had run out
            tx.connection.exec_driver_sql("update jobs set until = '2020-01-01 00:00:00'")
    assert work(store, tmp_path / "runs", say=quiet, once=True) == 1
    done = client.get(f"/api/jobs/{job}").json()
    assert done["state"] == "finished"
    assert done["attempts"] == (2 if how == signal.SIGKILL else 1)
    with store.read() as tx:
        (row,) = runs.newest(tx, limit=9)  # one run, taken up again, not two
    assert row.run.status == "finished"


def test_up_starts_a_worker_that_crashed_again_and_stops_it_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_work, "FIRST_WAIT", 0.05)
    marks = tmp_path / "pids"
    script = (
        f"import os, time; open({str(marks)!r}, 'a').write(f'{{os.getpid()}} '); time.sleep(60)"
    )
    kept = cli_work.Worker([sys.executable, "-c", script])
    kept.start()

    def pids() -> list[int]:
        return [int(one) for one in marks.read_text().split()] if marks.exists() else []

    (first,) = wait_until(lambda: pids()[:1])
    os.kill(first, signal.SIGKILL)
    second = wait_until(lambda: pids()[1:2])[0]
    assert second != first
    kept.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)
    assert len(pids()) == 2


def children(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(one) for file in files for one in file.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's list of children")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_up_ends_its_worker_whichever_signal_ends_it(tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-m", "heedful", "up", "--store", str(tmp_path / "s.db"),
               "--port", "0", "--runs", str(tmp_path / "runs")]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as up:
        try:
            up.stdout.readline()  # type: ignore[union-attr]
            worker = wait_until(lambda: children(up.pid))[0]
            up.send_signal(how)
            up.wait(60)
        finally:
            up.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
