import gzip
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import typer
from typed import run

from heedful.cli import app as cli_app
from heedful.cli import work
from heedful.store import open_store, projects
from heedful.types import Project

PAIR = {
    "chosen": "\n\nHuman: hello\n\nAssistant: Hello, how can I help?",
    "rejected": "\n\nHuman: hello\n\nAssistant: What?",
}


@pytest.fixture
def hh(tmp_path: Path) -> Path:
    file = tmp_path / "hh-harmless" / "train.jsonl.gz"
    file.parent.mkdir()
    other = {k: v.replace("hello", "good day") for k, v in PAIR.items()}
    empty = PAIR | {"rejected": "\n\nHuman: hello\n\nAssistant:"}
    with gzip.open(file, "wt") as stream:
        for row in (PAIR, other, empty):
            stream.write(json.dumps(row) + "\n")
    return file


def test_help_answers_without_importing_torch() -> None:
    code = "import sys; from heedful.cli import app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_is_quick() -> None:
    def is_quick() -> bool:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "heedful", "--help"], check=True, capture_output=True)
        # 0.3 s on two idle cores; the bound leaves room for a busy machine
        return time.perf_counter() - start < 1.0

    assert any(is_quick() for _ in range(3))


def test_import_counts_drops_and_adds_nothing_the_second_time(
    hh: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ("import", "hh", str(hh), "--store", str(tmp_path / "s.db"), "--json")
    code, out, _ = run(monkeypatch, capsys, *arguments)
    assert code == 0
    first = json.loads(out.splitlines()[-1])
    assert first == {"dataset": "hh-harmless-train", "rows": 3, "new": 2, "known": 0,
                     "answers": 2, "known_answers": 0, "queued": 0,
                     "dropped": {"empty_side": 1}, "ignored": {}, "more_ignored": 0}  # fmt: skip
    _, out, _ = run(monkeypatch, capsys, *arguments)
    assert json.loads(out.splitlines()[-1])["new"] == 0


def test_import_says_what_was_there_already_and_makes_nothing_of_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from heedful.store import datasets, open_store

    file, foreign = tmp_path / "a.csv", tmp_path / "b.csv"
    store = ("--store", str(tmp_path / "s.db"))
    file.write_text("prompt,answer_1,answer_2,judgement\nq,a,b,1\nr,a,b,2\n")
    foreign.write_text("question,left,right\nq,a,b\n")
    _, out, _ = run(monkeypatch, capsys, "import", "csv", str(file), *store)
    assert "new items   2\n" in out
    assert "old items" not in out
    _, out, _ = run(monkeypatch, capsys, "import", "csv", str(file), *store)
    assert "old items   2 rows are about items that were there\n" in out
    assert "nothing new  a had all of it already\n" in out
    code, _, err = run(monkeypatch, capsys, "import", "csv", str(foreign), *store)
    assert code == 2
    assert "has the columns question, left, right; expected the columns prompt, answer_1" in err
    with open_store(tmp_path / "s.db") as opened, opened.read() as tx:
        assert datasets.names(tx) == ["a"]


def test_import_into_a_project_queues_tasks_and_keeps_known_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from heedful.store import open_store, projects
    from heedful.types import Project

    path, store = tmp_path / "tasks.csv", str(tmp_path / "s.db")
    path.write_text("prompt,answer_1,answer_2,known\nq,a,b,2\nr,a,b,\ns,a,b,9\n")
    with open_store(store) as opened, opened.write() as tx:
        projects.add(tx, Project(dataset="support", title="Support", form="pairwise"))
    arguments = ("import", "csv", str(path), "--dataset", "support", "--store", store)
    code, out, _ = run(monkeypatch, capsys, *arguments, "--show-dropped")
    assert code == 0
    assert "known answers  1 new" in out
    assert "queued      1 new task for people" in out
    assert f"{path}:4  wrong_judgement" in out
    assert f"next        heedful studio --store {store}" in out
    _, out, _ = run(monkeypatch, capsys, *arguments, "--json")
    again = json.loads(out.splitlines()[-1])
    assert (again["known_answers"], again["queued"], again["new"], again["known"]) == (0, 0, 0, 2)


def test_show_dropped_names_file_line_and_rule(
    hh: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, out, _ = run(
        monkeypatch, capsys, "import", "hh", str(hh), "--store", str(tmp_path / "s.db"),
        "--show-dropped",
    )  # fmt: skip
    assert f"{hh}:3  empty_side" in out


def test_columns_without_meaning_are_printed_with_the_nearest_known_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.csv"
    file.write_text("prompt,answer_1,answer_2,judgement,strenght,anotator,qqq\nq,a,b,1,3,bob,1\n")
    _, out, _ = run(monkeypatch, capsys, "import", "csv", str(file), "--store",
                    str(tmp_path / "s.db"))  # fmt: skip
    assert "ignored     1 rows  strenght; did you mean 'strength'?" in out
    assert "ignored     1 rows  anotator; did you mean 'annotator'?" in out
    assert "ignored     1 rows  qqq\n" in out


def test_whole_chain_on_imported_preferences(
    hh: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = ("--store", str(tmp_path / "s.db"))
    reward, policy = str(tmp_path / "reward"), str(tmp_path / "ppo")
    assert run(monkeypatch, capsys, "import", "hh", str(hh), *store)[0] == 0
    data = ("--data", "hh-harmless-train", "--model", "test", *store)
    settings = tmp_path / "reward.toml"
    settings.write_text('data = "hh-harmless-train"\nmodel = "test"\nheld_out_share = 0\n')
    code, out, err = run(
        monkeypatch, capsys, "fit", "reward", "--config", str(settings), "--out", reward, *store
    )
    assert code == 0, err
    ppo = f"heedful fit ppo --data hh-harmless-train --reward {reward} --out runs/ppo"
    assert out.splitlines()[-1] == f"next   {ppo} --store {store[1]}"
    code, _, err = run(
        monkeypatch, capsys, "fit", "ppo", *data, "--reward", reward, "--out", policy,
        "rollouts.num_rollouts=2", "rollouts.max_new_tokens=6",
    )  # fmt: skip
    assert code == 0, err
    dev = hh.with_name("dev.jsonl.gz")
    with gzip.open(dev, "wt") as stream:
        stream.write(json.dumps({k: v.replace("hello", "good evening") for k, v in PAIR.items()}))
    assert run(monkeypatch, capsys, "import", "hh", str(dev), *store)[0] == 0
    code, out, err = run(
        monkeypatch, capsys, "evaluate", "reward", reward, "--data", "hh-harmless-dev", *store,
        "--out", str(tmp_path / "card"), "--json",
    )  # fmt: skip
    assert code == 0, err
    card = json.loads(out.splitlines()[-1])
    assert (card["num_held_out"], card["num_learned"]) == (1, 0)
    assert "every figure is rough" in err
    assert (tmp_path / "card" / "report.html").exists()
    measure = ("--model", policy, "--reward", reward, *store)
    code, _, err = run(
        monkeypatch, capsys, "evaluate", "--data", "hh-harmless-train", *measure,
        "--out", str(tmp_path / "seen"),
    )  # fmt: skip
    assert code == 2
    assert "evaluate on another data set" in err
    code, out, err = run(
        monkeypatch, capsys, "evaluate", "--data", "hh-harmless-dev", *store,
        "--model", policy, "--reward", reward, "--out", str(tmp_path / "e"),
        "max_new_tokens=6", "best_of=2", "--json",
    )  # fmt: skip
    assert code == 0, err
    result = json.loads(out.splitlines()[-1])
    assert (result["num_prompts"], result["num_learned"]) == (1, 0)
    code, out, err = run(monkeypatch, capsys, "models", *store, "--json")
    by_role = {row["role"]: row for row in json.loads(out)["models"]}
    assert set(by_role) == {"base", "reward", "policy"}
    code, out, err = run(monkeypatch, capsys, "trace", by_role["policy"]["id"], *store)
    assert code == 0, err
    assert by_role["reward"]["id"] in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "reward"), "Missing argument 'MODEL'"),
        (("evaluate", "--data", "d"), "Missing option '--out'"),
        (("evaluate", "reward", "m", "--sed", "1"), "No such option: --sed"),
    ],
)
def test_a_wrong_command_line_is_told_without_a_traceback(
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["--data", "d", "--out", "o"], ["policy", "--data", "d", "--out", "o"]),
        (["seed=1", "--out", "o"], ["policy", "seed=1", "--out", "o"]),
        ([], ["policy"]),
        (["policy", "--out", "o"], ["policy", "--out", "o"]),
        (["reward", "runs/reward"], ["reward", "runs/reward"]),
        (["--help"], ["--help"]),
    ],
)
def test_evaluate_without_a_command_is_that_of_policies(given: list[str], meant: list[str]) -> None:
    group = typer.main.get_command(cli_app.app).commands["evaluate"]
    assert group.with_default(given) == meant


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "reward", "test", "--data", "test"), "test is no reward model"),
        (("evaluate", "reward", "test"), "'data' is required"),
        (("evaluate", "reward", "test", "--data", "test", "sed=1"), "did you mean 'seed'"),
        (("evaluate", "reward", "test", "--data", "test", "--beta", "0"), "'beta' is 0.0"),
        (("fit", "reward", "--data", "nosuch", "--model", "test"), "nosuch"),
        (("fit", "reward", "--data", "test", "--model", "nosuch-model"), "unknown model"),
        (("fit", "reward", "--data", "test", "--model", "test", "epoch=2"),
         "did you mean 'epochs'"),
        (("fit", "reward", "--data", "test", "--model", "test", "optimiser.learning_rat=1"),
         "did you mean 'learning_rate'"),
        (("fit", "reward", "--data", "test", "--model", "test", "epochs=0"), "epochs"),
        (("fit", "reward", "--data", "test", "--model", "test", "epochs"), "not KEY=VALUE"),
        (("fit", "reward", "--data", "test", "--model", "test",
          "loss.params.label_smothing=0.1"), "did you mean 'label_smoothing'"),
        (("fit", "reward", "--data", "test", "--model", "test", "loss.tyes=drop"),
         "did you mean 'ties'"),
        (("fit", "preference", "--data", "test", "--model", "test", "--loss", "dpoo"),
         "did you mean 'dpo'"),
        (("fit", "reward", "--model", "test"), "'data' is required"),
        (("fit", "reward", "--data", "test", "--config", "nosuch.toml"), "nosuch.toml"),
    ],
)  # fmt: skip
def test_a_users_mistake_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *arguments, "--out", str(tmp_path / "run"))
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_broken_line_names_file_and_line_and_imports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps(PAIR) + '\n{"chosen": \n')
    store = ("--store", str(tmp_path / "s.db"))
    code, _, err = run(monkeypatch, capsys, "import", "hh", str(file), *store)
    assert code == 2
    assert f"{file}:2" in err or (str(file) in err and "line 2" in err)
    _, out, _ = run(monkeypatch, capsys, "models", *store, "--json")
    assert json.loads(out) == {"models": []}


