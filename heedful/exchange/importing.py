"""Files into the store: prompts, completions, tasks and annotations.

One import is one transaction, written as rows are read: a broken line leaves the store as it was.
Importing again adds nothing: ids are content hashes, and an author whom the store came to know in
between is the same one. Into a project come tasks of its form only; people are asked those that
nobody has answered.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from heedful.data.formats import (
    FORMATS,
    Answer,
    Candidate,
    Drop,
    Judged,
    Parsed,
    Record,
    RowDropped,
    first_keys,
    read_files,
)
from heedful.data.formats.base import usable
from heedful.errors import ConfigError, DataError
from heedful.exchange import queueing
from heedful.exchange.queueing import Read
from heedful.forms import FORMS
from heedful.registry import near
from heedful.store import (
    Store,
    Transaction,
    annotations,
    completions,
    datasets,
    models,
    projects,
    tasks,
)
from heedful.types import (
    JSON,
    Annotation,
    Completion,
    Demonstration,
    Item,
    Preference,
    Project,
    Prompt,
    Task,
)

# Names that say nothing without the directory they lie in.
_GENERIC = {"data", "dev", "eval", "test", "train", "valid", "validation"}
_BATCH = 1000  # rows written at once
MAX_DROPS = 10_000  # that are kept one by one; all are counted
MAX_IGNORED = 100  # keys without meaning that are counted one by one
MAX_KEY = 200  # characters of such a key that are kept
_MAX_INT = 2**31 - 1  # of an INTEGER on every database


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What an import did. Made by ``import_preferences``, printed by the command line.

    Rows bring an item that is new to the dataset, are about one that it has, or are dropped;
    ``num_answers`` counts the annotations that are new to the store, ``num_known`` the known
    answers and ``num_queued`` the tasks that are new to a project's queue. ``drops`` lists the
    first ``MAX_DROPS`` rows, and answers in rows that were used, and ``drops_by_rule`` counts all.
    ``ignored_keys`` counts the rows that had a key the format gives no meaning to, for the first
    ``MAX_IGNORED`` keys; ``num_more_ignored`` counts how often there were others. ``near_keys`` has
    the known ones that are like some of them.
    """

    dataset: str
    num_rows: int
    num_new: int
    num_duplicates: int
    num_answers: int
    num_known: int
    num_queued: int
    drops: tuple[Drop, ...]
    drops_by_rule: Mapping[str, int]
    ignored_keys: Mapping[str, int]
    near_keys: Mapping[str, str]
    num_more_ignored: int

    @property
    def num_dropped(self) -> int:
        """Number of all drops."""
        return sum(self.drops_by_rule.values())

    @property
    def num_brought(self) -> int:
        """Number of items and answers that are new."""
        return self.num_new + self.num_answers + self.num_known

    def summary(self) -> dict[str, JSON]:
        """The counts as JSON, for the API and ``--json``."""
        return {
            "dataset": self.dataset,
            "rows": self.num_rows,
            "new": self.num_new,
            "known": self.num_duplicates,
            "answers": self.num_answers,
            "known_answers": self.num_known,
            "queued": self.num_queued,
            "dropped": dict(self.drops_by_rule),
            "ignored": dict(self.ignored_keys),
            "more_ignored": self.num_more_ignored,
        }


@dataclass(slots=True)
class _Counts:
    """What has been done so far."""

    num_rows: int = 0
    num_new: int = 0
    num_duplicates: int = 0
    num_answers: int = 0
    num_known: int = 0
    num_queued: int = 0
    drops: list[Drop] = field(default_factory=list)
    rules: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    num_more_ignored: int = 0

    def ignore(self, keys: Iterable[str]) -> None:
        """Count keys without meaning; a file may have as many as rows, and long ones."""
        for key in dict.fromkeys(f"{one:.{MAX_KEY}}" for one in keys):
            if key in self.ignored or len(self.ignored) < MAX_IGNORED:
                self.ignored[key] += 1
            else:
                self.num_more_ignored += 1

    def drop(self, one: Drop) -> None:
        self.rules[one.rule] += 1
        if len(self.drops) < MAX_DROPS:
            self.drops.append(one)


@dataclass(frozen=True, slots=True)
class _Target:
    """What rows are read for: the dataset and its project, if it has one, and who is known."""

    dataset: str
    annotator: str
    project: Project | None
    models: Set[str]


