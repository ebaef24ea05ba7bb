"""Files of completions are scored in order, as the reward model scores them in training."""

import gzip
import io
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from heedful.data.collate import Tree
from heedful.errors import DataError, MissingError, NumericsError
from heedful.jobs.rewards import OpenReward, export_classifier, find_reward, open_reward
from heedful.jobs.scoring import ScoreResult, detect, score_file, spooled
from heedful.reward.reading import answers_tree
from heedful.reward.trained import TrainedReward
from heedful.types import Message, Prompt

TEXTS = [("hi", "hello"), ("hi", "go away"), ("why?", "because " * 40), ("why?", "no")]


@pytest.fixture(scope="module")
def model(tiny_reward: Path) -> OpenReward:
    return open_reward(str(tiny_reward), None)


def tree(model: OpenReward, prompt: str, *answers: str) -> Tree:
    said = [[Message(role="assistant", content=text)] for text in answers]
    return answers_tree(model.trunk.tokenizer, prompt, Prompt.of(prompt), said)


def alone(model: OpenReward, prompt: str, answer: str) -> float:
    """The oracle: one conversation by itself, through the class that training uses."""
    reward = TrainedReward(model.trunk, mean=0.2, std=1.5)
    return reward.score_trees([tree(model, prompt, answer)], 512)[0][0]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def scored(model: OpenReward, path: Path, **given: Any) -> tuple[list[dict[str, Any]], ScoreResult]:
    lines: list[str] = []
    result = score_file(lambda: model, path, write=lines.append, **given)
    return [json.loads(line) for line in lines], result


def test_rewards_of_a_batch_are_those_of_each_answer_alone(model: OpenReward) -> None:
    trees = [tree(model, *pair) for pair in TEXTS] + [tree(model, "hi", "hello", "good day")]
    rewards = [value for row in model.score(trees) for value in row]
    wanted = [alone(model, *pair) for pair in [*TEXTS, ("hi", "hello"), ("hi", "good day")]]
    assert rewards == pytest.approx(wanted, abs=1e-5)
    assert len({round(value, 3) for value in rewards}) == 5


def test_many_answers_to_one_prompt_are_read_in_parts(model: OpenReward) -> None:
    answers = [f"{number} " * 60 for number in range(30)]
    (rewards,) = model.score([tree(model, "hi", *answers)])
    assert sum(map(len, tree(model, "hi", *answers).responses)) > 3 * model.tokens_per_pass
    wanted = [alone(model, "hi", answer) for answer in answers]
    assert rewards == pytest.approx(wanted, abs=1e-5)


def test_a_reward_that_is_no_number_is_never_given(tiny_reward: Path) -> None:
    broken = open_reward(str(tiny_reward), None)
    broken.trunk.heads["reward"].bias.fill_(float("nan"))
    with pytest.raises(NumericsError, match="no number"):
        broken.score([tree(broken, "hi", "hello")])


def test_completions_are_scored_in_the_order_of_the_file(model: OpenReward, tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.jsonl",
        {"prompt": "hi", "completions": ["hello", "go away"]},
        {"prompt": [{"role": "user", "content": "why?"}],
         "completions": [[{"role": "assistant", "content": "no"}]]},
    )  # fmt: skip
    rows, result = scored(model, file)
    assert [(row["line"], row["completion"]) for row in rows] == [(1, "1"), (1, "2"), (2, "1")]
    wanted = [
        alone(model, "hi", "hello"),
        alone(model, "hi", "go away"),
        alone(model, "why?", "no"),
    ]
    assert [row["reward"] for row in rows] == pytest.approx(wanted, abs=1e-5)
    assert (result.format, result.num_rows, result.num_scored) == ("completions", 2, 3)
    assert result.mean == pytest.approx(sum(wanted) / 3, abs=1e-5)


@pytest.mark.parametrize(
    ("row", "format", "names"),
    [
        ({"prompt": "hi", "completion": "hello"}, "completions", ["completion"]),
        ({"prompt": "hi", "chosen": "hello", "rejected": "go"}, "completions",
         ["chosen", "rejected"]),
        ({"prompt": "hi", "completion": "hello", "label": True}, "kto", ["1"]),
        ({"prompt": "hi", "completions": ["hello", "go"], "ranks": [1, 2]}, "ranking", ["1", "2"]),
        ({"chosen": "\n\nHuman: hi\n\nAssistant: hello", "rejected":
          "\n\nHuman: hi\n\nAssistant: go"}, "hh", ["chosen", "rejected"]),
    ],
)  # fmt: skip
def test_formats_that_import_reads_are_found_by_their_rows(
    model: OpenReward, tmp_path: Path, row: Any, format: str, names: list[str]
) -> None:
    rows, result = scored(model, write(tmp_path / "a.jsonl", row))
    assert result.format == format
    assert [row["completion"] for row in rows] == names
    assert rows[0]["reward"] == pytest.approx(alone(model, "hi", "hello"), abs=1e-5)


