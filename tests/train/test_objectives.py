"""Objectives of rollouts against written-out numpy."""

import numpy as np
import torch

from heedful.config import RewardLoss
from heedful.data.collate import Tree, collate
from heedful.tensors import Batch, Outputs
from heedful.train.objectives import Share, feedback_reward, grpo
from heedful.train.sources import count


def batch() -> Batch:
    trees = [Tree(id="a", prompt=(1, 2), responses=((3, 4, 5), (6,))),
             Tree(id="b", prompt=(1,), responses=((7, 8), (9, 3)))]  # fmt: skip
    return collate(trees, torch.device("cpu"))


def filled(rng: np.random.Generator, mask: np.ndarray) -> torch.Tensor:
    """Random log-probabilities, with NaN where nothing may be read."""
    values = np.where(mask, rng.normal(-1, 0.5, size=mask.shape), np.nan)
    return torch.tensor(values, dtype=torch.float32)


def test_grpo_is_the_clipped_loss_plus_k3() -> None:
    from dataclasses import replace

    rng = np.random.default_rng(0)
    empty = batch()
    mask = empty.mask.numpy()
    new, old, reference = (filled(rng, mask) for _ in range(3))
    advantages = torch.tensor(rng.normal(size=(len(mask), 1)) * np.ones(mask.shape)).float()
    given = replace(empty, old_logprobs=old, ref_logprobs=reference, advantages=advantages)
    loss, metrics = grpo(clip_range=0.2, clip_range_high=0.28, kl_coef=0.05)(
        Outputs(logprobs=new, entropy=torch.zeros_like(new)), given
    )
    total = distance = 0.0
    for row, column in zip(*np.nonzero(mask), strict=True):
        ratio = np.exp(new[row, column].item() - old[row, column].item())
        gain = advantages[row, column].item()
        total += max(-gain * ratio, -gain * min(max(ratio, 0.8), 1.28))
        d = new[row, column].item() - reference[row, column].item()
        distance += np.exp(-d) - 1 + d
    np.testing.assert_allclose(loss.item(), total + 0.05 * distance, rtol=1e-5)
    np.testing.assert_allclose(metrics["policy/kl_k3_nats"].item(), distance, rtol=1e-5)


def test_a_ranking_counts_as_much_as_one_pair_and_one_alone_as_its_mean() -> None:
    ranking = Tree(
        id="r",
        prompt=(1,),
        responses=((2,), (3,), (4,), (5,)),
        pairs=tuple((i, j) for i in range(4) for j in range(i + 1, 4)),
        weights=(1 / 6,) * 6,
    )
    pair = Tree(id="p", prompt=(1,), responses=((6,), (7,)), pairs=((0, 1),))
    scores = torch.tensor([2.0, 0.5, 1.0, -1.0, 0.3, 0.1])
    objective = feedback_reward(RewardLoss())

    def mean(trees: list[Tree], scores: torch.Tensor) -> tuple[float, float]:
        made = collate(trees, torch.device("cpu"))
        loss, metrics = objective(Outputs(scores=scores), made)
        total = count([made], "pairs")
        right = metrics["reward/accuracy_rate"]
        assert isinstance(right, Share)
        assert right.weight == total
        return loss.item() / total, right.total.item() / total

    deltas = [scores[i] - scores[j] for i, j in ranking.pairs]
    of_ranking = np.mean([np.logaddexp(0, -delta.item()) for delta in deltas])
    of_pair = np.logaddexp(0, -0.2)
    np.testing.assert_allclose(mean([ranking], scores[:4]), (of_ranking, 5 / 6), rtol=1e-6)
    both = mean([ranking, pair], scores)
    np.testing.assert_allclose(both, ((of_ranking + of_pair) / 2, (5 / 6 + 1) / 2), rtol=1e-6)
