"""What every fit has: adapter, optimiser, packing; and the fits of fixed examples."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from heedful.config.base import Section


def place(layer: int | str, num_layers: int) -> int:
    """The number behind ``middle``."""
    return num_layers // 2 if isinstance(layer, str) else layer


class Adapter(Section):
    """The LoRA adapter that is trained: on all linear layers from ``first_layer`` up.

    ``middle`` is half of the base's layers, whatever their number. ``rank`` ``full`` trains whole
    matrices, at ``optimiser.full_learning_rate``.
    """

    rank: PositiveInt | Literal["full"] = 16
    alpha: float = Field(32.0, gt=0)
    first_layer: NonNegativeInt | Literal["middle"] = 0

    def span(self, num_layers: int) -> tuple[int, int]:
        """The first layer that is adapted and the number of layers that are run."""
        return place(self.first_layer, num_layers), num_layers


class Optimiser(Section):
    """AdamW with linear warm-up and a schedule over the progress of the run."""

    learning_rate: float = Field(1e-4, gt=0)
    head_learning_rate: float = Field(1e-3, gt=0)
    full_learning_rate: float = Field(1e-5, gt=0, description="of matrices of adapter.rank=full")
    weight_decay: float = Field(0.0, ge=0)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    warmup_share: float = Field(0.05, ge=0, le=1)
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    max_grad_norm: float = Field(1.0, gt=0)

    def rate_of(self, name: str) -> float:
        """The peak rate of a parameter of this name."""
        if ":head/" in name:
            return self.head_learning_rate
        return self.full_learning_rate if name.endswith("/delta") else self.learning_rate


class Packing(Section):
    """Packed tokens per forward, on which no result depends, and tokens of the longest text.

    More are faster and take memory: 512 with a gradient through all layers, or 768 of which half
    the layers and most passes have none. A GPU wants thousands. A longer example goes alone.
    """

    tokens_per_micro_step: PositiveInt = 768
    max_tokens: PositiveInt = 1024


class Batching(Packing):
    """Also examples per optimiser step, where the examples are given."""

    tokens_per_micro_step: PositiveInt = 512
    examples_per_step: PositiveInt = 8


class FitConfig(Section):
    """What every fit has.

    ``recompute`` saves the memory of activations for a third more arithmetic: ``auto`` does so only
    when the run would not fit otherwise. ``attention`` of packed rows goes tree by tree (``sdpa``)
    or in one fused product (``flex``, CUDA only). The result depends on neither.
    """

    data: str = Field(description="data set in the store, snapshot file, or 'test'")
    model: str = Field("smollm2", description="base model, model directory or registered model")
    seed: NonNegativeInt = 0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_every: PositiveInt = 20
    recompute: Literal["auto", "always", "never"] = "auto"
    attention: Literal["sdpa", "flex"] = "sdpa"
    compile: bool = Field(False, description="torch.compile; its cost is printed")
    adapter: Adapter = Adapter()
    optimiser: Optimiser = Optimiser()
    batch: Packing = Packing()

    def span(self, num_layers: int) -> tuple[int, int]:
        """The first layer that is adapted and the number of layers that are run."""
        return self.adapter.span(num_layers)


class ExampleConfig(FitConfig):
    """What every fit has that learns from given examples."""

    epochs: PositiveInt = 1
    held_out_share: float = Field(0.1, ge=0, lt=1)
    batch: Batching = Batching()


class SFTConfig(ExampleConfig):
    """Imitate demonstrations, or the chosen side of preferences."""


class PreferenceConfig(ExampleConfig):
    """Direct preference optimisation."""

    loss: str = "dpo"
    params: dict[str, float] = Field(default_factory=dict, description="of the loss function")
