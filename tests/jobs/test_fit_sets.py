"""One reward model of several data sets: weights, the split, drops, figures and lineage by set."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import load_file

from heedful.cli.fit import set_lines
from heedful.config import RewardConfig, RewardLoss, resolve
from heedful.data import testing
from heedful.data.examples import answer, feedback_trees
from heedful.data.reading import learned, plan_reading
from heedful.data.snapshot import freeze, hash_rows, split_by_prompt
from heedful.errors import ConfigError, DataError, HeedfulError, MissingError
from heedful.exchange.importing import import_preferences
from heedful.jobs.fit import FitResult, fit_reward
from heedful.jobs.fit.sets import REPEATED, by_set, load_sets
from heedful.jobs.ranking import fitted_rewards
from heedful.jobs.work import refuse_paths
from heedful.model.base import load_base
from heedful.model.trunk import Trunk
from heedful.store import Store, lineage, models, open_store, runs, snapshots
from heedful.types import Feedback, Preference
from heedful.web import chain
from heedful.web.run_view import run_view

PAIRS = testing.preferences()
FAST = ["optimiser.learning_rate=3e-3", "held_out_share=0.3"]


def judged(rows: list[Preference], by: str) -> list[Feedback]:
    """As answers of somebody."""
    return [
        replace(row.as_feedback(), annotation_ids=(f"ann_{by}{number}",))
        for number, row in enumerate(rows)
    ]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """The first 24 and the last 16 pairs, 8 of which are in both."""
    one, two = judged(PAIRS[:24], "a"), judged(PAIRS[16:], "b")
    paths = [freeze(rows, "feedback", tmp_path).path for rows in (one, two)]
    return paths[0], paths[1]


def config(data: Any, *overrides: str, **flags: Any) -> RewardConfig:
    given = {"data": data, "model": "test"} | flags
    return resolve(RewardConfig, overrides=[*FAST, *overrides], flags=given)


def rows_in(store: Store, name: str, rows: list[Preference]) -> None:
    file = Path(str(store.engine.url.database)).parent / f"{name}.jsonl"
    lines = [
        f'{{"prompt": "{row.prompt.messages[0].content}", "chosen": "{row.chosen[0].content}", '
        f'"rejected": "{row.rejected[0].content}"}}\n'
        for row in rows
    ]
    file.write_text("".join(lines))
    import_preferences(store, "trl", [str(file)], dataset=name)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Two data sets with 24 and 16 pairs, of which 8 prompts are in both."""
    with open_store(tmp_path_factory.mktemp("store") / "s.db") as opened:
        rows_in(opened, "warm", PAIRS[:24])
        other = [replace(row, chosen=answer("oh yes, please")) for row in PAIRS[16:]]
        rows_in(opened, "cold", other)
        yield opened


