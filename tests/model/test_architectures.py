"""Architectures that scale or cap logits, or attend to a window: exact, or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    CohereConfig,
    Gemma2Config,
    GptOssConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    PhiConfig,
)

from heedful.data.collate import Tree, collate
from heedful.errors import DataError
from heedful.model.base import load_base
from heedful.model.forward import logprobs_of
from heedful.model.tiny import build_tokenizer
from heedful.model.trunk import Trunk

SIZES = {
    "vocab_size": 262,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "eos_token_id": 1,
    "bos_token_id": 1,
    "pad_token_id": 0,
}
TREES = [
    Tree(id="a", prompt=(5, 6, 7), responses=((8, 9, 10, 1), (11, 1))),
    Tree(id="b", prompt=(20, 21), responses=((22, 1),)),
]


def save(config: Any, path: Path, change: Callable[[Any], None] = lambda _: None) -> str:
    """A model of this configuration with large random weights, as a directory."""
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
        change(model)
    model.save_pretrained(path)
    build_tokenizer().save_pretrained(path)
    return str(path)


def load(path: str) -> Trunk:
    return Trunk(load_base(path, dtype=torch.float32, device=torch.device("cpu")))


def worst_difference(path: str, trees: list[Tree]) -> float:
    """Of the log-probabilities of packed trees from those of the stock model, one by one."""
    plain = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    trunk = load(path)
    rows = logprobs_of(trunk, collate(trees, trunk.device), None, temperature=0.7)
    expected = []
    for tree in trees:
        for response in tree.responses:
            with torch.no_grad():
                logits = plain(torch.tensor([[*tree.prompt, *response]])).logits[0].float() / 0.7
            own = torch.log_softmax(logits[len(tree.prompt) - 1 : -1], dim=-1)
            expected.append(own[torch.arange(len(response)), torch.tensor(response)])
    return max(
        (row[: len(wanted)] - wanted).abs().max().item()
        for row, wanted in zip(rows, expected, strict=True)
    )


@pytest.mark.parametrize(
    "config",
    [
        GraniteConfig(**SIZES, logits_scaling=8.0, residual_multiplier=0.5),
        CohereConfig(**SIZES, logit_scale=0.25),
        MistralConfig(**SIZES, sliding_window=8),
    ],
    ids=["granite", "cohere", "mistral"],
)
def test_scaled_logits_and_windows_that_hold_the_row_equal_the_stock_model(
    config: Any, tmp_path: Path
) -> None:
    path = save(config, tmp_path)
    assert worst_difference(path, TREES) < 1e-4
    states = torch.randn(3, 32)
    trunk = load(path)
    scale = trunk.base.logit_scale
    torch.testing.assert_close(trunk.logits(states), scale * states @ trunk.output_weight.T)


def test_a_row_that_is_longer_than_the_attention_window_is_refused(tmp_path: Path) -> None:
    trunk = load(save(MistralConfig(**SIZES, sliding_window=6), tmp_path))
    assert trunk.max_tokens == 6
    with pytest.raises(DataError, match=r"7 tokens and .* the last 6 only; set batch.max_tokens=6"):
        logprobs_of(trunk, collate(TREES, trunk.device), None)


def bias_output(model: Any) -> None:
    model.lm_head.bias.fill_(0.5)


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (Gemma2Config(**SIZES, head_dim=8), lambda _: None, "final_logit_softcapping 30"),
        (
            Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=None),
            lambda _: None,
            "attn_logit_softcapping 50",
        ),
        (PhiConfig(**SIZES), bias_output, r"lm_head.bias 0.5"),
    ],
    ids=["logits", "attention", "bias"],
)
def test_caps_and_a_bias_of_the_output_are_refused_by_name_and_value(
    config: Any, change: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=f"{message}.*choose a model without it"):
        load(save(config, tmp_path, change))


def test_weights_that_would_be_drawn_at_random_are_named(tmp_path: Path) -> None:
    path = save(LlamaConfig(**SIZES, tie_word_embeddings=False), tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    del weights["lm_head.weight"], weights["model.norm.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"lacks 2 of its weights \(lm_head\.weight, model\.norm"):
        load(path)


def test_a_sequence_classifier_is_no_base(tmp_path: Path) -> None:
    config = LlamaConfig(**SIZES, tie_word_embeddings=True, num_labels=1)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(DataError, match="is a sequence classifier, whose score would be lost"):
        load(str(tmp_path))


def test_a_bias_of_zero_is_no_bias(tmp_path: Path) -> None:
    path = save(PhiConfig(**SIZES), tmp_path, lambda model: model.lm_head.bias.zero_())
    assert worst_difference(path, TREES) < 1e-4


def test_layers_that_attend_in_chunks_are_refused(tmp_path: Path) -> None:
    path = save(LlamaConfig(**SIZES), tmp_path)
    config = tmp_path / "config.json"
    text = config.read_text().rstrip().removesuffix("}").rstrip()
    config.write_text(text + ', "layer_types": ["chunked_attention", "full_attention"]}')
    with pytest.raises(DataError, match="layer_types chunked_attention"):
        load(path)


def test_attention_sinks_are_refused(tmp_path: Path) -> None:
    config = GptOssConfig(**SIZES, head_dim=8, num_local_experts=2, num_experts_per_tok=1)
    trunk = load(save(config, tmp_path))
    with pytest.raises(DataError, match="has attention sinks"):
        logprobs_of(trunk, collate(TREES, trunk.device), None)
