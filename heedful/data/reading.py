"""How feedback is read: what was said of a tree's responses, as pairs, ties, rankings and marks.

``learned`` is what the losses of a run learn from, ``compared`` what every form implies of pairs,
by which all reward models are measured.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from heedful.config import RewardLoss
from heedful.data.collate import Judge, Mark, Ranking, Said, Tree
from heedful.data.parts import flag_scales, plan_parts
from heedful.errors import DataError
from heedful.types import OVERALL, Part


class Voice(NamedTuple):
    """An annotator: the place of their skill or offset, and the weight of all they said."""

    skill: int
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a run learns from its feedback. Made by ``plan_reading``, used by ``learned``.

    ``levels`` are the ratings that occur, in order, of every criterion that is learned; ``flags``
    have the mean severity of every flag that is. ``parts`` are the heads, none for one score alone.
    ``drops`` counts the statements that are left out, by rule. ``crowd`` are the annotators by
    number, where their reliability is learned, in the order of their skills; ``raters`` are those
    who rated each criterion, where their offsets are, in the order of these.
    """

    loss: RewardLoss
    levels: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    thumbs: bool = False
    flags: Mapping[str, float] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    drops: Mapping[str, int] = field(default_factory=dict)
    crowd: Mapping[int, Voice] = field(default_factory=dict)
    raters: Mapping[str, Mapping[int, Voice]] = field(default_factory=dict)

    def weight(self, said: Said) -> float:
        """The weight of a statement by its own, its form's, its source's and its data set's."""
        loss = self.loss
        return (
            said.weight
            * loss.form_weights.get(said.form, 1.0)
            * loss.source_weights.get(said.source, 1.0)
            * loss.dataset_weights.get(said.dataset, 1.0)
        )

    def uses(self, said: Said) -> bool:
        """Is the statement on a scale that is learned, with a weight above 0?"""
        if said.scale == "rating" and said.criterion not in self.levels:
            return False
        if said.scale == "flag" and said.criterion not in self.flags:
            return False
        return (said.scale != "thumb" or self.thumbs) and self.weight(said) > 0


def plan_reading(loss: RewardLoss, trees: Sequence[Tree]) -> Reading:
    """What can be learned from these trees; ratings and thumbs need two values to tell apart.

    Criteria whose ratings are all equal (rule ``ratings_all_equal``), thumbs that all point one way
    (``thumbs_all_alike``) and orders without a strict place where ties are dropped (``tie``) teach
    nothing and are counted; so are rankings that Plackett-Luce reads to their first tie
    (``places_below_a_tie``) or not at all (``tie_at_the_top``). Raises ``DataError`` for a model of
    ties without a tie to learn from, for reliability of a single annotator, when nothing is left,
    and for parts that cannot be (``plan_parts``). Flags are counted as ``flag_scales`` says.
    """
    reading = Reading(loss=loss)
    said = [one for tree in trees for one in tree.said if reading.weight(one) > 0]
    drops = Counter(weight_zero=sum(len(tree.said) for tree in trees) - len(said))
    levels: dict[str, tuple[float, ...]] = {}
    criteria = sorted({one.criterion for one in said if one.scale == "rating"})
    if loss.criterion is not None and loss.criterion not in criteria:
        raise DataError(
            f"loss.criterion is {loss.criterion!r}, on which nothing is rated; rated are: "
            f"{', '.join(criteria) or 'no criteria'}"
        )
    for criterion in criteria:
        rows = [one for one in said if one.scale == "rating" and one.criterion == criterion]
        found = tuple(sorted({value for one in rows for value in one.values}))
        if loss.ratings == "drop" or loss.criterion not in (None, criterion):
            drops["ratings_not_used"] += len(rows)
        elif len(found) < 2:
            drops["ratings_all_equal"] += len(rows)
        else:
            levels[criterion] = found
    thumbs = [one for one in said if one.scale == "thumb"]
    can_tell = len({value for one in thumbs for value in one.values}) == 2
    if thumbs and loss.thumbs == "drop":
        drops["thumbs_not_used"] += len(thumbs)
    elif thumbs and not can_tell:
        drops["thumbs_all_alike"] += len(thumbs)
    use_thumbs = can_tell and loss.thumbs != "drop"
    flags = [one for one in said if one.scale == "flag"]
    scales: dict[str, float] = {}
    if loss.flags == "drop":
        drops["flags_not_used"] += len(flags)
    else:
        scales = flag_scales(flags, drops)
    reading = replace(reading, levels=levels, thumbs=use_thumbs, flags=scales)
    for order in said:
        if order.scale != "order":
            continue
        parts = _parts(order, reading)
        if not parts:
            drops[_why_not(order, loss)] += 1
        elif loss.rankings == "plackett_luce" and parts.rankings:
            drops["places_below_a_tie"] += len(set(order.values)) > known_places(order) + 1
    reading = replace(reading, drops={rule: num for rule, num in sorted(drops.items()) if num})
    made = [one for tree in trees if (one := learned(tree, reading))]
    if not any(one.pairs or one.rankings or one.ratings or one.thumbs or one.flags for one in made):
        unread = Counter(reading.drops) + Counter(tie=sum(1 for one in made if one.ties))
        rules = ", ".join(f"{num} {rule}" for rule, num in unread.items()) or "none"
        raise DataError(
            f"{len(trees)} prompts with feedback leave nothing to learn a reward from: {rules}; "
            "ask for comparisons, or for ratings and thumbs that differ"
        )
    if loss.ties != "drop" and not any(one.ties for one in made):
        inside = "" if loss.rankings == "pairs" else " (inside rankings with loss.rankings=pairs)"
        raise DataError(
            f"loss.ties is {loss.ties!r}, but no two answers tie{inside} among {len(said)} "
            "statements; leave it at 'drop'"
        )
    own = set(levels) - {"", OVERALL} if loss.heads == "criteria" else set()
    whole = any(one.pairs or one.ties or one.rankings or one.thumbs for one in made)
    return replace(
        reading,
        crowd=_crowd(said, reading) if loss.annotators == "reliability" else {},
        raters=_raters(said, reading) if loss.rater_offsets else {},
        parts=plan_parts(
            loss,
            own,
            scales,
            has_overall=whole or bool(set(levels) - own),
            groups=_groups(said, reading) if loss.heads == "groups" else (),
        ),
    )


