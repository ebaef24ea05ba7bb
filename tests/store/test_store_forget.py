"""After a person is forgotten, nothing of them is anywhere in the database."""

import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from heedful.errors import DataError, MissingError
from heedful.exchange.importing import import_preferences
from heedful.store import (
    Store,
    annotations,
    chat,
    completions,
    disputes,
    extras,
    integrity,
    items,
    jobs,
    models,
    people,
    projects,
    queue,
    snapshots,
    summaries,
    tables,
    tallies,
    tasks,
)
from heedful.store.forget import find, forget
from heedful.types import (
    Annotation,
    Completion,
    Message,
    ModelVersion,
    Project,
    Prompt,
    Snapshot,
    Task,
    User,
)

NAME, ID, MARK = "Zacharias Quill", "usr_zachariasquill", "MARKERTEXT"
FORMS = ("pairwise", "critique", "flags", "demonstration")
PAYLOADS: dict[str, Any] = {
    "pairwise": lambda ids: {"preferred": ids[0], "written": MARK, "comment": MARK},
    "critique": lambda _: {"critique": MARK},
    "flags": lambda ids: {"flags": {ids[0]: {"bias": {"severity": 2, "note": MARK}}}},
    "demonstration": lambda _: {"written": MARK},
}


@pytest.fixture
def filled(store: Store) -> dict[str, str]:
    """A person who did everything that leaves a trace, and another who must stay."""
    made: dict[str, str] = {}
    with store.write() as tx:
        people.add(tx, User(id="usr_own", name="Own", role="owner"))
        person = User(id=ID, name=NAME, role="owner", attributes={"born": MARK})
        people.add(tx, person, password_hash=MARK)
        people.grant(tx, "secret", "key", ID, valid=None, name=MARK)
        people.log(tx, "usr_own", "made person", ID, {"role": "owner", "name": NAME})
        people.log(tx, ID, "made key", MARK, {"scopes": []})
        people.log(tx, ID, "signed in", ID)
        base = ModelVersion(role="base", name="m", weights_hash="w", path="/m")
        models.add(tx, base)
        models.set_alias(tx, "live", base.id, who=NAME, why=MARK)
        for form in FORMS:
            projects.add(tx, Project(dataset=form, title=form, form=form, overlap=1))
            projects.write_guideline(tx, form, "Be fair.", author=ID)
            new = [task(tx, form, number) for number in range(3)]
            projects.add_tasks(tx, form, new)
    for form in FORMS:
        answer(store, form, "usr_own" if form == "flags" else ID)
        made[form] = answer(store, form, ID)
        with store.write() as tx:  # the third task stays open, with a draft
            (view,) = queue.lease(tx, form, ID, count=1, rng=random.Random(1))  # type: ignore[misc]
            queue.save_draft(tx, form, ID, view.task_id, {"comment": MARK})
            if form == "pairwise":
                queue.skip(tx, form, ID, view.task_id, MARK)
    with store.write() as tx:
        known = {"preferred": view_of_pair(tx).completion_ids[0], "comment": MARK}
        extras.set_gold(tx, projects.get(tx, "pairwise"), view_of_pair(tx).id, known, who=ID)
        chat.say(tx, chat.start(tx, ID, [base.id]), MARK, random.Random(1))
        jobs.add(tx, "fit_reward", {}, who=ID, key="k")
        put_summary(tx)
        snapshot = Snapshot(
            kind="preference", dataset="pairwise", num_rows=1, rows_hash="h", path="/snap.parquet"
        )
        snapshots.save(tx, snapshot, annotations={made["pairwise"]: "train"})
    return made | {"snapshot": snapshot.id}


def view_of_pair(tx: Any) -> Task:
    """The pair that nobody answered."""
    return next(one.task for one in tasks.by_dataset(tx, "pairwise") if not one.annotations)


def put_summary(tx: Any) -> None:
    """Statistics that name the person."""
    summaries.put(
        tx,
        summaries.Summary(
            project="pairwise",
            kind="quality",
            data={"people": [NAME]},
            num_answers=1,
            num_done=1,
            seconds=0.1,
        ),
    )


