"""``heedful rank``: which tasks of a project are worth asking next, by rewards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from heedful.data.collate import Advance, Tree, packed
from heedful.errors import DataError
from heedful.jobs import models
from heedful.jobs.progress import progress
from heedful.jobs.rewards import check_reward, is_classifier, open_reward, reads_texts
from heedful.jobs.slice_ranking import find_card, score_by_slice
from heedful.model.forward import head_outputs, hidden_states, pool
from heedful.model.trunk import Trunk
from heedful.reward.ensemble import EnsembleReward, by_tree, load_reward
from heedful.reward.reading import answers_tree
from heedful.reward.scorers import Reader, TreeScores
from heedful.reward.sequence import ClassifierReward
from heedful.reward.texts import TextReward
from heedful.reward.trained import TrainedReward
from heedful.select import bald, closeness, design_gains, margin_variance, pair_information
from heedful.store import feedback, picking, projects, tasks
from heedful.store import models as model_table
from heedful.store.database import Store, Transaction
from heedful.store.page import chunks
from heedful.store.tasks import AnsweredTask
from heedful.types import Message, Prompt

MAX_TOKENS = 4096
TREES_AT_ONCE = 64  # between two signs of progress
TreeMaker = Callable[[str, Prompt, Sequence[Sequence[Message]]], Tree]
MAX_KNOWN = 2_000  # answered tasks that a design goes on from
# What says how much the scores of several models, or of one, leave open about a task.
OF_SCORES: Mapping[str, Callable[[ArrayLike], float]] = {
    "disagreement": margin_variance,
    "bald": bald,
    "margin": closeness,
}


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
    ensemble or when one is. Of a reward that runs no model ``bald`` reads scores as log-odds, which
    they only nearly are. ``by_slice`` takes a reward
    ``card``, otherwise the newest one of these models, and loads none. Tasks with a conversation
    above ``max_tokens`` keep no score and come at random only. Raises ``DataError`` when there are
    too few models.
    """
    with store.read() as tx:
        found = projects.get(tx, project)
        chosen = strategy or found.strategy
        if chosen not in projects.STRATEGIES or chosen == "random":
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
    if chosen in OF_SCORES and found.form in ("demonstration", "critique", "steps"):
        raise DataError(f"{found.form} shows one answer, so there is no margin; choose d_optimal")
    scores = _scores(store, chosen, names, asked, answered, max_tokens)
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


def _scores(
    store: Store,
    strategy: str,
    names: Sequence[str],
    asked: Sequence[AnsweredTask],
    answered: Sequence[AnsweredTask],
    limit: int,
) -> dict[str, float]:
    """What the strategy says of every task that all models can read, by task."""
    on_models = [name for name in names if not is_apart(name, store)]
    if strategy == "d_optimal" and not on_models:
        raise DataError(
            f"d_optimal takes the states of a reward model that Heedful fitted on a base, and "
            f"{names[0]} is none; name one, or choose disagreement"
        )
    members: list[dict[str, list[float]]] = []  # the scores of each by task
    for name in names:
        if name not in on_models:
            apart = open_reward(name, store)
            assert isinstance(apart, TextReward | ClassifierReward)
            rows = _scores_apart(apart, asked, limit)
            factor = unit_apart(apart, strategy, list(rows.values()), models.is_rule(name))
            members.append({task: [factor * one for one in row] for task, row in rows.items()})
    refs = [models.find_model(name, store) for name in on_models]
    trunk = models.open_trunk(refs[0], dtype="auto") if refs else None
    trees = _trees(tree_maker(trunk), asked, limit) if trunk is not None else []
    known = _trees(tree_maker(trunk), answered, limit) if trunk is not None else []
    # the answers of a task may together be longer than one conversation
    widest = max([limit, *(tree.num_tokens + len(tree.responses) for tree in [*known, *trees])])
    for number, ref in enumerate(refs):
        assert trunk is not None
        assert ref.adapter is not None, "check_reward refuses a base"
        reward, _ = load_reward(trunk, Path(ref.adapter), f"reward {number}")
        if not trees:
            return {}
        ids = [tree.id for tree in trees]
        if strategy == "d_optimal":
            role = reward.role if isinstance(reward, TrainedReward) else reward.feature_role
            blocks, weights = _features(trunk, [*known, *trees], role, widest)
            gains = design_gains(blocks, weights=weights, num_asked=len(known))
            return dict(zip(ids, gains[len(known) :].tolist(), strict=True))
        with progress(f"score with {on_models[number]}", len(trees)) as advance:
            # only chances know the scale of the loss; between models, deviations compare
            unit = log_odds_unit(reward) if strategy == "bald" else 1.0
            for scores in _member_scores(reward, trees, widest, advance):
                scaled = [[unit * score for score in row] for row in scores]
                members.append(dict(zip(ids, scaled, strict=True)))
    read = [task for task in members[0] if all(task in one for one in members)]
    return {task: OF_SCORES[strategy]([one[task] for one in members]) for task in read}


