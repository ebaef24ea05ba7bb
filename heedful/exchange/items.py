"""A row of a file as an item of a data set: task, completions and answers, checked by the form."""

import math
from collections.abc import Mapping, Set
from dataclasses import replace

from heedful.data.formats import Answer, Candidate, Judged, Record, RowDropped
from heedful.data.formats.base import usable
from heedful.errors import DataError
from heedful.forms import FORMS
from heedful.store import annotations, completions
from heedful.types import (
    JSON,
    Annotation,
    Completion,
    Demonstration,
    Item,
    Preference,
    Prompt,
    Task,
)

_MAX_INT = 2**31 - 1  # of an INTEGER on every database


def to_item(
    record: Record,
    dataset: str,
    annotator: str,
    known_models: Set[str] = frozenset(),
    earlier: Set[str] = frozenset(),
) -> tuple[Item, tuple[tuple[str, str], ...]]:
    """The item that a record becomes, and rule and detail of the answers it leaves out.

    Of a model that the store knows, completions ``earlier`` keep the name ``import:MODEL``. Raises
    ``RowDropped`` when the form refuses every answer, and for candidates that are the same.
    """
    if isinstance(record, Prompt):
        return Item(prompt=record), ()
    # Sorted by content hash: the chosen side comes first half of the time, whatever the file did.
    ordered = isinstance(record, Judged)
    judged = record if isinstance(record, Judged) else _judged(record)
    made = {
        label: _completion(judged.prompt, one, dataset, known_models, earlier)
        for label, one in judged.candidates.items()
    }
    ids = {label: one.id for label, one in made.items()}
    if len(set(ids.values())) < len(ids):
        raise RowDropped("identical_answers", "two of its answers are the same")
    order = tuple(ids.values()) if ordered else tuple(sorted(ids.values()))
    task = Task(
        form=judged.form,
        prompt=judged.prompt,
        completion_ids=order,
        guideline=judged.guideline,
        slots=_whole("slots", judged.slots),
        priority=_finite("priority", judged.priority),
        reason=judged.reason,
    )
    _check_number(judged.form, len(ids))
    shown = {one.id: one for one in made.values()}
    answers, refused = usable(
        judged.answers, lambda one: (_annotation(task, shown, one, ids, annotator), one.time)
    )
    item = Item(
        prompt=judged.prompt,
        task=task,
        completions=shown,
        annotations=tuple(one for one, _ in answers),
        times={one.id: time for one, time in answers if time is not None},
    )
    return item, (*judged.left_out, *refused)


def _judged(record: Preference | Demonstration) -> Judged:
    if isinstance(record, Demonstration):
        return Judged(
            form="demonstration",
            prompt=record.prompt,
            candidates={"1": Candidate(messages=record.response)},
            answers=(Answer(payload={"accepted": "1"}),),
        )
    payload: dict[str, JSON] = {"preferred": "1"}
    if record.margin:
        payload["strength"] = int(record.margin)
    if record.probability < 1:
        payload["probability"] = record.probability
    return Judged(
        form="pairwise",
        prompt=record.prompt,
        candidates={
            "1": Candidate(messages=record.chosen),
            "2": Candidate(messages=record.rejected),
        },
        answers=(Answer(payload=payload),),
    )


def _completion(
    prompt: Prompt, one: Candidate, dataset: str, known_models: Set[str], earlier: Set[str]
) -> Completion:
    """A completion; the author is kept by name where the store does not know the model."""
    _whole("draw", one.draw)
    made, author = imported_completion(prompt, one, dataset), author_of(one)
    is_known = author in known_models and made.id not in earlier
    return replace(made, model=author) if is_known else made


def imported_completion(prompt: Prompt, one: Candidate, dataset: str) -> Completion:
    """A completion as it is stored when its author is not known."""
    return Completion(
        prompt=prompt,
        messages=one.messages,
        model=f"{completions.IMPORTED}{author_of(one) or dataset}",
        draw=one.draw,
        finish_reason=one.finish_reason,
        params=one.params,
    )


def author_of(one: Candidate) -> str:
    """Who wrote a completion, whether or not the store it comes from knew them; may be empty."""
    return one.model.removeprefix(completions.IMPORTED)


def _check_number(form: str, num_shown: int) -> None:
    low, high = FORMS[form].num_completions
    if not low <= num_shown <= high:
        detail = f"{form} takes {low} to {high} answers, not {num_shown}"
        raise RowDropped("invalid_answer", detail)


def _annotation(
    task: Task,
    shown: Mapping[str, Completion],
    answer: Answer,
    ids: Mapping[str, str],
    annotator: str,
) -> Annotation:
    """The annotation of an answer; raises ``RowDropped`` for one that the form refuses."""
    form = FORMS[task.form]
    order = tuple(ids.get(label, label) for label in answer.shown) or tuple(sorted(ids.values()))
    made = Annotation(
        task_id=task.id,
        annotator=answer.annotator or annotator,
        source=answer.source,
        payload=form.renamed(answer.payload, ids),
        shown_order=order,
        revision=_whole("revision", answer.revision),
        seconds=None if answer.seconds is None else _time_taken(answer.seconds),
        kind=answer.kind,
    )
    try:
        form.check(task, shown, made)
        annotations.check_shown(made, task.completion_ids)
    except DataError as error:
        raise RowDropped("invalid_answer", as_written(str(error), ids)) from error
    return made


def as_written(said: str, ids: Mapping[str, str]) -> str:
    """What is said of completions, under the labels that the file has for them."""
    for label, id in ids.items():
        said = said.replace(f"'{id}'", id).replace(id, repr(label))
    return said


def _whole(key: str, value: int) -> int:
    if not 0 <= value <= _MAX_INT:
        raise RowDropped("wrong_number", f"{key} is {value}; write 0 to {_MAX_INT}")
    return value


def _time_taken(seconds: float) -> float:
    if seconds < 0:
        raise RowDropped("wrong_number", f"seconds is {seconds}; write 0 or more, or leave it out")
    return _finite("seconds", seconds)


def _finite(key: str, value: float) -> float:
    if not math.isfinite(value):
        raise RowDropped("wrong_number", f"{key} is {value}; write a finite number")
    return value
