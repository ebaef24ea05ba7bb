"""An answer to a task of any form over completions with given texts."""

from collections.abc import Callable

import pytest

from heedful.types import JSON, Annotation, Completion, Message, Prompt, Task

Asked = tuple[Task, dict[str, Completion], Annotation]
Ask = Callable[[str, JSON, dict[str, str]], Asked]


@pytest.fixture(scope="session")
def ask() -> Ask:
    """Makes a task, its completions under the keys of ``texts``, and an answer to it.

    Short keys in place of content hashes keep the payloads of tests readable.
    """

    def asked(form: str, payload: JSON, texts: dict[str, str]) -> Asked:
        prompt = Prompt.of("q")
        completions = {
            key: Completion(
                prompt=prompt, messages=(Message(role="assistant", content=text),), model="import:t"
            )
            for key, text in texts.items()
        }
        task = Task(form=form, prompt=prompt, completion_ids=tuple(completions))
        annotation = Annotation(
            task_id=task.id,
            annotator="ann",
            source="human",
            payload=payload,
            shown_order=task.completion_ids,
        )
        return task, completions, annotation

    return asked
