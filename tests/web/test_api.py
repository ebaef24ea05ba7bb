from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from studio import SECRET_MODEL, csrf_of, make_studio, visitor

from heedful.store import annotations, people
from heedful.types import User, UserRole
from heedful.web.nothing import WORDS
from heedful.web.render import HIDDEN

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
    made = api.post("/api/projects", json={"dataset": "kind", "title": "New", "form": "pairwise"})
    assert made.status_code == 201
    assert (
        api.put("/api/projects/kind/guidelines", json={"text": "Be kind."}).json()["version"] == 1
    )
    added = api.post("/api/projects/kind/tasks", json={"tasks": TASKS})
    assert (added.status_code, added.json()["added"]) == (201, 3)
    assert api.post("/api/projects/kind/tasks", json={"tasks": TASKS}).json()["added"] == 0
    for number in range(3):
        (item,) = api.post("/api/projects/kind/lease", json={"count": 1}).json()["items"]
        assert item["prompt"] == [message("user", f"Question {number}")]
        assert item["guideline"] == 1
        best = item["candidates"][0]["id"]
        body = {"task": item["task"], "payload": {"preferred": best}, "key": f"k{number}"}
        first = api.post("/api/projects/kind/answers", json=body)
        assert first.status_code == 201
        assert api.post("/api/projects/kind/answers", json=body).json() == first.json()
    nothing = api.post("/api/projects/kind/lease", json={}).json()
    said = {"reason": "all_done", "retry_seconds": None, "message": WORDS["all_done"]}
    assert nothing == {"items": [], "nothing": said}
    progress = api.get("/api/projects/kind").json()["progress"]
    assert progress == {
        "num_slots": 3, "num_done": 3, "num_leased": 0, "num_own": 3, "num_imported": 0,
    }  # fmt: skip
    recent = api.get("/api/projects/kind/recent").json()["items"]
    assert [one["round"] for one in recent] == [0, 0, 0]


def test_every_change_of_the_api_is_a_line_of_the_log(api: TestClient) -> None:
    api.put(f"{SUPPORT}/guidelines", json={"text": "Be kind."})
    api.post(f"{SUPPORT}/tasks", json={"tasks": TASKS})
    with api.app.state.store.read() as tx:  # type: ignore[attr-defined]
        tasks, text = people.history(tx, limit=2)
    assert (text.who, text.what, text.subject) == ("usr_ada", "wrote guidelines", "support")
    assert (tasks.what, tasks.detail) == ("added tasks", {"sent": 3, "new": 3})


def test_no_answer_of_the_api_tells_who_wrote_a_candidate(api: TestClient) -> None:
    item = api.post(f"{SUPPORT}/lease", json={"count": 3}).text
    assert "Answer 0" in item
    assert SECRET_MODEL not in item
    assert "import:" not in item
    assert "cmp_" not in item  # a hash of what was written and by whom


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


def browser_of(api: TestClient, name: str, role: UserRole = "owner") -> TestClient:
    """A browser in which a new person has just signed in."""
    browser = TestClient(api.app, follow_redirects=False)
    visitor(api.app.state.store, browser, name, role)  # type: ignore[attr-defined]
    browser.headers["x-csrf-token"] = csrf_of(browser.get("/me").text)
    return browser