def test_rows_may_have_one_completion_several_or_a_pair(model: OpenReward, tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.jsonl",
        {"prompt": "hi", "completion": "hello"},
        {"prompt": "hi", "completions": ["go away"]},
        {"prompt": "why?", "chosen": "no", "rejected": "go"},
    )
    rows, result = scored(model, file)
    assert not result.rules
    assert [(row["line"], row["completion"]) for row in rows] == [
        (1, "completion"), (2, "1"), (3, "chosen"), (3, "rejected"),
    ]  # fmt: skip


def test_a_file_may_be_gzipped_a_table_or_our_own_json(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write('{"prompt": "hi", "completions": ["x"]}\n')
    assert detect(tmp_path / "a.jsonl.gz") == "completions"
    (tmp_path / "b.json").write_text('{"heedful": 1, "items": []}')
    assert detect(tmp_path / "b.json") == "json"
    assert detect(tmp_path / "c.csv.gz") == "csv"
    assert detect(tmp_path / "d.parquet") == "parquet"


def test_rows_that_cannot_be_scored_are_counted_and_leave_the_others(
    model: OpenReward, tmp_path: Path
) -> None:
    file = write(
        tmp_path / "a.jsonl",
        {"prompt": "hi", "completions": []},
        {"prompt": "hi", "completions": ["hello"]},
        {"prompt": "hi", "completions": ["x" * 5000]},
        {"prompt": " ", "completions": ["hello"]},
    )
    rows, result = scored(model, file)
    assert [row["line"] for row in rows] == [2]
    assert dict(result.rules) == {"no_completion": 1, "too_long": 1, "empty_prompt": 1}
    assert {(one.line, one.rule) for one in result.drops} == {
        (1, "no_completion"), (3, "too_long"), (4, "empty_prompt"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ('{"prompt": "a", "completion": "b"}\n{"prompt": \n', "line 2 is broken JSON"),
        ('{"text": "a"}\n', "rows with the keys text; expected rows of prompt and completion"),
        ("", "is empty"),
        ('{"prompt": "a"}\n', "has no completion to score in 1 rows"),
    ],
)
def test_a_wrong_file_is_refused_before_the_model_is_loaded(
    tmp_path: Path, text: str, seen: str
) -> None:
    def load() -> OpenReward:
        raise AssertionError("the model was loaded")

    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(DataError, match=seen):
        score_file(load, tmp_path / "a.jsonl", out=tmp_path / "out.jsonl")
    assert [one.name for one in tmp_path.iterdir()] == ["a.jsonl"]


def test_an_interrupted_file_does_not_appear(model: OpenReward, tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", {"prompt": "hi", "completions": ["hello"]})

    class Interrupted(OpenReward):
        def judge(self, trees: Any) -> Any:  # noqa: ARG002 - it does not come to that
            raise KeyboardInterrupt

    broken = Interrupted(**{one.name: getattr(model, one.name) for one in fields(model)})
    with pytest.raises(KeyboardInterrupt):
        score_file(lambda: broken, file, out=tmp_path / "out.jsonl")
    assert [one.name for one in tmp_path.iterdir()] == ["a.jsonl"]


def test_what_comes_through_a_pipe_can_be_read_twice() -> None:
    with spooled(io.BytesIO(b'{"prompt": "hi", "completions": ["x"]}\n')) as path:
        assert detect(path) == detect(path) == "completions"
    assert not path.exists()


def test_only_reward_models_are_opened(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="'smollm2' is no reward model"):
        find_reward("smollm2", None)


def test_a_reward_model_is_exported_by_its_directory(tiny_reward: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    made = export_classifier(str(tiny_reward), None, tmp_path / "out")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    about = model.config.heedful
    assert about["offset"] == pytest.approx(-0.2 / 1.5)
    assert (about["reward"], about["base"]) == (str(tiny_reward), "test")
    assert made.error <= 1e-5
