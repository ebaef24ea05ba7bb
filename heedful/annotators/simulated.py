"""Annotators that are programs: they follow a gold preference and err at a stated rate.

They are named as such in every record: ``source="simulated"`` and a name that starts with
``simulated:``. Each decision follows from the seed and the task alone, so order and resumption
change nothing.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heedful.annotators.golds import Gold
from heedful.errors import ConfigError, DataError
from heedful.types import Annotation, Completion, Task


def uniform(*key: str | int) -> float:
    """A number in [0, 1) that follows from ``key``."""
    text = "\x1f".join(map(str, key))
    # a prompt may hold half a surrogate pair, which strict UTF-8 refuses
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedAnnotator:
    """Prefers what ``gold`` scores higher, and flips a strict preference at rate ``noise``."""

    gold: Gold
    noise: float = 0.10
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a noise that is no probability (NaN would silently flip nothing)."""
        if not 0.0 <= self.noise <= 1.0:
            raise ConfigError(f"noise is {self.noise}; it must be from 0 to 1")

    @property
    def name(self) -> str:
        """Name in every record."""
        return f"simulated:{self.gold.name}"

    def is_flipped(self, task_id: str) -> bool:
        """Whether a strict label of this task is reversed; for reports, never in records."""
        return uniform("flip", self.seed, task_id) < self.noise

    def annotate(self, task: Task, completions: Mapping[str, Completion]) -> Annotation:
        """Answer a pairwise task; equal scores are a tie, on which noise does not act."""
        if task.form != "pairwise":
            raise DataError(
                f"task {task.id} has the form {task.form!r}; {self.name} answers only 'pairwise'"
            )
        first, second = task.completion_ids
        prompt = task.prompt.messages[-1].content
        scores = [self.gold.score(prompt, completions[i].text) for i in (first, second)]
        preferred: str | None = None
        if scores[0] != scores[1]:
            better = first if scores[0] > scores[1] else second
            worse = second if better == first else first
            preferred = worse if self.is_flipped(task.id) else better
        swapped = uniform("order", self.seed, task.id) < 0.5
        return Annotation(
            task_id=task.id,
            annotator=self.name,
            source="simulated",
            payload={"preferred": preferred},
            shown_order=(second, first) if swapped else (first, second),
        )


def label_ceiling(noise: float) -> float:
    """Expected accuracy of a perfect reward model against labels flipped at rate ``noise``."""
    return 1.0 - noise


def compare_blind(
    gold: Gold, prompts: Sequence[str], texts: Sequence[str], opponents: Sequence[str], seed: int
) -> list[float]:
    """1 where ``texts`` wins, 0 where ``opponents`` does, one half for a tie.

    The judge sees a left and a right text in an order drawn per prompt and is not told which is
    whose; the order is undone afterwards.
    """
    outcomes = []
    for number, (prompt, text, opponent) in enumerate(zip(prompts, texts, opponents, strict=True)):
        swapped = uniform("blind", seed, number, prompt) < 0.5
        left, right = (opponent, text) if swapped else (text, opponent)
        verdict = judge(gold, prompt, left, right)
        outcomes.append(1.0 - verdict if swapped else verdict)
    return outcomes


def judge(gold: Gold, prompt: str, left: str, right: str) -> float:
    """1 for left, 0 for right, one half for a tie."""
    left_score, right_score = gold.score(prompt, left), gold.score(prompt, right)
    return 0.5 if left_score == right_score else float(left_score > right_score)
