"""The data browser, export and import, as pages and in the JSON API."""

import gzip
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from studio import SECRET_MODEL, csrf_of, make_studio, visitor

from heedful.data.formats import FORMATS
from heedful.errors import ResourceError
from heedful.jobs.quality import compute
from heedful.store import Store, annotations, completions, datasets, items, people, projects, queue
from heedful.store.summaries import KINDS
from heedful.types import Annotation, Completion, Prompt, Task
from heedful.web import exchange

MARK = "Because it is kinder."


@pytest.fixture
def studio(tmp_path: Path):
    store, client = make_studio(tmp_path)
    with store:
        for name in ("ann", "ben"):
            visitor(store, client, name)
        answer(store, "usr_ann", 0, comment=MARK)
        answer(store, "usr_ann", 0)
        answer(store, "usr_ben", 1, comment="No.")
        visitor(store, client, "rea", "reader")
        yield store, client


def answer(store: Store, who: str, place: int, **more: Any) -> None:
    """Answer the first task; again as a new revision."""
    with store.write() as tx:
        first = next(items.stream(tx, "support"))
        assert first.task is not None
        ids = first.task.completion_ids
        row = {"project": "support", "task_id": first.id, "annotator": who, "state": "open",
               "round": 0, "kind": "answer", "given": 0,
               "shown_order": list(ids[::-1]), "changed_at": tx.now}  # fmt: skip
        tx.insert_new(queue.tables.assignments, [row])
        key = f"{who}-{place}-{len(more)}"
        queue.submit(tx, "support", who, first.id, {"preferred": ids[place], **more}, key=key,
                     seconds=1.5)  # fmt: skip


def first_item(store: Store) -> str:
    with store.read() as tx:
        return next(items.stream(tx, "support")).id


PAGES = ("/data", "/data/support", "/data/support/export", "/data/support/download")


def test_readers_look_and_annotators_never_do(studio) -> None:
    store, client = studio
    paths = [*PAGES, f"/data/support/items/{first_item(store)}", "/api/data",
             "/api/data/support/items", f"/api/data/support/items/{first_item(store)}",
             "/api/data/support/export", "/api/data/support/export/counts"]  # fmt: skip
    assert [client.get(path).status_code for path in paths] == [200] * len(paths)
    for path in ("/import", "/api/data/support/import"):
        assert client.post(path).status_code == 403
    visitor(store, client, "eve", "annotator")
    for path in [*paths, "/import"]:
        refused = client.get(path)
        assert refused.status_code in (403, 405), path
        assert SECRET_MODEL not in refused.text
    assert "/data" not in client.get("/").text


def test_the_item_page_shows_authors_every_revision_order_seconds_and_the_chain(studio) -> None:
    store, client = studio
    page = client.get(f"/data/support/items/{first_item(store)}").text
    assert page.count(SECRET_MODEL) >= 2
    assert "ann" in page
    assert "replaced" in page
    assert MARK in page
    assert "B A" in page
    assert "1.5" in page
    assert "disagreement" in page
    assert "Came from" in page
    assert "style=" not in page
    assert "<script>" not in page


def test_a_misspelt_filter_of_the_api_is_refused_instead_of_passing_everything(studio) -> None:
    _, client = studio
    path = "/api/data/support/items"
    assert client.get(f"{path}?annotator=nobody&comment=1&after=").status_code == 200
    refused = client.get(f"{path}?anotator=nobody")
    assert refused.status_code == 422
    seen = "unknown query parameter 'anotator'; did you mean 'annotator'?"
    assert refused.json()["error"]["message"] == seen
    assert "this call takes none" in client.get("/api/projects?page=2").text
    described = client.get("/api/openapi.json").json()["paths"]["/api/data/{dataset}/items"]
    assert {"annotator", "since", "limit"} <= {
        one["name"] for one in described["get"]["parameters"]
    }


