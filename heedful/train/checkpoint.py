"""Checkpoints: parameters, optimiser state, data cursor and KL state, as safetensors and JSON.

All randomness of a run follows from its seed and its cursor, so there is no generator to save.
A checkpoint appears under its name only when it is whole.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from heedful.model.adapter_files import write_directory, write_json
from heedful.train.loop import Source
from heedful.train.optim import Optimiser

KEEP = 2


def save(directory: Path, step: int, optimiser: Optimiser, source: Source, seconds: float) -> None:
    """Write ``directory/step-NNNNNN``: the state after ``step`` optimiser steps in ``seconds``."""

    def write(target: Path) -> None:
        parameters = {k: v.detach().cpu().contiguous() for k, v in optimiser.parameters.items()}
        save_file(parameters, target / "parameters.safetensors")
        moments = {k: v.detach().cpu().contiguous() for k, v in optimiser.state().items()}
        save_file(moments, target / "optimiser.safetensors")
        state = {"step": step, "seconds": seconds, "source": source.state()}
        write_json(target / "state.json", state)

    write_directory(directory / f"step-{step:06d}", write)
    for old in _in_order(directory)[:-KEEP]:
        shutil.rmtree(old)


def latest(directory: Path) -> Path | None:
    """The newest whole checkpoint."""
    found = _in_order(directory)
    return found[-1] if found else None


def _in_order(directory: Path) -> list[Path]:
    """The checkpoints by their step, whose number may outgrow its digits."""
    return sorted(directory.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))


@torch.no_grad()
def load(checkpoint: Path, optimiser: Optimiser, source: Source) -> tuple[int, float]:
    """Restore everything; the number of optimiser steps done, and the seconds they took."""
    tensors = load_file(checkpoint / "parameters.safetensors")
    restore(optimiser.parameters, tensors)
    optimiser.load(load_file(checkpoint / "optimiser.safetensors"))
    state = json.loads((checkpoint / "state.json").read_text())
    source.load(state["source"])
    return state["step"], state.get("seconds", 0.0)


def restore(parameters: dict[str, nn.Parameter], tensors: dict[str, torch.Tensor]) -> None:
    """Copy tensors into parameters of exactly the same names."""
    assert set(parameters) == set(tensors), "the checkpoint is of another configuration"
    for name, value in parameters.items():
        value.copy_(tensors[name])
