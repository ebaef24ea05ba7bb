import gzip
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heedful.data.formats import Drop, Parsed, csv_table, read_files, reading
from heedful.errors import ConfigError, DataError, MissingError

ROW = json.dumps({"prompt": "q", "chosen": "a", "rejected": "b"})
HH_ROW = json.dumps(
    {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}
)


def read(path: Path, name: str = "trl") -> list[Parsed | Drop]:
    return list(read_files(name, [path]))


def refused(path: Path, content: bytes, name: str = "trl") -> str:
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path, name)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_gzip_is_known_by_its_content_not_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(gzip.compress(f"{ROW}\n".encode()))
    plain = tmp_path / "b.jsonl.gz"
    plain.write_text(ROW)
    assert [one.record for one in read(path)] == [one.record for one in read(plain)]


def test_lines_count_from_one_blank_ones_included(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"\ufeff{ROW}\r\n\n{ROW.replace('q', 'r')}\n")
    rows = read(path)
    assert [(type(one).__name__, one.line) for one in rows] == [("Parsed", 1), ("Parsed", 3)]
    assert {one.file for one in rows} == {str(path)}


def test_line_separators_inside_a_text_do_not_end_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "one\u2028two\x85three"}\n', encoding="utf-8")
    (row,) = read(path)
    assert row.record.messages[0].content == "one\u2028two\x85three"


def test_broken_line_is_named(tmp_path: Path) -> None:
    message = refused(tmp_path / "a.jsonl", f'{ROW}\n{ROW}\n{{"prompt": \n{ROW}\n'.encode())
    assert "line 3 is broken JSON" in message


def test_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    message = refused(tmp_path / "a.jsonl", f"{ROW}\n[1, 2]\n".encode())
    assert "line 2 is a JSON array, not an object" in message


def test_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    assert "line 2 is not UTF-8" in refused(tmp_path / "a.jsonl", ROW.encode() + b"\n\xff\xfe\n")


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    content = b'{"prompt": ' + b"[" * 200_000 + b"\n"
    assert "line 1" in refused(tmp_path / "a.jsonl", content)


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"chosen,rejected\na,b\n", "looks like CSV"),
        (b"hello\n", "is not JSON"),
        (b"[\n{}\n]\n", "spread over several lines"),
        (b'[{"prompt": "q"}]\n', "a JSON array"),
        (b"PAR1\x00\x00", "Parquet"),
        (b"PK\x03\x04\x00", "zip archive"),
        (b"\x89PNG\r\n", "PNG image"),
        (b"\x00\x01\x02", "line 1 is not JSON"),
        (gzip.compress(ROW.encode(), mtime=0)[:-9], "damaged gzip"),
        (gzip.compress(ROW.encode(), mtime=0)[:20], "damaged gzip"),
        (b"{}\n", "its keys are none"),
        (b'{"text": "q"}\n', "its keys are text; expected prompt, chosen and rejected"),
    ],
)
def test_file_of_another_kind_is_refused_with_what_it_is(
    tmp_path: Path, content: bytes, seen: str
) -> None:
    assert seen in refused(tmp_path / "a.jsonl", content)


@pytest.mark.parametrize(
    ("format", "content", "seen"),
    [
        ("json", b"", "is empty"),
        ("json", b"\n", "is empty"),
        ("json", b"PK\x03\x04\x00", "is a zip archive; expected"),
        ("csv", b"PK\x03\x04\x00", "is a zip archive; save it as CSV"),
        ("csv", b"prompt;answer_1;answer_2\nq;a;b\n", "separated by commas"),
    ],
)
def test_formats_that_read_their_own_files_say_what_a_file_is_instead(
    tmp_path: Path, format: str, content: bytes, seen: str
) -> None:
    assert seen in refused(tmp_path / "a", content, format)


def test_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path)
    connection.execute("create table a (b)")
    connection.close()
    assert "SQLite database" in refused(path, path.read_bytes())


@pytest.mark.parametrize(("name", "row", "other"), [("hh", ROW, "trl"), ("trl", HH_ROW, "hh")])
def test_wrong_format_names_the_right_one(tmp_path: Path, name: str, row: str, other: str) -> None:
    path = tmp_path / "a.jsonl"
    assert f"heedful import {other} {path}" in refused(path, row.encode(), name)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"none\.jsonl does not exist"):
        read(tmp_path / "none.jsonl")


def test_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a directory"):
        read(tmp_path)


def test_unknown_format_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'trl'"):
        list(read_files("tlr", []))


