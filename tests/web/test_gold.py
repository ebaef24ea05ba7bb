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


def test_nothing_that_annotators_are_told_differs_between_known_answers_and_others(
    tmp_path: Path,
) -> None:
    store, client = make_studio(tmp_path, num_tasks=12)
    visitor(store, client, "olga", "owner")
    page = client.get("/projects/support").text
    settings = {"csrf": csrf_of(page), "title": "Support", "overlap": "1", "gold_percent": "30"}
    client.post("/projects/support", data=settings | {"repeat_percent": "0"})
    known, head = set(), {"x-csrf-token": csrf_of(page)}
    for _ in range(4):
        known.add(answer_first(client))
        task = max(known - set(golds_of(client)))
        client.put(f"/api/projects/support/tasks/{task}/gold", json={}, headers=head)
    whole = client.get("/api/projects/support").json()
    assert {"gold_share", "repeat_share", "strategy", "masked"} <= set(whole)
    assert {"num_slots", "num_done", "num_leased", "num_own"} < set(whole["progress"])
    visitor(store, client, "anna")
    project = client.get("/api/projects/support").json()
    assert client.get("/api/projects").json() == [project]
    assert set(project) == {
        "dataset", "title", "form", "criteria", "warning", "is_paused", "progress"
    }  # fmt: skip
    told, seen = [], set()
    for number in range(12):
        found = post(client, "/api/projects/support/lease", {"count": 1})
        if not found["items"]:
            break
        (item,) = found["items"]
        task = f"/api/projects/support/tasks/{item['task']}"
        untils = {item["until"], *(client.get(task).json()["until"] for _ in range(3))}
        beat = post(client, "/api/projects/support/heartbeat", {})["until"]
        untils_then = {beat, client.get(task).json()["until"]}
        answer = {"task": item["task"], "payload": {"preferred": "0"}, "key": f"k{number}"}
        receipt = post(client, "/api/projects/support/answers", answer)
        progress = client.get("/api/projects/support").json()["progress"]
        told.append(
            (len(untils), len(untils_then), receipt == {"key": f"k{number}"}, tuple(progress))
        )
        assert progress["num_own"] == number + 1
        seen.add(item["task"])
    assert seen & known
    assert seen - known
    assert set(told) == {(1, 1, True, ("num_own",))}
    pages = [client.get(path).text for path in ("/", "/projects/support/label")]
    assert all("being given" not in page and "<progress" not in page for page in pages)


def golds_of(client) -> list[str]:  # type: ignore[no-untyped-def]
    found = client.get("/api/projects/support/gold").json()["golds"]
    return [one["task"] for one in found]


@pytest.mark.parametrize("share", [-0.1, 0.31])
def test_shares_out_of_range_are_refused(tmp_path: Path, share: float) -> None:
    store, client = make_studio(tmp_path)
    visitor(store, client, "olga", "owner")
    head = {"x-csrf-token": csrf_of(client.get("/projects/support").text)}
    body = {"dataset": "support", "title": "Support", "form": "pairwise", "gold_share": share}
    assert client.put("/api/projects/support", json=body, headers=head).status_code == 422