def _groups(said: Sequence[Said], reading: Reading) -> set[str]:
    """The parts of the groups that gave pairs."""
    found = {one.group for one in said if one.scale == "order" and _parts(one, reading).pairs}
    if len(found - {""}) < 2:
        raise DataError(
            f"loss.heads is 'groups' and annotators with pairs are of {len(found - {''})} group by "
            f"{reading.loss.group_by!r}; two groups are needed: choose another attribute with "
            "loss.group_by, or leave loss.heads at 'shared'"
        )
    return found - {""}


def _crowd(said: Sequence[Said], reading: Reading) -> dict[int, Voice]:
    """Every annotator who gave pairs."""
    found: dict[int, float] = {}
    num_pairs = 0
    for one in said:
        if one.scale == "order":
            parts = _parts(one, reading)
            share = reading.weight(one) / max(len(parts.pairs) + len(parts.ties), 1)
            found[one.annotator] = found.get(one.annotator, 0.0) + len(parts.pairs) * share
            num_pairs += len(parts.pairs)
    people = sorted(annotator for annotator, weight in found.items() if weight > 0)
    if len(people) < 2:
        raise DataError(
            f"loss.annotators is 'reliability', but {num_pairs} pairs come from {len(people)} "
            "annotator: one person's errors cannot be told from scores that lie close together; "
            "leave it at 'none', or state a share of errors with loss.pairs=constant_error"
        )
    return {one: Voice(skill, found[one]) for skill, one in enumerate(people)}


def _raters(said: Sequence[Said], reading: Reading) -> dict[str, dict[int, Voice]]:
    """Everybody who rated, by criterion; a criterion that one person rated has no offsets."""
    weights: dict[str, dict[int, float]] = {}
    for one in said:
        if one.scale == "rating" and reading.uses(one):
            of = weights.setdefault(one.criterion, {})
            num = len(one.responses)
            of[one.annotator] = of.get(one.annotator, 0.0) + num * reading.weight(one)
    found = {
        criterion: {one: Voice(place, of[one]) for place, one in enumerate(sorted(of))}
        for criterion, of in weights.items()
        if len(of) > 1
    }
    if not found:
        raise DataError(
            f"loss.rater_offsets is on, but no criterion of {len(weights)} was rated by two "
            "annotators, where all who are not named are one: how high one person rates cannot be "
            "told from the thresholds; leave it off"
        )
    return found


