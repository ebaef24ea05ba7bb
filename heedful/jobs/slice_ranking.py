"""Tasks by the slices of a reward card: those first in whose slice the model surely errs most."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heedful.data.snapshot import read_snapshot
from heedful.errors import DataError, MissingError
from heedful.jobs.fit.base import fitting
from heedful.jobs.reward_card.feedback import Given, pairs_of
from heedful.jobs.reward_card.job import SCORES
from heedful.jobs.reward_card.measure import generators, measured_slices, words_of_sides
from heedful.jobs.reward_card.people import read_background, writers_of_tasks
from heedful.jobs.reward_card.slices import Kind, Question, slices_of
from heedful.select.by_slice import slice_scores
from heedful.stats.intervals import Interval
from heedful.stats.votes import encode
from heedful.store import runs as run_table
from heedful.store.database import Store
from heedful.store.run_files import CONFIG
from heedful.store.tasks import AnsweredTask

ROWS = "feedback-*.parquet"


def find_card(store: Store, models: Sequence[str]) -> Path:
    """The directory of the newest card of these models; raises ``MissingError`` without any."""
    with store.read() as tx:
        for model in models:
            for one in reversed(run_table.evidence_of(tx, model)):
                run = one.detail.get("run")
                if one.detail.get("card") and run:
                    path = Path(run_table.find(tx, str(run)).run.path)
                    if (path / SCORES).exists():
                        return path
    raise MissingError(
        "by_slice needs a reward card, and no reward model of this project has one that lies here; "
        "write it with heedful evaluate reward MODEL --data NAME, or name its directory with --card"
    )


def score_by_slice(store: Store, card: Path, asked: Sequence[AnsweredTask]) -> dict[str, float]:
    """What ``select.by_slice`` says of every task, by task."""
    kinds, accuracy = card_slices(store, card)
    with store.read() as tx:
        writers, names = writers_of_tasks(tx, asked)
    questions = [Question.of(one, writers, names) for one in asked]
    members = [
        [
            (kind.name, name)
            for kind in kinds
            if kind.place is not None and (name := kind.place(question)) is not None
        ]
        for question in questions
    ]
    scores = slice_scores(members, accuracy)
    ids = [one.task.id for one in asked]
    return dict(zip(ids, scores.tolist(), strict=True))


def card_slices(store: Store, card: Path) -> tuple[list[Kind], dict[tuple[str, str], Interval]]:
    """The kinds of slices of a card and the accuracy on each, from the scores that it kept.

    Raises ``MissingError`` for a directory that is no card, ``DataError`` for one whose data have
    changed.
    """
    if not (card / SCORES).exists() or not (card / CONFIG).exists():
        raise MissingError(f"{card} holds no reward card; name a run of heedful evaluate reward")
    config = json.loads((card / CONFIG).read_text())["config"]
    lines = [json.loads(line) for line in (card / SCORES).read_text().splitlines()]
    numbers = [line["pair"] for line in lines]
    given = given_to(card, str(config["data"]), lines)
    rows = [given.pairs[number] for number in numbers]
    deltas = np.array([line["delta"] for line in lines], dtype=float)
    _, prompts = encode([row.prompt.id for row in rows])
    rngs = generators(int(config["seed"]))
    forms = [given.forms[number] for number in numbers]
    background = read_background(store, rows)
    kinds = list(slices_of(rows, forms, words_of_sides(rows), background, [], rng=rngs[5]))
    accuracy = {
        (one.kind, one.name): one.measured.accuracy
        for kind in kinds
        for one in measured_slices(kind, deltas, prompts, rngs[6])
    }
    return kinds, accuracy


def given_to(card: Path, data: str, lines: Sequence[dict[str, Any]]) -> Given:
    """The pairs that a card has the scores of; refuses scores of prompts that its data lack."""
    for path in copies_of(card, data):
        given = pairs_of(fitting(list(read_snapshot(path)), "feedback", path))
        if lines and all(
            line["pair"] < len(given.pairs)
            and given.pairs[line["pair"]].prompt.id == line["prompt"]
            for line in lines
        ):
            return given
    raise DataError(f"{card} has scores of other pairs than its data; write the card again")


def copies_of(card: Path, data: str) -> list[Path]:
    """The feedback that a card may be made from: copies of its own, or the snapshot that it names.

    A command that was refused the directory leaves a copy of its own data there.
    """
    found = sorted(card.glob(ROWS)) or [Path(data)]
    if found[0].suffix != ".parquet" or not found[0].exists():
        raise MissingError(
            f"{card} names the data {data}, of which there is no snapshot; write the card from a "
            "data set of the store"
        )
    return found
