import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from fresh import fresh_store
from sqlalchemy import func, select

from heedful.data.snapshot import read_snapshot
from heedful.errors import ConfigError, DataError, MissingError
from heedful.exchange import importing
from heedful.exchange.exporting import export_dataset
from heedful.exchange.importing import default_dataset, import_preferences
from heedful.jobs.quality import compute
from heedful.jobs.snapshot import make_snapshot
from heedful.store import (
    Store,
    annotations,
    completions,
    integrity,
    items,
    models,
    open_store,
    projects,
    snapshots,
    tables,
    tallies,
    tasks,
)
from heedful.store.summaries import KINDS
from heedful.types import (
    Annotation,
    Completion,
    Demonstration,
    Message,
    ModelVersion,
    Preference,
    Project,
    Prompt,
    Task,
)


def pair(number: int, chosen: str = "yes", rejected: str = "no") -> dict[str, str]:
    question = f"\n\nHuman: question {number}\n\nAssistant: "
    return {"chosen": f"{question}{chosen}", "rejected": f"{question}{rejected}"}


def write(path: Path, rows: list) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with fresh_store(tmp_path / "heedful.db") as opened:
        yield opened


def count(store: Store) -> dict[str, int]:
    with store.read() as tx:
        return {
            table.name: tx.connection.scalar(select(func.count()).select_from(table))
            for table in tables.metadata.sorted_tables
        }


def test_import_stores_pairs_with_their_answers(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "kind" / "train.jsonl", [pair(number) for number in range(3)])
    seen: list[int] = []
    result = import_preferences(store, "hh", [path], progress=seen.append)
    assert (result.dataset, result.num_rows, result.num_new) == ("kind-train", 3, 3)
    assert seen == [3]
    with store.read() as tx:
        listed = tasks.by_dataset(tx, "kind-train")
        assert integrity.verify(tx) == []
    assert (result.num_answers, len(listed)) == (3, 3)
    for one in listed:
        (annotation,) = one.annotations
        preferred = one.completions[annotation.payload["preferred"]]
        assert (preferred.text, preferred.model) == ("yes", "import:kind-train")
        assert (annotation.annotator, annotation.source) == ("import:kind-train", "human")
        assert annotation.shown_order == one.task.completion_ids


def test_import_again_adds_nothing(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [pair(1), pair(2), pair(2)])
    first = import_preferences(store, "hh", [path])
    before = count(store)
    again = import_preferences(store, "hh", [path])
    assert (first.num_new, first.num_duplicates) == (2, 1)
    assert (again.num_new, again.num_duplicates) == (0, 3)
    assert count(store) == before
    assert again.num_answers == 0


def test_import_shows_the_chosen_side_first_half_of_the_time(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [pair(number) for number in range(400)])
    import_preferences(store, "hh", [path])
    with store.read() as tx:
        listed = tasks.by_dataset(tx, "a")
    num_first = sum(
        one.annotations[0].payload["preferred"] == one.task.completion_ids[0] for one in listed
    )
    assert abs(num_first - 200) < 4 * math.sqrt(100)


def test_import_counts_and_keeps_what_it_drops(store: Store, tmp_path: Path) -> None:
    rows = [pair(1), pair(2, chosen=""), pair(3, chosen="no"), pair(4), pair(5, rejected="")]
    result = import_preferences(store, "hh", [write(tmp_path / "a.jsonl", rows)])
    assert result.drops_by_rule == {"empty_side": 2, "identical_sides": 1}
    assert [(drop.line, drop.rule) for drop in result.drops] == [
        (2, "empty_side"),
        (3, "identical_sides"),
        (5, "empty_side"),
    ]
    assert result.num_rows == result.num_new + result.num_duplicates + len(result.drops)


