"""Prompts that are nearly what the model learned from: a leak that ids do not show."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from heedful.monitor.reward_card import NearLearned
from heedful.stats.intervals import share_by_cluster
from heedful.stats.near import near
from heedful.stats.votes import encode
from heedful.store import completions
from heedful.store.database import Store
from heedful.types import Feedback, Preference, Prompt

Array = NDArray[np.float64]
NUM_EXAMPLES = 3


def near_learned(
    store: Store | None,
    learned: Collection[str] | None,
    rows: Sequence[Preference | Feedback],
    notes: list[str],
) -> dict[str, str] | None:
    """By the id of a prompt the text of a learned one that is nearly equal; None: not compared.

    ``learned`` are the ids of prompts, None: not known; their texts are in the store. ``notes``
    hear of what could not be compared.
    """
    if learned is None:
        return None
    if store is None:
        notes.append("No search for nearly equal prompts: learned ones are kept in a database.")
        return None
    with store.read() as tx:
        known = completions.prompts(tx, sorted(learned))
    if missing := len(learned) - len(known):
        notes.append(
            f"No search for nearly equal prompts among {missing:,} of {len(learned):,} that were "
            "learned from: this database does not have them."
        )
    texts = [conversation(one) for one in known]
    asked = {row.prompt.id: row.prompt for row in rows}
    found = near(map(conversation, asked.values()), texts)
    return {one: texts[place] for one, place in zip(asked, found, strict=True) if place is not None}


def measured_apart(
    rows: Sequence[Preference], right: Array, near: Mapping[str, str] | None
) -> NearLearned | None:
    """How many pairs ask what was nearly learned, and the accuracy on the others.

    ``right[n]`` is 1 where pair n is ordered as it was judged, 0.5 for a tie.
    """
    if near is None:
        return None
    apart = [n for n, row in enumerate(rows) if row.prompt.id not in near]
    _, prompts = encode([rows[n].prompt.id for n in apart])
    asked = {row.prompt.id: conversation(row.prompt) for row in rows if row.prompt.id in near}
    return NearLearned(
        num=len(rows) - len(apart),
        apart=share_by_cluster(right[apart], prompts) if apart else None,
        examples=[(text, near[one]) for one, text in list(asked.items())[:NUM_EXAMPLES]],
    )


def conversation(prompt: Prompt) -> str:
    """What was said, in one text."""
    return "\n".join(message.content for message in prompt.messages)
