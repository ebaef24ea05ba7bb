"""Named criteria and flags as heads of one reward model, end to end on the tiny model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from heedful.cli.fit import lines_of
from heedful.config import (
    EvaluateConfig,
    GRPOConfig,
    PPOConfig,
    RewardCardConfig,
    RewardConfig,
    resolve,
)
from heedful.data import testing
from heedful.data.snapshot import freeze
from heedful.errors import ConfigError, DataError
from heedful.jobs.evaluate import evaluate
from heedful.jobs.fit import FitResult, fit_grpo, fit_ppo, fit_reward
from heedful.jobs.reward_card import reward_card
from heedful.jobs.rewards import check_reward, export_classifier, open_reward
from heedful.jobs.rundir import RunDirectory
from heedful.jobs.scoring import score_file
from heedful.jobs.serving import RewardWorker
from heedful.types import Feedback, Preference
from heedful.web.reward_service import create_service

PAIRS = testing.preferences()
FAST = ["optimiser.learning_rate=3e-3", "held_out_share=0.3", "epochs=2", "pooling=last"]


def said(row: Preference, scale: str, values: tuple[float, ...], criterion: str = "") -> Feedback:
    return Feedback(
        prompt=row.prompt,
        responses=(row.chosen, row.rejected),
        scale=scale,  # type: ignore[arg-type]
        values=values,
        criterion=criterion,
    )


def rows() -> list[Feedback]:
    """Polite and loud are opposites; all that shouts is rude; nobody finds anything off topic."""
    found = []
    for number, row in enumerate(PAIRS):
        found += [
            said(row, "rating", (4.0 + number % 2, 1.0 + number % 3), "polite"),
            said(row, "rating", (1.0 + number % 2, 4.0 + number % 2), "loud"),
            said(row, "flag", (0.0, 1.0 + number % 3), "rude"),
            said(row, "flag", (0.0, 0.0), "off_topic"),
        ]
    return found


def config(where: Path, given: list[Feedback], *overrides: str) -> RewardConfig:
    path = freeze(given, "feedback", where).path
    return resolve(
        RewardConfig, overrides=[*FAST, *overrides], flags={"data": path, "model": "test"}
    )


@pytest.fixture(scope="module")
def criteria(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    where = tmp_path_factory.mktemp("criteria")
    settings = config(where, rows(), "loss.heads=criteria", "loss.flags=penalty")
    return fit_reward(settings, where / "run")


@pytest.fixture(scope="module")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    lines = [
        {
            "prompt": row.prompt.messages[0].content,
            "completions": [row.chosen[0].content, row.rejected[0].content],
        }
        for row in PAIRS
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def scored(model: str, file: Path, mix: str | None) -> tuple[list[dict[str, Any]], str | None]:
    lines: list[str] = []
    result = score_file(lambda: open_reward(model, None, mix=mix), file, write=lines.append)
    return [json.loads(line) for line in lines], result.mix


def test_every_part_is_learned_from_its_own_answers_and_measured_by_them(
    criteria: FitResult,
) -> None:
    metrics = criteria.metrics
    assert metrics["mix"] == "loud=1,polite=1,rude=1"
    found = metrics["parts"]
    assert set(found) == {"polite", "loud", "rude"}
    for name in ("polite", "loud"):
        assert found[name]["accuracy"] >= 0.9
        low, high = found[name]["concordance_ci"]
        assert low <= found[name]["concordance"] <= high
    assert found["rude"]["average_precision"] >= 0.9
    assert found["rude"]["num_raised"] * 2 == found["rude"]["num"]
    assert metrics["unused"]["flag_off_topic_never_raised"] > 0
    seen = {name for row in RunDirectory.read_metrics(Path(criteria.run)) for name in row}
    assert {"reward/rating_polite_loss", "reward/flag_rude_loss"} <= seen
    assert "Parts of the reward" in (Path(criteria.run) / "report.html").read_text()
    lines = lines_of("parts", found, metrics)
    assert [line.split()[1] for line in lines] == ["loud", "polite", "rude"]
    assert "average_precision" in lines[2]


def test_the_mix_decides_the_order_after_training(criteria: FitResult, pairs_file: Path) -> None:
    rates = {}
    for mix in ("polite=1,rude=0", "loud=1,rude=0", "polite=2,loud=1"):
        lines, stated = scored(criteria.path, pairs_file, mix)
        rewards = np.array([line["reward"] for line in lines]).reshape(-1, 2)
        rates[mix] = (rewards[:, 0] > rewards[:, 1]).mean()
        assert stated is not None
        assert lines[0]["parts"].keys() == {"polite", "loud", "rude"}
    assert rates["polite=1,rude=0"] >= 0.9
    assert rates["loud=1,rude=0"] <= 0.1
    assert rates["polite=2,loud=1"] >= 0.9


def test_the_total_of_a_scored_file_is_its_parts_mixed(
    criteria: FitResult, pairs_file: Path
) -> None:
    lines, stated = scored(criteria.path, pairs_file, "polite=2,loud=0.5,rude=3")
    assert stated == "polite=2,loud=0.5,rude=3"
    parts = {name: np.array([line["parts"][name] for line in lines]) for name in lines[0]["parts"]}
    totals = 2 * parts["polite"] + 0.5 * parts["loud"] - 3 * parts["rude"]
    rewards = np.array([line["reward"] for line in lines])
    slope, constant = np.polyfit(totals, rewards, 1)  # normalised to mean 0 and deviation 1
    np.testing.assert_allclose(rewards, slope * totals + constant, atol=1e-4)
    assert slope > 0
    assert ((parts["rude"] >= 0) & (parts["rude"] <= 1)).all()


def test_a_veto_is_the_worst_that_an_answer_can_be(criteria: FitResult, pairs_file: Path) -> None:
    lines, _ = scored(criteria.path, pairs_file, "loud=1,rude>0.5")
    vetoed = [line["reward"] for line in lines if line["parts"]["rude"] > 0.5]
    others = [line["reward"] for line in lines if line["parts"]["rude"] <= 0.5]
    assert vetoed
    assert others
    assert max(vetoed) <= min(others)
    assert len({round(value, 4) for value in vetoed}) == 1  # the floor


def test_a_vetoed_answer_says_which_flag_vetoed_it(criteria: FitResult, pairs_file: Path) -> None:
    lines: list[str] = []
    mix = "loud=1,rude>0.5"
    result = score_file(
        lambda: open_reward(criteria.path, None, mix=mix), pairs_file, write=lines.append
    )
    for line in map(json.loads, lines):
        assert line["vetoed_by"] == (["rude"] if line["parts"]["rude"] > 0.5 else [])
    vetoed = [line for line in map(json.loads, lines) if line["vetoed_by"]]
    assert 0 < len(vetoed) == result.num_vetoed < len(lines)
    without, _ = scored(criteria.path, pairs_file, "loud=1,rude>1")
    assert "vetoed_by" not in without[0]
    items = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    with (
        RewardWorker(open_reward(criteria.path, None, mix=mix)) as worker,
        TestClient(create_service(worker, token=None)) as client,
    ):
        answer = client.post("/v1/rewards", json={"items": items}).json()
    told = [flags for row in answer["vetoed_by"] for flags in row]
    assert told == [json.loads(line)["vetoed_by"] for line in lines]


def test_pairs_teach_the_overall_score_beside_the_criteria(tmp_path: Path) -> None:
    given = [row.as_feedback() for row in PAIRS]
    given += [one for one in rows() if one.criterion == "loud"]
    settings = config(tmp_path, given, "loss.heads=criteria", "loss.mix=overall=1,loud=0.25")
    metrics = fit_reward(settings, tmp_path / "run").metrics
    assert metrics["accuracy"] >= 0.9  # by the mix, on the pairs alone
    assert metrics["mix"] == "overall=1,loud=0.25"
    assert metrics["parts"]["overall"]["accuracy"] >= 0.9
    assert metrics["parts"]["loud"]["accuracy"] >= 0.9


def test_flags_alone_teach_a_reward_that_is_what_is_not_wrong(tmp_path: Path) -> None:
    given = [one for one in rows() if one.criterion == "rude"]
    settings = config(tmp_path, given, "loss.flags=penalty")
    result = fit_reward(settings, tmp_path / "run")
    assert result.metrics["mix"] == "rude=1"
    assert result.metrics["parts"]["rude"]["concordance"] >= 0.9
    assert "accuracy" not in result.metrics


def test_a_linear_mix_is_exported_and_a_bent_one_is_not(
    criteria: FitResult, pairs_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"a penalty on a probability bends.*--mix rude=0"):
        export_classifier(criteria.path, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    made = export_classifier(criteria.path, None, tmp_path / "out", mix="polite=2,loud=1,rude=0")
    assert made.error <= 1e-5  # against the folded head
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    assert model.config.heedful["mix"] == "polite=2,loud=1"
    lines, _ = scored(criteria.path, pairs_file, "polite=2,loud=1,rude=0")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    row = PAIRS[0]
    talk = [
        {"role": "user", "content": row.prompt.messages[0].content},
        {"role": "assistant", "content": row.chosen[0].content},
    ]
    given = tokenizer.apply_chat_template(talk, return_tensors="pt", return_dict=True)
    logit = model(**given).logits.item()
    assert logit + made.offset == pytest.approx(lines[0]["reward"], abs=1e-4)


@pytest.mark.parametrize("algorithm", ["ppo", "grpo"])
def test_a_policy_is_fitted_to_the_mix_that_is_recorded(
    criteria: FitResult, algorithm: str, tmp_path: Path
) -> None:
    kind, run = (PPOConfig, fit_ppo) if algorithm == "ppo" else (GRPOConfig, fit_grpo)
    settings = resolve(
        kind,  # type: ignore[type-var]
        overrides=["rollouts.num_rollouts=1", "rollouts.prompts_per_rollout=2",
                   "rollouts.samples_per_prompt=2", "rollouts.max_new_tokens=6"],
        flags={"data": "test", "model": "test", "reward": criteria.run, "mix": "loud=1,rude>0.9"},
    )  # fmt: skip
    result = run(settings, tmp_path / "run")  # type: ignore[arg-type]
    assert result.metrics["mix"] == "loud=1,rude>0.9"
    resolved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert "loud=1,rude>0.9" in json.dumps(resolved)
    (row,) = RunDirectory.read_metrics(tmp_path / "run")[:1]
    assert np.isfinite(row["rollout/reward"])


def test_the_card_measures_every_part_on_the_pairs(criteria: FitResult, tmp_path: Path) -> None:
    settings = resolve(
        RewardCardConfig, flags={"data": "test", "model": criteria.run, "mix": "polite=1,rude=0"}
    )
    result = reward_card(settings, tmp_path / "card")
    assert result["mix"] == "polite=1"
    assert result["card"]["scale"] == "reward model, the mix polite=1 in deviations"
    assert result["accuracy"] >= 0.9
    found = {one["name"]: one for one in result["card"]["parts"]}
    assert found["polite"]["on_pairs"] >= 0.9
    assert found["loud"]["on_pairs"] <= 0.1
    assert found["rude"]["on_pairs"] >= 0.9  # by its absence
    assert [found[name]["weight"] for name in ("polite", "loud", "rude")] == ["1", "0", "0"]
    assert "Parts of the reward" in (tmp_path / "card" / "report.html").read_text()


def test_the_card_measures_criteria_on_their_ratings_where_nothing_was_compared(
    criteria: FitResult, tmp_path: Path
) -> None:
    path = freeze([one for one in rows() if one.scale == "rating"], "feedback", tmp_path).path
    settings = resolve(RewardCardConfig, flags={"data": path, "model": criteria.run})
    result = reward_card(settings, tmp_path / "card")
    found = {one["name"]: one for one in result["card"]["parts"]}
    assert found["polite"]["num_pairs"] == found["loud"]["num_pairs"] > 0
    assert found["polite"]["on_pairs"] >= 0.9
    assert found["loud"]["on_pairs"] >= 0.9  # both in the order of their own ratings


def test_an_evaluation_follows_the_mix(criteria: FitResult, tmp_path: Path) -> None:
    settings = resolve(
        EvaluateConfig, flags={"data": "test", "model": criteria.run, "mix": "loud=1,rude=0"}
    )
    result = evaluate(settings, tmp_path / "evaluation")
    assert result["mix"] == "loud=1"
    assert result["accuracy"] <= 0.1  # people preferred the quiet side


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["loss.heads=criteria", "loss.mix=polit=1"], "did you mean 'polite'"),
        (["loss.mix=polite=1"], "the model has one score; set loss.heads"),
        (["loss.heads=criteria", "loss.mix=polite=0,loud=0"], "leaves every weight at 0"),
        (
            ["loss.flags=veto", "loss.form_weights.rating=0", "loss.ratings=drop"],
            "nothing but flags",
        ),
    ],
)
def test_a_mix_that_cannot_be_is_refused_before_the_first_step(
    overrides: list[str], match: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=match):
        fit_reward(config(tmp_path, rows(), *overrides), tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


def test_a_mix_of_what_has_no_parts_is_refused_before_anything_is_loaded(
    tiny_reward: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="gold:kind is a rule without parts"):
        check_reward("gold:kind", None, "polite=1")
    with pytest.raises(ConfigError, match="one score and no parts"):
        check_reward(str(tiny_reward), None, "polite=1")
    settings = resolve(EvaluateConfig, flags={"data": "test", "model": "test", "mix": "polite=1"})
    with pytest.raises(ConfigError, match="there is no reward to mix"):
        evaluate(settings, tmp_path / "evaluation")


def test_a_data_set_of_flags_alone_is_refused_with_the_setting_that_learns_them(
    tmp_path: Path,
) -> None:
    flags = [one for one in rows() if one.scale == "flag"]
    with pytest.raises(DataError, match=r"are flags and loss\.flags is 'drop'.*loss.flags=penalty"):
        fit_reward(config(tmp_path, flags), tmp_path / "run")
