import json
from dataclasses import replace
from pathlib import Path

import pytest
from studio import SECRET_MODEL, Fields, csrf_of, make_studio, visitor

from heedful.store import annotations, completions, people, projects, queue, tasks
from heedful.types import Completion, Message, Project, Prompt, Task
from heedful.web import render
from heedful.web.render import HIDDEN
from heedful.web.shown import hide

LABEL = "/projects/support/label"
ANSWERS = "/projects/support/answers"
AS_JSON = {"accept": "application/json"}


@pytest.fixture
def studio(tmp_path: Path):
    store, client = make_studio(tmp_path)
    with store:
        visitor(store, client, "ann")
        yield store, client


def items(client, **fields):
    """What the page's script asks for."""
    token = {"x-csrf-token": csrf_of(client.get("/").text)}
    return client.post("/projects/support/items", data=fields, headers=AS_JSON | token)


def stored(store):
    with store.read() as tx:
        return [one for asked in tasks.by_dataset(tx, "support") for one in asked.annotations]


def test_a_whole_stint_without_scripts(studio) -> None:
    store, client = studio
    for number in range(4):
        page = client.get(LABEL)
        assert f"Question {number}?" in page.text
        fields = Fields.of(page.text) | {"choice": "0"}
        answer = client.post(ANSWERS, data=fields)
        assert (answer.status_code, answer.headers["location"]) == (303, LABEL)
    assert "Everything in this project is answered" in client.get(LABEL).text
    assert len(stored(store)) == 4


@pytest.mark.parametrize(
    ("choice", "place", "extra"),
    [
        ("0", 0, {}),
        ("1", 1, {}),
        ("0+", 0, {"strength": 3}),
        ("1+", 1, {"strength": 3}),
        ("tie", None, {}),
        ("both_bad", "both_bad", {}),
    ],
)
def test_the_side_that_was_pressed_is_the_answer_that_is_stored(studio, choice, place, extra):
    store, client = studio
    fields = Fields.of(client.get(LABEL).text) | {"choice": choice, "seconds": "4.2"}
    client.post(ANSWERS, data=fields)
    (one,) = stored(store)
    preferred = one.shown_order[place] if isinstance(place, int) else place
    assert one.payload == {"preferred": preferred} | extra
    assert (one.seconds, one.source, one.annotator) == (4.2, "human", "usr_ann")


def test_the_left_pane_shows_the_first_of_the_shown_order(studio) -> None:
    store, client = studio
    page = client.get(LABEL).text
    fields = Fields.of(page)
    with store.read() as tx:
        order = queue.get(tx, "support", "usr_ann", fields["task"]).shown_order
        shown = tasks.get(tx, [fields["task"]])[fields["task"]].completions
    texts = [shown[one].text.split(" <")[0] for one in order]
    assert page.index(texts[0]) < page.index(texts[1])


def test_no_page_tells_who_wrote_an_answer(studio) -> None:
    _, client = studio
    item = items(client).text
    for text in (client.get(LABEL).text, item, client.get("/").text):
        assert "secret-model" not in text
        assert SECRET_MODEL not in text


def test_markup_in_answers_is_text(studio) -> None:
    _, client = studio
    page = client.get(LABEL).text
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold" in page


def test_sending_an_answer_twice_stores_it_once(studio) -> None:
    store, client = studio
    fields = Fields.of(client.get(LABEL).text) | {"choice": "1"}
    first = client.post(ANSWERS, data=fields, headers=AS_JSON).json()["stored"]
    again = client.post(ANSWERS, data=fields, headers=AS_JSON).json()["stored"]
    assert first == again
    assert len(stored(store)) == 1


def test_a_refused_answer_says_why_and_stores_nothing(studio) -> None:
    store, client = studio
    fields = Fields.of(client.get(LABEL).text)
    for wrong in (
        {},
        {"choice": "7"},
        {"choice": "0", "seconds": "-1"},
        {"choice": "0+", "key": ""},
    ):
        answer = client.post(ANSWERS, data=fields | wrong, headers=AS_JSON)
        assert answer.status_code == 422
        assert answer.json()["error"]["message"]
    assert stored(store) == []


def test_items_are_held_ahead_and_never_given_twice(studio) -> None:
    store, client = studio
    mine = {one["task"] for one in items(client).json()["items"]}
    assert len(mine) == 3
    visitor(store, client, "ben")
    theirs = {one["task"] for one in items(client).json()["items"]}
    assert len(theirs) == 1
    assert not mine & theirs


def test_undo_shows_the_last_answer_and_stores_a_revision(studio) -> None:
    store, client = studio
    page = client.get(LABEL).text
    fields = Fields.of(page) | {"choice": "0"}
    client.post(ANSWERS, data=fields)
    back = client.get("/projects/support/recent/0", headers=AS_JSON).json()
    assert back["task"] == fields["task"]
    assert "choose again to change it" in back["html"]
    client.post(ANSWERS, data=Fields.of(back["html"]) | {"choice": "1"})
    with store.read() as tx:
        (newest,) = annotations.latest(tx, [fields["task"]])
    assert newest.revision == 1
    assert newest.payload["preferred"] == newest.shown_order[1]
    assert client.get("/projects/support/recent/5", headers=AS_JSON).status_code == 404