def task(tx: Any, form: str, number: int) -> Task:
    prompt = Prompt.of(f"{form} {number}?")
    shown = [
        Completion(
            prompt=prompt,
            messages=(Message(role="assistant", content=f"{side}"),),
            model="import:x",
        )
        for side in (("left", "right") if form == "pairwise" else ("left",))
    ]
    completions.add(tx, shown)
    return Task(form=form, prompt=prompt, completion_ids=tuple(one.id for one in shown))


def answer(store: Store, form: str, who: str) -> str:
    """Take the next task and answer it twice: a revision more. Only the person writes the mark."""
    with store.write() as tx:
        (view,) = queue.lease(tx, form, who, count=1, rng=random.Random(1))  # type: ignore[misc]
        for number in range(2):
            receipt = queue.submit(
                tx, form, who, view.task_id, payload(form, who, view.shown_order),
                key=f"{form}{who}{view.task_id}{number}", seconds=1.0,
            )  # fmt: skip
    return receipt.annotation_id


def payload(form: str, who: str, ids: Any) -> dict[str, Any]:
    return PAYLOADS[form](ids) if who == ID else {"flags": {}}  # type: ignore[no-any-return]


def everything(store: Store) -> str:
    """Every value of every row of every table."""
    with store.read() as tx:
        return "\n".join(
            repr(tuple(row))
            for table in tables.metadata.sorted_tables
            for row in tx.connection.execute(select(table))
        )


@pytest.mark.parametrize("how", ["anonymise", "delete"])
def test_nothing_of_the_person_is_left_in_any_table(
    store: Store, filled: dict[str, str], how: Any
) -> None:
    before = everything(store)
    assert all(word in before for word in (NAME, ID, MARK, filled["pairwise"]))
    done = forget(store, NAME, how, confirm=NAME, who="usr_own")
    after = everything(store)
    assert [word for word in (NAME, ID, MARK, filled["pairwise"]) if word in after] == []
    assert done.snapshots == ((filled["snapshot"], "/snap.parquet"),)
    assert done.num_secrets == 1
    with store.read() as tx:
        assert integrity.verify(tx) == []
        for form in FORMS:  # what the queue counts is what is there
            slots = tables.slots.c
            there = Counter(tx.connection.scalars(select(slots.state).where(slots.project == form)))
            counted = tallies.read(tx, form)
            kept = (counted.num_open, counted.num_leased, counted.num_done)
            assert kept == (there["open"], there["leased"], there["done"])
        assert [user.id for user in people.list_all(tx)] == ["usr_own"]
        with pytest.raises(MissingError):
            find(tx, NAME)


def test_anonymise_keeps_judgements_with_their_order_time_and_revision(
    store: Store, filled: dict[str, str]
) -> None:
    with store.read() as tx:
        before = {one.id: one for form in FORMS for one in items.stream(tx, form)}
    done = forget(store, ID, "anonymise", confirm=NAME, who="usr_own")
    assert (done.num_anonymised, done.num_deleted) == (6, 8)  # critiques and written ones go
    with store.read() as tx:
        after = {one.id: one for form in FORMS for one in items.stream(tx, form)}
        linked = tx.connection.scalars(select(tables.snapshot_annotations.c.annotation_id)).all()
    kept = 0
    for id, item in after.items():
        was = {one.revision: one for one in before[id].annotations if one.annotator == ID}
        for one in item.annotations:
            if one.annotator == done.gone:
                old = was[one.revision]
                assert (one.shown_order, one.seconds) == (old.shown_order, old.seconds)
                assert item.times[one.id] == before[id].times[old.id]
                assert MARK not in repr(one.payload)
                assert one.payload.get("preferred") == old.payload.get("preferred")
                kept += 1
    assert kept == 6
    assert [one for item in after.values() for one in item.times if one in linked] == list(linked)


def test_deleted_answers_are_asked_again_and_others_stay(
    store: Store, filled: dict[str, str]
) -> None:
    done = forget(store, ID, "delete", confirm=NAME, who="usr_own")
    assert (done.num_anonymised, done.num_deleted) == (0, 14)
    with store.read() as tx:
        left = [
            one for form in FORMS for item in items.stream(tx, form) for one in item.annotations
        ]
        assert {one.annotator for one in left} == {"usr_own"}
        for form in FORMS:
            progress = queue.progress(tx, form, "usr_own")
            assert (progress.num_done, progress.num_leased) == (form == "flags", 0)
    with store.write() as tx:
        again = queue.lease(tx, "pairwise", "usr_own", count=3, rng=random.Random(1))
    assert len(again) == 2  # type: ignore[arg-type] - the third became a known answer


