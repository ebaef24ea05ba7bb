"""Small records for the tests of the store."""

from heedful.types import Annotation, Completion, Message, ModelVersion, Prompt, Task

BASE = ModelVersion(role="base", name="tiny", weights_hash="w0", path="/models/tiny")


def answer(prompt: Prompt, text: str, *, model: str = "import:test", draw: int = 0) -> Completion:
    message = Message(role="assistant", content=text)
    return Completion(prompt=prompt, messages=(message,), model=model, draw=draw)


def pair(number: int, *, model: str = "import:test") -> tuple[Task, list[Completion]]:
    prompt = Prompt.of(f"question {number}")
    sides = [answer(prompt, text, model=model) for text in (f"yes {number}", f"no {number}")]
    task = Task(form="pairwise", prompt=prompt, completion_ids=tuple(one.id for one in sides))
    return task, sides


def prefer(task: Task, side: int = 0, *, annotator: str = "ann", revision: int = 0) -> Annotation:
    return Annotation(
        task_id=task.id,
        annotator=annotator,
        source="simulated" if annotator.startswith("simulated:") else "human",
        payload={"preferred": task.completion_ids[side]},
        shown_order=task.completion_ids,
        revision=revision,
    )
