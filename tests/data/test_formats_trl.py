import json

import pytest

from heedful.data.formats.base import RowDropped
from heedful.data.formats.trl import parse, recognises
from heedful.types import JSON, Demonstration, Message, Preference, Prompt


def user(text: str) -> dict[str, JSON]:
    return {"role": "user", "content": text}


def bot(text: str) -> dict[str, JSON]:
    return {"role": "assistant", "content": text}


def preference(prompt: str, chosen: str, rejected: str) -> Preference:
    return Preference(
        prompt=Prompt.of(prompt),
        chosen=(Message(role="assistant", content=chosen),),
        rejected=(Message(role="assistant", content=rejected),),
    )


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
            ("The sky is", "blue.", "green."),
        ),
        (
            {"chosen": "The sky is blue.", "rejected": "The sky is green."},
            ("The sky is", "blue.", "green."),
        ),
        (
            {"prompt": None, "chosen": "The sky is blue.", "rejected": "The sky is black."},
            ("The sky is", "blue.", "black."),
        ),
        (
            {"chosen": "Say one", "rejected": "Say one two", "prompt": "Count."},
            ("Count.", "Say one", "Say one two"),
        ),
    ],
    ids=["explicit", "implicit", "word-not-split", "one-side-longer"],
)
def test_trl_texts_become_a_preference(row: dict, expected: tuple[str, str, str]) -> None:
    assert recognises(row)
    assert parse(row) == preference(*expected)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [user("q")], "chosen": [bot("a")], "rejected": [bot("b")]},
        {"chosen": [user("q"), bot("a")], "rejected": [user("q"), bot("b")]},
        {"prompt": [user("q")], "chosen": [user("q"), bot("a")], "rejected": [user("q"), bot("b")]},
        {"prompt": "q", "chosen": [user("q"), bot("a")], "rejected": [user("q"), bot("b")]},
        {"prompt": "q", "chosen": [bot("a")], "rejected": [bot("b")]},
    ],
    ids=["explicit", "implicit", "repeated", "text-repeated", "text"],
)
def test_trl_conversations_become_the_same_preference(row: dict) -> None:
    assert recognises(row)
    assert parse(row) == preference("q", "a", "b")


def test_trl_text_prompt_keeps_the_system_turn_of_the_sides() -> None:
    system = {"role": "system", "content": "Be brief."}
    sides = {"chosen": [system, user("q"), bot("a")], "rejected": [system, user("q"), bot("b")]}
    record = parse({"prompt": "q"} | sides)
    assert [turn.role for turn in record.prompt.messages] == ["system", "user"]
    assert record == parse(sides)


def test_trl_implicit_prompt_ends_with_the_last_common_user_turn() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}
    result = {"role": "tool", "content": "7", "tool_call_id": "c1", "name": "f"}
    row = {
        "chosen": [user("q"), call, result, bot("7")],
        "rejected": [user("q"), call, result, bot("8")],
        "tools": json.dumps([{"name": "f"}]),
    }
    record = parse(row)
    assert record.prompt == Prompt(
        messages=(Message(role="user", content="q"),), tools=('{"name": "f"}',)
    )
    assert [turn.role for turn in record.chosen] == ["assistant", "tool", "assistant"]
    assert record.chosen[0].tool_calls == ('{"name": "f"}',)
    assert (record.chosen[1].tool_call_id, record.chosen[1].name) == ("c1", "f")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "completion": " a"},
        {"prompt": [user("q")], "completion": [bot("a")]},
        {"messages": [user("q"), bot("a")]},
    ],
)
def test_trl_answer_without_a_rival_is_a_demonstration(row: dict) -> None:
    assert recognises(row)
    response = (Message(role="assistant", content="a"),)
    assert parse(row) == Demonstration(prompt=Prompt.of("q"), response=response)


@pytest.mark.parametrize("row", [{"prompt": "q"}, {"prompt": [user("q")]}])
def test_trl_prompt_alone_is_a_prompt(row: dict) -> None:
    assert recognises(row)
    assert parse(row) == Prompt.of("q")


@pytest.mark.parametrize(
    ("rule", "row"),
    [
        ("empty_side", {"prompt": "q", "chosen": "", "rejected": "b"}),
        ("empty_side", {"chosen": "The sky", "rejected": "The sky is"}),
        ("empty_side", {"prompt": [user("q")], "chosen": [], "rejected": [bot("b")]}),
        ("empty_side", {"prompt": [user("q")], "chosen": [bot(" ")], "rejected": [bot("b")]}),
        ("empty_side", {"prompt": "q", "completion": "\n"}),
        ("identical_sides", {"prompt": "q", "chosen": "a", "rejected": "a "}),
        ("identical_sides", {"chosen": "same", "rejected": "same"}),
        ("identical_sides", {"prompt": "q", "chosen": [bot("a")], "rejected": [bot("a")]}),
        ("mismatched_prompts", {"chosen": "One", "rejected": "Two"}),
        (
            "mismatched_prompts",
            {"chosen": [user("p"), bot("a")], "rejected": [user("q"), bot("b")]},
        ),
        (
            "mismatched_prompts",
            {
                "chosen": [user("p"), bot("a"), user("r"), bot("c")],
                "rejected": [user("p"), bot("b"), user("r"), bot("d")],
            },
        ),
        (
            "mismatched_prompts",
            {"prompt": "other", "chosen": [user("q"), bot("a")], "rejected": [bot("b")]},
        ),
        ("empty_prompt", {"prompt": " ", "chosen": "a", "rejected": "b"}),
        ("empty_prompt", {"prompt": []}),
        ("no_user_turn", {"prompt": [user("q"), bot("a")]}),
        ("no_assistant_turn", {"prompt": "q", "completion": [{"role": "system", "content": "a"}]}),
        ("empty_side", {"messages": [user("q")]}),
        ("unknown_role", {"messages": [{"role": "narrator", "content": "q"}]}),
        ("unknown_role", {"messages": [{"role": ["user"], "content": "q"}]}),
        ("unsupported_content", {"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
        ("unsupported_content", {"messages": "q"}),
        ("unsupported_content", {"prompt": 7}),
        ("unsupported_content", {"prompt": "q", "tools": "{"}),
        ("mixed_types", {"prompt": "q", "chosen": "a", "rejected": [bot("b")]}),
        ("missing_key", {"prompt": "q", "chosen": "a"}),
        ("missing_key", {"prompt": "q", "completion": None}),
        ("unpaired_label", {"prompt": "q", "completion": "a", "label": False}),
        ("invalid_text", {"prompt": "\udfff", "chosen": "a", "rejected": "b"}),
        ("invalid_text", {"prompt": [user("\udfff")]}),
    ],
)
def test_trl_row_that_breaks_a_rule_is_dropped_by_it(rule: str, row: dict) -> None:
    with pytest.raises(RowDropped) as caught:
        parse(row)
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    "row",
    [
        {"text": "a"},
        {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
        {"chosen": "a"},
        {},
    ],
)
def test_trl_leaves_rows_of_other_formats(row: dict) -> None:
    assert not recognises(row)
