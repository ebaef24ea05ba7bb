"""Entry questions on pages and in the JSON API: who is in, who says so, and in which words."""

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from studio import Fields, csrf_of, make_studio, visitor

from heedful.store import Store, extras, people, projects, queue, tasks

NUM_KNOWN = 4
PEOPLE = "/projects/support/people"
API = "/api/projects/support"


@pytest.fixture
def studio(tmp_path: Path):
    """Ten pairs, four with a known answer (the first completion), and somebody who is asked."""
    store, client = make_studio(tmp_path, num_tasks=10)
    with store:
        visitor(store, client, "olga", "owner")
        with store.write() as tx:
            project = projects.get(tx, "support")
            for one in tasks.by_dataset(tx, "support")[:NUM_KNOWN]:
                known = {"preferred": one.task.completion_ids[0]}
                extras.set_gold(tx, project, one.task.id, known, who="usr_olga")
        save(client, qualify_with="4", qualify_percent="75")
        yield store, client


def save(client: TestClient, **more: str) -> None:
    page = client.get("/projects/support").text
    settings = {"csrf": csrf_of(page), "title": "Support", "overlap": "1"}
    assert client.post("/projects/support", data=settings | more).status_code == 303


def send(client: TestClient, method: str, address: str, body: dict[str, Any]) -> Any:
    head = {"x-csrf-token": csrf_of(client.get("/").text), "accept": "application/json"}
    return client.request(method, address, json=body, headers=head)


def answer_by_page(store: Store, client: TestClient, right: bool) -> None:
    page = client.get("/projects/support/label").text
    fields = Fields.of(page)
    with store.read() as tx:
        known = {gold.task_id: gold.payload["preferred"] for gold in extras.golds(tx, "support")}
        shown = queue.get(tx, "support", "usr_anna", fields["task"]).shown_order
    place = shown.index(known[fields["task"]])
    choice = str(place if right else 1 - place)
    client.post("/projects/support/answers", data=fields | {"choice": choice})


@pytest.mark.parametrize(("rights", "is_in"), [("rrwr", True), ("rwrw", False)])
def test_a_person_is_let_in_or_told_in_kind_words(studio, rights: str, is_in: bool) -> None:
    store, client = studio
    visitor(store, client, "anna")
    for letter in rights:
        answer_by_page(store, client, letter == "r")
    page = client.get("/projects/support/label").text
    said = send(client, "POST", f"{API}/lease", {"count": 1}).json()
    assert bool(said["items"]) is is_in
    assert ("answer-form" in page) is is_in
    if not is_in:
        assert said["nothing"]["reason"] == "not_qualified"
        assert said["nothing"]["retry_seconds"] is None
        for text in (page, said["nothing"]["message"]):
            assert "you did not pass them" in text
            assert "ask the person who invited you" in text
        ahead = client.post("/projects/support/items", headers={"x-csrf-token": csrf_of(page)})
        assert "you did not pass them" in ahead.json()["nothing"]


def test_an_entry_question_looks_like_any_task(studio) -> None:
    store, client = studio
    shapes = []
    for name, asked in (("anna", "4"), ("berta", "0")):
        visitor(store, client, "o" + name, "owner")
        save(client, qualify_with=asked)
        visitor(store, client, name)
        (item,) = send(client, "POST", f"{API}/lease", {"count": 1}).json()["items"]
        page = client.get("/projects/support/label").text
        assert "gold" not in page
        shapes.append((sorted(item), item["state"], item["draft"], item["until"] is None))
    assert shapes[0] == shapes[1]


def test_too_few_known_answers_are_said_to_everybody_concerned(studio) -> None:
    store, client = studio
    save(client, qualify_with="6")
    assert "2 are missing." in client.get("/projects/support").text
    assert "2 known answers are missing." in client.get(PEOPLE).text
    told = client.get(f"{API}/people").json()
    assert (told["qualify_with"], told["known"], told["missing"]) == (6, 4, 2)
    visitor(store, client, "anna")
    assert "not ready for you yet" in client.get("/projects/support/label").text
    said = send(client, "POST", f"{API}/lease", {"count": 1}).json()["nothing"]
    assert said["reason"] == "no_entry_questions"
    assert "too few" in said["message"]