def import_preferences(
    store: Store,
    format: str,
    paths: Sequence[Path | str],
    *,
    dataset: str | None = None,
    annotator: str | None = None,
    who: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> ImportResult:
    """Read files in a format (``FORMATS``) into a dataset; ``progress`` gets the rows read so far.

    The dataset is named after the file unless a name is given; who is not named by the file is the
    annotator ``import:DATASET``. In a project's dataset, tasks without an answer are queued and
    known answers kept, in the name of ``who``. Raises ``DataError`` or ``MissingError`` that names
    file and line, also when no row can be used for a new dataset; then nothing was imported.
    """
    keys = FORMATS[format].keys
    name = dataset if dataset is not None else default_dataset(paths)
    if not name.strip():
        raise DataError("a dataset's name is empty; name it, e.g. with --dataset")
    imported = f"import:{name}"
    counts = _Counts()
    rows = read_files(format, paths)
    with store.write() as tx:
        is_new = not datasets.exists(tx, name)
        into = _Target(
            dataset=name,
            annotator=annotator or imported,
            project=projects.find(tx, name),
            models={one.id for one in models.list_all(tx)},
        )
        while batch := list(islice(rows, _BATCH)):
            reads = list(_to_items(tx, batch, into, counts))
            kept = _write(tx, into, reads, counts)
            asked = queueing.ask(tx, name, into.project, kept, who=who or imported)
            counts.num_queued += asked.num_queued
            counts.num_known += asked.num_known
            for drop in asked.drops:
                counts.drop(drop)
            counts.num_rows += len(batch)
            if progress:
                progress(counts.num_rows)
        if is_new and not counts.num_new:
            raise DataError(_nothing_used(format, paths, counts))
    return ImportResult(
        dataset=name,
        num_rows=counts.num_rows,
        num_new=counts.num_new,
        num_duplicates=counts.num_duplicates,
        num_answers=counts.num_answers,
        num_known=counts.num_known,
        num_queued=counts.num_queued,
        drops=tuple(counts.drops),
        drops_by_rule=dict(sorted(counts.rules.items())),
        ignored_keys=dict(sorted(counts.ignored.items())),
        near_keys={one: like for one in counts.ignored if (like := near(one, keys))},
        num_more_ignored=counts.num_more_ignored,
    )


def _nothing_used(format: str, paths: Sequence[Path | str], counts: _Counts) -> str:
    """Why an import brings no row: the rules, the first row and what its file has."""
    named = ", ".join(map(str, paths))
    expected = f"expected {FORMATS[format].expects}"
    if not counts.num_rows:
        return f"{named} has no rows; {expected}"
    rules = ", ".join(f"{num} {rule}" for rule, num in sorted(counts.rules.items()))
    first = counts.drops[0]
    seen = ", ".join(first_keys(FORMATS[format], Path(first.file)))
    return (
        f"no row of {named} can be used ({rules}; line {first.line}: {first.detail}); "
        f"it has {seen:.200}; {expected}"
    )


def default_dataset(paths: Sequence[Path | str]) -> str:
    """A name from the file's: ``preferences`` for ``preferences.jsonl.gz``.

    A bare ``train.jsonl`` gets its directory in front, as in ``hh-harmless-train``. Raises
    ``ConfigError`` when several files do not lead to one name.
    """
    if not paths:
        raise ConfigError("no file was given; name at least one")
    names = sorted({_dataset_of(Path(path)) for path in paths})
    if len(names) == 1:
        return names[0]
    raise ConfigError(
        f"{len(paths)} files could be called {', '.join(names)}; choose one name with --dataset"
    )


def _dataset_of(path: Path) -> str:
    stem = path.name.split(".")[0] or path.name
    folder = path.resolve().parent.name
    name = f"{folder}-{stem}" if stem.lower() in _GENERIC and folder else stem
    return re.sub(r"[^\w.-]+", "-", name).strip("-") or "imported"


def _to_items(
    tx: Transaction, batch: Sequence[Parsed | Drop], into: _Target, counts: _Counts
) -> Iterator[Read]:
    earlier = _earlier(tx, batch, into.models)
    for one in batch:
        if isinstance(one, Drop):
            counts.drop(one)
            continue
        counts.ignore(one.ignored)
        try:
            item, left_out = to_item(one.record, into.dataset, into.annotator, into.models, earlier)
            known = queueing.known_answer(one.record, item)
            _check_form(item, into.project)
        except RowDropped as drop:
            counts.drop(_drop(one, drop.rule, drop.detail))
            continue
        for rule, detail in left_out:
            counts.drop(_drop(one, rule, detail))
        yield Read(one, item, known)


def _check_form(item: Item, project: Project | None) -> None:
    """Drop a task that asks something else than the project into which it would go."""
    if project and item.task and item.task.form != project.form:
        raise RowDropped(
            "other_form",
            f"project {project.dataset!r} asks {project.form!r}, the row {item.task.form!r}; "
            "import it into another data set",
        )


def _earlier(tx: Transaction, batch: Sequence[Parsed | Drop], known_models: Set[str]) -> Set[str]:
    """Completions that were imported under ``import:MODEL`` before the store knew the model."""
    judged = [one.record for one in batch if isinstance(one, Parsed)]
    asked = [
        _imported(record.prompt, candidate, "").id
        for record in judged
        if isinstance(record, Judged)
        for candidate in record.candidates.values()
        if _author(candidate) in known_models
    ]
    return completions.known(tx, asked)


def _drop(parsed: Parsed, rule: str, detail: str) -> Drop:
    return Drop(rule=rule, file=parsed.file, line=parsed.line, detail=detail)


def to_item(
    record: Record,
    dataset: str,
    annotator: str,
    known_models: Set[str] = frozenset(),
    earlier: Set[str] = frozenset(),
) -> tuple[Item, tuple[tuple[str, str], ...]]:
    """The item that a record becomes, and rule and detail of the answers it leaves out.

    Of a model that the store knows, completions ``earlier`` keep the name ``import:MODEL``. Raises
    ``RowDropped`` when the form refuses every answer, and for candidates that are the same.
    """
    if isinstance(record, Prompt):
        return Item(prompt=record), ()
    # Sorted by content hash: the chosen side comes first half of the time, whatever the file did.
    ordered = isinstance(record, Judged)
    judged = record if isinstance(record, Judged) else _judged(record)
    made = {
        label: _completion(judged.prompt, one, dataset, known_models, earlier)
        for label, one in judged.candidates.items()
    }
    ids = {label: one.id for label, one in made.items()}
    if len(set(ids.values())) < len(ids):
        raise RowDropped("identical_answers", "two of its answers are the same")
    order = tuple(ids.values()) if ordered else tuple(sorted(ids.values()))
    task = Task(
        form=judged.form,
        prompt=judged.prompt,
        completion_ids=order,
        guideline=judged.guideline,
        slots=_whole("slots", judged.slots),
        priority=_finite("priority", judged.priority),
        reason=judged.reason,
    )
    _check_number(judged.form, len(ids))
    shown = {one.id: one for one in made.values()}
    answers, refused = usable(
        judged.answers, lambda one: (_annotation(task, shown, one, ids, annotator), one.time)
    )
    item = Item(
        prompt=judged.prompt,
        task=task,
        completions=shown,
        annotations=tuple(one for one, _ in answers),
        times={one.id: time for one, time in answers if time is not None},
    )
    return item, (*judged.left_out, *refused)


def _judged(record: Preference | Demonstration) -> Judged:
    if isinstance(record, Demonstration):
        return Judged(
            form="demonstration",
            prompt=record.prompt,
            candidates={"1": Candidate(messages=record.response)},
            answers=(Answer(payload={"accepted": "1"}),),
        )
    payload: dict[str, JSON] = {"preferred": "1"}
    if record.margin:
        payload["strength"] = int(record.margin)
    if record.probability < 1:
        payload["probability"] = record.probability
    return Judged(
        form="pairwise",
        prompt=record.prompt,
        candidates={
            "1": Candidate(messages=record.chosen),
            "2": Candidate(messages=record.rejected),
        },
        answers=(Answer(payload=payload),),
    )


def _completion(
    prompt: Prompt, one: Candidate, dataset: str, known_models: Set[str], earlier: Set[str]
) -> Completion:
    """A completion; the author is kept by name where the store does not know the model."""
    _whole("draw", one.draw)
    made, author = _imported(prompt, one, dataset), _author(one)
    is_known = author in known_models and made.id not in earlier
    return replace(made, model=author) if is_known else made


def _imported(prompt: Prompt, one: Candidate, dataset: str) -> Completion:
    """A completion as it is stored when its author is not known."""
    return Completion(
        prompt=prompt,
        messages=one.messages,
        model=f"{completions.IMPORTED}{_author(one) or dataset}",
        draw=one.draw,
        finish_reason=one.finish_reason,
        params=one.params,
    )


def _author(one: Candidate) -> str:
    """Who wrote a completion, whether or not the store it comes from knew them; may be empty."""
    return one.model.removeprefix(completions.IMPORTED)


def _check_number(form: str, num_shown: int) -> None:
    low, high = FORMS[form].num_completions
    if not low <= num_shown <= high:
        detail = f"{form} takes {low} to {high} answers, not {num_shown}"
        raise RowDropped("invalid_answer", detail)


def _annotation(
    task: Task,
    shown: Mapping[str, Completion],
    answer: Answer,
    ids: Mapping[str, str],
    annotator: str,
) -> Annotation:
    """The annotation of an answer; raises ``RowDropped`` for one that the form refuses."""
    form = FORMS[task.form]
    order = tuple(ids.get(label, label) for label in answer.shown) or tuple(sorted(ids.values()))
    made = Annotation(
        task_id=task.id,
        annotator=answer.annotator or annotator,
        source=answer.source,
        payload=form.renamed(answer.payload, ids),
        shown_order=order,
        revision=_whole("revision", answer.revision),
        seconds=None if answer.seconds is None else _time_taken(answer.seconds),
        kind=answer.kind,
    )
    try:
        form.check(task, shown, made)
        annotations.check_shown(made, task.completion_ids)
    except DataError as error:
        raise RowDropped("invalid_answer", queueing.as_written(str(error), ids)) from error
    return made


def _whole(key: str, value: int) -> int:
    if not 0 <= value <= _MAX_INT:
        raise RowDropped("wrong_number", f"{key} is {value}; write 0 to {_MAX_INT}")
    return value


def _time_taken(seconds: float) -> float:
    if seconds < 0:
        raise RowDropped("wrong_number", f"seconds is {seconds}; write 0 or more, or leave it out")
    return _finite("seconds", seconds)


def _finite(key: str, value: float) -> float:
    if not math.isfinite(value):
        raise RowDropped("wrong_number", f"{key} is {value}; write a finite number")
    return value


def _without_contradictions(tx: Transaction, reads: list[Read], counts: _Counts) -> Iterator[Read]:
    """Leave out the answers that say otherwise than an earlier row or import did.

    A row of which no answer is left is dropped.
    """
    asked = [one.item.id for one in reads if one.item.task]
    answered = annotations.ids_by_revision(tx, asked)
    for one in reads:
        kept = []
        for answer in one.item.annotations:
            key = (answer.task_id, answer.annotator, answer.revision)
            if answered.setdefault(key, answer.id) == answer.id:
                kept.append(answer)
            else:
                detail = f"the same was answered otherwise before: {answer.task_id}"
                counts.drop(one.drop("contradicts_earlier_row", detail))
        if kept or one.known is not None or not one.item.annotations:
            yield replace(one, item=replace(one.item, annotations=tuple(kept)))


def _write(tx: Transaction, into: _Target, reads: list[Read], counts: _Counts) -> list[Read]:
    """Write a batch and count the rows that are new to the dataset; the rows that were used."""
    used = [
        replace(one, item=queueing.as_asked(one.item, one.known, into.project))
        for one in _without_contradictions(tx, reads, counts)
    ]
    kept = [one.item for one in used]
    asked = [(item, item.task) for item in kept if item.task]
    completions.add(tx, [one for item, _ in asked for one in item.completions.values()])
    tasks.add(tx, [task for _, task in asked])
    answers = [one for item, _ in asked for one in item.annotations]
    times = {id: time for item, _ in asked for id, time in item.times.items()}
    counts.num_answers += annotations.add(tx, answers, times=times)
    num_new = datasets.add_tasks(tx, into.dataset, [task.id for _, task in asked])
    prompts = [item.prompt for item in kept if not item.task]
    num_new += datasets.add_prompts(tx, into.dataset, prompts)
    counts.num_new += num_new
    counts.num_duplicates += len(kept) - num_new
    return used
