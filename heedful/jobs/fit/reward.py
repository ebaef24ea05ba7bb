"""``fit reward``: a Bradley-Terry reward model, and how it is measured."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heedful.config import RewardConfig
from heedful.data.collate import Tree
from heedful.data.examples import preference_trees
from heedful.data.snapshot import split_by_prompt
from heedful.jobs.fit.accuracy import accuracy_of
from heedful.jobs.fit.base import (
    FitResult,
    Plan,
    example_source,
    load_rows,
    longest_text,
    open_for,
    run_fit,
    split,
)
from heedful.jobs.progress import progress
from heedful.model.trunk import Trunk
from heedful.reward.probe import warm_start
from heedful.reward.trained import TrainedReward, pair_deltas
from heedful.stats.calibration import ece, fit_temperature
from heedful.store.database import Store
from heedful.train import algorithms, proofs
from heedful.types import JSON


def fit_reward(
    config: RewardConfig, out: Path, *, store: Store | None = None, profile: bool = False
) -> FitResult:
    """Bradley-Terry reward model; reports held-out accuracy with its interval, and ECE."""
    data = load_rows(store, config.data, "preference", out)

    def build() -> Plan:
        algorithm = algorithms.reward(loss=config.loss, params=config.params)
        ref, trunk, _ = open_for(config, store)
        first_layer, depth = config.adapter.span(trunk.num_layers)
        trunk.add_adapter(
            "reward",
            rank=config.adapter.rank,
            alpha=config.adapter.alpha,
            first_layer=first_layer,
            depth=depth,
            seed=config.seed,
        )
        trunk.add_head(
            "reward",
            std=1 / math.sqrt(trunk.width + 1),
            seed=config.seed,
            pooling=config.pooling,
        )
        encoded = preference_trees(
            trunk.tokenizer, data.rows, max_tokens=longest_text(config, trunk)
        ).require("preferences")
        kept, held = split(encoded, *split_by_prompt(data.rows, config.held_out_share, config.seed))
        limit = config.batch.tokens_per_micro_step

        def prove() -> None:
            few = sorted(kept, key=lambda tree: tree.num_tokens)[:2]
            proofs.packing_changes_no_score(trunk, few)
            proofs.swap_flips_sign(trunk, few[0])

        def initialise() -> None:
            if config.warm_start:
                with progress("probe", len(kept)) as advance:
                    warm_start(trunk, kept, max_tokens=limit, advance=advance)

        return Plan(
            trunk=trunk,
            algorithm=algorithm,
            source=example_source(kept, config, trunk, "pairs"),
            initialise=initialise,
            refs=(ref,),
            shown={"reward/loss_nats": "loss", "reward/accuracy_rate": "accuracy"},
            prove=prove,
            finish=lambda: (
                reward_metrics(trunk, held, limit)
                | {"num_train": sum(len(tree.pairs) for tree in kept)}
                | {"drops": dict(encoded.drops)}
            ),
            normaliser=lambda: reward_moments(trunk, kept, limit),
        )

    return run_fit("reward", config, out, store, data, build, profile=profile)


def reward_moments(trunk: Trunk, trees: Sequence[Tree], max_tokens: int) -> tuple[float, float]:
    """Mean and deviation of the reward on up to 256 training answers (card: centred rewards).

    In the demo these answers are samples of the start policy.
    """
    some = list(trees)[: max(1, 256 // max(len(trees[0].responses), 1))]
    with progress("centre scores", len(some)) as advance:
        scored = TrainedReward(trunk).score_trees(some, max_tokens, advance)
    values = np.array([score for scores in scored for score in scores])
    return float(values.mean()), max(float(values.std()), 1e-3)


def reward_metrics(trunk: Trunk, trees: Sequence[Tree], max_tokens: int) -> dict[str, JSON]:
    """Held-out accuracy, ECE and temperature from score differences."""
    if not trees:
        return accuracy_of((), trees)
    with progress("held-out pairs", len(trees)) as advance:
        deltas = np.array(pair_deltas(trunk, trees, max_tokens=max_tokens, advance=advance))
    probabilities = 1 / (1 + np.exp(-deltas))
    return accuracy_of(deltas.tolist(), trees) | {
        "ece": float(ece(probabilities, np.ones(len(deltas)))),
        # rankings without a wrong pair and worse than random ones have no temperature
        "temperature": float(fit_temperature(deltas))
        if (deltas < 0).any() and deltas.mean() > 0
        else None,
        "deltas": [round(float(delta), 5) for delta in deltas],
    }
