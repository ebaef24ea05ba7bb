import random
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from endpoint import Endpoint, serving
from fresh import fresh_store
from starlette.testclient import TestClient
from studio import csrf_of, visitor

from heedful.engine.remote import checked_url
from heedful.errors import ConfigError, DataError
from heedful.jobs.work import work
from heedful.store import (
    Store,
    annotations,
    chat,
    completions,
    jobs,
    models,
    queue,
    tables,
    tasks,
)
from heedful.store.chat import Endpoint as ChatEndpoint
from heedful.types import Completion, Message, ModelVersion, Prompt
from heedful.web import chat_writing
from heedful.web.app import create_app
from heedful.web.chat_writing import ask_endpoint

KEY = "sk-very-secret"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as known:
        yield known


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[tuple[Store, TestClient]]:
    with fresh_store(tmp_path / "heedful.db") as store:
        client = TestClient(create_app(store, rng=random.Random(3)), follow_redirects=False)
        visitor(store, client, "ada", "owner")
        client.headers["x-csrf-token"] = csrf_of(client.get("/").text)
        yield store, client


def register(client: TestClient, endpoint: Endpoint, name: str = "tiny") -> str:
    body = {"name": name, "url": endpoint.address, "model": "tiny", "key": KEY}
    answer = client.post("/api/chats/endpoints", json=body)
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["id"]
    return made


def begin(client: TestClient, *targets: str) -> str:
    answer = client.post("/api/chats", json={"targets": list(targets), "temperature": 0.7})
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["id"]
    return made


def say(client: TestClient, talk: str, text: str) -> dict[str, Any]:
    answer = client.post(f"/api/chats/{talk}/turns", json={"text": text})
    assert answer.status_code == 201, answer.text
    return settled(client, talk)