def test_filters_stand_in_the_address_and_in_the_form(studio) -> None:
    store, client = studio
    found = client.get("/data/support?disagreement=1&annotator=ben&text=&form=").text
    assert first_item(store) in found
    assert found.count("/items/") == 1
    assert 'value="ben"' in found
    assert "checked" in found
    assert client.get("/data/support?text=nowhere").text.count("/items/") == 0
    for odd in ("since=x", "source=cat", "form=pair", "state=odd", f"text={'x' * 201}"):
        assert client.get(f"/data/support?{odd}").status_code == 422, odd
    assert client.get("/data/none").status_code == 404
    assert client.get("/data/support/items/tsk_0").status_code == 404


def test_pages_follow_each_other_by_their_links(studio, monkeypatch: pytest.MonkeyPatch) -> None:
    store, client = studio
    first = client.get("/api/data/support/items?limit=3").json()
    second = client.get(f"/api/data/support/items?limit=3&after={first['after']}").json()
    with store.read() as tx:
        whole = [one.id for one in items.stream(tx, "support")]
    assert [one["id"] for one in first["items"] + second["items"]] == whole
    assert second["after"] is None


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_downloads_as_the_file_that_export_writes(
    studio, name: str, tmp_path: Path
) -> None:
    store, client = studio
    exchange.exporting.export_dataset(store, "support", tmp_path / "a", format=name)
    plain = client.get(f"/data/support/download?format={name}")
    assert plain.content == (tmp_path / "a").read_bytes()
    assert f"support{FORMATS[name].suffix}" in plain.headers["content-disposition"]
    zipped = client.get(f"/api/data/support/export?format={name}&zip=true")
    if name == "parquet":
        assert zipped.status_code == 422
    else:
        assert gzip.decompress(zipped.content) == plain.content
    page = client.get(f"/data/support/export?format={name}").text
    counts = client.get(f"/api/data/support/export/counts?format={name}").json()
    for rule, num in counts["left_out"].items():
        assert f'<td>{rule.replace("_", " ")}</td><td class="right num">{num}</td>' in page


def test_a_download_is_in_the_log_with_what_it_left_out(studio) -> None:
    store, client = studio
    assert client.get("/data/support/download?format=hh").status_code == 200
    visitor(store, client, "own", "owner")
    page = client.get("/audit").text
    assert "exported data" in page
    assert "left out: 4" in page  # three unanswered tasks and a revision


def upload(client: TestClient, content: bytes, name: str = "pairs.jsonl", **fields: str) -> Any:
    token = csrf_of(client.get("/import").text)
    data = {"csrf": token, "format": "trl", **fields}
    return client.post("/import", data=data, files={"file": (name, content)})


ROWS = b'{"prompt": "q", "chosen": "a", "rejected": "b"}\n{"prompt": "q", "chosen": "", "rejected": "b"}\n'  # noqa: E501


def test_an_upload_says_what_became_of_its_rows_and_adds_nothing_the_second_time(studio) -> None:
    store, client = studio
    visitor(store, client, "own", "owner")
    page = upload(client, ROWS).text
    assert "1 new item and 1 new answer in" in page
    assert "empty side" in page
    assert "2 rows read · 1 left out" in page
    again = upload(client, gzip.compress(ROWS), "pairs.jsonl.gz").text
    assert 'Nothing new: <a href="/data/pairs">pairs</a> had all of it already' in again
    assert "2 rows read · 1 row about items that were there · 1 left out" in again
    assert client.get("/data/pairs").text.count("/items/") == 1
    known = client.post("/api/data/pairs/import?format=trl", content=ROWS,
                        headers={"x-csrf-token": csrf_of(client.get("/").text)})  # fmt: skip
    assert known.json() == {"dataset": "pairs", "rows": 2, "new": 0, "known": 1, "answers": 0,
                            "known_answers": 0, "queued": 0,
                            "dropped": {"empty_side": 1}, "ignored": {},
                            "more_ignored": 0}  # fmt: skip


