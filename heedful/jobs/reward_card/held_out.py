"""What a card measures on: feedback on prompts that the model did not learn from."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heedful.config import RewardCardConfig
from heedful.errors import DataError
from heedful.jobs.evaluate import leave_out_learned
from heedful.jobs.reward_card.answers import told_apart
from heedful.jobs.reward_card.feedback import Singles, pairs_of, singles_of
from heedful.jobs.reward_card.loading import Loaded
from heedful.jobs.reward_card.scoring import Subject
from heedful.types import Feedback, Preference


class NoPairsError(DataError):
    """The feedback has nothing that a card could measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutFeedback:
    """The pairs to measure on, by their numbers among all pairs of the data, and rated answers.

    ``said`` is all feedback on their prompts, and on others that nothing was learned from.
    ``num_learned`` pairs (statements where there is no pair) were left out, None when it is not
    known what the model learned from.
    """

    rows: list[Preference]
    numbers: list[int]
    forms: list[str]
    said: Sequence[Feedback]
    singles: Singles
    num_learned: int | None
    without_pair: dict[str, int]


def held_out_feedback(
    config: RewardCardConfig, subject: Subject, loaded: Loaded
) -> HeldOutFeedback:
    """The feedback on prompts that nothing was learned from.

    Raises ``NoPairsError`` where there is nothing to measure: no pair, and no ratings, thumbs or
    flags that differ, or a scorer whose scores compare answers to one prompt only.
    """
    given = pairs_of(loaded.rows)
    without = dict(Counter(loaded.drops) + Counter(given.without_pair))
    rows: Sequence[Feedback] = loaded.rows
    is_known = False
    if subject.ref is None:
        print(
            f"not known whether {config.model} has learned from {config.data}: no claim about "
            "held-out data",
            file=sys.stderr,
        )
    else:
        held_out = leave_out_learned(loaded.rows, config, subject.ref)
        rows, is_known = held_out.rows, held_out.num_learned is not None
    prompts = {row.prompt.id for row in rows}
    numbers = [n for n, pair in enumerate(given.pairs) if pair.prompt.id in prompts]
    singles = singles_of(rows)
    if not numbers:
        refuse_nothing_to_measure(config, singles, len(rows), without)
    num_left_out = len(given.pairs) - len(numbers) if numbers else len(loaded.rows) - len(rows)
    return HeldOutFeedback(
        rows=[given.pairs[n] for n in numbers],
        numbers=numbers,
        forms=[given.forms[n] for n in numbers],
        said=rows,
        singles=singles,
        num_learned=num_left_out if is_known else None,
        without_pair=without,
    )


def refuse_nothing_to_measure(
    config: RewardCardConfig, singles: Singles, num: int, without: Mapping[str, int]
) -> None:
    """Raise ``NoPairsError`` unless ratings, thumbs or flags without a pair can be measured."""
    rules = ", ".join(f"{num} {rule}" for rule, num in sorted(without.items())) or "none"
    no_pair = (
        f"{config.data} has no two answers to a prompt that were told apart, in {num} "
        f"statements on prompts that were not learned from; without a pair: {rules}"
    )
    if not told_apart(singles):
        raise NoPairsError(
            f"{no_pair}; nor ratings, thumbs or flags that differ, so there is nothing to measure; "
            "give comparisons, or judgements of answers of which some are good and some are bad"
        )
    if config.beta is not None or (config.judge.url is not None and config.judge.ask == "choice"):
        what = f"beta is {config.beta}" if config.beta is not None else "judge.ask is 'choice'"
        raise NoPairsError(
            f"{no_pair}; {what}, and such scores compare answers to one prompt only, so "
            "ratings, thumbs and flags cannot be measured; give comparisons"
        )
