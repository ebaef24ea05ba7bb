"""torch.compile as an option: faster elementwise parts for seconds of compiling, counted here."""

import os
import shutil

import torch

from heedful.errors import ConfigError
from heedful.model.trunk import Trunk

COMPILERS = ("c++", "g++", "clang++")


def compile_layers(trunk: Trunk, *, backend: str = "inductor") -> None:
    """Compile what a decoder layer holds besides attention: norms and the feed-forward part.

    Attention depends on the layout of every batch and would be compiled again for each. Layers
    share their code, so all of them cost as much as one. Raises ``ConfigError`` without a C++
    compiler on a CPU.
    """
    wanted = os.environ.get("CXX")
    if trunk.device.type == "cpu" and not any(map(shutil.which, (wanted or "", *COMPILERS))):
        raise ConfigError("compile=true needs a C++ compiler, such as g++; install one or leave it")
    trunk.is_compiled = True
    for layer in trunk.decoder_layers:
        for part in layer.children():
            if not hasattr(part, "layer_idx"):  # attention knows its layer, for the cache
                part.forward = torch.compile(part.forward, dynamic=True, backend=backend)


def compile_seconds() -> float:
    """What compiling has cost this process so far."""
    from torch._dynamo.utils import calculate_time_spent  # a second to import

    return float(calculate_time_spent().get("total_wall_time", 0.0))
