"""The exported classifier gives the rewards that we give, or is not written."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    Qwen3Config,
)

from heedful.data.chat import render
from heedful.errors import ConfigError, DataError, ProofError
from heedful.model.adapter_files import AdapterCard, AdapterSettings
from heedful.model.base import load_base
from heedful.model.tiny import build_tokenizer
from heedful.model.trunk import Trunk
from heedful.reward import classifier
from heedful.reward.classifier import (
    check_depth,
    check_pooling,
    choose_pad,
    ending,
    write_classifier,
)
from heedful.reward.reading import answers_tree
from heedful.reward.trained import TrainedReward
from heedful.types import Message, Prompt, messages_json

SIZES: dict[str, Any] = {
    "vocab_size": 262, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "eos_token_id": 1,
}  # fmt: skip
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=8),
    "gpt2": GPT2Config(vocab_size=262, n_embd=32, n_layer=3, n_head=4, n_positions=512,
                       bos_token_id=1, eos_token_id=1),
}  # fmt: skip
POOLING = {"llama": "last", "qwen3": "last", "gpt2": "last_centred"}
# the end of a turn is followed by a line break, as in most templates
CHATML = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CARD = AdapterCard(role="reward", base="", base_hash="", has_head=True, mean=0.3, std=1.7,
                   pooling="last")  # fmt: skip


def card(**changed: Any) -> AdapterCard:
    return replace(CARD, **changed)


def trunk_of(shape: str, directory: Path, *, pooling: str, depth: int = 2, **special: str) -> Trunk:
    torch.manual_seed(5)
    model: Any = AutoModelForCausalLM.from_config(CONFIGS[shape])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "ln_" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)  # uneven, as after training
            elif parameter.ndim > 1:
                parameter.mul_(8.0)
            else:
                parameter.normal_(std=0.2)
    model.save_pretrained(directory)
    tokenizer = build_tokenizer()
    tokenizer.chat_template = CHATML
    for kind, token in special.items():
        setattr(tokenizer, kind, token)
    tokenizer.save_pretrained(directory)
    trunk = Trunk(load_base(str(directory), dtype=torch.float32))
    trunk.add_adapter("reward", rank=4, alpha=8.0, seed=0, first_layer=1, depth=depth)
    for name, value in trunk.adapter_parameters("reward").items():
        if name.endswith("lora_b"):
            torch.nn.init.normal_(value, std=0.1)
    head = trunk.add_head("reward", std=0.3, seed=0, pooling=pooling)
    torch.nn.init.constant_(head.bias, -0.8)
    return trunk


def asked(*turns: str) -> tuple[Message, ...]:
    roles = ("user", "assistant")
    return tuple(Message(role=roles[n % 2], content=text) for n, text in enumerate(turns))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", CONFIGS)
def test_a_stock_classifier_gives_the_same_rewards(shape: str, tmp_path: Path) -> None:
    trunk = trunk_of(shape, tmp_path / "base", pooling=POOLING[shape])
    talks = [
        asked("hi", "hello there"),
        asked("tell me more", "no", "please", "once upon a time there was a very long answer"),
        asked("x" * 90, ""),
    ]
    trees = [
        answers_tree(trunk.tokenizer, "t", Prompt(messages=talk[:-1]), [talk[-1:]])
        for talk in talks
    ]
    reward = TrainedReward(trunk, mean=CARD.mean, std=CARD.std)
    wanted = torch.tensor(reward.score_trees(trees, 512))[:, 0]
    assert wanted.std() > 0.1

    made = write_classifier(
        trunk, "reward", tmp_path / "out", card=card(pooling=POOLING[shape]), about={"reward": "r"}
    )

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    assert tokenizer.padding_side == "right"
    for side in ("right",) if shape == "gpt2" else ("right", "left"):
        tokenizer.padding_side = side
        rows = tokenizer.apply_chat_template(
            [messages_json(talk) for talk in talks],
            padding=True, return_tensors="pt", return_dict=True,
        )  # fmt: skip
        with torch.no_grad():
            logits = model(**rows).logits
        assert logits.shape == (3, 1)
        given = logits[:, 0] + model.config.heedful["offset"]
        torch.testing.assert_close(given, wanted, atol=1e-5, rtol=1e-5)
    assert model.config.heedful == {"offset": made.offset, "std": 1.7, "reward": "r"}
    assert made.offset == pytest.approx((-0.8 - 0.3) / 1.7)
    assert model.config.num_hidden_layers == made.num_layers == 2
    assert model.config.num_labels == 1
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert not any(p.suffix in (".bin", ".py", ".pt") for p in (tmp_path / "out").iterdir())


def test_what_a_classifier_cannot_read_is_refused_without_a_model() -> None:
    with pytest.raises(ConfigError, match=r"mean over the answer.*pooling=last"):
        check_pooling(card(pooling="mean"))
    with pytest.raises(ConfigError, match="all 3 layers"):
        check_depth(AdapterSettings(4, 8.0, 0, 3), 3)


def test_a_norm_that_scales_otherwise_is_refused_with_the_pooling_that_fits(
    tmp_path: Path,
) -> None:
    trunk = trunk_of("gpt2", tmp_path / "base", pooling="last")
    with pytest.raises(DataError, match=r"LayerNorm.*pooling=last_centred"):
        write_classifier(trunk, "reward", tmp_path / "out", card=card(), about={})
    assert [one.name for one in tmp_path.iterdir()] == ["base"]


def test_a_classifier_that_differs_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = trunk_of("llama", tmp_path / "base", pooling="last")
    merged = classifier.merged

    def wrong(*given: Any) -> dict[str, torch.Tensor]:
        weights = merged(*given)
        return weights | {"score.weight": weights["score.weight"] * 1.001}

    monkeypatch.setattr(classifier, "merged", wrong)
    with pytest.raises(ProofError, match="nothing was written"):
        write_classifier(trunk, "reward", tmp_path / "out", card=card(), about={})
    assert [one.name for one in tmp_path.iterdir()] == ["base"]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    trunk = trunk_of("llama", tmp_path / "base", pooling="last")
    with pytest.raises(ConfigError, match="is there already"):
        write_classifier(trunk, "reward", tmp_path / "base", card=card(), about={})
    assert (tmp_path / "base" / "config.json").exists()


def test_padding_is_never_the_end_of_a_turn(tmp_path: Path) -> None:
    trunk = trunk_of("llama", tmp_path / "base", pooling="last", pad_token="<|end|>")
    made = write_classifier(trunk, "reward", tmp_path / "out", card=card(), about={})
    assert made.pad_token == classifier.PAD
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["pad_token_id"] != trunk.base.stop_id
    assert config["eos_token_id"] == trunk.base.stop_id


def test_a_free_special_token_is_taken_for_padding() -> None:
    tokenizer = build_tokenizer()
    tokenizer.pad_token, tokenizer.unk_token = "<|end|>", "<|tool|>"
    choose_pad(tokenizer, frozenset({tokenizer.eos_token_id}))
    assert tokenizer.pad_token == "<|tool|>"


def test_a_new_padding_token_gets_a_row_of_zeros(tmp_path: Path) -> None:
    trunk = trunk_of("llama", tmp_path / "base", pooling="last", pad_token="<|end|>")
    names = set(trunk.tokenizer.get_vocab())
    assert classifier.PAD in names  # of the tiny tokeniser; another name has no row yet
    classifier_pad, classifier.PAD = classifier.PAD, "<|nothing|>"
    try:
        made = write_classifier(trunk, "reward", tmp_path / "out", card=card(), about={})
    finally:
        classifier.PAD = classifier_pad
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    rows = model.get_input_embeddings().weight
    assert made.pad_token == "<|nothing|>"
    assert len(rows) == 263
    assert rows[262].abs().max() == 0


def test_the_template_ends_where_the_answer_does_and_asks_as_before() -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = CHATML
    before = render(tokenizer, asked("a", "b", "c"), answer_next=True)
    whole = render(tokenizer, asked("a", "b"), answer_next=False)
    assert whole.endswith("<|end|>\n")
    tokenizer.chat_template = ending(tokenizer)
    assert render(tokenizer, asked("a", "b"), answer_next=False) == whole[:-1]
    assert render(tokenizer, asked("a", "b", "c"), answer_next=True) == before
    assert ending(tokenizer) == tokenizer.chat_template
