import random

import pytest

from heedful.stats.near import SPAN, near


def likeness(one: str, other: str) -> float:
    first, second = map(runs, (one, other))
    return len(first & second) / len(first | second)


def runs(text: str) -> set[str]:
    plain = "".join(letter for letter in text.casefold() if letter.isalnum())
    return {plain[n : n + SPAN] for n in range(max(len(plain) - SPAN + 1, 1))}


def nearest(text: str, others: list[str], least: float) -> int | None:
    most = max((likeness(text, one) for one in others), default=0.0)
    found = [n for n, one in enumerate(others) if likeness(text, one) == most]
    return found[0] if most >= least else None


@pytest.mark.parametrize("least", [0.1, 0.3, 0.5, 0.7, 0.8, 1.0])
def test_a_rare_shingle_finds_what_comparing_all_finds(least):
    rng = random.Random(0)
    texts = ["".join(rng.choices("ab C!", k=rng.randrange(16))) for _ in range(400)]
    found = near(texts[:200], texts[200:], least=least)
    assert found == [nearest(one, texts[200:], least) for one in texts[:200]]
    assert 20 < sum(one is not None for one in found) < 200


def test_case_punctuation_and_spacing_make_no_difference():
    assert near(["How do I  boil an EGG"], ["what is tea", "How do I boil an egg?"]) == [1]


def test_one_word_of_many_is_near_and_one_of_few_is_not():
    asked = "How do I get from the station to the museum of modern art by bus on a Sunday"
    changed = asked.replace("Sunday", "Monday")
    assert near([changed, "boil an egg"], [asked, "boil an ham"]) == [0, None]


def test_nothing_is_near_nothing():
    assert near([], ["a"]) == []
    assert near(["a"], []) == [None]


@pytest.mark.parametrize("least", [0.0, -1.0, 1.01])
def test_a_likeness_that_cannot_be_is_refused(least):
    with pytest.raises(ValueError, match="above 0, up to 1"):
        near(["a"], ["a"], least=least)
