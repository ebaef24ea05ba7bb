"""Forgetting a person on the page and in the API: the name has to be typed."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from studio import csrf_of, make_studio, visitor

from heedful.store import Store, chat, completions, items, people, projects, queue, tallies
from heedful.store.forget import HOWS, forget
from heedful.types import Completion, Message, Prompt, Task, User
from heedful.web import chat_feedback


@pytest.fixture
def studio(tmp_path: Path):
    store, client = make_studio(tmp_path)
    with store:
        visitor(store, client, "zachary")
        with store.write() as tx:
            (view,) = queue.lease(tx, "support", "usr_zachary", count=1, rng=client.app.state.rng)  # type: ignore[attr-defined, misc]
            payload = {"preferred": view.shown_order[0], "comment": "MARKERTEXT"}
            queue.submit(tx, "support", "usr_zachary", view.task_id, payload, key="k", seconds=1.0)
        visitor(store, client, "own", "owner")
        yield store, client


def answers(store: Store) -> list[str]:
    with store.read() as tx:
        return [one.annotator for item in items.stream(tx, "support") for one in item.annotations]


def test_nothing_happens_before_the_name_is_typed(studio) -> None:
    store, client = studio
    assert "/people/usr_zachary/forget" in client.get("/people").text
    assert "/people/usr_own/forget" not in client.get("/people").text
    page = client.get("/people/usr_zachary/forget").text
    assert "1 answer" in page
    for typed in ("", "zach", "own"):
        sent = {"csrf": csrf_of(page), "how": "delete", "confirm": typed}
        refused = client.post("/people/usr_zachary/forget", data=sent)
        assert refused.status_code == 422
        assert "Nothing was deleted" in refused.text
    assert answers(store) == ["usr_zachary"]


def test_the_page_forgets_and_says_what_was_removed(studio) -> None:
    store, client = studio
    token = csrf_of(client.get("/people").text)
    sent = {"csrf": token, "how": "anonymise", "confirm": "zachary"}
    page = client.post("/people/usr_zachary/forget", data=sent).text
    assert "1 answers anonymised" in page
    (left,) = answers(store)
    assert left.startswith("gone_")
    for path in ("/people", "/audit", "/data/support", "/api/people"):
        assert "zachary" not in client.get(path).text, path
    assert "forgot a person" in client.get("/audit").text
    assert client.get("/people/usr_zachary/forget").status_code == 404


def test_the_api_forgets_for_owners_alone(studio) -> None:
    store, client = studio
    header = {"x-csrf-token": csrf_of(client.get("/").text)}
    body = {"how": "delete", "confirm": "zachary"}
    path = "/api/people/usr_zachary/forget"
    assert client.post(path, json=body | {"how": "burn"}, headers=header).status_code == 422
    assert client.post(path, json=body | {"confirm": ""}, headers=header).status_code == 422
    done = client.post(path, json=body, headers=header).json()
    assert (done["num_deleted"], done["snapshots"]) == (1, [])
    assert answers(store) == []
    visitor(store, client, "rev", "reviewer")
    with store.read() as tx:
        other = people.find(tx, "own")
    assert other is not None
    token = csrf_of(client.get("/").text)
    refused = client.post("/people/usr_own/forget", data={"csrf": token, "confirm": "own"})
    assert refused.status_code == 403


def rate(store: Store, who: str, said: str, rated: str, text: str = "") -> None:
    """Talk to an endpoint and judge its answer."""
    with store.write() as tx:
        (target,) = chat.endpoints(tx)
        talk = chat.start(tx, who, [target.id])
        (draft,) = chat.say(tx, talk, said, random.Random(1)).drafts
        message = Message(role="assistant", content=f"You said {said}")
        prompt = chat.prompt_of(tx, talk.id, 0)
        chat.complete(tx, draft, Completion(prompt=prompt, messages=(message,), model="import:x"))
        chat_feedback.rate(tx, who, talk, chat.newest(tx, talk.id), rated, text=text)


@pytest.mark.parametrize("how", HOWS)
def test_a_conversation_of_somebody_forgotten_is_handed_to_nobody(studio, how: Any) -> None:
    store, _ = studio
    with store.write() as tx:
        people.add(tx, User(id="usr_eve", name="eve", role="reviewer"))
        chat.add_endpoint(tx, "e", "https://e.example/v1", "m", key="", who="usr_own")
    rate(store, "usr_zachary", "my secret", "edited", "my own words")
    forget(store, "zachary", how, confirm="zachary", who="usr_own")
    rate(store, "usr_eve", "hello", "up")
    with store.write() as tx:
        counts = tallies.read(tx, chat_feedback.ANSWERS)
        assert (counts.num_open, counts.num_leased, counts.num_done) == (0, 0, 1)
        found = queue.lease(tx, chat_feedback.ANSWERS, "usr_eve", count=3, rng=random.Random(1))
        assert isinstance(found, queue.Nothing)


def test_a_thumb_takes_the_slot_of_its_own_task(studio) -> None:
    """Also where another task waits in the project."""
    store, _ = studio
    with store.write() as tx:
        chat.add_endpoint(tx, "e", "https://e.example/v1", "m", key="", who="usr_own")
    rate(store, "usr_own", "hello", "up")
    with store.write() as tx:
        project = chat_feedback.ANSWERS
        message = Message(role="assistant", content="b")
        other = Completion(prompt=Prompt.of("a"), messages=(message,), model="import:x")
        completions.add(tx, [other])
        task = Task(form="demonstration", prompt=other.prompt, completion_ids=(other.id,))
        projects.add_tasks(tx, project, [replace(task, priority=1e12)])
    rate(store, "usr_own", "hello again", "down")
    with store.read() as tx:
        counts = tallies.read(tx, project)
    assert (counts.num_open, counts.num_leased, counts.num_done) == (1, 0, 2)
