"""A project's newest answers as arrays of codes."""

from array import array
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from heedful.forms import FORMS, Form
from heedful.stats.comparisons import Comparisons
from heedful.stats.votes import Codes, Votes
from heedful.store import Transaction, columns, projects

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(slots=True)
class Names:
    """Names numbered in the order of their arrival."""

    codes: dict[str, int] = field(default_factory=dict)

    def code(self, name: str) -> int:
        """The number of a name."""
        return self.codes.setdefault(name, len(self.codes))

    def __len__(self) -> int:
        """How many there are."""
        return len(self.codes)

    def sorted(self) -> tuple[tuple[str, ...], Codes]:
        """The names sorted, and the new number of each old one."""
        names = tuple(sorted(self.codes))
        place = np.empty(len(names), dtype=np.int64)
        place[[self.codes[name] for name in names]] = np.arange(len(names))
        return names, place


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the tasks of a project show. Task t shows ``completions[c] for c in by_task[t]``."""

    tasks: dict[str, int]
    by_task: list[list[int]]
    completions: tuple[str, ...]
    prompts: tuple[str, ...]
    prompt: Codes
    authors: tuple[str, ...]
    author: Codes


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What answers say of two completions; ``points`` is what the first gains, 0.5 for a tie.

    Codes of answers, tasks and completions. ``is_first_left``: the first one stood further left.
    """

    answer: Codes
    task: Codes
    first: Codes
    second: Codes
    points: Array
    is_first_left: Flags


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The newest answers of a project. Made by ``read``, used by every summary.

    Answer n: ``annotators[annotator[n]]`` on task ``task[n]`` in ``seconds[n]`` (NaN: unknown), on
    ``day[n]`` (proleptic ordinal). ``votes`` holds what answers judge: its n-th row is of answer
    ``vote_answer[n]``, its i-th item is part of task ``item_task[i]``; None when the form has
    nothing to agree on.
    """

    project: str
    form: Form
    shown: Shown
    annotators: tuple[str, ...]
    task: Codes
    annotator: Codes
    seconds: Array
    day: Codes
    votes: Votes | None
    vote_answer: Codes
    item_task: Codes
    pairs: Pairs

    @cached_property
    def compared(self) -> Codes:
        """Rows of ``pairs`` whose completions have different authors."""
        author = self.shown.author
        return np.flatnonzero(author[self.pairs.first] != author[self.pairs.second])

    @cached_property
    def comparisons(self) -> Comparisons | None:
        """The authors of these rows as they stood, left and right; None when there are none."""
        rows = self.compared
        if not len(rows):
            return None
        first, second = (
            self.shown.author[code[rows]] for code in (self.pairs.first, self.pairs.second)
        )
        is_left, points = self.pairs.is_first_left[rows], self.pairs.points[rows]
        return Comparisons(
            left=np.where(is_left, first, second),
            right=np.where(is_left, second, first),
            points=np.where(is_left, points, 1 - points),
            annotator=self.annotator[self.pairs.answer[rows]],
            candidates=self.shown.authors,
            annotators=self.annotators,
        )


def read(tx: Transaction, project: str) -> Answers:
    """The newest answer of each annotator to each task of a project."""
    form = FORMS[projects.get(tx, project).form]
    shown = read_shown(tx, project)
    growing = _Growing(form)
    for row in columns.answers(tx, project):
        task = shown.tasks[row.task]
        growing.add(task, row, [shown.completions[code] for code in shown.by_task[task]])
    return growing.done(project, shown)


def read_shown(tx: Transaction, project: str) -> Shown:
    """The tasks of a project and their completions."""
    tasks, completions, prompts, authors = Names(), Names(), Names(), Names()
    by_task: list[list[int]] = []
    prompt, author = array("q"), array("q")
    for row in columns.shown(tx, project):
        task, completion = tasks.code(row.task), completions.code(row.completion)
        if task == len(by_task):
            by_task.append([])
        places = by_task[task]
        places.extend([-1] * (row.position + 1 - len(places)))
        places[row.position] = completion
        if completion == len(prompt):
            prompt.append(prompts.code(row.prompt))
            author.append(authors.code(row.author))
    names, place = authors.sorted()
    return Shown(
        tasks=tasks.codes,
        by_task=by_task,
        completions=tuple(completions.codes),
        prompts=tuple(prompts.codes),
        prompt=np.array(prompt, dtype=np.int64),
        authors=names,
        author=place[np.array(author, dtype=np.int64)],
    )


class _Growing:
    """Columns while rows arrive."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.people, self.items, self.labels = Names(), Names(), Names()
        for label in form.order:
            self.labels.code(label)
        self.task, self.annotator, self.revision = array("q"), array("q"), array("q")
        self.day, self.seconds = array("q"), array("d")
        self.vote, self.item_task = array("q"), array("q")  # vote: answer, item, label
        # answer, place of the first and of the second, whether the first stood left; points apart
        self.pair, self.points = array("q"), array("d")

    def add(self, task: int, row: columns.AnswerRow, ids: list[str]) -> None:
        """One more answer."""
        number = len(self.task)
        self.task.append(task)
        self.annotator.append(self.people.code(row.annotator))
        self.revision.append(row.revision)
        self.seconds.append(float("nan") if row.seconds is None else row.seconds)
        self.day.append(row.created_at.toordinal())
        for name, label in self.form.judgements(row.payload, ids):
            item = self.items.code(f"{row.task} {name}")
            if item == len(self.item_task):
                self.item_task.append(task)
            self.vote.extend((number, item, self.labels.code(label)))
        for first, second, gained in self.form.points(row.payload, ids):
            is_left = row.shown_order.index(ids[first]) < row.shown_order.index(ids[second])
            self.pair.extend((number, first, second, is_left))
            self.points.append(gained)

    def done(self, project: str, shown: Shown) -> Answers:
        """The newest revisions as arrays."""
        people, place = self.people.sorted()
        task, annotator, revision, day = (
            np.array(column, dtype=np.int64)
            for column in (self.task, self.annotator, self.revision, self.day)
        )
        annotator = place[annotator]
        kept = _newest(task, annotator, revision)
        renumbered = np.full(len(task), -1)
        renumbered[kept] = np.arange(len(kept))
        vote = np.array(self.vote, dtype=np.int64).reshape(-1, 3)
        vote = vote[renumbered[vote[:, 0]] >= 0]
        vote_answer = renumbered[vote[:, 0]]
        # an item of older revisions alone has no votes left
        items, vote[:, 1] = np.unique(vote[:, 1], return_inverse=True)
        votes = self._votes(vote, annotator[kept][vote_answer], people, items)
        return Answers(
            project=project,
            form=self.form,
            shown=shown,
            annotators=people,
            task=task[kept],
            annotator=annotator[kept],
            seconds=np.array(self.seconds)[kept],
            day=day[kept],
            votes=votes,
            vote_answer=vote_answer,
            item_task=np.array(self.item_task, dtype=np.int64)[items],
            pairs=self._pairs(renumbered, task[kept], shown),
        )

    def _votes(
        self, vote: Codes, annotator: Codes, people: tuple[str, ...], items: Codes
    ) -> Votes | None:
        if not len(vote):
            return None
        occurring, label = np.unique(vote[:, 2], return_inverse=True)
        labels, names = tuple(self.labels.codes), tuple(self.items.codes)
        return Votes(
            item=vote[:, 1],
            annotator=annotator,
            label=label,
            items=tuple(names[code] for code in items),
            annotators=people,
            categories=tuple(labels[code] for code in occurring),
        )

    def _pairs(self, renumbered: Codes, task: Codes, shown: Shown) -> Pairs:
        pair = np.array(self.pair, dtype=np.int64).reshape(-1, 4)
        is_kept = renumbered[pair[:, 0]] >= 0
        pair, points = pair[is_kept], np.array(self.points)[is_kept]
        answer = renumbered[pair[:, 0]]
        tasks = task[answer]
        first, second = (
            np.fromiter(
                (shown.by_task[t][p] for t, p in zip(tasks, pair[:, column], strict=True)),
                dtype=np.int64,
                count=len(tasks),
            )
            for column in (1, 2)
        )
        return Pairs(
            answer=answer,
            task=tasks,
            first=first,
            second=second,
            points=points,
            is_first_left=pair[:, 3].astype(bool),
        )


def _newest(task: Codes, annotator: Codes, revision: Codes) -> Codes:
    """Rows of the highest revision of each annotator's answer to each task, in a fixed order."""
    order = np.lexsort((revision, annotator, task))
    task, annotator = task[order], annotator[order]
    is_last = np.ones(len(order), dtype=bool)
    is_last[:-1] = (task[1:] != task[:-1]) | (annotator[1:] != annotator[:-1])
    return np.asarray(order[is_last])
