import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fresh import fresh_store

from heedful.data.formats.csv_table import guarded, unguarded
from heedful.errors import ConfigError, DataError, MissingError, ResourceError
from heedful.exchange.exporting import export_dataset
from heedful.exchange.importing import import_preferences
from heedful.store import Store, annotations, datasets, integrity, items, tables, tasks
from heedful.types import Annotation


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Five pairs, two of them changed to a tie and to both bad, and a prompt."""
    rows = [{"prompt": f"q{n}", "chosen": f"a{n}", "rejected": f"b{n}"} for n in range(5)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "bare"}]))
    with fresh_store(tmp_path / "heedful.db") as opened:
        import_preferences(opened, "trl", [path])
        with opened.write() as tx:
            first, second, *_ = tasks.by_dataset(tx, "pairs")
            for one, preferred in ((first, None), (second, "both_bad")):
                old = one.annotations[0]
                new = Annotation(
                    task_id=old.task_id,
                    annotator=old.annotator,
                    source="human",
                    payload={"preferred": preferred},
                    shown_order=old.shown_order,
                    revision=1,
                )
                annotations.add(tx, [new])
        yield opened


def test_an_export_counts_what_the_format_cannot_hold(store: Store, tmp_path: Path) -> None:
    result = export_dataset(store, "pairs", tmp_path / "out.jsonl", format="hh")
    assert (result.num_items, result.tally.num_rows) == (6, 3)
    assert result.tally.left_out == {
        "tie": 1, "both_bad": 1, "earlier_revision": 2, "bare_prompt": 1,
    }  # fmt: skip
    described = "5 left out: 1 bare_prompt, 1 both_bad, 2 earlier_revision, 1 tie"
    assert result.tally.describe() == described
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3


def test_json_is_the_default_and_restores_the_store_with_its_times(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = export_dataset(store, "pairs")
    assert result.path == "pairs.json"
    document = json.loads(Path("pairs.json").read_text())
    assert sum(len(one.get("preferences", ())) for one in document["items"]) == 3
    with fresh_store(tmp_path / "other.db") as other:
        read = import_preferences(other, "json", ["pairs.json"])
        assert (read.num_new, read.num_answers, read.drops) == (6, 7, ())
        assert import_preferences(other, "json", ["pairs.json"]).num_answers == 0
        with store.read() as tx, other.read() as copy:
            assert list(items.stream(tx, "pairs")) == list(items.stream(copy, "pairs"))
            assert integrity.verify(copy) == []
        export_dataset(other, "pairs", "again.json")
    assert Path("again.json").read_bytes() == Path("pairs.json").read_bytes()


def test_json_laid_out_by_another_program_is_read_as_well(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "pairs.json"
    export_dataset(store, "pairs", path)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2))
    with fresh_store(tmp_path / "other.db") as other:
        assert import_preferences(other, "json", [path]).num_answers == 7


def test_a_model_that_the_store_does_not_know_stays_as_a_name(tmp_path: Path) -> None:
    row = {
        "form": "critique",
        "prompt": {"messages": [{"role": "user", "content": "q"}]},
        "completions": [
            {"id": "x", "messages": [{"role": "assistant", "content": "a"}], "model": "mdl_1"}
        ],
        "annotations": [{"annotator": "ann", "payload": {"critique": "Fine."}}],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"heedful": 1, "items": [row]}))
    with fresh_store(tmp_path / "a.db") as store:
        assert import_preferences(store, "json", [path]).num_answers == 1
        with store.read() as tx:
            (item,) = items.stream(tx, "a")
    assert [one.model for one in item.completions.values()] == ["import:mdl_1"]


def test_gzip_by_suffix_and_the_same_bytes_every_time(store: Store, tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"]
    for path in paths:
        export_dataset(store, "pairs", path, format="trl")
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert len(gzip.decompress(first).splitlines()) == 3
    with pytest.raises(ConfigError, match="would gzip Parquet"):
        export_dataset(store, "pairs", tmp_path / "a.parquet.gz", format="parquet")


def test_a_failed_export_leaves_no_file_and_the_old_one(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("old")
    with pytest.raises(MissingError, match="'pear' is not in the store"):
        export_dataset(store, "pear", out)
    with pytest.raises(ConfigError, match="unknown format"):
        export_dataset(store, "pairs", out, format="hhh")
    with pytest.raises(ResourceError, match="could not make"):
        export_dataset(store, "pairs", out / "below")
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_items_are_streamed_whole_across_pages(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.read() as tx:
        whole = list(items.stream(tx, "pairs"))
        monkeypatch.setattr(items, "PAGE", 2)
        assert list(items.stream(tx, "pairs")) == whole
    assert [one.id for one in whole] == sorted(one.id for one in whole)
    assert sum(len(one.annotations) for one in whole) == 7
    assert sum(len(one.newest) for one in whole) == 5


@pytest.mark.parametrize(
    ("text", "cell"),
    [("=1", "'=1"), ("+1", "'+1"), ("-", "'-"), ("@x", "'@x"), ("\tx", "'\tx"), ("'=1", "''=1"),
     ("''", "'''"), ("'tis", "'tis"), ("'", "'"), ("1", "1"), ("", ""), ("\uff1dx", "'\uff1dx")],
)  # fmt: skip
def test_cells_that_would_be_formulas_get_an_apostrophe(text: str, cell: str) -> None:
    assert guarded(text) == cell
    assert unguarded(cell) == text


def test_a_csv_of_a_spreadsheet_needs_four_columns(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text(
        "prompt,answer_1,answer_2,judgement,annotator\r\n"
        'Why?,"Because, so",No.,1,ada\r\nWho?,You,I,tie,ben\r\nBad?,a,b,3,ben\r\n'
    )
    with fresh_store(tmp_path / "a.db") as store:
        result = import_preferences(store, "csv", [path])
        assert result.drops_by_rule == {"wrong_judgement": 1}
        assert [(one.line, one.rule) for one in result.drops] == [(4, "wrong_judgement")]
        with store.read() as tx:
            found = [one.annotations[0] for one in items.stream(tx, "sheet")]
    assert sorted(one.annotator for one in found) == ["ada", "ben"]


def test_an_export_without_a_name_stays_in_the_folder(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    with store.write() as tx:
        tx.insert_new(tables.datasets, [{"name": "../out"}])
    with pytest.raises(ConfigError, match="name the file with --out"):
        export_dataset(store, "../out")
    assert not (tmp_path / "out.json").exists()
    assert export_dataset(store, "../out", "out.json").num_items == 0


@pytest.mark.parametrize("format", ["json", "parquet", "csv"])
def test_the_file_of_an_empty_data_set_makes_none(
    store: Store, tmp_path: Path, format: str
) -> None:
    with store.write() as tx:
        datasets.add_tasks(tx, "empty", ())
    export_dataset(store, "empty", tmp_path / "empty", format=format)
    with fresh_store(tmp_path / "other.db") as other:
        with pytest.raises(DataError, match=r"empty has no rows; expected"):
            import_preferences(other, format, [tmp_path / "empty"])
        with other.read() as tx:
            assert datasets.names(tx) == []
    assert import_preferences(store, format, [tmp_path / "empty"]).num_rows == 0


def test_an_answer_with_a_time_outside_of_the_calendar_is_dropped_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,answer_1,answer_2,judgement,time\nq,a,b,1,0001-01-01T00:00+05:00\n"
                    "r,a,b,1,2026-01-01T00:00+05:00\ns,[],b,1,\n")  # fmt: skip
    with fresh_store(tmp_path / "a.db") as store:
        result = import_preferences(store, "csv", [path])
        assert (result.num_new, result.drops_by_rule) == (2, {"wrong_time": 1})
        with store.read() as tx:
            texts = {c.text for one in items.stream(tx, "a") for c in one.completions.values()}
    assert "[]" in texts
