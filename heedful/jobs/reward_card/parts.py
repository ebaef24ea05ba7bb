"""What a card says of the parts of a reward model: each beside what people said of it."""

from collections.abc import Sequence
from typing import Any

from heedful.config import RewardCardConfig
from heedful.data.examples import feedback_trees
from heedful.data.parts import about
from heedful.jobs.fit.parts import part_metrics, score_figures
from heedful.jobs.progress import progress
from heedful.model.parts import Mix
from heedful.model.trunk import Trunk
from heedful.monitor.reward_card import PartFigures
from heedful.reward.trained import TrainedReward
from heedful.types import OVERALL, Feedback


def measure_parts(
    config: RewardCardConfig, trunk: Trunk, rows: Sequence[Feedback]
) -> list[PartFigures]:
    """The figures of every part on feedback; none for a model of one score.

    Comparisons say nothing of ratings and flags; a part is measured on them all the same, and where
    there are none, on the pairs that its own ratings imply.
    """
    known = trunk.parts.get("reward")
    if known is None:
        return []
    trees = feedback_trees(trunk.tokenizer, rows, max_tokens=trunk.max_tokens).trees
    with progress("parts", len(trees)) as advance:
        outputs = TrainedReward(trunk).outputs_of(trees, config.tokens_per_micro_step, advance)
    figures: Any = part_metrics(trunk, trees, outputs, seed=config.seed)["parts"]
    whole = [about(tree, OVERALL, known.parts) for tree in trees]
    values = known.shown(outputs).double().cpu().numpy()
    found = []
    for place, part in enumerate(known.parts):
        direction = -1 if part.kind == "flag" else 1
        on_pairs: Any = score_figures(direction * values[:, place], whole, config.seed)
        own = figures[part.name]
        if not on_pairs["num_pairs"] and part.kind == "score":
            on_pairs = own
        low, high = own.get("concordance_ci", (None, None))
        found.append(
            PartFigures(
                name=part.name,
                kind=part.kind,
                weight=stated(known.mix, part.name),
                on_pairs=on_pairs.get("accuracy"),
                num_pairs=on_pairs["num_pairs"],
                concordance=own.get("concordance"),
                low=low,
                high=high,
                num_raised=own.get("num_raised"),
                num_asked=own.get("num"),
                average_precision=own.get("average_precision"),
            )
        )
    return found


def stated(mix: Mix, name: str) -> str:
    """The say of a part in the reward: ``2``, ``penalty 1`` or ``veto above 0.5``."""
    words = []
    if name in mix.weights:
        words.append(f"{mix.weights[name]:g}")
    if name in mix.penalties:
        words.append(f"penalty {mix.penalties[name]:g}")
    if name in mix.limits:
        words.append(f"veto above {mix.limits[name]:g}")
    return ", ".join(words) or "0"
