"""What a fit of a reward learns from its feedback: read, weighed, balanced and paired."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from heedful.config import RewardConfig
from heedful.data.collate import Tree
from heedful.data.reading import Reading, compared, learned, plan_reading, with_hard_labels
from heedful.errors import DataError
from heedful.jobs.fit.parts import mix_of, pairs_across
from heedful.jobs.fit.remedies import balanced, check_penalty, with_style


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What a run learns: its reading, the trees so read, and pairs that the head starts from.

    Tree n of ``paired`` has the pairs that tree n of ``taught`` implies, and may have none.
    ``across`` are pairs between the answers of different prompts; ``num_unbalanced`` are those that
    balancing by length leaves out.
    """

    reading: Reading
    taught: list[Tree]
    paired: list[Tree]
    across: list[tuple[int, int]]
    num_unbalanced: int = 0


def lesson_of(
    config: RewardConfig, trees: Sequence[Tree], tokenizer: Any, num_flags: int = 0
) -> Lesson:
    """The lesson of the training trees; says on stderr what is left out of it, and why.

    ``num_flags`` rows of flags were left out before. Raises ``DataError`` when no two answers were
    told apart, ``ConfigError`` for a mix that the parts do not have.
    """
    reading = plan_reading(config.loss, trees)
    mix_of(config.loss, reading.parts)
    if num_flags:
        reading = replace(reading, drops={**reading.drops, "flags_not_used": num_flags})
    taught = with_something(learned(tree, reading) for tree in trees)
    for rule, num in reading.drops.items():
        print(f"not learned from: {num} {rule}", file=sys.stderr)
    strong = sum(margin > 0 for tree in taught for margin in tree.margins)
    if strong and config.loss.margin and config.loss.pairs != "bradley_terry":
        print(
            f"not learned from: the strengths of {strong:,} pairs; loss.pairs={config.loss.pairs} "
            "knows none",
            file=sys.stderr,
        )
    remedies, num_unbalanced = config.remedies, 0
    check_penalty(remedies, taught)
    if remedies.covariates != "none":
        taught = with_style(taught, tokenizer, remedies.covariates)
    paired = [with_hard_labels(compared(weighed(tree, reading))) for tree in taught]
    if remedies.length_head:
        paired = with_style(paired, tokenizer, "length")  # the head starts without length
    if remedies.length_bins:
        taught, num_unbalanced = balanced(taught, remedies.length_bins)
        paired, _ = balanced(paired, remedies.length_bins)
        kept = [n for n, tree in enumerate(taught) if num_judgements(tree)]
        taught, paired = [taught[n] for n in kept], [paired[n] for n in kept]
    across = pairs_across(paired, config.seed)
    if not across and not reading.flags and not any(tree.pairs for tree in paired):
        raise DataError(
            f"{len(taught)} prompts have no two answers that were told apart, so there is no "
            "reward to learn; ask for comparisons, or for ratings and thumbs of more answers"
        )
    return Lesson(
        reading=reading,
        taught=taught,
        paired=paired,
        across=across,
        num_unbalanced=num_unbalanced,
    )


def weighed(tree: Tree, reading: Reading) -> Tree:
    """The tree with each statement at the weight that the run gives it."""
    said = tuple(replace(one, weight=reading.weight(one)) for one in tree.said)
    return replace(tree, said=said)


def with_something(trees: Iterable[Tree | None]) -> list[Tree]:
    """The trees that are there."""
    return [tree for tree in trees if tree is not None]


def num_judgements(tree: Tree) -> int:
    """Terms of the loss."""
    marks = sum(map(len, (*tree.ratings.values(), *tree.flags.values(), tree.thumbs)))
    return len(tree.pairs) + len(tree.ties) + len(tree.rankings) + marks
