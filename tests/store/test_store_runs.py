import math

import pytest
from store_samples import BASE, pair, prefer

from heedful.errors import DataError, MissingError
from heedful.store import (
    Store,
    annotations,
    completions,
    datasets,
    integrity,
    models,
    runs,
    snapshots,
    tables,
    tasks,
)
from heedful.types import Evidence, ModelVersion, Prompt, Run, Snapshot

SNAPSHOT = Snapshot(
    kind="preference",
    dataset="set",
    num_rows=1,
    rows_hash="abc",
    path="/a.parquet",
    drops={"tie": 2},
)


def save_everything(store: Store) -> ModelVersion:
    task, sides = pair(1)
    run = Run(kind="fit reward", path="/runs/1", config={"lr": 1e-3}, snapshot=SNAPSHOT.id)
    model = ModelVersion(
        role="reward",
        name="kind",
        weights_hash="w1",
        path="/m",
        parents=(BASE.id,),
        snapshot=SNAPSHOT.id,
        run=run.id,
    )
    evidence = Evidence(model=model.id, test="accuracy", value=1, low=0.5, high=1, num=10)
    with store.write() as tx:
        completions.add(tx, sides)
        tasks.add(tx, [task])
        datasets.add_tasks(tx, "set", [task.id])
        annotations.add(tx, [prefer(task)])
        snapshots.save(tx, SNAPSHOT, annotations={prefer(task).id: "train"})
        runs.start(tx, run)
        models.add(tx, BASE)
        models.add(tx, model)
        runs.add_evidence(tx, evidence)
        runs.finish(tx, run.id)
    return model


def test_run_is_running_until_it_is_finished(store: Store) -> None:
    run = Run(kind="fit sft", path="/runs/1", config={"lr": 1e-3})
    with store.write() as tx:
        assert runs.start(tx, run) == 1
        assert runs.get(tx, run.id) == run
        runs.finish(tx, run.id, failed=True)
        assert runs.get(tx, run.id).status == "failed"
        assert runs.start(tx, run) == 0
        assert runs.list_all(tx) == [run]


def test_finishing_an_unknown_run_is_refused(store: Store) -> None:
    with pytest.raises(MissingError, match="run_none"), store.write() as tx:
        runs.finish(tx, "run_none")


def test_model_read_back_keeps_its_lineage(store: Store) -> None:
    model = save_everything(store)
    with store.read() as tx:
        assert models.get(tx, "kind") == model


def test_evidence_read_back_has_the_same_id(store: Store) -> None:
    model = save_everything(store)
    evidence = Evidence(model=model.id, test="ece", value=0, low=0, high=1, num=3, detail={"a": 1})
    with store.write() as tx:
        assert runs.add_evidence(tx, evidence) == 1
        assert runs.add_evidence(tx, evidence) == 0
        assert evidence.id in [one.id for one in runs.evidence_of(tx, model.id)]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_evidence_that_is_not_finite_is_refused(store: Store, value: float) -> None:
    model = save_everything(store)
    with pytest.raises(DataError, match="finite"), store.write() as tx:
        runs.add_evidence(tx, Evidence(model=model.id, test="t", value=value, low=0, high=1, num=1))


def test_nan_inside_json_is_refused(store: Store) -> None:
    run = Run(kind="fit sft", path="/r", config={"lr": math.nan})
    with pytest.raises(DataError, match="runs"), store.write() as tx:
        runs.start(tx, run)


def test_snapshot_read_back_is_the_same_and_moves_with_its_path(store: Store) -> None:
    save_everything(store)
    moved = Snapshot(
        kind="preference", dataset="set", num_rows=1, rows_hash="abc", path="/b", drops={"tie": 2}
    )
    with store.write() as tx:
        assert snapshots.get(tx, SNAPSHOT.id) == SNAPSHOT
        assert snapshots.save(tx, moved) == 0
        assert snapshots.get(tx, SNAPSHOT.id) == moved


def test_verify_finds_nothing_in_a_sound_store(store: Store) -> None:
    save_everything(store)
    with store.read() as tx:
        assert integrity.verify(tx) == []


@pytest.mark.parametrize(
    ("table", "values"),
    [
        (tables.prompts, {"tools": ["x"]}),
        (tables.completions, {"draw": 7}),
        (tables.tasks, {"guideline": "changed"}),
        (tables.runs, {"kind": "changed"}),
        (tables.model_versions, {"weights_hash": "changed"}),
        (tables.evidence, {"value": 0.25}),
        (tables.snapshots, {"rows_hash": "changed"}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_verify_finds_a_row_that_was_changed(store: Store, table, values) -> None:
    save_everything(store)
    with store.write() as tx:
        tx.connection.execute(table.update().values(**values))
        assert table.name in {one.table for one in integrity.verify(tx)}


def test_prompt_snapshot_links_its_prompts(store: Store) -> None:
    prompt = Prompt.of("q")
    snapshot = Snapshot(kind="prompt", dataset="p", num_rows=1, rows_hash="h", path="/p")
    with store.write() as tx:
        datasets.add_prompts(tx, "p", [prompt])
        assert snapshots.save(tx, snapshot, prompts={prompt.id: "train"}) == 1
