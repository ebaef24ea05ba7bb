"""The nouns: what makes two of them the same."""

from copy import deepcopy
from dataclasses import replace

import pytest

from heedful.types import Annotation, Completion, Message, Prompt, Task

PROMPT = Prompt.of("How do I boil an egg?")
ANSWER = Completion(
    prompt=PROMPT, messages=(Message(role="assistant", content="Seven minutes."),), model="mdl_1"
)
TASK = Task(form="critique", prompt=PROMPT, completion_ids=(ANSWER.id,))
SAID = Annotation(
    task_id=TASK.id,
    annotator="usr_a",
    source="human",
    payload={"critique": "From when on?"},
    shown_order=(ANSWER.id,),
)


def test_ids_are_the_ones_that_databases_hold() -> None:
    """Another hash would make every import and every answer of before a new one."""
    assert [one.id for one in (PROMPT, ANSWER, TASK, SAID)] == [
        "prm_68b8469c5ea0660b",
        "cmp_93896744723be628",
        "tsk_0d9d32e67bbd3910",
        "ann_2d6cfde156edb8ca",
    ]


@pytest.mark.parametrize(
    ("record", "same", "other"),
    [
        (PROMPT, {"tools": ()}, {"tools": ("{}",)}),
        (ANSWER, {"finish_reason": "length"}, {"draw": 1}),
        (TASK, {"slots": 3, "priority": 1.0}, {"guideline": "Be strict."}),
        (SAID, {"seconds": 9.0, "shown_order": ()}, {"revision": 1}),
    ],
)
def test_a_changed_copy_has_the_id_of_its_own_content(
    record: Prompt | Completion | Task | Annotation,
    same: dict[str, object],
    other: dict[str, object],
) -> None:
    assert record.id == record.id  # taken before it is copied
    assert replace(record, **same).id == record.id
    assert replace(record, **other).id != record.id
    again = deepcopy(record)
    assert (again, again.id) == (record, record.id)
