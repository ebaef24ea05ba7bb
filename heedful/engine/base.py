"""The sampling interface that rollouts, evaluation and serving share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from heedful.types import Sample, SamplingParams

OnFinish = Callable[[int, Sample], None]
OnText = Callable[[int, str], bool | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One answer wanted from ``role``. Made by jobs and sources, used by engines.

    ``Request(prompt=(1, 2, 3), params=SamplingParams(max_new_tokens=8, seed=7), role="policy")``
    """

    prompt: tuple[int, ...]
    params: SamplingParams
    role: str | None = None


class Engine(Protocol):
    """Anything that turns requests into samples, in the order of the requests."""

    def sample(
        self,
        requests: Sequence[Request],
        *,
        on_finish: OnFinish | None = None,
        on_text: OnText | None = None,
    ) -> list[Sample]:
        """Answer every request.

        ``on_finish(index, sample)`` is called as each one ends. ``on_text(index, text)`` gets the
        answers piece by piece; when it returns False, that answer ends as ``cancelled``.
        """
        ...
