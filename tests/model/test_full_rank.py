"""An adapter of a full rank is full fine-tuning of the linear layers, on a base that stays."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from heedful.config import RewardConfig, SFTConfig, resolve
from heedful.data.collate import Tree, collate
from heedful.engine.base import Request
from heedful.engine.local import LocalEngine
from heedful.errors import ConfigError
from heedful.jobs.fit import fit_reward, fit_sft
from heedful.model import budget
from heedful.model.adapter_files import load_role, save_role
from heedful.model.base import load_base
from heedful.model.base import resolve as resolve_base
from heedful.model.flops import update_flops
from heedful.model.forward import forward, logprobs_of
from heedful.model.trunk import Trunk
from heedful.types import SamplingParams

TREES = [
    Tree(id="a", prompt=(5, 6, 7), responses=((8, 9, 2), (10, 2))),
    Tree(id="b", prompt=(5, 6), responses=((11, 12, 13, 2),)),
]


def moved(trunk: Trunk, role: str, size: float = 0.02) -> Trunk:
    with torch.no_grad():
        for number, value in enumerate(trunk.adapter_parameters(role).values()):
            generator = torch.Generator().manual_seed(number)
            value.add_(torch.randn(value.shape, generator=generator) * size)
    return trunk


@pytest.fixture
def trunk() -> Trunk:
    trunk = Trunk(load_base("test"))
    trunk.add_adapter("policy", rank="full", alpha=1.0, seed=0)
    return moved(trunk, "policy")


def loss_of(trunk: Trunk, role: str | None) -> Tensor:
    outputs = forward(trunk, collate(TREES, trunk.device), role, {"logprobs"})
    assert outputs.logprobs is not None
    return outputs.logprobs.sum()


def test_gradients_are_those_of_the_weights_themselves(trunk: Trunk) -> None:
    own = trunk.adapter_parameters("policy")
    for value in own.values():
        value.requires_grad_(True)
    loss_of(trunk, "policy").backward()
    other = Trunk(load_base("test"))
    with torch.no_grad():
        for path, layer in other.layers.items():
            layer.base.weight.copy_(trunk.layers[path].folded("policy"))
            layer.base.weight.requires_grad_(True)
    loss_of(other, None).backward()
    for path, layer in other.layers.items():
        grad = own[f"{path}/delta"].grad
        torch.testing.assert_close(grad, layer.base.weight.grad, atol=1e-5, rtol=1e-4, msg=path)


def test_a_new_one_changes_nothing_and_the_base_is_still_there(trunk: Trunk) -> None:
    trunk.add_adapter("fresh", rank="full", alpha=1.0, seed=0)
    batch = collate(TREES, trunk.device)
    base = logprobs_of(trunk, batch, None)
    assert torch.equal(logprobs_of(trunk, batch, "fresh"), base)
    assert not torch.allclose(logprobs_of(trunk, batch, "policy"), base, atol=1e-3)


def test_samples_are_of_the_trained_weights_alone_and_beside_other_roles(trunk: Trunk) -> None:
    trunk.add_adapter("other", rank=4, alpha=8.0, seed=1)
    moved(trunk, "other", 0.1)
    params = [SamplingParams(max_new_tokens=8, seed=seed) for seed in range(4)]
    alone = LocalEngine(trunk).sample(
        [Request(prompt=(5, 6, 7), params=one, role="policy") for one in params]
    )
    roles = ("policy", "other", None)
    mixed = LocalEngine(trunk).sample(
        [Request(prompt=(5, 6, 7), params=one, role=role) for role in roles for one in params]
    )
    assert [one.token_ids for one in mixed[:4]] == [one.token_ids for one in alone]
    tree = Tree(id="a", prompt=(5, 6, 7), responses=tuple(one.token_ids for one in alone))
    rows = logprobs_of(trunk, collate([tree], trunk.device), "policy")
    for row, one in zip(rows, alone, strict=True):
        torch.testing.assert_close(
            row[: len(one.logprobs)], torch.tensor(one.logprobs), atol=1e-4, rtol=1e-4
        )


def test_it_is_saved_whole_and_peft_is_told_that_it_is_none_of_its_own(
    trunk: Trunk, tmp_path: Path
) -> None:
    save_role(trunk, "policy", tmp_path / "model")
    settings = json.loads((tmp_path / "model" / "adapter_config.json").read_text())
    assert (settings["peft_type"], settings["r"]) == ("HEEDFUL_FULL", "full")
    other = Trunk(load_base("test"))
    load_role(other, tmp_path / "model", "policy")
    other.copy_adapter("policy", "second")
    batch = collate(TREES, trunk.device)
    for role in ("policy", "second"):
        assert torch.equal(logprobs_of(other, batch, role), logprobs_of(trunk, batch, "policy"))


def test_fits_train_whole_matrices_and_go_on_with_them(tmp_path: Path) -> None:
    full = ["adapter.rank=full", "optimiser.full_learning_rate=1e-3", "epochs=2"]
    flags = {"data": "test", "model": "test"}
    first = fit_sft(resolve(SFTConfig, overrides=full, flags=flags), tmp_path / "first")
    lines = (tmp_path / "first/metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert rows[-1]["policy/nll_nats"] < rows[0]["policy/nll_nats"] - 0.1
    again = {"data": "test", "model": first.path}
    with pytest.raises(ConfigError, match="whose adapter has full"):
        fit_sft(resolve(SFTConfig, overrides=["adapter.rank=8"], flags=again), tmp_path / "no")
    second = fit_sft(resolve(SFTConfig, overrides=full[1:], flags=again), tmp_path / "second")
    config = json.loads((Path(second.path) / "adapter_config.json").read_text())
    assert config["r"] == "full"
    scored = fit_reward(resolve(RewardConfig, overrides=full, flags=flags), tmp_path / "reward")
    assert 0 <= scored.metrics["accuracy"] <= 1


def test_its_memory_and_its_arithmetic_are_those_of_whole_matrices(trunk: Trunk) -> None:
    shape = budget.read_shape(resolve_base("test")[0], torch.float32)
    line = budget.trained_line(shape, "policy", rank="full", first_layer=0, depth=None, tokens=1)
    assert line.num_parameters == sum(
        v.numel() for v in trunk.adapter_parameters("policy").values()
    )
    trunk.add_adapter("low", rank=4, alpha=8.0, seed=0)
    more = update_flops(trunk, "policy", 10, 0) - update_flops(trunk, "low", 10, 0)
    assert more == 2.0 * 10 * line.num_parameters  # the gradient in the matrices
