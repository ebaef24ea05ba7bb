"""What every file format promises, in both directions. New entries of ``FORMATS`` join unasked."""

import gzip
import json
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from heedful.cli.data import Format as CliFormat
from heedful.data.formats import FORMATS, About, Drop, Format, RowDropped, Tally, read_files
from heedful.data.formats.base import answers_of, time_of
from heedful.errors import DataError, MissingError
from heedful.exchange.items import to_item
from heedful.forms import FORMS
from heedful.types import (
    Annotation,
    AnnotationKind,
    Completion,
    Demonstration,
    Item,
    Message,
    Preference,
    Prompt,
    Task,
)

PAIRS = ("hh", "trl", "trl-standard", "trl-implicit", "openai")
LOSSLESS = ("json", "parquet", "csv")
KINDS: list[AnnotationKind] = ["answer", "answer", "answer", "repeat", "gold", "adjudication"]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ALL = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

# Words that formats could trip over, among any others.
WORDS = ["=1+1", "'=x", "''", "@a", "[]", '[{"role": "user"}]', "a\n\nb", "\n\nHuman: x", " x ",
         "\r\n", "tie", "1 > 2", "a\0b",
         '"', ",", "\u2028", "\uff1d", "```\n\n```", "-"]  # fmt: skip


def texts(min_size: int = 1) -> st.SearchStrategy[str]:
    letters = st.characters(codec="utf-8")
    return st.one_of(st.sampled_from(WORDS), st.text(letters, min_size=min_size, max_size=12))


def said() -> st.SearchStrategy[str]:
    """A text that a person may send: not blank, and without NUL."""
    return texts().filter(lambda text: bool(text.strip()) and "\0" not in text)


TOOL = json.dumps({"name": "f", "type": "function"}, sort_keys=True)


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    turns: list[Message] = []
    if draw(st.booleans()) and draw(st.booleans()):
        turns.append(Message(role="system", content=draw(texts())))
    for _ in range(draw(st.integers(0, 1))):
        turns += [
            Message(role="user", content=draw(texts())),
            Message(role="assistant", content=draw(texts())),
        ]
    turns.append(Message(role="user", content=draw(texts())))
    tools = draw(st.sampled_from([(), (), (TOOL,), ("no json",)]))
    return Prompt(messages=tuple(turns), tools=tools)


@st.composite
def responses(draw: st.DrawFn) -> tuple[Message, ...]:
    last = Message(role="assistant", content=draw(texts(0)))
    if draw(st.integers(0, 5)):
        return (last,)
    call = Message(role="assistant", content="", tool_calls=(TOOL, "odd"))
    result = Message(role="tool", content="7", tool_call_id="c1", name="f")
    return (call, result, last)


@st.composite
def items(draw: st.DrawFn) -> Item:
    """A task of any form with any number of answers and revisions, or a bare prompt."""
    prompt = draw(prompts())
    name = draw(st.sampled_from([*FORMS, "pairwise", "ranking", ""]))
    if not name:
        return Item(prompt=prompt)
    form = FORMS[name]
    low, high = form.num_completions
    shown = [
        Completion(
            prompt=prompt,
            messages=messages,
            model=draw(st.sampled_from(["import:a", "import:=b", "mdl_0123456789abcdef"])),
            draw=draw(st.integers(0, 2)),
            params={"temperature": 0.5} if draw(st.booleans()) else {},
            finish_reason=draw(st.sampled_from(["stop", "length"])),
        )
        for messages in draw(
            st.lists(responses(), min_size=low, max_size=min(high, low + 2), unique=True)
        )
    ]
    by_id = {one.id: one for one in shown}
    ids = tuple(by_id)
    task = Task(
        form=name,
        prompt=prompt,
        completion_ids=ids,
        guideline=draw(st.sampled_from(["", "be kind", "=1"])),
        slots=draw(st.integers(1, 3)),
        priority=draw(st.sampled_from([0.0, 0.1])),
    )
    answers = []
    for annotator in draw(st.lists(st.sampled_from(["ann", "=ben", "simulated:x"]), unique=True)):
        for revision in range(draw(st.integers(1, 2))):
            one = Annotation(
                task_id=task.id,
                annotator=annotator,
                source="simulated" if annotator.startswith("simulated:") else "human",
                payload=draw(payloads(name, ids)),
                shown_order=tuple(draw(st.permutations(ids))),
                revision=revision,
                kind=draw(st.sampled_from(KINDS)),
                seconds=draw(st.none() | st.floats(0, 1e6, allow_nan=False)),
            )
            try:
                form.check(task, by_id, one)
            except DataError:  # labels for other steps than there are
                continue
            answers.append(one)
    revisions = [(one.annotator, one.revision) for one in answers]
    assume(all(r == 0 or (a, r - 1) in revisions for a, r in revisions))
    answers.sort(key=lambda one: (one.annotator, one.revision))
    times = {one.id: NOON + timedelta(seconds=n, microseconds=n) for n, one in enumerate(answers)}
    return Item(
        prompt=prompt, task=task, completions=by_id, annotations=tuple(answers), times=times
    )


