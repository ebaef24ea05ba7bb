import pytest

from heedful.data.formats import FORMATS
from heedful.data.formats.base import RowDropped

ROW = {"prompt": "Tea?", "completions": ["yes", "no", "so"]}


def test_ranks_are_groups_best_first() -> None:
    record = FORMATS["ranking"].parse(ROW | {"ranks": [2, 1, 2]})
    assert record.answers[0].payload == {"ranks": [["2"], ["1", "3"]]}


@pytest.mark.parametrize("ranks", [[1, 2, -1], [0, 1, 2], [1, 2], [1, 2.0, 3], ["1", 2, 3], None])
def test_ranks_that_do_not_say_which_is_best_are_dropped(ranks: object) -> None:
    with pytest.raises(RowDropped, match="3 whole numbers above 0, 1 the best"):
        FORMATS["ranking"].parse(ROW | {"ranks": ranks})
