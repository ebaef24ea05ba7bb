import sys
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from heedful.errors import ConfigError, DataError, MissingError
from heedful.store import (
    Store,
    annotations,
    browse,
    completions,
    datasets,
    people,
    projects,
    tables,
    tasks,
)
from heedful.store.browse import Filters
from heedful.store.tracing import chain
from heedful.types import Annotation, Completion, Message, Project, Prompt, Task, User

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def ask(tx: Any, number: int, form: str = "pairwise", origin: str = "import:a") -> Task:
    prompt = Prompt.of(f"Frage {number}: wie heißt \\ 100% der Fluß?")
    shown = [
        Completion(
            prompt=prompt,
            messages=(Message(role="assistant", content=f"{side} {number}"),),
            model=origin,
        )
        for side in (("left", "right") if form == "pairwise" else ("left",))
    ]
    completions.add(tx, shown)
    task = Task(form=form, prompt=prompt, completion_ids=tuple(one.id for one in shown))
    tasks.add(tx, [task])
    datasets.add_tasks(tx, "d", [task.id])
    return task


def give(tx: Any, task: Task, who: str, place: int, *, day: int = 0, **more: Any) -> None:
    source = "simulated" if who.startswith("simulated:") else "human"
    payload = more.pop("payload", {})
    if task.form == "critique":
        payload = {"critique": f"said {place}"}
    else:
        payload = {"preferred": task.completion_ids[place], **payload}
    one = Annotation(
        task_id=task.id,
        annotator=who,
        source=source,
        payload=payload,
        shown_order=task.completion_ids,
        **more,
    )
    annotations.add(tx, [one], times={one.id: NOON + timedelta(days=day)})


@pytest.fixture
def made(store: Store) -> dict[str, str]:
    """One item for each thing to look for."""
    with store.write() as tx:
        people.add(tx, User(id="usr_1", name="Ada", role="annotator"))
        found = {
            "plain": ask(tx, 1),
            "disputed": ask(tx, 2),
            "settled": ask(tx, 3),
            "unanswered": ask(tx, 4),
            "critique": ask(tx, 5, "critique"),
            "foreign": ask(tx, 6, origin="import:b"),
        }
        give(tx, found["plain"], "usr_1", 0)
        give(tx, found["disputed"], "usr_1", 0, day=1, payload={"comment": "No."})
        give(tx, found["disputed"], "usr_2", 1, day=1)
        give(tx, found["settled"], "usr_2", 0, payload={"strength": 1})
        give(tx, found["settled"], "usr_3", 1)
        give(tx, found["settled"], "usr_3", 0, day=5, revision=1)
        give(tx, found["critique"], "usr_2", 0)
        give(tx, found["critique"], "usr_3", 1)
        give(tx, found["foreign"], "simulated:x", 0, day=9)
        datasets.add_prompts(tx, "d", [Prompt.of("A bare prompt about a river")])
        datasets.add_tasks(tx, "other", [found["plain"].id])
    return {task.id: name for name, task in found.items()}


def seen(store: Store, made: dict[str, str], **wanted: Any) -> set[str]:
    with store.read() as tx:
        page = browse.page(tx, "d", Filters(**wanted), clock=lambda: 0.0)
    assert page.after is None
    assert [one.id for one in page.items] == sorted(one.id for one in page.items)
    return {made.get(one.id, "bare") for one in page.items}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, "plain disputed settled unanswered critique foreign bare"),
        ({"form": "critique"}, "critique"),
        ({"state": "answered"}, "plain disputed settled critique foreign"),
        ({"state": "unanswered"}, "unanswered"),
        ({"state": "skipped"}, ""),
        ({"annotator": "usr_1"}, "plain disputed"),
        ({"annotator": "Ada"}, "plain disputed"),
        ({"annotator": "nobody"}, ""),
        ({"source": "simulated"}, "foreign"),
        ({"author": "import:b"}, "foreign"),
        ({"author": "import:none"}, ""),
        ({"comment": True}, "disputed"),
        ({"disagreement": True}, "disputed"),
        ({"since": date(2026, 1, 2)}, "disputed settled foreign"),
        ({"until": date(2026, 1, 1)}, "plain settled critique"),
        ({"since": date(2026, 1, 2), "until": date(2026, 1, 2)}, "disputed"),
        ({"annotator": "usr_3", "since": date(2026, 1, 2)}, "settled"),
        ({"annotator": "usr_1", "comment": True}, "disputed"),
        ({"text": "frage 3"}, "settled"),
        ({"text": "HEIßT"}, "plain disputed settled unanswered critique foreign"),
        ({"text": "\\ 100%"}, "plain disputed settled unanswered critique foreign"),
        ({"text": "river"}, "bare"),
        ({"text": "content"}, ""),
        ({"text": "frage_3"}, ""),
        ({"text": "frage", "form": "critique"}, "critique"),
    ],
    ids=repr,
)
def test_filters_pass_what_they_say(
    store: Store, made: dict[str, str], wanted: dict[str, Any], expected: str
) -> None:
    assert seen(store, made, **wanted) == set(expected.split())


