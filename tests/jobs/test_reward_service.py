"""The reward over HTTP gives the model's own rewards, in the shapes that trainers read."""

import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from heedful.data.chat import render
from heedful.errors import DataError, ResourceError
from heedful.jobs import serving
from heedful.jobs.rewards import OpenReward, open_reward
from heedful.jobs.serving import RewardWorker
from heedful.reward.reading import answers_tree
from heedful.types import Message, Prompt
from heedful.web import reward_service
from heedful.web.reward_service import Rendered, create_service

TOKEN = "a secret of many characters"


@pytest.fixture(scope="module")
def model(tiny_reward: Path) -> OpenReward:
    return open_reward(str(tiny_reward), None)


@pytest.fixture
def worker(model: OpenReward) -> Iterator[RewardWorker]:
    with RewardWorker(model) as working:
        yield working


@pytest.fixture
def client(worker: RewardWorker) -> Iterator[TestClient]:
    with TestClient(create_service(worker, token=None)) as open_client:
        yield open_client


def reward(model: OpenReward, prompt: str, answer: str) -> float:
    said = [[Message(role="assistant", content=answer)]]
    tree = answers_tree(model.trunk.tokenizer, "t", Prompt.of(prompt), said)
    return model.score([tree])[0][0]


def before(model: OpenReward, prompt: str) -> str:
    asked = [Message(role="user", content=prompt)]
    return render(model.trunk.tokenizer, asked, answer_next=True)


def close(value: Any) -> Any:
    return pytest.approx(value, abs=1e-5)


def test_messages_and_texts_get_the_rewards_of_the_model(
    client: TestClient, model: OpenReward
) -> None:
    items = [
        {"prompt": "hi", "completions": ["hello", [{"role": "assistant", "content": "go"}]]},
        {"prompt": [{"role": "user", "content": "why?"}], "completions": ["no"]},
    ]
    answer = client.post("/v1/rewards", json={"items": items})
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["rewards"]
    assert first == close([reward(model, "hi", "hello"), reward(model, "hi", "go")])
    assert second == close([reward(model, "why?", "no")])
    assert answer.json()["model"] == model.name


def test_openrlhf_gets_rewards_and_scores(client: TestClient, model: OpenReward) -> None:
    start = before(model, "hi")
    body = {
        "query": [start + "hello<|end|><|pad|>", start + "I was cut"],
        "prompts": [start, start],
        "labels": ["", None],
    }
    answer = client.post("/get_reward", json=body).json()
    wanted = close([reward(model, "hi", "hello"), reward(model, "hi", "I was cut")])
    assert answer == {"rewards": wanted, "scores": wanted, "extra_logs": {}}
    older = client.post("/get_reward", json={"query": body["query"]}).json()
    assert older["rewards"] == wanted


def test_verl_reads_the_last_number_of_the_last_row(client: TestClient, model: OpenReward) -> None:
    text = before(model, "hi") + "hello<|end|>\n"
    body = {"model": "some/path", "input": text, "activation": False, "use_activation": False}
    wanted = close(reward(model, "hi", "hello"))
    answer = client.post("/classify", json=body).json()
    assert answer["data"][-1]["probs"][-1] == wanted
    assert answer["model"] == model.name
    assert answer["usage"]["prompt_tokens"] > 0
    embedded = client.post("/v1/embeddings", json={"model": "x", "input": [text, text]}).json()
    assert [row["embedding"][-1] for row in embedded["data"]] == [wanted, wanted]


def test_the_same_answer_whoever_else_asks(worker: RewardWorker, model: OpenReward) -> None:
    start = before(model, "hi")
    texts = [f"{start}{'word ' * n}<|end|>" for n in range(1, 13)]
    waiting = [worker.submit([Rendered(place="t", text=text)]) for text in texts]
    together = [one.result()[0].rewards[0] for one in waiting]
    alone = [reward(model, "hi", "word " * n) for n in range(1, 13)]
    assert together == close(alone)


