"""From feedback rows to trees: what is kept, dropped and refused."""

from dataclasses import replace

import pytest

from heedful.data.examples import answer, demonstration_trees, feedback_trees, preference_trees
from heedful.data.testing import preferences
from heedful.errors import DataError
from heedful.model.base import load_base
from heedful.model.trunk import Trunk
from heedful.types import Demonstration, Feedback, Message, Preference, Prompt

PROMPT = Prompt.of("tell me about tea")
TOKENIZER = Trunk(load_base("test")).tokenizer


def row(*values: float, texts: str = "abcdefgh", scale: str = "order") -> Feedback:
    return Feedback(
        prompt=PROMPT,
        responses=tuple(answer(text) for text in texts[: len(values)]),
        scale=scale,  # type: ignore[arg-type]
        values=values,
    )


def test_all_that_is_said_of_a_prompt_is_one_tree_with_each_answer_once() -> None:
    rows = [row(0, 1, 2), row(0, 1, texts="ca"), row(4, 1, texts="cd", scale="rating")]
    (tree,) = feedback_trees(TOKENIZER, rows, max_tokens=512).trees
    assert len(tree.responses) == 4
    assert [one.responses for one in tree.said] == [(0, 1, 2), (2, 0), (2, 3)]


def test_pairs_are_the_orders_of_two() -> None:
    rows = preferences()
    trees = preference_trees(TOKENIZER, rows, max_tokens=512).trees
    assert [tree.pairs for tree in trees] == [((0, 1),)] * len(rows)
    assert [tree.id for tree in trees] == [one.prompt.id for one in rows]


def test_the_rows_behind_the_trees_are_known_in_their_order() -> None:
    first, second = preferences()[:2]
    same = replace(first, rejected=first.chosen)
    encoded = preference_trees(TOKENIZER, [first, second, same, first.swap()], max_tokens=512)
    assert [tree.pairs for tree in encoded.trees] == [((0, 1), (1, 0)), ((0, 1),)]
    assert encoded.pairs == [0, 3, 1]
    assert encoded.drops == {"identical_sides": 1}


def test_an_answer_that_is_too_long_leaves_the_rest_of_a_ranking() -> None:
    long = replace(row(0, 1, 2), responses=(answer("a"), answer("b " * 400), answer("c")))
    encoded = feedback_trees(TOKENIZER, [long, row(0, 1)], max_tokens=256)
    (tree,) = encoded.trees
    assert [one.values for one in tree.said] == [(0, 2), (0, 1)]
    assert encoded.drops == {"too_long": 1}


@pytest.mark.parametrize(
    ("values", "texts", "rule", "kept"),
    [
        ((0, 1), "aa", "identical_sides", []),
        ((0, 0), "aa", "identical_sides", []),
        ((0, 1, 2), "aba", "doubled_answer", []),
        ((0, 1, 1), "abb", None, [(0, 1)]),
    ],
)
def test_the_same_text_at_two_places_is_dropped_and_counted(
    values: tuple[int, ...], texts: str, rule: str | None, kept: list
) -> None:
    encoded = feedback_trees(TOKENIZER, [row(*values, texts=texts)], max_tokens=512)
    assert [one.values for tree in encoded.trees for one in tree.said] == kept
    assert encoded.drops == ({rule: 1} if rule else {})


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (replace(row(0, 1), values=(0,)), "1 values for 2 answers"),
        (row(0), "an? order of 1 answers; it needs at least 2"),
        (row(0, float("nan")), "finite numbers"),
        (replace(row(0, 1), weight=-1), "weight of at least 0"),
        (row(0.5, scale="thumb"), "1 is good and 0 is bad"),
        (replace(row(0, 1), margin=-1), "at least 0"),
        (replace(row(0, 1, 2), margin=1), "only an order of two has a strength"),
        (row(0, 1, scale="raiting"), "did you mean 'rating'"),
    ],
)
def test_a_row_that_says_nothing_definite_is_refused(bad: Feedback, match: str) -> None:
    with pytest.raises(DataError, match=match):
        feedback_trees(TOKENIZER, [bad], max_tokens=512)


def test_a_preference_is_the_same_as_feedback() -> None:
    one = Preference(prompt=PROMPT, chosen=answer("a"), rejected=answer("b"), margin=2.0)
    assert one.as_feedback() == replace(row(0, 1), margin=2.0, form="pairwise")


def test_who_learns_to_write_is_told_what_an_answer_was_given_and_a_reader_is_not() -> None:
    tool = (*answer("calling"), Message(role="tool", content="7"), *answer("it is 7"))
    pair = Preference(prompt=PROMPT, chosen=tool, rejected=answer("no"))
    (tree,) = preference_trees(TOKENIZER, [pair], max_tokens=512).trees
    shown = Demonstration(prompt=PROMPT, response=tool)
    (demonstrated,) = demonstration_trees(TOKENIZER, [shown], max_tokens=512).trees
    for one in (tree, demonstrated):
        said = [token for place, token in enumerate(one.responses[0]) if place in one.given[0]]
        assert "7" in TOKENIZER.decode(said)
        assert "it is" not in TOKENIZER.decode(said)
    assert tree.given[1] == frozenset()
    (read,) = feedback_trees(TOKENIZER, [pair.as_feedback()], max_tokens=512).trees
    assert read.given == ()
