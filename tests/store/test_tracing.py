import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from heedful.errors import DataError, MissingError
from heedful.exchange.importing import import_preferences
from heedful.jobs.snapshot import make_snapshot
from heedful.store import Store, completions, models, open_store, runs, tasks
from heedful.store.tracing import Node, trace
from heedful.types import Completion, Evidence, Message, ModelVersion, Prompt, Run

BASE = ModelVersion(role="base", name="tiny", weights_hash="w0", path="/models/tiny")
NUM_PAIRS = 5


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "heedful.db") as opened:
        yield opened


@pytest.fixture
def ids(store: Store, tmp_path: Path) -> dict[str, str]:
    """One record of each kind, along the chain from prompt to evidence."""
    path = tmp_path / "set.jsonl"
    rows = [{"prompt": f"q{n}", "chosen": "a", "rejected": "b"} for n in range(NUM_PAIRS)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    import_preferences(store, "trl", [path])
    snapshot = make_snapshot(store, "set", "preference", tmp_path)
    run = Run(kind="fit reward", path="/runs/1", config={}, snapshot=snapshot.id)
    model = ModelVersion(
        role="reward",
        name="kind",
        weights_hash="w1",
        path="/runs/1/model",
        parents=(BASE.id,),
        snapshot=snapshot.id,
        run=run.id,
    )
    evidence = Evidence(model=model.id, test="accuracy", value=0.7, low=0.6, high=0.8, num=9)
    with store.write() as tx:
        models.add(tx, BASE)
        runs.start(tx, run)
        models.add(tx, model)
        runs.add_evidence(tx, evidence)
        models.set_alias(tx, "live", model.id, who="me", why="best")
        asked = tasks.by_dataset(tx, "set")[0]
    return {
        "prm": asked.task.prompt.id,
        "cmp": asked.task.completion_ids[0],
        "tsk": asked.task.id,
        "ann": asked.annotations[0].id,
        "snp": snapshot.id,
        "run": run.id,
        "mdl": model.id,
        "evd": evidence.id,
    }


def flat(nodes: tuple[Node, ...]) -> list[Node]:
    return [one for node in nodes for one in (node, *flat(node.nodes))]


@pytest.mark.parametrize("kind", ["prm", "cmp", "tsk", "ann", "snp", "run", "mdl", "evd"])
def test_trace_reaches_every_kind_of_ancestor_and_descendant(
    store: Store, ids: dict[str, str], kind: str
) -> None:
    chain = list(ids)
    found = trace(store, ids[kind])
    above = {node.kind for node in flat(found.came_from)} - {kind}
    below = {node.kind for node in flat(found.led_to)} - {kind}
    assert above == set(chain[: chain.index(kind)])
    assert below == set(chain[chain.index(kind) + 1 :])
    assert ids[kind] in found.label


def test_trace_counts_many_records_on_one_line(store: Store, ids: dict[str, str]) -> None:
    lines = trace(store, ids["evd"]).render().splitlines()
    (annotations,) = [line for line in lines if "annotations" in line]
    assert f"{NUM_PAIRS} annotations by import:set (human) · first 3: ann_" in annotations
    (shown,) = [line for line in lines if "completions" in line]
    assert f"{2 * NUM_PAIRS} completions by import:set" in shown


def test_trace_of_a_base_model_shows_both_directions(store: Store, ids: dict[str, str]) -> None:
    reward = f"model {ids['mdl']} · reward kind · alias live · /runs/1/model"
    evidence = f"evidence {ids['evd']} · accuracy 0.7 (0.6 to 0.8, 9 observations)"
    assert trace(store, "tiny").render() == "\n".join(
        [
            f"model {BASE.id} · base tiny · /models/tiny",
            "came from: nothing",
            "led to:",
            f"└── {reward}",
            f"    └── {evidence}",
        ]
    )


def test_trace_expands_a_record_once(store: Store, ids: dict[str, str]) -> None:
    text = trace(store, ids["mdl"]).render()
    assert text.count(ids["snp"]) == 2
    assert text.count("(see above)") == 1


@pytest.mark.parametrize("name", ["live", "kind"])
def test_trace_finds_a_model_by_alias_and_name(
    store: Store, ids: dict[str, str], name: str
) -> None:
    assert trace(store, name).id == ids["mdl"]


def test_trace_finds_a_record_by_the_start_of_its_id(store: Store, ids: dict[str, str]) -> None:
    assert trace(store, ids["snp"][:9]).id == ids["snp"]


def test_trace_lists_what_an_ambiguous_start_fits(store: Store, ids: dict[str, str]) -> None:
    with pytest.raises(DataError, match="give more of the id") as caught:
        trace(store, "prm_")
    assert ids["prm"] in str(caught.value)


@pytest.mark.parametrize("name", ["prm_ffffffffffffffffff", "nobody", "", "xyz_1", "prm_%"])
def test_trace_of_an_unknown_record_says_what_was_seen(
    store: Store, ids: dict[str, str], name: str
) -> None:
    with pytest.raises(MissingError) as caught:
        trace(store, name)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_trace_groups_completions_by_the_model_that_wrote_them(store: Store) -> None:
    prompt = Prompt.of("q")
    written = [
        Completion(
            prompt=prompt,
            messages=(Message(role="assistant", content="a"),),
            model=BASE.id,
            draw=draw,
        )
        for draw in range(4)
    ]
    with store.write() as tx:
        models.add(tx, BASE)
        completions.add(tx, written)
    lines = trace(store, prompt.id).render().splitlines()
    assert f"4 completions by {BASE.id} (tiny)" in lines[-1]
    assert "completion" not in trace(store, "tiny").render().split("led to")[0]
