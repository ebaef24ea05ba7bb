"""How a fitted reward is measured on held-out feedback, and what is kept of its links."""

from collections.abc import Sequence

import numpy as np

from heedful.data.collate import Tree
from heedful.data.reading import compared, single_values
from heedful.jobs.fit.accuracy import accuracy_of, concordances_of, measured_of
from heedful.jobs.fit.parts import overall_trees, part_metrics, sampled
from heedful.jobs.progress import progress
from heedful.model.trunk import Trunk
from heedful.reward.ensemble import EnsembleReward
from heedful.reward.trained import TrainedReward, pair_deltas
from heedful.train.crowd import SKILLS
from heedful.train.raters import OFFSETS
from heedful.types import JSON

NUM_ANSWERS = 256  # that the moments of a reward are taken from


def feedback_metrics(
    trunk: Trunk,
    trees: Sequence[Tree],
    max_tokens: int,
    *,
    seed: int,
    ensemble: EnsembleReward | None = None,
) -> dict[str, JSON]:
    """Held-out agreement with what was said, whatever its form.

    ``accuracy`` and what rests on it are about pairs of answers to one prompt. Ratings and thumbs
    also have a ``concordance``, over all pairs of prompts; it is the ``accuracy`` when no prompt
    has two answers that were told apart. A model with several parts also has the ``mix`` that was
    measured and figures of each part (``part_metrics``).
    """
    whole = overall_trees(trunk, trees)
    paired = [tree for tree in map(compared, whole) if tree.pairs]
    metrics = reward_metrics(trunk, paired, max_tokens, ensemble)
    singles = single_values(whole)
    has_parts = "reward" in trunk.parts
    if not singles and not has_parts:
        return metrics
    reward = TrainedReward(trunk)
    with progress("held-out answers", len(trees)) as advance:
        if ensemble is None:
            outputs = reward.outputs_of(trees, max_tokens, advance)
            scores = reward.mixed(outputs).tolist()
        else:
            scored = ensemble.score_trees(trees, max_tokens, advance)
            scores = [score for of_tree in scored for score in of_tree]
    if has_parts:
        metrics |= part_metrics(trunk, trees, outputs, seed=seed)
    return metrics | concordances_of(scores, singles, seed=seed, is_alone="accuracy" not in metrics)


def reward_metrics(
    trunk: Trunk, trees: Sequence[Tree], max_tokens: int, ensemble: EnsembleReward | None = None
) -> dict[str, JSON]:
    """Held-out accuracy, ECE and temperature from score differences.

    Of an ensemble those of its aggregate, with the accuracy of every member.
    """
    if not trees:
        return accuracy_of((), trees)
    with progress("held-out pairs", len(trees)) as advance:
        if ensemble is None:
            deltas = pair_deltas(trunk, trees, max_tokens=max_tokens, advance=advance)
            return measured_of(deltas, trees)
        whole, members = ensemble.pair_deltas(trees, max_tokens, advance)
    rates = ((np.sign(members) + 1) / 2).mean(axis=0)
    return measured_of(whole.tolist(), trees) | {"member_accuracy": rates.tolist()}


def reward_moments(
    trunk: Trunk, trees: Sequence[Tree], max_tokens: int, ensemble: EnsembleReward | None = None
) -> tuple[float, float]:
    """Mean and deviation of the reward on about 256 training answers, drawn by prompt.

    In the demo these answers are samples of the start policy.
    """
    some: list[Tree] = []
    for number in np.random.default_rng(len(trees)).permutation(len(trees)):
        if sum(len(tree.responses) for tree in some) >= NUM_ANSWERS:
            break
        some.append(trees[number])
    with progress("centre scores", len(some)) as advance:
        if ensemble is not None:
            return ensemble.normalise(some, max_tokens, advance)
        outputs = TrainedReward(trunk).outputs_of(some, max_tokens, advance)
    if "reward" in trunk.parts:
        return sampled(trunk, outputs)
    values = outputs.squeeze(-1).double().cpu().numpy()
    return float(values.mean()), max(float(values.std()), 1e-3)


def links_of(trunk: Trunk, roles: Sequence[str] = ("reward",)) -> dict[str, JSON]:
    """What lies between scores and judgements, as it is saved; nothing for plain pairs.

    Of an ensemble the links are those of each member. Skills and offsets are left to
    ``jobs.fit.annotators``, which names whose they are.
    """
    penalty = trunk.length_penalty.get("reward")
    found: dict[str, JSON] = {"length_penalty": penalty} if penalty else {}
    values: list[JSON] = [
        {
            name: value.detach().cpu().tolist()
            for name, value in trunk.links[role].items()
            if name not in SKILLS and not name.endswith(OFFSETS)
        }
        for role in roles
    ]
    if values[0]:
        found["links"] = values[0] if len(roles) == 1 else values
    return found
