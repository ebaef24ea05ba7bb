import pytest

from heedful.errors import DataError
from heedful.forms.base import MAX_TEXT, check_number, check_object, check_text


def test_text_of_the_greatest_length_is_accepted_and_one_more_is_refused() -> None:
    check_text("f", "written", "x" * MAX_TEXT)
    with pytest.raises(DataError, match=f"of {MAX_TEXT + 1} characters; shorten it to at most"):
        check_text("f", "written", "x" * (MAX_TEXT + 1))


@pytest.mark.parametrize("text", ["", " \n\t", "\u3000", None, 1, ["x"], b"x"])
def test_text_that_says_nothing_is_refused(text: object) -> None:
    with pytest.raises(DataError, match="send a text that is not empty"):
        check_text("f", "written", text)


@pytest.mark.parametrize("character", ["\0", chr(0xD800), chr(0xDFFF)])
def test_text_that_no_database_holds_is_refused_by_its_character(character: str) -> None:
    with pytest.raises(DataError, match="cannot hold; remove it") as caught:
        check_text("f", "written", f"a{character}b")
    assert repr(character) in str(caught.value)


@pytest.mark.parametrize("text", ["é", "日本", "🙂", "\x01"])
def test_text_of_any_other_characters_is_accepted(text: str) -> None:
    check_text("f", "written", text)


def test_number_is_accepted_within_its_bounds_only() -> None:
    accepted = []
    for number in range(-1, 8):
        try:
            check_number("f", "score", number, 1, 5)
        except DataError:
            continue
        accepted.append(number)
    assert accepted == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        ([], r"f answer's scores is \[\]; send a JSON object"),
        ({"c": 1}, "f answer's scores has an unknown key 'c'; choose from: a, b"),
        ({7: 1}, "f answer's scores has an unknown key 7; keys are strings"),
        ({"b": 1}, "f answer's scores has no 'a' among its 1 keys; it needs a"),
    ],
)
def test_object_refusal_names_the_place_and_the_key(seen: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_object("f", "scores", seen, ("a", "b"), required=["a"])