@pytest.fixture(scope="module")
def of_two(store: Store, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    settings = config(["warm", "cold"], "loss.dataset_weights.cold=3")
    return fit_reward(settings, tmp_path_factory.mktemp("two") / "both", store=store)


def test_every_set_has_its_counts_its_share_and_its_accuracy(of_two: FitResult) -> None:
    sets = of_two.metrics["datasets"]
    assert list(sets) == ["warm", "cold"]
    assert [one["num_rows"] for one in sets.values()] == [24, 16]
    train = {name: one["num_train"] for name, one in sets.items()}
    weight = train["warm"] + 3 * train["cold"]
    assert sets["cold"]["weight_share"] == pytest.approx(3 * train["cold"] / weight)
    assert sum(one["num_held_out"] for one in sets.values()) == of_two.metrics["num_held_out"]
    right = sum(one["accuracy"] * one["num_held_out"] for one in sets.values())
    assert right / of_two.metrics["num_held_out"] == pytest.approx(of_two.metrics["accuracy"])
    assert all(len(one["accuracy_ci"]) == 2 and "deltas" not in one for one in sets.values())


def test_the_model_descends_from_one_snapshot_whose_parents_are_the_sets(
    of_two: FitResult, store: Store
) -> None:
    with store.read() as tx:
        version = models.get(tx, of_two.model)
        joined = snapshots.get(tx, version.snapshot or "")
        parts = [snapshots.get(tx, one) for one in joined.parents]
        assert [one.dataset for one in parts] == ["warm", "cold"]
        assert joined.num_rows == sum(one.num_rows for one in parts) == 40
        hashes = [one["rows_hash"] for one in of_two.metrics["datasets"].values()]
        assert hashes == [one.rows_hash for one in parts]
        above = lineage.parents(tx, "snp", [joined.id])
        assert above["snp"] == sorted(joined.parents)
        assert len(above["ann"]) == 40
        assert chain.data_link(tx, joined.id).detail.startswith("of warm, cold, by ")


def test_report_pages_and_command_name_every_set(of_two: FitResult, store: Store) -> None:
    report = (Path(of_two.run) / "report.html").read_text()
    assert "share of the weight" in report
    assert "on warm, cold, seed 0" in report
    with store.read() as tx:
        (run,) = runs.newest(tx, limit=1)
    assert run_view(run).data == "warm, cold"
    (line,) = set_lines("cold", of_two.metrics["datasets"]["cold"])
    assert line.startswith("data cold  ")
    assert "held-out accuracy" in line


def test_a_job_opens_no_file_by_the_name_of_any_set(store: Store) -> None:
    def job(*data: str) -> Any:
        return SimpleNamespace(spec={"config": {"data": list(data)}})

    refuse_paths(store, job("warm", "cold", "test"))
    with pytest.raises(MissingError, match="passwd"):
        refuse_paths(store, job("warm", "/etc/passwd"))


def test_it_is_a_reward_model_of_each_of_its_sets(of_two: FitResult, store: Store) -> None:
    for name in ("warm", "cold"):
        assert fitted_rewards(store, name) == (of_two.model,)
        with store.read() as tx:
            newest = models.newest_reward(tx, name)
        assert newest is not None
        assert newest.id == of_two.model
    assert fitted_rewards(store, "neither") == ()


def test_a_prompt_of_two_sets_is_on_one_side_of_the_split(
    files: tuple[str, str], tmp_path: Path
) -> None:
    sets = load_sets(None, files, "feedback", tmp_path)
    train, held_out = split_by_prompt(sets.rows.rows, 0.3, 0)
    both = {row.prompt.id for row in PAIRS[16:24]}
    sides = [{row.prompt.id for row in side} & both for side in (train, held_out)]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert sum(row.prompt.id in both for row in held_out) == 2 * len(sides[1])


def test_one_set_in_a_list_is_the_set_by_its_name(files: tuple[str, str], tmp_path: Path) -> None:
    assert config([files[0]]) == config(files[0])
    assert load_sets(None, config([files[0]]).datasets, "feedback", tmp_path).of_row == ()


def test_drops_are_counted_by_set(tmp_path: Path) -> None:
    long = replace(PAIRS[0].as_feedback(), responses=(answer("a"), answer("b " * 400)))
    same = replace(PAIRS[1].as_feedback(), responses=(answer("a"), answer("a")))
    names = tuple(
        freeze(rows, "feedback", tmp_path / str(number)).path
        for number, rows in enumerate(
            ([long, *judged(PAIRS[:4], "a")], [same, *judged(PAIRS[:4], "a")])
        )
    )
    sets = load_sets(None, names, "feedback", tmp_path)
    assert [dict(one.drops) for one in sets.parts] == [{}, {REPEATED: 4}]
    encoded = feedback_trees(
        Trunk(load_base("test")).tokenizer, sets.rows.rows, max_tokens=256, datasets=sets.of_row
    )
    reading = plan_reading(RewardLoss(), encoded.trees)
    taught = [one for tree in encoded.trees if (one := learned(tree, reading))]
    found = by_set(sets, encoded, reading, taught, [], lambda trees: {"num_held_out": len(trees)})
    assert [one["drops"] for one in found.values()] == [
        {"too_long": 1},
        {"identical_sides": 1, REPEATED: 4},
    ]
    assert [one["weight_share"] for one in found.values()] == [1, 0]


def test_a_set_of_weight_zero_teaches_as_if_it_were_not_there(
    files: tuple[str, str], tmp_path: Path
) -> None:
    settings = config(files, held_out_share=0)
    loss = settings.loss.model_copy(update={"dataset_weights": {files[1]: 0.0}})
    both = fit_reward(settings.model_copy(update={"loss": loss}), tmp_path / "both")
    alone = fit_reward(config(files[0], held_out_share=0), tmp_path / "alone")
    left, right = (load_file(Path(one.path) / "head.safetensors") for one in (both, alone))
    assert all(left[key].equal(right[key]) for key in left)


@pytest.mark.parametrize(
    ("data", "overrides", "error", "match"),
    [
        (["warm", "cald"], [], MissingError, "'cald' is not in the store; did you mean 'cold'"),
        (["warm", "warm"], [], ConfigError, "named twice"),
        ([], [], ConfigError, "the list is empty"),
        ([3], [], ConfigError, "a list of names"),
        (["warm", "cold"], ["loss.dataset_weights.colt=2"], ConfigError, "did you mean 'cold'"),
        (["warm", "cold"], ["loss.dataset_weights.cold=-1"], ConfigError, "greater than or equal"),
        (
            ["warm", "cold"],
            ["loss.dataset_weights.cold=0", "loss.dataset_weights.warm=0"],
            ConfigError,
            "are 0 for warm, cold",
        ),
    ],
)
def test_sets_that_make_no_sense_are_refused_before_anything_is_written(
    data: Any,
    overrides: list[str],
    error: type[HeedfulError],
    match: str,
    store: Store,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=match):
        fit_reward(config(data, *overrides), tmp_path / "run", store=store)
    assert not (tmp_path / "run").exists()


def test_the_same_rows_under_two_names_and_rows_of_another_kind_are_refused(
    files: tuple[str, str], tmp_path: Path
) -> None:
    again = tmp_path / "again.parquet"
    again.write_bytes(Path(files[0]).read_bytes())
    with pytest.raises(DataError, match=r"again.parquet are the same rows; name one"):
        load_sets(None, (files[0], str(again)), "feedback", tmp_path)
    asked = freeze(testing.prompts(), "prompt", tmp_path).path
    with pytest.raises(DataError, match="has prompt rows, this command needs feedback rows"):
        load_sets(None, (files[0], asked), "feedback", tmp_path)


def test_the_hash_of_rows_is_that_of_their_snapshot(tmp_path: Path) -> None:
    rows = judged(PAIRS, "a")
    assert hash_rows(rows) == freeze(rows, "feedback", tmp_path).rows_hash