def test_a_draft_comes_back_after_a_reload(studio) -> None:
    _, client = studio
    page = client.get(LABEL).text
    task = Fields.of(page)["task"]
    draft = {"written": "Half a better ans", "comment": "both <rude>"}
    sent = client.put(
        f"/projects/support/drafts/{task}",
        content=json.dumps(draft),
        headers={"x-csrf-token": csrf_of(page), "content-type": "application/json"},
    )
    assert sent.status_code == 200
    again = client.get(LABEL).text
    assert "Half a better ans</textarea>" in again
    assert "both &lt;rude&gt;</textarea>" in again


def test_a_skipped_task_goes_to_somebody_else(studio) -> None:
    store, client = studio
    page = client.get(LABEL).text
    fields = Fields.of(page, "skip-form") | {"reason": "Not my language"}
    assert client.post("/projects/support/skips", data=fields).status_code == 303
    assert Fields.of(client.get(LABEL).text)["task"] != fields["task"]
    visitor(store, client, "ben")
    assert Fields.of(client.get(LABEL).text)["task"] == fields["task"]


def test_a_task_of_somebody_else_cannot_be_answered_or_read(studio) -> None:
    store, client = studio
    task = Fields.of(client.get(LABEL).text)["task"]
    visitor(store, client, "ben")
    page = client.get(LABEL).text
    forged = Fields.of(page) | {"task": task, "choice": "0"}
    assert client.post(ANSWERS, data=forged, headers=AS_JSON).status_code == 404
    assert client.get(f"/projects/support/tasks/{task}", headers=AS_JSON).status_code == 404
    assert stored(store) == []


def test_a_refused_answer_without_scripts_comes_back_with_what_was_typed(studio) -> None:
    store, client = studio
    fields = Fields.of(client.get(LABEL).text)
    typed = {"choice": "0", "written": f"Ask {HIDDEN}", "comment": "it is <rude>"}
    answer = client.post(ANSWERS, data=fields | typed, headers={"accept": "text/html"})
    assert answer.status_code == 422
    assert "which stands for a hidden phrase" in answer.text
    assert f"Ask {HIDDEN}</textarea>" in answer.text
    assert "it is &lt;rude&gt;</textarea>" in answer.text
    again = Fields.of(answer.text) | {"choice": "0", "written": "Ask me"}
    assert client.post(ANSWERS, data=again).status_code == 303
    (one,) = stored(store)
    assert one.payload["written"] == "Ask me"


@pytest.mark.parametrize("text", [f"{HIDDEN} is best", f"a{HIDDEN}b", f"\n{HIDDEN}\n"])
def test_the_mark_of_a_hidden_phrase_is_never_stored_as_an_answer(studio, text: str) -> None:
    store, client = studio
    fields = Fields.of(client.get(LABEL).text) | {"choice": "1", "written": text}
    answer = client.post(ANSWERS, data=fields, headers=AS_JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "data")
    assert HIDDEN in answer.json()["error"]["message"]
    assert stored(store) == []
    kept = fields | {"written": "⟦other⟧ [hidden]", "comment": f"why is it {HIDDEN}?"}
    assert client.post(ANSWERS, data=kept, headers=AS_JSON).status_code == 200
    (one,) = stored(store)
    assert one.payload["written"] == "⟦other⟧ [hidden]"


def test_an_assistants_name_and_a_phrase_in_a_tool_call_never_reach_the_browser(studio) -> None:
    store, client = studio
    call = {"id": "c", "type": "function", "function": {"name": "say", "arguments": None}}
    call["function"]["arguments"] = json.dumps({"text": "I am GPT-4 of Café AI"})
    turns = (
        Message(role="assistant", content="", name="gpt-9", tool_calls=(json.dumps(call),)),
        Message(role="tool", content="ok", name="say", tool_call_id="c"),
        Message(role="assistant", content="Done", name="gpt-9"),
    )
    prompt = Prompt.of("Say who you are")
    sides = [
        Completion(prompt=prompt, messages=(*turns[:2], replace(turns[2], content=text)),
                   model=SECRET_MODEL)
        for text in ("Done", "Gone")
    ]  # fmt: skip
    with store.write() as tx:
        completions.add(tx, sides)
        ids = tuple(one.id for one in sides)
        new = Task(form="pairwise", prompt=prompt, completion_ids=ids, priority=9.0)
        projects.add_tasks(tx, "support", [new])
        settings = projects.get(tx, "support")
        projects.change(tx, replace(settings, masked=("GPT-4", "Café AI")))
        people.grant(tx, "hk_1", "key", "usr_ann", valid=None, scopes=("enter", "label"))
    page = client.get(LABEL).text
    key = {"authorization": "Bearer hk_1"}
    api = client.post("/api/projects/support/lease", json={}, headers=key).json()
    for text in (page, json.dumps(api, ensure_ascii=False)):
        assert "Done" in text
        assert "gpt-9" not in text
        assert "GPT-4" not in text
        assert "Café" not in text
        assert HIDDEN in text
    sent = api["items"][0]["candidates"][0]["messages"]
    assert json.loads(sent[0]["tool_calls"][0])["function"]["name"] == "say"
    assert sent[1]["name"] == "say"


