"""Which device and which compute dtype: measured, not assumed."""

import functools
import time

import torch


def default_device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _matmul_seconds(device: torch.device, dtype: torch.dtype, size: int = 256) -> float:
    left = torch.ones(size, size, device=device, dtype=dtype)
    left @ left  # first call picks the kernel
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        (left @ left).sum().item()
        best = min(best, time.perf_counter() - start)
    return best


@functools.cache
def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where its matrix product is faster than float32's on this device, else float32.

    CPUs without avx512_bf16 or AMX emulate bfloat16 hundreds of times slower than float32.
    """
    fast = _matmul_seconds(device, torch.bfloat16) < _matmul_seconds(device, torch.float32)
    return torch.bfloat16 if fast else torch.float32
