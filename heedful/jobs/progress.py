"""Progress on stderr: a bar with time left on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[..., None]
LINE_SECONDS = 15.0


@contextmanager
def progress(description: str, total: int, *, done: int = 0) -> Iterator[Advance]:
    """``advance(n, key=value, ...)`` moves the bar and shows the latest values beside it."""
    if sys.stderr.isatty():
        with _bar(description, total, done) as advance:
            yield advance
    else:
        yield _Lines(description, total, done).advance


def steps(advance: Advance) -> Callable[[int], None]:
    """For who counts how much is done so far: moves a bar that takes steps."""
    done = 0

    def move(so_far: int) -> None:
        nonlocal done
        advance(so_far - done)
        done = so_far

    return move


@contextmanager
def _bar(description: str, total: int, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        Remaining(compact=True),
        TextColumn("{task.fields[shown]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, completed=done, shown="")

        def advance(count: int = 1, **values: float | str) -> None:
            bar.update(task, advance=count, shown=_shown(values))

        yield advance


class _Lines:
    def __init__(self, description: str, total: int, done: int) -> None:
        self.description = description
        self.total = total
        self.first = self.done = done
        self.started = self.spoke = time.monotonic()

    def advance(self, count: int = 1, **values: float | str) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.spoke < LINE_SECONDS and self.done < self.total:
            return
        self.spoke = now
        rate = (now - self.started) / max(self.done - self.first, 1)
        left = rate * (self.total - self.done)
        pace = f"{self.done}/{self.total}  {left:.0f} s left" if self.total else f"{self.done}"
        text = f"{self.description}  {pace}  {_shown(values)}"
        print(text.rstrip(), file=sys.stderr, flush=True)


def _shown(values: dict[str, float | str]) -> str:
    return "  ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in values.items()
    )