def test_a_key_can_do_no_more_than_its_maker(api: TestClient) -> None:
    ann = browser_of(api, "ann", "annotator")
    made = ann.post("/api/keys", json={"name": "bot", "scopes": ["enter", "label"]}).json()
    bot = TestClient(api.app, headers={"authorization": f"Bearer {made['key']}"})
    assert bot.post(f"{SUPPORT}/lease", json={}).status_code == 200
    assert bot.get("/api/people").status_code == 403
    beyond = ann.post("/api/keys", json={"name": "more", "scopes": ["manage"]})
    assert beyond.status_code == 422
    assert "you may not do" in beyond.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/me/password", {"data": {"password": "long enough"}}),
        ("/me/keys", {"data": {"name": "more", "scopes": ["enter"]}}),
        ("/api/keys", {"json": {"name": "more", "scopes": ["enter"]}}),
        ("/people", {"data": {"name": "eve", "role": "owner"}}),
        ("/people/usr_ada", {"data": {"action": "link"}}),
        ("/api/people", {"json": {"name": "eve", "role": "owner"}}),
    ],
)
def test_no_key_makes_or_changes_what_proves_who_somebody_is(
    api: TestClient, path: str, body: dict[str, Any]
) -> None:
    answer = api.post(path, **body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_allowed")
    assert "API key" in answer.json()["error"]["message"]
    assert len(api.get("/api/people").json()) == 1
    assert len(api.get("/api/keys").json()) == 1


def test_an_invited_person_has_a_link_that_works_once(api: TestClient) -> None:
    owner = browser_of(api, "bea")
    made = owner.post("/api/people", json={"name": "ben", "role": "annotator"}).json()
    guest = TestClient(api.app, follow_redirects=False)
    path = "/sign-in/" + made["link"].rpartition("/")[2]
    assert guest.post(path).status_code == 303
    assert guest.post(path).status_code == 403
    assert [one["name"] for one in api.get("/api/people").json()] == ["ada", "bea", "ben"]


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


@pytest.mark.parametrize("name", ["new", "a/b", "..", "Big", "a b", "a\n", ".a", "a" * 81, ""])
def test_a_name_that_does_not_do_in_an_address_makes_no_project(api: TestClient, name: str) -> None:
    before = api.get("/api/projects").json()
    answer = api.post("/api/projects", json={"dataset": name, "title": "T", "form": "pairwise"})
    assert answer.status_code == 422
    assert api.get("/api/projects").json() == before


@pytest.mark.parametrize("source", ["human", "model", "rule"])
def test_an_answer_says_who_gave_it(api: TestClient, source: str) -> None:
    body = {"name": "judge", "scopes": ["enter", "label"], "source": source}
    made = browser_of(api, "bea").post("/api/keys", json=body).json()
    assert made["source"] == source
    bot = TestClient(api.app, headers={"authorization": f"Bearer {made['key']}"})
    (item,) = bot.post(f"{SUPPORT}/lease", json={}).json()["items"]
    best = item["candidates"][0]["id"]
    answer = {"task": item["task"], "payload": {"preferred": best}, "key": "k"}
    assert bot.post(f"{SUPPORT}/answers", json=answer).status_code == 201
    with api.app.state.store.read() as tx:  # type: ignore[attr-defined]
        (stored,) = annotations.latest(tx, [item["task"]])
    assert (stored.source, stored.annotator) == (source, "usr_bea")


def test_keys_are_listed_without_their_secrets_and_revoked(api: TestClient) -> None:
    body = {"name": "judge", "scopes": ["enter", "label"], "source": "model", "days": 3}
    owner = browser_of(api, "bea")
    assert owner.post("/api/keys", json=body | {"source": "simulated"}).status_code == 422
    made = owner.post("/api/keys", json=body).json()
    listed = owner.get("/api/keys")
    assert made["key"] not in listed.text
    one = next(one for one in listed.json() if one["id"] == made["id"])
    assert (one["name"], one["source"], one["scopes"]) == ("judge", "model", ["enter", "label"])
    assert one["expires_at"] > one["created_at"]
    bot = TestClient(api.app, headers={"authorization": f"Bearer {made['key']}"})
    assert bot.get("/api/projects").status_code == 200
    assert api.delete(f"/api/keys/{made['id']}").json() == {"revoked": made["id"]}
    assert bot.get("/api/projects").status_code == 401
    assert made["id"] not in owner.get("/api/keys").text
    assert api.delete(f"/api/keys/{made['id']}").status_code == 404


def test_owners_revoke_anybodys_keys_and_others_only_their_own(api: TestClient) -> None:
    store = api.app.state.store  # type: ignore[attr-defined]
    with store.write() as tx:
        people.add(tx, User(id="usr_ben", name="ben", role="annotator"))
        people.grant(tx, "hk_ben", "key", "usr_ben", valid=None, scopes=("enter",), name="bens")
    ben = TestClient(api.app, headers={"authorization": "Bearer hk_ben"})
    (owners,) = api.get("/api/people/usr_ada/keys").json()
    assert ben.delete(f"/api/keys/{owners['id']}").status_code == 404
    assert ben.get("/api/people/usr_ada/keys").status_code == 403
    assert [one["name"] for one in ben.get("/api/keys").json()] == ["bens"]
    (bens,) = api.get("/api/people/usr_ben/keys").json()
    assert api.get("/api/people/usr_nobody/keys").status_code == 404
    assert api.delete(f"/api/keys/{bens['id']}").status_code == 200
    assert ben.get("/api/keys").status_code == 401
    with store.read() as tx:
        newest = people.history(tx, limit=1)[0]
    assert (newest.who, newest.what, newest.subject) == ("usr_ada", "revoked key", "bens")


def test_the_mark_of_a_hidden_phrase_is_refused_in_a_written_answer(api: TestClient) -> None:
    (item,) = api.post(f"{SUPPORT}/lease", json={}).json()["items"]
    payload = {"preferred": None, "written": f"Say {HIDDEN}"}
    body = {"task": item["task"], "payload": payload, "key": "k"}
    answer = api.post(f"{SUPPORT}/answers", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "data")
    payload["written"] = "Say it"
    assert api.post(f"{SUPPORT}/answers", json=body).status_code == 201


def test_a_page_left_open_sees_nothing_of_who_signed_in_after(api: TestClient) -> None:
    before, after = browser_of(api, "bea"), browser_of(api, "cid")
    (item,) = after.post(f"{SUPPORT}/lease", json={}).json()["items"]
    place = f"{SUPPORT}/tasks/{item['task']}"
    assert after.get(place).status_code == 200
    # the browser has the newer cookie, the page still the older token
    stale = {"x-csrf-token": before.headers["x-csrf-token"]}
    for path in (place, "/projects/support/recent/0", f"/projects/support/tasks/{item['task']}"):
        refused = after.get(path, headers=stale)
        assert refused.status_code == 403, path
        assert item["candidates"][0]["messages"][0]["content"] not in refused.text
