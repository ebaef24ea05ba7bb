"""Feedback of every form as the pairs and values that a card measures on.

What implies a pair is what ``data.reading.compared`` says, so a card and a fit count alike.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from heedful.data.collate import Said, Tree
from heedful.data.examples import check_feedback
from heedful.data.reading import Values, compared, single_values
from heedful.monitor.answer_figures import FLAGS_OF
from heedful.types import Feedback, Message, Preference, Prompt, messages_json

THUMBS = "thumbs"
SINGLE = ("rating", "thumb", "flag")  # scales on which an answer is judged by itself
NO_PAIR = {"order": "tie", "rating": "rated_alike_or_alone", "flag": "flag"}
Asked = tuple[Prompt, tuple[Message, ...]]  # an answer and what it answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Feedback, read. Made by ``pairs_of``.

    Pair n of ``pairs`` was stated in the form ``forms[n]``, such as ``ranking`` or ``rating:
    helpful``. ``without_pair`` counts by rule the statements that imply none.
    """

    pairs: list[Preference]
    forms: list[str]
    without_pair: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Singles:
    """Answers that were rated, flagged or got a thumb, each distinct one of a prompt once.

    ``values`` are by scale, their ``responses`` numbers in ``answers`` and their ``annotators`` in
    ``annotators``, who are told apart by their annotations where they are not named.
    """

    answers: list[Asked]
    values: Mapping[str, Values]
    annotators: Sequence[str] = ()


def pairs_of(rows: Sequence[Feedback]) -> Given:
    """Every pair that the rows imply, in their order; those of thumbs come last, by prompt.

    A ranking of K answers gives up to K (K - 1) / 2 pairs, and so do one person's ratings on a
    criterion. Of thumbs the answer with the larger share of thumbs up is the better one. Raises
    ``DataError`` for a row that says nothing definite.
    """
    pairs: list[Preference] = []
    forms: list[str] = []
    without: Counter[str] = Counter()
    thumbs: dict[str, list[Feedback]] = {}
    for row in rows:
        check_feedback(row)
        if row.scale == "thumb":
            thumbs.setdefault(row.prompt.id, []).append(row)
            continue
        found = list(_implied(row.prompt, row.responses, [said(row)], row.annotation_ids))
        pairs += found
        forms += [form_of(row)] * len(found)
        if not found:
            without[NO_PAIR[row.scale]] += 1
    for group in thumbs.values():
        answers, together = _together(group)
        # no single person stated such a pair, so no annotation stands behind it
        found = list(_implied(group[0].prompt, answers, together, ()))
        pairs += found
        forms += [THUMBS] * len(found)
        for row in group if not found else ():
            both_bad = row.form == "pairwise"
            without["both_bad" if both_bad else "thumbs_alike_or_alone"] += 1
    return Given(pairs=pairs, forms=forms, without_pair=dict(sorted(without.items())))


def singles_of(rows: Sequence[Feedback]) -> Singles:
    """The rated answers of all prompts, with their values as a fit reads them.

    Flags are ratings by their severity below 0, so that more is better on every scale.
    """
    by_prompt: dict[str, list[Feedback]] = {}
    for row in rows:
        if row.scale in SINGLE:
            by_prompt.setdefault(row.prompt.id, []).append(_as_rating(row))
    asked: list[Asked] = []
    trees: list[Tree] = []
    people: dict[str, int] = {}
    for group in by_prompt.values():
        answers, together = _together(group)
        together = [
            replace(one, annotator=people.setdefault(_who(row, n), len(people)))
            for n, (row, one) in enumerate(zip(group, together, strict=True))
        ]
        trees.append(_tree(group[0].prompt, len(answers), together))
        asked += [(group[0].prompt, answer) for answer in answers]
    return Singles(answers=asked, values=single_values(trees), annotators=list(people))


def _as_rating(row: Feedback) -> Feedback:
    if row.scale != "flag":
        return row
    severities = tuple(-value for value in row.values)
    return replace(row, scale="rating", criterion=FLAGS_OF + row.criterion, values=severities)


def _who(row: Feedback, number: int) -> str:
    """Who gave a row; a snapshot holds one answer of a person to a task, so its id will do."""
    return row.annotator or next(iter(row.annotation_ids), f"row {number} of {row.prompt.id}")


def form_of(row: Feedback) -> str:
    """How a statement was asked for, in words; by its shape where that is not known."""
    shape = "pairwise" if len(row.responses) == 2 else "ranking"
    name = row.form or (shape if row.scale == "order" else row.scale)
    return f"{name}: {row.criterion}" if row.criterion else name


def said(row: Feedback, numbers: Sequence[int] | None = None) -> Said:
    """A row about answers by number; as they stand in it, or as ``numbers`` says."""
    return Said(
        scale=row.scale,
        responses=tuple(range(len(row.responses)) if numbers is None else numbers),
        values=row.values,
        criterion=row.criterion,
        margin=row.margin,
        weight=row.weight,
        form=row.form,
        source=row.source,
    )


def _together(rows: Sequence[Feedback]) -> tuple[list[tuple[Message, ...]], list[Said]]:
    """The distinct answers of a prompt's rows, and what these say of them."""
    place: dict[str, int] = {}
    answers: list[tuple[Message, ...]] = []
    together = []
    for row in rows:
        numbers = []
        for answer in row.responses:
            key = str(messages_json(answer))
            if key not in place:
                place[key] = len(answers)
                answers.append(answer)
            numbers.append(place[key])
        together.append(said(row, numbers))
    return answers, together


def _tree(prompt: Prompt, num_answers: int, together: Sequence[Said]) -> Tree:
    """A tree whose tokens nobody reads: answers are told apart by their numbers."""
    numbers = tuple((number,) for number in range(num_answers))
    return Tree(id=prompt.id, prompt=(), responses=numbers, said=tuple(together))


def _implied(
    prompt: Prompt,
    answers: Sequence[tuple[Message, ...]],
    together: Sequence[Said],
    annotation_ids: tuple[str, ...],
) -> Iterator[Preference]:
    tree = compared(_tree(prompt, len(answers), together))
    for (chosen, rejected), weight, margin in zip(
        tree.pairs, tree.weights, tree.margins, strict=True
    ):
        yield Preference(
            prompt=prompt,
            chosen=answers[chosen],
            rejected=answers[rejected],
            margin=margin,
            weight=weight,
            annotation_ids=annotation_ids,
        )
