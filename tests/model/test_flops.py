import torch

from heedful.model.base import load_base
from heedful.model.flops import forward_flops, matrix_product_peak, update_flops
from heedful.model.trunk import Trunk


def test_arithmetic_is_counted_from_the_layers_that_run() -> None:
    trunk = Trunk(load_base("test"))
    config = trunk.base.model.config
    total = sum(
        weight.numel()
        for name, weight in trunk.base.model.named_parameters()
        if "layers." in name and weight.ndim == 2
    )
    layers, output = config.num_hidden_layers, config.vocab_size * config.hidden_size
    assert forward_flops(trunk, None, 7) == 2 * 7 * total
    assert forward_flops(trunk, None, 7, 3) == 2 * 7 * total + 2 * 3 * output
    trunk.add_adapter("short", rank=2, alpha=4, seed=0, depth=1)
    assert forward_flops(trunk, "short", 7) == 2 * 7 * total / layers
    trunk.add_adapter("top", rank=2, alpha=4, seed=0, first_layer=layers - 1)
    assert update_flops(trunk, "top", 7, 3) == (
        2 * 7 * total + 2 * 7 * total / layers + 2 * 2 * 3 * output
    )
    assert forward_flops(trunk, None, 7, first=1) == 2 * 7 * total * (layers - 1) / layers


def test_the_peak_is_a_plausible_rate() -> None:
    rate = matrix_product_peak(torch.device("cpu"), torch.float32, size=256, repeats=1)
    assert 1e8 < rate < 1e14
