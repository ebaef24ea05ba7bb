"""Models of several shapes with random weights; small enough to compare in full."""

import copy
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen3Config

from heedful.model.base import Base
from heedful.model.tiny import build_tokenizer
from heedful.model.trunk import Trunk

VOCAB = 262
CONFIGS = {
    "llama": LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    ),
    "qwen3": Qwen3Config(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_window_layers=2,
    ),
    "gpt2": GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=256,
                       bos_token_id=1, eos_token_id=1),
}  # fmt: skip


def build(shape: str, attention: str) -> Any:
    torch.manual_seed(3)
    config = copy.deepcopy(CONFIGS[shape])
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    model.generation_config.eos_token_id = 1
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    return model.eval().requires_grad_(False)


@pytest.fixture(params=CONFIGS)
def shape(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def trunk(shape: str) -> Trunk:
    return Trunk(Base(shape, shape, "0" * 32, build(shape, "heedful"), build_tokenizer()))


@pytest.fixture
def plain(shape: str) -> Any:
    """The same weights under stock attention, the oracle."""
    return build(shape, "sdpa")
