"""What somebody who means harm would send."""

import gzip
import http.client
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from sqlalchemy import func, select, text
from starlette.testclient import TestClient
from studio import Fields, csrf_of, make_studio, routes, serving, visitor

from heedful.store import Store, people, projects, tables
from heedful.types import Project
from heedful.web.app import MAX_BODY

SCRIPTS = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    '"><svg onload=alert(1)>',
    "[click](javascript:alert(1))",
    "![x](https://evil.example/pixel.png)",
    "</textarea><script>alert(1)</script>",
    "{{ 1234567 * 9 }}${1234567 * 9}",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
]
SQL = [
    "' or '1'='1",
    "'; drop table users; --",
    '" union select password_hash from users --',
    "%_\\",
]
PATHS = ["..", "../..", "..%2f..%2fetc%2fpasswd", "a/../../b", "%00", "support\0", ".", "~root",
         "con", "\u202egnp", "support%0d%0aSet-Cookie:x=1", "x" * 5000]  # fmt: skip
JSON_ONLY = {"accept": "application/json"}


@pytest.fixture
def studio(tmp_path: Path):
    store, client = make_studio(tmp_path)
    with store:
        yield store, TestClient(client.app, follow_redirects=False, raise_server_exceptions=False)


def is_harmless(html: str) -> bool:
    """Is everything that could run or load part of a text?"""
    from html.parser import HTMLParser

    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            values = dict(attrs)
            is_ours = tag == "script" and str(values.get("src")).startswith("/static/")
            if tag in ("script", "svg", "iframe", "img", "object", "embed") and not is_ours:
                found.append(tag)
            found.extend(name for name in values if name.startswith("on"))
            found.extend(v for v in values.values() if (v or "").lower().startswith("javascript:"))

    Reader().feed(html)
    return not found


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_in_any_free_text_is_text(studio, script: str) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    with store.write() as tx:
        people.grant(tx, "hk", "key", "usr_ada", valid=None,
                     scopes=("enter", "label", "view", "review", "manage"))  # fmt: skip
    key = {"authorization": "Bearer hk"}
    token = csrf_of(client.get("/").text)
    settings = {"title": f"x {script}", "warning": script, "guidelines": script, "masked": script}
    changed = {"csrf": token, "overlap": "1"} | settings
    assert client.post("/projects/support", data=changed).status_code == 303
    turn = {"role": "assistant", "content": script, "name": script, "tool_calls": [script]}
    asked = {
        "prompt": [{"role": "user", "content": script}],
        "candidates": [{"messages": [turn]}, {"messages": [turn | {"content": f"{script} b"}]}],
        "priority": 99,
    }
    added = client.post("/api/projects/support/tasks", json={"tasks": [asked]}, headers=key)
    assert added.status_code == 201
    person = {"name": script[:60], "role": "annotator"}
    head = {"x-csrf-token": token}
    assert client.post("/api/people", json=person, headers=head).status_code == 201
    made = {"csrf": token, "name": script[:60], "scopes": ["enter"]}
    assert client.post("/me/keys", data=made).status_code == 200
    page = client.get("/projects/support/label").text
    fields = Fields.of(page)
    typed = {"choice": "0", "written": script, "comment": script}
    address = f"/projects/support/drafts/{fields['task']}"
    assert client.put(address, json=typed, headers=head).status_code == 200
    shown = [page, client.get("/projects/support/label").text]
    refused = fields | typed | {"seconds": "never"}
    shown.append(client.post("/projects/support/answers", data=refused,
                             headers={"accept": "text/html"}).text)  # fmt: skip
    assert client.post("/projects/support/answers", data=fields | typed).status_code == 303
    for path in (
        "/",
        "/projects/support",
        "/people",
        "/me",
        "/audit",
        "/projects/support/recent/0",
    ):
        answer = client.get(path, headers={"accept": "text/html"})
        assert answer.status_code == 200, path
        shown.append(answer.text)
    for html in shown:
        assert is_harmless(html)
        assert "11111103" not in html


def test_the_check_for_harm_would_see_it() -> None:
    for script in (*SCRIPTS[:3], '<a href="javascript:x">', SCRIPTS[5], SCRIPTS[7]):
        assert not is_harmless(f"<p>{script}</p>")


def test_a_body_of_unknown_size_is_refused_by_a_real_server(studio) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    with store.write() as tx:
        people.grant(tx, "hk", "key", "usr_ada", valid=None, scopes=("enter", "manage"))
    headers = {"authorization": "Bearer hk", "content-type": "application/json"}
    body = json.dumps({"dataset": "big", "title": "B" * 50, "form": "pairwise"}).encode()
    with serving(client) as address:
        line = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
        parts = iter([body[:20], body[20:]])
        line.request("POST", "/api/projects", body=parts, headers=headers, encode_chunked=True)
        answer = line.getresponse()
        assert answer.status == 411
        assert json.loads(answer.read())["error"]["code"] == "length_required"
        line.close()
        line.request("POST", "/api/projects", body=body, headers=headers)
        assert line.getresponse().status == 201
        line.close()


