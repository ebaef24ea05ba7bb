"""The optimiser's state."""

import torch
from torch import nn

from heedful.config import Optimiser as Config
from heedful.train.optim import Optimiser


def test_loaded_moments_live_where_their_parameters_do() -> None:
    optimiser = Optimiser({"a:x": nn.Parameter(torch.ones(3))}, Config())
    optimiser.parameters["a:x"].grad = torch.ones(3)
    optimiser.step(0.5)
    saved = {name: tensor.clone() for name, tensor in optimiser.state().items()}
    # a device that every machine has stands in for the GPU
    elsewhere = nn.Parameter(torch.ones(3, device="meta"))
    optimiser.parameters = {"a:x": elsewhere}
    optimiser.load(saved)
    devices = {tensor.device.type for tensor in optimiser.adamw.state[elsewhere].values()}
    assert devices == {"meta"}