def test_an_upload_of_which_no_row_can_be_used_makes_nothing(studio) -> None:
    store, client = studio
    visitor(store, client, "own", "owner")
    for content, columns in (
        (b"question,left,right\nq,a,b\n", "the columns question, left, right"),
        (
            b"prompt,answer_1,answer_2,judgement\nq,a,b,left\n",
            "answer_1, answer_2, judgement, prompt",
        ),
    ):
        page = upload(client, content, "foreign.csv", format="csv")
        assert page.status_code == 422
        assert "Nothing was imported" in page.text
        assert columns in page.text
        assert "expected the columns prompt, answer_1, answer_2 and judgement" in page.text
    with store.read() as tx:
        assert datasets.names(tx) == ["support"]
    no_more = upload(client, b'{"prompt": "q", "chosen": "", "rejected": "b"}\n', dataset="support")
    assert "is as it was, since no row can be used" in no_more.text


def test_a_broken_upload_names_its_line_and_leaves_the_data_as_it_was(
    studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, client = studio
    visitor(store, client, "own", "owner")
    broken = upload(client, ROWS + b"{\n")
    assert broken.status_code == 422
    assert "pairs.jsonl line 3 is broken JSON" in broken.text
    assert "/tmp" not in broken.text
    assert client.get("/data/pairs").status_code == 404
    assert upload(client, b"", "").status_code == 422
    assert upload(client, ROWS, "../../etc/x.jsonl").status_code == 200
    monkeypatch.setattr(exchange, "MAX_UPLOAD", 10)
    too_large = upload(client, ROWS)
    assert too_large.status_code == 413
    assert "import a larger file with heedful import" in too_large.json()["error"]["message"]
    token = csrf_of(client.get("/").text)
    page = client.post("/import", data={"csrf": token}, headers={"accept": "text/html"})
    assert page.status_code == 413
    assert "at most 10 are read" in page.text
    assert "To the projects" in page.text
    token = csrf_of(client.get("/").text)
    assert client.post("/import", data={"csrf": token[::-1]}).status_code in (403, 413)


def test_an_upload_says_which_columns_mean_nothing(studio) -> None:
    store, client = studio
    visitor(store, client, "own", "owner")
    sheet = b"prompt,answer_1,answer_2,judgement,strenght\nq,a,b,1,3\n"
    page = upload(client, sheet, "sheet.csv", format="csv").text
    assert "strenght" in page
    assert "did you mean <code>strength</code>?" in page
    made = client.post("/api/data/sheet/import?format=csv", content=sheet,
                       headers={"x-csrf-token": csrf_of(client.get("/").text)})  # fmt: skip
    assert made.json()["ignored"] == {"strenght": 1}


@pytest.mark.parametrize("name", ["..", "x" * 300 + ".jsonl", "a\\..\\b.jsonl", "ü?#.jsonl"])
def test_a_file_of_any_name_is_read(studio, name: str) -> None:
    store, client = studio
    visitor(store, client, "own", "owner")
    assert upload(client, ROWS, name, dataset="named").status_code == 200
    refused = upload(client, ROWS + b"{\n", name, dataset="named")
    assert refused.status_code == 422
    assert "line 3 is broken JSON" in refused.text


@pytest.mark.parametrize("name", ["team/a", "a\\b", "..", ".", "a\nb", "x" * 300])
def test_a_data_set_that_no_address_reaches_is_not_made(studio, name: str) -> None:
    store, client = studio
    visitor(store, client, "own", "owner")
    with store.read() as tx:
        before = datasets.names(tx)
    assert upload(client, ROWS, dataset=name).status_code == 422
    with store.read() as tx:
        assert datasets.names(tx) == before


def test_an_upload_that_unpacks_to_too_much_is_refused_whole(
    studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, client = studio
    visitor(store, client, "own", "owner")
    monkeypatch.setattr(exchange, "MAX_UNPACKED", 1000)
    bomb = gzip.compress(ROWS + b" " * 1_000_000)
    refused = upload(client, bomb, "bomb.jsonl.gz")
    assert refused.status_code == 422
    assert "bomb.jsonl.gz has more than" in refused.text
    assert client.get("/data/bomb").status_code == 404


def test_a_download_that_is_ended_early_is_in_the_log(
    studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, client = studio

    def nothing(file: Any) -> Any:
        file.close()
        yield b""

    monkeypatch.setattr(exchange, "pieces", nothing)
    visitor(store, client, "rea", "reader")
    client.get("/data/support/download?format=json")
    with store.read() as tx:
        (line, *_) = people.history(tx, limit=10)
    assert (line.who, line.what, line.subject) == ("usr_rea", "exported data", "support")


def test_pages_show_old_items_that_hold_no_messages(studio) -> None:
    store, client = studio
    visitor(store, client, "own", "owner")
    prompt = Prompt(messages=())
    shown = [Completion(prompt=prompt, messages=(), model=f"import:{one}") for one in "ab"]
    task = Task(form="pairwise", prompt=prompt, completion_ids=tuple(one.id for one in shown))
    with store.write() as tx:
        completions.add(tx, shown)
        projects.add_tasks(tx, "support", [task])
        given = [
            Annotation(
                task_id=task.id,
                annotator=who,
                source="human",
                payload={"preferred": preferred},
                shown_order=task.completion_ids,
            )
            for who, preferred in zip(("usr_ann", "usr_ben"), task.completion_ids, strict=True)
        ]
        annotations.add(tx, given)
    paths = ["/data/support", f"/data/support/items/{task.id}", "/projects/support",
             "/api/data/support/items", f"/api/data/support/items/{task.id}"]  # fmt: skip
    assert [client.get(path).status_code for path in paths] == [200] * len(paths)
    for name in FORMATS:
        assert client.get(f"/data/support/download?format={name}").status_code == 200, name
    for kind in KINDS:
        compute(store, "support", kind)


def test_json_of_a_page_is_the_item_as_the_file_has_it(studio) -> None:
    store, client = studio
    file = json.loads(client.get("/data/support/download").content)
    listed = client.get("/api/data/support/items").json()["items"]
    assert [{k: v for k, v in one.items() if k != "id"} for one in listed] == file["items"]
    one = client.get(f"/api/data/support/items/{first_item(store)}").json()
    assert "came from:" in one["trace"]
    assert len(one["annotations"]) == 3


def test_a_slow_reader_of_an_export_holds_no_connection(studio) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    with client.stream("GET", "/data/support/download?format=json") as answer:
        chunks = answer.iter_raw(10)
        next(chunks)
        assert store.engine.pool.checkedout() == 0
        with store.read() as tx:
            assert people.history(tx, limit=1)[0].what == "exported data"
        length = answer.headers["content-length"]
        assert length == str(10 + sum(map(len, chunks)))


def test_few_exports_are_written_at_once_and_connections_that_lack_are_told(
    studio, monkeypatch, caplog
) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    monkeypatch.setattr(exchange, "EXPORT_WAIT_SECONDS", 0.01)
    for _ in range(exchange.NUM_EXPORTS):
        client.app.state.exports.acquire()
    assert client.get("/data/support/download").status_code == 503
    for _ in range(exchange.NUM_EXPORTS):
        client.app.state.exports.release()
    assert client.get("/data/support/download").status_code == 200
    monkeypatch.setattr(store.engine.pool, "_timeout", 0.01)
    with ExitStack() as taken:
        for _ in range(15):
            taken.enter_context(store.read())
        for accept in ("application/json", "text/html"):
            away = client.get("/data", headers={"accept": accept})
            assert away.status_code == 503
            assert "the database does not answer" in away.text
            assert str(store.url) not in away.text  # which is nobody's business outside
    assert str(store.url) in caplog.text


@pytest.mark.parametrize("zipped", [False, True])
def test_an_export_onto_a_full_disk_says_so(
    studio, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    store, _ = studio
    full = Path("/dev/full").open("w+b", buffering=1 << 20)  # noqa: SIM115 - it is to be closed
    monkeypatch.setattr(exchange, "TemporaryFile", lambda **_: full)
    with pytest.raises(ResourceError, match="could not write the export of support: No space left"):
        exchange.spooled(store, "support", FORMATS["json"], zip=zipped)
    assert full.closed