def test_an_owner_decides_by_page_and_by_api_and_the_log_tells(studio) -> None:
    store, client = studio
    visitor(store, client, "anna")
    visitor(store, client, "otto", "owner")
    page = client.get(PEOPLE).text
    fields = {"csrf": csrf_of(page), "person": "usr_anna"}
    assert "not yet" in page
    assert client.post(PEOPLE, data=fields | {"deed": "in"}).status_code == 303
    assert "by otto" in client.get(PEOPLE).text
    out = send(client, "PUT", f"{API}/people/usr_anna", {"is_qualified": False})
    assert {name: out.json()[name] for name in ("person", "state", "by", "answered", "hits")} == {
        "person": "usr_anna", "state": "out", "by": "usr_otto", "answered": 0, "hits": 0,
    }  # fmt: skip
    assert out.json()["at"]
    with store.read() as tx:
        log = [line.what for line in people.history(tx, limit=2)]
    assert log == ["kept out of project", "let into project"]
    for body, status in [({"is_qualified": "yes"}, 422), ({}, 422)]:
        assert send(client, "PUT", f"{API}/people/usr_anna", body).status_code == status
    assert send(client, "PUT", f"{API}/people/usr_x", {"is_qualified": True}).status_code == 404
    assert send(client, "PUT", f"{API}/people/usr_otto", {"is_qualified": True}).status_code == 422
    assert client.post(PEOPLE, data=fields | {"deed": "maybe"}).status_code == 422


def test_nobody_but_owners_sees_or_decides(studio) -> None:
    store, client = studio
    for role in ("annotator", "reviewer", "reader"):
        visitor(store, client, role, role)  # type: ignore[arg-type]
        assert client.get(PEOPLE).status_code == 403
        assert client.get(f"{API}/people").status_code == 403
        body = {"is_qualified": True}
        assert send(client, "PUT", f"{API}/people/usr_annotator", body).status_code == 403


@pytest.mark.parametrize("body", [{"qualify_with": 101}, {"qualify_at": 0.4}])
def test_settings_out_of_range_are_refused(studio, body: dict[str, Any]) -> None:
    _, client = studio
    whole = {"dataset": "support", "title": "Support", "form": "pairwise"}
    assert send(client, "PUT", API, whole | body).status_code == 422
    kept = client.get(API).json()
    assert (kept["qualify_with"], kept["qualify_at"]) == (4, 0.75)


def test_tasks_of_the_api_state_known_answers(studio) -> None:
    _, client = studio
    one: dict[str, Any] = {
        "prompt": [{"role": "user", "content": "New?"}],
        "candidates": [{"messages": [{"role": "assistant", "content": say}]} for say in ("a", "b")],
    }
    body = {"tasks": [one | {"known": {"preferred": "1"}}]}
    made = send(client, "POST", f"{API}/tasks", body)
    assert (made.status_code, made.json()["added"], made.json()["known"]) == (201, 1, 1)
    assert send(client, "POST", f"{API}/tasks", body).json()["known"] == 0
    (task,) = made.json()["tasks"]
    golds = {gold["task"]: gold["payload"] for gold in client.get(f"{API}/gold").json()["golds"]}
    item = client.get(f"/api/data/support/items/{task}").json()
    assert golds[task] == {"preferred": item["completions"][1]["id"]}
    for known, told in [({"preferred": "0"}, "another known answer"), ({}, "no 'preferred'")]:
        refused = send(client, "POST", f"{API}/tasks", {"tasks": [one | {"known": known}]})
        assert refused.status_code == 422
        assert told in refused.json()["error"]["message"]


def test_an_uploaded_file_states_known_answers(studio) -> None:
    _, client = studio
    page = client.get("/import?dataset=support").text
    assert 'value="support"' in page
    rows = b"prompt,answer_1,answer_2,known\nq,a,b,2\nr,a,b,\ns,a,b,x\n"
    fields = {"csrf": csrf_of(page), "format": "csv", "dataset": "support"}
    done = client.post("/import", data=fields, files={"file": ("t.csv", rows)}).text
    assert "1 new known answer " in done
    assert "1 new task queued" in done
    assert "wrong judgement" in done
    told = client.get(f"{API}/people").json()
    assert told["known"] == NUM_KNOWN + 1
