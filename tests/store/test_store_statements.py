"""How many statements the database gets for an answer, and what it reads for a page."""

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

from heedful.store import Store, completions, open_store, people, projects, tasks
from heedful.types import Completion, Message, Project, Prompt, Task, User
from heedful.web.app import create_app

KEYS = {f"usr_{name}": f"hk_{name * 20}" for name in "ab"}
# Each is another process's turn on PostgreSQL. One more than most answers take: now and then a
# dispute is noted, or a cursor moved. "started": the other person was given the task before.
ALL = ("enter", "label", "view", "review", "manage")
MOST = {"postgresql": {"begun": 16, "started": 13}, "sqlite": {"begun": 22, "started": 19}}


@pytest.fixture
def studio(database: str) -> Iterator[Store]:
    """A project of twenty pairs, each for two people."""
    with open_store(database) as store:
        with store.write() as tx:
            projects.add(tx, Project(dataset="p", title="P", form="pairwise", overlap=2))
            projects.add_tasks(tx, "p", [pair(tx, number) for number in range(20)])
            for who, key in KEYS.items():
                people.add(tx, User(id=who, name=who, role="annotator"))
                people.grant(tx, key, "key", who, valid=None, scopes=("enter", "label"))
        yield store


def pair(tx: object, number: int) -> Task:
    prompt = Prompt.of(f"Question {number}?")
    sides = [
        Completion(
            prompt=prompt,
            messages=(Message(role="assistant", content=f"{number} {side}"),),
            model="import:a",
        )
        for side in ("left", "right")
    ]
    completions.add(tx, sides)  # type: ignore[arg-type]
    return Task(form="pairwise", prompt=prompt, completion_ids=tuple(one.id for one in sides))


@contextmanager
def counted(store: Store) -> Iterator[list[str]]:
    """The statements that the block sends."""
    sent: list[str] = []

    def keep(_1: object, _2: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(store.engine, "before_cursor_execute", keep)
    yield sent
    event.remove(store.engine, "before_cursor_execute", keep)


def annotate(client: TestClient, who: str, number: int, sent: list[str]) -> list[int]:
    """How many statements each of so many answers took, asking as the page's script does."""
    headers = {"authorization": f"Bearer {KEYS[who]}", "accept": "application/json"}
    ahead = client.post("/projects/p/items", headers=headers).json()["items"]
    found = []
    for place in range(number):
        item = ahead.pop(0)
        fields = {
            "task": item["task"],
            "round": str(item["round"]),
            "have": " ".join(f"{one['task']}:{one['round']}" for one in ahead),
            "guidelines": "0",
            "key": f"{who} {place}",
            "choice": "0",
        }
        sent.clear()
        answer = client.post("/projects/p/answers", data=fields, headers=headers)
        found.append(len(sent))
        assert answer.status_code == 200, answer.text
        known = {one["task"] for one in ahead}
        ahead += [one for one in answer.json()["items"] if one["task"] not in known]
    return found


def test_an_answer_and_what_comes_next_take_a_bounded_number_of_statements(studio: Store) -> None:
    client = TestClient(create_app(studio, rng=random.Random(1)))
    most = MOST[studio.engine.dialect.name]
    with counted(studio) as sent:
        begun = annotate(client, "usr_a", 8, sent)
        started = annotate(client, "usr_b", 8, sent)
        reads = [one for one in sent if "projects.settings" in one]
    assert max(begun) <= most["begun"], begun
    assert max(started) <= most["started"], started
    assert len(reads) == 1, "the project is read once"


LONG = "annotations|completions|tasks|task_completions|dataset_items|prompts|slots|assignments"
PAGES = ("/data/p", "/data/p/items/{task}", "/projects/p", "/projects/p/label",
         "/projects/p/disagreements", "/projects/p/gold", "/people/usr_a/forget")  # fmt: skip


@pytest.mark.parametrize("address", PAGES)
def test_a_page_reads_no_table_of_answers_from_end_to_end(studio: Store, address: str) -> None:
    if studio.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL reads tables of twenty rows whole")
    with studio.write() as tx:
        people.add(tx, User(id="usr_o", name="o", role="owner"))
        people.grant(tx, "hk_owner", "key", "usr_o", valid=None, scopes=ALL)
        task = tasks.by_dataset(tx, "p")[0].task.id
    plans: list[str] = []

    def explain(connection: Any, _2: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH", "UPDATE")):
            driver = connection.connection.driver_connection
            rows = driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            plans.extend(f"{row[3]}: {statement}" for row in rows)

    client = TestClient(create_app(studio, rng=random.Random(1)))
    event.listen(studio.engine, "before_cursor_execute", explain)
    headers = {"authorization": "Bearer hk_owner", "accept": "text/html"}
    answer = client.get(address.format(task=task), headers=headers)
    assert answer.status_code == 200, answer.text
    assert len(plans) > 3
    assert [one for one in plans if re.match(rf"SCAN ({LONG})\b", one)] == []
