"""Rewards that run no model, made of what annotators measure: a feature network, or a rule."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from heedful.annotators.golds import resolve_gold
from heedful.annotators.text_patterns import PATTERNS, describe
from heedful.errors import DataError
from heedful.model.adapter_files import FEATURES
from heedful.reward.texts import TextReward
from heedful.stats.feature_network import FeatureNetwork

ON_FEATURES = "features"  # the backbone of such a reward on its card


def rule_reward(name: str, rule: str) -> TextReward:
    """The reward behind the name of a rule: a gold, or ``FILE.py:FUNCTION``."""
    gold = resolve_gold(rule)
    return TextReward(
        name=name, reader=f"the rule {rule}", scale=f"rule {rule}", measure=gold.score
    )


def feature_reward(
    name: str, directory: Path, *, mean: float, std: float, weights_hash: str
) -> TextReward:
    """A feature network as a reward; raises ``DataError`` when its features are not ours."""
    return network_reward(
        name, read_network(directory), mean=mean, std=std, weights_hash=weights_hash
    )


def network_reward(
    name: str,
    network: FeatureNetwork,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    weights_hash: str = "",
) -> TextReward:
    """A reward that scores by the features of the answer alone."""

    def measure(_: str, text: str) -> float:
        return float(network.score(np.array([describe(text)]))[0])

    return TextReward(
        name=name,
        reader="a feature network",
        scale="feature network, log-odds",
        measure=measure,
        mean=mean,
        std=std,
        weights_hash=weights_hash,
    )


def write_network(network: FeatureNetwork, directory: Path) -> None:
    """The network's numbers, with the names of its features."""
    tensors: Mapping[str, Any] = asdict(network)
    names = {"features": json.dumps(list(PATTERNS))}
    save_file(dict(tensors), directory / FEATURES, metadata=names)


def read_network(directory: Path) -> FeatureNetwork:
    """The network of a directory. Raises ``DataError`` for a file that is damaged or other's."""
    try:
        with safe_open(directory / FEATURES, framework="numpy") as file:
            names = json.loads((file.metadata() or {}).get("features", "[]"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = FeatureNetwork(**tensors)
    except Exception as error:  # the library has errors of its own for what is damaged
        raise DataError(f"{directory / FEATURES} cannot be read ({error}); fit it again") from error
    if names != list(PATTERNS):
        raise DataError(
            f"{directory / FEATURES} was fitted on features that this version measures otherwise; "
            "fit it again"
        )
    return network
