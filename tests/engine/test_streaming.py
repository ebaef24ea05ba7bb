import random

import pytest

from heedful.engine.sampling import stop_place
from heedful.engine.streaming import TextStream, held_back


def decode(token_ids: object) -> str:
    return bytes(token_ids).decode(errors="replace")  # type: ignore[call-overload,no-any-return]


def test_an_unfinished_character_is_held() -> None:
    stream = TextStream(decode, ())
    data = "aé\N{OWL}".encode()
    said = [stream.push(data[: n + 1]) for n in range(len(data))]
    assert said == ["a", "", "é", "", "", "", "\N{OWL}"]


@pytest.mark.parametrize(
    ("text", "stops", "held"),
    [
        ("abc", (), 0),
        ("abc", ("x",), 0),
        ("ab\n", ("\n\nHuman:",), 1),
        ("ab\n\nHum", ("\n\nHuman:", "m!"), 5),
        ("ab", ("ab",), 2),
        ("aaa", ("aab",), 2),
    ],
)
def test_what_may_begin_a_stop_string_is_held(text: str, stops: tuple[str, ...], held: int) -> None:
    assert held_back(text, stops) == held


def test_nothing_that_was_said_is_taken_back() -> None:
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(rng.choice("ab\n é") for _ in range(30))
        stops = tuple("".join(rng.choice("ab\n") for _ in range(3)) for _ in range(2))
        data = text.encode()
        stream = TextStream(decode, stops)
        said = ""
        final = text
        for n in range(1, len(data) + 1):
            so_far = decode(data[:n])
            place = stop_place(so_far, stops)
            if place is not None:
                final = so_far[:place]
                break
            said += stream.push(data[:n])
            assert text.startswith(said)
        said += stream.end(final)
        assert said == final