SAID = ("Où est l'école?", "OÙ EST L'ÉCOLE?", "ПРИВЕТ", "привет", "STRASSE", "Straße", "ﬁnd 3K",
        "a%b_c", "path\\x", "line\nbreak", "x/y", "plain")  # fmt: skip


@pytest.mark.parametrize("wanted", ["école", "ÉCOLE", "привет", "ПРИВЕТ", "strasse", "STRASSE",
                                    "straße", "FIND", "3k", "%", "_", "\\", "\\x", "line\nBREAK",
                                    "x/Y", "Ù", "break", "lai", "\u017f", "u00",
                                    "\\u"])  # fmt: skip
def test_words_are_found_in_any_case_of_any_script(store: Store, wanted: str) -> None:
    with store.write() as tx:
        datasets.add_prompts(tx, "d", map(Prompt.of, SAID))
        page = browse.page(tx, "d", Filters(text=wanted), clock=lambda: 0.0)
    found = {one.prompt.messages[0].content for one in page.items}
    assert found == {one for one in SAID if wanted.casefold() in one.casefold()}


def test_every_ascii_letter_that_another_letter_becomes_is_known() -> None:
    every = {one for code in range(128, sys.maxunicode) for one in chr(code).casefold()}
    assert {one for one in every if one.isascii()} == browse._FOLDED_TO


def skip(tx: Any, project: str, task_id: str) -> None:
    """Ada gave the task back in a project of that name."""
    projects.add(tx, Project(dataset=project, title=project, form="pairwise"))
    row = {"project": project, "task_id": task_id, "annotator": "usr_1", "round": 0,
           "kind": "answer", "shown_order": [], "state": "skipped", "skip_reason": "odd",
           "given": 0, "changed_at": tx.now}  # fmt: skip
    tx.insert_new(tables.assignments, [row])


def test_a_task_is_skipped_in_the_project_in_which_it_was_given_back(
    store: Store, made: dict[str, str]
) -> None:
    ids = {name: id for id, name in made.items()}
    with store.write() as tx:
        skip(tx, "d", ids["unanswered"])
        skip(tx, "other", ids["plain"])
        assert [one.annotator for one in browse.skips(tx, "d", ids["unanswered"])] == ["usr_1"]
        assert browse.skips(tx, "d", ids["plain"]) == []
    assert seen(store, made, state="skipped") == {"unanswered"}


def test_every_filter_searches_an_index_for_each_item(store: Store, made: dict[str, str]) -> None:
    if store.engine.dialect.name != "sqlite":
        pytest.skip("the plan of a small table on PostgreSQL is always a scan")
    every = {"form": "pairwise", "annotator": "usr_1", "source": "human", "author": "import:a",
             "text": "frage", "comment": True, "disagreement": True}  # fmt: skip
    asked = [{name: value} for name, value in every.items()]
    asked += [{"state": state} for state in browse.STATES]
    with store.read() as tx:
        for wanted in asked:
            filters = Filters(**wanted)
            window = browse._window("d", filters, "", 2000)
            query = browse._passing(window, "d", filters).compile(
                tx.connection.engine, compile_kwargs={"literal_binds": True}
            )
            plan = tx.connection.execute(text(f"explain query plan {query}".replace(":", r"\:")))
            scans = [row.detail for row in plan if row.detail.startswith("SCAN")]
            assert all("SCAN anon_" in one for one in scans), (wanted, scans)  # the window


