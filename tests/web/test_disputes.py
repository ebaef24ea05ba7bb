"""Settling disagreements on the pages."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from studio import Fields, csrf_of, make_studio, task, visitor

from heedful.store import projects, tasks


def answer(client, choice: str) -> None:  # type: ignore[no-untyped-def]
    page = client.get("/projects/support/label").text
    client.post("/projects/support/answers", data=Fields.of(page) | {"choice": choice})


def test_a_reviewer_settles_what_two_people_answered_differently(tmp_path: Path) -> None:
    store, client = make_studio(tmp_path, num_tasks=0)
    with store.write() as tx:
        projects.change(tx, replace(projects.get(tx, "support"), overlap=2))
        projects.add_tasks(tx, "support", [task(tx, 0, "pairwise", 2)])
    visitor(store, client, "anna")
    answer(client, "tie")
    visitor(store, client, "bela")
    answer(client, "both_bad")
    assert client.get("/projects/support/disagreements").status_code == 403
    assert client.get("/api/projects/support/disagreements").status_code == 403
    visitor(store, client, "rosa", "reviewer")
    page = client.get("/projects/support/disagreements").text
    assert "anna" not in page
    assert "bela" not in page
    (asked,) = client.get("/api/projects/support/disagreements").json()["tasks"]
    fields = {"csrf": csrf_of(page), "task": asked}
    taken = client.post("/projects/support/disagreements", data=fields)
    assert taken.headers["location"] == f"/projects/support/tasks/{asked}"
    page = client.get(taken.headers["location"]).text
    assert "You answered this" not in page
    assert "your answer settles it" in page
    client.post("/projects/support/answers", data=Fields.of(page) | {"choice": "tie"})
    page = client.get("/projects/support/disagreements").text
    assert "anna agrees" in page
    assert "bela differs" in page
    assert client.get("/api/projects/support/disagreements").json() == {"number": 0, "tasks": []}


class Order(random.Random):
    """Shows answers as they are, or the other way round."""

    is_reversed = False

    def shuffle(self, x) -> None:  # type: ignore[no-untyped-def]
        if self.is_reversed:
            x.reverse()


@pytest.fixture
def disputed(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A task that two people answered differently while a reviewer, rosa, has it on screen."""
    store, client = make_studio(tmp_path, num_tasks=0)
    with store.write() as tx:
        projects.change(tx, replace(projects.get(tx, "support"), overlap=3))
        projects.add_tasks(tx, "support", [task(tx, 0, "pairwise", 2)])
    client.app.state.rng = Order()
    visitor(store, client, "rosa", "reviewer")
    page = client.get("/projects/support/label").text
    rosa = dict(client.cookies)
    for name, choice in (("anna", "0"), ("bela", "1")):
        visitor(store, client, name)
        answer(client, choice)
    client.cookies.clear()
    client.cookies.update(rosa)
    client.app.state.rng.is_reversed = True
    return store, client, page


def settle(client) -> str:  # type: ignore[no-untyped-def]
    """Take the only task in dispute; its page."""
    page = client.get("/projects/support/disagreements").text
    (asked,) = client.get("/api/projects/support/disagreements").json()["tasks"]
    fields = {"csrf": csrf_of(page), "task": asked}
    taken = client.post("/projects/support/disagreements", data=fields)
    return str(client.get(taken.headers["location"]).text)


def said_by(store, who: str) -> dict[str, int]:  # type: ignore[no-untyped-def]
    """On which side of the task, as it was made, somebody's answers of each kind are."""
    with store.read() as tx:
        (one,) = tasks.by_dataset(tx, "support", ("answer", "adjudication"))
    ids = one.task.completion_ids
    return {
        given.kind: ids.index(given.payload["preferred"])
        for given in one.annotations
        if given.annotator == who
    }


