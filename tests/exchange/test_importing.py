import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from heedful.data.snapshot import read_snapshot
from heedful.errors import ConfigError, DataError, MissingError
from heedful.exchange.importing import default_dataset, import_preferences
from heedful.jobs.snapshot import make_snapshot
from heedful.store import Store, annotations, integrity, open_store, snapshots, tables, tasks
from heedful.types import Annotation, Demonstration, Preference


def pair(number: int, chosen: str = "yes", rejected: str = "no") -> dict[str, str]:
    question = f"\n\nHuman: question {number}\n\nAssistant: "
    return {"chosen": f"{question}{chosen}", "rejected": f"{question}{rejected}"}


def write(path: Path, rows: list) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "heedful.db") as opened:
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


def test_import_counts_keys_without_meaning(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [pair(1) | {"id": 1}, pair(2) | {"id": 2, "x": 0}])
    assert import_preferences(store, "hh", [path]).ignored_keys == {"id": 2, "x": 1}


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