def test_what_waits_is_scored_in_one_batch(
    model: OpenReward, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    sizes: list[int] = []
    judge = OpenReward.judge

    def held(self: OpenReward, trees: Any) -> Any:
        sizes.append(len(trees))
        begun.set()
        assert go_on.wait(10)
        return judge(self, trees)

    monkeypatch.setattr(OpenReward, "judge", held)
    asked = [Rendered(place="t", text=before(model, "hi") + "hello")]
    with RewardWorker(model) as worker:
        first = worker.submit(asked)
        assert begun.wait(10)
        rest = [worker.submit(asked) for _ in range(5)]
        rest[2].cancel()
        go_on.set()
        values = {round(one.result()[0].rewards[0], 4) for one in (first, *rest[:2], *rest[3:])}
    assert sizes == [1, 4]  # a request that its asker gave up is not scored
    assert len(values) == 1


def test_a_bad_request_spoils_no_other_of_its_batch(
    worker: RewardWorker, model: OpenReward
) -> None:
    good = Rendered(place="t", text=before(model, "hi") + "hello")
    bad = Rendered(place="query[0]", text="no template")
    answers = [worker.submit([one]) for one in (good, bad, good)]
    first, third = (answers[n].result()[0].rewards for n in (0, 2))
    assert first == close(third)
    with pytest.raises(DataError, match=r"query\[0\]"):
        answers[1].result()


def test_too_much_waiting_is_refused_and_so_is_what_comes_after_the_end(
    model: OpenReward, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [Rendered(place="t", text=before(model, "hi") + "hello")]
    monkeypatch.setattr(serving, "MAX_WAITING", 2)
    begun, go_on = threading.Event(), threading.Event()
    judge = OpenReward.judge

    def held(self: OpenReward, trees: Any) -> Any:
        begun.set()
        assert go_on.wait(10)
        return judge(self, trees)

    monkeypatch.setattr(OpenReward, "judge", held)
    with RewardWorker(model) as worker:
        worker.submit(asked)
        assert begun.wait(10)
        kept = worker.submit(asked * 2)
        with pytest.raises(ResourceError, match="2 completions wait"):
            worker.submit(asked)
        go_on.set()
        assert len(kept.result()) == 2
    with pytest.raises(ResourceError, match="stopped"):
        worker.submit(asked)
    health = TestClient(create_service(worker, token=None)).get("/health")
    assert (health.status_code, health.json()["error"]["code"]) == (503, "stopped")


def test_with_a_token_nothing_but_the_health_is_open(worker: RewardWorker) -> None:
    client = TestClient(create_service(worker, token=TOKEN))
    body = {"items": []}
    assert client.get("/health").json() == {"status": "ok", "model": worker.name}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Digest {TOKEN}"},
                    {"Authorization": "Basic ???"}):  # fmt: skip
        answer = client.post("/v1/rewards", json=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "token_needed")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert client.get("/nothing").status_code == 401
    password = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    for value in (f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Basic {password}"):
        answer = client.post("/v1/rewards", json=body, headers={"Authorization": value})
        assert answer.json()["rewards"] == []


@pytest.mark.parametrize(
    ("path", "body", "status", "seen"),
    [
        ("/get_reward", {"query": "one text"}, 422, "body.query"),
        ("/get_reward", {}, 422, "body.query: field required"),
        ("/get_reward", {"query": ["a"], "prompts": ["a", "b"]}, 422, "query has 1 texts"),
        ("/get_reward", {"query": ["a"]}, 422, "query[0] does not have '<|assistant|>'"),
        ("/get_reward", {"query": ["<|user|>a<|assistant|>" + "b" * 4000]}, 422, "4004 tokens"),
        ("/classify", {"input": "x", "use_activation": True}, 422, "have no activation"),
        ("/v1/rewards", {"items": [{"prompt": "", "completions": ["a"]}]}, 422, "items[0].prompt"),
        ("/v1/rewards", {"items": [{"prompt": "a", "completions": ["a", ""]}]}, 422,
         "items[0].completions[1]"),
        ("/v1/rewards", {"items": [{"prompt": "a", "completions": []}]}, 422, "at least 1"),
        ("/v1/rewards", {"items": [], "item": 1}, 422, "extra"),
        ("/get_reward", {"query": ["a"] * 3000}, 422, "at most 2048"),
        ("/nothing", {}, 404, "Not Found"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_request_is_said_in_one_shape(
    client: TestClient, path: str, body: Any, status: int, seen: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message"}
    assert answer.json()["error"]["message"].lower().count(seen.lower()) == 1


def test_a_body_is_json_of_a_bounded_size(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = client.post(
        "/get_reward", content='{"query": []}', headers={"content-type": "text/plain"}
    )
    assert text.status_code == 415
    broken = client.post("/get_reward", content="{", headers={"content-type": "application/json"})
    assert (broken.status_code, broken.json()["error"]["code"]) == (422, "shape")
    monkeypatch.setattr(reward_service, "MAX_BODY", 100)
    long = client.post("/get_reward", json={"query": ["x" * 200]})
    assert (long.status_code, long.json()["error"]["code"]) == (413, "too_large")


def test_a_model_that_breaks_says_so_and_goes_on(
    client: TestClient, model: OpenReward, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"items": [{"prompt": "hi", "completions": ["hello"]}]}

    def broken(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(OpenReward, "judge", broken)
        answer = client.post("/v1/rewards", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "out of memory" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert client.post("/v1/rewards", json=body).status_code == 200
