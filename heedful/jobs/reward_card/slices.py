"""Kinds of pairs: by length, turns, source, group of annotators, and topic."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from heedful.annotators.features import FUNCTION_WORDS
from heedful.annotators.features import words as words_in
from heedful.data.examples import last_user_text
from heedful.jobs.quality.plain import attempt
from heedful.jobs.quality.slices import MAX_TOPICS, PROMPTS_PER_TOPIC
from heedful.jobs.reward_card.people import Background, side_key, sides_of, text_of
from heedful.monitor.reward_card import SUBSET
from heedful.stats.topics import find_topics
from heedful.store.tasks import AnsweredTask
from heedful.types import Message, Preference, Prompt

Array = NDArray[np.float64]
MAX_NAMES = 8  # of one kind; the rarer ones go together
MAX_TURNS = 4
MAX_SUBSETS = 50
UNKNOWN, OTHER = "not known", "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A task before anybody answered it: what slices can be told by. ``words`` is a mean."""

    prompt: Prompt
    form: str
    words: float
    writers: str

    @classmethod
    def of(
        cls,
        asked: AnsweredTask,
        writers: Mapping[tuple[str, str], str],
        names: Mapping[str, str],
    ) -> "Question":
        """The question of a task."""
        shown = [one.messages for one in asked.completions.values()]
        prompt = asked.task.prompt
        return cls(
            prompt=prompt,
            form=asked.task.form,
            words=float(np.mean([len(words_in(text_of(one))) for one in shown])),
            writers=_writers(prompt, shown, writers, names),
        )


