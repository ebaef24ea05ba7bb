import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.data.formats import Drop, Parsed, read_files
from heedful.data.formats.base import RowDropped
from heedful.data.formats.hh import HH, parse
from heedful.types import Message, Preference, Prompt

PROMPT = "\n\nHuman: Hello\n\nAssistant: Hi!\n\nHuman: How are you?"
GOOD = {"chosen": f"{PROMPT}\n\nAssistant: Fine.", "rejected": f"{PROMPT}\n\nAssistant: Why?"}
# Real rows, where a copy lies beside the repository; their text is offensive by purpose.
REAL = Path(__file__).parents[3] / "shared" / "data" / "hh-harmless"


def transcript(messages: tuple[Message, ...]) -> str:
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[turn.role]}: {turn.content}" for turn in messages)


def test_hh_row_is_split_into_prompt_and_last_turns() -> None:
    record = parse(GOOD)
    assert [turn.role for turn in record.prompt.messages] == ["user", "assistant", "user"]
    assert [turn.content for turn in record.prompt.messages] == ["Hello", "Hi!", "How are you?"]
    assert record.chosen == (Message(role="assistant", content="Fine."),)
    assert record.rejected == (Message(role="assistant", content="Why?"),)


def test_hh_speaker_name_inside_a_turn_is_content() -> None:
    prompt = "\n\nHuman: hi\n\nAssistant: Human: why would you?\n\nHuman: Assistant: no"
    record = parse(
        {
            "chosen": f"{prompt}\n\nAssistant: a\nHuman: b",
            "rejected": f"{prompt}\n\nAssistant: c\n\n Human: d\n\nHuman : e",
        }
    )
    assert [turn.content for turn in record.prompt.messages] == [
        "hi",
        "Human: why would you?",
        "Assistant: no",
    ]
    assert record.chosen[0].content == "a\nHuman: b"
    assert record.rejected[0].content == "c\n\n Human: d\n\nHuman : e"


@pytest.mark.parametrize(
    ("rule", "chosen", "rejected"),
    [
        ("empty_side", f"{PROMPT}\n\nAssistant: ", f"{PROMPT}\n\nAssistant: a"),
        ("empty_side", f"{PROMPT}\n\nAssistant: a", f"{PROMPT}\n\nAssistant:"),
        ("identical_sides", f"{PROMPT}\n\nAssistant: a", f"{PROMPT}\n\nAssistant:  a "),
        ("mismatched_prompts", f"{PROMPT}\n\nAssistant: a", "\n\nHuman: no\n\nAssistant: b"),
        ("mismatched_prompts", f"{PROMPT}\n\nAssistant: a", "\n\nHuman: Hello\n\nAssistant: b"),
        ("ends_with_human", f"{PROMPT}", f"{PROMPT}\n\nAssistant: a"),
        ("starts_with_assistant", "\n\nAssistant: a", f"{PROMPT}\n\nAssistant: a"),
        ("consecutive_turns", f"{PROMPT}\n\nHuman: q\n\nAssistant: a", GOOD["rejected"]),
        ("consecutive_turns", f"{PROMPT}\n\nAssistant: a\n\nAssistant: b", GOOD["rejected"]),
        ("empty_turn", "\n\nHuman:\n\nAssistant: a", "\n\nHuman:\n\nAssistant: b"),
        ("not_a_transcript", "Fine.", GOOD["rejected"]),
        ("not_a_transcript", f"Human: q{PROMPT}\n\nAssistant: a", GOOD["rejected"]),
        ("not_a_transcript", GOOD["chosen"], None),
        ("not_a_transcript", GOOD["chosen"], ["a"]),
        ("not_a_transcript", "", GOOD["rejected"]),
        ("invalid_text", f"{PROMPT}\n\nAssistant: \ud800", GOOD["rejected"]),
    ],
)
def test_hh_row_that_breaks_a_rule_is_dropped_by_it(
    rule: str, chosen: object, rejected: object
) -> None:
    with pytest.raises(RowDropped) as caught:
        parse({"chosen": chosen, "rejected": rejected})
    assert caught.value.rule == rule


def test_hh_keys_without_meaning_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(GOOD | {"source": "x", "id": 1}) + "\n")
    (parsed,) = read_files("hh", [path])
    assert isinstance(parsed, Parsed)
    assert parsed.ignored == ("id", "source")


def text() -> st.SearchStrategy[str]:
    letters = st.characters(codec="utf-8")
    # A turn that holds a speaker's mark after an empty line is two turns in this format.
    return (
        st.text(letters, min_size=1, max_size=30)
        .map(str.strip)
        .filter(lambda seen: seen and "\n\nHuman:" not in seen and "\n\nAssistant:" not in seen)
    )


@settings(deadline=None)
@given(st.lists(st.tuples(text(), text()), max_size=3), text(), text(), text())
def test_hh_transcript_of_any_conversation_reads_back(
    history: list[tuple[str, str]], question: str, chosen: str, rejected: str
) -> None:
    turns: list[Message] = []
    for asked, answered in history:
        turns += [Message(role="user", content=asked), Message(role="assistant", content=answered)]
    prompt = Prompt(messages=(*turns, Message(role="user", content=question)))
    record = Preference(
        prompt=prompt,
        chosen=(Message(role="assistant", content=chosen),),
        rejected=(Message(role="assistant", content=rejected),),
    )
    row = {
        "chosen": transcript(prompt.messages + record.chosen),
        "rejected": transcript(prompt.messages + record.rejected),
    }
    if chosen == rejected:
        with pytest.raises(RowDropped, match="identical_sides"):
            parse(row)
        return
    assert HH.recognises(row)
    assert parse(row) == record


@pytest.mark.skipif(not REAL.is_dir(), reason="the HH-RLHF subset is not on this machine")
def test_hh_real_files_give_a_record_or_a_drop_for_every_line() -> None:
    for path in sorted(REAL.glob("*.jsonl.gz")):
        with gzip.open(path) as file:
            num_lines = sum(1 for _ in file)
        rows = list(read_files("hh", [path]))
        assert [row.line for row in rows] == list(range(1, num_lines + 1))
        rules = {row.rule for row in rows if isinstance(row, Drop)}
        assert rules <= {"empty_side", "consecutive_turns"}
        assert sum(isinstance(row, Drop) for row in rows) < 0.02 * num_lines