def settled(client: TestClient, talk: str) -> dict[str, Any]:
    """The newest turn, once nothing of it is being written any more."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        turn: dict[str, Any] = client.get(f"/api/chats/{talk}").json()["turns"][-1]
        if all(draft["state"] in ("done", "failed") for draft in turn["drafts"]):
            return turn
        time.sleep(0.02)
    raise AssertionError(turn)


def rate(client: TestClient, talk: str, number: int, rated: str, text: str = "") -> int:
    body = {"rated": rated, "text": text}
    return client.post(f"/api/chats/{talk}/turns/{number}/rate", json=body).status_code


@pytest.mark.parametrize(
    "url",
    ["http://example.com/v1", "http://10.0.0.1/v1", "http://127.0.0.1.example.com/v1",
     "http://169.254.169.254/v1", "ftp://example.com", "https://name:key@example.com/v1", "file:///etc/passwd",
     "https://example.com/v1?key=1", "https://", "example.com", "", "http://[::2]/v1",
     "https://example.com:99999/v1"],
)  # fmt: skip
def test_addresses_that_the_studio_must_not_fetch_are_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        checked_url(url)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://example.com/v1/", "https://example.com/v1"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("http://127.0.0.2:1/v1", "http://127.0.0.2:1/v1"),
        (" http://[::1]:8000/v1 ", "http://[::1]:8000/v1"),
    ],
)
def test_https_and_this_machine_are_accepted(url: str, wanted: str) -> None:
    assert checked_url(url) == wanted


def test_an_endpoint_answers_and_the_answer_is_a_completion_of_what_it_says_it_is(
    studio, endpoint: Endpoint
) -> None:
    store, client = studio
    talk = begin(client, register(client, endpoint))
    turn = say(client, talk, "Hello?")
    assert turn["answer"] == "Hello **there**."
    asked = endpoint.asked[0]
    assert asked["messages"] == [{"role": "user", "content": "Hello?"}]
    assert (asked["model"], asked["temperature"], asked["stream"]) == ("tiny", 0.7, True)
    assert endpoint.keys == [f"Bearer {KEY}"]
    with store.read() as tx:
        (one,) = completions.by_models(tx, "import:tiny")
    assert one.text == "Hello **there**."
    assert one.finish_reason == "stop"
    assert one.params == {
        "temperature": 0.7,
        "seed": asked["seed"],
        "max_new_tokens": 512,
        "url": endpoint.address,
        "model": "tiny-2026-01",
    }
    say(client, talk, "And?")
    assert [one["content"] for one in endpoint.asked[1]["messages"]] == [
        "Hello?",
        "Hello **there**.",
        "And?",
    ]
    html = client.get(f"/chat/{talk}").text
    assert "<strong>there</strong>" in html
    assert "style=" not in html


def test_the_key_of_an_endpoint_is_on_no_page_and_in_no_answer(studio, endpoint: Endpoint) -> None:
    _, client = studio
    target = register(client, endpoint)
    talk = begin(client, target)
    endpoint.status = 401
    turn = say(client, talk, "Hello?")
    assert turn["drafts"][0]["state"] == "failed"
    assert "tiny answered 401: wrong key Bearer [key]" in turn["drafts"][0]["error"]
    pages = ("/chat", "/chat/endpoints", f"/chat/{talk}", "/audit")
    seen = [client.get(path).text for path in (*pages, f"/api/chats/{talk}", "/api/chats/targets")]
    assert not any(KEY in text for text in seen)
    assert "kept here" in seen[1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"status": 307, "location": "http://169.254.169.254/"}, "answered 307"),
        ({"raw": "data: {not json\n\n"}, "sent what is no answer"),
        ({"raw": 'data: {"choices": [{"delta": {"content": 7}}]}\n\n'}, "sent what is no answer"),
        ({"raw": "data: [DONE]\n\n"}, "sent an empty answer"),
        ({"raw": "<html>"}, "sent an empty answer"),
        ({"raw": 'data: {"choices": {"a": 1}}\n\n'}, "sent what is no answer"),
        ({"raw": 'data: {"choices": [[1]]}\n\n'}, "sent what is no answer"),
        ({"raw": "data: " + "[" * 200_000 + "\n\n"}, "sent what is no answer"),
        ({"raw": 'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": {"a": 1}}]}\n\n'},
         "sent what is no answer"),
        ({"raw": "data: " + "x" * 3_000_000}, "sent a line of more than 1000000 bytes"),
    ],
)  # fmt: skip
def test_an_endpoint_that_gives_no_answer_is_told_and_asked_again(
    studio, endpoint: Endpoint, values: dict[str, Any], message: str
) -> None:
    _, client = studio
    talk = begin(client, register(client, endpoint))
    before = vars(endpoint).copy()
    vars(endpoint).update(values)
    turn = say(client, talk, "Hello?")
    assert message in turn["drafts"][0]["error"]
    assert client.post(f"/api/chats/{talk}/turns", json={"text": "more"}).status_code == 422
    vars(endpoint).update({name: before[name] for name in values})
    assert client.post(f"/api/chats/{talk}/regenerate").status_code == 201
    turn = settled(client, talk)
    assert [draft["state"] for draft in turn["drafts"]] == ["done"]
    assert turn["answer"] == turn["drafts"][0]["text"]


def answers_of(store: Store, project: str) -> list[Any]:
    with store.read() as tx:
        found = annotations.latest_by_dataset(tx, project)
    return [answer for given in found.values() for answer in given]


def test_thumbs_and_edits_are_annotations_and_a_change_is_a_revision(
    studio, endpoint: Endpoint
) -> None:
    store, client = studio
    talk = begin(client, register(client, endpoint))
    assert rate(client, talk, 0, "up") == 422
    turn = say(client, talk, "Hello?")
    written = turn["drafts"][0]["completion"]
    assert rate(client, talk, 0, "up") == 200
    (one,) = answers_of(store, "chat-answers")
    assert (one.payload, one.source, one.annotator) == ({"accepted": written}, "human", "usr_ada")
    assert rate(client, talk, 0, "down", "too short") == 200
    (one,) = answers_of(store, "chat-answers")
    assert one.payload == {"accepted": None, "comment": "too short"}
    assert one.revision == 1
    assert rate(client, talk, 0, "edited", "Hello **there**.") == 422  # as it was
    assert rate(client, talk, 0, "edited", "Good evening.") == 200
    (one,) = answers_of(store, "chat-answers")
    assert (one.payload, one.revision) == ({"written": "Good evening."}, 2)
    say(client, talk, "And?")
    assert endpoint.asked[1]["messages"][1]["content"] == "Good evening."
    assert rate(client, talk, 0, "edited", "Too late to matter") == 200
    assert client.get(f"/api/chats/{talk}").json()["turns"][0]["answer"] == "Good evening."


def test_of_two_drafts_the_choice_is_a_preference_as_it_was_shown(
    studio, endpoint: Endpoint
) -> None:
    store, client = studio
    first, second = register(client, endpoint, "plain"), register(client, endpoint, "fancy")
    orders = set()
    for number in range(6):
        talk = begin(client, first, second)
        turn = say(client, talk, f"Hello {number}?")
        a, b = turn["drafts"]
        assert (a["target"], b["target"]) == (None, None)
        html = client.get(f"/chat/{talk}").text
        assert "plain" not in html.split('id="talk"')[1]
        chosen = client.post(f"/api/chats/{talk}/choose", json={"draft": b["id"]}).json()
        told = chosen["turns"][-1]
        assert told["answer"] == b["text"]
        orders.add(tuple(draft["target"] for draft in told["drafts"]))
        (answer,) = [
            one for one in answers_of(store, "chat-drafts") if b["completion"] in one.shown_order
        ]
        assert answer.shown_order == (a["completion"], b["completion"])
        assert answer.payload == {"preferred": b["completion"]}
        again = client.post(f"/api/chats/{talk}/choose", json={"draft": a["id"]})
        assert again.status_code == 422
    assert orders == {(first, second), (second, first)}
    with store.read() as tx:
        rows = [one for asked in tasks.by_dataset(tx, "chat-drafts") for one in asked.completions]
        assert {row.model for row in completions.get(tx, rows).values()} == {
            "import:plain",
            "import:fancy",
        }


def test_regenerating_and_picking_prefers_the_picked_one(studio, endpoint: Endpoint) -> None:
    store, client = studio
    talk = begin(client, register(client, endpoint))
    old = say(client, talk, "Hello?")["drafts"][0]
    assert client.post(f"/api/chats/{talk}/regenerate").status_code == 201
    turn = settled(client, talk)
    assert turn["answer"] is None
    new = turn["drafts"][1]
    assert new["seed"] != old["seed"]
    client.post(f"/api/chats/{talk}/choose", json={"draft": new["id"]})
    (answer,) = answers_of(store, "chat-drafts")
    assert answer.payload == {"preferred": new["completion"]}
    assert answer.shown_order == (old["completion"], new["completion"])


def test_nobody_else_is_handed_or_shown_a_conversation(studio, endpoint: Endpoint) -> None:
    store, client = studio
    talk = begin(client, register(client, endpoint))
    say(client, talk, "My secret")
    rate(client, talk, 0, "up")
    other = TestClient(client.app, follow_redirects=False)
    visitor(store, other, "eve", "reviewer")
    for path in (f"/chat/{talk}", f"/chat/{talk}/turns/0", f"/api/chats/{talk}"):
        assert other.get(path).status_code == 404, path
    with store.write() as tx:
        found = queue.lease(tx, "chat-answers", "usr_eve", count=3, rng=random.Random(0))
    assert isinstance(found, queue.Nothing)
    assert other.get("/chat/endpoints").status_code == 403
    for role in ("annotator", "reader"):
        visitor(store, other, role, role)
        assert other.get("/chat").status_code == 403
        assert other.get("/api/chats").status_code == 403
        # who only answers is shown no project that never asks anything
        assert ("Chat: thumbs and edits" in other.get("/").text) is (role == "reader")


def test_what_a_model_thinks_of_an_answer_is_not_a_persons(studio, endpoint: Endpoint) -> None:
    store, client = studio
    scopes = ["enter", "review", "manage"]
    body = {"name": "judge", "scopes": scopes, "source": "model"}
    key = client.post("/api/keys", json=body).json()["key"]
    bot = TestClient(client.app, headers={"authorization": f"Bearer {key}"})
    talk = begin(bot, register(client, endpoint))
    say(bot, talk, "Hello?")
    assert rate(bot, talk, 0, "up") == 200
    (one,) = answers_of(store, "chat-answers")
    assert (one.source, one.annotator) == ("model", "usr_ada")
    bot.post(f"/api/chats/{talk}/regenerate")
    drafts = settled(bot, talk)["drafts"]
    chosen = {"draft": drafts[1]["id"]}
    assert bot.post(f"/api/chats/{talk}/choose", json=chosen).status_code == 200
    assert [one.source for one in answers_of(store, "chat-drafts")] == ["model"]


def test_a_refused_endpoint_keeps_what_was_typed_but_its_key(studio) -> None:
    _, client = studio
    fields = {"name": "tiny", "url": "http://far.example/v1", "model": "tiny-2", "key": KEY}
    page = client.post("/chat/endpoints", data=fields, headers={"accept": "text/html"})
    assert page.status_code == 422
    assert "Not added: &#39;http://far.example/v1&#39; is plain HTTP" in page.text
    for kept in ("tiny", "http://far.example/v1", "tiny-2"):
        assert f'value="{kept}"' in page.text
    assert KEY not in page.text
    nameless = client.post("/chat/endpoints", data=fields | {"name": "", "url": "https://a.b/v1"})
    assert nameless.json()["error"]["message"].startswith("an endpoint has a name")


def test_everything_works_by_forms_alone(studio, endpoint: Endpoint) -> None:
    store, client = studio
    del client.headers["x-csrf-token"]
    csrf = {"csrf": csrf_of(client.get("/").text)}
    fields = {"name": "tiny", "url": endpoint.address, "model": "tiny", "key": KEY}
    assert client.post("/chat/endpoints", data=fields | csrf).status_code == 303
    target = re.search(r'value="(end_\w+)"', client.get("/chat").text).group(1)  # type: ignore[union-attr]
    talk = client.post("/chat", data={"target": target} | csrf).headers["location"]
    assert client.post(f"{talk}/say", data={"text": "Hello?"} | csrf).status_code == 303
    settled(client, talk.rpartition("/")[2])
    assert "<strong>there</strong>" in client.get(talk).text
    assert client.post(f"{talk}/turns/0/rate", data={"rated": "up"} | csrf).status_code == 303
    assert client.post(f"{talk}/regenerate", data=csrf).status_code == 303
    turn = settled(client, talk.rpartition("/")[2])
    assert "B is best" in client.get(talk).text
    chosen = {"draft": turn["drafts"][1]["id"]} | csrf
    assert client.post(f"{talk}/choose", data=chosen).status_code == 303
    page = client.get(talk).text
    assert "Good day to you." in page
    assert "The other draft" in page
    assert client.post(f"/chat/endpoints/{target}/drop", data=csrf).status_code == 303
    assert target not in client.get("/chat").text
    assert len(answers_of(store, "chat-answers")) == 1
    assert len(answers_of(store, "chat-drafts")) == 1


def test_a_registered_model_is_answered_by_the_worker_as_the_version_that_it_is(
    studio, tmp_path: Path
) -> None:
    from heedful.jobs import models as job_models

    store, client = studio
    trunk = job_models.open_trunk(job_models.find_model("test", None), dtype="auto")
    base = job_models.register_base(store, trunk)
    answer = client.post("/api/chats", json={"targets": [base.id], "max_new_tokens": 8})
    talk = answer.json()["id"]
    client.post(f"/api/chats/{talk}/turns", json={"text": "Hello?"})
    assert "Waits for the worker" in client.get(f"/chat/{talk}").text
    assert "No worker is running" not in client.get(f"/chat/{talk}").text
    with store.write() as tx:
        tx.connection.execute(tables.jobs.update().values(created_at=LONG_AGO))
    for address in (f"/chat/{talk}", f"/chat/{talk}/turns/0", "/runs", "/jobs"):
        assert "No worker is running" in client.get(address).text, address
    assert work(store, tmp_path / "runs", say=lambda _: None, once=True) == 1
    turn = settled(client, talk)
    with store.read() as tx:
        (one,) = completions.by_models(tx, base.id)
    assert turn["drafts"][0]["completion"] == one.id
    assert turn["answer"] == one.text
    assert one.params == {
        "temperature": 0.8,
        "seed": turn["drafts"][0]["seed"],
        "max_new_tokens": 8,
    }
    assert client.get("/api/jobs").json() == []  # a conversation is no job of the list


def test_a_model_that_cannot_write_is_no_target_and_a_broken_one_is_told(
    studio, tmp_path: Path
) -> None:
    store, client = studio
    with store.write() as tx:
        reward = ModelVersion(role="reward", name="r", weights_hash="r", path="/nowhere")
        gone = ModelVersion(role="policy", name="p", weights_hash="p", path="/nowhere")
        models.add(tx, reward)
        models.add(tx, gone)
    assert [one["id"] for one in client.get("/api/chats/targets").json()] == [gone.id]
    assert client.post("/api/chats", json={"targets": [reward.id]}).status_code == 422
    talk = begin(client, gone.id)
    client.post(f"/api/chats/{talk}/turns", json={"text": "Hello?"})
    work(store, tmp_path / "runs", say=lambda _: None, once=True)
    turn = settled(client, talk)
    assert turn["drafts"][0]["state"] == "failed"
    assert turn["drafts"][0]["error"]


def test_what_was_said_in_conversations_is_compared_for_nobody(studio) -> None:
    store, client = studio
    with store.write() as tx:
        made = [
            ModelVersion(role="policy", name=name, weights_hash=name, path=f"/{name}")
            for name in ("one", "two")
        ]
        for version in made:
            models.add(tx, version)
        asked = Prompt.of("Of a data set")
        told = [completion(asked, version.id, f"{version.name} says") for version in made]
        completions.add(tx, told)
    talk = begin(client, *(version.id for version in made))
    client.post(f"/api/chats/{talk}/turns", json={"text": "My secret"})
    with store.write() as tx:
        for draft in chat.turns(tx, talk)[0].drafts:
            prompt = chat.prompt_of(tx, talk, 0)
            chat.complete(tx, draft, completion(prompt, draft.target, "private"))
    visitor(store, client, "rita", "reader")
    del client.headers["x-csrf-token"]  # which is ada's
    a, b = (version.id for version in made)
    page = client.get("/models/compare", params={"a": a, "b": b}).text
    assert "one says" in page
    assert "My secret" not in page


def completion(prompt: Prompt, model: str, text: str) -> Completion:
    return Completion(
        prompt=prompt, messages=(Message(role="assistant", content=text),), model=model
    )


@pytest.mark.parametrize("ahead", [*range(380, 404), 290])
def test_no_part_of_a_key_is_left_where_a_message_is_cut(endpoint: Endpoint, ahead: int) -> None:
    asked = ChatEndpoint(id="end_1", name="E", url=endpoint.address, model="m", has_key=True)
    params = {"temperature": 1.0, "max_new_tokens": 5, "seed": 1}
    for values in ({"status": 401, "told": "x" * ahead}, {"raw": f"data: {'x' * ahead}{KEY}\n\n"}):
        vars(endpoint).update(values)
        with pytest.raises(DataError) as told:
            ask_endpoint(asked, KEY, (), params, lambda _: True)
        assert KEY[:5] not in str(told.value)
        endpoint.status = 200


def test_lines_that_keep_a_stream_open_are_a_sign_of_life(endpoint: Endpoint) -> None:
    asked = ChatEndpoint(id="end_1", name="E", url=endpoint.address, model="m", has_key=True)
    params = {"temperature": 1.0, "max_new_tokens": 5, "seed": 1}
    endpoint.keep_alives = 2
    pieces: list[str] = []
    found = ask_endpoint(asked, "", (), params, lambda piece: pieces.append(piece) is None)
    assert pieces[:2] == ["", ""]
    assert found.text == "Hello **there**."


def test_a_draft_whose_thread_breaks_has_failed(
    studio, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, client = studio
    talk = begin(client, register(client, endpoint))

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(chat_writing, "ask_endpoint", broken)
    assert "ZeroDivisionError" in say(client, talk, "Hello?")["drafts"][0]["error"]


def policy(store: Store, name: str = "p") -> str:
    version = ModelVersion(role="policy", name=name, weights_hash=name, path="/nowhere")
    with store.write() as tx:
        models.add(tx, version)
    return version.id


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"state": "cancelled"}, "was cancelled"),
        ({"state": "failed", "error": "no such model"}, "no such model"),
        ({"state": "running", "attempts": 3, "until": LONG_AGO}, "died"),
        (None, "is gone"),
    ],
)
def test_a_draft_whose_worker_is_gone_has_failed_and_can_be_asked_for_again(
    studio, values: dict[str, Any] | None, why: str
) -> None:
    store, client = studio
    talk = begin(client, policy(store))
    client.post(f"/api/chats/{talk}/turns", json={"text": "Hello?"})
    look = (f"/api/chats/{talk}", f"/chat/{talk}/turns/0", f"/chat/{talk}")
    assert "Waits for the worker" in client.get(look[1]).text
    with store.write() as tx:
        job = tables.jobs
        changed = job.delete() if values is None else job.update().values(**values)
        tx.connection.execute(changed)
    assert why in client.get(look[1]).text
    assert client.get(look[0]).json()["turns"][0]["drafts"][0]["state"] == "failed"
    assert "Try again" in client.get(look[2]).text
    assert client.post(f"/api/chats/{talk}/regenerate").status_code == 201


def test_a_long_answer_can_be_stopped(studio, endpoint: Endpoint) -> None:
    store, client = studio
    endpoint.pause, endpoint.answers = 0.3, ["one two three four five six seven eight nine ten"]
    for target in (register(client, endpoint), policy(store)):
        talk = begin(client, target)
        client.post(f"/api/chats/{talk}/turns", json={"text": "Count!"})
        assert "Stop" in client.get(f"/chat/{talk}").text
        assert client.post(f"/chat/{talk}/stop").status_code == 303
        turn = settled(client, talk)
        assert (turn["drafts"][0]["state"], turn["answer"]) == ("failed", None)
        assert "you stopped it" in client.get(f"/chat/{talk}").text
        assert client.post(f"/api/chats/{talk}/stop").status_code == 200  # nothing to stop
    with store.read() as tx:
        (job,) = jobs.newest(tx, limit=9, kinds=["chat"])
    assert job.state == "cancelled"
    time.sleep(0.5)
    assert settled(client, talk)["drafts"][0]["state"] == "failed"


def test_a_stopped_comparison_is_tried_again_as_a_whole(studio, endpoint: Endpoint) -> None:
    store, client = studio
    talk = begin(client, register(client, endpoint, "plain"), register(client, endpoint, "fancy"))
    pause, endpoint.pause = endpoint.pause, 0.3
    client.post(f"/api/chats/{talk}/turns", json={"text": "Hello?"})
    client.post(f"/chat/{talk}/stop")
    assert {draft["state"] for draft in settled(client, talk)["drafts"]} == {"failed"}
    endpoint.pause = pause
    again = client.post(f"/api/chats/{talk}/regenerate").json()["drafts"]
    turn = settled(client, talk)
    assert [draft["id"] for draft in turn["drafts"]] == again
    with store.read() as tx:
        assert {chat.get_draft(tx, one).target for one in again} == set(
            chat.settings_of(tx, talk).targets
        )
    page = client.get(f"/chat/{talk}").text
    assert "A is best" in page
    assert "B is best" in page
    chosen = client.post(f"/api/chats/{talk}/choose", json={"draft": again[1]})
    assert chosen.json()["turns"][0]["answer"] == turn["drafts"][1]["text"]
    assert len(answers_of(store, "chat-drafts")) == 1


def test_another_draft_is_compared_with_those_of_its_own_author_only(
    studio, endpoint: Endpoint
) -> None:
    store, client = studio
    talk = begin(client, register(client, endpoint, "plain"), register(client, endpoint, "fancy"))
    a, b = say(client, talk, "Hello?")["drafts"]
    client.post(f"/api/chats/{talk}/choose", json={"draft": b["id"]})
    assert len(answers_of(store, "chat-drafts")) == 1  # blind
    client.post(f"/api/chats/{talk}/regenerate")
    new = settled(client, talk)["drafts"][2]
    page = client.get(f"/chat/{talk}").text
    assert "C is best" in page
    assert "A is best" not in page  # its author is known by now
    assert client.post(f"/api/chats/{talk}/choose", json={"draft": a["id"]}).status_code == 422
    assert client.post(f"/api/chats/{talk}/choose", json={"draft": new["id"]}).status_code == 200
    pairs = {one.shown_order for one in answers_of(store, "chat-drafts")}
    assert pairs == {
        (a["completion"], b["completion"]),
        (b["completion"], new["completion"]),
    }
