"""Steps with a mark each, in the shape of PRM800K (Lightman et al. 2023, arXiv 2305.20050).

A row is ``{"labeler", "timestamp", "question": {"problem", "pre_generated_steps"}, "label":
{"steps": [{"completions": [{"text", "rating", "flagged"}], "human_completion",
"chosen_completion"}], "total_time", "finish_reason"}}``; times are milliseconds. The solution is
the chosen completion of every step, or the only one; ``pre_generated_steps`` adds those after the
first error (``finish_reason`` ``found_error``), which nobody marked.

Dropped when read: ``missing_key``, ``unchosen_step``, ``missing_rating``, ``steps_do_not_split``
(a step holds a blank line), ``invalid_text``, and the screening and control questions
(``control_question``). Written are answers of people of the form ``steps`` to a single user turn
(else ``conversation``, ``not_human``); blank lines between steps become one, which is counted
(``blank_lines``).
"""

from collections.abc import Iterator

from heedful.data.formats.base import (
    LOSES_OF_TASKS,
    Answer,
    Candidate,
    Format,
    Judged,
    Row,
    RowDropped,
    Tally,
    answers_of,
    check_text,
    only,
    proven,
    text_or_nothing,
    time_of,
)
from heedful.forms.steps import BAD, split_steps
from heedful.types import JSON, Annotation, Item, Message, Prompt

KEYS = frozenset(
    {
        "labeler", "timestamp", "generation", "is_quality_control_question",
        "is_initial_screening_question", "question", "label",
    }
)  # fmt: skip
_GAP = "\n\n"
_MAX_MS = 1e15


def recognises(row: Row) -> bool:
    """A question and its marked steps."""
    label = row.get("label")
    return isinstance(row.get("question"), dict) and isinstance(label, dict) and "steps" in label


def parse(row: Row) -> Judged:
    """The marks of a row; raises ``RowDropped``."""
    for key in ("is_quality_control_question", "is_initial_screening_question"):
        if row.get(key):
            raise RowDropped("control_question", f"{key} is true")
    question, label = _object(row, "question"), _object(row, "label")
    problem = question.get("problem")
    if not isinstance(problem, str) or not problem.strip():
        raise RowDropped("missing_key", "question has no problem")
    check_text(problem, "problem")
    marked = [_step(number, step) for number, step in enumerate(_list(label, "steps"), start=1)]
    texts, marks = [text for text, _ in marked], [mark for _, mark in marked]
    stopped = label.get("finish_reason") == "found_error" and BAD in marks
    comment = text_or_nothing(row, "comment")
    payload = {"labels": marks} | ({"first_error": True} if stopped else {})
    return Judged(
        form="steps",
        prompt=Prompt.of(problem),
        candidates={"1": Candidate(messages=_solution(texts, question, stopped))},
        answers=(
            Answer(
                payload=payload | ({"comment": comment} if comment else {}),
                annotator=text_or_nothing(row, "labeler"),
                seconds=_seconds(label.get("total_time")),
                time=time_of(row.get("timestamp")),
            ),
        ),
    )


def _step(number: int, step: JSON) -> tuple[str, int]:
    """The text and the mark of one step."""
    if not isinstance(step, dict):
        raise RowDropped("missing_key", f"step {number} is no object")
    completions, chosen = step.get("completions"), step.get("chosen_completion")
    if chosen is None and step.get("human_completion"):
        found = step["human_completion"]
    elif isinstance(completions, list) and len(completions) == 1 and chosen in (None, 0):
        found = completions[0]
    elif isinstance(completions, list) and type(chosen) is int and 0 <= chosen < len(completions):
        found = completions[chosen]
    else:
        raise RowDropped("unchosen_step", f"step {number} has no chosen completion")
    text = found.get("text") if isinstance(found, dict) else None
    if not isinstance(text, str):
        raise RowDropped("missing_key", f"step {number} has no text")
    check_text(text, f"step {number}")
    rating = found.get("rating")
    if type(rating) is not int:
        raise RowDropped("missing_rating", f"step {number} has rating {rating!r:.40}")
    return text, rating


