import errno
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.data.snapshot import (
    freeze,
    prompt_of,
    read_snapshot,
    split_by_prompt,
    split_three_ways,
)
from heedful.errors import ConfigError, DataError, MissingError, ResourceError
from heedful.types import Demonstration, Feedback, Message, Preference, Prompt

MESSAGES = (
    Message(role="assistant", content="é\n\u2028", tool_calls=('{"name": "f"}',)),
    Message(role="tool", content="7", tool_call_id="c1", name="f"),
    Message(role="assistant", content="seven"),
)
PROMPT = Prompt(
    messages=(Message(role="system", content=""), Message(role="user", content="q")), tools=("t",)
)
ROWS = {
    "feedback": Feedback(
        prompt=PROMPT,
        responses=(MESSAGES, (Message(role="assistant", content="b"),)),
        scale="rating",
        values=(4.0, 1.0),
        criterion="honest",
        margin=2.0,
        weight=0.5,
        form="rating",
        source="model",
        annotation_ids=("ann_1",),
    ),
    "preference": Preference(
        prompt=PROMPT,
        chosen=MESSAGES,
        rejected=(Message(role="assistant", content="b"),),
        margin=2.0,
        weight=0.1,
        annotation_ids=("ann_1",),
    ),
    "demonstration": Demonstration(prompt=PROMPT, response=MESSAGES, annotation_ids=("a", "b")),
    "prompt": PROMPT,
}


def pairs(num: int, num_each: int = 1) -> list[Preference]:
    sides = [(Message(role="assistant", content=text),) for text in "ab"]
    return [
        Preference(
            prompt=Prompt.of(f"q{number}"), chosen=sides[0], rejected=sides[1], margin=float(copy)
        )
        for number in range(num)
        for copy in range(num_each)
    ]


@pytest.mark.parametrize("kind", ROWS)
def test_snapshot_reads_back_the_rows_it_was_made_of(tmp_path: Path, kind) -> None:
    rows = [ROWS[kind]]
    assert read_snapshot(freeze(rows, kind, tmp_path).path) == rows


def test_snapshot_of_the_same_rows_is_the_same_file(tmp_path: Path) -> None:
    first, second = (freeze(pairs(9), "preference", tmp_path / name) for name in "ab")
    assert first.rows_hash == second.rows_hash
    assert Path(first.path).name == Path(second.path).name
    assert Path(first.path).read_bytes() == Path(second.path).read_bytes()


def test_snapshot_hash_covers_order_and_content(tmp_path: Path) -> None:
    rows = pairs(2)
    hashes = {
        freeze(some, "preference", tmp_path).rows_hash
        for some in (rows, rows[::-1], rows[:1], [rows[0].swap(), rows[1]])
    }
    assert len(hashes) == 4


def test_snapshot_that_was_changed_is_refused(tmp_path: Path) -> None:
    path = freeze(pairs(3), "preference", tmp_path).path
    table = pq.read_table(path)
    columns = table.column_names
    margins = table.column("margin").to_pylist()
    index = columns.index("margin")
    changed = table.set_column(index, table.field(index), [[margins[0] + 1, *margins[1:]]])
    pq.write_table(changed, path)
    with pytest.raises(DataError, match="was changed"):
        read_snapshot(path)


def test_snapshot_columns_can_be_read_without_heedful(tmp_path: Path) -> None:
    table = pq.read_table(freeze([ROWS["preference"]], "preference", tmp_path).path)
    (row,) = table.to_pylist()
    assert {k: v for k, v in row["prompt"][1].items() if v} == {"role": "user", "content": "q"}
    assert row["chosen"][0]["role"] == "assistant"
    assert row["prompt_id"] == PROMPT.id


def test_snapshot_leaves_only_the_finished_file(tmp_path: Path) -> None:
    path = freeze(pairs(2), "preference", tmp_path).path
    assert [str(one) for one in tmp_path.iterdir()] == [path]


def test_snapshot_on_a_full_disk_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="No space left"):
        freeze(pairs(2), "preference", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_no_snapshot_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_text("hello")
    with pytest.raises(DataError, match="not a Parquet file"):
        read_snapshot(path)
    pq.write_table(pq.read_table(freeze(pairs(1), "preference", tmp_path).path).select([0]), path)
    pq.write_table(pq.read_table(path).replace_schema_metadata({}), path)
    with pytest.raises(DataError, match="is no snapshot"):
        read_snapshot(path)
    with pytest.raises(MissingError, match="does not exist"):
        read_snapshot(tmp_path / "none")


@settings(deadline=None)
@given(st.integers(5, 60), st.integers(1, 3), st.integers(0, 5))
def test_split_keeps_every_row_and_shares_no_prompt(num: int, num_each: int, seed: int) -> None:
    rows = pairs(num, num_each)
    try:
        train, held_out = split_by_prompt(rows, 0.4, seed)
    except DataError:  # by chance one side of a small set is empty
        return
    sides = [{prompt_of(row).id for row in side} for side in (train, held_out)]
    assert not sides[0] & sides[1]
    assert len(train) + len(held_out) == len(rows)
    assert [row for row in rows if row in train] == train


def test_split_three_ways_shares_no_prompt_and_trains_on_what_two_ways_train_on() -> None:
    rows = pairs(200, 2)
    parts = split_three_ways(rows, 0.5, 0)
    prompts = [{prompt_of(row).id for row in part} for part in parts]
    assert sum(map(len, prompts)) == len(set.union(*prompts)) == 200
    assert parts[0] == split_by_prompt(rows, 0.5, 0)[0]
    # About 50 prompts each; four standard deviations of the second cut are 20.
    assert all(30 <= len(part) <= 70 for part in prompts[1:])


def test_split_leaves_a_prompt_where_it_was_when_rows_are_added() -> None:
    _, before = split_by_prompt(pairs(40), 0.25, 0)
    _, after = split_by_prompt(pairs(400), 0.25, 0)
    assert [row for row in after if row in pairs(40)] == before
    # 400 prompts at 0.25: four standard deviations are 35.
    assert 65 < len(after) < 135


def test_split_with_another_seed_holds_out_other_prompts() -> None:
    assert split_by_prompt(pairs(40), 0.25, 0) != split_by_prompt(pairs(40), 0.25, 1)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_split_refuses_a_share_outside_its_range(share: float) -> None:
    with pytest.raises(ConfigError, match="from 0 to below 1"):
        split_by_prompt(pairs(3), share, 0)


def test_split_that_leaves_a_side_empty_is_refused() -> None:
    with pytest.raises(DataError, match="0 held out"):
        split_by_prompt(pairs(1), 1e-9, 0)
