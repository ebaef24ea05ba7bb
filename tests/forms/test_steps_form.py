from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.errors import DataError
from heedful.forms.steps import Steps, labelled_steps, split_steps
from heedful.types import Message

FORM = Steps()
THREE = {"a": "One.\n\nTwo.\n\nThree."}


def said(content: str, **rest: Any) -> Message:
    return Message(role="assistant", content=content, **rest)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("One.", ("One.",)),
        ("One.\nStill one.\n\nTwo.", ("One.\nStill one.", "Two.")),
        ("\n\nOne.\n \t\n\n\nTwo.\n", ("One.", "Two.")),
        ("One.\r\n\r\nTwo.\r\n", ("One.", "Two.")),
        ("    indented\n\nTwo.", ("    indented", "Two.")),
        ("Code:\n\n```py\na = 1\n\nb = 2\n```\n\nDone.",
         ("Code:", "```py\na = 1\n\nb = 2\n```", "Done.")),
        ("````\n\n```\n\nOpen", ("````\n\n```", "Open")),
        ("```one line```\n\nTwo.", ("```one line```", "Two.")),
        ("", ()),
        (" \n\n ", ()),
    ],
)  # fmt: skip
def test_steps_of_one_message_are_its_paragraphs(text: str, steps: tuple[str, ...]) -> None:
    assert split_steps((said(text),)) == steps


@given(st.lists(st.text("ab .", min_size=1).filter(str.strip), max_size=6), st.data())
def test_steps_are_what_was_joined_by_blank_lines(written: list[str], data: Any) -> None:
    text = ""
    for number, paragraph in enumerate(written):
        text += data.draw(st.sampled_from(["\n\n", "\n \n", "\n\n\n"])) if number else ""
        text += paragraph
    assert split_steps((said(text),)) == tuple(written)


def test_calls_of_a_single_message_follow_its_paragraphs() -> None:
    message = said("Let me look.\n\nI search.", tool_calls=('{"name": "search"}',))
    assert split_steps((message,)) == ("Let me look.", "I search.", '{"name": "search"}')


def test_steps_of_several_messages_are_the_messages() -> None:
    messages = (
        said("First.\n\nSame step.", tool_calls=('{"name": "search"}',)),
        Message(role="tool", content="found", tool_call_id="1"),
        said("", tool_calls=('{"name": "read"}',)),
        Message(role="tool", content=""),
        Message(role="user", content="Go on."),
        said("Done."),
    )
    assert split_steps(messages) == (
        'First.\n\nSame step.\n{"name": "search"}',
        "found",
        '{"name": "read"}',
        "",
        "Done.",
    )


@pytest.mark.parametrize(
    ("payload", "labelled"),
    [
        ({"labels": [1, 0, -1]}, [("One.", 1), ("Two.", 0), ("Three.", -1)]),
        ({"labels": [-1, -1, 1], "first_error": False},
         [("One.", -1), ("Two.", -1), ("Three.", 1)]),
        ({"labels": [1, -1], "first_error": True}, [("One.", 1), ("Two.", -1)]),
        ({"labels": [1, 0, -1], "first_error": True}, [("One.", 1), ("Two.", 0), ("Three.", -1)]),
    ],
)  # fmt: skip
def test_labels_go_with_the_steps_in_order(ask: Any, payload: dict, labelled: list) -> None:
    task, completions, annotation = ask("steps", payload, THREE)
    FORM.check(task, completions, annotation)
    assert labelled_steps(completions["a"], annotation) == labelled


@pytest.mark.parametrize(
    "payload",
    [
        {"labels": [1, 1]},
        {"labels": [1, 1, 1, 1]},
        {"labels": [1, -1], "first_error": False},
        {"labels": [1, 1, 1, -1], "first_error": True},
    ],
)
def test_steps_conversion_refuses_another_number_of_labels(ask: Any, payload: dict) -> None:
    asked = ask("steps", payload, THREE)
    FORM.validate(payload, ["a"])
    number = len(payload["labels"])
    for convert in (FORM.check, FORM.to_preferences, FORM.to_demonstrations):
        with pytest.raises(DataError, match=f"has {number} labels for the 3 steps"):
            convert(*asked)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"labels": [1, 2]}, "label 2 2; send a whole number from -1 to 1"),
        ({"labels": [True]}, "label 1 True; send a whole number from -1 to 1"),
        ({"labels": []}, r"labels \[\]; send a list"),
        ({"labels": [1, 0], "first_error": True}, "none of its 2 labels is -1"),
        ({"labels": [-1, 1, -1], "first_error": True}, "label 1 is -1 already; end the labels"),
        ({"labels": [-1], "first_error": None}, "first_error None; send true or false"),
    ],
)
def test_steps_refuses_labels_that_cannot_be(payload: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        FORM.validate(payload, ["a"])
