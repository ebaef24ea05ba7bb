"""The demo's prompts: written for this project, split by prompt into train and held-out."""

import json
from dataclasses import dataclass
from importlib.resources import files

from heedful.errors import DataError
from heedful.types import Prompt

SPLITS = ("train", "held-out")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPrompt:
    """One shipped prompt. Made by ``demo_prompts``, used by the demo."""

    text: str
    topic: str
    split: str

    @property
    def prompt(self) -> Prompt:
        """The prompt as a conversation of one user turn."""
        return Prompt.of(self.text)


def demo_prompts(split: str | None = None) -> list[DemoPrompt]:
    """All shipped prompts, or those of one split; any prefix covers all topics.

    Raises ``DataError`` for an unknown split or a prompt that occurs twice.
    """
    if split is not None and split not in SPLITS:
        raise DataError(f"split is {split!r}; choose from: {', '.join(SPLITS)}")
    text = files(__name__).joinpath("prompts.jsonl").read_text(encoding="utf-8")
    rows = [DemoPrompt(**json.loads(line)) for line in text.splitlines()]
    if len({row.text for row in rows}) != len(rows):
        raise DataError("prompts.jsonl holds a prompt twice; every prompt belongs to one split")
    return [row for row in rows if split in (None, row.split)]