@st.composite
def payloads(draw: st.DrawFn, name: str, ids: Sequence[str]) -> dict[str, Any]:
    payload: dict[str, Any] = dict(draw(st.sampled_from(FORMS[name].examples(ids))))
    if name == "steps":
        payload = {"labels": draw(st.lists(st.sampled_from([1, 0, -1]), min_size=1, max_size=3))}
        if -1 in payload["labels"] and draw(st.booleans()):
            first = payload["labels"].index(-1)
            payload = {"labels": payload["labels"][: first + 1], "first_error": True}
    if name == "critique":
        payload = {"critique": draw(said())}
    if "written" in payload:
        payload["written"] = draw(said())
    if draw(st.booleans()):
        payload["comment"] = draw(said())
    return payload


def write(format: Format, some: Iterable[Item]) -> tuple[list[Any], Tally]:
    tally = Tally()
    rows = [row for item in some for row in format.write(item, tally)]
    tally.num_rows = len(rows)
    return rows, tally


def through_a_file(format: Format, rows: list[Any]) -> list[Item]:
    """The rows as a file, read back and imported."""
    about = About(dataset="d", num_candidates=9)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{format.suffix}"
        path.write_bytes(b"".join(format.encode(rows, about)))
        if not rows:
            return []
        found: dict[str, Item] = {}
        for one in read_files(format.name, [path]):
            assert not isinstance(one, Drop), one
            assert one.ignored == ()
            item, left_out = to_item(one.record, "d", "import:d", {"mdl_0123456789abcdef"})
            assert left_out == ()
            found[item.id] = merged(found[item.id], item) if item.id in found else item
    return list(found.values())


def merged(item: Item, other: Item) -> Item:
    """One task's answers from two rows; as in an import the first of a revision wins."""
    answers = {(one.annotator, one.revision): one for one in other.annotations}
    answers |= {(one.annotator, one.revision): one for one in item.annotations}
    in_order = [answers[key] for key in sorted(answers)]
    return replace(item, annotations=tuple(in_order), times={**item.times, **other.times})


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_registered_under_its_name_and_known_to_the_command_line(name: str) -> None:
    assert FORMATS[name].name == name
    assert name in [one.value for one in CliFormat]
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    assert ("nothing is lost" in line) == (not FORMATS[name].loses)


@pytest.mark.parametrize("name", FORMATS)
@ALL
@given(data=st.data())
def test_what_was_exported_imports_without_a_drop_and_exports_as_the_same_rows(
    name: str, data: st.DataObject
) -> None:
    format, item = FORMATS[name], data.draw(items())
    if "annotator" in format.loses:  # two people who disagree would be one who contradicts himself
        item = replace(item, annotations=item.newest[:1])
    rows, _ = write(format, [item])
    back = through_a_file(format, rows)
    again, tally = write(format, back)
    if contradicts(item):
        assert set(unordered(again)) <= set(unordered(rows))
    else:
        assert unordered(again) == unordered(rows)
    assert not tally.left_out


def unordered(rows: list[Any]) -> list[str]:
    """Rows without repetition, and without the id that another store derives anew."""
    plain = [{key: value for key, value in row.items() if key != "id"} for row in rows]
    return sorted({json.dumps(row, sort_keys=True) for row in plain})


def contradicts(item: Item) -> bool:
    """Whether an answer was written that was also shown."""
    shown = {one.text.strip() for one in item.completions.values()}
    return any(one.payload.get("written", "").strip() in shown for one in item.annotations)


