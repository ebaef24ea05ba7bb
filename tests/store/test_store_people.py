from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from heedful.errors import DataError, MissingError, UserError
from heedful.store import Store, keys, open_store, people, projects
from heedful.types import Project, User

OWNER = User(id="usr_1", name="Ada", role="owner", attributes={"language": "en"})


def test_a_person_written_and_read_is_the_same_record(store: Store) -> None:
    with store.write() as tx:
        people.add(tx, OWNER, password_hash="h")
    with store.read() as tx:
        assert people.get(tx, "usr_1") == OWNER
        assert people.find(tx, " Ada ") == (OWNER, "h")
        assert people.find(tx, "Bob") is None
        assert people.list_all(tx) == [OWNER]


def test_a_taken_name_and_an_unknown_role_are_refused(store: Store) -> None:
    with store.write() as tx:
        people.add(tx, OWNER)
    with pytest.raises(DataError, match="taken"), store.write() as tx:
        people.add(tx, User(id="usr_2", name="Ada", role="reader"))
    with pytest.raises(DataError, match="choose from owner"), store.write() as tx:
        people.add(tx, User(id="usr_2", name="Bob", role="king"))  # type: ignore[arg-type]


def test_the_last_owner_cannot_leave(store: Store) -> None:
    with store.write() as tx:
        people.add(tx, OWNER)
    for change in ({"role": "reader"}, {"is_active": False}):
        with pytest.raises(DataError, match="last owner"), store.write() as tx:
            people.change(tx, "usr_1", **change)
    with store.write() as tx:
        people.add(tx, User(id="usr_2", name="Bob", role="owner"))
        people.change(tx, "usr_1", role="reader")
    with pytest.raises(MissingError), store.write() as tx:
        people.change(tx, "usr_9", role="reader")


def test_a_secret_works_until_it_expires_or_is_ended_and_only_as_its_kind(database: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with open_store(database, clock=lambda: now) as store:
        with store.write() as tx:
            people.add(tx, OWNER)
            people.grant(tx, "s1", "session", "usr_1", valid=timedelta(hours=1))
            people.grant(tx, "k1", "key", "usr_1", valid=None, scopes=("read",))
        with store.write() as tx:
            assert people.bearer(tx, "s1", "session") == (OWNER, (), "human")
            assert people.bearer(tx, "s1", "key") is None
            assert people.bearer(tx, "k1", "key") == (OWNER, ("read",), "human")
            assert people.bearer(tx, "other", "session") is None
            assert people.end(tx, "k1")
            assert not people.end(tx, "k1")
            assert people.bearer(tx, "k1", "key") is None
        now += timedelta(hours=1)
        with store.read() as tx:
            assert people.bearer(tx, "s1", "session") is None


def test_no_secret_is_kept_in_the_database(store: Store) -> None:
    with store.write() as tx:
        people.add(tx, OWNER)
        people.grant(tx, "very-secret", "link", "usr_1", valid=None)
        rows = tx.connection.execute(text("select * from credentials")).all()
    assert "very-secret" not in repr(rows)


def test_who_is_switched_off_shows_no_secret(store: Store) -> None:
    with store.write() as tx:
        people.add(tx, OWNER)
        people.add(tx, User(id="usr_2", name="Bob", role="annotator"))
        people.grant(tx, "s", "session", "usr_2", valid=None)
        people.change(tx, "usr_2", is_active=False)
        assert people.bearer(tx, "s", "session") is None
        people.change(tx, "usr_2", is_active=True)
        assert people.end_all(tx, "usr_2") == 1
        assert people.bearer(tx, "s", "session") is None


def test_the_log_is_append_only_and_paged_from_the_newest(store: Store) -> None:
    with store.write() as tx:
        for number in range(5):
            people.log(tx, "usr_1", "made", f"project {number}", {"n": number})
    with store.read() as tx:
        first = people.history(tx, limit=2)
        rest = people.history(tx, limit=9, before=first[-1].number)
    assert [line.detail["n"] for line in [*first, *rest]] == [4, 3, 2, 1, 0]
    with pytest.raises(DBAPIError, match="append only"), store.write() as tx:
        tx.connection.execute(text("update audit set who = 'x'"))


PROJECT = Project(
    dataset="p", title="P", form="pairwise", criteria=("polite",), masked=("GPT",), warning="rude"
)


def test_a_project_written_changed_and_read_is_the_same_record(store: Store) -> None:
    with store.write() as tx:
        assert projects.add(tx, PROJECT) == 1
        assert projects.add(tx, PROJECT) == 0
        assert projects.get(tx, "p") == PROJECT
        changed = replace(PROJECT, title="Q", overlap=3, is_paused=True, attributes=("age",))
        projects.change(tx, changed)
        assert projects.list_all(tx) == [changed]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"overlap": 0}, "overlap is 0"),
        ({"lease_seconds": 5}, "at least 30"),
        ({"title": " "}, "title is empty"),
    ],
)
def test_a_setting_out_of_range_is_refused(store: Store, wrong: dict, said: str) -> None:
    with pytest.raises(DataError, match=said), store.write() as tx:
        projects.add(tx, replace(PROJECT, **wrong))
    with store.read() as tx, pytest.raises(MissingError):
        projects.get(tx, "p")


