"""Every part learns from what was said of it, and the adapter from all of them."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from heedful.config import RewardLoss
from heedful.data.collate import Mark, Tree, collate
from heedful.model.base import load_base
from heedful.model.forward import forward
from heedful.model.parts import Parts
from heedful.model.trunk import Trunk
from heedful.tensors import Outputs
from heedful.train.objectives import Share, feedback_reward
from heedful.types import Part

CPU = torch.device("cpu")
LINKS = {
    f"rating/{name}/{kind}": torch.tensor(value)
    for name in ("honest", "polite")
    for kind, value in (("log_slope", 0.1), ("shift", 0.3))
}
FLAGS = {"bias": 5.0, "unsafe": 2.0}
TREE = Tree(
    id="a",
    prompt=(1,),
    responses=((2, 1), (3, 1), (4, 4, 1)),
    pairs=((0, 1),),
    weights=(1.0,),
    margins=(0.0,),
    ratings={"honest": (Mark(0, 1, 1.0), Mark(2, 0, 0.5)), "polite": (Mark(1, 1, 1.0),)},
    flags={"bias": (Mark(0, 0.0, 1.0), Mark(1, 1.5, 0.5)), "unsafe": (Mark(2, 0.5, 1.0),)},
)
NAMES = ("overall", "honest", "polite", "bias", "unsafe")
VALUES = torch.tensor(np.random.default_rng(0).normal(size=(3, 5)))


def run(values: torch.Tensor) -> tuple[torch.Tensor, dict]:
    named = dict(zip(NAMES, values.unbind(-1), strict=True))
    outputs = Outputs(scores=named["overall"], parts=named, links=LINKS)
    return feedback_reward(RewardLoss(), FLAGS)(outputs, collate([TREE], CPU))


def test_flags_are_weighted_cross_entropy_whose_head_keeps_the_rate_of_people() -> None:
    _, metrics = run(VALUES)
    for name, column, targets, severities, weights in (
        ("bias", VALUES[:2, 3], [0.0, 1.0], [1.0, 1.5], [1.0, 0.5]),
        ("unsafe", VALUES[2:, 4], [1.0], [0.5], [1.0]),
    ):
        wanted = binary_cross_entropy_with_logits(
            column + math.log(FLAGS[name]),
            torch.tensor(targets, dtype=torch.float64),
            pos_weight=FLAGS[name] * torch.tensor(severities, dtype=torch.float64),
            weight=torch.tensor(weights, dtype=torch.float64),
            reduction="sum",
        )
        found = metrics[f"reward/flag_{name}_loss"]
        assert isinstance(found, Share)
        assert found.total.item() == pytest.approx(wanted.item(), rel=1e-6)
        assert found.weight.item() == sum(weights)


def test_the_weighted_loss_is_least_at_the_rate_at_which_people_raise_the_flag() -> None:
    # 1 answer of 10 is flagged, so a raised one counts 9; the head must still say 0.1
    flags = {"rare": tuple(Mark(n, float(n == 0), 1.0) for n in range(10))}
    many = Tree(id="b", prompt=(1,), responses=tuple((n,) for n in range(2, 12)), flags=flags)
    logit = torch.zeros(1, requires_grad=True)
    batch = collate([many], CPU)
    search = torch.optim.LBFGS([logit], line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> torch.Tensor:
        search.zero_grad()
        given = logit.expand(10)
        outputs = Outputs(scores=given, parts={"rare": given})
        loss, _ = feedback_reward(RewardLoss(), {"rare": 9.0})(outputs, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(3):
        search.step(closure)  # type: ignore[no-untyped-call]
    assert logit.sigmoid().item() == pytest.approx(0.1, abs=1e-4)


def test_a_part_gets_its_gradient_from_what_was_said_of_it_alone() -> None:
    values = VALUES.clone().requires_grad_(True)
    total, _ = run(values)
    total.backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    touched = {(row, NAMES[column]) for row, column in values.grad.nonzero().tolist()}
    assert touched == {
        (0, "overall"), (1, "overall"), (0, "honest"), (2, "honest"), (1, "polite"),
        (0, "bias"), (1, "bias"), (2, "unsafe"),
    }  # fmt: skip


def test_the_gradient_of_the_adapter_is_the_sum_over_the_parts() -> None:
    torch.manual_seed(0)
    trunk = Trunk(load_base("test"))
    trunk.add_adapter("reward", rank=4, alpha=8.0, seed=0, depth=1)
    for name, value in trunk.adapter_parameters("reward").items():
        if name.endswith("lora_b"):
            torch.nn.init.normal_(value, std=0.1)
    trunk.add_head("reward", std=0.3, seed=0, num_outputs=5)
    kinds = ("score", "score", "score", "flag", "flag")
    named = tuple(Part(*one) for one in zip(NAMES, kinds, strict=True))
    trunk.parts["reward"] = Parts(parts=named, sample=torch.zeros(0, 5))
    trunk.add_links("reward", LINKS)
    adapter = list(trunk.adapter_parameters("reward").values())
    for value in adapter:
        value.requires_grad_(True)

    def gradient(tree: Tree) -> list[torch.Tensor]:
        batch = collate([tree], trunk.device)
        outputs = forward(trunk, batch, "reward", {"scores"})
        loss, _ = feedback_reward(RewardLoss(), FLAGS)(outputs, batch)
        return list(torch.autograd.grad(loss, adapter))

    def only(**kept: object) -> Tree:
        return Tree(id="a", prompt=TREE.prompt, responses=TREE.responses, **kept)  # type: ignore[arg-type]

    alone = [
        only(pairs=TREE.pairs, weights=TREE.weights, margins=TREE.margins),
        *(only(ratings={name: marks}) for name, marks in TREE.ratings.items()),
        *(only(flags={name: marks}) for name, marks in TREE.flags.items()),
    ]
    whole, *parts = (gradient(tree) for tree in (TREE, *alone))
    for place, wanted in enumerate(whole):
        found = sum(part[place] for part in parts)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert max(value.abs().max().item() for value in whole) > 1e-3