Place = Callable[[Question], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of slices: ``of[n]`` is the slice of pair n, ``names`` are all in the order to show.

    ``place`` tells the slice of a question that nobody answered, None where it is in none that is
    known; a kind without it is told by answers. ``Kind(name="turns", of=("1 turn", "2 turns"),
    names=("1 turn", "2 turns"))``
    """

    name: str
    of: tuple[str, ...]
    names: tuple[str, ...]
    place: Place | None = None

    @classmethod
    def by_size(cls, name: str, of: Sequence[str], value: Place | None = None) -> "Kind":
        """The largest slice first; the rarest of very many go together as ``other``.

        ``value`` says what a question would be named before the rarest went together.
        """
        kept = {one for one, _ in Counter(of).most_common(MAX_NAMES - 1)}
        if len(set(of)) > MAX_NAMES:
            of = [one if one in kept else OTHER for one in of]
        counts = Counter(of)
        order = sorted(counts, key=lambda one: (one == OTHER, -counts[one], one))
        rest = OTHER if OTHER in counts else None

        def place(question: Question) -> str | None:
            assert value is not None
            found = value(question)
            return found if found in counts else rest

        return cls(
            name=name, of=tuple(of), names=tuple(order), place=place if value is not None else None
        )

    @classmethod
    def by_number(
        cls,
        name: str,
        numbers: Sequence[int],
        names: Sequence[str],
        value: Callable[[Question], int] | None = None,
    ) -> "Kind":
        """Pair n is in slice ``names[numbers[n]]``; they stand in their order.

        ``value`` says which number a question has.
        """
        used = sorted(set(numbers))
        of = tuple(names[number] for number in numbers)

        def place(question: Question) -> str | None:
            assert value is not None
            return names[value(question)]

        return cls(
            name=name,
            of=of,
            names=tuple(names[number] for number in used),
            place=place if value is not None else None,
        )


def slices_of(
    rows: Sequence[Preference],
    forms: Sequence[str],
    words: Array,
    background: Background,
    notes: list[str],
    *,
    rng: np.random.Generator,
) -> Iterator[Kind]:
    """The kinds of slices that tell the pairs apart; a note for each that does not.

    ``words[n]`` are those of the chosen and the rejected answer of pair n.
    """
    sources = [said.source if (said := background.of(row)) else UNKNOWN for row in rows]
    for kind in (
        _longer(words),
        _length(words),
        _turns(rows),
        Kind.by_size("form", forms, lambda question: question.form),
        Kind.by_size("source", sources),
        Kind.by_size(
            "writers",
            [
                _writers(
                    row.prompt, (row.chosen, row.rejected), background.writers, background.names
                )
                for row in rows
            ],
            lambda question: question.writers,
        ),
        *_subsets(rows, background),
        *_groups(rows, background),
        *_topics(rows, notes, rng),
    ):
        if len(kind.names) > 1:
            yield kind
        else:
            notes.append(f"No slices by {kind.name}: all pairs are alike ({kind.names[0]}).")


def _writers(
    prompt: Prompt,
    sides: Sequence[tuple[Message, ...]],
    writers: Mapping[tuple[str, str], str],
    names: Mapping[str, str],
) -> str:
    """Who wrote answers to a prompt, in the order of the names."""
    ids = {writers.get(side_key(prompt, side), "") for side in sides}
    return " and ".join(sorted({names.get(one, one) or UNKNOWN for one in ids}))


def _longer(words: Array) -> Kind:
    signs = (1 - np.sign(words[:, 0] - words[:, 1])).astype(int)
    names = ("chosen", "neither", "rejected")
    return Kind.by_number("longer answer", signs.tolist(), names)


def _length(words: Array) -> Kind:
    """About thirds by the mean number of words of both sides."""
    mean = words.mean(axis=1)
    edges = np.unique(np.floor(np.quantile(mean, [1 / 3, 2 / 3]))).astype(int).tolist()
    between = [f"{low} to {high} words" for low, high in pairwise(edges)]
    names = [f"up to {edges[0]} words", *between, f"above {edges[-1]} words"]
    numbers = np.searchsorted(edges, mean, side="left").tolist()
    return Kind.by_number(
        "length",
        numbers,
        names,
        lambda question: int(np.searchsorted(edges, question.words, side="left")),
    )


def _turns(rows: Sequence[Preference]) -> Kind:
    """Messages of the user, very many together."""

    def turns(prompt: Prompt) -> int:
        return min(sum(message.role == "user" for message in prompt.messages), MAX_TURNS)

    numbers = [turns(row.prompt) for row in rows]
    between = [f"{number} turns" for number in range(2, MAX_TURNS)]
    names = ["no turn", "1 turn", *between, f"{MAX_TURNS} or more turns"]
    return Kind.by_number("turns", numbers, names, lambda question: turns(question.prompt))


def _subsets(rows: Sequence[Preference], background: Background) -> Iterator[Kind]:
    """The parts of a file that names one for every pair; of very many the largest, as another kind.

    So the mean over subsets is never one over some of them.
    """
    of = [background.subsets.get(sides_of(row), UNKNOWN) for row in rows]
    names = tuple(sorted(set(of)))
    if UNKNOWN in names or len(names) > MAX_SUBSETS:
        if names != (UNKNOWN,):
            yield Kind.by_size(f"large {SUBSET}s", of)
    else:
        yield Kind(name=SUBSET, of=tuple(of), names=names)


def _groups(rows: Sequence[Preference], background: Background) -> Iterator[Kind]:
    """For every attribute that somebody who judged has: the value of each pair's judge."""
    judges = [said.annotator if (said := background.of(row)) else "" for row in rows]
    own = [background.attributes.get(judge, {}) for judge in judges]
    for key in sorted({key for one in own for key in one}):
        yield Kind.by_size(f"annotators by {key}", [one.get(key) or UNKNOWN for one in own])


def _topics(
    rows: Sequence[Preference], notes: list[str], rng: np.random.Generator
) -> Iterator[Kind]:
    texts = {row.prompt.id: last_user_text(row.prompt) for row in rows}
    num_topics = min(MAX_TOPICS, len(texts) // PROMPTS_PER_TOPIC)
    if num_topics < 2:
        notes.append(
            f"No slices by topic: they take {2 * PROMPTS_PER_TOPIC} prompts; there are "
            f"{len(texts)}."
        )
        return
    fitted = attempt(
        notes,
        "slices by topic",
        lambda: find_topics(list(texts.values()), num_topics, rng=rng, ignored=FUNCTION_WORDS),
    )
    if fitted is not None:
        codes = dict(zip(texts, fitted.assign(texts.values()).tolist(), strict=True))
        names = (*fitted.names, OTHER)  # NO_TOPIC, the last one
        yield Kind.by_size(
            "topic",
            [names[codes[row.prompt.id]] for row in rows],
            lambda question: names[int(fitted.assign([last_user_text(question.prompt)])[0])],
        )
