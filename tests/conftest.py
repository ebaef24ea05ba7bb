"""Shared by all tests: a private cache, one thread, and the tiny model."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# the tests fill the cores themselves, and threads cost more than they bring on tiny models
os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell starts background jobs like this, and children would inherit it; tests interrupt them
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("cache")
    before = os.environ.get("HEEDFUL_CACHE")
    os.environ["HEEDFUL_CACHE"] = str(path)
    yield path
    if before is None:
        del os.environ["HEEDFUL_CACHE"]
    else:
        os.environ["HEEDFUL_CACHE"] = before


@pytest.fixture(scope="session")
def tiny_reward(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a reward model on the last token, with random weights."""
    import torch

    from heedful.model.adapter_files import save_role
    from heedful.model.base import load_base
    from heedful.model.trunk import Trunk

    trunk = Trunk(load_base("test"))
    trunk.add_adapter("reward", rank=4, alpha=8.0, seed=0, depth=1)
    torch.manual_seed(0)
    for name, value in trunk.adapter_parameters("reward").items():
        if name.endswith("lora_b"):
            torch.nn.init.normal_(value, std=0.1)
    trunk.add_head("reward", std=0.3, seed=0, pooling="last")
    path = tmp_path_factory.mktemp("reward") / "model"
    save_role(trunk, "reward", path, mean=0.2, std=1.5)
    return path
