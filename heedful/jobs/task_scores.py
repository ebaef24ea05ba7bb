"""How much rewards leave open about tasks: the figures by which ``heedful rank`` orders them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jinja2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from heedful.data.collate import Advance, Tree, packed
from heedful.errors import DataError
from heedful.jobs import models
from heedful.jobs.progress import progress
from heedful.jobs.rewards import is_classifier, open_reward, reads_texts
from heedful.model.forward import head_outputs, hidden_states, pool
from heedful.model.trunk import Trunk
from heedful.reward.ensemble import EnsembleReward, by_tree, load_reward
from heedful.reward.reading import answers_tree
from heedful.reward.scorers import Reader, TreeScores
from heedful.reward.sequence import ClassifierReward
from heedful.reward.texts import TextReward
from heedful.reward.trained import TrainedReward
from heedful.select import bald, closeness, design_gains, margin_variance, pair_information
from heedful.store.database import Store
from heedful.store.page import chunks
from heedful.store.tasks import AnsweredTask
from heedful.types import Message, Prompt

TREES_AT_ONCE = 64  # between two signs of progress
TreeMaker = Callable[[str, Prompt, Sequence[Sequence[Message]]], Tree]
ScoresByTask = dict[str, list[float]]
# What says how much the scores of several models, or of one, leave open about a task.
OF_SCORES: Mapping[str, Callable[[ArrayLike], float]] = {
    "disagreement": margin_variance,
    "bald": bald,
    "margin": closeness,
}


def open_scores(
    store: Store, strategy: str, names: Sequence[str], asked: Sequence[AnsweredTask], limit: int
) -> dict[str, float]:
    """What a strategy of ``OF_SCORES`` says of every task that all models can read, by task."""
    apart = [name for name in names if is_apart(name, store)]
    members = [_scores_apart(store, name, strategy, asked, limit) for name in apart]
    if on_base := [name for name in names if name not in apart]:
        members += _scores_on_base(store, on_base, strategy, asked, limit)
    read = [task for task in members[0] if all(task in one for one in members)]
    return {task: OF_SCORES[strategy]([one[task] for one in members]) for task in read}


def design_scores(
    store: Store,
    name: str,
    asked: Sequence[AnsweredTask],
    answered: Sequence[AnsweredTask],
    limit: int,
) -> dict[str, float]:
    """What each task adds to the design of what is answered, by task (``select.design_gains``).

    Raises ``DataError`` for a reward that has no states of a base.
    """
    if is_apart(name, store):
        raise DataError(
            f"d_optimal takes the states of a reward model that Heedful fitted on a base, and "
            f"{name} is none; name one, or choose disagreement"
        )
    ref = models.find_model(name, store)
    trunk = models.open_trunk(ref, dtype="auto")
    trees = _trees(tree_maker(trunk), asked, limit)
    if not trees:
        return {}
    known = _trees(tree_maker(trunk), answered, limit)
    reward = _load(trunk, ref)
    role = reward.role if isinstance(reward, TrainedReward) else reward.feature_role
    blocks, weights = _features(trunk, [*known, *trees], role, _widest([*known, *trees], limit))
    gains = design_gains(blocks, weights=weights, num_asked=len(known))[len(known) :]
    return {tree.id: float(gain) for tree, gain in zip(trees, gains, strict=True)}


def is_apart(name: str, store: Store) -> bool:
    """Does it run without one of our adapters: a rule, features, a sequence classifier?"""
    return reads_texts(name, store) or is_classifier(name, store)


def _scores_on_base(
    store: Store, names: Sequence[str], strategy: str, asked: Sequence[AnsweredTask], limit: int
) -> list[ScoresByTask]:
    """The scores of each model, or of each member of an ensemble; all stand on one base."""
    refs = [models.find_model(name, store) for name in names]
    trunk = models.open_trunk(refs[0], dtype="auto")
    trees = _trees(tree_maker(trunk), asked, limit)
    if not trees:
        return [{}]
    widest = _widest(trees, limit)
    members: list[ScoresByTask] = []
    for number, (name, ref) in enumerate(zip(names, refs, strict=True)):
        reward = _load(trunk, ref, number)
        # only chances know the scale of the loss; between models, deviations compare
        unit = log_odds_unit(reward) if strategy == "bald" else 1.0
        with progress(f"score with {name}", len(trees)) as advance:
            for rows in _member_scores(reward, trees, widest, advance):
                members.append(_by_task(trees, rows, unit))
    return members


def _scores_apart(
    store: Store, name: str, strategy: str, asked: Sequence[AnsweredTask], limit: int
) -> ScoresByTask:
    """The scores of a reward apart; ``limit`` is in tokens, which texts have not."""
    reward = open_reward(name, store)
    assert isinstance(reward, TextReward | ClassifierReward)
    is_text = isinstance(reward, TextReward)
    longest = reward.max_tokens if is_text else min(limit, reward.max_tokens)
    trees = _trees(reward.tree, asked, longest)
    rows: TreeScores = []
    with progress(f"score with {reward.name}", len(trees)) as advance:
        for chunk in chunks(trees, TREES_AT_ONCE):
            rows += reward.score(chunk)
            advance(len(chunk))
    return _by_task(trees, rows, unit_apart(reward, strategy, rows, models.is_rule(name)))


def _by_task(trees: Sequence[Tree], rows: TreeScores, unit: float) -> ScoresByTask:
    return {tree.id: [unit * one for one in row] for tree, row in zip(trees, rows, strict=True)}


def log_odds_unit(reward: TrainedReward | EnsembleReward) -> float:
    """What a difference of 1 between scores, or between those of a member, is in log-odds."""
    return reward.std if isinstance(reward, TrainedReward) else reward.members[0].std


def unit_apart(
    reward: TextReward | ClassifierReward,
    strategy: str,
    rows: Sequence[Sequence[float]],
    is_rule: bool,
) -> float:
    """What scores are multiplied by, so that those of several rewards compare.

    ``bald`` needs log-odds. A reward that Heedful fitted states its deviation in them, the logit of
    any other classifier is taken as one, and a rule, which knows nothing of chances, is taken as
    if a deviation of its scores were one unit. The other strategies need deviations, which are
    those of the scores at hand where a reward states none.
    """
    std = None if is_rule else reward.std
    if strategy == "bald" and not is_rule:
        return 1.0 if std is None else std
    if std is not None:
        return 1.0
    return 1 / (float(np.std([one for row in rows for one in row] or [1.0])) or 1.0)


def _load(trunk: Trunk, ref: models.ModelRef, number: int = 0) -> TrainedReward | EnsembleReward:
    assert ref.adapter is not None, "check_reward refuses a base"
    return load_reward(trunk, Path(ref.adapter), f"reward {number}")[0]


def _member_scores(
    reward: TrainedReward | EnsembleReward, trees: Sequence[Tree], limit: int, advance: Advance
) -> list[TreeScores]:
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


def _widest(trees: Sequence[Tree], limit: int) -> int:
    """Tokens of a pass: the answers of a task may together be longer than one conversation."""
    return max([limit, *(tree.num_tokens + len(tree.responses) for tree in trees)])


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
