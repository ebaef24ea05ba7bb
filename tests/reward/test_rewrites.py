"""Other wordings change form alone, and leave alone what is not prose."""

import pytest

from heedful.data.examples import answer
from heedful.reward.rewrites import REWRITES, TO_AMERICAN, TO_BRITISH, rewritten
from heedful.types import Message

EXAMPLES = {
    "two spaces after a sentence": ("One. Two! three. Four", "One.  Two! three.  Four"),
    "bullets as sentences": (
        "Do:\n- wash it\n* dry it.\n\nDone.",
        "Do:\nwash it. dry it.\n\nDone.",
    ),
    "no bold, no headings": ("## Plan\nBe **bold** now", "Plan\nBe bold now"),
    "contractions spelt out": ("I'm sure. Don't, it's late", "I am sure. Do not, it's late"),
    "contracted": ("They are here. I cannot.", "They're here. I can't."),
    "typographic punctuation": (
        'He said "it\'s me"...',
        "He said \u201cit\u2019s me\u201d\u2026",
    ),
    "British spelling": (
        "The Color of ORGANIZING a neighborhood center",
        "The Colour of ORGANISING a neighbourhood centre",
    ),
    "American spelling": ("Grey flavours, travelling", "Gray flavors, traveling"),
}


@pytest.mark.parametrize("name", REWRITES)
def test_each_form_does_what_its_name_says_and_no_more_the_second_time(name: str) -> None:
    before, after = EXAMPLES[name]
    assert REWRITES[name](before) == after
    assert REWRITES[name](after) == after


@pytest.mark.parametrize("name", REWRITES)
def test_code_and_addresses_stay(name: str) -> None:
    kept = "```py\n# color\n- it's **don't**. Then\n```"
    inline = "`color. Don't`"
    address = "https://color.example/center.Don't"
    text = f"{kept}\nsee {inline} and {address}"
    made = REWRITES[name](text)
    assert kept in made
    assert inline in made
    assert address in made


def test_every_spelling_goes_there_and_back() -> None:
    assert {TO_AMERICAN[british] for british in TO_BRITISH.values()} == set(TO_BRITISH)


def test_only_what_the_assistant_says_is_rewritten() -> None:
    call = Message(role="tool", content="color", tool_call_id="1")
    made = rewritten((*answer("color"), call), "British spelling")
    assert [one.content for one in made] == ["colour", "color"]
