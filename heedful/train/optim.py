"""AdamW over named parameters, a schedule over progress, and its state as plain tensors."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from heedful.config import Optimiser as OptimiserConfig
from heedful.errors import NumericsError


class Optimiser:
    """Every parameter learns at the rate that the config has for its name.

    ``apart``: the gradient of every role is clipped by itself, as if it were alone.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        config: OptimiserConfig,
        *,
        apart: bool = False,
    ) -> None:
        self.config = config
        self.parameters = dict(parameters)
        self.clipped: dict[str, list[nn.Parameter]] = {}
        for name, value in self.parameters.items():
            role = name.partition(":")[0] if apart else ""
            self.clipped.setdefault(role, []).append(value)
        by_rate: dict[float, list[nn.Parameter]] = {}
        for name, value in self.parameters.items():
            by_rate.setdefault(config.rate_of(name), []).append(value)
        groups = [{"params": group, "peak": rate} for rate, group in by_rate.items()]
        self.adamw = torch.optim.AdamW(
            groups,
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,  # 5.3 million values on one core: 6.5 ms, foreach 26 ms
        )

    def step(self, progress: float) -> float:
        """Clip, step and clear; returns the largest gradient norm before clipping."""
        norms = [
            torch.nn.utils.clip_grad_norm_(values, self.config.max_grad_norm).item()
            for values in self.clipped.values()
        ]
        norm = max(norms, key=lambda one: (not math.isfinite(one), one))
        if not math.isfinite(norm):
            raise NumericsError(f"gradient norm is {norm}; {self.first_bad()}")
        factor = schedule(self.config, progress)
        for group in self.adamw.param_groups:
            group["lr"] = group["peak"] * factor
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        return float(norm)

    def first_bad(self) -> str:
        """Names the first tensor whose gradient is not finite."""
        for name, value in self.parameters.items():
            if value.grad is not None and not torch.isfinite(value.grad).all():
                return f"first in {name}; lower the learning rate or max_grad_norm"
        return "all gradients are finite but their norm overflows; lower the learning rate"

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts by parameter name."""
        tensors = {}
        for name, value in self.parameters.items():
            for key, tensor in self.adamw.state.get(value, {}).items():
                tensors[f"{name}|{key}"] = tensor
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``; each tensor goes where its parameter lives."""
        for name, value in self.parameters.items():
            own = {
                key.rpartition("|")[2]: tensor.to(value.device)
                for key, tensor in tensors.items()
                if key.rpartition("|")[0] == name
            }
            if own:
                self.adamw.state[value] = own


def schedule(config: OptimiserConfig, progress: float) -> float:
    """Learning-rate factor at ``progress`` in [0, 1): linear warm-up, then the schedule."""
    if progress < config.warmup_share:
        return max(progress / config.warmup_share, 0.1)
    if config.schedule == "constant":
        return 1.0
    done = (progress - config.warmup_share) / max(1.0 - config.warmup_share, 1e-9)
    if config.schedule == "linear":
        return max(1.0 - done, 0.0)
    return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
