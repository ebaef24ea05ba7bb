"""The statistics behind the studio's pages on quality, patterns and the leaderboard.

``compute`` reads a project, computes and stores. The server never does: it starts
``jobs.quality.worker`` in a process of its own.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from heedful.jobs.quality import patterns, quality, standings
from heedful.jobs.quality.plain import plain
from heedful.jobs.quality.reading import Answers, read
from heedful.store import Store, Transaction, people, summaries
from heedful.store.summaries import Kind, Summary

SUMMARISE: Mapping[Kind, Callable[[Transaction, Answers], dict[str, Any]]] = {
    "quality": quality.summarise,
    "patterns": patterns.summarise,
    "leaderboard": standings.summarise,
}


def compute(store: Store, project: str, kind: Kind) -> Summary:
    """Compute a summary of a project's answers and keep it; raises ``MissingError``."""
    started = time.monotonic()
    with store.read() as tx:
        answers = read(tx, project)
        num_answers = summaries.count_answers(tx, project)
        num_done = summaries.count_done(tx, project)
        num_forgotten = people.num_forgotten(tx)
        data = plain(SUMMARISE[kind](tx, answers))
    summary = Summary(
        project=project,
        kind=kind,
        data=data,
        num_answers=num_answers,
        num_done=num_done,
        seconds=time.monotonic() - started,
    )
    with store.write() as tx:
        summaries.lock(tx, project)
        if people.num_forgotten(tx) == num_forgotten:
            summaries.put(tx, summary)
            return summary
    return compute(store, project, kind)  # it may name somebody who was forgotten meanwhile
