"""Which named parts a reward model learns, and what was said of each: criteria and flags apart.

With ``loss.heads="criteria"`` a criterion has a part of its own; the ``overall`` part has what
compares answers as a whole. With ``loss.heads="groups"`` a group of annotators has one, which its
pairs teach beside the overall part.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from heedful.config import RewardLoss
from heedful.data.collate import Said, Tree
from heedful.errors import DataError
from heedful.types import OVERALL, Feedback, Part


def part_of(said: Said, parts: Sequence[Part]) -> str:
    """The part that a statement is about; the overall one where its criterion has none."""
    names = {part.name for part in parts}
    if said.scale == "flag" or (said.scale == "rating" and said.criterion in names):
        return said.criterion
    return OVERALL


def about(tree: Tree, part: str, parts: Sequence[Part]) -> Tree:
    """The tree with what was said of one part alone; what a group said is of its part as well."""
    said = (one for one in tree.said if part in (part_of(one, parts), one.group))
    return replace(tree, said=tuple(said))


def with_groups(tree: Tree, groups: Mapping[int, str]) -> Tree:
    """The tree with the part of their group at every order of an annotator who has one."""
    said = (
        replace(one, group=groups.get(one.annotator, "")) if one.scale == "order" else one
        for one in tree.said
    )
    return replace(tree, said=tuple(said))


def without_flags(rows: Sequence[Feedback], loss: RewardLoss) -> tuple[list[Feedback], int]:
    """The rows that a run reads, and how many rows of flags it leaves out.

    An answer of which only flags were said takes no part in a run that learns no flags.
    """
    if loss.flags != "drop":
        return list(rows), 0
    kept = [row for row in rows if row.scale != "flag"]
    return kept, len(rows) - len(kept)


def flag_scales(said: Sequence[Said], drops: Counter[str]) -> dict[str, float]:
    """The mean severity of every flag that can be learned, where it was raised.

    A flag that nobody raised (rule ``flag_NAME_never_raised``) or everybody did
    (``flag_NAME_always_raised``) has nothing to be told from, and is counted in ``drops``.
    """
    scales = {}
    for name in sorted({one.criterion for one in said}):
        rows = [one for one in said if one.criterion == name]
        raised = [value for one in rows for value in one.values if value > 0]
        if not raised:
            drops[f"flag_{name}_never_raised"] += len(rows)
        elif len(raised) == sum(len(one.values) for one in rows):
            drops[f"flag_{name}_always_raised"] += len(rows)
        else:
            scales[name] = sum(raised) / len(raised)
    return scales


def plan_parts(
    loss: RewardLoss,
    criteria: Collection[str],
    flags: Mapping[str, float],
    *,
    has_overall: bool,
    groups: Collection[str] = (),
) -> tuple[Part, ...]:
    """The parts in order: overall, criteria or groups, flags; none for one score alone.

    Raises ``DataError`` for a flag with the name of a criterion, and for heads of criteria without
    a rated criterion.
    """
    if loss.heads == "criteria" and not criteria:
        raise DataError(
            "loss.heads is 'criteria' and no criterion has ratings that differ; ask for ratings, "
            "or leave loss.heads at 'shared'"
        )
    own = sorted(criteria) if loss.heads == "criteria" else sorted(groups)
    if both := sorted({*own, *([OVERALL] if has_overall else [])} & set(flags)):
        raise DataError(
            f"{both[0]!r} is a flag and a criterion, and a part needs a name of its own; leave the "
            "flags out with loss.flags=drop, or rate the criterion under another name"
        )
    if not own and not flags:
        return ()
    scores = [OVERALL] if has_overall else []
    scores += [name for name in own if name != OVERALL]
    return (
        *(Part(name, "score") for name in scores),
        *(Part(name, "flag") for name in sorted(flags)),
    )
