import pytest

from heedful.errors import DataError
from heedful.forms.pairwise import Pairwise
from heedful.types import Annotation, Completion, Message, Prompt, Task

PROMPT = Prompt.of("q")
SIDES = [
    Completion(prompt=PROMPT, messages=(Message(role="assistant", content=text),), model="import:t")
    for text in ("a", "b")
]
TASK = Task(form="pairwise", prompt=PROMPT, completion_ids=tuple(side.id for side in SIDES))


def answer(payload: dict) -> Annotation:
    return Annotation(
        task_id=TASK.id,
        annotator="ann",
        source="human",
        payload=payload,
        shown_order=TASK.completion_ids,
    )


def test_pairwise_strength_becomes_the_margin() -> None:
    annotation = answer({"preferred": SIDES[1].id, "strength": 3})
    (row,) = Pairwise().to_preferences(TASK, {side.id: side for side in SIDES}, annotation)
    assert (row.chosen[0].content, row.rejected[0].content, row.margin) == ("b", "a", 3.0)
    assert row.annotation_ids == (annotation.id,)


@pytest.mark.parametrize(
    ("payload", "rule"), [({"preferred": None}, "tie"), ({"preferred": "both_bad"}, "both_bad")]
)
def test_pairwise_tie_and_both_bad_are_told_apart(payload: dict, rule: str) -> None:
    assert Pairwise().undecided(payload) == rule


@pytest.mark.parametrize("strength", [4, -1, 1.0, "2", True, None, [1], float("nan")])
def test_pairwise_refuses_a_strength_that_is_no_whole_number_up_to_3(strength: object) -> None:
    with pytest.raises(DataError, match="whole number from 0 to 3"):
        Pairwise().validate({"preferred": SIDES[0].id, "strength": strength}, TASK.completion_ids)


@pytest.mark.parametrize("preferred", [None, "both_bad"])
def test_pairwise_refuses_a_strength_without_a_preference(preferred: object) -> None:
    with pytest.raises(DataError, match="leave strength out"):
        Pairwise().validate({"preferred": preferred, "strength": 1}, TASK.completion_ids)


def test_pairwise_key_with_a_typo_offers_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean 'preferred'"):
        Pairwise().validate({"prefered": None}, TASK.completion_ids)
