"""The named parts of ``fit reward``: heads, start, mix, and how they are measured."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from heedful.config import RewardConfig, RewardLoss
from heedful.data.collate import Tree
from heedful.data.parts import about
from heedful.data.reading import Reading, compared, single_values
from heedful.errors import ConfigError
from heedful.jobs.progress import progress
from heedful.maths.judgements import positive_weights
from heedful.model.parts import Mix, Parts
from heedful.model.trunk import Trunk
from heedful.reward.mixing import default_mix, in_words, mixed
from heedful.reward.part_probe import Labels, start_parts
from heedful.stats.concordance import concordance
from heedful.stats.precision import average_precision
from heedful.types import JSON, OVERALL, Part

NUM_PARTNERS = 4  # answers to other prompts that an answer judged alone is compared with at first


def mix_of(loss: RewardLoss, parts: Sequence[Part]) -> Mix:
    """The mix that a run begins with; raises ``ConfigError`` for one that cannot be."""
    start = default_mix(parts, loss)
    if loss.mix is not None:
        if not parts:
            raise ConfigError(
                f"loss.mix is {loss.mix!r} and the model has one score; set loss.heads=criteria or "
                "loss.flags=penalty"
            )
        return mixed(parts, start, loss.mix)
    if parts and not start.weights and not start.penalties:
        raise ConfigError(
            "loss.flags is 'veto' and there is nothing but flags to learn from, so all answers "
            "that pass would be alike; use loss.flags=penalty"
        )
    return start


def add_parts(trunk: Trunk, loss: RewardLoss, parts: tuple[Part, ...]) -> None:
    """Name the outputs of the reward head; a single score stays without a name."""
    mix = mix_of(loss, parts)
    if parts:
        empty = torch.zeros(0, len(parts), device=trunk.device)
        trunk.parts["reward"] = Parts(parts=parts, mix=mix, sample=empty)


def flag_weights(trees: Sequence[Tree], reading: Reading) -> dict[str, float]:
    """What a raised flag counts for beside one that was not, by flag."""
    found = {}
    for name in reading.flags:
        marks = [mark for tree in trees for mark in tree.flags.get(name, ())]
        raised = torch.tensor([[float(mark.value > 0)] for mark in marks])
        observed = torch.ones_like(raised, dtype=torch.bool)
        found[name] = positive_weights(raised, observed).item()
    return found


def start_heads(
    config: RewardConfig, trunk: Trunk, trees: Sequence[Tree], parts: Sequence[Part]
) -> None:
    """Set every head to the probe of what was said of its part."""
    labels = {part.name: labels_of(trees, part, parts, config.seed) for part in parts}
    with progress("probe", len(trees)) as advance:
        start_parts(
            trunk,
            trees,
            labels,
            max_tokens=config.batch.tokens_per_micro_step,
            advance=advance,
        )


def labels_of(trees: Sequence[Tree], part: Part, parts: Sequence[Part], seed: int) -> Labels:
    """What was said of one part, as the probe reads it."""
    firsts = np.cumsum([0, *(len(tree.responses) for tree in trees)]).tolist()
    if part.kind == "flag":
        return Labels(
            raised=tuple(
                (first + mark.response, mark.value > 0)
                for first, tree in zip(firsts, trees, strict=False)
                for mark in tree.flags.get(part.name, ())
            )
        )
    own = [about(tree, part.name, parts) for tree in trees]
    within = [
        (first + better, first + worse)
        for first, tree in zip(firsts, own, strict=False)
        for better, worse in compared(tree).pairs
    ]
    return Labels(pairs=(*within, *pairs_across(own, seed)))


def pairs_across(trees: Sequence[Tree], seed: int) -> list[tuple[int, int]]:
    """Pairs (better, worse) of answers judged alone, each with a few others, over all prompts.

    The probe that a head starts from reads pairs; the losses read ratings and thumbs as they are.
    """
    rng = np.random.default_rng([seed, len(trees)])
    pairs: list[tuple[int, int]] = []
    for found in single_values(trees).values():
        values, responses = np.array(found.values), np.array(found.responses)
        for number, value in enumerate(values):
            others = np.flatnonzero((values != value) & (responses != responses[number]))
            for other in rng.permutation(others)[:NUM_PARTNERS]:
                better, worse = (number, other) if value > values[other] else (other, number)
                pairs.append((int(responses[better]), int(responses[worse])))
    return pairs


def sampled(trunk: Trunk, outputs: torch.Tensor) -> tuple[float, float]:
    """Keep what the parts say of some answers; mean and deviation of the reward on them."""
    parts = replace(trunk.parts["reward"], sample=outputs.float())
    trunk.parts["reward"] = parts
    return parts.moments()


def part_metrics(
    trunk: Trunk, trees: Sequence[Tree], outputs: torch.Tensor, *, seed: int
) -> dict[str, JSON]:
    """What every part says of held-out answers beside what people said of it, by part.

    Of scores the share of pairs of unequal ratings in order, within prompts (``accuracy``) and over
    all (``concordance``); of a group that of its own pairs, beside what the overall part has right
    of them. Of flags the area under the ROC curve and the average precision, beside the share of
    answers on which they were raised, which is the precision of chance. A part of which too little
    was said is left without figures.
    """
    known = trunk.parts["reward"]
    values = known.shown(outputs).double().cpu().numpy()
    found: dict[str, JSON] = {}
    groups = {one.group for tree in trees for one in tree.said}
    for place, part in enumerate(known.parts):
        own = [about(tree, part.name, known.parts) for tree in trees]
        measure = flag_figures if part.kind == "flag" else score_figures
        figures = measure(values[:, place], own, seed)
        if part.name in groups:
            of_all = score_figures(values[:, 0], own, seed)
            figures["overall_accuracy"] = of_all.get("accuracy")
        found[part.name] = figures
    return {"mix": in_words(known.mix), "parts": found}


def score_figures(scores: NDArray[np.float64], trees: Sequence[Tree], seed: int) -> dict[str, JSON]:
    """Accuracy on pairs of answers to one prompt, and concordance of ratings or thumbs over all."""
    first, right, num = 0, 0.0, 0
    for tree in trees:
        for better, worse in compared(tree).pairs:
            right += (np.sign(scores[first + better] - scores[first + worse]) + 1) / 2
            num += 1
        first += len(tree.responses)
    found: dict[str, JSON] = {"num_pairs": num}
    if num:
        found["accuracy"] = right / num
    for said in single_values(trees).values():
        if len(set(said.values)) > 1:
            found |= agreement(scores[said.responses], said.values, said.trees, seed)
            break
    return found


def flag_figures(scores: NDArray[np.float64], trees: Sequence[Tree], seed: int) -> dict[str, JSON]:
    """How well a flag's probabilities tell the answers on which it was raised."""
    responses: list[int] = []
    raised: list[float] = []
    prompts: list[int] = []
    first = 0
    for number, tree in enumerate(trees):
        for one in tree.said:
            responses.extend(first + response for response in one.responses)
            raised.extend(float(value > 0) for value in one.values)
            prompts.extend([number] * len(one.values))
        first += len(tree.responses)
    found: dict[str, JSON] = {"num": len(raised), "num_raised": int(sum(raised))}
    if 0 < sum(raised) < len(raised):
        found["average_precision"] = average_precision(scores[responses], raised)
        found["mean_probability"] = float(scores[responses].mean())
        found |= agreement(scores[responses], raised, prompts, seed)
    return found


def agreement(
    scores: NDArray[np.float64], values: Sequence[float], clusters: Sequence[int], seed: int
) -> dict[str, JSON]:
    """Concordance with its interval, where prompts enough were asked about."""
    if len(set(clusters)) < 2:
        return {}
    one = concordance(scores, values, clusters=clusters, rng=np.random.default_rng(seed))
    return {"concordance": one.value, "concordance_ci": [one.low, one.high]}


def overall_trees(trunk: Trunk, trees: Sequence[Tree]) -> list[Tree]:
    """Trees with what was said of the answers as a whole, which is what the reward is measured by.

    A criterion with a part of its own is measured by that part.
    """
    known = trunk.parts.get("reward")
    if known is None or OVERALL not in known.names:
        return list(trees)
    return [about(tree, OVERALL, known.parts) for tree in trees]
