from pathlib import Path

import pytest
from starlette.testclient import TestClient
from studio import SECRET_MODEL, make_studio, visitor

from heedful.store import people

PERMISSIONS = ("enter", "label", "view", "review", "manage")


@pytest.fixture
def api(tmp_path: Path):
    """A client with an owner's API key, and no cookie."""
    store, client = make_studio(tmp_path)
    with store:
        visitor(store, client, "ada", "owner")
        client.cookies.clear()
        with store.write() as tx:
            people.grant(tx, "hk_owner", "key", "usr_ada", valid=None, scopes=PERMISSIONS)
        client.headers["authorization"] = "Bearer hk_owner"
        yield client


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def candidate(text: str) -> dict[str, object]:
    return {"messages": [message("assistant", text)], "origin": "a-model"}


SUPPORT = "/api/projects/support"
TASKS = [
    {
        "prompt": [message("user", f"Question {number}")],
        "candidates": [candidate(f"one {number}"), candidate(f"two {number}")],
        "priority": -number,
    }
    for number in range(3)
]


def test_a_project_from_nothing_to_its_last_answer(api: TestClient) -> None:
    made = api.post("/api/projects", json={"dataset": "new", "title": "New", "form": "pairwise"})
    assert made.status_code == 201
    assert api.put("/api/projects/new/guidelines", json={"text": "Be kind."}).json()["version"] == 1
    added = api.post("/api/projects/new/tasks", json={"tasks": TASKS})
    assert (added.status_code, added.json()["added"]) == (201, 3)
    assert api.post("/api/projects/new/tasks", json={"tasks": TASKS}).json()["added"] == 0
    for number in range(3):
        (item,) = api.post("/api/projects/new/lease", json={"count": 1}).json()["items"]
        assert item["prompt"] == [message("user", f"Question {number}")]
        assert item["guideline"] == 1
        best = item["candidates"][0]["id"]
        body = {"task": item["task"], "payload": {"preferred": best}, "key": f"k{number}"}
        first = api.post("/api/projects/new/answers", json=body)
        assert first.status_code == 201
        assert api.post("/api/projects/new/answers", json=body).json() == first.json()
    nothing = api.post("/api/projects/new/lease", json={}).json()
    assert nothing == {"items": [], "nothing": {"reason": "all_done", "retry_seconds": None}}
    progress = api.get("/api/projects/new").json()["progress"]
    assert progress == {"num_slots": 3, "num_done": 3, "num_leased": 0, "num_own": 3}
    assert len(api.get("/api/projects/new/recent").json()["tasks"]) == 3


def test_no_answer_of_the_api_tells_who_wrote_a_candidate(api: TestClient) -> None:
    item = api.post(f"{SUPPORT}/lease", json={"count": 3}).text
    assert "Answer 0" in item
    assert SECRET_MODEL not in item
    assert "import:" not in item


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/api/projects/none", None, 404, "missing"),
        (
            "POST",
            "/api/projects",
            {"dataset": "A b", "title": "x", "form": "pairwise"},
            422,
            "shape",
        ),
        ("POST", "/api/projects", {"dataset": "a", "title": "x", "form": "pairwis"}, 422, "config"),
        (
            "POST",
            "/api/projects",
            {"dataset": "a", "title": "x", "form": "pairwise", "overlp": 2},
            422,
            "shape",
        ),
        ("POST", f"{SUPPORT}/lease", {"count": 99}, 422, "shape"),
        ("POST", f"{SUPPORT}/answers", {"task": "t", "payload": {}, "key": "k"}, 404, "missing"),
        ("POST", f"{SUPPORT}/skips", {"task": "t", "reason": "x"}, 404, "missing"),
        (
            "POST",
            f"{SUPPORT}/tasks",
            {"tasks": [TASKS[0] | {"candidates": [candidate("a")]}]},
            422,
            "data",
        ),
        ("GET", f"{SUPPORT}/guidelines?version={10**30}", None, 422, "shape"),
        ("GET", "/api/projects/a%00b", None, 404, "missing"),
        ("DELETE", "/api/projects", None, 405, "http"),
        ("GET", "/api/nothing", None, 404, "http"),
    ],
)
def test_every_refusal_has_the_one_shape(
    api: TestClient, method: str, path: str, body: object, status: int, code: str
) -> None:
    answer = api.request(method, path, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["message"]


def test_a_key_can_do_no_more_than_its_maker(api: TestClient, tmp_path: Path) -> None:
    made = api.post("/api/keys", json={"name": "bot", "scopes": ["enter", "label"]}).json()
    bot = TestClient(api.app, headers={"authorization": f"Bearer {made['key']}"})
    assert bot.post(f"{SUPPORT}/lease", json={}).status_code == 200
    assert bot.get("/api/people").status_code == 403
    beyond = bot.post("/api/keys", json={"name": "more", "scopes": ["manage"]})
    assert beyond.status_code == 422
    assert "you may not do" in beyond.json()["error"]["message"]


def test_an_invited_person_has_a_link_that_works_once(api: TestClient) -> None:
    made = api.post("/api/people", json={"name": "ben", "role": "annotator"}).json()
    guest = TestClient(api.app, follow_redirects=False)
    path = "/sign-in/" + made["link"].rpartition("/")[2]
    assert guest.post(path).status_code == 303
    assert guest.post(path).status_code == 403
    assert [one["name"] for one in api.get("/api/people").json()] == ["ada", "ben"]


def test_drafts_skips_and_heartbeats(api: TestClient) -> None:
    base = f"{SUPPORT}"
    first, second = api.post(f"{base}/lease", json={"count": 2}).json()["items"]
    assert api.post(f"{base}/heartbeat").json()["until"] >= first["until"]
    draft = {"draft": {"written": "half"}}
    assert api.put(f"{base}/tasks/{first['task']}/draft", json=draft).status_code == 200
    assert api.get(f"{base}/tasks/{first['task']}").json()["draft"] == {"written": "half"}
    assert (
        api.post(f"{base}/skips", json={"task": second["task"], "reason": "x"}).status_code == 201
    )
    left = api.post(f"{base}/lease", json={"count": 3}).json()["items"]
    assert second["task"] not in {one["task"] for one in left}


def test_the_description_names_every_route_of_the_api(api: TestClient) -> None:
    described = api.get("/api/openapi.json").json()
    assert described["openapi"].startswith("3.")
    assert all(path.startswith("/api/") for path in described["paths"])
    assert len(described["paths"]) >= 12
    for methods in described["paths"].values():
        for operation in methods.values():
            assert operation["description"]