def test_the_log_says_that_somebody_was_forgotten_but_not_who(
    store: Store, filled: dict[str, str]
) -> None:
    done = forget(store, NAME, "delete", confirm=NAME, who="usr_own")
    with store.read() as tx:
        lines = people.history(tx, limit=50)
    assert (lines[0].who, lines[0].what, lines[0].subject) == (
        "usr_own", "forgot a person", done.gone,
    )  # fmt: skip
    assert len(lines) == 5
    assert [line.number for line in lines] == sorted((line.number for line in lines), reverse=True)
    assert {line.who for line in lines} == {"usr_own", done.gone}


def test_it_takes_the_right_name_another_owner_and_a_person(
    store: Store, filled: dict[str, str]
) -> None:
    before = everything(store)
    for name, confirm, who, why in (
        (NAME, "Zacharias", "usr_own", "type it to confirm"),
        (NAME, NAME, ID, "nobody can forget themselves"),
        ("import:x", "import:x", "usr_own", "is no person"),
        ("Own", "Own", "os:root", None),
    ):
        if why:
            with pytest.raises(DataError, match=why):
                forget(store, name, "delete", confirm=confirm, who=who)
    with pytest.raises(DataError, match="choose from anonymise"):
        forget(store, NAME, "burn", confirm=NAME, who="usr_own")  # type: ignore[arg-type]
    with pytest.raises(MissingError, match="neither a person nor an annotator"):
        forget(store, "Nobody", "delete", confirm="Nobody", who="usr_own")
    assert everything(store) == before
    forget(store, NAME, "delete", confirm=NAME, who="usr_own")
    with pytest.raises(DataError, match="last owner"):
        forget(store, "Own", "delete", confirm="Own", who="os:root")


def test_an_annotator_of_imported_answers_is_forgotten_by_name(
    store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        f"prompt,answer_1,answer_2,judgement,annotator,comment\nq,a,b,1,{NAME},{MARK}\n"
    )
    import_preferences(store, "csv", [path])
    done = forget(store, NAME, "anonymise", confirm=NAME, who="os:root")
    assert done.num_anonymised == 1
    after = everything(store)
    assert NAME not in after
    assert MARK not in after


def test_no_page_of_a_sqlite_file_keeps_what_was_deleted(
    store: Store, filled: dict[str, str]
) -> None:
    if store.engine.dialect.name != "sqlite":
        pytest.skip("a file of pages is SQLite's")
    path = Path(str(store.engine.url.database))
    forget(store, NAME, "delete", confirm=NAME, who="usr_own")
    raw = b"".join(one.read_bytes() for one in path.parent.glob(f"{path.name}*"))
    assert NAME.encode() not in raw
    assert ID.encode() not in raw


def counts_are_exact(store: Store, project: str) -> bool:
    with store.read() as tx:
        slots = tables.slots.c
        there = Counter(tx.connection.scalars(select(slots.state).where(slots.project == project)))
        counted = tallies.read(tx, project)
    kept = (counted.num_open, counted.num_leased, counted.num_done)
    return kept == (there["open"], there["leased"], there["done"])


@pytest.fixture
def team(store: Store) -> tuple[Store, Task]:
    """An owner, three people and one pair that two of them answered differently."""
    with store.write() as tx:
        people.add(tx, User(id="usr_own", name="Own", role="owner"))
        for name in ("ann", "bob", "rosa"):
            people.add(tx, User(id=f"usr_{name}", name=name, role="reviewer"))
        projects.add(tx, Project(dataset="p", title="P", form="pairwise", overlap=2))
        asked = task(tx, "pairwise", 0)
        projects.add_tasks(tx, "p", [asked])
        for side, who in enumerate(("usr_ann", "usr_bob")):
            queue.lease(tx, "p", who, count=1, rng=random.Random(0))
            said = {"preferred": asked.completion_ids[side]}
            queue.submit(tx, "p", who, asked.id, said, key=who, seconds=None)
    return store, asked


def num_disputed(store: Store) -> int:
    with store.read() as tx:
        return disputes.count(tx, "p")