def _solution(texts: list[str], question: dict[str, JSON], stopped: bool) -> tuple[Message, ...]:
    """The whole answer, with the steps after a first error where the question has them."""
    given: JSON = question.get("pre_generated_steps")
    if stopped and isinstance(given, list) and given[: len(texts)] == texts:
        if not all(isinstance(one, str) for one in given):
            raise RowDropped("steps_do_not_split", "pre_generated_steps is no list of texts")
        for one in given:
            check_text(one, "pre_generated_steps")
        texts = given
    solution = (Message(role="assistant", content=_GAP.join(texts)),)
    if list(split_steps(solution)) != texts:
        raise RowDropped("steps_do_not_split", "a step is empty or holds a blank line")
    return solution


def _seconds(value: JSON) -> float | None:
    """Milliseconds as seconds; what is no time that anybody took is none."""
    is_time = type(value) in (int, float) and 0 <= value < _MAX_MS
    return float(value) / 1000 if is_time else None


def _object(row: Row, key: str) -> dict[str, JSON]:
    value = row.get(key)
    if not isinstance(value, dict):
        raise RowDropped("missing_key", f"{key} is no object")
    return value


def _list(row: Row, key: str) -> list[JSON]:
    value = row.get(key)
    if not isinstance(value, list) or not value:
        raise RowDropped("missing_key", f"{key} is no list, or empty")
    return value


def write(item: Item, tally: Tally) -> Iterator[Row]:
    """A row for each person's marks."""
    for answer in answers_of(item, tally):
        assert item.task is not None
        if item.task.form != "steps":
            tally.left_out[f"{item.task.form}_has_no_steps"] += 1
            continue
        (shown,) = item.task.completion_ids
        messages = item.completions[shown].messages
        problem, text = only(item.prompt.messages, "user"), only(messages, "assistant")
        if answer.source != "human":
            tally.left_out["not_human"] += 1
        elif problem is None or text is None or item.prompt.tools:
            tally.left_out["conversation"] += 1
        else:
            steps = list(split_steps(messages))
            joined = _GAP.join(steps)
            row = _row(item, answer, problem, steps)
            for proved in proven(row, _expected(item, answer, joined), parse, tally):
                if joined != text:
                    tally.changed["blank_lines"] += 1
                yield proved


def _row(item: Item, answer: Annotation, problem: str, steps: list[str]) -> Row:
    labels = answer.payload["labels"]
    stopped = answer.payload.get("first_error", False)
    time = item.times.get(answer.id)
    row: dict[str, JSON] = {
        "labeler": answer.annotator,
        "timestamp": time.isoformat() if time else None,
        "generation": None,
        "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {"problem": problem, "pre_generated_steps": steps},
        "label": {
            "steps": [
                {
                    "completions": [{"text": text, "rating": mark, "flagged": False}],
                    "human_completion": None,
                    "chosen_completion": None if mark == BAD else 0,
                }
                for text, mark in zip(steps, labels, strict=False)
            ],
            "total_time": None if answer.seconds is None else answer.seconds * 1000,
            "finish_reason": "found_error" if stopped else "solution",
        },
    }
    if "comment" in answer.payload:
        row["comment"] = answer.payload["comment"]
    return row


def _expected(item: Item, answer: Annotation, joined: str) -> Judged:
    payload = {key: value for key, value in answer.payload.items() if key != "first_error"}
    if answer.payload.get("first_error"):
        payload["first_error"] = True
    return Judged(
        form="steps",
        prompt=item.prompt,
        candidates={"1": Candidate(messages=(Message(role="assistant", content=joined),))},
        answers=(
            Answer(
                payload=payload,
                annotator=answer.annotator,
                seconds=None if answer.seconds is None else answer.seconds * 1000 / 1000,
                time=item.times.get(answer.id),
            ),
        ),
    )


PRM800K = Format(
    name="prm800k",
    title="steps with a mark each, as in PRM800K",
    expects="question with a problem, and label with steps",
    keys=KEYS | {"comment"},
    recognises=recognises,
    parse=parse,
    write=write,
    loses=("conversations", "revisions", "answers not of people", "shown order", *LOSES_OF_TASKS),
)
