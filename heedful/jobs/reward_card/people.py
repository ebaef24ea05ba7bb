"""Who judged the pairs, and how far people agree on them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from heedful.forms import FORMS
from heedful.jobs.quality.plain import attempt
from heedful.monitor.reward_card import People
from heedful.stats.agreement_intervals import raw_agreement
from heedful.stats.ceiling import accuracy_ceiling, human_ceiling
from heedful.stats.consensus import majority
from heedful.stats.intervals import Interval, share_by_cluster
from heedful.stats.votes import Votes, encode_votes
from heedful.store import Store, annotations, tasks
from heedful.store import models as model_table
from heedful.store import people as people_table
from heedful.store.database import Transaction
from heedful.store.page import chunks
from heedful.types import (
    Annotation,
    Feedback,
    Message,
    Preference,
    Prompt,
    content_id,
    messages_json,
)

Array = NDArray[np.float64]
Sides = tuple[tuple[str, str], tuple[str, str]]  # of a pair: the chosen one first
CHOSEN, REJECTED = "chosen", "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """What a store knows of where pairs come from.

    ``said`` are the answers behind them by id, ``attributes`` what people say of themselves, and
    ``repeats`` the tasks of comparisons that one person answered twice, and whether alike.
    ``writers`` says who wrote a side (``side_key``), by model id, and ``names`` what these are
    called. ``subsets`` are what a file calls the part that a pair is in, by its two sides.
    """

    said: Mapping[str, Annotation] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    repeats: Sequence[tuple[str, bool]] = ()
    writers: Mapping[tuple[str, str], str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    subsets: Mapping[Sides, str] = field(default_factory=dict)

    def of(self, row: Preference) -> Annotation | None:
        """The answer that stated a pair, if the store has it."""
        return next((self.said[one] for one in row.annotation_ids if one in self.said), None)


def read_background(store: Store, rows: Sequence[Preference | Feedback]) -> Background:
    """The background of these pairs."""
    with store.read() as tx:
        said = annotations.by_ids(tx, (one for row in rows for one in row.annotation_ids))
        asked = {one.task_id for one in said.values()}
        twice = [
            (once, again)
            for _, given in groupby(
                annotations.latest(tx, asked, ("answer", "repeat")),
                key=lambda one: (one.task_id, one.annotator),
            )
            for once, again in [_both(list(given))]
            if once is not None and again is not None
        ]
        found: dict[str, tasks.AnsweredTask] = {}
        for chunk in chunks(sorted(asked)):
            found |= tasks.get(tx, chunk)
        attributes = {user.id: user.attributes for user in people_table.list_all(tx)}
        writers, names = writers_of_tasks(tx, list(found.values()))
    repeats = _repeats(twice, found)
    return Background(
        said=said, attributes=attributes, repeats=repeats, writers=writers, names=names
    )


def _repeats(
    twice: Sequence[tuple[Annotation, Annotation]], found: Mapping[str, tasks.AnsweredTask]
) -> list[tuple[str, bool]]:
    """Whether the comparisons of who answered a task twice are alike."""
    repeats = []
    for once, again in twice:
        task = found[once.task_id].task
        points = FORMS[task.form].points
        first, second = (
            {(a, b): gained for a, b, gained in points(one.payload, task.completion_ids)}
            for one in (once, again)
        )
        repeats += [
            (task.id, gained == second[pair])
            for pair, gained in first.items()
            if gained != 0.5 and second.get(pair, 0.5) != 0.5
        ]
    return repeats


def writers_of_tasks(
    tx: Transaction, asked: Iterable[tasks.AnsweredTask]
) -> tuple[dict[tuple[str, str], str], dict[str, str]]:
    """Who wrote each answer that tasks show (``side_key``), and what these models are called."""
    writers = {
        side_key(shown.prompt, shown.messages): shown.model
        for one in asked
        for shown in one.completions.values()
    }
    return writers, {model.id: model.name for model in model_table.list_all(tx)}


def _both(given: Sequence[Annotation]) -> tuple[Annotation | None, Annotation | None]:
    """Of one person's newest answers to a task the vote and the repeat."""
    kinds = {one.kind: one for one in given}
    return kinds.get("answer"), kinds.get("repeat")


def text_of(messages: Sequence[Message]) -> str:
    """What an answer says, without its calls of tools."""
    return "\n".join(message.content for message in messages if message.content)


