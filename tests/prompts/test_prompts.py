import re
from itertools import combinations

import pytest

from heedful.errors import DataError
from heedful.prompts import SPLITS, DemoPrompt, demo_prompts
from heedful.types import Prompt

FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a an and any are as at be by can could describe did do does explain for from give has
        have how i if in is it its me my not of on or our should so some suggest tell that the
        there this to was we what when where which who why with without write you your""",
    )
)


def content_words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+", text.lower())) - FUNCTION_WORDS


def test_prompts_are_at_least_300_for_training_and_150_held_out() -> None:
    assert len(demo_prompts("train")) >= 300
    assert len(demo_prompts("held-out")) >= 150


def test_prompts_of_both_splits_are_all_prompts_in_order() -> None:
    rows = demo_prompts()
    for split in SPLITS:
        assert demo_prompts(split) == [row for row in rows if row.split == split]
    assert {row.split for row in rows} == set(SPLITS)


def test_prompts_are_unique_when_case_and_punctuation_are_ignored() -> None:
    words = [tuple(re.findall(r"\w+", row.text.lower())) for row in demo_prompts()]
    assert len(set(words)) == len(words)


def test_prompts_share_less_than_seven_tenths_of_their_content_words() -> None:
    rows = [(row.text, content_words(row.text)) for row in demo_prompts()]
    near = [
        (left, right)
        for (left, a), (right, b) in combinations(rows, 2)
        if len(a & b) >= 0.7 * len(a | b)
    ]
    assert near == []


def test_prompts_of_the_splits_are_disjoint_by_id() -> None:
    train, held_out = ({row.prompt.id for row in demo_prompts(split)} for split in SPLITS)
    assert not train & held_out


def test_prompts_of_both_splits_cover_the_same_topics() -> None:
    train, held_out = ({row.topic for row in demo_prompts(split)} for split in SPLITS)
    assert train == held_out


def test_prompts_are_one_line_of_3_to_22_words() -> None:
    odd = [
        row.text
        for row in demo_prompts()
        if not 3 <= len(row.text.split()) <= 22 or row.text != " ".join(row.text.split())
    ]
    assert odd == []


def test_prompt_is_one_user_turn_with_the_text() -> None:
    row = DemoPrompt(text="Why is the sky blue?", topic="science", split="train")
    assert row.prompt == Prompt.of("Why is the sky blue?")


def test_prompts_of_an_unknown_split_are_refused() -> None:
    with pytest.raises(DataError, match=r"'test'.*train, held-out"):
        demo_prompts("test")
