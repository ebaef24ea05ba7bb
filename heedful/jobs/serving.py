"""One reward model for many requests: a thread that scores all that wait in one go."""

import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import jinja2

from heedful.data.collate import Tree
from heedful.errors import DataError, HeedfulError, ResourceError
from heedful.jobs.rewards import AnyReward
from heedful.reward.reading import RenderedText
from heedful.reward.sequence import ClassifierReward
from heedful.reward.texts import TextReward
from heedful.reward.trained import Judgement
from heedful.web.reward_service import MAX_TEXTS, Asked, Conversation, Scored

MAX_WAITING = 8 * MAX_TEXTS  # completions of all requests that were not begun
STOP_SECONDS = 10.0
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that was not begun, and who waits for its answer."""

    asked: tuple[Asked, ...]
    answer: Future[list[Scored]]

    @property
    def size(self) -> int:
        """Completions to score."""
        return sum(
            len(one.completions) if isinstance(one, Conversation) else 1 for one in self.asked
        )


class RewardWorker:
    """Scores requests in the order they came; those that wait are read in one batch.

    Use it as a context; at its end what still waits is refused. The model and its tokeniser belong
    to the one thread.
    """

    def __init__(self, model: AnyReward) -> None:
        self.name = model.name
        self.model = model
        self.rendered = RenderedText(model.tokenizer)
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._num_waiting = 0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work, name="reward", daemon=True)

    def __enter__(self) -> "RewardWorker":
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End after what is being scored; what waits is refused."""
        with self._lock:  # nothing is queued after the end
            self._ends.set()
            self._queue.put(None)
        self._thread.join(STOP_SECONDS)

    def is_alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive() and not self._ends.is_set()

    def submit(self, asked: Sequence[Asked]) -> Future[list[Scored]]:
        """Queue a request; raises ``ResourceError`` when too much waits, or at the end."""
        one = Waiting(tuple(asked), Future())
        with self._lock:
            if not self.is_alive():
                raise ResourceError("the reward model has stopped")
            if self._num_waiting + one.size > MAX_WAITING:
                raise ResourceError(
                    f"{self._num_waiting} completions wait and {MAX_WAITING} may; ask again soon"
                )
            self._num_waiting += one.size
            self._queue.put(one)
        return one.answer

    def _work(self) -> None:
        while (first := self._queue.get()) is not None and not self._ends.is_set():
            batch = [first, *self._others(first.size)]
            with self._lock:
                self._num_waiting -= sum(one.size for one in batch)
            self._answer([one for one in batch if one.answer.set_running_or_notify_cancel()])
        for one in (*([first] if first else ()), *self._others(0, most=MAX_WAITING)):
            if one.answer.set_running_or_notify_cancel():
                one.answer.set_exception(ResourceError("the reward model has stopped"))

    def _others(self, size: int, *, most: int = MAX_TEXTS) -> list[Waiting]:
        """What waits besides, as long as the batch stays below ``most`` completions."""
        found: list[Waiting] = []
        while size < most:
            try:
                one = self._queue.get_nowait()
            except queue.Empty:
                break
            if one is None:
                self._queue.put(None)  # after this batch
                break
            found.append(one)
            size += one.size
        return found

    def _answer(self, batch: Sequence[Waiting]) -> None:
        """Score a batch; what is wrong with one request is told to that request alone."""
        sound: list[tuple[Waiting, list[Tree]]] = []
        for one in batch:
            try:
                sound.append((one, [self._tree(question) for question in one.asked]))
            except HeedfulError as error:
                one.answer.set_exception(error)
        trees = [tree for _, found in sound for tree in found]
        try:
            judged = iter(self.model.judge(trees))
        except Exception as error:  # the edge of the thread; whoever asked is told
            if len(sound) > 1:
                for one, _ in sound:
                    self._answer([one])
                return
            LOG.exception("a batch of %d completions failed", len(trees))
            for one, _ in sound:
                one.answer.set_exception(error)
            return
        for one, found in sound:
            one.answer.set_result([_scored(next(judged), tree) for tree in found])

    def _tree(self, question: Asked) -> Tree:
        try:
            if isinstance(question, Conversation):
                tree = self.model.tree(question.place, question.prompt, question.completions)
            elif isinstance(self.model, TextReward):
                raise DataError(
                    f"{question.place} is text that a chat template has rendered, and "
                    f"{self.model.reader} reads plain texts; send messages to POST /v1/rewards"
                )
            elif isinstance(self.model, ClassifierReward):
                tree = self.rendered.as_it_stands(question.place, question.text)
            else:
                tree = self.rendered.tree(question.place, question.text, question.prompt)
        except jinja2.TemplateError as error:
            raise DataError(f"{question.place}: the chat template says {error}") from error
        longest = len(tree.prompt) + max(map(len, tree.responses))
        if longest > self.model.max_tokens:
            raise DataError(
                f"{question.place} has {longest} tokens and {self.model.reader} reads "
                f"{self.model.max_tokens}; send a shorter one"
            )
        return tree


def _scored(judged: Sequence[Judgement], tree: Tree) -> Scored:
    return Scored(
        rewards=tuple(one.reward for one in judged),
        num_tokens=tree.num_tokens,
        vetoed_by=tuple(one.vetoed_by for one in judged),
    )
