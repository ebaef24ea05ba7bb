"""Known answers over the web: who may see them, and that nobody else learns which they are."""

import json
from pathlib import Path

import pytest
from studio import Fields, csrf_of, make_studio, visitor

JSON = {"accept": "application/json"}


def post(client, address: str, body: dict) -> dict:  # type: ignore[no-untyped-def]
    page = client.get("/projects/support/label", headers={"accept": "text/html"}).text
    answer = client.post(address, json=body, headers=JSON | {"x-csrf-token": csrf_of(page)})
    assert answer.status_code < 300, answer.text
    return answer.json()


def answer_first(client) -> str:  # type: ignore[no-untyped-def]
    page = client.get("/projects/support/label").text
    client.post("/projects/support/answers", data=Fields.of(page) | {"choice": "0"})
    return Fields.of(page)["task"]


def test_an_owner_makes_an_answer_known_and_ordinary_again(tmp_path: Path) -> None:
    store, client = make_studio(tmp_path)
    visitor(store, client, "olga", "owner")
    task = answer_first(client)
    page = client.get("/projects/support/gold").text
    assert "Your last answers" in page
    fields = {"csrf": csrf_of(page), "task": task}
    assert client.post("/projects/support/gold", data=fields | {"deed": "set"}).status_code == 303
    (gold,) = client.get("/api/projects/support/gold").json()["golds"]
    assert gold["task"] == task
    assert gold["author"] == "usr_olga"
    assert "Make it an ordinary task" in client.get("/projects/support/gold").text
    client.post("/projects/support/gold", data=fields | {"deed": "remove"})
    assert client.get("/api/projects/support/gold").json()["golds"] == []


def test_a_known_answer_looks_like_any_task_and_is_counted(tmp_path: Path) -> None:
    store, client = make_studio(tmp_path, num_tasks=30)
    visitor(store, client, "olga", "owner")
    page = client.get("/projects/support").text
    settings = {"csrf": csrf_of(page), "title": "Support", "overlap": "1", "gold_percent": "30"}
    saved = client.post("/projects/support", data=settings | {"repeat_percent": "0"})
    assert saved.status_code == 303
    known = answer_first(client)
    head = {"x-csrf-token": csrf_of(page)}
    said = client.put(f"/api/projects/support/tasks/{known}/gold", json={}, headers=head).json()
    visitor(store, client, "anna")
    shapes, seen = set(), []
    for number in range(30):
        found = post(client, "/api/projects/support/lease", {"count": 1})
        if not found["items"]:
            break
        (item,) = found["items"]
        assert said["payload"]["preferred"] not in json.dumps(
            {name: item[name] for name in item if name != "candidates"}
        )
        shapes.add((tuple(sorted(item)), item["until"] is None, item["state"]))
        again = client.get(f"/api/projects/support/tasks/{item['task']}").json()
        shapes.add((tuple(sorted(again)), again["until"] is None, again["state"]))
        seen.append(item["task"])
        answer = {"task": item["task"], "payload": said["payload"], "key": f"k{number}"}
        if item["task"] != known:
            answer["payload"] = {"preferred": item["candidates"][0]["id"]}
        post(client, "/api/projects/support/answers", answer)
    assert seen.count(known) == 1
    assert len(shapes) == 1
    for address in ("/projects/support/gold", "/api/projects/support/gold"):
        assert client.get(address).status_code == 403
    visitor(store, client, "otto", "owner")
    counted = client.get("/api/projects/support/gold").json()["annotators"]
    assert counted == {"usr_anna": {"hits": 1, "trials": 1}}


@pytest.mark.parametrize("share", [-0.1, 0.31])
def test_shares_out_of_range_are_refused(tmp_path: Path, share: float) -> None:
    store, client = make_studio(tmp_path)
    visitor(store, client, "olga", "owner")
    head = {"x-csrf-token": csrf_of(client.get("/projects/support").text)}
    body = {"dataset": "support", "title": "Support", "form": "pairwise", "gold_share": share}
    assert client.put("/api/projects/support", json=body, headers=head).status_code == 422
