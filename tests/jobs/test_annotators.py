"""Annotators from the store to the fit, its record and the card of the reward."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from heedful.config import RewardConfig, resolve
from heedful.data import testing
from heedful.data.collate import collate
from heedful.data.examples import answer, feedback_trees
from heedful.data.reading import learned, plan_reading
from heedful.data.snapshot import freeze, read_snapshot
from heedful.errors import ConfigError, DataError
from heedful.exchange.importing import import_preferences
from heedful.jobs import models
from heedful.jobs.fit import FitResult, fit_reward
from heedful.jobs.reward_card.annotators import judged_annotators, learned_reliability
from heedful.jobs.reward_card.measure import About, measure
from heedful.jobs.reward_card.people import Background
from heedful.jobs.snapshot import make_snapshot
from heedful.model.adapter_files import HEAD
from heedful.monitor.report import render
from heedful.monitor.reward_card import findings
from heedful.monitor.reward_report import reward_report
from heedful.reward.scorers import Scored
from heedful.store import open_store
from heedful.types import Annotation, Feedback, Preference, Prompt

SAYS = {"zoe": 1.0, "bob": 1.0, "simulated:contrary": 0.0}
RELIABILITY = ["loss.annotators=reliability", "held_out_share=0.25", "epochs=1"]


def csv_of(path: Path) -> Path:
    """The data set ``test`` judged by two people and a rule, which says the opposite."""
    lines = ["prompt,answer_1,answer_2,judgement,annotator,source"]
    for row in testing.preferences():
        sides = f'"{row.chosen[0].content}","{row.rejected[0].content}"'
        prompt = row.prompt.messages[0].content
        for name, truth in SAYS.items():
            source = "simulated" if name.startswith("simulated:") else "human"
            lines.append(f'"{prompt}",{sides},{1 if truth else 2},{name},{source}')
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[FitResult, list[Any]]:
    where = tmp_path_factory.mktemp("crowd")
    with open_store(where / "s.db") as store:
        import_preferences(store, "csv", [csv_of(where / "c.csv")], dataset="crowd")
        rows = list(read_snapshot(make_snapshot(store, "crowd", "feedback", where).path))
        config = resolve(
            RewardConfig, overrides=RELIABILITY, flags={"data": "crowd", "model": "test"}
        )
        return fit_reward(config, where / "run", store=store), rows


def test_a_snapshot_says_who_answered_and_a_batch_holds_numbers(
    fitted: tuple[FitResult, list[Any]],
) -> None:
    rows = fitted[1]
    assert {row.annotator for row in rows} == set(SAYS)
    trunk = models.open_trunk(models.ModelRef(base="test"), dtype="auto")
    encoded = feedback_trees(trunk.tokenizer, rows, max_tokens=512)
    assert encoded.annotators == tuple(sorted(SAYS))
    loss = resolve(RewardConfig, overrides=RELIABILITY, flags={"data": "x"}).loss
    reading = plan_reading(loss, encoded.trees)
    trees = [one for tree in encoded.trees if (one := learned(tree, reading))]
    batch = collate(trees, trunk.device)
    assert batch.judges is not None
    assert batch.judges.skills.bincount().tolist() == [32, 32, 32]
    assert batch.judges.shares.sum().item() == pytest.approx(3)
    assert not any(name in repr(one) for name in SAYS for one in (trees, batch))


def test_learned_reliabilities_are_in_the_record_the_report_and_the_head(
    fitted: tuple[FitResult, list[Any]],
) -> None:
    result = fitted[0]
    found: Any = {one["annotator"]: one for one in result.metrics["annotators"]}  # type: ignore[index, union-attr, call-overload]
    assert set(found) == set(SAYS)
    contrary, zoe = found["simulated:contrary"], found["zoe"]
    assert contrary["source"] == "simulated"
    assert zoe["num_pairs"] == contrary["num_pairs"] == result.metrics["num_train"] / 3  # type: ignore[operator]
    assert 0.5 < contrary["reliability"] < zoe["reliability"] - 0.05 < 0.95
    for one in found.values():  # 26 pairs leave wide intervals
        low, high = one["reliability_ci"]
        assert 0.5 < low < one["reliability"] < high < 1
    page = (Path(result.run) / "report.html").read_text()
    assert "Reliability of annotators" in page
    assert "simulated:contrary, simulated" in page
    head = load_file(Path(result.path) / HEAD)
    assert head["link/annotators/apart"].shape == (3,)
    assert "links" not in result.metrics


def test_the_card_finds_the_reliabilities_of_the_fit(fitted: tuple[FitResult, list[Any]]) -> None:
    result = fitted[0]
    found = learned_reliability(models.find_model(result.run, None))
    assert set(found) == set(SAYS)
    assert found["zoe"].num == result.metrics["num_train"] / 3  # type: ignore[operator]


def test_pairs_of_an_import_without_annotators_are_those_of_one(tmp_path: Path) -> None:
    rows = [row.as_feedback() for row in testing.preferences()]
    path = freeze(rows, "feedback", tmp_path).path
    config = resolve(RewardConfig, overrides=RELIABILITY, flags={"data": path, "model": "test"})
    with pytest.raises(DataError, match="come from 1 annotator"):
        fit_reward(config, tmp_path / "run")


def test_a_snapshot_of_earlier_versions_has_no_annotators(tmp_path: Path) -> None:
    import json

    import pyarrow.parquet as pq

    from heedful.data import snapshot

    row = testing.preferences()[0].as_feedback()
    path = Path(freeze([row], "feedback", tmp_path).path)
    table = pq.read_table(path).drop_columns(["annotator"])
    lines = [snapshot._canonical(line) for line in table.to_pylist()]
    metadata = {**table.schema.metadata, b"heedful.rows_hash": snapshot._hash(lines).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    (back,) = read_snapshot(path)
    assert isinstance(back, Feedback)
    assert back == row
    assert json.loads(json.dumps(back.annotator)) == ""


def world(
    num: int, agreement: dict[str, float], *, one_side: str = ""
) -> tuple[list[Preference], np.ndarray, Background]:
    """Pairs of each annotator, and leads of a model that agrees with them at these shares."""
    rng = np.random.default_rng(0)
    rows, leads, said = [], [], {}
    for name, share in agreement.items():
        for number in range(num if name != "few" else 5):
            sides = ("left", "right") if name == one_side or number % 2 else ("right", "left")
            source = "simulated" if name.startswith("simulated:") else "human"
            given = Annotation(
                task_id=f"{name}{number}",
                annotator=name,
                source=source,  # type: ignore[arg-type]
                payload={"preferred": "left"},
                shown_order=sides,
            )
            said[given.id] = given
            rows.append(
                Preference(
                    prompt=Prompt.of(f"question {name} {number}"),
                    chosen=answer("yes"),
                    rejected=answer("no"),
                    annotation_ids=(given.id,),
                )
            )
            leads.append(1.0 if rng.random() < share else -1.0)
    return rows, np.array(leads), Background(said=said)


def card_of(rows: list[Preference], leads: np.ndarray, background: Background) -> Any:
    gaps = leads.reshape(-1, 1)
    scored = Scored(pairs=tuple(range(len(rows))), chosen=gaps / 2, rejected=-gaps / 2, drops={})
    about = About(model="m", data="d", scale="made up", seed=0, num_learned=0)
    return measure(about, rows, scored, background)


def test_the_card_warns_of_who_is_far_from_the_others_and_of_nobody_else() -> None:
    shares = {"ann": 0.8, "bob": 0.78, "simulated:contrary": 0.3, "few": 0.0}
    card = card_of(*world(60, shares))
    (warning,) = [one for one in findings(card) if one.rule == "annotator"]
    assert "simulated:contrary, simulated are far from the others" in warning.cause
    assert "60 pairs" in warning.cause
    few = next(one for one in card.annotators if one.annotator == "few")
    assert few.lead is None
    page = render(reward_report(card))
    assert "Agreement with each annotator" in page
    assert "simulated:contrary, simulated" in page


def test_alike_annotators_are_rarely_warned_of() -> None:
    rng = np.random.default_rng(1)
    warned = 0
    for _ in range(40):
        rows, _, background = world(60, dict.fromkeys("abcdef", 0.7))
        leads = np.where(rng.random(len(rows)) < 0.7, 1.0, -1.0)
        found = judged_annotators(rows, leads, background, {}, [])
        warned += any(one.lead is not None and one.lead.high < -0.05 for one in found)
    assert warned <= 2  # the intervals promise 1 in 20 before the distance of 5 points


def test_who_always_takes_the_same_side_is_named() -> None:
    card = card_of(*world(50, {"ann": 0.7, "stuck": 0.7}, one_side="stuck"))
    (warning,) = [one for one in findings(card) if one.rule == "biased_annotator"]
    assert warning.cause.startswith("stuck chooses the answer shown first in 100")


def test_one_annotator_cannot_be_compared() -> None:
    card = card_of(*world(30, {"ann": 0.7}))
    assert card.annotators == []
    assert any(note.startswith("No figures by annotator") for note in card.notes)
    assert "Agreement with each annotator" not in render(reward_report(card))


def test_a_strict_rater_is_named_in_the_result_and_the_report(tmp_path: Path) -> None:
    says = {"mild": (5.0, 3.0), "usual": (4.0, 2.0), "strict": (3.0, 1.0)}
    rows = [
        Feedback(
            prompt=row.prompt,
            responses=(row.chosen, row.rejected),
            scale="rating",
            values=values,
            criterion="kind",
            form="rating",
            source="human",
            annotator=who,
        )
        for row in testing.preferences()
        for who, values in says.items()
    ]
    path = freeze(rows, "feedback", tmp_path).path
    flags = {"data": path, "model": "test"}
    config = resolve(RewardConfig, overrides=["loss.rater_offsets=true", "epochs=1"], flags=flags)
    result = fit_reward(config, tmp_path / "run")
    offsets: Any = result.metrics["rater_offsets"]
    found = {one["annotator"]: one for one in offsets["kind"]}
    assert found["strict"]["offset_ci"][1] < found["usual"]["offset_ci"][0]
    assert found["usual"]["offset_ci"][1] < found["mild"]["offset_ci"][0]
    assert sum(one["num_ratings"] for one in found.values()) == result.metrics["num_train"]
    links: Any = result.metrics["links"]
    assert "rating/kind/offsets" not in links
    assert load_file(Path(result.path) / HEAD)["link/rating/kind/offsets"].shape == (3,)
    page = (Path(result.run) / "report.html").read_text()
    assert "How high annotators rate" in page
    refused = resolve(
        RewardConfig, overrides=["loss.rater_offsets=true", "ensemble.members=2"], flags=flags
    )
    with pytest.raises(ConfigError, match="learn the offsets with one model"):
        fit_reward(refused, tmp_path / "other")
    for remedy in ("covariates=length", "length_head=true", "length_penalty=0.1"):
        both = ["loss.rater_offsets=true", f"remedies.{remedy}"]
        with pytest.raises(ConfigError, match="drop one of the two"):
            resolve(RewardConfig, overrides=both, flags=flags)
