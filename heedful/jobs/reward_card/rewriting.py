"""Do scores survive another wording of the same answers?"""

from collections.abc import Sequence

import numpy as np

from heedful.jobs.quality.plain import attempt
from heedful.jobs.reward_card.scoring import NothingScoredError, score_pairs
from heedful.monitor.reward_checks import Rewording
from heedful.reward.rewrites import REWRITES, rewritten
from heedful.reward.scorers import Scored, Scorer
from heedful.stats.intervals import bootstrap_mean, share_by_cluster
from heedful.stats.votes import encode
from heedful.types import Preference


def reworded(
    scorer: Scorer,
    rows: Sequence[Preference],
    scored: Scored,
    notes: list[str],
    *,
    num_pairs: int,
    seed: int,
) -> list[Rewording]:
    """What each of ``REWRITES`` does to at most ``num_pairs`` pairs that it changes, drawn at
    random; both sides are rewritten. A note names those that find nothing to change."""
    if not num_pairs:
        notes.append("No consistency under other wordings: num_rewritten is 0.")
        return []
    rng = np.random.default_rng([seed, 7])
    changed: dict[str, list[int]] = {}
    again: list[Preference] = []
    for name in REWRITES:
        places: list[int] = []
        for place in rng.permutation(len(scored.pairs)).tolist():
            if len(places) == num_pairs:
                break
            row = rows[scored.pairs[place]]
            made = Preference(
                prompt=row.prompt,
                chosen=rewritten(row.chosen, name),
                rejected=rewritten(row.rejected, name),
            )
            is_changed = (made.chosen, made.rejected) != (row.chosen, row.rejected)
            if is_changed and made.chosen != made.rejected:
                places.append(place)
                again.append(made)
        changed[name] = places
    unused = [name for name, places in changed.items() if not places]
    if unused:
        notes.append(f"No consistency under {', '.join(unused)}: no answer has anything to change.")
    if not again:
        return []
    try:
        found, _ = score_pairs(scorer, again, "score other wordings")
    except NothingScoredError as error:
        notes.append(f"No consistency under other wordings: {error}.")
        return []
    place_of = {number: place for place, number in enumerate(found.pairs)}
    made_of, first = [], 0
    for name, places in changed.items():
        kept = [
            (place, place_of[first + number])
            for number, place in enumerate(places)
            if first + number in place_of
        ]
        first += len(places)
        one = _measured(name, kept, rows, scored, found, notes, seed) if kept else None
        if one is not None:
            made_of.append(one)
    return made_of


def _measured(
    name: str,
    kept: Sequence[tuple[int, int]],
    rows: Sequence[Preference],
    scored: Scored,
    found: Scored,
    notes: list[str],
    seed: int,
) -> Rewording | None:
    """The figures of one wording; ``kept`` pairs the places of before and after."""
    before, after = (list(column) for column in zip(*kept, strict=True))
    prompts = encode([rows[scored.pairs[place]].prompt.id for place in before])[1]
    old = np.stack([scored.chosen[before], scored.rejected[before]]).mean(axis=2)
    new = np.stack([found.chosen[after], found.rejected[after]]).mean(axis=2)
    same = np.sign(old[0] - old[1]) == np.sign(new[0] - new[1])
    row_of = [rows[scored.pairs[place]] for place in before]
    is_new = np.array(
        [
            [rewritten(row.chosen, name) != row.chosen for row in row_of],
            [rewritten(row.rejected, name) != row.rejected for row in row_of],
        ]
    )
    change = attempt(
        notes,
        f"change of scores under {name}",
        lambda: bootstrap_mean(
            np.abs(new - old)[is_new],
            rng=np.random.default_rng(seed),
            clusters=np.stack([prompts, prompts])[is_new],
        ),
    )
    return Rewording(
        name=name,
        kept=share_by_cluster(same.astype(float), prompts),
        change=change,
        typical=float(np.abs(old[0] - old[1]).mean()),
    )
