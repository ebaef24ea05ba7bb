"""Members that train side by side on one stem learn what each would learn alone."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from heedful.config import RewardLoss, RewardOptimiser
from heedful.data import testing
from heedful.data.collate import Said, Tree
from heedful.data.examples import preference_trees
from heedful.data.reading import Reading, learned
from heedful.jobs.fit.ensemble import repeated
from heedful.jobs.models import ModelRef, open_trunk
from heedful.model.base import load_base
from heedful.model.trunk import Trunk
from heedful.reward.ensemble import bootstrap_counts, member_seed, roles_of
from heedful.train import algorithms
from heedful.train.loop import fit
from heedful.train.members import Member, MemberBatches
from heedful.train.optim import Optimiser
from heedful.train.sources import ExampleSource, Pack

LOSS = RewardLoss()
READING = Reading(loss=LOSS)
# clipping bites, and the rate is high enough that wrong gradients would show
OPTIMISER = RewardOptimiser(learning_rate=3e-3, max_grad_norm=0.2)
NUM_STEPS = 3
Loss = dict[str, Tensor]


@pytest.fixture(scope="module")
def trees() -> list[Tree]:
    trunk = open_trunk(ModelRef(base="test"), dtype="float32")
    rows = testing.preferences()[:12]
    found = preference_trees(trunk.tokenizer, rows, max_tokens=256).trees
    said = (Said(scale="order", responses=(0, 1), values=(0, 1)),)
    made = [
        learned(Tree(id=one.id, prompt=one.prompt, responses=one.responses, said=said), READING)
        for one in found
    ]
    return [one for one in made if one]


def trunk_of(roles: dict[str, int], first_layer: int) -> Trunk:
    """Roles with the seeds of their parameters, moved a little so that all gradients are there."""
    trunk = Trunk(load_base("test"))
    for role, seed in roles.items():
        trunk.add_adapter(role, rank=4, alpha=8.0, seed=seed, first_layer=first_layer)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, value in trunk.adapter_parameters(role).items():
                if name.endswith("lora_b"):
                    value.copy_(torch.randn(value.shape, generator=generator) * 0.05)
        trunk.add_head(role, std=0.3, seed=seed, pooling="mean")
        trunk.add_links(role, {})
    return trunk


class Seen(Optimiser):
    """An optimiser that keeps the gradients of its first step."""

    first: Loss | None = None

    def step(self, progress: float) -> float:
        """Note the gradients, then do as usual."""
        if self.first is None:
            self.first = {
                name: value.grad.clone()
                for name, value in self.parameters.items()
                if value.grad is not None
            }
        return super().step(progress)


def run(
    trunk: Trunk, roles: Sequence[str], trees: Sequence[Tree], pack: Pack | None = None
) -> tuple[Loss, Loss, list[float]]:
    """Gradients of the first step, parameters after the last, and the losses."""
    parameters = trunk.trainable(*roles)
    for value in parameters.values():
        value.requires_grad_(True)
    algorithm = algorithms.reward(LOSS, roles=tuple(roles))
    optimiser = Seen(parameters, OPTIMISER, apart=algorithm.apart)
    source = ExampleSource(
        trees,
        unit="judgements",
        examples_per_step=4,
        tokens_per_micro_step=300,
        epochs=1,
        seed=5,
        device=trunk.device,
        pack=pack,
    )
    losses: list[float] = []
    fit(
        trunk,
        source,
        algorithm,
        optimiser,
        on_step=lambda _, metrics: losses.append(metrics["train/loss"]),
    )
    assert len(losses) == NUM_STEPS
    assert optimiser.first is not None
    return optimiser.first, {name: v.detach() for name, v in parameters.items()}, losses


def members_of(trees: Sequence[Tree], num: int, *, bootstrap: bool) -> list[Member]:
    members = []
    for number, role in enumerate(roles_of(num)):
        counts = [1] * len(trees)
        if bootstrap:
            counts = bootstrap_counts(len(trees), 0, number).tolist()
        own = {t.id: repeated(t, n) for t, n in zip(trees, counts, strict=True) if n}
        members.append(Member(role=role, trees=own, counts=tuple(counts)))
    return members


@pytest.mark.parametrize(("first_layer", "bootstrap"), [(0, False), (1, True)])
def test_four_members_equal_four_fits_of_their_own(
    trees: list[Tree], first_layer: int, bootstrap: bool
) -> None:
    members = members_of(trees, 4, bootstrap=bootstrap)
    seeds = {member.role: member_seed(0, number) for number, member in enumerate(members)}
    trunk = trunk_of(seeds, first_layer)
    together = run(trunk, list(seeds), trees, MemberBatches(trunk, members, max_tokens=300))
    losses = []
    for member in members:
        alone = trunk_of({"reward": seeds[member.role]}, first_layer)
        # a prompt that was not drawn has the weight 0 there
        never = [Said(scale="order", responses=(0, 1), values=(0, 1), weight=0.0)]
        own = [
            member.trees.get(one.id)
            or Tree(
                id=one.id,
                prompt=one.prompt,
                responses=one.responses,
                pairs=one.pairs,
                weights=(0.0,) * len(one.pairs),
                said=tuple(never),
            )
            for one in trees
        ]
        *wanted, own_losses = run(alone, ["reward"], own)
        losses.append(own_losses)
        for found, expected in zip(together, wanted, strict=False):
            for name, value in expected.items():  # type: ignore[attr-defined]
                mine = found[name.replace("reward:", f"{member.role}:")]  # type: ignore[call-overload]
                torch.testing.assert_close(mine, value, atol=1e-5, rtol=1e-4)
    mean = torch.tensor(losses).mean(dim=0)
    torch.testing.assert_close(torch.tensor(together[2]), mean, atol=1e-5, rtol=1e-5)


def test_one_member_learns_bit_for_bit_what_a_single_model_does(trees: list[Tree]) -> None:
    alone = run(trunk_of({"reward": 0}, 0), ["reward"], trees)
    trunk = trunk_of({"reward": 0}, 0)
    members = members_of(trees, 1, bootstrap=False)
    member = run(trunk, ["reward"], trees, MemberBatches(trunk, members, max_tokens=300))
    assert alone[2] == member[2]
    for found, expected in zip(member[:2], alone[:2], strict=True):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_activations_in_memory_are_those_of_one_member(trees: list[Tree]) -> None:
    trunk = trunk_of({role: n for n, role in enumerate(roles_of(4))}, 1)
    members = members_of(trees, 4, bootstrap=False)
    pack = MemberBatches(trunk, members, max_tokens=10_000)
    source = ExampleSource(
        trees, unit="judgements", examples_per_step=12, tokens_per_micro_step=10_000, epochs=1,
        seed=0, device=trunk.device, pack=pack,
    )  # fmt: skip
    (step,) = source
    # one batch a member, each with a backward pass of its own before the next one's forward
    assert [batch.role for batch in step.micro_batches] == list(roles_of(4))
    assert step.counts == dict.fromkeys(roles_of(4), 12.0)
    stems = [batch.stem for batch in step.micro_batches]
    assert all(s is not None and s.states is not None and not s.states.requires_grad for s in stems)