def test_import_drops_a_row_that_contradicts_an_earlier_one(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [pair(1), pair(1, "no", "yes"), pair(2)])
    result = import_preferences(store, "hh", [path])
    assert (result.num_new, result.drops_by_rule) == (2, {"contradicts_earlier_row": 1})
    later = write(tmp_path / "b.jsonl", [pair(2, "no", "yes")])
    again = import_preferences(store, "hh", [later], dataset="a")
    assert (again.num_new, again.drops_by_rule) == (0, {"contradicts_earlier_row": 1})


def test_import_of_a_broken_line_stores_nothing(store: Store, tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", [pair(1)])
    bad = write(tmp_path / "bad.jsonl", [pair(2), pair(3)])
    bad.write_text(bad.read_text() + '{"chosen": "\n')
    with pytest.raises(DataError, match=r"bad\.jsonl line 3 is broken JSON"):
        import_preferences(store, "hh", [good, bad], dataset="mixed")
    with pytest.raises(MissingError, match=r"none\.jsonl does not exist"):
        import_preferences(store, "hh", [good, tmp_path / "none.jsonl"], dataset="mixed")
    assert set(count(store).values()) == {0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question,left\nq,a\n",
         "has the columns question, left; expected the columns prompt, answer_1, answer_2"),
        ("prompt,answer_1,answer_2,judgement\nq,a,b,left\n,a,b,1\n",
         r"no row of .*a\.csv can be used \(1 missing_key, 1 wrong_judgement; line 2: judgement is "
         r"'left'.*\); it has answer_1, answer_2, judgement, prompt; expected the columns prompt,"),
        ("prompt,answer_2\nq,b\n,c\n",
         r"\(2 missing_key; line 2: .*\); it has answer_2, prompt; expected the columns prompt,"),
        ("prompt,answer_1\n", "a.csv has no rows; expected the columns prompt, answer_1, answer_2"),
    ],
)  # fmt: skip
def test_import_that_brings_no_row_makes_nothing_and_names_the_columns(
    store: Store, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        import_preferences(store, "csv", [path])
    assert set(count(store).values()) == {0}


def test_import_counts_keys_without_meaning(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [pair(1) | {"id": 1}, pair(2) | {"id": 2, "x": 0}])
    assert import_preferences(store, "hh", [path]).ignored_keys == {"id": 2, "x": 1}


def test_import_lists_a_bounded_number_of_keys_without_meaning(
    store: Store, tmp_path: Path
) -> None:
    long = "y" * 5000
    rows = [pair(1) | {f"x{n:03}": 0 for n in range(99)} | {long: 0}, pair(2) | {"x000": 0, "z": 0}]
    result = import_preferences(store, "hh", [write(tmp_path / "a.jsonl", rows)])
    assert len(result.ignored_keys) == 100
    assert result.ignored_keys["x000"] == 2
    assert result.ignored_keys["y" * 200] == 1
    assert result.num_more_ignored == 1


def said(role: str, text: str) -> list[dict]:
    return [{"role": role, "content": text}]


def item(*annotations: dict, form: str = "pairwise", model: str = "", question: str = "q") -> dict:
    """An item of the plain JSON file."""
    shown = [
        {"id": name, "messages": said("assistant", name), "model": model} for name in ("x", "y")
    ]
    return {"form": form, "prompt": {"messages": said("user", question)}, "completions": shown,
            "annotations": list(annotations)}  # fmt: skip


def document(path: Path, *listed: dict) -> Path:
    path.write_text(json.dumps({"heedful": 1, "items": listed}))
    return path


def prefers(who: str, side: str = "x", **more: object) -> dict:
    return {"annotator": who, "payload": {"preferred": side}, **more}


MODEL = ModelVersion(role="base", name="m", weights_hash="w", path="/m")


def test_rows_of_another_form_do_not_enter_a_project(store: Store, tmp_path: Path) -> None:
    with store.write() as tx:
        projects.add(tx, Project(dataset="support", title="S", form="pairwise"))
    ranks = {"annotator": "ann", "payload": {"ranks": [["x"], ["y"]]}}
    listed = [item(prefers("ann")), item(ranks, form="ranking")]
    path = document(tmp_path / "a.json", *listed)
    result = import_preferences(store, "json", [path], dataset="support")
    assert (result.num_new, result.drops_by_rule) == (1, {"other_form": 1})
    assert "'support' asks 'pairwise', the row 'ranking'" in result.drops[0].detail
    assert import_preferences(store, "json", [path], dataset="mixed").num_new == 2


def test_pages_of_a_project_are_about_its_form_alone(store: Store, tmp_path: Path) -> None:
    ranks = [{"annotator": who, "payload": {"ranks": [["x"], ["y"]]}} for who in ("ann", "ben")]
    path = document(tmp_path / "a.json", item(prefers("ann")), item(*ranks, form="ranking"))
    import_preferences(store, "json", [path], dataset="support")
    with store.write() as tx:
        projects.add(tx, Project(dataset="support", title="S", form="pairwise"))
    for kind in KINDS:
        assert compute(store, "support", kind).num_answers == 1


def test_tasks_that_nobody_answered_are_queued_in_the_project(store: Store, tmp_path: Path) -> None:
    with store.write() as tx:
        projects.add(tx, Project(dataset="support", title="S", form="pairwise", overlap=3))
    listed = [item(question="a"), item(question="b"), item(prefers("ann"), question="c")]
    path = document(tmp_path / "a.json", *listed)
    assert import_preferences(store, "json", [path], dataset="support").num_new == 3
    assert import_preferences(store, "json", [path], dataset="support").num_duplicates == 3
    with store.read() as tx:
        assert tallies.read(tx, "support").num_open == 6
        assert integrity.verify(tx) == []


def test_an_import_adds_nothing_when_the_model_became_known_in_between(
    store: Store, tmp_path: Path
) -> None:
    path = document(tmp_path / "a.json", item(prefers("ann"), model=MODEL.id))
    assert import_preferences(store, "json", [path]).num_new == 1
    with store.write() as tx:
        models.add(tx, MODEL)
    again = import_preferences(store, "json", [path])
    assert (again.num_new, again.num_duplicates, again.num_answers) == (0, 1, 0)


def test_a_round_through_a_store_that_does_not_know_the_model_adds_nothing(
    store: Store, tmp_path: Path
) -> None:
    with store.write() as tx:
        models.add(tx, MODEL)
    path = document(tmp_path / "a.json", item(prefers("ann"), model=MODEL.id))
    import_preferences(store, "json", [path])
    with fresh_store(tmp_path / "other.db") as other:
        export_dataset(store, "a", tmp_path / "out.json")
        import_preferences(other, "json", [tmp_path / "out.json"], dataset="a")
        export_dataset(other, "a", tmp_path / "back.json")
    back = import_preferences(store, "json", [tmp_path / "back.json"], dataset="a")
    assert (back.num_new, back.num_answers) == (0, 0)


def test_an_answer_that_the_form_refuses_is_dropped_alone(store: Store, tmp_path: Path) -> None:
    path = document(tmp_path / "a.json", item(prefers("ann"), prefers("ben", "z"), prefers("cy")),
                    item(prefers("ann", "z"), question="other"))  # fmt: skip
    result = import_preferences(store, "json", [path])
    assert (result.num_new, result.num_answers) == (1, 2)
    assert result.drops_by_rule == {"invalid_answer": 2}


def test_an_annotation_that_cannot_be_read_is_dropped_alone(store: Store, tmp_path: Path) -> None:
    path = document(tmp_path / "a.json", item(prefers("ann"), prefers("ben", time="soon")))
    result = import_preferences(store, "json", [path])
    assert (result.num_new, result.num_answers) == (1, 1)
    assert result.drops_by_rule == {"wrong_time": 1}


@pytest.mark.parametrize("seconds", [-1, -math.inf, math.nan])
def test_an_answer_that_took_no_time_that_can_be_is_dropped_alone(
    store: Store, tmp_path: Path, seconds: float
) -> None:
    path = document(tmp_path / "a.json", item(prefers("ann"), prefers("ben", seconds=seconds)))
    result = import_preferences(store, "json", [path])
    assert (result.num_new, result.num_answers) == (1, 1)
    assert result.drops_by_rule == {"wrong_number": 1}


@pytest.mark.parametrize("format", ["json", "parquet", "csv"])
def test_what_a_project_sampled_and_asked_comes_back_as_itself(
    store: Store, tmp_path: Path, format: str
) -> None:
    prompt = Prompt.of("q\0")
    shown = [
        Completion(prompt=prompt, messages=(Message(role="assistant", content=text),),
                   model=MODEL.id, draw=draw, finish_reason="length", params={"temperature": 0.8})
        for draw, text in enumerate(("=a", "[]"))
    ]  # fmt: skip
    task = Task(form="pairwise", prompt=prompt, completion_ids=tuple(one.id for one in shown),
                guideline="Be kind.", reason="all")  # fmt: skip
    with store.write() as tx:
        models.add(tx, MODEL)
        projects.add(tx, Project(dataset="asked", title="A", form="pairwise", overlap=2))
        completions.add(tx, shown)
        projects.add_tasks(tx, "asked", [task])
    export_dataset(store, "asked", tmp_path / "out", format=format)
    again = import_preferences(store, format, [tmp_path / "out"], dataset="asked")
    assert (again.num_new, again.num_duplicates, again.num_dropped) == (0, 1, 0)
    with open_store(tmp_path / "other.db") as other, store.read() as tx:
        with other.write() as copy:
            models.add(copy, MODEL)
        import_preferences(other, format, [tmp_path / "out"], dataset="asked")
        with other.read() as copy:
            assert list(items.stream(copy, "asked")) == list(items.stream(tx, "asked"))


def test_the_first_drops_are_kept_and_all_are_counted(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "MAX_DROPS", 2)
    rows = [*(pair(number, chosen="") for number in range(4)), pair(9)]
    result = import_preferences(store, "hh", [write(tmp_path / "a.jsonl", rows)])
    assert [one.line for one in result.drops] == [1, 2]
    assert (result.num_dropped, result.drops_by_rule) == (4, {"empty_side": 4})


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["preferences.jsonl.gz"], "preferences"),
        (["hh-harmless/train.jsonl.gz"], "hh-harmless-train"),
        (["my data/a b.jsonl"], "a-b"),
        (["x/a.jsonl", "y/a.jsonl"], "a"),
    ],
)
def test_dataset_is_named_after_the_file(names: list[str], expected: str) -> None:
    assert default_dataset(names) == expected


