from itertools import pairwise

import pytest
import torch

from heedful.data.collate import Tree, collate, micro_batches
from heedful.errors import DataError

LONE = Tree(id="a", prompt=(1, 2, 3), responses=((4,) * 5, (5,) * 4, (6,) * 20, (7,), (8,) * 6))


@pytest.mark.parametrize("limit", [8, 12, 13, 23, 100])
def test_a_split_tree_has_the_same_responses_within_the_limit(limit: int) -> None:
    parts = LONE.split(limit)
    assert tuple(r for part in parts for r in part.responses) == LONE.responses
    assert all(part.prompt == LONE.prompt and part.id == LONE.id for part in parts)
    for part in parts:
        assert part.num_tokens <= limit or len(part.responses) == 1
    # no two neighbours would have fitted into one
    for left, right in pairwise(parts):
        assert left.num_tokens + len(right.responses[0]) > limit


def test_pairs_are_never_torn_apart() -> None:
    paired = Tree(id="p", prompt=(1,), responses=((2,), (3,)), pairs=((0, 1),))
    with pytest.raises(ValueError, match="tree p has pairs"):
        paired.split(100)


def test_a_tree_longer_than_a_micro_step_goes_alone() -> None:
    short = Tree(id="s", prompt=(1,), responses=((2,),))
    groups = micro_batches([short, short, LONE, short], 30)
    assert [[tree.id for tree in group] for group in groups] == [["s", "s"], ["a"], ["s"]]


def test_an_answer_that_nobody_wrote_is_refused() -> None:
    tree = Tree(id="g", prompt=(1,), responses=((2, 3),), given=(frozenset({0, 1}),))
    with pytest.raises(DataError, match="example g has an answer that nobody wrote"):
        collate([tree], torch.device("cpu"))
