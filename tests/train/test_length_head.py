"""ODIN's penalty is that of the whole step, whatever parts the step is run in."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from heedful.config import RewardLoss
from heedful.data import testing
from heedful.data.collate import Said, Tree
from heedful.data.examples import preference_trees
from heedful.data.reading import Reading, learned
from heedful.maths.disentangled import odin_penalty
from heedful.maths.reward import bradley_terry
from heedful.model.base import load_base
from heedful.model.forward import forward
from heedful.model.trunk import Trunk
from heedful.train import algorithms
from heedful.train.length_head import LengthHead, pulls
from heedful.train.sources import ExampleSource

LOSS = RewardLoss()


@pytest.fixture
def trunk() -> Trunk:
    trunk = Trunk(load_base("test"))
    trunk.add_adapter("reward", rank=4, alpha=8.0, seed=0)
    with torch.no_grad():
        for number, value in enumerate(trunk.adapter_parameters("reward").values()):
            noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(number))
            value.add_(noise * 0.05)
    for seed, role in enumerate(("reward", "length")):
        trunk.add_head(role, std=0.3, seed=seed, pooling="mean").requires_grad_(True)
    return trunk


@pytest.fixture
def trees(trunk: Trunk) -> list[Tree]:
    rows = testing.preferences()[:6]
    said = (Said(scale="order", responses=(0, 1), values=(0, 1)),)
    found = preference_trees(trunk.tokenizer, rows, max_tokens=256).trees
    # answers of different length, so that there is something to follow
    responses = [
        (tree.responses[0] * (1 + n % 3), tree.responses[1]) for n, tree in enumerate(found)
    ]
    made = [
        learned(Tree(id=tree.id, prompt=tree.prompt, responses=own, said=said), Reading(loss=LOSS))
        for tree, own in zip(found, responses, strict=True)
    ]
    return [one for one in made if one]


def gradients(trunk: Trunk, loss: Tensor) -> dict[str, Tensor]:
    named = trunk.trainable("reward", "length")
    found = torch.autograd.grad(loss, list(named.values()))
    return dict(zip(named, found, strict=True))


@pytest.mark.parametrize("tokens", [64, 10_000])
def test_a_step_in_parts_has_the_gradient_of_the_penalty_on_the_whole(
    trunk: Trunk, trees: list[Tree], tokens: int
) -> None:
    algorithm = algorithms.reward(LOSS, length_head=True)
    source = ExampleSource(
        trees,
        unit=algorithm.unit,
        examples_per_step=len(trees),
        tokens_per_micro_step=tokens,
        epochs=1,
        seed=0,
        device=trunk.device,
        enrich=LengthHead(trunk),
    )
    (step,) = source
    assert (len(step.micro_batches) > 1) == (tokens == 64)
    summed: dict[str, Tensor] = {}
    outputs = []
    for batch in step.micro_batches:
        found = forward(trunk, batch, "reward", algorithm.needs)
        loss, _ = algorithm.objective(found, batch)
        for name, value in gradients(trunk, loss / step.count).items():
            summed[name] = summed.get(name, torch.zeros(())) + value
        outputs.append((batch, forward(trunk, batch, "reward", algorithm.needs)))

    def whole(name: str) -> Tensor:
        return torch.cat([getattr(one, name) for _, one in outputs])

    sums = [(one.scores + one.length_scores)[batch.pairs] for batch, one in outputs]
    chosen, rejected = torch.cat(sums).unbind(1)
    penalty = odin_penalty(
        whole("scores"),
        whole("length_scores"),
        torch.cat([batch.mask.sum(dim=1).float() for batch, _ in outputs]),
        trunk.heads["reward"].weight[0],
        trunk.heads["length"].weight[0],
    )
    wanted = gradients(trunk, bradley_terry(chosen, rejected).mean() + penalty)
    assert summed.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(summed[name], value, atol=2e-5, rtol=1e-3, msg=name)


def test_the_value_of_the_loss_has_no_part_of_the_linear_term(
    trunk: Trunk, trees: list[Tree]
) -> None:
    algorithm = algorithms.reward(LOSS, length_head=True)
    source = ExampleSource(
        trees, unit="judgements", examples_per_step=6, tokens_per_micro_step=10_000, epochs=1,
        seed=0, device=trunk.device, enrich=LengthHead(trunk),
    )  # fmt: skip
    ((batch,),) = [step.micro_batches for step in source]
    assert batch.pulls is not None
    found = forward(trunk, batch, "reward", algorithm.needs)
    loss, _ = algorithm.objective(found, batch)
    without, _ = algorithm.objective(found, replace(batch, pulls=torch.zeros_like(batch.pulls)))
    assert loss.item() == pytest.approx(without.item(), abs=1e-6)


def test_answers_of_one_length_pull_nothing() -> None:
    alike = pulls(torch.randn(4), torch.randn(4), torch.full((4,), 7.0))
    assert alike.tolist() == [[0.0, 0.0]] * 4
    told = pulls(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 1.0, 0.0]), torch.arange(3.0))
    assert told.abs().sum() > 0