@pytest.mark.parametrize("name", ["trl", "json", "csv"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_line_that_would_fill_memory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, pack: Callable[[bytes], bytes]
) -> None:
    for module in (reading, csv_table):
        monkeypatch.setattr(module, "MAX_LINE", 1000)
    start = {"trl": ROW, "json": '{"heedful": 1, "items": [', "csv": "prompt"}[name]
    content = f"{start}\n".encode() + b"a" * 5000 + b"\n"
    assert "line 2 has more than" in refused(tmp_path / "a", pack(content), name)


def test_cells_over_many_lines_are_bounded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (reading, csv_table):
        monkeypatch.setattr(module, "MAX_LINE", 1000)
    content = b'prompt\n"' + b"a\n" * 5000 + b'"\n'
    assert "is broken CSV (field larger" in refused(tmp_path / "a", content, "csv")


def test_json_that_is_nested_too_far_drops_its_row_alone(tmp_path: Path) -> None:
    rows = [json.loads(ROW) | {"tools": tools} for tools in (100_000 * "[", "[]")]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    deep, sound = read(path)
    assert isinstance(deep, Drop)
    assert (deep.rule, deep.line) == ("too_deep", 1)
    assert isinstance(sound, Parsed)


def parquet(path: Path, texts: pa.Array, **columns: list[str]) -> Path:
    """Bare prompts, and columns of texts beside them."""
    turns = pa.StructArray.from_arrays(
        [pa.array(["user"] * len(texts)), texts], ["role", "content"]
    )
    lists = pa.ListArray.from_arrays(pa.array(range(len(texts) + 1), pa.int32()), turns)
    prompts = pa.StructArray.from_arrays([lists], ["messages"])
    pq.write_table(pa.table({"prompt": prompts, **columns}), path)
    return path


def test_parquet_with_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", pa.array([b"\xff"]).view(pa.string()))
    with pytest.raises(DataError, match=r"a\.parquet is not a sound Parquet file .*can't decode"):
        read(path, "parquet")


def test_parquet_with_a_known_answer_to_no_form_is_dropped_and_not_read_without_it(
    tmp_path: Path,
) -> None:
    path = parquet(tmp_path / "a.parquet", pa.array(["q", "r"]), known=['{"preferred": "1"}', None])
    stated, bare = read(path, "parquet")
    assert isinstance(stated, Drop)
    assert "known is given without form" in stated.detail
    assert isinstance(bare, Parsed)


def test_a_known_answer_that_is_no_json_is_named_by_its_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("form,prompt,answer_1,known\ndemonstration,q,a,yes\n")
    (drop,) = read(path, "csv")
    assert isinstance(drop, Drop)
    assert (drop.rule, drop.detail) == (
        "wrong_judgement", "known is 'yes'; write a JSON object"
    )  # fmt: skip


def test_keys_of_messages_and_margins_without_meaning_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    side = [{"role": "assistant", "content": "a", "weight": 0, "name": None}]
    other = [{"role": "assistant", "content": "b"}]
    row = {"prompt": [{"role": "user", "content": "q", "images": [1]}], "chosen": side,
           "rejected": other, "margin": 0.7, "id": 1}  # fmt: skip
    path.write_text(json.dumps(row))
    (one,) = read(path)
    assert isinstance(one, Parsed)
    assert one.ignored == (
        "chosen[].weight", "id", "margin that is not 0 to 3", "prompt[].images"
    )  # fmt: skip
    assert one.record.margin == 0  # type: ignore[union-attr]


def test_keys_inside_the_messages_of_an_item_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    message = {"role": "user", "content": "q", "time": 1}
    shown = [{"id": "x", "messages": [{"role": "assistant", "content": "a", "score": 1}]}]
    item = {"form": "critique", "prompt": {"messages": [message]}, "completions": shown}
    path.write_text(json.dumps({"heedful": 1, "items": [item]}))
    (one,) = read(path, "json")
    assert isinstance(one, Parsed)
    assert one.ignored == ("completions[].messages[].score", "prompt.messages[].time")


def test_a_key_that_utf_8_cannot_hold_is_named_as_json_spells_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(json.loads(ROW) | {"\ud800": 1}))
    (one,) = read(path)
    assert isinstance(one, Parsed)
    assert one.ignored == ("\\ud800",)
    message = refused(tmp_path / "b.jsonl", b'{"\\ud800": 1}')
    assert "its keys are \\ud800; expected" in message