def sides_of(row: Preference) -> Sides:
    """What tells a pair from all others that were judged otherwise."""
    return side_key(row.prompt, row.chosen), side_key(row.prompt, row.rejected)


def side_key(prompt: Prompt, side: Sequence[Message]) -> tuple[str, str]:
    """What tells an answer from all others: its prompt, and what it says."""
    return prompt.id, content_id("side", messages_json(tuple(side)))


def pair_key(row: Preference, form: str) -> tuple[str, bool]:
    """The id of a pair of answers whichever was chosen, and whether the chosen one comes first.

    The same two answers asked about in another form, or by another criterion, are another pair.
    """
    ids = [side_key(row.prompt, side)[1] for side in (row.chosen, row.rejected)]
    return content_id("pair", [row.prompt.id, form, sorted(ids)]), ids[0] < ids[1]


def count_contradicted(rows: Sequence[Preference], forms: Sequence[str]) -> int:
    """How many pairs of answers were judged both ways in one form."""
    keys = {pair_key(row, form) for row, form in zip(rows, forms, strict=True)}
    return len(keys) - len({pair for pair, _ in keys})


def agreement_of_people(
    rows: Sequence[Preference],
    forms: Sequence[str],
    deltas: Array,
    background: Background,
    notes: list[str],
    *,
    rng: np.random.Generator,
) -> People | None:
    """The human ceiling from pairs with several answers, otherwise from repeats; None: neither.

    ``deltas`` are the score differences of the rows, chosen minus rejected. Undecided answers give
    no row and do not count.
    """
    votes, predictions, prompts = _votes(rows, forms, deltas, background)
    if votes is not None and (np.bincount(votes.item) >= 2).sum() >= 2:
        return attempt(
            notes,
            "human ceiling",
            lambda: _from_overlap(votes, predictions, prompts, rng),
        )
    if background.repeats:
        task, alike = zip(*background.repeats, strict=True)
        agreement = share_by_cluster(np.array(alike, dtype=float), np.array(task))
        return _people("one person asked twice", agreement)
    notes.append(
        "No human ceiling: no two pairs were judged by two people, and nobody was asked twice. "
        "Give some tasks to several people, or raise the share of repeats."
    )
    return None


def _votes(
    rows: Sequence[Preference], forms: Sequence[str], deltas: Array, background: Background
) -> tuple[Votes | None, dict[str, str], dict[str, str]]:
    """Who chose which side of which pair, what the model says, and the pairs' prompts."""
    items, judges, labels = [], [], []
    predictions, prompts = {}, {}
    for row, form, delta in zip(rows, forms, deltas, strict=True):
        if not row.annotation_ids:
            continue  # nobody is known to have said so
        pair, is_first = pair_key(row, form)
        said = background.of(row)
        items.append(pair)
        # a snapshot holds one answer of a person to a task, so its id tells people apart
        judges.append(said.annotator if said else row.annotation_ids[0])
        labels.append("first" if is_first else "second")
        likes_first = is_first == (delta > 0)
        predictions[pair] = "tie" if delta == 0 else "first" if likes_first else "second"
        prompts[pair] = row.prompt.id
    return (encode_votes(items, judges, labels) if items else None), predictions, prompts


def _from_overlap(
    votes: Votes,
    predictions: Mapping[str, str],
    prompts: Mapping[str, str],
    rng: np.random.Generator,
) -> People:
    clusters = [prompts[item] for item in votes.items]
    agreement = raw_agreement(votes.counts(), clusters=clusters)
    ceiling = human_ceiling(votes, predictions, rng=rng)
    decided = [
        (predictions[item], label, prompts[item])
        for item, label, num in zip(
            votes.items, majority(votes).labels, votes.counts().sum(axis=1), strict=True
        )
        if label is not None and num >= 2
    ]
    against = None
    if decided:
        right = [0.5 if said == "tie" else float(said == label) for said, label, _ in decided]
        against = share_by_cluster(np.array(right), np.array([prompt for *_, prompt in decided]))
    return _people("two people", agreement, ceiling=ceiling, majority=against)


def _people(of: str, agreement: Interval, **more: object) -> People:
    low, high = accuracy_ceiling(agreement)
    return People(of=of, agreement=agreement, best_low=low, best_high=high, **more)  # type: ignore[arg-type]