@pytest.mark.parametrize("names", [[], ["a.jsonl", "b.jsonl"]])
def test_dataset_without_one_name_must_be_named(names: list[str]) -> None:
    with pytest.raises(ConfigError):
        default_dataset(names)


def test_import_into_a_nameless_dataset_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name is empty"):
        import_preferences(store, "hh", [write(tmp_path / "a.jsonl", [pair(1)])], dataset=" ")


def test_imported_kinds_come_back_as_snapshots(store: Store, tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": "d", "completion": "c"},
        {"prompt": "bare"},
    ]
    import_preferences(store, "trl", [write(tmp_path / "mix.jsonl", rows)])
    frozen = {
        kind: make_snapshot(store, "mix", kind, tmp_path)
        for kind in ("preference", "demonstration", "prompt")
    }
    rows_of = {kind: read_snapshot(one.path) for kind, one in frozen.items()}
    (preference,) = rows_of["preference"]
    assert isinstance(preference, Preference)
    assert (preference.chosen[0].content, preference.rejected[0].content) == ("a", "b")
    assert frozen["preference"].drops == {"demonstration_is_no_preference": 1}
    answers = {row.response[0].content for row in rows_of["demonstration"]}
    assert answers == {"a", "c"}
    assert {row.messages[0].content for row in rows_of["prompt"]} == {"p", "d", "bare"}
    with store.read() as tx:
        assert snapshots.get(tx, frozen["preference"].id) == frozen["preference"]


