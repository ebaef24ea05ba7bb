"""A classifier of transformers and a judge behind HTTP, both real, as scorers of pairs."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig

from heedful.config import RewardCardConfig
from heedful.data import testing
from heedful.data.collate import silent
from heedful.data.examples import answer
from heedful.engine.remote import Remote, seconds_asked
from heedful.errors import ConfigError, DataError, ProofError
from heedful.jobs.models import ModelRef, open_trunk
from heedful.jobs.reward_card import reward_card
from heedful.reward.judge import (
    ChoosingScorer,
    Judge,
    RatingScorer,
    Replies,
    read_score,
    read_verdict,
)
from heedful.reward.sequence import ClassifierReward, ClassifierScorer, is_classifier
from heedful.types import Message, Preference, Prompt

KEY = "sk-very-secret"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with one logit, saved by transformers with the test model's tokeniser."""
    directory = tmp_path_factory.mktemp("classifier")
    tokenizer = open_trunk(ModelRef(base="test"), dtype="float32").tokenizer
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=256, num_labels=1,
        pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
    )  # fmt: skip
    model = AutoModelForSequenceClassification.from_config(config)
    torch.nn.init.normal_(model.score.weight)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def test_a_classifier_scores_as_transformers_does_one_by_one(classifier: Path) -> None:
    rows = testing.preferences()[:5]
    long = Preference(prompt=rows[0].prompt, chosen=answer("so " * 400), rejected=answer("no"))
    same = Preference(prompt=rows[0].prompt, chosen=answer("so"), rejected=answer("so"))
    assert is_classifier(classifier)
    scorer = ClassifierScorer(classifier, max_tokens=400)
    found = scorer.score([*rows, long, same])
    assert found.pairs == (0, 1, 2, 3, 4)
    assert found.drops == {"side_not_scored": 1, "identical_sides": 1}
    model = AutoModelForSequenceClassification.from_pretrained(classifier)
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    for place, row in enumerate(rows):
        for side, given in ((row.chosen, found.chosen), (row.rejected, found.rejected)):
            talk = [{"role": one.role, "content": one.content}
                    for one in (*row.prompt.messages, *side)]  # fmt: skip
            ids = tokenizer.apply_chat_template(talk, return_tensors="pt", return_dict=True)
            with torch.no_grad():
                wanted = model(**ids).logits[0, 0].item()
            assert given[place, 0] == pytest.approx(wanted, abs=1e-4)


def test_rounding_in_bfloat16_is_no_misread_padding(classifier: Path, tmp_path: Path) -> None:
    """Most reward models are saved so; a wrong padding is still found."""
    torch.manual_seed(0)
    told = AutoModelForSequenceClassification.from_pretrained(classifier).config
    told.update({"hidden_size": 128, "num_hidden_layers": 12, "initializer_range": 0.1})
    told.head_dim = 64
    model = AutoModelForSequenceClassification.from_config(told).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(classifier).save_pretrained(tmp_path)
    reward = ClassifierReward(tmp_path, tokens_per_pass=400)
    assert reward.model.dtype == torch.bfloat16
    gaps = []
    long = tuple(range(20, 80))
    for num in range(20, 30):
        reward = ClassifierReward(tmp_path, tokens_per_pass=400)
        short = tuple(range(10, 10 + num))
        alone, found = reward.logits([short])[0], reward.logits([short, long])[0]
        gaps.append(abs(alone - found) / max(1, abs(alone)))
    assert 1e-3 < max(gaps) < 0.25
    reward = ClassifierReward(tmp_path, tokens_per_pass=400)
    reward.pad = 17  # the model takes another token for padding, so it reads the last of these
    with pytest.raises(ProofError, match="padded batch; set pad_token_id"):
        reward.logits([long[:20], long[10:35], long[5:40], long])


def test_a_directory_that_is_no_safe_reward_is_refused(classifier: Path, tmp_path: Path) -> None:
    def changed(name: str, change: Callable[[Path], None]) -> Path:
        copy = tmp_path / name
        copy.mkdir()
        for file in classifier.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        change(copy)
        return copy

    def configured(**values: Any) -> Callable[[Path], None]:
        def change(copy: Path) -> None:
            told = json.loads((copy / "config.json").read_text())
            (copy / "config.json").write_text(json.dumps(told | values))

        return change

    def without_head(copy: Path) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(copy / "model.safetensors")
        weights.pop("score.weight")
        save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})

    def only_pickle(copy: Path) -> None:
        (copy / "model.safetensors").rename(copy / "pytorch_model.bin")

    def with_adapter(copy: Path) -> None:
        told = {"peft_type": "LORA", "base_model_name_or_path": "someone/elsewhere"}
        (copy / "adapter_config.json").write_text(json.dumps(told))

    def without_template(copy: Path) -> None:
        (copy / "chat_template.jinja").unlink(missing_ok=True)
        told = json.loads((copy / "tokenizer_config.json").read_text())
        told.pop("chat_template", None)
        (copy / "tokenizer_config.json").write_text(json.dumps(told))

    cases = [
        ("code", configured(auto_map={"AutoModel": "evil.Model"}), "runs code of its own"),
        ("adapter", with_adapter, "would be looked for elsewhere"),
        ("pickle", only_pickle, r"has no \*\.safetensors"),
        ("head", without_head, r"lacks score\.weight"),
        ("labels", configured(num_labels=2, id2label={"0": "a", "1": "b"}), "2 labels|cannot be"),
        ("template", without_template, "no chat template"),
    ]
    for name, change, words in cases:
        with pytest.raises(DataError, match=words):
            ClassifierScorer(changed(name, change), max_tokens=400)


