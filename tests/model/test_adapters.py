import json
from pathlib import Path

import peft
import pytest
import torch
from torch import Tensor

from heedful.data.collate import Tree, collate
from heedful.errors import DataError, MissingError
from heedful.model.adapter_files import HEAD, load_role, save_role
from heedful.model.base import load_base
from heedful.model.forward import forward, logprobs_of
from heedful.model.products import lays_out, product
from heedful.model.trunk import Trunk

TREE = Tree(id="a", prompt=(5, 6, 7), responses=((8, 9, 10, 1), (11, 1)), pairs=((0, 1),))

needs_blocks = pytest.mark.skipif(
    not lays_out("cpu", torch.float32), reason="this torch has no oneDNN"
)


def shake(trunk: Trunk, role: str) -> None:
    with torch.no_grad():
        for number, value in enumerate(trunk.trainable(role).values()):
            noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(number))
            value.add_(noise * 0.1)


def test_new_adapter_changes_nothing(trunk: Trunk) -> None:
    batch = collate([TREE], trunk.device)
    before = logprobs_of(trunk, batch, None)
    trunk.add_adapter("policy", rank=4, alpha=8, seed=0)
    torch.testing.assert_close(logprobs_of(trunk, batch, "policy"), before, atol=0, rtol=0)


@pytest.mark.parametrize("blocked", [False, True])
def test_weights_for_sampling_equal_the_adapter_and_leave_the_base_as_it_is(
    trunk: Trunk, blocked: bool
) -> None:
    trunk.add_adapter("policy", rank=4, alpha=8, seed=0)
    shake(trunk, "policy")
    batch = collate([TREE], trunk.device)
    base, own = logprobs_of(trunk, batch, None), logprobs_of(trunk, batch, "policy")
    with trunk.sampling("policy", blocked=blocked):
        merged = logprobs_of(trunk, batch, None)
    torch.testing.assert_close(merged, own, atol=2e-4, rtol=1e-4)
    assert not torch.allclose(own, base, atol=1e-3)
    torch.testing.assert_close(logprobs_of(trunk, batch, None), base, atol=0, rtol=0)


@needs_blocks
def test_weights_that_are_laid_out_give_the_same_logprobs_and_gradients(trunk: Trunk) -> None:
    trunk.add_adapter("policy", rank=4, alpha=8, seed=0, first_layer=1)
    shake(trunk, "policy")
    batch = collate([TREE], trunk.device)

    def learned() -> list[Tensor]:
        values = trunk.trainable("policy").values()
        for value in values:
            value.requires_grad_(True)
        outputs = forward(trunk, batch, "policy", {"logprobs"})
        assert outputs.logprobs is not None
        return [outputs.logprobs, *torch.autograd.grad(outputs.logprobs.sum(), list(values))]

    plain = learned()
    trunk.lay_out("policy")
    for was, now in zip(plain, learned(), strict=True):
        torch.testing.assert_close(now, was, atol=1e-4, rtol=1e-4)


@needs_blocks
def test_a_product_without_a_backward_pass_refuses_to_lose_a_gradient() -> None:
    multiply = product(torch.eye(3))
    with pytest.raises(ValueError, match="no gradient"):
        multiply(torch.ones(2, 3, requires_grad=True))


def test_roles_do_not_touch_each_other(trunk: Trunk) -> None:
    trunk.add_adapter("policy", rank=4, alpha=8, seed=0)
    trunk.add_adapter("reward", rank=4, alpha=8, seed=1)
    batch = collate([TREE], trunk.device)
    before = logprobs_of(trunk, batch, "policy")
    shake(trunk, "reward")
    torch.testing.assert_close(logprobs_of(trunk, batch, "policy"), before, atol=0, rtol=0)


def test_saved_reward_model_reloads_to_the_same_scores(tmp_path: Path) -> None:
    trunk = Trunk(load_base("test"))
    trunk.add_adapter("reward", rank=4, alpha=8, seed=0, first_layer=1)
    trunk.add_head("reward", std=0.2, seed=0)
    shake(trunk, "reward")
    batch = collate([TREE], trunk.device)
    expected = forward(trunk, batch, "reward", {"scores"}).scores
    save_role(trunk, "reward", tmp_path / "model", mean=0.5, std=2.0)
    again = Trunk(load_base("test"))
    card = load_role(again, tmp_path / "model", "reward")
    scores = forward(again, batch, "reward", {"scores"}).scores
    torch.testing.assert_close(scores, expected, atol=0, rtol=0)
    assert (card.mean, card.std) == (0.5, 2.0)


def test_reward_model_without_its_head_is_refused(tmp_path: Path) -> None:
    trunk = Trunk(load_base("test"))
    trunk.add_adapter("reward", rank=4, alpha=8, seed=0)
    trunk.add_head("reward", std=0.2, seed=0)
    save_role(trunk, "reward", tmp_path / "model")
    (tmp_path / "model" / HEAD).unlink()
    with pytest.raises(MissingError, match="needs its head"):
        load_role(Trunk(load_base("test")), tmp_path / "model", "reward")


def test_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    trunk = Trunk(load_base("test"))
    trunk.add_adapter("policy", rank=4, alpha=8, seed=0)
    save_role(trunk, "policy", tmp_path / "model")
    card = tmp_path / "model" / "heedful.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"base_hash": "f" * 32}))
    with pytest.raises(DataError, match="adapter of base"):
        load_role(Trunk(load_base("test")), tmp_path / "model", "policy")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_peft_reads_our_adapter_to_the_same_logits(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    trunk = Trunk(load_base("test"))
    trunk.add_adapter("policy", rank=4, alpha=8, seed=0, first_layer=1)
    shake(trunk, "policy")
    save_role(trunk, "policy", tmp_path / "model")
    rows = logprobs_of(trunk, collate([TREE], trunk.device), "policy")
    model = AutoModelForCausalLM.from_pretrained(trunk.base.path, dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(model, str(tmp_path / "model")).eval()
    logits = adapted(torch.tensor([[5, 6, 7, 8, 9, 10, 1]])).logits[0]
    expected = torch.log_softmax(logits[2:6], -1)[range(4), [8, 9, 10, 1]]
    torch.testing.assert_close(rows[0], expected, atol=1e-5, rtol=1e-5)