def test_snapshot_takes_the_newest_answer_and_counts_ties(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [pair(1), pair(2)])
    import_preferences(store, "hh", [path])
    before = make_snapshot(store, "a", "preference", tmp_path)
    with store.write() as tx:
        first, _ = tasks.by_dataset(tx, "a")
        old = first.annotations[0]
        tie = Annotation(
            task_id=old.task_id,
            annotator=old.annotator,
            source="human",
            payload={"preferred": None},
            shown_order=old.shown_order,
            revision=1,
        )
        annotations.add(tx, [tie])
    after = make_snapshot(store, "a", "preference", tmp_path)
    assert (before.num_rows, before.drops) == (2, {})
    assert (after.num_rows, after.drops) == (1, {"tie": 1})
    assert len(read_snapshot(before.path)) == 2


def test_snapshot_again_is_the_same_snapshot(store: Store, tmp_path: Path) -> None:
    import_preferences(store, "hh", [write(tmp_path / "a.jsonl", [pair(1), pair(2)])])
    first = make_snapshot(store, "a", "preference", tmp_path)
    assert make_snapshot(store, "a", "preference", tmp_path) == first
    assert count(store)["snapshots"] == 1


def test_demonstration_chosen_twice_is_one_row_with_both_annotations(
    store: Store, tmp_path: Path
) -> None:
    rows = [pair(1, "yes", "no"), pair(1, "yes", "maybe")]
    import_preferences(store, "hh", [write(tmp_path / "a.jsonl", rows)])
    (row,) = read_snapshot(make_snapshot(store, "a", "demonstration", tmp_path).path)
    assert isinstance(row, Demonstration)
    assert len(row.annotation_ids) == 2


