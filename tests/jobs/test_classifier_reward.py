"""A sequence classifier of transformers wherever a reward goes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from heedful.config import EvaluateConfig, GRPOConfig, PPOConfig, resolve
from heedful.data import testing
from heedful.data.chat import render
from heedful.errors import ConfigError, DataError
from heedful.jobs.evaluate import evaluate
from heedful.jobs.fit import fit_grpo, fit_ppo
from heedful.jobs.fit.memory import classifier_line
from heedful.jobs.rewards import check_reward, export_classifier, open_reward
from heedful.jobs.rundir import RunDirectory
from heedful.jobs.scoring import score_file
from heedful.jobs.serving import RewardWorker
from heedful.types import Message, Prompt
from heedful.web.reward_service import create_service

SMALL = ["rollouts.num_rollouts=1", "rollouts.prompts_per_rollout=2",
         "rollouts.samples_per_prompt=2", "rollouts.max_new_tokens=4"]  # fmt: skip


@pytest.fixture(scope="module")
def classifier(tiny_reward: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, float]:
    """A directory, and what its logits leave out of the reward that it was made of."""
    out = tmp_path_factory.mktemp("classifier") / "it"
    written = export_classifier(str(tiny_reward), None, out)
    return str(out), written.offset


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [
        {
            "prompt": row.prompt.messages[0].content,
            "completions": [row.chosen[0].content, row.rejected[0].content],
        }
        for row in testing.preferences()[:6]
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def rewards(model: str, file: Path) -> list[float]:
    lines: list[str] = []
    score_file(lambda: open_reward(model, None), file, write=lines.append)
    return [json.loads(line)["reward"] for line in lines]


def test_score_gives_the_rewards_of_the_model_that_was_exported(
    classifier: tuple[str, float], tiny_reward: Path, pairs: Path
) -> None:
    directory, offset = classifier
    assert abs(offset) > 1e-3
    found, wanted = rewards(directory, pairs), rewards(str(tiny_reward), pairs)
    assert found == pytest.approx(wanted, abs=1e-4)


def test_a_classifier_of_others_gives_its_raw_logit(
    classifier: tuple[str, float], pairs: Path, tmp_path: Path
) -> None:
    directory, offset = classifier
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    told = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({k: v for k, v in told.items() if k != "heedful"}))
    found, own = rewards(str(copy), pairs), rewards(directory, pairs)
    assert [one + offset for one in found] == pytest.approx(own, abs=1e-4)
    (copy / "config.json").write_text(json.dumps(told | {"heedful": {"offset": "much"}}))
    with pytest.raises(DataError, match="states the offset 'much'"):
        open_reward(str(copy), None)
    (copy / "config.json").write_text(json.dumps(told | {"heedful": {"offset": 0.0, "std": 0}}))
    with pytest.raises(DataError, match="states the std 0; write a number above 0"):
        open_reward(str(copy), None)


def test_the_service_gives_the_logits_of_transformers(
    classifier: tuple[str, float], pairs: Path
) -> None:
    directory, offset = classifier
    items = [json.loads(line) for line in pairs.read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    texts = [
        render(
            tokenizer,
            [Message(role="user", content=item["prompt"]), Message(role="assistant", content=one)],
            answer_next=False,
        )
        for item in items
        for one in item["completions"]
    ]
    wanted = []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            wanted.append(model(input_ids=ids).logits[0, 0].item() + offset)
    with (
        RewardWorker(open_reward(directory, None)) as worker,
        TestClient(create_service(worker, token=None)) as client,
    ):
        by_messages = client.post("/v1/rewards", json={"items": items}).json()
        by_text = client.post("/get_reward", json={"query": texts}).json()
    assert [one for row in by_messages["rewards"] for one in row] == pytest.approx(wanted, abs=1e-4)
    assert "vetoed_by" not in by_messages
    assert by_text["rewards"] == pytest.approx(wanted, abs=1e-4)


def test_the_service_refuses_an_empty_text_and_answers_the_next(
    classifier: tuple[str, float],
) -> None:
    with (
        RewardWorker(open_reward(classifier[0], None)) as worker,
        TestClient(create_service(worker, token=None)) as client,
    ):
        refused = client.post("/get_reward", json={"query": ["", "hello"]})
        answered = client.post("/get_reward", json={"query": ["hello"]})
    assert (refused.status_code, answered.status_code) == (422, 200)
    assert "query[0] is empty; send text" in refused.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["ppo", "grpo"])
def test_a_policy_is_trained_on_a_classifier(
    kind: str, classifier: tuple[str, float], tmp_path: Path
) -> None:
    directory, _ = classifier
    flags = {"data": "test", "model": "test", "reward": directory}
    if kind == "ppo":
        run = fit_ppo(resolve(PPOConfig, overrides=SMALL, flags=flags), tmp_path / "run")
    else:
        run = fit_grpo(resolve(GRPOConfig, overrides=SMALL, flags=flags), tmp_path / "run")
    reward = open_reward(directory, None)
    asked = {row.messages[0].content: row for row in testing.prompts()}
    rows = RunDirectory.read_rollouts(Path(run.run))
    assert len(rows) == 4
    for row in rows:
        said = (Message(role="assistant", content=row["response"]),)
        tree = reward.tree("a", asked[row["prompt"]], [said])
        assert row["reward"] == pytest.approx(reward.score([tree])[0][0], abs=1e-4)


def test_an_evaluation_by_a_classifier_makes_no_claim_about_held_out_data(
    classifier: tuple[str, float], tmp_path: Path
) -> None:
    directory, _ = classifier
    flags = {"data": "test", "model": "test", "reward": directory}
    small = ["num_prompts=4", "best_of=2", "max_new_tokens=4"]
    result = evaluate(resolve(EvaluateConfig, overrides=small, flags=flags), tmp_path / "e")
    assert result["num_learned"] is None
    assert "win_rate" in result


def test_what_could_run_code_is_refused_before_anything_is_loaded(
    classifier: tuple[str, float], tmp_path: Path
) -> None:
    directory, _ = classifier
    check_reward(directory, None)
    with pytest.raises(ConfigError, match="is a sequence classifier without parts"):
        check_reward(directory, None, "a=1")
    told = json.loads((Path(directory) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(told | {"auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(DataError, match="runs code of its own"):
        check_reward(str(tmp_path), None)
    (tmp_path / "config.json").write_text(json.dumps(told))
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(DataError, match=r"no \*\.safetensors"):
        check_reward(str(tmp_path), None)


def test_memory_counts_the_weights_of_a_classifier(classifier: tuple[str, float]) -> None:
    directory, _ = classifier
    line = classifier_line(Path(directory))
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    assert line.num_parameters == sum(one.numel() for one in model.parameters())
    assert line.num_bytes >= 4 * line.num_parameters


def test_a_long_conversation_is_left_out_and_counted(
    classifier: tuple[str, float], tmp_path: Path
) -> None:
    directory, _ = classifier
    reward = open_reward(directory, None)
    long = "so " * reward.max_tokens
    rows = [{"prompt": "hi", "completions": ["yes"]}, {"prompt": "hi", "completions": [long]}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    lines: list[str] = []
    result = score_file(lambda: reward, path, write=lines.append)
    assert (len(lines), dict(result.rules)) == (1, {"too_long": 1})
    tree = reward.tree("a", Prompt.of("hi"), [(Message(role="assistant", content="yes"),)])
    assert json.loads(lines[0])["reward"] == pytest.approx(reward.score([tree])[0][0])