def learned(tree: Tree, reading: Reading) -> Tree | None:
    """The tree with what its responses teach; None when they teach nothing."""
    pairs: list[tuple[int, int]] = []
    weights: list[float] = []
    margins: list[float] = []
    probabilities: list[float] = []
    judges: list[Judge] = []
    groups: list[int] = []
    ties: list[tuple[int, int]] = []
    tie_weights: list[float] = []
    rankings: list[Ranking] = []
    ratings: dict[str, list[Mark]] = {}
    thumbs: list[Mark] = []
    flags: dict[str, list[Mark]] = {}
    used = tuple(one for one in tree.said if reading.uses(one))
    places = {part.name: place for place, part in enumerate(reading.parts)}
    for one in used:
        weight = reading.weight(one)
        if one.scale == "order":
            parts = _parts(one, reading)
            rankings += parts.rankings
            share = weight / max(len(parts.pairs) + len(parts.ties), 1)
            pairs += parts.pairs
            weights += [share] * len(parts.pairs)
            margins += [one.margin * reading.loss.margin] * len(parts.pairs)
            probabilities += [one.probability] * len(parts.pairs)
            if reading.crowd and parts.pairs:
                voice = reading.crowd[one.annotator]
                judges += [Judge(voice.skill, share / voice.weight)] * len(parts.pairs)
            if reading.loss.heads == "groups":
                groups += [places.get(one.group, 0)] * len(parts.pairs)
            ties += parts.ties
            tie_weights += [share] * len(parts.ties)
        elif one.scale == "rating":
            levels = reading.levels[one.criterion]
            is_ordinal = reading.loss.ratings == "ordinal"
            people = reading.raters.get(one.criterion)
            rater = people[one.annotator] if people else None
            judge = Judge(rater.skill, weight / rater.weight) if rater else None
            ratings.setdefault(one.criterion, []).extend(
                Mark(response, levels.index(value) if is_ordinal else value, weight, judge)
                for response, value in zip(one.responses, one.values, strict=True)
            )
        elif one.scale == "flag":
            mean = reading.flags[one.criterion]
            flags.setdefault(one.criterion, []).extend(
                Mark(response, value / mean, weight)
                for response, value in zip(one.responses, one.values, strict=True)
            )
        else:
            thumbs += [Mark(*mark, weight) for mark in zip(one.responses, one.values, strict=True)]
    if not (pairs or ties or rankings or ratings or thumbs or flags):
        return None
    return replace(
        tree,
        pairs=tuple(pairs),
        weights=tuple(weights),
        margins=tuple(margins),
        probabilities=tuple(probabilities),
        judges=tuple(judges),
        groups=tuple(groups),
        ties=tuple(ties),
        tie_weights=tuple(tie_weights),
        rankings=tuple(rankings),
        ratings={criterion: tuple(marks) for criterion, marks in ratings.items()},
        thumbs=tuple(thumbs),
        flags={name: tuple(marks) for name, marks in flags.items()},
        said=used,
    )


def without_unused(tree: Tree, reading: Reading) -> Tree | None:
    """A held-out tree with the statements on scales that were learned; None without any."""
    used = tuple(one for one in tree.said if reading.uses(one))
    return replace(tree, said=used) if used else None


@dataclass(frozen=True, slots=True)
class _Parts:
    """An order as the losses read it."""

    pairs: list[tuple[int, int]] = field(default_factory=list)
    ties: list[tuple[int, int]] = field(default_factory=list)
    rankings: list[Ranking] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.pairs or self.ties or self.rankings)


def _parts(said: Said, reading: Reading) -> _Parts:
    """Two responses are a pair or a tie; more are all their pairs, or one ranking."""
    how = reading.loss.rankings
    if len(said.responses) == 2 or how == "pairs":
        ties = tied(said) if reading.loss.ties != "drop" else []
        return _Parts(pairs=strict(said), ties=ties)
    known = known_places(said)
    num_ranked = min(known, 1) if how == "best_of_k" else known
    if not num_ranked:
        return _Parts()
    order = [one for _, one in sorted(zip(said.values, said.responses, strict=True))]
    return _Parts(rankings=[Ranking(tuple(order), num_ranked, reading.weight(said))])


def _why_not(said: Said, loss: RewardLoss) -> str:
    is_listwise = len(said.responses) > 2 and loss.rankings != "pairs"
    return "tie_at_the_top" if is_listwise else "tie"


def known_places(said: Said) -> int:
    """Places of an order from the top that one response has alone; the last one says nothing.

    The order below the first tie is left out: the likelihood of the places above it is exact.
    """
    values = sorted(said.values)
    alone = itertools.takewhile(lambda value: values.count(value) == 1, values)
    return min(len(list(alone)), len(values) - 1)


def strict(said: Said) -> list[tuple[int, int]]:
    """Pairs (better, worse) of one statement; none of equal values."""
    best_first = -1 if said.scale == "order" else 1
    placed = list(zip(said.responses, said.values, strict=True))
    return [
        (better, worse)
        for (better, high), (worse, low) in itertools.permutations(placed, 2)
        if best_first * high > best_first * low and better != worse
    ]


def tied(said: Said) -> list[tuple[int, int]]:
    """Pairs of equal places of an order."""
    placed = list(zip(said.responses, said.values, strict=True))
    return [(one, two) for (one, a), (two, b) in itertools.combinations(placed, 2) if a == b]


