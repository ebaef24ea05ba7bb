"""What every feedback form promises. New entries of ``FORMS`` are tested without being asked."""

import copy
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.errors import DataError
from heedful.forms import FORMS, Form
from heedful.forms.base import MAX_NOTE
from heedful.types import (
    JSON,
    Annotation,
    Completion,
    Demonstration,
    Message,
    Preference,
    Prompt,
    Task,
)

STEPS = "\n\nSecond.\n\nThird."
TEXTS = ("Light scatters.", "It just is.", "Ask later.", "Blue.", "Air.", "No.", "7", "8", "9")


def sizes(form: Form) -> set[int]:
    low, high = form.num_completions
    return {low, min(low + 1, high), high}


NAMES_AND_SIZES = [(name, size) for name in FORMS for size in sorted(sizes(FORMS[name]))]
CASES = [
    pytest.param(FORMS[name], size, number, id=f"{name}-{size}-{number}")
    for name, size in NAMES_AND_SIZES
    for number in range(len(FORMS[name].examples(TEXTS[:size])))
]
HOSTILE: list[JSON] = [
    {},
    [],
    None,
    "left",
    7,
    {"comment": "A comment alone."},
    {"preferred": "cmp_of_another_task"},
    {"preferred": ["left"]},
    {"preferred": {"id": "left"}},
    {"preferred": True},
    {"preferred": 0},
    {"preferred": ""},
    {"preferred": None, "written": ""},
    {"preferred": None, "written": "x" * 20_001},
    {"accepted": "cmp_of_another_task"},
    {"accepted": False},
    {"accepted": None, "written": "x"},
    {"written": ""},
    {"written": " \n"},
    {"written": None},
    {"written": ["x"]},
    {"written": "\ud800"},
    {"written": "\0"},
    {"written": "x" * 20_001},
    {"ranks": None},
    {"ranks": []},
    {"ranks": [[]]},
    {"ranks": ["left", "right"]},
    {"ranks": [["cmp_of_another_task"]]},
    {"ranks": [[["left"]]]},
    {"ranks": {"left": 1}},
    {"ratings": []},
    {"ratings": {}},
    {"ratings": {"cmp_of_another_task": {"helpful": 1}}},
    {"ratings": {7: {"helpful": 1}}},
    {"flags": None},
    {"flags": ["bias"]},
    {"flags": {"cmp_of_another_task": {}}},
    {"critique": ""},
    {"critique": 7},
    {"critique": "x" * 20_001},
    {"labels": []},
    {"labels": None},
    {"labels": [2]},
    {"labels": [True]},
    {"labels": [1.0]},
    {"labels": "good"},
    {"labels": [1], "first_error": True},
    {"labels": [-1, 1], "first_error": True},
    {"labels": [-1], "first_error": 1},
    {"unknown": 1},
    {7: "left"},
]
# Their answers are labels of a completion, which need not compare or improve it.
TEACH_WITHOUT_ROWS = ("rating", "flags", "critique", "steps")
BAD_COMMENTS: list[JSON] = [None, "", " \n", 7, ["x"], "\ud800", "a\0b", "x" * (MAX_NOTE + 1)]