def test_without_one_of_two_votes_nothing_is_in_dispute(team: tuple[Store, Task]) -> None:
    store, _ = team
    assert num_disputed(store) == 1
    forget(store, "ann", "anonymise", confirm="ann", who="usr_own")
    assert num_disputed(store) == 1
    forget(store, "bob", "delete", confirm="bob", who="usr_own")
    assert num_disputed(store) == 0


def test_without_its_ruling_a_task_is_in_dispute_again(team: tuple[Store, Task]) -> None:
    store, asked = team
    with store.write() as tx:
        queue.adjudicate(tx, "p", "usr_rosa", asked.id, rng=random.Random(0))
        said = {"preferred": asked.completion_ids[0]}
        queue.submit(tx, "p", "usr_rosa", asked.id, said, key="ruling", seconds=None)
    assert num_disputed(store) == 0
    forget(store, "rosa", "delete", confirm="rosa", who="usr_own")
    assert num_disputed(store) == 1


def test_answers_under_the_id_and_the_name_to_one_task_are_both_kept(
    team: tuple[Store, Task],
) -> None:
    store, asked = team
    imported = Annotation(
        task_id=asked.id,
        annotator="ann",
        source="human",
        payload={"preferred": asked.completion_ids[1]},
        shown_order=asked.completion_ids,
    )
    with store.write() as tx:
        annotations.add(tx, [imported])
    done = forget(store, "ann", "anonymise", confirm="ann", who="usr_own")
    assert done.num_anonymised == 2
    with store.read() as tx:
        said = [one for one in annotations.latest(tx, [asked.id]) if one.annotator != "usr_bob"]
    assert {one.annotator for one in said if one.annotator == done.gone} == {done.gone}
    assert len({one.annotator for one in said}) == 2
    assert all(one.annotator.startswith(people.GONE) for one in said)


def test_a_task_whose_known_answer_was_only_written_is_asked(store: Store) -> None:
    with store.write() as tx:
        for name in ("ann", "own"):
            people.add(tx, User(id=f"usr_{name}", name=name, role="owner"))
        project = Project(dataset="p", title="P", form="demonstration", overlap=2)
        projects.add(tx, project)
        asked = task(tx, "demonstration", 0)
        projects.add_tasks(tx, "p", [asked])
        extras.set_gold(tx, project, asked.id, {"written": MARK}, who="usr_ann")
        assert tallies.read(tx, "p").num_slots == 0
    forget(store, "ann", "anonymise", confirm="ann", who="usr_own")
    with store.write() as tx:
        assert extras.golds(tx, "p") == []
        assert tallies.read(tx, "p").num_open == 2
        (view,) = queue.lease(tx, "p", "usr_own", count=1, rng=random.Random(0))  # type: ignore[misc]
        assert view.task_id == asked.id
    assert counts_are_exact(store, "p")


def test_what_is_answered_while_the_person_is_forgotten_goes_too(
    store: Store, filled: dict[str, str]
) -> None:
    done: list[Any] = []

    def run() -> None:
        done.append(forget(store, NAME, "delete", confirm=NAME, who="usr_own"))

    thread = threading.Thread(target=run)
    with store.write() as tx:
        (view,) = queue.lease(tx, "critique", ID, count=1, rng=random.Random(1))  # type: ignore[misc]
        said = {"critique": f"late {MARK}"}
        queue.submit(tx, "critique", ID, view.task_id, said, key="late", seconds=None)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
    thread.join()
    assert [one.num_deleted for one in done] == [15]
    after = everything(store)
    assert [word for word in (NAME, ID, MARK) if word in after] == []


def test_an_answer_to_a_conversation_that_is_gone_is_not_kept(
    store: Store, filled: dict[str, str]
) -> None:
    with store.read() as tx:
        id = tx.connection.scalar(select(tables.chat_drafts.c.id))
        draft = chat.get_draft(tx, id)
        prompt = chat.prompt_of(tx, draft.chat, draft.turn)
    forget(store, NAME, "delete", confirm=NAME, who="usr_own")
    message = Message(role="assistant", content="too late")
    with store.write() as tx:
        late = Completion(prompt=prompt, messages=(message,), model="import:x")
        assert not chat.complete(tx, draft, late)
    assert "too late" not in everything(store)