@pytest.mark.parametrize("name", LOSSLESS)
@ALL
@given(item=items())
def test_a_lossless_format_gives_back_the_very_item(name: str, item: Item) -> None:
    rows, tally = write(FORMATS[name], [item])
    (back,) = through_a_file(FORMATS[name], rows)
    assert back == item
    assert (tally.left_out, tally.changed) == ({}, {})


def derived(item: Item) -> list[Preference]:
    assert item.task is not None or not item.annotations
    return [
        one
        for answer in item.newest
        for one in FORMS[item.task.form].to_preferences(item.task, item.completions, answer)  # type: ignore[union-attr]
    ]


@pytest.mark.parametrize("name", PAIRS)
@ALL
@given(item=items())
def test_pairs_say_every_preference_or_count_it(name: str, item: Item) -> None:
    rows, tally = write(FORMATS[name], [item])
    seen = Tally()
    newest = answers_of(item, seen)
    silent = [one for one in newest if not derived(replace(item, annotations=(one,)))]
    expected = len(derived(item)) + len(silent) + seen.left_out.total()
    assert tally.num_rows + tally.left_out.total() == expected
    stated = {stripped(one, name) for one in derived(item)}
    for back in through_a_file(FORMATS[name], rows):
        assert {stripped(one, name) for one in derived(back)} <= stated


def stripped(one: Preference, name: str) -> tuple[Any, ...]:
    """A preference without outer white space, and without the strength where none is written."""
    sides = (one.prompt.messages, one.chosen, one.rejected)
    plain = tuple(tuple((m.role, m.content.strip()) for m in side) for side in sides)
    return (*plain, one.margin if name.startswith("trl") else 0)


@ALL
@given(item=items())
def test_verdicts_keep_who_was_good_and_count_what_says_nothing(item: Item) -> None:
    rows, _ = write(FORMATS["kto"], [item])
    good = [row for row in rows if row["label"]]
    if item.task is not None and item.task.form == "pairwise":
        for answer in item.newest:
            if answer.payload["preferred"] == "both_bad" and "written" not in answer.payload:
                only_one, _ = write(FORMATS["kto"], [replace(item, annotations=(answer,))])
                assert not any(row["label"] for row in only_one)
    accepted = [
        one
        for answer in item.newest
        for one in FORMS[item.task.form].to_demonstrations(item.task, item.completions, answer)  # type: ignore[union-attr]
        if item.task is not None and item.task.form in ("pairwise", "demonstration")
    ]
    assert len(good) <= len(accepted) + sum("written" in one.payload for one in item.newest)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_format_reads_what_it_wrote_also_gzipped(name: str, zipped: bool, tmp_path: Path) -> None:
    format = FORMATS[name]
    rows = [row for form in FORMS for row in write(format, [sample(form)])[0]]
    assert rows
    content = b"".join(format.encode(rows, About(dataset="d", num_candidates=3)))
    if zipped and name == "parquet":
        pytest.skip("Parquet compresses itself")
    path = tmp_path / f"a{format.suffix}{'.gz' if zipped else ''}"
    path.write_bytes(gzip.compress(content) if zipped else content)
    found = list(read_files(name, [path]))
    assert len(found) == len(rows)
    assert not any(isinstance(one, Drop) for one in found)


def sample(form: str) -> Item:
    """A task of a form with its first example as the answer."""
    prompt = Prompt.of("Why?")
    low, _ = FORMS[form].num_completions
    shown = {
        one.id: one
        for one in (
            Completion(prompt=prompt, messages=answer(f"a{n}\n\nb\n\nc"), model="import:x")
            for n in range(max(low, 2) if form == "ranking" else low)
        )
    }
    task = Task(form=form, prompt=prompt, completion_ids=tuple(shown))
    annotation = Annotation(
        task_id=task.id,
        annotator="ann",
        source="human",
        payload=FORMS[form].examples(task.completion_ids)[0],
        shown_order=task.completion_ids,
    )
    return Item(prompt=prompt, task=task, completions=shown, annotations=(annotation,))


def answer(text: str) -> tuple[Message, ...]:
    return (Message(role="assistant", content=text),)


