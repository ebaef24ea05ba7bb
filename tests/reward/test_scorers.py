"""Scores of pairs, whatever they are packed with."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from heedful.data import testing
from heedful.data.collate import collate
from heedful.data.examples import answer, preference_trees
from heedful.jobs.models import ModelRef, open_trunk
from heedful.model.forward import logprobs_of
from heedful.model.trunk import Trunk
from heedful.reward.scorers import ImplicitScorer, Scored, TrainedScorer
from heedful.reward.trained import pair_deltas
from heedful.types import Preference


@pytest.fixture(scope="module")
def trunk() -> Trunk:
    """A reward head and a policy that has moved, at random."""
    made = open_trunk(ModelRef(base="test"), dtype="float32")
    for role in ("reward", "policy"):
        made.add_adapter(role, rank=4, alpha=8.0, seed=1)
        with torch.no_grad():
            for layer in made.layers.values():
                for which in (layer.lora_a, layer.lora_b):
                    which[role].normal_(std=0.05)
    made.add_head("reward", std=0.5, seed=0, pooling="mean")
    return made


def deltas(scored: Scored) -> np.ndarray:
    return (scored.chosen - scored.rejected)[:, 0]


Make = Callable[[Trunk], TrainedScorer | ImplicitScorer]
MAKE: tuple[Make, ...] = (
    lambda trunk: TrainedScorer(trunk, max_tokens=256),
    lambda trunk: ImplicitScorer(trunk, beta=0.5, reference=None, max_tokens=256),
)


@pytest.mark.parametrize("make", MAKE)
def test_scores_belong_to_their_pairs_whatever_is_left_out(
    trunk: Trunk, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trunk, "max_tokens", 256)
    rows = testing.preferences()[:6]
    same = Preference(prompt=rows[0].prompt, chosen=answer("so"), rejected=answer("so"))
    long = Preference(prompt=rows[1].prompt, chosen=answer("so " * 400), rejected=answer("no"))
    again = Preference(prompt=rows[0].prompt, chosen=answer("yes"), rejected=rows[0].chosen)
    mixed = [rows[0], same, rows[1], long, again, *rows[2:]]
    scorer = make(trunk)
    found = scorer.score(mixed)
    assert found.drops == {"identical_sides": 1, "too_long": 1}
    assert sorted(found.pairs) == [0, 2, 4, 5, 6, 7, 8]
    alone = [deltas(scorer.score([mixed[number]]))[0] for number in found.pairs]
    assert np.allclose(deltas(found), alone, atol=1e-4)
    assert np.abs(deltas(found)).min() > 1e-4
    swapped = scorer.score([row.swap() for row in mixed])
    assert swapped.pairs == found.pairs
    assert np.allclose(deltas(swapped), -deltas(found), atol=1e-4)


def test_a_reward_model_scores_as_its_loss_saw_it(trunk: Trunk) -> None:
    rows = testing.preferences()[:6]
    trees = preference_trees(trunk.tokenizer, rows, max_tokens=256).trees
    expected = pair_deltas(trunk, trees, max_tokens=256)
    assert np.allclose(
        deltas(TrainedScorer(trunk, max_tokens=256).score(rows)), expected, atol=1e-4
    )


def test_the_implied_reward_is_beta_times_the_gain_in_log_probability(trunk: Trunk) -> None:
    rows = testing.preferences()[:4]
    expected = []
    for tree in preference_trees(trunk.tokenizer, rows, max_tokens=256).trees:
        batch = collate([tree], trunk.device)
        gain = logprobs_of(trunk, batch, "policy") - logprobs_of(trunk, batch, None)
        expected.append(0.5 * float(gain[0].sum() - gain[1].sum()))
    assert np.allclose(deltas(MAKE[1](trunk).score(rows)), expected, atol=1e-4)


def test_nothing_that_can_be_scored_is_no_error_here(trunk: Trunk) -> None:
    row = testing.preferences()[0]
    same = Preference(prompt=row.prompt, chosen=row.chosen, rejected=row.chosen)
    found = TrainedScorer(trunk, max_tokens=256).score([same])
    assert (found.pairs, found.chosen.shape) == ((), (0, 1))
