import json
from pathlib import Path

from heedful.data.snapshot import read_snapshot
from heedful.exchange.importing import import_preferences
from heedful.jobs.snapshot import make_snapshot
from heedful.store import Store, integrity
from heedful.store.tracing import trace
from heedful.types import Feedback, Preference


def test_chain_from_file_to_snapshot_and_back_is_the_same_on_every_database(
    store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "set.jsonl"
    rows = [{"prompt": f"q{n}", "chosen": "a \x00", "rejected": "b \U0001f600"} for n in range(9)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert import_preferences(store, "trl", [path]).num_new == 9
    assert import_preferences(store, "trl", [path]).num_new == 0
    snapshot = make_snapshot(store, "set", "preference", tmp_path)
    # Ids are content hashes and order is by id, so neither depends on the database.
    assert snapshot.id == "snp_c49f33e65fff10b1"
    row = read_snapshot(snapshot.path)[0]
    assert isinstance(row, Preference)
    assert trace(store, snapshot.id).came_from[0].ids == tuple(
        sorted(one for row in read_snapshot(snapshot.path) for one in row.annotation_ids)
    )
    assert snapshot.id in trace(store, row.prompt.id).render()
    with store.read() as tx:
        assert integrity.verify(tx) == []


def test_feedback_of_a_data_set_is_frozen_with_its_ties_thumbs_and_annotations(
    store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "mixed.csv"
    path.write_text("prompt,answer_1,answer_2,judgement\nq,a,b,1\nr,a,b,tie\ns,a,b,both_bad\n")
    assert import_preferences(store, "csv", [path]).num_new == 3
    snapshot = make_snapshot(store, "mixed", "feedback", tmp_path)
    rows = read_snapshot(snapshot.path)
    said = {
        one.prompt.messages[0].content: (one.scale, one.values)
        for one in rows
        if isinstance(one, Feedback)
    }
    assert said == {"q": ("order", (0, 1)), "r": ("order", (0, 0)), "s": ("thumb", (0, 0))}
    assert snapshot.drops == {}
    assert trace(store, snapshot.id).came_from[0].ids == tuple(
        sorted(rows[number].annotation_ids[0] for number in range(3))  # type: ignore[union-attr]
    )
