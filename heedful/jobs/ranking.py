"""``heedful rank``: which tasks of a project are worth asking next, by rewards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from heedful.errors import DataError
from heedful.jobs import models
from heedful.jobs.rewards import check_reward
from heedful.jobs.slice_ranking import find_card, score_by_slice
from heedful.jobs.task_scores import OF_SCORES, design_scores, open_scores
from heedful.registry import nearest
from heedful.store import feedback, picking, projects, tasks
from heedful.store import models as model_table
from heedful.store.database import Store, Transaction
from heedful.store.page import chunks
from heedful.store.tasks import AnsweredTask

MAX_TOKENS = 4096
MAX_KNOWN = 2_000  # answered tasks that a design goes on from


@dataclass(frozen=True, slots=True, kw_only=True)
class RankResult:
    """What was scored: tasks that nobody was given yet, and those that a model cannot read.

    ``models`` scored them, or the reward card of one of them, whose directory is ``card``.
    """

    project: str
    strategy: str
    models: tuple[str, ...]
    num_tasks: int
    num_left_out: int
    card: str | None = None


def rank(
    store: Store,
    project: str,
    *,
    strategy: str | None = None,
    names: Sequence[str] = (),
    card: Path | None = None,
    max_tokens: int = MAX_TOKENS,
) -> RankResult:
    """Score the tasks of a project that nobody was given, for its strategy or another one.

    ``disagreement`` and ``bald`` take at least two reward models or an ensemble, ``margin`` and
    ``d_optimal`` one model, the latter of an ensemble its first member: those named, otherwise
    those that were fitted to the project's answers, of which the newest is enough when it is an
    ensemble or when one is. A name may be that of a rule or the directory of a sequence classifier;
    ``d_optimal`` takes neither. ``by_slice`` takes a reward ``card``, otherwise the newest one of
    these models, and loads none. Tasks with a conversation above ``max_tokens``, or one that a
    model's template refuses, and those of one answer where margins count, lose the score that they
    had and come at random only. Raises
    ``DataError`` when there are too few models or a template refuses every task.
    """
    with store.read() as tx:
        found = projects.get(tx, project)
        chosen = strategy or found.strategy
        if chosen not in projects.STRATEGIES:
            raise DataError(
                f"strategy is {chosen!r}; {nearest(chosen, set(projects.STRATEGIES) - {'random'})}"
            )
        if chosen == "random":
            raise DataError(
                f"strategy is {chosen!r}, which needs no scores; choose "
                f"{', '.join(projects.STRATEGIES[1:-1])} or {projects.STRATEGIES[-1]} on the "
                "project's page or with --strategy"
            )
        fresh = picking.fresh_tasks(tx, project)
        asked = _read(tx, fresh)
        is_design = chosen == "d_optimal"
        known = feedback.answered_tasks(tx, project, most=MAX_KNOWN) if is_design else []
        answered = _read(tx, known)
    given, names = bool(names), tuple(names) or fitted_rewards(store, project)
    if chosen == "by_slice":
        card = card or find_card(store, names)
        save(store, project, chosen, score_by_slice(store, card, asked))
        return RankResult(
            project=project,
            strategy=chosen,
            models=(),
            num_tasks=len(asked),
            num_left_out=0,
            card=str(card),
        )
    for name in names if given else ():
        check_reward(name, store)
    least = 2 if chosen in ("disagreement", "bald") else 1
    is_enough = is_design or (not given and num_members(store, names[:1]) >= least)
    names = names[:1] if is_enough else names
    if num_members(store, names) < least:
        raise DataError(
            f"{chosen} needs {least} reward models of project {project!r} and there is "
            f"{len(names)}; fit one more with another seed, or an ensemble: heedful fit reward "
            f"--data {project} ensemble.members=4"
        )
    several = [one for one in asked if len(one.task.completion_ids) > 1]
    if chosen in OF_SCORES and asked and not several:
        raise DataError(
            f"all {len(asked)} tasks of project {project!r} show one answer, so there is no "
            "margin; choose d_optimal"
        )
    if is_design:
        scores = design_scores(store, names[0], asked, answered, max_tokens)
    else:
        scores = open_scores(store, chosen, names, several, max_tokens)
    save(store, project, chosen, {one.task.id: scores.get(one.task.id) for one in asked})
    return RankResult(
        project=project,
        strategy=chosen,
        models=tuple(names),
        num_tasks=len(scores),
        num_left_out=len(asked) - len(scores),
    )


def _read(tx: Transaction, ids: Sequence[str]) -> list[AnsweredTask]:
    return [one for chunk in chunks(ids) for one in tasks.get(tx, chunk).values()]


def save(store: Store, project: str, strategy: str, scores: Mapping[str, float | None]) -> None:
    """Keep what the strategy says of the tasks, in parts: nobody draws meanwhile.

    A task without a score loses the one that it had.
    """
    for chunk in chunks(sorted(scores)):
        with store.write() as tx:
            picking.set_scores(tx, project, strategy, {task: scores[task] for task in chunk})


def fitted_rewards(store: Store, project: str) -> tuple[str, ...]:
    """The ids of the reward models that learned from a project's answers, newest first."""
    with store.read() as tx:
        return tuple(model_table.rewards_of(tx, project))


def num_members(store: Store, names: Sequence[str]) -> int:
    """How many reward models the named ones are, every member of an ensemble counted."""
    cards = [models.find_model(name, store).card() for name in names]
    return sum(card.members if card else 1 for card in cards)
