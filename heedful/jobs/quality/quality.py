"""What a team sees of the quality of its feedback."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np

from heedful.jobs.quality import figures, slices
from heedful.jobs.quality.agreement import agreement, cohen
from heedful.jobs.quality.copies import leave_out
from heedful.jobs.quality.people import Skill, cycles, people, shares_right, sides, skill
from heedful.jobs.quality.reading import Answers
from heedful.stats.consensus import Consensus
from heedful.stats.intervals import share_by_cluster
from heedful.stats.pace import pace
from heedful.stats.votes import Votes
from heedful.store import Transaction, extras
from heedful.store import people as accounts

Row = dict[str, Any]
SEED = 0  # the same answers give the same intervals


def summarise(tx: Transaction, answers: Answers) -> Row:
    """Everything on the quality page but what changes by the minute."""
    rng = np.random.default_rng(SEED)
    notes: list[str] = []
    users = {user.id: user for user in accounts.list_all(tx)}
    names = {person: user.name for person, user in users.items()}
    known = skill(answers, notes)
    votes, order = answers.votes, answers.form.order
    distinct = leave_out(answers, known.copies)
    measures = (
        agreement(distinct.votes, distinct.item_task, order, notes, rng) if distinct.votes else []
    )
    gold = shares_right(extras.gold_tallies(tx, answers.project))
    repeats = shares_right(extras.repeat_tallies(tx, answers.project))
    rows = people(answers, known, names=names, gold=gold, repeats=repeats)
    left = sides(answers)
    data: Row = {
        "form": answers.form.name,
        "num_tasks": len(np.unique(answers.task)),
        "num_copied": len(answers.task) - len(distinct.task),
        "num_answers": len(answers.task),
        "num_people": len(answers.annotators),
        "days": _days(answers),
        "labels": _labels(answers),
        "pace": _pace(answers.seconds),
        "hours": _hours(rows),
        "agreement": measures,
        "cohen": _named(cohen(votes, answers.item_task, rng), names) if votes else [],
        "side": left.overall if left else None,
        "lean": known.bradley_terry.mean_left_share if known.bradley_terry else None,
        "cycles": _all_cycles(answers),
        "gold": gold.overall if gold else None,
        "repeats": repeats.overall if repeats else None,
        "people": rows,
        "copies": [
            {
                "people": [names.get(one, one) for one in pair.annotators],
                "num_common": pair.num_common,
                "num_agreed": pair.num_agreed,
                "expected": pair.expected,
                "adjusted": pair.adjusted,
            }
            for pair in known.copies
        ],
        "confusion": _confusion(votes, known),
        "groups": slices.groups(
            answers, {person: user.attributes for person, user in users.items()}, notes
        ),
        "topics": slices.topics(tx, answers, distinct.votes, notes, rng),
        "notes": notes,
    }
    data["figures"] = figures.agreement(measures)
    return data


def _days(answers: Answers) -> list[Row]:
    days, nums = np.unique(answers.day, return_counts=True)
    return [
        {"day": date.fromordinal(int(day)).isoformat(), "num": int(num)}
        for day, num in zip(days, nums, strict=True)
    ]


def _labels(answers: Answers) -> list[Row]:
    votes = answers.votes
    if votes is None:
        return []
    task = answers.item_task[votes.item]
    return [
        {"label": label, "share": share_by_cluster(votes.label == code, task)}
        for code, label in enumerate(votes.categories)
    ]


def _pace(seconds: Any) -> Any:
    known = seconds[~np.isnan(seconds)]
    return pace(known) if len(known) else None


def _hours(rows: list[Row]) -> Row | None:
    """Each person's median times their answers, with its bounds summed: never breaks."""
    timed = [row for row in rows if row["pace"]]
    if not timed:
        return None
    sums = {
        bound: sum(getattr(row["pace"], bound) * row["num_answers"] for row in timed) / 3600
        for bound in ("value", "low", "high")
    }
    return {**sums, "num": sum(row["num_answers"] for row in timed)}


def _named(rows: list[Row], names: Mapping[str, str]) -> list[Row]:
    return [{**row, "people": [names.get(one, one) for one in row["people"]]} for row in rows]


def _all_cycles(answers: Answers) -> Row | None:
    found = cycles(answers)
    return {"share": found.overall, "coin": 0.25} if found else None


def _confusion(votes: Votes | None, known: Skill) -> Row | None:
    """``rows[k][c]``: how often people say c where the consensus says k."""
    consensus: Consensus | None = known.dawid_skene
    if votes is None or consensus is None:
        return None
    num = len(votes.categories)
    said = np.array(
        [
            np.bincount(votes.label, consensus.probabilities[votes.item, k], minlength=num)
            for k in range(num)
        ]
    )
    totals = said.sum(axis=1, keepdims=True)
    rows = np.divide(said, totals, out=np.full_like(said, np.nan), where=totals > 0)
    return {"labels": list(votes.categories), "rows": rows, "num": totals[:, 0]}