def compared(tree: Tree) -> Tree:
    """The tree with every pair that its feedback implies, whatever its form; often none.

    An order and one person's ratings on a criterion imply pairs, whose weights sum to its own.
    Thumbs imply that an answer with a larger share of thumbs up is better, flags nothing.
    """
    pairs: list[tuple[int, int]] = []
    weights: list[float] = []
    margins: list[float] = []
    probabilities: list[float] = []
    for one in tree.said:
        if one.scale in ("thumb", "flag"):
            continue
        found = strict(one)
        pairs += found
        weights += [one.weight / max(len(found), 1)] * len(found)
        margins += [one.margin] * len(found)
        probabilities += [one.probability] * len(found)
    good = _shares_good(tree)
    by_thumbs = strict(Said(scale="thumb", responses=tuple(good), values=tuple(good.values())))
    return replace(
        tree,
        pairs=(*pairs, *by_thumbs),
        weights=(*weights, *(1.0,) * len(by_thumbs)),
        margins=(*margins, *(0.0,) * len(by_thumbs)),
        probabilities=(*probabilities, *(1.0,) * len(by_thumbs)),
        judges=(),
        groups=(),
        ties=(),
        tie_weights=(),
        rankings=(),
        ratings={},
        thumbs=(),
        flags={},
    )


def with_hard_labels(tree: Tree) -> Tree:
    """The tree with a pair of probability p as two: p of its weight, and the rest the other way.

    Where the loss of a pair is linear in its labels, and all of ours are, it stays the same.
    """
    if all(probability == 1 for probability in tree.probabilities):
        return tree
    given = zip(tree.pairs, tree.weights, tree.margins, tree.probabilities, strict=True)
    ways = [
        (way, share, margin)
        for (chosen, rejected), weight, margin, sure in given
        for way, share in (
            ((chosen, rejected), weight * sure),
            ((rejected, chosen), weight * (1 - sure)),
        )
        if share > 0
    ]
    return replace(
        tree,
        pairs=tuple(pair for pair, _, _ in ways),
        weights=tuple(share for _, share, _ in ways),
        margins=tuple(margin for _, _, margin in ways),
        probabilities=(1.0,) * len(ways),
    )


def _shares_good(tree: Tree) -> dict[int, float]:
    votes: dict[int, list[float]] = {}
    for one in tree.said:
        if one.scale == "thumb":
            for response, value in zip(one.responses, one.values, strict=True):
                votes.setdefault(response, []).append(value)
    return {response: sum(given) / len(given) for response, given in votes.items()}


@dataclass(frozen=True, slots=True)
class Values:
    """Values of responses on one scale, over trees: response numbers count through all of them.

    ``annotators`` are the numbers that stand for who gave them.
    """

    responses: list[int]
    values: list[float]
    trees: list[int]
    annotators: list[int]


def single_values(trees: Sequence[Tree]) -> dict[str, Values]:
    """Ratings by criterion and thumbs, which can be compared between prompts as well."""
    found: dict[str, Values] = {}
    first = 0
    for number, tree in enumerate(trees):
        for one in tree.said:
            if one.scale in ("rating", "thumb"):
                name = "thumbs" if one.scale == "thumb" else one.criterion or "ratings"
                values = found.setdefault(name, Values([], [], [], []))
                values.responses.extend(first + response for response in one.responses)
                values.values.extend(one.values)
                values.trees.extend([number] * len(one.responses))
                values.annotators.extend([one.annotator] * len(one.responses))
        first += len(tree.responses)
    return dict(sorted(found.items()))


def tally(trees: Sequence[Tree]) -> dict[str, int]:
    """How many statements of each kind there are, and how many of them oppose each other.

    ``contradictory_pairs`` are pairs of answers that were stated in both orders;
    ``prompts_with_a_cycle`` those in which A beats B, B beats C and C beats A, in any length above
    two, once contradictory pairs are left out.
    """
    counts: Counter[str] = Counter()
    for tree in trees:
        for one in tree.said:
            counts[_name(one)] += 1
        stated = {pair for one in tree.said if one.scale == "order" for pair in strict(one)}
        agreed = {(a, b) for a, b in stated if (b, a) not in stated}
        counts["contradictory_pairs"] += (len(stated) - len(agreed)) // 2
        counts["prompts_with_a_cycle"] += _has_cycle(agreed, len(tree.responses))
    return {name: num for name, num in sorted(counts.items()) if num}


def _name(said: Said) -> str:
    if said.scale == "thumb":
        return "both_bad" if said.form == "pairwise" else "thumbs"
    if said.scale in ("rating", "flag"):
        return f"{said.scale}s"
    if len(said.responses) > 2:
        return "rankings"
    return "ties" if said.values[0] == said.values[1] else "pairs"


def _has_cycle(pairs: set[tuple[int, int]], num: int) -> bool:
    if not pairs:
        return False
    better, worse = np.array(sorted(pairs)).T
    graph = coo_array((np.ones(len(better)), (better, worse)), shape=(num, num))
    num_components, _ = connected_components(graph.tocsr(), connection="strong")
    return bool(num_components < num)