class Server:
    """Answers chat completions by ``reply`` of the question; ``statuses`` come first, in turn."""

    def __init__(self, reply: Callable[[str], str]) -> None:
        self.reply = reply
        self.statuses: list[int] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.address = ""


@contextmanager
def judging(reply: Callable[[str], str]) -> Iterator[Server]:
    known = Server(reply)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                known.asked.append(body)
                known.keys.append(self.headers.get("authorization"))
                status = known.statuses.pop(0) if known.statuses else 200
            said = {
                "choices": [{"message": {"content": known.reply(body["messages"][1]["content"])}}]
            }
            told = json.dumps(said) if status == 200 else f"no: {self.headers['authorization']}"
            self.send_response(status)
            if status == 429:
                self.send_header("retry-after", "7")
            self.send_header("content-length", str(len(told.encode())))
            self.end_headers()
            self.wfile.write(told.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def remote(server: Server, pauses: list[float] | None = None, **more: Any) -> Remote:
    sleep = (pauses if pauses is not None else []).append
    return Remote(url=server.address, model="judge-1", key=KEY, sleep=sleep, **more)


def likes_good(asked: str) -> str:
    """A fair judge: the answer that says good."""
    before, after = asked.split("[answer B")
    sides = ("good" in before.split("[answer A")[1], "good" in after)
    return {(True, False): "Verdict: A", (False, True): "It is.\n**Verdict: B**"}.get(
        sides, "Verdict: tie"
    )


def rows() -> list[Preference]:
    texts = [("good", "bad"), ("bad", "good"), ("so", "so"), ("x", "y")]
    return [
        Preference(prompt=Prompt.of(f"q{n}"), chosen=answer(a), rejected=answer(b))
        for n, (a, b) in enumerate(texts)
    ]


def test_a_judge_chooses_and_is_asked_every_question_once(tmp_path: Path) -> None:
    with judging(likes_good) as server:
        kept = tmp_path / "replies.jsonl"
        judge = Judge(remote(server), replies=Replies(kept), params={"temperature": 0})
        moved: list[int] = []
        found = ChoosingScorer(judge).score(rows(), moved.append)
        assert found.pairs == (0, 1, 3)
        assert (found.chosen - found.rejected)[:, 0].tolist() == [1.0, -1.0, 0.0]
        assert (found.drops, sum(moved)) == ({"identical_sides": 1}, 4)
        assert len(server.asked) == 3
        assert {one["temperature"] for one in server.asked} == {0}
        assert set(server.keys) == {f"Bearer {KEY}"}
        assert KEY not in kept.read_text()
        again = Judge(remote(server), replies=Replies(kept), params={"temperature": 0})
        swapped = ChoosingScorer(again).score([one.swap() for one in rows()])
        assert (swapped.chosen - swapped.rejected)[:, 0].tolist() == [-1.0, 1.0, 0.0]
        ChoosingScorer(again).score(rows())
        assert len(server.asked) == 6  # the swapped ones alone


def test_replies_after_a_torn_line_begin_a_line_of_their_own(tmp_path: Path) -> None:
    kept = tmp_path / "replies.jsonl"
    Replies(kept).keep("a", "Verdict: A\u2028with a separator in it")
    with kept.open("a") as file:
        file.write('{"asked": "b", "rep')
    Replies(kept).keep("c", "Verdict: tie")
    assert list(Replies(kept).known) == ["a", "c"]


def test_a_judge_scores_single_answers_and_what_it_does_not_say_is_dropped() -> None:
    def reply(asked: str) -> str:
        return (
            "Score: 9/10" if "good" in asked else "I will not." if "\nx\n" in asked else "Score: 2"
        )

    with judging(reply) as server:
        found = RatingScorer(Judge(remote(server), num_at_once=2)).score(rows())
    assert found.pairs == (0, 1)
    assert np.hstack([found.chosen, found.rejected]).tolist() == [[9.0, 2.0], [2.0, 9.0]]
    assert found.drops == {"identical_sides": 1, "side_not_scored": 1}


def test_what_may_pass_is_tried_again_and_the_key_is_never_told() -> None:
    pauses: list[float] = []
    talk = [Message(role="system", content="judge"), Message(role="user", content="this")]
    question = Remote(url="http://localhost/v1", model="m").body(talk)
    with judging(lambda _: "yes") as server:
        asked = remote(server, pauses)
        server.statuses = [503, 429]
        assert asked.ask(question) == "yes"
        assert 0.5 <= pauses[0] <= 1.5
        assert pauses[1] == 7.0
        server.statuses = [500] * 4
        with pytest.raises(DataError, match=r"asked 4 times: it answered 500: no: Bearer \[key"):
            asked.ask(question)
        server.statuses = [401]
        num = len(server.asked)
        with pytest.raises(DataError, match="answered 401") as refused:
            asked.ask(question)
        assert len(server.asked) == num + 1
        assert KEY not in str(refused.value) + repr(asked)
    with pytest.raises(DataError, match="no answer"):
        asked.ask(question)


def test_an_endpoint_that_gives_up_leaves_what_it_has_said(tmp_path: Path) -> None:
    with judging(likes_good) as server:
        kept = tmp_path / "replies.jsonl"
        server.statuses = [200, 401, 401, 401]
        with pytest.raises(DataError, match="answered 401"):
            Judge(remote(server), replies=Replies(kept), num_at_once=1).ask(
                [[Message(role="system", content=""),
                  Message(role="user", content=f"[answer A\n[answer B {n}")] for n in range(4)],
                read_verdict, silent,
            )  # fmt: skip
    assert len(Replies(kept).known) == 1


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("Verdict: A", 1.0),
        ("I first thought Verdict: A but\n**Verdict:** B", -1.0),
        ("verdict: Tie.", 0.0),
        ("Verdict: [[B]]", -1.0),
        ("Answer A is better", None),
        ("Verdict: Bad", None),
    ],
)
def test_the_last_verdict_counts(reply: str, verdict: float | None) -> None:
    assert read_verdict(reply) == verdict