def log_odds_unit(reward: TrainedReward | EnsembleReward) -> float:
    """What a difference of 1 between scores, or between those of a member, is in log-odds."""
    return reward.std if isinstance(reward, TrainedReward) else reward.members[0].std


def is_apart(name: str, store: Store) -> bool:
    """Does it run without one of our adapters: a rule, features, a sequence classifier?"""
    return reads_texts(name, store) or is_classifier(name, store)


def _scores_apart(
    reward: TextReward | ClassifierReward, asked: Sequence[AnsweredTask], limit: int
) -> dict[str, list[float]]:
    """The scores of such a reward, by task; ``limit`` is in tokens, which texts have not."""
    is_text = isinstance(reward, TextReward)
    longest = reward.max_tokens if is_text else min(limit, reward.max_tokens)
    trees = _trees(reward.tree, asked, longest)
    found: dict[str, list[float]] = {}
    with progress(f"score with {reward.name}", len(trees)) as advance:
        for chunk in chunks(trees, TREES_AT_ONCE):
            for tree, row in zip(chunk, reward.score(chunk), strict=True):
                found[tree.id] = list(row)
            advance(len(chunk))
    return found


def unit_apart(
    reward: TextReward | ClassifierReward,
    strategy: str,
    rows: Sequence[Sequence[float]],
    is_rule: bool,
) -> float:
    """What scores are multiplied by: to log-odds for ``bald``, else to deviations.

    A reward that Heedful fitted knows its deviation in log-odds; the logit of another classifier is
    in log-odds and a rule in its own unit, so both take the deviation of the scores at hand.
    """
    std = None if is_rule else reward.std
    if strategy == "bald" and not is_rule:
        return 1.0 if std is None else std
    if std is not None:
        return 1.0
    return 1 / (float(np.std([one for row in rows for one in row] or [1.0])) or 1.0)


def _member_scores(
    reward: TrainedReward | EnsembleReward, trees: Sequence[Tree], limit: int, advance: Advance
) -> list[TreeScores]:
    """The scores of a model, or of each member of an ensemble."""
    if isinstance(reward, TrainedReward):
        return [reward.score_trees(trees, limit, advance)]
    return [by_tree(trees, own.tolist()) for own in reward.read_trees(trees, limit, advance).T]


def tree_maker(reader: Reader) -> TreeMaker:
    """How a prompt and its answers become tokens of a base."""
    return lambda id, prompt, answers: answers_tree(reader.tokenizer, id, prompt, answers)


def _trees(tree: TreeMaker, asked: Sequence[AnsweredTask], limit: int) -> list[Tree]:
    """The tasks as token ids; those that the template refuses or above the limit are left out.

    Raises ``DataError`` with the template's reason when it refuses them all.
    """
    trees, refused = [], []
    for one in asked:
        answers = [one.completions[each].messages for each in one.task.completion_ids]
        try:
            made = tree(one.task.id, one.task.prompt, answers)
        except (DataError, jinja2.TemplateError) as error:
            refused.append(error)
            continue
        if len(made.prompt) + max(map(len, made.responses)) <= limit:
            trees.append(made)
    if refused and len(refused) == len(asked):
        raise DataError(
            f"the chat template refuses all {len(asked)} tasks, the first because: {refused[0]}; "
            "name a reward model that reads them"
        )
    return trees


@torch.no_grad()
def _features(
    trunk: Trunk, trees: Sequence[Tree], role: str, limit: int
) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """What the reward's head sees of every answer, by task, shape [answers, width]; and weights.

    A pair weighs what its answer tells beside the head's overall margin. Another task weighs 1, and
    so do all of a head without an overall score, whose outputs are no log-odds.
    """
    place = trunk.parts[role].overall if role in trunk.parts else 0
    rows, scores = [], []
    with progress("features", len(trees)) as advance:
        for batch in packed(trees, trunk.device, limit, advance):
            pooled = pool(hidden_states(trunk, batch, role), batch, trunk.pooling[role])
            outputs = head_outputs(trunk, role, pooled, batch.mask.sum(dim=1))
            rows.append(pooled.double().cpu().numpy())
            overall = outputs.new_zeros(len(outputs)) if place is None else outputs[:, place]
            scores.append(overall.double().cpu().numpy())
    ends = np.cumsum([len(tree.responses) for tree in trees])[:-1]
    by_task = np.split(np.concatenate(scores), ends)
    margins = [one[0] - one[1] if len(one) == 2 else 0.0 for one in by_task]
    return np.split(np.concatenate(rows), ends), pair_information(margins)