def test_ctrl_c_is_one_line_and_the_run_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["demo", "--model", "test", "--budget", "small", "--out", str(tmp_path / "d")]
    command = [sys.executable, "-m", "heedful", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not list((tmp_path / "d").glob("reward/config.json")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in err
    assert run(monkeypatch, capsys, *arguments)[0] == 0
    assert (tmp_path / "d" / "report.html").exists()


def test_demo_human_with_too_few_answers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("demo", "--human", "--answers", "3", "--out", str(tmp_path / "d"))
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert "--answers" in err
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("gold", ["kindd", "nosuch.py:f"])
def test_demo_with_an_unknown_gold_writes_nothing(
    gold: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, _ = run(
        monkeypatch, capsys, "demo", "--model", "test", "--gold", gold, "--out", str(tmp_path / "d")
    )
    assert code == 2
    assert not (tmp_path / "d").exists()


def test_a_full_disk_is_one_line_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from heedful.jobs import rundir

    monkeypatch.setattr(rundir, "FREE_BYTES_NEEDED", 2**62)
    code, _, err = run(
        monkeypatch, capsys, "fit", "reward", "--data", "test", "--model", "test",
        "--store", str(tmp_path / "s.db"), "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert code == 1
    assert "free some space" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[1]", "cannot be read"),
        ('{"dop": {"speed_ratio": 3}}', "no workload 'dop'; did you mean 'dpo'?"),
        ('{"dpo": {"speed": 3}}', "dpo has no limit 'speed'"),
    ],
)
def test_bench_refuses_bad_limits_before_it_runs_anything(
    text: str, message: str, tmp_path: Path
) -> None:
    from heedful.cli.bench import read_limits
    from heedful.errors import ConfigError
    from heedful.jobs.bench import WORKLOADS

    file = tmp_path / "limits.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_limits(file, WORKLOADS)


def test_studio_on_a_taken_port_says_so_before_it_makes_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "heedful.db"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, out, err = run(monkeypatch, capsys, "studio", "--store", str(store), "--port", port)
    assert (code, out) == (2, "")
    assert "choose another with --port" in err
    assert not store.exists()


@pytest.mark.parametrize(("module", "extra"), [("fastapi", "studio"), ("transformers", "train")])
def test_what_is_not_installed_is_told_with_the_extra_that_brings_it(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacking(**_: object) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(cli_app, "app", lacking)
    code, _, err = run(monkeypatch, capsys)
    assert code == 2
    assert f"{module} is not installed; run: pip install 'heedful[{extra}]'" in err


def test_up_without_torch_says_so_before_it_starts_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(work, "find_spec", lambda _: None)
    code, out, err = run(monkeypatch, capsys, "up", "--store", str(tmp_path / "s.db"))
    assert (code, out) == (2, "")
    assert "pip install 'heedful[train]'" in err
    assert not (tmp_path / "s.db").exists()


def test_studio_serves_at_the_address_it_prints_and_ends_by_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "heedful", "studio", "--port", "0"]
    with subprocess.Popen(
        [*command, "--store", str(tmp_path / "heedful.db")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        address = server.stdout.readline().split()[-1]
        link = server.stdout.readline().split()[-1]
        assert link.startswith(f"{address}/sign-in/")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(link) as answer:
                    assert "Sign in as owner" in answer.read().decode()
                break
            except urllib.error.URLError:
                time.sleep(0.05)
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
        assert "error" not in server.stderr.read()


def test_quality_of_a_project_that_nobody_answered_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "s.db"
    with open_store(file) as store, store.write() as tx:
        projects.add(tx, Project(dataset="support", title="Support", form="rating"))
    code, out, _ = run(monkeypatch, capsys, "quality", "support", "--store", str(file))
    assert (code, out.count("\n")) == (0, 1)
    assert out.startswith("nobody has answered yet")
    code, _, err = run(monkeypatch, capsys, "quality", "supprt", "--store", str(file))
    assert code == 2
    assert "did you mean 'support'?" in err
