"""What pages do, the JSON API does: a call for every action, and the calls about people."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from studio import csrf_of, make_studio, visitor

from heedful.store import projects
from heedful.web.app import ROUTERS
from heedful.web.goal import Goal

PROJECT, CHAT = "/api/projects/{project}", "/api/chats/{talk}"
CALLS = {
    "POST /chat": "POST /api/chats",
    "POST /chat/endpoints": "POST /api/chats/endpoints",
    "POST /chat/endpoints/{endpoint}/drop": "DELETE /api/chats/endpoints/{endpoint}",
    "POST /chat/{talk}/choose": f"POST {CHAT}/choose",
    "POST /chat/{talk}/regenerate": f"POST {CHAT}/regenerate",
    "POST /chat/{talk}/say": f"POST {CHAT}/turns",
    "POST /chat/{talk}/stop": f"POST {CHAT}/stop",
    "POST /chat/{talk}/turns/{number}/rate": f"POST {CHAT}/turns/{{number}}/rate",
    "POST /goal/begin": "POST /api/goal/begin",
    "POST /import": "POST /api/data/{dataset}/import",
    "POST /jobs/new": "POST /api/jobs",
    "POST /jobs/{job}/cancel": "POST /api/jobs/{job}/cancel",
    "POST /keys/{key}/revoke": "DELETE /api/keys/{key}",
    "POST /me/about": "PUT /api/me/attributes",
    "POST /me/keys": "POST /api/keys",
    "POST /me/password": "PUT /api/me/password",
    "POST /people": "POST /api/people",
    "POST /people/{person}": "PUT /api/people/{person}",
    "POST /people/{person}/forget": "POST /api/people/{person}/forget",
    "POST /projects/new": "POST /api/projects",
    "POST /projects/{project}": f"PUT {PROJECT}",
    "POST /projects/{project}/about": "PUT /api/me/attributes",
    "POST /projects/{project}/answers": f"POST {PROJECT}/answers",
    "POST /projects/{project}/disagreements": f"POST {PROJECT}/disagreements",
    "PUT /projects/{project}/drafts/{task}": f"PUT {PROJECT}/tasks/{{task}}/draft",
    "POST /projects/{project}/gold": f"PUT {PROJECT}/tasks/{{task}}/gold",
    "POST /projects/{project}/heartbeat": f"POST {PROJECT}/heartbeat",
    "POST /projects/{project}/items": f"POST {PROJECT}/lease",
    "POST /projects/{project}/people": f"PUT {PROJECT}/people/{{person}}",
    "POST /projects/{project}/skips": f"POST {PROJECT}/skips",
    # a page asks something of a browser here that a key has no need of
    "POST /sign-in": "",
    "POST /sign-in/{secret}": "",
    "POST /sign-out": "",
}


def actions() -> Iterator[str]:
    for router in ROUTERS:
        for route in router.routes:
            yield from (f"{method} {route.path}" for method in route.methods)  # type: ignore[attr-defined]


def test_every_action_of_a_page_has_a_call() -> None:
    known = set(actions())
    pages = {one for one in known if not one.startswith("GET ") and " /api/" not in one}
    assert pages == CALLS.keys()
    assert {call for call in CALLS.values() if call} <= known


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[TestClient]:
    """The browser of an owner, that speaks JSON."""
    store, client = make_studio(tmp_path)
    with store:
        visitor(store, client, "ada", "owner")
        client.headers["x-csrf-token"] = csrf_of(client.get("/me").text)
        client.headers["accept"] = "application/json"
        yield client


def newest(owner: TestClient) -> dict[str, object]:
    (line,) = owner.get("/api/audit", params={"limit": 1}).json()
    found: dict[str, object] = line
    return found


def test_people_are_changed_switched_off_and_invited_again(owner: TestClient) -> None:
    ben = owner.post("/api/people", json={"name": "ben", "role": "annotator"}).json()
    path = f"/api/people/{ben['id']}"
    guest = TestClient(owner.app, follow_redirects=False)
    assert guest.post("/sign-in/" + ben["link"].rpartition("/")[2]).status_code == 303
    changed = owner.put(path, json={"role": "reviewer", "is_active": True}).json()
    assert (changed["role"], changed["is_active"]) == ("reviewer", True)
    assert guest.get("/api/me").json()["role"] == "reviewer"
    assert owner.put(path, json={"role": "reviewer", "is_active": False}).status_code == 200
    assert guest.get("/api/me").status_code == 401
    assert newest(owner)["detail"] == {"role": "reviewer", "is_active": False}
    owner.put(path, json={"role": "reviewer", "is_active": True})
    link = owner.post(f"{path}/link").json()["link"]
    assert guest.post("/sign-in/" + link.rpartition("/")[2]).status_code == 303
    assert guest.get("/api/me").json()["name"] == "ben"


@pytest.mark.parametrize(
    ("person", "body", "status"),
    [
        ("usr_ada", {"role": "reader", "is_active": True}, 422),  # the last owner
        ("usr_ada", {"role": "owner", "is_active": False}, 422),
        ("usr_ada", {"role": "king", "is_active": True}, 422),
        ("usr_nobody", {"role": "owner", "is_active": True}, 404),
    ],
)
def test_what_may_not_be_changed_stays_and_is_not_logged(
    owner: TestClient, person: str, body: dict[str, object], status: int
) -> None:
    before = newest(owner)
    assert owner.put(f"/api/people/{person}", json=body).status_code == status
    assert newest(owner) == before
    (ada,) = owner.get("/api/people").json()
    assert (ada["role"], ada["is_active"]) == ("owner", True)


def test_the_log_is_read_page_by_page(owner: TestClient) -> None:
    for name in ("ben", "cem", "dan"):
        owner.post("/api/people", json={"name": name, "role": "annotator"})
    whole = owner.get("/api/audit", params={"limit": 200}).json()
    read: list[dict[str, object]] = []
    while page := owner.get(
        "/api/audit", params={"limit": 2} | ({"before": read[-1]["number"]} if read else {})
    ).json():
        read += page
    assert read == whole
    assert [one["what"] for one in whole[:3]] == ["made person"] * 3
    assert owner.get("/api/audit", params={"limit": 0}).status_code == 422


def test_annotators_read_and_say_what_projects_ask_of_them(owner: TestClient) -> None:
    with owner.app.state.store.write() as tx:  # type: ignore[attr-defined]
        asking = {"attributes": ("language", "level: expert | lay")}
        settings = projects.get(tx, "support")
        projects.change(tx, settings.__class__(**vars_of(settings) | asking))
    asked = owner.get("/api/me").json()["questions"]
    assert asked == [
        {"name": "language", "choices": []},
        {"name": "level", "choices": ["expert", "lay"]},
    ]
    said = {"language": " Turkish ", "level": "lay"}
    told = owner.put("/api/me/attributes", json={"attributes": said}).json()
    assert told["attributes"] == {"language": "Turkish", "level": "lay"}
    for wrong, why in (({"levl": "lay"}, "level"), ({"level": "none"}, "expert")):
        refused = owner.put("/api/me/attributes", json={"attributes": wrong})
        assert refused.status_code == 422
        assert why in refused.json()["error"]["message"]
    assert owner.get("/api/me").json()["attributes"] == told["attributes"]


def vars_of(record: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}  # type: ignore[attr-defined]


def test_who_signed_in_with_a_password_states_it_to_set_another(owner: TestClient) -> None:
    first, path = {"password": "long enough"}, "/api/me/password"
    assert owner.put(path, json={"password": "short"}).status_code == 422
    assert owner.put(path, json=first).json() == {"changed": "usr_ada"}
    other = TestClient(owner.app, follow_redirects=False)
    assert other.post("/sign-in", data={"name": "ada", **first}).status_code == 303
    other.headers["x-csrf-token"] = csrf_of(other.get("/me").text)
    second = {"password": "long enough, too"}
    assert other.put(path, json=second | {"current": "not this"}).status_code == 422
    assert owner.get("/api/me").status_code == 200
    assert other.put(path, json=second | {"current": first["password"]}).status_code == 200
    assert owner.get("/api/me").status_code == 401


def test_addresses_are_listed_and_dropped(owner: TestClient) -> None:
    body = {"name": "theirs", "url": "http://127.0.0.1:9/v1", "model": "m", "key": "sk-secret"}
    made = owner.post("/api/chats/endpoints", json=body).json()
    listed = owner.get("/api/chats/endpoints")
    assert listed.json() == [made]
    assert "sk-secret" not in listed.text
    path = f"/api/chats/endpoints/{made['id']}"
    assert owner.delete(path).json() == {"dropped": made["id"]}
    assert owner.get("/api/chats/endpoints").json() == []
    assert owner.delete(path).status_code == 404


def test_forgetting_says_before_what_it_is_about(owner: TestClient) -> None:
    seen = owner.get("/api/people/usr_ada/forget").json()
    assert seen == {"id": "usr_ada", "num_answers": 0, "snapshots": []}
    assert owner.get("/api/people/usr_nobody/forget").status_code == 404


def test_a_goal_is_read_and_begun(owner: TestClient) -> None:
    assert owner.get("/api/goal").status_code == 404
    owner.app.state.goal = goal = Goal(project="support", wanted=3)  # type: ignore[attr-defined]
    assert owner.get("/api/goal").json() == {
        "project": "support",
        "wanted": 3,
        "stage": "asking",
        "message": "",
        "answered": 0,
    }
    assert not goal.begin.is_set()
    assert owner.post("/api/goal/begin").json()["project"] == "support"
    assert goal.begin.is_set()
