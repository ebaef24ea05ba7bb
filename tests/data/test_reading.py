"""What feedback teaches, by how it is read."""

import itertools
from dataclasses import replace

import pytest

from heedful.config import RewardLoss
from heedful.data.collate import Said, Tree
from heedful.data.reading import (
    compared,
    known_places,
    learned,
    plan_reading,
    single_values,
    tally,
)
from heedful.errors import DataError


def order(*values: float, responses: tuple[int, ...] = (), **more: object) -> Said:
    given = responses or tuple(range(len(values)))
    made = Said(scale="order", responses=given, values=tuple(map(float, values)))
    return replace(made, **more)  # type: ignore[arg-type]


def said(scale: str, **values: float) -> Said:
    """``said("thumb", r0=1, r2=0)``."""
    return Said(
        scale=scale,  # type: ignore[arg-type]
        responses=tuple(int(name[1:]) for name in values),
        values=tuple(map(float, values.values())),
    )


def tree(*what: Said, name: str = "t", num: int = 4) -> Tree:
    responses = tuple((10 + number,) for number in range(num))
    return Tree(id=name, prompt=(1,), responses=responses, said=what)


def read(one: Tree, **settings: object) -> Tree:
    loss = RewardLoss(**settings)  # type: ignore[arg-type]
    made = learned(one, plan_reading(loss, [one]))
    assert made is not None
    return made


def test_a_pair_is_an_order_of_two_with_its_strength_times_the_setting() -> None:
    one = read(tree(order(0, 1, responses=(2, 1), margin=3.0)), margin=1 / 3)
    assert (one.pairs, one.weights, one.margins) == (((2, 1),), (1.0,), (1.0,))
    assert (one.ties, one.rankings) == ((), ())


def test_a_ranking_is_all_its_pairs_which_share_its_weight() -> None:
    one = read(tree(order(0, 1, 1, 2)))
    assert set(one.pairs) == {(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)}
    assert one.weights == (1 / 5,) * 5
    assert not one.ties


def test_with_a_model_of_ties_they_share_the_weight_of_a_ranking() -> None:
    one = read(tree(order(0, 1, 1, 2)), ties="davidson")
    assert one.ties == ((1, 2),)
    assert len(one.pairs) == 5
    assert {*one.weights, *one.tie_weights} == {1 / 6}


@pytest.mark.parametrize(
    ("values", "known"),
    [
        ((0, 1, 2, 3), 3),  # the last place follows from the others
        ((0, 1, 1, 1), 1),  # the best of four
        ((0, 1, 1, 2), 1),  # exact above the tie; what is below is left out
        ((0, 1, 2, 2), 2),
        ((0, 0, 1, 2), 0),
        ((3, 2, 1, 0), 3),
    ],
)
def test_a_ranking_is_known_from_the_top_to_its_first_tie(
    values: tuple[int, ...], known: int
) -> None:
    assert known_places(order(*values)) == known


def test_plackett_luce_reads_the_order_and_best_of_k_its_head() -> None:
    whole = read(tree(order(2, 0, 1)), rankings="plackett_luce")
    assert whole.rankings == (((1, 2, 0), 2, 1.0),)
    assert not whole.pairs
    assert read(tree(order(2, 0, 1)), rankings="best_of_k").rankings == (((1, 2, 0), 1, 1.0),)
    pair = read(tree(order(1, 0)), rankings="plackett_luce")
    assert (pair.pairs, pair.rankings) == (((1, 0),), ())


def test_rankings_that_are_read_in_part_are_counted() -> None:
    trees = [tree(order(0, 1, 1, 2)), tree(order(0, 1, 1, 1)), tree(order(0, 1, 2, 3))]
    found = plan_reading(RewardLoss(rankings="plackett_luce"), trees)
    assert found.drops == {"places_below_a_tie": 1}
    assert plan_reading(RewardLoss(rankings="best_of_k"), trees).drops == {}


def test_what_teaches_nothing_is_counted_by_rule() -> None:
    trees = [
        tree(order(0, 1), order(0, 0)),
        tree(order(0, 0, 1), order(1, 0)),
        tree(said("thumb", r0=0, r1=0), said("rating", r0=3)),
        tree(order(0, 1, form="flags")),
    ]
    loss = RewardLoss(rankings="plackett_luce", form_weights={"flags": 0.0})
    found = plan_reading(loss, trees)
    assert found.drops == {
        "ratings_all_equal": 1,
        "thumbs_all_alike": 1,
        "tie": 1,
        "tie_at_the_top": 1,
        "weight_zero": 1,
    }
    assert [learned(one, found) is None for one in trees] == [False, False, True, True]


