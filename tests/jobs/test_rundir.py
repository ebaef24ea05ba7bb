"""A run directory is one run's: what it takes over, and what it refuses."""

import json
from pathlib import Path

import pytest

from heedful.config import RewardConfig, resolve
from heedful.errors import ConfigError, DataError
from heedful.jobs.fit import fit_reward
from heedful.jobs.rundir import RunDirectory


def config(*overrides: str, data: str = "test") -> RewardConfig:
    return resolve(RewardConfig, overrides=overrides, flags={"data": data, "model": "test"})


def opened(path: Path, *overrides: str) -> RunDirectory:
    return RunDirectory(path, "reward", config(*overrides), snapshot=None)


def test_a_run_that_was_refused_before_it_left_anything_keeps_nobody_out(tmp_path: Path) -> None:
    refused = config("loss.ties=davidson", "held_out_share=0.3")
    with pytest.raises(DataError, match="no two answers tie"):
        fit_reward(refused, tmp_path / "run")
    result = fit_reward(config("held_out_share=0.3"), tmp_path / "run")
    assert Path(result.path).is_dir()
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    assert kept["config"]["loss"]["ties"] == "drop"
    with pytest.raises(ConfigError, match=r"holds a run with loss\.ties = 'drop'"):
        fit_reward(refused, tmp_path / "run")


def test_a_run_that_began_keeps_its_directory(tmp_path: Path) -> None:
    opened(tmp_path).rewind(0)
    with pytest.raises(ConfigError, match="holds a run with epochs = 1, this one has 2"):
        opened(tmp_path, "epochs=2")


@pytest.mark.parametrize("text", ['{"a": 1}', "[1]", "no JSON"])
def test_a_config_of_something_else_is_refused_and_stays(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match="holds files of something else"):
        opened(tmp_path)
    assert (tmp_path / "config.json").read_text() == text


def test_results_without_a_config_are_refused_and_other_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    opened(tmp_path / "run")
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds files of something else"):
        opened(tmp_path)


def test_a_file_is_no_run_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be a run directory: File exists"):
        opened(tmp_path / "file")


def test_who_comes_in_between_is_noticed(tmp_path: Path) -> None:
    run = opened(tmp_path)
    opened(tmp_path, "epochs=2")
    with pytest.raises(ConfigError, match="holds a run with epochs"), run.held():
        pass


def test_the_directory_one_stands_in_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert opened(Path()).name == tmp_path.name


def test_a_name_that_no_model_can_have_is_refused_before_the_fit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="looks like an id"):
        fit_reward(config(), tmp_path / "mdl_mine")
    assert not (tmp_path / "mdl_mine" / "metrics.jsonl").exists()
