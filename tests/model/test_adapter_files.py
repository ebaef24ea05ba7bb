"""Adapter directories that are not as they were written."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from heedful.errors import DataError
from heedful.model.adapter_files import (
    CARD,
    WEIGHTS,
    load_role,
    read_card,
    save_role,
    write_directory,
)
from heedful.model.base import load_base
from heedful.model.trunk import Trunk
from heedful.train import checkpoint


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


@pytest.mark.parametrize("fails_at", [0, 1, 2])
def test_a_directory_is_replaced_whole_or_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    target = tmp_path / "model"
    write_directory(target, lambda path: save_file({}, path / "first"))
    (tmp_path / "plain").touch()
    assert (target / "first").stat().st_mode == (tmp_path / "plain").stat().st_mode
    rename, done = Path.rename, []

    def interrupted(path: Path, other: Path) -> Path:
        done.append(path)
        if len(done) == fails_at:
            raise KeyboardInterrupt
        return rename(path, other)

    monkeypatch.setattr(Path, "rename", interrupted)

    def write(path: Path) -> None:
        if not fails_at:
            raise KeyboardInterrupt
        (path / "second").write_text("")

    with pytest.raises(KeyboardInterrupt):
        write_directory(target, write)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["model"]
    assert [path.name for path in target.iterdir()] == ["first"]


def test_the_newest_checkpoint_is_the_one_of_the_highest_step(tmp_path: Path) -> None:
    for step in (999_999, 1_000_000):
        (tmp_path / f"step-{step:06d}").mkdir()
    assert checkpoint.latest(tmp_path) == tmp_path / "step-1000000"
