"""Reward models of every form of feedback, alone and mixed, end to end on the tiny model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from heedful.config import RewardConfig, resolve
from heedful.data import testing
from heedful.data.snapshot import freeze
from heedful.errors import ConfigError, DataError
from heedful.jobs import models
from heedful.jobs.fit import FitResult, fit_preference, fit_reward
from heedful.jobs.rundir import RunDirectory
from heedful.model.adapter_files import HEAD, WEIGHTS, load_role
from heedful.train import checkpoint
from heedful.types import Feedback, Preference

PAIRS = testing.preferences()


def feedback(row: Preference, scale: str, values: tuple[float, ...], **more: Any) -> Feedback:
    responses = (row.chosen, row.rejected)[: len(values)]
    return Feedback(
        prompt=row.prompt,
        responses=responses,
        scale=scale,
        values=values,
        **more,  # type: ignore[arg-type]
    )


def alone(scale: str, good: float, bad: float) -> list[Feedback]:
    """One answer a prompt, good and bad by turns."""
    return [
        Feedback(
            prompt=row.prompt,
            responses=(row.rejected if number % 2 else row.chosen,),
            scale=scale,  # type: ignore[arg-type]
            values=(bad if number % 2 else good,),
        )
        for number, row in enumerate(PAIRS)
    ]


def mixed() -> list[Feedback]:
    """A pair, a tie, a ranking, ratings and thumbs by turns."""
    rows: list[Feedback] = []
    for number, row in enumerate(PAIRS):
        if number % 4 == 0:
            rows.append(feedback(row, "order", (0, 1), margin=1.0, form="pairwise"))
            rows.append(feedback(row, "thumb", (1, 0), form="demonstration"))
        elif number % 4 == 1:
            polite = (PAIRS[number - 1].chosen, row.chosen)
            rows.append(Feedback(prompt=row.prompt, responses=polite, scale="order", values=(0, 0)))
            rows.append(feedback(row, "order", (0, 1)))
        elif number % 4 == 2:
            three = (row.chosen, row.rejected, PAIRS[number - 1].rejected)
            rows.append(
                Feedback(prompt=row.prompt, responses=three, scale="order", values=(0, 1, 2))
            )
        else:
            score = 4.0 + number % 2
            rows.append(feedback(row, "rating", (score, 1.0 + number % 3), criterion="polite"))
    return rows


def config(rows: list[Feedback], where: Path, *overrides: str) -> RewardConfig:
    path = freeze(rows, "feedback", where).path
    fast = ["optimiser.learning_rate=3e-3", "checkpoint_every=2", "held_out_share=0.3"]
    flags = {"data": path, "model": "test"}
    return resolve(RewardConfig, overrides=[*fast, *overrides], flags=flags)


MIXED = ["loss.ties=rao_kupper", "loss.rankings=plackett_luce", "epochs=2"]


@pytest.fixture(scope="module")
def mixed_run(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    where = tmp_path_factory.mktemp("mixed")
    return fit_reward(config(mixed(), where, *MIXED), where / "run")


def test_all_forms_together_teach_one_score(mixed_run: FitResult) -> None:
    metrics = mixed_run.metrics
    assert metrics["accuracy"] >= 0.9
    counts = metrics["feedback"]
    assert {"pairs", "ties", "rankings", "ratings", "thumbs"} <= set(counts)
    rows = RunDirectory.read_metrics(Path(mixed_run.run))
    seen = {name for row in rows for name in row}
    parts = ("pair", "tie", "ranking", "rating_polite", "thumb")
    assert {f"reward/{part}_loss" for part in parts} <= seen
    assert all(np.isfinite(value) for row in rows for value in row.values())


def test_thresholds_are_saved_with_the_head_and_come_back(mixed_run: FitResult) -> None:
    links = mixed_run.metrics["links"]
    assert {"tie", "thumb/threshold", "rating/polite/gaps", "rating/polite/shift"} <= set(links)
    trunk = models.open_trunk(models.ModelRef(base="test"), dtype="auto")
    load_role(trunk, Path(mixed_run.path), "reward")
    loaded = {name: value.tolist() for name, value in trunk.links["reward"].items()}
    assert loaded == links


def test_a_resumed_run_of_all_forms_equals_an_unbroken_one(
    mixed_run: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoppedError(Exception):
        pass

    save = checkpoint.save

    def save_and_stop(*given: Any) -> None:
        save(*given)
        raise StoppedError

    settings = config(mixed(), Path(mixed_run.run).parent, *MIXED)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save_and_stop)
        with pytest.raises(StoppedError):
            fit_reward(settings, tmp_path / "run")
    resumed = fit_reward(settings, tmp_path / "run")
    for name in (WEIGHTS, HEAD):
        left, right = (load_file(Path(one.path) / name) for one in (mixed_run, resumed))
        assert all(torch.equal(left[key], right[key]) for key in left | right)


@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        (alone("rating", 5.0, 2.0), ["loss.ratings=regression"]),
        (alone("thumb", 1.0, 0.0), []),
    ],
)
def test_answers_judged_alone_teach_a_score_that_is_measured_between_prompts(
    rows: list[Feedback], settings: list[str], tmp_path: Path
) -> None:
    result = fit_reward(config(rows, tmp_path, *settings), tmp_path / "run")
    name = result.metrics["accuracy_is"]
    assert name.startswith("concordance_")
    assert result.metrics["accuracy"] == result.metrics[name] >= 0.9
    low, high = result.metrics["accuracy_ci"]
    assert 0 <= low < high <= 1


@pytest.mark.parametrize(
    ("override", "error", "match"),
    [
        ("loss=constant_error", ConfigError, "write loss.pairs=constant_error"),
        ("loss.form_weights.pairwize=2", ConfigError, "did you mean 'pairwise'"),
        ("loss.source_weights.people=2", ConfigError, "choose from: human, model"),
        ("loss.form_weights.pairwise=-1", ConfigError, "greater than or equal to 0"),
        ("loss.ties=davidson", DataError, "no two answers tie"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_the_first_step(
    override: str, error: type[Exception], match: str, tmp_path: Path
) -> None:
    rows = [row.as_feedback() for row in PAIRS]
    with pytest.raises(error, match=match):
        fit_reward(config(rows, tmp_path, override), tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


def test_files_of_pairs_are_feedback_and_feedback_is_no_file_of_pairs(tmp_path: Path) -> None:
    from heedful.config import PreferenceConfig
    from heedful.jobs.fit import load_rows

    pairs = freeze(PAIRS, "preference", tmp_path).path
    assert load_rows(None, pairs, "feedback", tmp_path).rows == [row.as_feedback() for row in PAIRS]
    path = freeze(mixed(), "feedback", tmp_path).path
    settings = resolve(PreferenceConfig, flags={"data": path, "model": "test"})
    with pytest.raises(DataError, match="has feedback rows, this command needs preference rows"):
        fit_preference(settings, tmp_path / "run")
