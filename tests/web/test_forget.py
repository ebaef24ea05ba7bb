"""Forgetting a person on the page and in the API: the name has to be typed."""

from pathlib import Path

import pytest
from studio import csrf_of, make_studio, visitor

from heedful.store import Store, items, people, queue


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