@pytest.mark.parametrize(
    ("reply", "score"),
    [("Score: 7.5", 7.5), ("**Score:** 10", 10.0), ("Score: 11", None), ("Score: 1000", None),
     ("It scores well", None), ("Score: 3. No, Score: 4/10.", 4.0)],
)  # fmt: skip
def test_the_last_score_in_range_counts(reply: str, score: float | None) -> None:
    assert read_score(reply) == score


def test_the_pause_that_an_endpoint_asks_for_is_seconds_or_a_date() -> None:
    assert seconds_asked("12") == 12.0
    assert seconds_asked("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert seconds_asked("soon") is None


def test_the_card_of_a_judge_is_balanced_and_holds_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEEDFUL_JUDGE_KEY", KEY)
    kind = {row.prompt.id: row for row in testing.preferences()}
    better = {row.chosen[0].content for row in kind.values()}

    def reply(asked: str) -> str:
        first = asked.split("[answer A")[1].split("\n")[1]
        # likes the first place, and a better answer only where it sees the word "please"
        return "Verdict: A" if first in better or len(asked) % 2 else "Verdict: B"

    with judging(reply) as server:
        settings = {"url": server.address, "num_at_once": 8}
        config = RewardCardConfig(
            model="judge-1", data="test", judge=settings, num_rewritten=2, seed=3
        )
        result = reward_card(config, tmp_path / "card")
        assert set(server.keys) == {f"Bearer {KEY}"}
    card = result["card"]
    assert 0.5 < result["accuracy"] < 1
    assert card["swap"]["value"] < 1
    assert result["num_learned"] is None
    assert "swap" in {one["rule"] for one in result["warnings"]}
    for file in (tmp_path / "card").rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()
    with pytest.raises(ConfigError, match="plain HTTP to another machine"):
        reward_card(
            RewardCardConfig(model="m", data="test", judge={"url": "http://example.org/v1"}),
            tmp_path / "other",
        )


def test_the_card_of_a_classifier_needs_its_directory_alone(
    classifier: Path, tmp_path: Path
) -> None:
    config = RewardCardConfig(model=str(classifier), data="test", num_rewritten=4)
    result = reward_card(config, tmp_path / "card")
    assert result["num_held_out"] == 32
    assert "leakage_unknown" in {one["rule"] for one in result["warnings"]}
    with pytest.raises(DataError, match=r"is a sequence classifier and beta is 0\.1"):
        reward_card(
            RewardCardConfig(model=str(classifier), data="test", beta=0.1), tmp_path / "other"
        )
