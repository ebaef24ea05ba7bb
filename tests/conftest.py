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
