import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.errors import DataError
from heedful.forms.pairwise import Pairwise
from heedful.forms.ranking import RankingForm

FORM = RankingForm()


def pairs(ask: Any, groups: list[list[str]]) -> set[tuple[str, str]]:
    """What the form makes of a ranking whose completions say their own ids."""
    texts = {one: one for one in sorted(itertools.chain(*groups))}
    rows = FORM.to_preferences(*ask("ranking", {"ranks": groups}, texts))
    found = {(row.chosen[0].content, row.rejected[0].content) for row in rows}
    assert len(found) == len(rows)
    return found


@st.composite
def rankings(draw: st.DrawFn) -> list[list[str]]:
    """A random order of 2 to 9 completions, cut into groups at random places."""
    num = draw(st.integers(2, 9))
    order = draw(st.permutations([f"c{number}" for number in range(num)]))
    cuts = draw(st.lists(st.booleans(), min_size=num - 1, max_size=num - 1))
    groups = [[order[0]]]
    for one, is_cut in zip(order[1:], cuts, strict=True):
        if is_cut:
            groups.append([one])
        else:
            groups[-1].append(one)
    return groups


@given(rankings())
def test_ranking_decides_a_pair_exactly_when_its_places_differ(
    ask: Any, groups: list[list[str]]
) -> None:
    place = {one: number for number, group in enumerate(groups) for one in group}
    by_enumeration = {
        (one, other) for one, other in itertools.permutations(place, 2) if place[one] < place[other]
    }
    assert pairs(ask, groups) == by_enumeration


@pytest.mark.parametrize("order", list(itertools.permutations("abcd")), ids="".join)
def test_every_order_of_four_gives_its_six_pairs(ask: Any, order: tuple[str, ...]) -> None:
    expected = {(order[i], order[j]) for i in range(4) for j in range(i + 1, 4)}
    assert pairs(ask, [[one] for one in order]) == expected


@given(rankings())
def test_ranking_turned_round_states_the_opposite(ask: Any, groups: list[list[str]]) -> None:
    assert pairs(ask, groups[::-1]) == {(other, one) for one, other in pairs(ask, groups)}


@given(rankings(), st.randoms())
def test_ranking_order_within_a_tie_means_nothing(
    ask: Any, groups: list[list[str]], random: Any
) -> None:
    shuffled = [random.sample(group, len(group)) for group in groups]
    texts = {one: one for one in sorted(itertools.chain(*groups))}
    said = []
    for ranks in (groups, shuffled):
        rows = FORM.to_preferences(*ask("ranking", {"ranks": ranks}, texts))
        said.append([(row.chosen, row.rejected, row.weight) for row in rows])
    assert said[0] == said[1]


def test_ranking_of_nine_weighs_as_much_as_one_pair(ask: Any) -> None:
    order = [f"c{number}" for number in range(9)]
    rows = FORM.to_preferences(
        *ask("ranking", {"ranks": [[one] for one in order]}, dict(zip(order, order, strict=True)))
    )
    assert [row.weight for row in rows] == [1 / 36] * 36


@pytest.mark.parametrize(
    ("ranks", "payload"),
    [
        ([["a"], ["b"]], {"preferred": "a"}),
        ([["b"], ["a"]], {"preferred": "b"}),
        ([["a", "b"]], {"preferred": None}),
    ],
)
def test_ranking_of_two_says_what_pairwise_says(
    ask: Any, ranks: list[list[str]], payload: dict
) -> None:
    texts = {"a": "A", "b": "B"}
    ranking, pairwise = ask("ranking", {"ranks": ranks}, texts), ask("pairwise", payload, texts)
    assert FORM.undecided({"ranks": ranks}) == Pairwise().undecided(payload)
    assert [(row.chosen, row.rejected, row.weight) for row in FORM.to_preferences(*ranking)] == [
        (row.chosen, row.rejected, row.weight) for row in Pairwise().to_preferences(*pairwise)
    ]
    assert [row.response for row in FORM.to_demonstrations(*ranking)] == [
        row.response for row in Pairwise().to_demonstrations(*pairwise)
    ]


def test_ranking_first_place_is_imitated_even_when_shared(ask: Any) -> None:
    rows = FORM.to_demonstrations(
        *ask("ranking", {"ranks": [["c", "a"], ["b"]]}, {"a": "A", "b": "B", "c": "C"})
    )
    assert [row.response[0].content for row in rows] == ["A", "C"]


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ([["a"], ["b"]], "has c 0 times among 3 completions"),
        ([["a"], ["b"], ["c"], ["a"]], "has a 2 times among 3 completions"),
        ([["a", "b", "c", "c"]], "has c 2 times among 3 completions"),
        ([["a"], [], ["b", "c"]], r"has the group \[\] in its ranks"),
        (["a", "b", "c"], "has the group 'a' in its ranks"),
        ([["a"], ["b"], ["x"]], "ranks with 'x'; choose from: a, b, c"),
        ("abc", "ranks 'abc'; send a list of groups"),
    ],
)
def test_ranking_refuses_what_is_not_each_completion_once(ranks: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        FORM.validate({"ranks": ranks}, ["a", "b", "c"])


def test_ranking_feedback_is_one_order_with_its_ties(ask: Any) -> None:
    texts = {"a": "A", "b": "B", "c": "C"}
    (row,) = FORM.to_feedback(*ask("ranking", {"ranks": [["c"], ["b", "a"]]}, texts))
    assert [one[0].content for one in row.responses] == ["C", "A", "B"]
    assert (row.scale, row.values, row.weight) == ("order", (0, 1, 1), 1)