@pytest.mark.parametrize("wanted", [{}, {"text": "frage"}, {"annotator": "usr_2"}], ids=repr)
@pytest.mark.parametrize("window", [1, 2, 3, 100])
def test_pages_of_any_size_show_every_item_once_and_in_order(
    store: Store,
    made: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    wanted: dict[str, Any],
    window: int,
) -> None:
    with store.read() as tx:
        whole = [one.id for one in browse.page(tx, "d", Filters(**wanted)).items]
        monkeypatch.setattr(browse, "WINDOW", window)
        for limit in (1, 2, 50):
            found, after = [], ""
            while after is not None:
                page = browse.page(tx, "d", Filters(**wanted), after=after, limit=limit)
                assert len(page.items) <= limit
                found += [one.id for one in page.items]
                after = page.after
            assert found == whole


def test_a_search_that_takes_long_ends_early_and_goes_on(
    store: Store, made: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse, "WINDOW", 2)
    ticks = iter(range(1000))
    found, after, num_partial = [], "", 0
    with store.read() as tx:
        while after is not None:
            wanted = Filters(form="critique")
            page = browse.page(tx, "d", wanted, after=after, clock=lambda: float(next(ticks)))
            num_partial += page.is_partial
            found += [made[one.id] for one in page.items]
            after = page.after
    assert (found, num_partial) == (["critique"], 4)


def test_a_window_of_which_much_has_to_be_read_whole_ends_early_too(
    store: Store, made: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse, "_CHUNK", 1)
    ticks = iter(range(1000))
    found, after, num_partial = [], "", 0
    with store.read() as tx:
        while after is not None:
            wanted = Filters(disagreement=True)
            page = browse.page(tx, "d", wanted, after=after, clock=lambda: float(next(ticks)))
            num_partial += page.is_partial
            found += [made[one.id] for one in page.items]
            after = page.after
    assert found == ["disputed"]
    assert num_partial >= 3  # of three items that two people answered


@pytest.mark.parametrize(("milliseconds", "most"), [(0.01, 2000), (0.2, 512), (3.0, 40)])
def test_a_slow_disk_is_asked_for_less_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, milliseconds: float, most: int
) -> None:
    now, sizes, window = [0.0], [], browse._window

    def counted(dataset: str, filters: Filters, after: str, size: int) -> Any:
        now[0] += size * milliseconds / 1000
        sizes.append(size)
        return window(dataset, filters, after, size)

    monkeypatch.setattr(browse, "_window", counted)
    with store.write() as tx:
        datasets.add_prompts(tx, "long", [Prompt.of(f"Question {n}?") for n in range(6000)])
        page = browse.page(tx, "long", Filters(form="critique"), clock=lambda: now[0])
    assert max(sizes) <= most
    assert now[0] < browse.BUDGET + 0.1
    assert page.num_seen == min(sum(sizes), 6000)


def test_odd_filters_are_refused(store: Store, made: dict[str, str]) -> None:
    with store.read() as tx:
        with pytest.raises(MissingError, match="dataset 'e' is not in the store"):
            browse.page(tx, "e", Filters())
        with pytest.raises(ConfigError, match="unknown form"):
            browse.page(tx, "d", Filters(form="pair"))
        with pytest.raises(DataError, match="state is 'open'"):
            browse.page(tx, "d", Filters(state="open"))  # type: ignore[arg-type]


def test_names_to_filter_by_are_found_without_reading_everything(
    store: Store, made: dict[str, str]
) -> None:
    with store.read() as tx:
        assert browse.annotator_names(tx) == ["simulated:x", "usr_1", "usr_2", "usr_3"]
        assert browse.author_names(tx) == ["import:a", "import:b"]


def test_a_chain_ends_where_it_is_told_to(store: Store, made: dict[str, str]) -> None:
    (plain,) = (id for id, name in made.items() if name == "plain")
    with store.read() as tx:
        whole, cut = chain(tx, plain), chain(tx, plain, ends=frozenset({"cmp"}))
        with pytest.raises(MissingError, match="'tsk_0' is not in the store"):
            chain(tx, "tsk_0")
    assert "prompt" in whole.render()
    assert "prompt" not in cut.render()
    assert [node.kind for node in cut.led_to] == ["ann"]
