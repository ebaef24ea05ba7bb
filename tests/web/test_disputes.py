"""Settling disagreements on the pages."""

from dataclasses import replace
from pathlib import Path

from studio import Fields, csrf_of, make_studio, task, visitor

from heedful.store import projects


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
    client.post("/projects/support/answers", data=Fields.of(page) | {"choice": "tie"})
    page = client.get("/projects/support/disagreements").text
    assert "anna agrees" in page
    assert "bela differs" in page
    assert client.get("/api/projects/support/disagreements").json() == {"number": 0, "tasks": []}
