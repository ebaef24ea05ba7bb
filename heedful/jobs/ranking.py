"""``heedful rank``: which tasks of a project are worth asking next, by its reward models."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from heedful.data.chat import encode_prompt, encode_response
from heedful.data.collate import Tree, packed
from heedful.errors import DataError
from heedful.jobs import models
from heedful.jobs.progress import progress
from heedful.model.adapter_files import load_role
from heedful.model.forward import hidden_states, pool
from heedful.model.trunk import Trunk
from heedful.reward.trained import TrainedReward
from heedful.select import design_gains, margin_variance
from heedful.store import models as model_table
from heedful.store import picking, projects, snapshots, tasks
from heedful.store.database import Store
from heedful.store.page import chunks
from heedful.store.tasks import AnsweredTask

MAX_TOKENS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class RankResult:
    """What was scored: tasks that nobody was given yet, and those too long for the models."""

    project: str
    strategy: str
    models: tuple[str, ...]
    num_tasks: int
    num_too_long: int


def rank(
    store: Store,
    project: str,
    *,
    strategy: str | None = None,
    names: Sequence[str] = (),
    max_tokens: int = MAX_TOKENS,
) -> RankResult:
    """Score the tasks of a project that nobody was given, for its strategy or another one.

    ``disagreement`` takes at least two reward models, ``d_optimal`` one: those named, otherwise
    those that were fitted to the project's answers. Tasks with a conversation above ``max_tokens``
    keep no score and come at random only. Raises ``DataError`` when there are too few models.
    """
    with store.read() as tx:
        found = projects.get(tx, project)
        chosen = strategy or found.strategy
        if chosen not in projects.STRATEGIES or chosen == "random":
            raise DataError(
                f"strategy is {chosen!r}, which needs no scores; choose disagreement or d_optimal "
                "on the project's page or with --strategy"
            )
        fresh = picking.fresh_tasks(tx, project)
        asked = [one for chunk in chunks(fresh) for one in tasks.get(tx, chunk).values()]
    names = tuple(names) or fitted_rewards(store, project)
    names = names if chosen == "disagreement" else names[:1]
    least = 2 if chosen == "disagreement" else 1
    if len(names) < least:
        raise DataError(
            f"{chosen} needs {least} reward models of project {project!r} and there is "
            f"{len(names)}; fit one more with another seed: heedful fit reward --data {project}"
        )
    if chosen == "disagreement" and found.form in ("demonstration", "critique", "steps"):
        raise DataError(f"{found.form} shows one answer, so there is no margin; choose d_optimal")
    scores = _scores(store, chosen, names, asked, max_tokens)
    for chunk in chunks(sorted(scores)):
        with store.write() as tx:
            picking.set_scores(tx, project, chosen, {task: scores[task] for task in chunk})
    return RankResult(
        project=project,
        strategy=chosen,
        models=tuple(names),
        num_tasks=len(scores),
        num_too_long=len(asked) - len(scores),
    )


def fitted_rewards(store: Store, project: str) -> tuple[str, ...]:
    """The ids of the reward models that learned from a project's answers, newest first."""
    with store.read() as tx:
        return tuple(
            model.id
            for model in reversed(model_table.list_all(tx))
            if model.role == "reward"
            and model.snapshot is not None
            and snapshots.get(tx, model.snapshot).dataset == project
        )


def _scores(
    store: Store, strategy: str, names: Sequence[str], asked: Sequence[AnsweredTask], limit: int
) -> dict[str, float]:
    """What the strategy says of every task that fits, by task."""
    refs = [models.find_model(name, store) for name in names]
    trunk = models.open_trunk(refs[0], dtype="auto")
    trees = _trees(trunk, asked, limit)
    if not trees:
        return {}
    # the answers of a task may together be longer than one conversation
    widest = max(limit, *(tree.num_tokens + len(tree.responses) for tree in trees))
    values = []
    for number, ref in enumerate(refs):
        if ref.adapter is None:
            raise DataError(f"{names[number]} is a base model; name a reward model")
        role = f"reward {number}"
        card = load_role(trunk, Path(ref.adapter), role)
        if card.role != "reward":
            raise DataError(f"{names[number]} is a {card.role} model; name a reward model")
        if strategy == "d_optimal":
            gains = design_gains(_features(trunk, trees, role, widest))
            return dict(zip((tree.id for tree in trees), gains.tolist(), strict=True))
        reward = TrainedReward(trunk, role=role, mean=card.mean, std=card.std)
        with progress(f"score with {names[number]}", len(trees)) as advance:
            values.append(reward.score_trees(trees, widest, advance))
    members = zip(*values, strict=True)
    return {tree.id: margin_variance(scores) for tree, scores in zip(trees, members, strict=True)}


def _trees(trunk: Trunk, asked: Sequence[AnsweredTask], limit: int) -> list[Tree]:
    """The tasks as token ids; those with a conversation above the limit are left out."""
    trees = []
    for one in asked:
        shown = [one.completions[completion] for completion in one.task.completion_ids]
        tree = Tree(
            id=one.task.id,
            prompt=encode_prompt(trunk.tokenizer, one.task.prompt),
            responses=tuple(
                encode_response(trunk.tokenizer, one.task.prompt, each.messages) for each in shown
            ),
        )
        if len(tree.prompt) + max(map(len, tree.responses)) <= limit:
            trees.append(tree)
    return trees


@torch.no_grad()
def _features(
    trunk: Trunk, trees: Sequence[Tree], role: str, limit: int
) -> list[np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    """What the reward's head sees of every answer, by task: shape [answers, width]."""
    rows: list[torch.Tensor] = []
    with progress("features", len(trees)) as advance:
        for batch in packed(trees, trunk.device, limit, advance):
            states = hidden_states(trunk, batch, role)
            rows += pool(states, batch, trunk.pooling[role]).double().cpu()
    flat = iter(rows)
    return [torch.stack([next(flat) for _ in tree.responses]).numpy() for tree in trees]