def test_a_page_that_was_open_before_the_ruling_is_stored_as_it_was_shown(disputed) -> None:  # type: ignore[no-untyped-def]
    store, client, before = disputed
    ruling = settle(client)
    client.post("/projects/support/answers", data=Fields.of(before) | {"choice": "0"})
    assert said_by(store, "usr_rosa") == {"answer": 0}
    client.post("/projects/support/answers", data=Fields.of(ruling) | {"choice": "0"})
    assert said_by(store, "usr_rosa") == {"answer": 0, "adjudication": 1}


def test_programs_answer_skip_and_draft_the_round_that_they_were_given(disputed) -> None:  # type: ignore[no-untyped-def]
    store, client, before = disputed
    asked = Fields.of(before)["task"]
    headers = {"x-csrf-token": csrf_of(before)}
    address = "/api/projects/support"
    body = {"task": asked}
    taken = client.post(f"{address}/disagreements", json=body, headers=headers).json()
    assert taken["round"] == 2
    first = client.get(f"{address}/tasks/{asked}?round=0").json()
    shown = [[one["messages"] for one in item["candidates"]] for item in (first, taken)]
    assert shown[0] == shown[1][::-1]
    draft = {"draft": {"comment": "first"}}
    client.put(f"{address}/tasks/{asked}/draft?round=0", json=draft, headers=headers)
    assert client.get(f"{address}/tasks/{asked}?round=2").json()["draft"] is None
    skipped = body | {"reason": "busy", "round": 0}
    assert client.post(f"{address}/skips", json=skipped, headers=headers).status_code == 201
    assert client.get(f"{address}/tasks/{asked}?round=2").json()["state"] == "open"
    said = {"payload": {"preferred": taken["candidates"][0]["id"]}, "key": "k", "round": 2}
    assert client.post(f"{address}/answers", json=body | said, headers=headers).status_code == 201
    assert said_by(store, "usr_rosa") == {"adjudication": 1}


def test_a_ruling_that_comes_second_is_refused_with_what_was_typed(disputed) -> None:  # type: ignore[no-untyped-def]
    store, client, _ = disputed
    ruling = settle(client)
    rosa = dict(client.cookies)
    visitor(store, client, "rita", "reviewer")
    client.post("/projects/support/answers", data=Fields.of(settle(client)) | {"choice": "1"})
    client.cookies.clear()
    client.cookies.update(rosa)
    sent = Fields.of(ruling) | {"choice": "0", "comment": "A long reason"}
    page = {"accept": "text/html"}
    refused = client.post("/projects/support/answers", data=sent, headers=page)
    assert refused.status_code == 422
    assert "somebody has settled it" in refused.text
    assert "A long reason</textarea>" in refused.text
    assert "adjudication" not in said_by(store, "usr_rosa")
    skipped = Fields.of(refused.text, "skip-form") | {"reason": "settled"}
    assert client.post("/projects/support/skips", data=skipped).status_code == 303
    assert "Question 0?" not in client.get("/projects/support/label").text


def test_a_reviewer_with_nothing_to_answer_is_led_to_what_is_to_settle(tmp_path: Path) -> None:
    store, client = make_studio(tmp_path, num_tasks=0)
    with store.write() as tx:
        projects.change(tx, replace(projects.get(tx, "support"), overlap=2))
        projects.add_tasks(tx, "support", [task(tx, 0, "pairwise", 2)])
    link = 'href="/projects/support/disagreements">Settle 1 disagreement<'
    for name, choice in (("anna", "tie"), ("bela", "both_bad")):
        visitor(store, client, name)
        answer(client, choice)
        assert link not in client.get("/projects/support/label").text
    visitor(store, client, "rosa", "reviewer")
    page = client.get("/projects/support/label").text
    assert link in page
    fetched = client.post(
        "/projects/support/items",
        headers={"accept": "application/json", "x-csrf-token": csrf_of(page)},
    )
    assert link in fetched.json()["nothing"]
    settle(client)
    answer(client, "tie")
    assert "Settle" not in client.get("/projects/support/label").text
