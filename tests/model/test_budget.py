from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from heedful.errors import ResourceError
from heedful.model import budget, products
from heedful.model.adapter_files import save_role
from heedful.model.base import load_base, resolve
from heedful.model.lora import layer_number
from heedful.model.products import lays_out
from heedful.model.trunk import Trunk


@pytest.fixture(scope="module")
def trunk() -> Trunk:
    trunk = Trunk(load_base("test"))
    trunk.add_adapter("policy", rank=4, alpha=8, seed=0, first_layer=1)
    return trunk


@pytest.fixture(scope="module")
def sizes() -> budget.Shape:
    return budget.read_shape(resolve("test")[0], torch.float32)


def test_sizes_are_read_without_loading(trunk: Trunk, sizes: budget.Shape) -> None:
    model = trunk.base.model
    assert sizes.num_parameters == sum(p.numel() for p in load_base("test").model.parameters())
    assert sizes.num_layers == model.config.num_hidden_layers
    assert len(sizes.linears) == len(trunk.layers)
    assert (sizes.hidden, sizes.vocabulary) == (trunk.width, len(trunk.output_weight))


def test_an_adapter_is_counted_as_it_is_made(
    trunk: Trunk, sizes: budget.Shape, tmp_path: Path
) -> None:
    line = budget.trained_line(sizes, "policy", rank=4, first_layer=1, depth=None, tokens=10)
    made = sum(value.numel() for value in trunk.adapter_parameters("policy").values())
    assert line.num_parameters == made
    assert line.num_bytes == 16 * made
    assert line.activations == 10 * (12 * sizes.hidden + 4 * sizes.intermediate) * 4
    thrifty = budget.trained_line(
        sizes, "policy", rank=4, first_layer=1, depth=None, tokens=10, recomputes=True
    )
    assert thrifty.activations == line.activations + 10 * sizes.hidden * 4
    save_role(trunk, "policy", tmp_path / "saved")
    frozen = budget.frozen_line("reference", tmp_path / "saved")
    assert made <= frozen.num_parameters < made * 1.5


def test_what_follows_each_other_is_not_added() -> None:
    lines = [
        budget.Line(role="base", num_parameters=1, num_bytes=100),
        budget.Line(role="policy", num_parameters=1, num_bytes=10, activations=700, phase="update"),
        budget.Line(
            role="sampling", num_parameters=0, num_bytes=1, activations=300, phase="sample"
        ),
    ]
    assert budget.total_bytes(lines) == budget.RUNTIME_BYTES + 111 + 700


def test_what_is_at_work_together_is_added(sizes: budget.Shape) -> None:
    policy, critic = (
        budget.trained_line(sizes, role, rank=4, first_layer=0, depth=None, tokens=99)
        for role in ("policy", "critic")
    )
    logits = budget.logits_line(sizes, 99)
    stays = budget.RUNTIME_BYTES + policy.num_bytes + critic.num_bytes
    together = policy.activations + critic.activations + logits.activations
    assert budget.total_bytes([policy, critic, logits]) == stays + together


@pytest.mark.skipif(not lays_out("cpu", torch.float32), reason="this torch has no oneDNN")
def test_copies_that_are_laid_out_are_counted_as_they_are_made(
    sizes: budget.Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    in_blocks = products.in_blocks

    def noted(weight: torch.Tensor) -> torch.Tensor:
        made.append(weight.numel())
        return in_blocks(weight)

    monkeypatch.setattr(products, "in_blocks", noted)
    own = Trunk(load_base("test"))
    own.add_adapter("policy", rank=4, alpha=8, seed=0, first_layer=1)
    own.lay_out("policy")
    assert budget.blocks_line(sizes, first_layer=1, depth=None).num_bytes == 4 * sum(made)
    made.clear()
    short = Trunk(load_base("test"))
    short.add_adapter("reward", rank=4, alpha=8, seed=0, depth=1)
    short.lay_out("reward")
    assert budget.blocks_line(sizes, first_layer=0, depth=1).num_bytes == 4 * sum(made)


def test_copies_of_prompts_in_large_trees_and_prefilled_tokens_are_counted(
    sizes: budget.Shape,
) -> None:
    assert budget.copied_prompts(400, [50] * 4) == 4 * 400 / 600
    assert budget.copied_prompts(100, [10, 10]) == 0  # one product under a mask
    assert budget.copied_prompts(400, [50]) == 0

    def trained(copied: float) -> int:
        return budget.trained_line(
            sizes, "policy", rank=4, first_layer=0, depth=None, tokens=100, copied=copied
        ).activations

    assert trained(1.5) - trained(0) == 100 * sizes.num_layers * 2 * int(1.5 * sizes.hidden) * 4

    def sampled(tokens: int) -> int:
        return budget.generation_line(
            sizes, slots=1, tokens=9, prefilled=tokens, copies_all=False, first_layer=9
        ).activations

    assert sampled(4096) == 4096 * budget.layer_width(sizes) * 4


@pytest.mark.parametrize(
    ("files", "free"),
    [
        (
            {"memory.max": "900\n", "memory.current": "700\n", "memory.stat": "inactive_file 50\n"},
            250,
        ),
        ({"memory.max": "max\n", "memory.current": "700\n", "memory.stat": "anon 1\n"}, None),
        (
            {
                "memory/memory.limit_in_bytes": "900\n",
                "memory/memory.usage_in_bytes": "700\n",
                "memory/memory.stat": "total_inactive_file 0\n",
            },
            200,
        ),
        ({}, None),
    ],
    ids=["v2", "no limit", "v1", "none"],
)
def test_the_containers_limit_counts_as_free_memory(
    files: dict[str, str], free: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(budget, "CGROUP", tmp_path)
    monkeypatch.setattr(budget, "machine_bytes", lambda: 10**6)
    assert budget.cgroup_bytes() == free
    assert budget.available_bytes(torch.device("cpu")) == (10**6 if free is None else free)


def test_what_cannot_fit_is_refused_with_the_numbers(sizes: budget.Shape) -> None:
    large = replace(sizes, num_parameters=7_000_000_000)
    lines = [budget.base_line(large)]
    budget.refuse_what_cannot_fit(lines, 40 * budget.GB)
    budget.refuse_what_cannot_fit(lines, None)
    with pytest.raises(ResourceError, match=r"needs about 26\.5 GB and 4\.0 GB are free.*base"):
        budget.refuse_what_cannot_fit(lines, 4 * budget.GB)


def test_the_machine_says_how_much_is_free() -> None:
    free = budget.available_bytes(torch.device("cpu"))
    assert free is None or 2**20 < free < 2**50


def test_the_table_has_a_line_per_role(sizes: budget.Shape) -> None:
    lines = [
        budget.base_line(sizes),
        budget.generation_line(
            sizes, slots=8, tokens=64, prefilled=99, copies_all=True, first_layer=0
        ),
    ]
    text = budget.describe(lines, 8 * budget.GB)
    assert [row.split()[0] for row in text] == ["memory,", "base", "sampling", "in"]
    assert text[-1].endswith("of 8.0 free")


def test_sizes_are_read_from_every_architecture(plain: Any, tmp_path: Path) -> None:
    plain.save_pretrained(tmp_path)
    read = budget.read_shape(tmp_path, torch.float32)
    layers = [n for n, w in plain.named_parameters() if w.ndim == 2 and layer_number(n) is not None]
    assert len(read.linears) == len(layers)
    assert (read.hidden, read.num_layers) == (32, 2)
    assert read.num_parameters == sum(value.numel() for value in plain.parameters())
