"""The people's part of ``demo --human``: a studio, their answers, and a blind comparison after."""

import json
import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedful.data.snapshot import split_by_prompt
from heedful.errors import ConfigError, DataError
from heedful.forms import FORMS
from heedful.jobs.demo_settings import HELD_OUT_SHARE
from heedful.jobs.progress import progress
from heedful.jobs.snapshot import make_snapshot
from heedful.model.adapter_files import write_text
from heedful.stats.intervals import win_rate
from heedful.store import annotations, completions, models, projects, tasks
from heedful.store.database import Store
from heedful.types import JSON, Completion, Preference, Project, Task

if TYPE_CHECKING:
    from heedful.web.goal import Goal

Say = Callable[[str], None]
PROJECT, BLIND = "demo", "demo-blind"
WANTED = 100
LEAST = 10
PORT = 8321
POLL_SECONDS = 1.0
LINK_VALID = timedelta(hours=12)
GUIDELINES = """Which answer would you rather get?

Judge with one idea in mind and stay with it, such as *kinder* or *shorter*: a hundred answers can
teach one idea. Equal is a fine answer, but only differences teach.
"""


def demo_project(name: str, title: str) -> Project:
    """A project of the demo; every answer in it is one of those that are needed."""
    return Project(dataset=name, title=title, form="pairwise", gold_share=0.0, repeat_share=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """The answers that training learns from: the file of the snapshot, and counts by outcome."""

    path: str
    counts: dict[str, int]


class Host:
    """The running studio and what it waits for. Made by ``studio``."""

    def __init__(self, store: Store, goal: "Goal", seed: int, address: str) -> None:
        self.store, self.goal, self.seed, self.address = store, goal, seed, address
        self._is_invited = False
        self._has_terminal = sys.stdin is not None and sys.stdin.isatty()

    def invite(self, say: Say) -> None:
        """Print the link to the labelling page, once."""
        if self._is_invited:
            return
        self._is_invited = True
        from heedful.web.sign_in import make_link

        secret = make_link(self.store, "owner", valid=LINK_VALID)
        say(f"      label here   {self.address}/sign-in/{secret}?next=/projects/{PROJECT}/label")
        enter = "press Enter, or " if self._has_terminal else ""
        say(
            f"      {self.goal.wanted} answers begin the training; to begin earlier {enter}choose "
            f"Train now at {self.address}/goal"
        )
        if self._has_terminal:
            threading.Thread(target=self._listen_for_enter, daemon=True).start()

    def _listen_for_enter(self) -> None:
        while sys.stdin.readline():
            self.goal.begin.set()

    def wait(self, say: Say) -> None:
        """Until enough answers are in, or somebody wants to begin with those that are."""
        self.invite(say)
        seen = num_answered(self.store)
        with progress(
            "your answers", self.goal.wanted, done=min(seen, self.goal.wanted)
        ) as advance:
            while True:
                is_asked = self.goal.begin.wait(POLL_SECONDS)
                now = num_answered(self.store)
                if now > seen:
                    advance(now - seen)
                    seen, self.goal.message = now, ""
                if not is_asked and seen < self.goal.wanted:
                    continue
                self.goal.begin.clear()
                lacking = what_lacks(self.store, self.seed)
                if lacking is None:
                    return
                if lacking != self.goal.message:
                    say(f"      {lacking}")
                self.goal.message = lacking

    def wait_for_enter(self, say: Say) -> None:
        """Keep the studio open for whoever sits at a terminal."""
        if not self._has_terminal:
            return
        say(f"      the studio stays open at {self.address}; press Enter to end it")
        self.goal.begin.clear()
        self.goal.begin.wait()


def check_wanted(wanted: int) -> None:
    """Refuse to begin with answers that no reward model can be fitted to."""
    if wanted < LEAST:
        raise ConfigError(f"--answers is {wanted}; a reward model needs at least {LEAST}")


@contextmanager
def studio(store: Store, wanted: int, seed: int, say: Say) -> Iterator[Host]:
    """A studio on loopback beside the demo; on another port when the usual one is taken."""
    # the demo with simulated annotators needs none of this
    from heedful.web.app import create_app
    from heedful.web.goal import Goal
    from heedful.web.serving import address_of, beside, listen

    with store.write() as tx:
        title = "Which answer is better?"
        known = {one.dataset for one in projects.list_all(tx)}
        if PROJECT not in known:
            projects.add(tx, demo_project(PROJECT, title))
            projects.write_guideline(tx, PROJECT, GUIDELINES, author="demo")
    try:
        listener = listen("127.0.0.1", PORT)
    except ConfigError:
        listener = listen("127.0.0.1", 0)
    goal = Goal(project=PROJECT, wanted=wanted)
    with listener, beside(create_app(store, rng=random.SystemRandom(), goal=goal), listener):
        say(f"studio  {address_of(listener)}")
        yield Host(store, goal, seed, address_of(listener))


def by_prompt(rows: Sequence[Completion]) -> list[list[Completion]]:
    """The answers to each prompt together."""
    groups: dict[str, list[Completion]] = {}
    for row in rows:
        groups.setdefault(row.prompt.id, []).append(row)
    return list(groups.values())


def pairs(group: Sequence[Completion]) -> list[Task]:
    """Every pair of different answers to one prompt; earlier pairs are more urgent."""
    shown = [(a, b) for a, b in combinations(group, 2) if a.text != b.text]
    return [
        Task(
            form="pairwise",
            prompt=left.prompt,
            completion_ids=(left.id, right.id),
            priority=-float(number),
        )
        for number, (left, right) in enumerate(shown)
    ]


def queue_pairs(store: Store, rows: Sequence[Completion]) -> int:
    """Queue the pairs of some prompts for people; how many were new."""
    made = [task for group in by_prompt(rows) for task in pairs(group)]
    with store.write() as tx:
        completions.add(tx, rows)
        return projects.add_tasks(tx, PROJECT, made)


def num_answered(store: Store) -> int:
    """How many pairs of the demo have an answer."""
    with store.read() as tx:
        return sum(1 for given in annotations.latest_by_dataset(tx, PROJECT).values() if given)


def preferences(store: Store) -> tuple[list[Preference], dict[str, int]]:
    """What people prefer, and counts of their answers by outcome."""
    with store.read() as tx:
        asked = tasks.by_dataset(tx, PROJECT)
    form = FORMS["pairwise"]
    given = [(one, answer) for one in asked for answer in one.annotations]
    found = [
        row
        for one, answer in given
        for row in form.to_preferences(one.task, one.completions, answer)
    ]
    undecided = sum(form.undecided(answer.payload) is not None for _, answer in given)
    counts = {
        "comparisons": len(given),
        "strict": len(given) - undecided,
        "ties": undecided,
        "people": len({answer.annotator for _, answer in given}),
    }
    return found, counts


def what_lacks(store: Store, seed: int) -> str | None:
    """Why training cannot begin yet; None when it can."""
    found, counts = preferences(store)
    if counts["strict"] < LEAST:
        return (
            f"{counts['strict']} answers prefer one side; training needs at least {LEAST}: "
            "answer some more"
        )
    try:
        split_by_prompt(found, HELD_OUT_SHARE, seed)
    except DataError:
        return "all answers so far are about prompts of one split; answer some more"
    return None


def freeze(store: Store, out: Path) -> Frozen:
    """Fix what training learns from: answers that come later change nothing of this run."""
    _, counts = preferences(store)
    snapshot = make_snapshot(store, PROJECT, "preference", out)
    done = Frozen(path=snapshot.path, counts=counts)
    write_text(out / "labels.json", json.dumps(asdict(done)))
    return done


def frozen(out: Path) -> Frozen | None:
    """What was fixed before an interruption; None when nothing was."""
    file = out / "labels.json"
    return Frozen(**json.loads(file.read_text())) if file.exists() else None


def end(store: Store, host: Host, result: dict[str, JSON], say: Say) -> None:
    """Queue the blind comparison, and keep the studio open for it."""
    num = queue_blind(store, result["policy"])
    host.goal.blind = BLIND if num else ""
    host.goal.stage = "done"
    say(f"      old and new answers to compare blind: {host.address}/projects/{BLIND}/label")
    host.wait_for_enter(say)
    result |= verdict(store, result["policy"])


def queue_blind(store: Store, policy: str) -> int:
    """Held-out answers of the policy beside those of its start; how many tasks there are."""
    with store.write() as tx:
        base = models.get(tx, policy).parents[0]
        answered = completions.by_both(tx, base, policy, limit=1000)
        asked = [
            Task(
                form="pairwise",
                prompt=old.prompt,
                completion_ids=(old.id, new.id),
                reason="evaluation",
            )
            for old, new in answered
            if old.text != new.text
        ]
        title = "Old or new? A blind comparison"
        projects.add(tx, demo_project(BLIND, title))
        projects.add_tasks(tx, BLIND, asked)
    return len(asked)


def verdict(store: Store, policy: str) -> dict[str, JSON]:
    """The policy's win rate in the blind comparison by people; empty before the first answer."""
    wins = ties = losses = 0
    with store.read() as tx:
        if BLIND not in {one.dataset for one in projects.list_all(tx)}:
            return {}
        asked = tasks.by_dataset(tx, BLIND)
    for one in asked:
        authors = {key: row.model for key, row in one.completions.items()}
        for answer in one.annotations:
            author = authors.get(answer.payload["preferred"])
            wins += author == policy
            losses += author not in (policy, None)
            ties += author is None
    if not wins + ties + losses:
        return {}
    found = win_rate(wins, ties, losses)
    return {
        "human_win_rate": found.value,
        "human_win_rate_ci": [found.low, found.high],
        "human_comparisons": wins + ties + losses,
    }


def verdict_lines(result: dict[str, Any]) -> list[str]:
    """The blind comparison as printed; nothing before it has an answer."""
    if "human_win_rate" not in result:
        return []
    low, high = result["human_win_rate_ci"]
    return [
        f"your own blind comparison: the policy wins {100 * result['human_win_rate']:.1f} % of "
        f"{result['human_comparisons']} (95 % interval {100 * low:.1f} to {100 * high:.1f})"
    ]