def shown(form: Form, size: int | None = None) -> tuple[Task, dict[str, Completion]]:
    prompt = Prompt.of("Why is the sky blue?")
    sides = [
        Completion(
            prompt=prompt,
            messages=(Message(role="assistant", content=text + STEPS),),
            model="import:t",
        )
        for text in TEXTS[: size or form.num_completions[0]]
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


CONVERSIONS = ("to_feedback", "to_preferences", "to_demonstrations")


def rows(
    form: Form, task: Task, completions: Mapping[str, Completion], annotation: Annotation
) -> list[Preference | Demonstration]:
    return [
        *form.to_preferences(task, completions, annotation),
        *form.to_demonstrations(task, completions, annotation),
    ]


@pytest.mark.parametrize("name", FORMS)
def test_form_is_registered_under_its_name(name: str) -> None:
    form = FORMS[name]
    assert form.name == name
    assert form.question.endswith((".", "?"))
    assert 1 <= form.num_completions[0] <= form.num_completions[1] <= len(TEXTS)


@pytest.mark.parametrize(("form", "size", "number"), CASES)
def test_form_accepts_its_examples_and_derives_rows_of_its_task(
    form: Form, size: int, number: int
) -> None:
    task, completions = shown(form, size)
    payload = form.examples(task.completion_ids)[number]
    form.validate(payload, task.completion_ids)
    annotation = answered(task, payload)
    form.check(task, completions, annotation)
    derived = rows(form, task, completions, annotation)
    assert all(row.prompt == task.prompt for row in derived)
    assert all(row.annotation_ids == (annotation.id,) for row in derived)


@pytest.mark.parametrize(("form", "size", "number"), CASES)
def test_form_derives_rows_or_says_why_not(form: Form, size: int, number: int) -> None:
    task, completions = shown(form, size)
    payload = form.examples(task.completion_ids)[number]
    derived = rows(form, task, completions, answered(task, payload))
    if form.undecided(payload):
        assert derived == []
    elif form.name not in TEACH_WITHOUT_ROWS:
        assert derived != []


@pytest.mark.parametrize(("form", "size", "number"), CASES)
def test_form_feedback_says_all_that_its_preferences_say_and_weighs_one_in_sum(
    form: Form, size: int, number: int
) -> None:
    task, completions = shown(form, size)
    annotation = answered(task, form.examples(task.completion_ids)[number])
    feedback = form.to_feedback(task, completions, annotation)
    assert all(one.form == form.name and one.source == annotation.source for one in feedback)
    assert all(one.annotation_ids == (annotation.id,) for one in feedback)
    assert all(len(one.values) == len(set(one.responses)) for one in feedback)
    assert sum(one.weight for one in feedback) == pytest.approx(1 if feedback else 0)
    implied = set()
    for one in feedback:
        best_first = -1 if one.scale == "order" else 1
        for (better, high), (worse, low) in itertools.permutations(
            zip(one.responses, one.values, strict=True), 2
        ):
            if best_first * high > best_first * low:
                implied.add((better, worse))
    stated = {
        (one.chosen, one.rejected) for one in form.to_preferences(task, completions, annotation)
    }
    assert stated <= implied


@pytest.mark.parametrize(("form", "size", "number"), CASES)
def test_form_preferences_weigh_one_in_sum_and_contradict_nothing(
    form: Form, size: int, number: int
) -> None:
    task, completions = shown(form, size)
    annotation = answered(task, form.examples(task.completion_ids)[number])
    preferences = form.to_preferences(task, completions, annotation)
    assert sum(one.weight for one in preferences) == pytest.approx(1 if preferences else 0)
    stated = {(one.chosen, one.rejected) for one in preferences}
    assert len(stated) == len(preferences)
    assert not stated & {(rejected, chosen) for chosen, rejected in stated}


@pytest.mark.parametrize(("form", "size", "number"), CASES)
def test_form_says_the_same_of_completions_of_other_names(
    form: Form, size: int, number: int
) -> None:
    task, _ = shown(form, size)
    payload = form.examples(task.completion_ids)[number] | {"comment": "Yes."}
    names = {one: str(place) for place, one in enumerate(task.completion_ids)}
    back = {place: one for one, place in names.items()}
    renamed = form.renamed(payload, names)
    form.validate(renamed, list(back))
    assert form.renamed(renamed, back) == payload
    assert not any(one in json.dumps(renamed) for one in names)


@pytest.mark.parametrize(("form", "size", "number"), CASES)
def test_form_without_texts_is_a_valid_judgement_without_what_was_written(
    form: Form, size: int, number: int
) -> None:
    task, _ = shown(form, size)
    payload = form.examples(task.completion_ids)[number] | {"comment": "I, Zoe, think so."}
    rest = form.without_texts(payload)
    if rest is None:
        assert form.name in ("critique", "demonstration")
        return
    form.validate(rest, task.completion_ids)
    assert form.without_texts(rest) == rest
    schema = form.schema(task.completion_ids)
    texts = {key for key, value in schema["properties"].items() if "maxLength" in value}
    assert not texts & rest.keys()
    assert not any(word in json.dumps(rest) for word in ("Zoe", "Better.", "Invents", "note"))


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
@pytest.mark.parametrize("payload", [one for one in HOSTILE if isinstance(one, dict)], ids=repr)
def test_form_leaves_what_it_does_not_understand_to_its_check(form: Form, payload: JSON) -> None:
    assert isinstance(form.renamed(payload, {"left": "1"}), dict)


@pytest.mark.parametrize(("form", "size", "number"), CASES)
def test_form_example_fits_its_schema(form: Form, size: int, number: int) -> None:
    task, _ = shown(form, size)
    payload, schema = form.examples(task.completion_ids)[number], form.schema(task.completion_ids)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(payload)
    assert schema["additionalProperties"] is False
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize(("form", "size", "number"), CASES)
def test_form_reads_a_payload_that_went_through_json_alike(
    form: Form, size: int, number: int
) -> None:
    task, completions = shown(form, size)
    payload = form.examples(task.completion_ids)[number]
    written = answered(task, payload)
    # Keys sorted: a database may return them in its own order.
    read = answered(task, json.loads(json.dumps(payload, sort_keys=True)))
    assert written.id == read.id
    for convert in (getattr(form, name) for name in CONVERSIONS):
        assert convert(task, completions, written) == convert(task, completions, read)


@pytest.mark.parametrize(("form", "size", "number"), CASES)
def test_form_ignores_on_which_side_a_completion_stood(form: Form, size: int, number: int) -> None:
    task, completions = shown(form, size)
    annotation = answered(task, form.examples(task.completion_ids)[number])
    mirrored = Task(
        form=task.form, prompt=task.prompt, completion_ids=tuple(reversed(task.completion_ids))
    )
    for convert in (getattr(form, name) for name in CONVERSIONS):
        assert convert(task, completions, annotation) == convert(mirrored, completions, annotation)


@pytest.mark.parametrize(("form", "size", "number"), CASES)
def test_form_follows_when_two_completions_swap_names(form: Form, size: int, number: int) -> None:
    task, completions = shown(form, size)
    payload = form.examples(task.completion_ids)[number]
    first, last = task.completion_ids[0], task.completion_ids[-1]
    text = json.dumps(payload).replace(first, "\1").replace(last, first).replace("\1", last)
    exchanged = completions | {first: completions[last], last: completions[first]}
    by_payload = rows(form, task, completions, answered(task, json.loads(text)))
    by_completions = rows(form, task, exchanged, answered(task, payload))
    assert sorted(map(content, by_payload)) == sorted(map(content, by_completions))


def content(row: Preference | Demonstration) -> str:
    """What a row says, without who said it."""
    if isinstance(row, Preference):
        return f"{row.chosen} over {row.rejected} by {row.margin} weighs {row.weight}"
    return f"{row.response} weighs {row.weight}"


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("payload", HOSTILE, ids=lambda payload: ascii(payload)[:60])
def test_form_refuses_a_hostile_payload_on_one_line(name: str, payload: JSON) -> None:
    form = FORMS[name]
    task, _ = shown(form)
    with pytest.raises(DataError, match=name) as caught:
        form.validate(payload, task.completion_ids)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("form", "size", "number"), CASES)
