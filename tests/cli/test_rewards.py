"""``score``, ``serve reward`` and ``export reward`` as they are typed."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from typed import run

from heedful.cli.evaluate import next_step
from heedful.cli.fit import spoken
from heedful.config import RewardCardConfig


@pytest.fixture
def store(tmp_path: Path) -> tuple[str, str]:
    return "--store", str(tmp_path / "s.db")


def test_score_writes_a_file_or_lines_that_can_be_piped(
    tiny_reward: Path,
    store: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = '{"prompt": "hi", "completions": ["hello", "go"]}\n{"prompt": "hi", "completions": []}\n'
    (tmp_path / "a.jsonl").write_text(text)
    out = tmp_path / "out.jsonl"
    asked = ("score", str(tiny_reward), str(tmp_path / "a.jsonl"), *store)
    code, printed, err = run(
        monkeypatch, capsys, *asked, "--out", str(out), "--show-dropped", "--json"
    )
    assert code == 0, err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["line"], row["completion"]) for row in rows] == [(1, "1"), (1, "2")]
    summary = json.loads(printed)
    assert summary["scored"] == 2
    assert summary["dropped"] == {"no_completion": 1}
    assert summary["mean"] == pytest.approx(sum(row["reward"] for row in rows) / 2)
    assert "a.jsonl:2  no_completion" in err

    stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    code, printed, err = run(monkeypatch, capsys, "score", str(tiny_reward), "-", *store)
    assert code == 0, err
    assert [json.loads(line) for line in printed.splitlines()] == rows
    assert "scored   2 completions" in err


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        (("score", "nothing-here", "a.jsonl"), "'nothing-here'"),
        (("score", "MODEL", "missing.jsonl"), "missing.jsonl does not exist"),
        (("score", "MODEL", "a.jsonl", "--json"), "give --out"),
        (("score", "MODEL", "a.jsonl", "--format", "trll"), "did you mean 'trl'?"),
        (("serve", "reward", "MODEL", "--host", "0.0.0.0"), "HEEDFUL_TOKEN is not set"),
        (("export", "reward", "MODEL"), "give --out DIR"),
        (("export", "rewards", "MODEL", "--out", "x"), "takes one data set"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line_before_a_model_is_loaded(
    arguments: tuple[str, ...],
    seen: str,
    tiny_reward: Path,
    store: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "a.jsonl").write_text('{"prompt": "hi", "completion": "hello"}\n')
    given = [str(tiny_reward) if word == "MODEL" else word for word in arguments]
    code, printed, err = run(monkeypatch, capsys, *given, *store)
    assert code == 2
    assert seen in err
    assert printed == ""
    assert not (tmp_path / "x").exists()


def test_a_short_token_is_refused(
    tiny_reward: Path,
    store: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HEEDFUL_TOKEN", "short")
    code, _, err = run(monkeypatch, capsys, "serve", "reward", str(tiny_reward), *store)
    assert code == 2
    assert "has 5 characters" in err


def test_a_reward_model_is_exported_with_its_offset(
    tiny_reward: Path,
    store: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "classifier")
    asked = ("export", "reward", str(tiny_reward), "--out", out, *store)
    code, printed, err = run(monkeypatch, capsys, *asked)
    assert code == 0, err
    assert "offset      -0.1333333: reward = logit + offset" in printed
    assert (tmp_path / "classifier" / "model.safetensors").exists()
    code, _, err = run(monkeypatch, capsys, *asked)
    assert code == 2
    assert "is there already" in err


def test_a_served_reward_answers_until_it_is_interrupted(
    tiny_reward: Path, store: tuple[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "heedful", "serve", "reward", str(tiny_reward), "--port", "0"]
    with subprocess.Popen(
        [*command, *store],
        env=os.environ | {"HEEDFUL_TOKEN": "a secret of many characters"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        found = re.match(r"reward    (http://127\.0\.0\.1:\d+)\n", first)
        assert found, first + process.stderr.read()
        request = urllib.request.Request(
            f"{found.group(1)}/v1/rewards",
            data=b'{"items": [{"prompt": "hi", "completions": ["hello"]}]}',
            headers={
                "Content-Type": "application/json",
                "Authorization": "Bearer a secret of many characters",
            },
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            ((value,),) = json.load(answer)["rewards"]
        assert isinstance(value, float)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.rstrip().endswith("give the same command again")


@pytest.mark.parametrize(
    ("settings", "low", "is_worth_it"),
    [({}, 0.51, True), ({}, 0.5, False), ({"beta": 0.1}, 0.9, False),
     ({"judge": {"url": "https://judge.example/v1"}}, 0.9, False)],
)  # fmt: skip
def test_a_policy_is_proposed_for_a_reward_model_that_beats_a_coin(
    settings: dict[str, Any], low: float, is_worth_it: bool
) -> None:
    config = RewardCardConfig(model="runs/reward", data="hh-dev", **settings)
    assert bool(next_step(config, {"accuracy_ci": [low, 1.0]})) == is_worth_it


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.66666, "0.6667"), (12, "12"), (None, "none"), ({}, "none"),
        ({"pairs": 674, "ratings": 2}, "674 pairs, 2 ratings"), ([0.5, 0.25], "0.5, 0.25"),
        ([{"annotator": "a"}, {"annotator": "b"}], "2, in result.json"),
        ({"rating/kind/shift": [0.1]}, "1, in result.json"), ("overall=1", "overall=1"),
    ],
)  # fmt: skip
def test_figures_of_a_fit_are_printed_for_people(value: object, said: str) -> None:
    assert spoken(value) == said
