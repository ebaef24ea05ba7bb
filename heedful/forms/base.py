"""What a feedback form is: a question, the answers it allows, and what they mean for training.

A form is one file: a class that satisfies ``Form`` and one line in ``FORMS``. The contract suite
in ``tests/contracts/test_forms.py`` then tests it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from heedful.errors import DataError
from heedful.registry import nearest
from heedful.types import JSON, Annotation, Completion, Demonstration, Preference, Task


class Form(Protocol):
    """A kind of task. Used by pages (question, schema), the store (validate) and snapshots."""

    @property
    def name(self) -> str:
        """The key in ``FORMS`` and in ``Task.form``."""
        ...

    @property
    def question(self) -> str:
        """What the annotator is asked."""
        ...

    @property
    def num_completions(self) -> tuple[int, int]:
        """The least and the largest number of completions that a task shows."""
        ...

    def schema(self, completion_ids: Sequence[str]) -> JSON:
        """JSON Schema of the payloads allowed for a task with these completions."""
        ...

    def examples(self, completion_ids: Sequence[str]) -> list[dict[str, JSON]]:
        """One valid payload of every kind; for documentation and the contract suite."""
        ...

    def validate(self, payload: Mapping[str, JSON], completion_ids: Sequence[str]) -> None:
        """Raise ``DataError`` that says what was seen and what is allowed."""
        ...

    def undecided(self, payload: Mapping[str, JSON]) -> str | None:
        """Why a valid payload teaches nothing (the rule it is dropped by), or None."""
        ...

    def to_preferences(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Preference]:
        """The comparisons that the answer states; empty when it states none."""
        ...

    def to_demonstrations(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Demonstration]:
        """The answers that the annotator found worth imitating; empty when there are none."""
        ...


def check_keys(form: str, payload: Mapping[str, JSON], allowed: Iterable[str]) -> None:
    """Refuse a payload that is no object or has a key outside ``allowed``."""
    if not isinstance(payload, Mapping):
        raise DataError(f"{form} answer is {payload!r:.80}; send a JSON object")
    for key in payload:
        if key not in allowed:
            raise DataError(f"{form} answer has an unknown key {key!r:.80}; {_hint(key, allowed)}")


def check_choice(form: str, key: str, seen: JSON, allowed: Sequence[str | None]) -> None:
    """Refuse a value of ``key`` outside ``allowed`` (completion ids, words or None)."""
    if (seen is None or isinstance(seen, str)) and seen in allowed:
        return
    names = ", ".join("null" if name is None else name for name in allowed)
    raise DataError(f"{form} answer has {key} {seen!r:.80}; choose from: {names}")


def _hint(key: object, allowed: Iterable[str]) -> str:
    return nearest(key, allowed) if isinstance(key, str) else "keys are strings"


def is_text(seen: JSON) -> bool:
    """Whether ``seen`` is a text with something in it that UTF-8 can hold."""
    if not isinstance(seen, str) or not seen.strip():
        return False
    return not any("\ud800" <= character <= "\udfff" for character in seen)