def test_form_refuses_an_example_with_one_more_key(form: Form, size: int, number: int) -> None:
    task, _ = shown(form, size)
    payload = form.examples(task.completion_ids)[number]
    with pytest.raises(DataError, match="extra"):
        form.validate(payload | {"extra": 1}, task.completion_ids)


@pytest.mark.parametrize(("form", "size", "number"), CASES)
def test_form_takes_a_comment_that_changes_nothing_else(form: Form, size: int, number: int) -> None:
    task, completions = shown(form, size)
    payload = form.examples(task.completion_ids)[number]
    commented = payload | {"comment": "Hard to say. " + "x" * (MAX_NOTE - 13)}
    form.validate(commented, task.completion_ids)
    jsonschema.Draft202012Validator(form.schema(task.completion_ids)).validate(commented)
    assert form.undecided(commented) == form.undecided(payload)
    said = [
        list(map(content, rows(form, task, completions, answered(task, one))))
        for one in (payload, commented)
    ]
    assert said[0] == said[1]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("comment", BAD_COMMENTS, ids=lambda comment: ascii(comment)[:20])
def test_form_refuses_a_comment_that_is_no_short_text(name: str, comment: JSON) -> None:
    form = FORMS[name]
    task, _ = shown(form)
    payload = form.examples(task.completion_ids)[0] | {"comment": comment}
    with pytest.raises(DataError, match=f"{name} answer has comment"):
        form.validate(payload, task.completion_ids)
    if comment not in ("\ud800", "a\0b"):  # JSON Schema has no words for these
        assert not jsonschema.Draft202012Validator(form.schema(task.completion_ids)).is_valid(
            payload
        )