def test_both_bad_are_thumbs_down_apart_from_ties_and_count_once_something_is_good() -> None:
    bad = replace(said("thumb", r0=0, r1=0), form="pairwise")
    trees = [tree(bad, order(0, 0)), tree(said("thumb", r2=1), order(0, 1))]
    assert tally(trees) == {"both_bad": 1, "pairs": 1, "thumbs": 1, "ties": 1}
    found = plan_reading(RewardLoss(), trees)
    assert found.thumbs
    made = learned(trees[0], found)
    assert made is not None
    assert [(mark.response, mark.value) for mark in made.thumbs] == [(0, 0.0), (1, 0.0)]
    assert not made.ties


def test_ratings_become_classes_of_the_levels_that_occur_or_stay_numbers() -> None:
    one = tree(said("rating", r0=5, r1=1), said("rating", r2=3))
    marks = read(one).ratings[""]
    assert [(mark.response, mark.value) for mark in marks] == [(0, 2), (1, 0), (2, 1)]
    marks = read(one, ratings="regression").ratings[""]
    assert [(mark.response, mark.value) for mark in marks] == [(0, 5), (1, 1), (2, 3)]


def test_one_criterion_can_be_chosen_and_must_exist() -> None:
    one = tree(
        replace(said("rating", r0=5, r1=1), criterion="honest"),
        replace(said("rating", r0=1, r1=4), criterion="polite"),
    )
    assert set(read(one).ratings) == {"honest", "polite"}
    made = read(one, criterion="polite")
    assert set(made.ratings) == {"polite"}
    assert compared(made).pairs == ((1, 0),)
    with pytest.raises(DataError, match="'kind', on which nothing is rated; rated are: honest, p"):
        read(one, criterion="kind")


def test_weights_of_forms_and_sources_multiply() -> None:
    one = tree(order(0, 1, form="ranking", source="model", weight=0.5))
    weights = {"form_weights": {"ranking": 3.0}, "source_weights": {"model": 0.2, "human": 7.0}}
    assert read(one, **weights).weights == (pytest.approx(0.3),)


@pytest.mark.parametrize(
    ("what", "settings", "match"),
    [
        ([order(0, 0)], {}, "nothing to learn a reward from: 1 tie"),
        ([order(0, 0)], {"ties": "rao_kupper"}, "nothing to learn a reward from: 1 tie"),
        ([order(0, 1)], {"ties": "rao_kupper"}, "no two answers tie"),
        ([said("thumb", r0=1)], {}, "1 thumbs_all_alike"),
        ([said("rating", r0=4, r1=4)], {}, "1 ratings_all_equal"),
        ([said("rating", r0=4, r1=5)], {"ratings": "drop"}, "1 ratings_not_used"),
    ],
)
def test_feedback_that_cannot_order_answers_is_refused_with_the_reason(
    what: list[Said], settings: dict, match: str
) -> None:
    with pytest.raises(DataError, match=match):
        plan_reading(RewardLoss(**settings), [tree(*what)])


def test_every_form_implies_pairs_to_be_measured_by() -> None:
    one = tree(
        order(0, 1, responses=(0, 1)),
        said("rating", r0=1, r2=4),
        said("thumb", r1=1, r3=0),
        said("thumb", r3=1),
    )
    made = compared(one)
    assert made.pairs == ((0, 1), (2, 0), (1, 3))
    assert made.weights == (1.0, 1.0, 1.0)


def test_answers_judged_alone_are_numbered_through_all_trees() -> None:
    trees = [tree(said("rating", r3=2)), tree(order(0, 1)), tree(said("rating", r0=5, r1=4))]
    found = single_values(trees)["ratings"]
    assert (found.responses, found.values, found.trees) == ([3, 8, 9], [2, 5, 4], [0, 2, 2])


def test_contradictions_and_cycles_are_counted_apart() -> None:
    contradicted = tree(order(0, 1), order(0, 1), order(1, 0), order(0, 1, responses=(1, 2)))
    circle = tree(*(order(0, 1, responses=pair) for pair in ((0, 1), (1, 2), (2, 0))))
    straight = tree(*(order(0, 1, responses=p) for p in itertools.combinations(range(4), 2)))
    found = tally([contradicted, circle, straight])
    assert found["contradictory_pairs"] == 1
    assert found["prompts_with_a_cycle"] == 1
    assert found["pairs"] == 4 + 3 + 6