@pytest.mark.parametrize("length", ["99999999999", "-1", "1e3", "9" * 5000])
def test_a_body_that_says_it_is_huge_is_refused_before_it_is_read(studio, length: str) -> None:
    _, client = studio
    answer = client.post("/sign-in", content=b"", headers={"content-length": length})
    assert answer.status_code == 413


def test_a_bomb_is_not_unpacked(studio) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    token = {"x-csrf-token": csrf_of(client.get("/").text)}
    bomb = gzip.compress(b"title=" + b"x" * 50_000_000, compresslevel=9)
    assert len(bomb) < MAX_BODY
    for packing in ("gzip", "deflate", "br", "GZIP, gzip"):
        headers = token | {"content-encoding": packing}
        headers["content-type"] = "application/x-www-form-urlencoded"
        answer = client.post("/projects/new", content=bomb, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "packed")


@pytest.mark.parametrize("trick", PATHS)
def test_no_path_leads_out_of_the_studio_or_breaks_it(studio, trick: str) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    token = {"x-csrf-token": csrf_of(client.get("/").text)} | JSON_ONLY
    tried = 0
    for method, path in routes(client):
        if "{" not in path:
            continue
        for shown in {quote(trick, safe=""), quote(trick, safe="/%")}:
            address = re.sub(r"\{\w+(:path)?\}", lambda _, shown=shown: shown, path)
            answer = client.request(method, address, headers=token)
            assert answer.status_code < 500, (method, address, answer.text)
            assert "root:" not in answer.text
            tried += 1
    for shown in (trick, quote(trick, safe="")):
        answer = client.get(f"/static/{quote(shown)}/app.py")
        assert answer.status_code < 500
        assert "create_app" not in answer.text
    assert tried > 20


@pytest.mark.parametrize("sql", SQL)
def test_sql_in_any_field_is_a_value(studio, sql: str) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    token = csrf_of(client.get("/").text)
    header = {"x-csrf-token": token} | JSON_ONLY
    before = counts(store)
    fields = Fields.of(client.get("/projects/support/label").text)
    for wrong in ({"task": sql}, {"choice": sql}, {"seconds": sql}, {"key": sql * 50}):
        answer = client.post("/projects/support/answers", data=fields | {"choice": "0"} | wrong,
                             headers=header)  # fmt: skip
        assert answer.status_code in (404, 422)
    for path in ("/projects/{}/label", "/projects/support/tasks/{}", "/api/projects/{}",
                 "/api/projects/support/tasks/{}", "/api/people/{}/keys"):  # fmt: skip
        answer = client.get(path.format(quote(sql, safe="")), headers=header)
        assert answer.status_code == 404, path
    sign_in = client.post("/sign-in", data={"name": sql, "password": sql})
    assert sign_in.status_code == 403
    assert client.get(f"/sign-in/{quote(sql, safe='')}").status_code == 403
    skip = {"csrf": token, "task": fields["task"], "reason": sql}
    assert client.post("/projects/support/skips", data=skip).status_code == 303
    after = counts(store)
    for name in ("users", "annotations", "projects", "tasks"):
        assert after[name] == before[name]
    with store.read() as tx:
        assert tx.connection.scalar(select(tables.assignments.c.skip_reason)) == sql


def counts(store: Store) -> dict[str, int]:
    with store.read() as tx:
        return {
            name: tx.connection.scalar(select(func.count()).select_from(text(name))) or 0
            for name in ("users", "annotations", "projects", "tasks")
        }


def test_ids_of_another_project_or_another_person_open_nothing(studio) -> None:
    store, client = studio
    with store.write() as tx:
        projects.add(tx, Project(dataset="other", title="Other", form="pairwise"))
    visitor(store, client, "ann")
    fields = Fields.of(client.get("/projects/support/label").text) | {"choice": "0"}
    task = fields["task"]
    assert client.post("/projects/support/answers", data=fields).status_code == 303
    visitor(store, client, "ben")
    own = Fields.of(client.get("/projects/support/label").text)
    header = {"x-csrf-token": own["csrf"]} | JSON_ONLY
    forged = own | {"choice": "1"}
    for project, one in (("support", task), ("other", task), ("other", own["task"])):
        base = f"/projects/{project}"
        sent = [
            client.get(f"{base}/tasks/{one}", headers=header),
            client.put(f"{base}/drafts/{one}", json={"written": "x"}, headers=header),
            client.post(f"{base}/answers", data=forged | {"task": one}, headers=header),
            client.post(f"{base}/skips", data=own | {"task": one, "reason": "x"}, headers=header),
            client.get(f"/api{base}/tasks/{one}", headers=header),
            client.put(f"/api{base}/tasks/{one}/draft", json={"draft": {}}, headers=header),
            client.post(f"/api{base}/skips", json={"task": one, "reason": "x"}, headers=header),
        ]
        assert {answer.status_code for answer in sent} == {404}
    # the key of somebody's stored answer does not open it either
    taken = client.post("/projects/support/answers", data=forged | {"key": fields["key"]},
                        headers=header)  # fmt: skip
    assert (taken.status_code, taken.json()["error"]["code"]) == (422, "data")
    with store.read() as tx:
        stored = tables.annotations.c
        assert list(tx.connection.scalars(select(stored.annotator))) == ["usr_ann"]