@pytest.mark.parametrize(("name", "size"), NAMES_AND_SIZES)
def test_form_agreement_is_symmetric_ignores_comments_and_tells_answers_apart(
    name: str, size: int
) -> None:
    form = FORMS[name]
    task, _ = shown(form, size)
    answers = form.examples(task.completion_ids)
    table = [[form.agrees(one, other) for other in answers] for one in answers]
    if form.agrees(answers[0], answers[0]) is None:
        assert {cell for row in table for cell in row} == {None}
        return
    assert all(table[n][n] is True for n in range(len(answers)))
    assert table == [list(column) for column in zip(*table, strict=True)]
    assert any(cell is False for row in table for cell in row)
    commented = [one | {"comment": "Hard to say."} for one in answers]
    read = [json.loads(json.dumps(one, sort_keys=True)) for one in commented]
    assert [[form.agrees(one, other) for other in answers] for one in read] == table


@pytest.mark.parametrize("name", FORMS)
def test_form_conversion_refuses_what_validation_refuses(name: str) -> None:
    form = FORMS[name]
    task, completions = shown(form)
    for convert in (form.check, *(getattr(form, name) for name in CONVERSIONS)):
        with pytest.raises(DataError):
            convert(task, completions, answered(task, {"unknown": 1}))


def places(value: JSON, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value inside a payload."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*at, key)
            yield from places(value[key], (*at, key))


def changed(payload: JSON, path: Sequence[Any], change: Callable[[Any, Any], None]) -> JSON:
    """A copy of the payload with ``change(container, key)`` done at the end of the path."""
    result = copy.deepcopy(payload)
    container = result
    for key in path[:-1]:
        container = container[key]
    change(container, path[-1])
    return result


def junk(completion_ids: Sequence[str]) -> st.SearchStrategy[JSON]:
    leaves = (
        st.none()
        | st.booleans()
        | st.integers(-2, 6)
        | st.floats()
        | st.text(max_size=3)
        | st.sampled_from(completion_ids)
    )
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(completion_ids) | st.text(max_size=3), inner)
        ),
        max_leaves=4,
    )


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_form_refuses_a_damaged_example_or_its_schema_accepts_it(
    name: str, data: st.DataObject
) -> None:
    form = FORMS[name]
    task, completions = shown(form, data.draw(st.sampled_from(sorted(sizes(form)))))
    payload = data.draw(st.sampled_from(form.examples(task.completion_ids)))
    path = data.draw(st.sampled_from(list(places(payload))))
    value = data.draw(junk(task.completion_ids))
    damage = data.draw(
        st.sampled_from(
            [
                lambda container, key: container.__setitem__(key, value),
                lambda container, key: container.__delitem__(key),
                lambda container, _: (
                    container.append(value)
                    if isinstance(container, list)
                    else container.__setitem__("new", value)
                ),
            ]
        )
    )
    damaged = changed(payload, path, damage)
    annotation = answered(task, damaged)
    try:
        form.check(task, completions, annotation)
    except DataError:
        for convert in (getattr(form, name) for name in CONVERSIONS):
            with pytest.raises(DataError):
                convert(task, completions, annotation)
        return
    jsonschema.Draft202012Validator(form.schema(task.completion_ids)).validate(damaged)
    if form.undecided(damaged):
        assert rows(form, task, completions, annotation) == []


@pytest.mark.parametrize(("form", "size", "number"), CASES)
def test_form_judges_each_item_once_in_words_of_its_order(
    form: Form, size: int, number: int
) -> None:
    task, _ = shown(form, size)
    judged = form.judgements(form.examples(task.completion_ids)[number], task.completion_ids)
    items = [one.item for one in judged]
    assert len(set(items)) == len(items)
    assert {one.label for one in judged} <= {*form.order, "both bad"}
    assert len(set(form.order)) == len(form.order)
    assert bool(judged) == (form.name != "critique")


@pytest.mark.parametrize(("form", "size", "number"), CASES)
def test_form_points_say_what_its_preferences_say(form: Form, size: int, number: int) -> None:
    task, completions = shown(form, size)
    payload = form.examples(task.completion_ids)[number]
    points = form.points(payload, task.completion_ids)
    assert all(0 <= i < j < size for i, j, _ in points)
    assert len({one[:2] for one in points}) == len(points)
    ids = {one.messages: name for name, one in completions.items()}
    stated = {
        (ids[one.chosen], ids[one.rejected])
        for one in form.to_preferences(task, completions, answered(task, payload))
        if one.chosen in ids and one.rejected in ids
    }
    strict = [(i, j) if gained else (j, i) for i, j, gained in points if gained != 0.5]
    assert {(task.completion_ids[i], task.completion_ids[j]) for i, j in strict} == stated