def test_items_come_with_the_guidelines_that_they_were_given_under(studio) -> None:
    store, client = studio
    first = items(client, count=2).json()
    assert [one["guideline"] for one in first["items"]] == [1, 1]
    assert list(first["guidelines"]) == ["1"]
    assert "<strong>kinder</strong>" in first["guidelines"]["1"]
    with store.write() as tx:
        projects.write_guideline(tx, "support", "Prefer the longer one.", author="usr_o")
    then = items(client, count=3, guidelines="1").json()
    assert [one["guideline"] for one in then["items"]] == [1, 1, 2]
    assert list(then["guidelines"]) == ["2"]
    page = client.get(LABEL).text
    assert "kinder" in page
    assert "Prefer the longer" not in page
    for task in (one["task"] for one in then["items"]):
        answer = client.get(f"/projects/support/tasks/{task}", headers={"accept": "text/html"})
        with store.read() as tx:
            version = queue.get(tx, "support", "usr_ann", task).guideline
        assert ("Prefer the longer" in answer.text) == (version == 2)


def test_looking_at_addresses_takes_no_lease_but_the_labelling_page(studio) -> None:
    _, client = studio
    assert client.get("/projects/support/items", headers=AS_JSON).status_code == 405
    without_token = client.post("/projects/support/items", headers=AS_JSON)
    assert without_token.status_code == 403


def test_the_ids_of_tool_calls_do_not_tell_who_made_them() -> None:
    call = '{"id": "toolu_01A", "function": {"name": "search", "arguments": "{}"}}'
    asked = Message(role="assistant", content="", tool_calls=(call,), name="claude")
    told = Message(role="tool", content="found", tool_call_id="toolu_01A", name="search")
    one, two = hide([asked, told], Project(dataset="p", title="P", form="pairwise"))
    assert json.loads(one.tool_calls[0])["id"] == two.tool_call_id == "call_1"
    assert "toolu" not in f"{one}{two}"
    assert (one.name, two.name) == ("", "search")


def test_what_comes_next_cannot_undo_the_answer(studio, monkeypatch) -> None:
    store, client = studio
    fields = Fields.of(client.get(LABEL).text)
    monkeypatch.setattr(
        queue, "lease", lambda tx, *_, **__: tx.connection.exec_driver_sql("nonsense")
    )
    answer = client.post(ANSWERS, data=fields | {"choice": "0"}, headers=AS_JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "missing")
    monkeypatch.undo()
    assert client.post(ANSWERS, data=fields | {"choice": "0"}, headers=AS_JSON).json()["items"]
    with store.read() as tx:
        assert len(annotations.latest(tx, [fields["task"]])) == 1


def test_no_transaction_is_open_while_a_task_is_drawn(studio, monkeypatch) -> None:
    store, client = studio
    open_ones, drawn = [], render.conversation

    def watched(messages):
        open_ones.append(store.engine.pool.checkedout())
        return drawn(messages)

    monkeypatch.setattr(render, "conversation", watched)
    fields = Fields.of(client.get(LABEL).text)
    assert items(client, count=3).json()["items"]
    client.get("/projects/support/tasks/" + fields["task"])
    assert client.post(ANSWERS, data=fields | {"choice": "0"}, headers=AS_JSON).json()["items"]
    refused = client.post(ANSWERS, data=fields | {"choice": "9"}, headers={"accept": "text/html"})
    assert refused.status_code == 422
    assert len(open_ones) > 12
    assert set(open_ones) == {0}


def test_what_the_browser_has_is_not_sent_again(studio) -> None:
    _, client = studio
    first = [one["task"] for one in items(client, count=2).json()["items"]]
    then = [one["task"] for one in items(client, count=3, have=f"{first[0]}:0").json()["items"]]
    assert then[0] == first[1]
    assert len(then) == 2


def test_steps_show_calls_of_tools_and_their_results_as_conversations_do(tmp_path: Path) -> None:
    store, client = make_studio(tmp_path, form="steps", num_tasks=0)
    call = {"id": "toolu_01", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    said = (
        Message(role="assistant", content="I add.", tool_calls=(json.dumps(call),)),
        Message(role="tool", content="*4* of 5", tool_call_id="toolu_01"),
        Message(role="assistant", content="It is *four*."),
    )
    prompt = Prompt.of("2 + 2?")
    shown = Completion(prompt=prompt, messages=said, model="import:secret")
    with store.write() as tx:
        completions.add(tx, [shown])
        asked = Task(form="steps", prompt=prompt, completion_ids=(shown.id,))
        projects.add_tasks(tx, "support", [asked])
    visitor(store, client, "ann")
    page = client.get("/projects/support/label").text
    assert page.count("data-scale") == 3
    assert "<figcaption>calls <code>add</code></figcaption>" in page
    assert ">Tool add</div>" in page
    assert "*4* of 5" in page
    assert "<em>four</em>" in page
    assert "toolu" not in page
    assert "arguments" not in page
