"""Files into a project: unanswered tasks are queued, and what is known to be right is kept."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fresh import fresh_store
from sqlalchemy import func, select

from heedful.errors import DataError
from heedful.exchange.importing import ImportResult, import_preferences
from heedful.forms import FORMS
from heedful.store import Store, extras, people, projects, tables, tallies, tasks
from heedful.types import Project, User

COMPARABLE = [name for name, form in FORMS.items() if form.is_comparable]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with fresh_store(tmp_path / "heedful.db") as opened:
        with opened.write() as tx:
            people.add(tx, User(id="usr_o", name="o", role="owner"))
        yield opened


def make_project(store: Store, form: str = "pairwise", **settings: Any) -> None:
    with store.write() as tx:
        projects.add(tx, Project(dataset="p", title="P", form=form, **settings))


def item(number: int, form: str = "pairwise", num: int = 2, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Question {number}?"}]
    return {
        "form": form,
        "prompt": {"messages": messages},
        "completions": [
            {
                "id": str(place),
                "messages": [{"role": "assistant", "content": f"one {place}\n\ntwo\n\nthree"}],
            }
            for place in range(1, num + 1)
        ],
    } | more


def read(store: Store, path: Path, rows: list[dict[str, Any]], **more: Any) -> ImportResult:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return import_preferences(store, "json", [path], dataset="p", **more)


def count(store: Store) -> dict[str, int]:
    with store.read() as tx:
        return {
            table.name: tx.connection.scalar(select(func.count()).select_from(table)) or 0
            for table in tables.metadata.sorted_tables
        }


RIGHT = {"preferred": "2"}


def test_known_answers_and_open_tasks_of_a_file_and_nothing_the_second_time(
    store: Store, tmp_path: Path
) -> None:
    make_project(store, overlap=3)
    rows = [item(0, known=RIGHT), item(1), item(2, known={"preferred": None}), item(3)]
    done = read(store, tmp_path / "a.jsonl", rows, who="usr_o")
    assert (done.num_new, done.num_queued, done.num_known, done.drops) == (4, 2, 2, ())
    before = count(store)
    with store.read() as tx:
        assert tallies.read(tx, "p").num_open == 2 * 3
        asked = {one.task.id: one for one in tasks.by_dataset(tx, "p")}
        for gold in extras.golds(tx, "p"):
            one = asked[gold.task_id]
            right = one.task.completion_ids[1]
            is_first = one.task.prompt.messages[0].content == "Question 0?"
            assert gold.payload == {"preferred": right if is_first else None}
            assert gold.author == "usr_o"
        log = [(line.what, line.detail) for line in people.history(tx, limit=5)]
    assert log == [("added known answers", {"number": 2})]
    again = read(store, tmp_path / "a.jsonl", rows, who="usr_o")
    assert (again.num_new, again.num_queued, again.num_known, again.drops) == (0, 0, 0, ())
    assert count(store) == before


@pytest.mark.parametrize("form", COMPARABLE)
def test_every_form_whose_answers_can_be_compared_takes_known_ones(
    store: Store, tmp_path: Path, form: str
) -> None:
    make_project(store, form)
    num = FORMS[form].num_completions[0]
    labels = [str(place) for place in range(1, num + 1)]
    rows = [item(n, form, num, known=one) for n, one in enumerate(FORMS[form].examples(labels))]
    done = read(store, tmp_path / "a.jsonl", rows)
    assert (done.num_known, done.drops) == (len(rows), ())
    with store.read() as tx:
        asked = {one.task.id: one.task for one in tasks.by_dataset(tx, "p")}
        said = [(gold, asked[gold.task_id]) for gold in extras.golds(tx, "p")]
        assert tallies.read(tx, "p").num_slots == 0
    for gold, task in said:
        FORMS[form].validate(gold.payload, task.completion_ids)
        number = int(task.prompt.messages[0].content.split()[1].strip("?"))
        back = dict(zip(task.completion_ids, labels, strict=True))
        assert FORMS[form].renamed(gold.payload, back) == rows[number]["known"]


@pytest.mark.parametrize(
    ("row", "rule", "told"),
    [
        (item(0, known={"preferred": "3"}), "invalid_known", "choose from"),
        (item(0, known={}), "invalid_known", "no 'preferred'"),
        (item(0, known="2"), "wrong_item", "known"),
        (item(0, "critique", 1, known={"critique": "x"}), "invalid_known", "cannot be compared"),
        ({"prompt": item(0)["prompt"], "known": RIGHT}, "wrong_item", "without form"),
    ],
)
def test_a_row_whose_known_answer_cannot_be_used_is_dropped_with_its_line(
    store: Store, tmp_path: Path, row: dict[str, Any], rule: str, told: str
) -> None:
    make_project(store)
    done = read(store, tmp_path / "a.jsonl", [item(9), row])
    (drop,) = done.drops
    assert (drop.rule, drop.line, done.num_new, done.num_known) == (rule, 2, 1, 0)
    assert drop.file.endswith("a.jsonl")
    assert told in drop.detail


def test_the_first_known_answer_stays_and_the_others_are_counted(
    store: Store, tmp_path: Path
) -> None:
    make_project(store)
    other, same = {"preferred": "1"}, {"preferred": "2", "strength": 1}
    rows = [item(0, known=RIGHT), item(0, known=other), item(0, known=same)]
    done = read(store, tmp_path / "a.jsonl", rows)
    assert [(one.rule, one.line) for one in done.drops] == [("contradicts_known_answer", 2)]
    again = read(store, tmp_path / "b.jsonl", [item(0, known=other)])
    assert [(one.rule, one.line) for one in again.drops] == [("contradicts_known_answer", 1)]
    with store.read() as tx:
        (gold,) = extras.golds(tx, "p")
        asked = tasks.get(tx, [gold.task_id])[gold.task_id].task
    assert gold.payload == {"preferred": asked.completion_ids[1]}


def test_a_known_answer_without_a_place_is_left_out_and_its_row_is_used(
    store: Store, tmp_path: Path
) -> None:
    row = item(0, known=RIGHT)
    done = read(store, tmp_path / "a.jsonl", [row])
    assert (done.num_new, done.num_queued, done.drops_by_rule) == (
        1,
        0,
        {"known_without_project": 1},
    )
    make_project(store)
    done = read(store, tmp_path / "a.jsonl", [row])  # now it has one
    assert (done.num_new, done.num_queued, done.num_known) == (0, 0, 1)


def test_an_open_task_becomes_known_and_votes_stay_votes(store: Store, tmp_path: Path) -> None:
    make_project(store, overlap=2)
    vote = {"annotator": "ann", "payload": {"preferred": "1"}, "shown_order": ["1", "2"]}
    rows = [item(0), item(1, annotations=[vote])]
    done = read(store, tmp_path / "a.jsonl", rows)
    assert (done.num_queued, done.num_answers) == (1, 1)
    rows = [item(0, known=RIGHT), item(1, known=RIGHT, annotations=[vote])]
    done = read(store, tmp_path / "b.jsonl", rows)
    assert (done.num_queued, done.num_known, done.num_answers) == (0, 2, 0)
    with store.read() as tx:
        assert tallies.read(tx, "p").num_slots == 0
        places = list(tx.connection.scalars(select(tables.queue_items.c.place)))
    assert places == [None, None]


def test_a_broken_line_leaves_the_project_as_it_was(store: Store, tmp_path: Path) -> None:
    make_project(store)
    before = count(store)
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(item(0, known=RIGHT)) + "\n{\n")
    with pytest.raises(DataError, match=r"a\.jsonl line 2 is broken JSON"):
        import_preferences(store, "json", [path], dataset="p")
    assert count(store) == before


def test_a_spreadsheet_states_them_like_judgements(store: Store, tmp_path: Path) -> None:
    make_project(store)
    path = tmp_path / "a.csv"
    lines = ["prompt,answer_1,answer_2,known", "q,a,b,2", "r,a,b,tie", "s,a,b,", "t,a,b,x"]
    path.write_text("\n".join([*lines, "u,,,1"]) + "\n")
    done = import_preferences(store, "csv", [path], dataset="p")
    assert (done.num_known, done.num_queued) == (2, 1)
    assert [(one.rule, one.line) for one in done.drops] == [
        ("wrong_judgement", 5),
        ("missing_key", 6),
    ]
    assert done.ignored_keys == {}


def test_parquet_states_them_as_json_texts(store: Store, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    make_project(store)
    path = tmp_path / "a.parquet"
    row = item(0, known=json.dumps(RIGHT))
    for one in [*row["completions"], row["prompt"]]:
        for message in one["messages"]:
            message |= {"tool_calls": [], "tool_call_id": "", "name": ""}
    row["completions"] = [one | {"params": "{}"} for one in row["completions"]]
    pq.write_table(pa.Table.from_pylist([row]), path)
    done = import_preferences(store, "parquet", [path], dataset="p")
    assert (done.num_known, done.drops) == (1, ())