def test_a_form_cannot_change_and_a_name_is_taken_once(store: Store) -> None:
    with store.write() as tx:
        projects.add(tx, PROJECT)
    with pytest.raises(DataError, match="form cannot change"), store.write() as tx:
        projects.change(tx, replace(PROJECT, form="demonstration"))
    with pytest.raises(DataError, match="there already"), store.write() as tx:
        projects.add(tx, replace(PROJECT, title="other"))


def test_guidelines_are_versions_and_the_same_text_makes_none(store: Store) -> None:
    with store.write() as tx:
        projects.add(tx, PROJECT)
        assert projects.guideline(tx, "p").version == 0
        assert projects.write_guideline(tx, "p", "Be kind.", author="usr_1") == 1
        assert projects.write_guideline(tx, "p", "Be kind.", author="usr_1") == 1
        assert projects.write_guideline(tx, "p", "Be brief.", author="usr_1") == 2
        assert projects.guideline(tx, "p").text == "Be brief."
        assert projects.guideline(tx, "p", 1).text == "Be kind."
        with pytest.raises(MissingError):
            projects.guideline(tx, "p", 7)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 100_000])
def test_a_name_that_no_database_holds_is_the_callers_fault(store: Store, name: str) -> None:
    with pytest.raises(UserError), store.read() as tx:
        projects.get(tx, name)


def test_a_number_that_no_database_holds_is_the_callers_fault(store: Store) -> None:
    with store.write() as tx:
        projects.add(tx, PROJECT)
    with pytest.raises(UserError), store.read() as tx:
        projects.guideline(tx, "p", 10**30)


@pytest.mark.parametrize("name", ["new", "a/b", "..", "Big", "a b", "a\n", "-a", "a" * 81, ""])
def test_a_project_is_called_what_does_in_an_address(store: Store, name: str) -> None:
    with pytest.raises(DataError, match="project"), store.write() as tx:
        projects.add(tx, replace(PROJECT, dataset=name))
    with store.write() as tx:
        assert projects.add(tx, replace(PROJECT, dataset="a.b_c-9")) == 1


def test_keys_that_work_are_listed_and_revoked_by_whom_they_belong_to(database: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with open_store(database, clock=lambda: now) as store:
        ben = User(id="usr_2", name="Ben", role="annotator")
        with store.write() as tx:
            people.add(tx, OWNER)
            people.add(tx, ben)
            people.grant(tx, "s", "session", "usr_2", valid=None)
            people.grant(tx, "k1", "key", "usr_1", valid=timedelta(hours=1), scopes=("enter",))
            people.grant(tx, "k2", "key", "usr_2", valid=None, name="bot", source="model")
            bearer = people.bearer(tx, "k2", "key")
            assert bearer is not None
            assert bearer.source == "model"
            with pytest.raises(DataError, match="choose from human"):
                people.grant(tx, "k3", "key", "usr_2", valid=None, source="simulated")
        with store.read() as tx:
            assert {one.id for one in keys.list_active(tx)} == {keys.id_of("k1"), keys.id_of("k2")}
            (bens,) = keys.list_active(tx, "usr_2")
        assert (bens.holder, bens.name, bens.source) == (ben, "bot", "model")
        with pytest.raises(MissingError, match="you may revoke"), store.write() as tx:
            keys.revoke(tx, keys.id_of("k1"), by=ben, anybodys=False)
        for wrong in ("key_", "%", "", keys.id_of("k2")[:-1]):
            with pytest.raises(MissingError), store.write() as tx:
                keys.revoke(tx, wrong, by=OWNER, anybodys=True)
        with store.write() as tx:
            assert keys.revoke(tx, bens.id, by=OWNER, anybodys=True) == bens
            assert people.bearer(tx, "k2", "key") is None
            assert people.bearer(tx, "s", "session") is not None
            assert people.bearer(tx, "k1", "key") is not None
        now += timedelta(hours=1)
        with store.read() as tx:
            assert keys.list_active(tx) == []