HOSTILE: list[Any] = [
    None, 7, "x", True, [], {}, [[]], [{}], [None], {"messages": None}, {"messages": [{}]},
    {"steps": None}, {"steps": [{}]}, {"steps": [{"completions": [{"text": 1}]}]}, "\ud800", -1,
    1e400, {"problem": 7}, [{"role": "user", "content": "x"}], 10**400, float("nan"),
    [{"role": "assistant", "content": ""}], [{"ranks": [[{}]]}],
]  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_with_any_value_anywhere_is_dropped_by_rule_and_never_crashes(name: str) -> None:
    format = FORMATS[name]
    for form in FORMS:
        for row in write(format, [sample(form)])[0]:
            for key in row:
                for value in HOSTILE if name != "csv" else ["\ud800", "[", "x", "-1", "1 > ", "{"]:
                    if name != "parquet":  # whose columns have types
                        with suppress(RowDropped):
                            to_item(format.parse({**row, key: value}), "d", "import:d")


@pytest.mark.parametrize("name", FORMATS)
def test_files_that_are_something_else_are_refused_with_the_file_named(
    name: str, tmp_path: Path
) -> None:
    for content in (b"", b"\x00\x01\x02", b"{", b"PK\x03\x04", b'{"x": 1}\n', b"\xff\xfe\n"):
        path = tmp_path / "odd.bin"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"odd\.bin"):
            list(read_files(name, [path]))
    with pytest.raises(MissingError, match="none"):
        list(read_files(name, [tmp_path / "none"]))
    with pytest.raises(DataError, match="directory"):
        list(read_files(name, [tmp_path]))


EMPTY = {
    "json": {"completions": [{"id": "1", "messages": []}]},
    "ranking": {"completions": ["x", []]},
    "argilla": {"response_1": []},
    "openai": {"preferred_output": []},
    "trl": {"chosen": []},
    "kto": {"completion": []},
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_list_without_messages_is_no_prompt_and_no_answer(name: str) -> None:
    format, form = FORMATS[name], "ranking" if name in ("ranking", "argilla") else "pairwise"
    row = next(format.write(sample(form), Tally()))
    with pytest.raises(RowDropped, match="empty_side"):
        format.parse({**row, **EMPTY[name]})
    key = "input" if name == "openai" else "prompt"
    nothing = {"messages": []} if name in ("openai", "json") else []
    with pytest.raises(RowDropped, match="empty_prompt"):
        format.parse({**row, key: nothing})


@pytest.mark.parametrize("name", ["ranking", "argilla"])
def test_an_answer_without_text_is_dropped(name: str) -> None:
    format = FORMATS[name]
    row = next(format.write(sample("ranking"), Tally()))
    blank = {"ranking": {"completions": ["x", " "]}, "argilla": {"response_1": " "}}[name]
    with pytest.raises(RowDropped, match="empty_side"):
        format.parse({**row, **blank})


ODD_TIMES = ["0001-01-01T00:00+05:00", "9999-12-31T23:00-05:00", "0001-01-01T00:00:00", "soon"]


@pytest.mark.parametrize("time", ODD_TIMES)
def test_a_time_outside_of_the_calendar_is_dropped(time: str) -> None:
    with pytest.raises(RowDropped, match="wrong_time"):
        time_of(time)


@pytest.mark.parametrize("params", [{"t": float("nan")}, {"t": [float("inf")]}, {"\ud800": 1}])
def test_parameters_that_no_json_holds_are_dropped(params: dict[str, Any]) -> None:
    row = next(FORMATS["json"].write(sample("critique"), Tally()))
    row["completions"][0]["params"] = params  # type: ignore[index]
    with pytest.raises(RowDropped, match="wrong_item"):
        FORMATS["json"].parse(row)


def test_completions_of_one_id_are_dropped() -> None:
    row = next(FORMATS["json"].write(sample("pairwise"), Tally()))
    with pytest.raises(RowDropped, match="wrong_item"):
        FORMATS["json"].parse({**row, "completions": [row["completions"][0]] * 2})


@pytest.mark.parametrize("name", LOSSLESS)
def test_the_file_of_an_empty_data_set_has_no_rows(name: str, tmp_path: Path) -> None:
    path = tmp_path / "empty"
    about = About(dataset="d", num_candidates=0)
    path.write_bytes(b"".join(FORMATS[name].encode([], about)))
    assert list(read_files(name, [path])) == []


def test_a_demonstration_is_read_from_the_rows_that_were_written_of_it() -> None:
    rows, _ = write(FORMATS["trl-sft"], [sample("demonstration")])
    (found,) = [FORMATS["trl-sft"].parse(row) for row in rows]
    assert isinstance(found, Demonstration)
