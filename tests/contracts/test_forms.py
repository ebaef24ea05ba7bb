"""What every feedback form promises. New entries of ``FORMS`` are tested without being asked."""

import json

import pytest

from heedful.errors import DataError
from heedful.forms import FORMS, Form
from heedful.types import JSON, Annotation, Completion, Demonstration, Message, Prompt, Task

CASES = [
    pytest.param(FORMS[name], number, id=f"{name}-{number}")
    for name in FORMS
    for number in range(
        len(FORMS[name].examples(("left", "right")[: FORMS[name].num_completions[0]]))
    )
]
HOSTILE: list[JSON] = [
    {},
    [],
    None,
    "left",
    7,
    {"preferred": "cmp_of_another_task"},
    {"preferred": ["left"]},
    {"preferred": {"id": "left"}},
    {"preferred": True},
    {"preferred": 0},
    {"preferred": ""},
    {"accepted": "cmp_of_another_task"},
    {"accepted": False},
    {"accepted": None, "written": "x"},
    {"written": ""},
    {"written": " \n"},
    {"written": None},
    {"written": ["x"]},
    {"written": "\ud800"},
    {"unknown": 1},
    {7: "left"},
]


def shown(form: Form) -> tuple[Task, dict[str, Completion]]:
    prompt = Prompt.of("Why is the sky blue?")
    texts = ("Light scatters.", "It just is.", "Ask later.")[: form.num_completions[0]]
    sides = [
        Completion(
            prompt=prompt, messages=(Message(role="assistant", content=text),), model="import:t"
        )
        for text in texts
    ]
    task = Task(form=form.name, prompt=prompt, completion_ids=tuple(one.id for one in sides))
    return task, {one.id: one for one in sides}


def answered(task: Task, payload: JSON) -> Annotation:
    return Annotation(
        task_id=task.id,
        annotator="ann",
        source="human",
        payload=payload,
        shown_order=task.completion_ids,
    )


@pytest.mark.parametrize("name", FORMS)
def test_form_is_registered_under_its_name(name: str) -> None:
    form = FORMS[name]
    assert form.name == name
    assert form.question.endswith((".", "?"))


@pytest.mark.parametrize(("form", "number"), CASES)
def test_form_accepts_its_examples_and_derives_rows_or_says_why_not(
    form: Form, number: int
) -> None:
    task, completions = shown(form)
    payload = form.examples(task.completion_ids)[number]
    form.validate(payload, task.completion_ids)
    annotation = answered(task, payload)
    rows = [
        *form.to_preferences(task, completions, annotation),
        *form.to_demonstrations(task, completions, annotation),
    ]
    assert bool(rows) == (form.undecided(payload) is None)
    assert all(row.prompt == task.prompt for row in rows)
    assert all(row.annotation_ids == (annotation.id,) for row in rows)


@pytest.mark.parametrize(("form", "number"), CASES)
def test_form_example_fits_its_schema(form: Form, number: int) -> None:
    task, _ = shown(form)
    payload, schema = form.examples(task.completion_ids)[number], form.schema(task.completion_ids)
    assert schema["additionalProperties"] is False
    assert set(payload) <= set(schema["properties"])
    assert set(schema.get("required", ())) <= set(payload)
    for key, value in payload.items():
        allowed = schema["properties"][key].get("enum")
        assert allowed is None or value in allowed


@pytest.mark.parametrize(("form", "number"), CASES)
def test_form_reads_a_payload_that_went_through_json_alike(form: Form, number: int) -> None:
    task, completions = shown(form)
    payload = form.examples(task.completion_ids)[number]
    written, read = answered(task, payload), answered(task, json.loads(json.dumps(payload)))
    assert written.id == read.id
    for convert in (form.to_preferences, form.to_demonstrations):
        assert convert(task, completions, written) == convert(task, completions, read)


@pytest.mark.parametrize(("form", "number"), CASES)
def test_form_ignores_on_which_side_a_completion_stood(form: Form, number: int) -> None:
    task, completions = shown(form)
    annotation = answered(task, form.examples(task.completion_ids)[number])
    mirrored = Task(
        form=task.form, prompt=task.prompt, completion_ids=tuple(reversed(task.completion_ids))
    )
    for convert in (form.to_preferences, form.to_demonstrations):
        assert convert(task, completions, annotation) == convert(mirrored, completions, annotation)


@pytest.mark.parametrize(("form", "number"), CASES)
def test_form_flips_when_the_completions_swap_names(form: Form, number: int) -> None:
    task, completions = shown(form)
    payload = form.examples(task.completion_ids)[number]
    first, last = task.completion_ids[0], task.completion_ids[-1]
    text = json.dumps(payload).replace(first, "\0").replace(last, first).replace("\0", last)
    original = form.to_preferences(task, completions, answered(task, payload))
    annotation = answered(task, json.loads(text))
    flipped = form.to_preferences(task, completions, annotation)
    assert [(one.chosen, one.rejected, one.margin) for one in flipped] == [
        (one.swap().chosen, one.swap().rejected, one.margin) for one in original
    ]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("payload", HOSTILE, ids=ascii)
def test_form_refuses_a_hostile_payload_on_one_line(name: str, payload: JSON) -> None:
    form = FORMS[name]
    task, _ = shown(form)
    with pytest.raises(DataError, match=name) as caught:
        form.validate(payload, task.completion_ids)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", FORMS)
def test_form_refuses_an_example_with_one_more_key(name: str) -> None:
    form = FORMS[name]
    task, _ = shown(form)
    for payload in form.examples(task.completion_ids):
        with pytest.raises(DataError, match="extra"):
            form.validate(payload | {"extra": 1}, task.completion_ids)


@pytest.mark.parametrize("name", FORMS)
def test_form_conversion_refuses_what_validation_refuses(name: str) -> None:
    form = FORMS[name]
    task, completions = shown(form)
    for convert in (form.to_preferences, form.to_demonstrations):
        with pytest.raises(DataError):
            convert(task, completions, answered(task, {"unknown": 1}))


def test_demonstration_rows_are_demonstrations() -> None:
    form = FORMS["demonstration"]
    task, completions = shown(form)
    (row,) = form.to_demonstrations(task, completions, answered(task, {"written": "Better."}))
    assert isinstance(row, Demonstration)
    assert row.response == (Message(role="assistant", content="Better."),)