def test_snapshot_without_rows_says_what_there_was(store: Store, tmp_path: Path) -> None:
    import_preferences(store, "trl", [write(tmp_path / "p.jsonl", [{"prompt": "q"}])])
    with pytest.raises(DataError, match="'p' gives no preference rows: 0 answers"):
        make_snapshot(store, "p", "preference", tmp_path)
    with pytest.raises(MissingError, match="dataset 'q' is not in the store"):
        make_snapshot(store, "q", "preference", tmp_path)


def test_refused_answers_are_told_by_the_names_that_the_file_has_for_completions(
    store: Store, tmp_path: Path
) -> None:
    def row(number: int, form: str, payload: dict, **more: dict) -> dict:
        answers = [{"id": name, "messages": [{"role": "assistant", "content": name}]}
                   for name in ("left one", "b", "c")[: 3 if form == "ranking" else 2]]  # fmt: skip
        said = [{"annotator": "ada", "payload": payload}]
        prompt = {"messages": [{"role": "user", "content": f"q{number}"}]}
        return {"form": form, "prompt": prompt, "completions": answers, "annotations": said} | more

    rows = [
        row(0, "ranking", {"ranks": [["b"], ["c"]]}),
        row(1, "rating", {"ratings": {"left one": {"good": 6}, "b": {"good": 1}}}),
        row(2, "pairwise", {"preferred": "d"}),
        row(3, "pairwise", {"preferred": "b"}, known={"preferred": "d"}),
        row(4, "pairwise", {"preferred": "b"}),
    ]
    result = import_preferences(store, "json", [write(tmp_path / "a.jsonl", rows)], dataset="d")
    told = [drop.detail for drop in result.drops]
    assert told[0] == (
        "ranking answer has 'left one' 0 times among 3 completions; put each into exactly one group"
    )
    assert told[1].startswith("rating answer has good of 'left one' 6; send a whole number")
    assert told[2] == told[3].replace("known ", "")
    assert told[2].endswith("has preferred 'd'; choose from: 'left one', 'b', null, both_bad")
