"""Adapter directories that are not as they were written."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from heedful.errors import DataError
from heedful.model.adapter_files import CARD, WEIGHTS, load_role, read_card, save_role
from heedful.model.base import load_base
from heedful.model.trunk import Trunk


@pytest.mark.parametrize("rows", [1, 2])
def test_an_adapter_file_of_another_shape_is_refused_and_not_repeated(
    tmp_path: Path, rows: int
) -> None:
    trunk = Trunk(load_base("test"))
    trunk.add_adapter("policy", rank=4, alpha=8, seed=0)
    save_role(trunk, "policy", tmp_path / "m")
    tensors = load_file(tmp_path / "m" / WEIGHTS)
    name = next(name for name in tensors if "lora_A" in name)
    save_file(tensors | {name: tensors[name][:rows].clone()}, tmp_path / "m" / WEIGHTS)
    with pytest.raises(DataError, match=rf"has shape \[{rows}, 64\], .* ask for \[4, 64\]"):
        load_role(Trunk(load_base("test")), tmp_path / "m", "policy")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ('{"role"', "is no JSON"),
        ('{"role": "policy", "colour": "red"}', "unexpected keyword argument 'colour'"),
        ("[]", "this version does not know"),
    ],
)
def test_a_card_that_cannot_be_read_is_named(tmp_path: Path, text: str, seen: str) -> None:
    (tmp_path / CARD).write_text(text)
    with pytest.raises(DataError, match=seen):
        read_card(tmp_path)
