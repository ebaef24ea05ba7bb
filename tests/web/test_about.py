"""What annotators are asked about themselves: once, voluntarily, and with choices that compare."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient
from studio import csrf_of, make_studio, visitor

from heedful.errors import DataError
from heedful.store import Store, about, people

LABEL, ABOUT = "/projects/support/label", "/projects/support/about"
ASKED = "level: expert | lay\nlanguage"


@pytest.fixture
def studio(tmp_path: Path):
    store, client = make_studio(tmp_path)
    with store:
        visitor(store, client, "olga", "owner")
        page = client.get("/projects/support").text
        settings = {"csrf": csrf_of(page), "title": "Support", "overlap": "1"}
        saved = client.post("/projects/support", data=settings | {"attributes": ASKED})
        assert saved.status_code == 303
        yield store, client


def told(store: Store, who: str) -> dict[str, str]:
    with store.read() as tx:
        return dict(people.get(tx, who).attributes)


def tell(client: TestClient, address: str = ABOUT, **given: str) -> int:
    fields = {f"about {name}": value for name, value in given.items()}
    csrf = {"csrf": csrf_of(client.get("/me").text)}
    return client.post(address, data=csrf | fields).status_code


def test_a_project_asks_before_the_first_task_and_once(studio) -> None:
    store, client = studio
    assert "level: expert | lay\nlanguage</textarea>" in client.get("/projects/support").text
    who = visitor(store, client, "anna")
    first = client.get(LABEL)
    assert (first.status_code, first.headers["location"]) == (303, ABOUT)
    page = client.get(ABOUT).text
    assert '<option value="expert"' in page
    assert 'name="about language"' in page
    assert tell(client, level="expert") == 303
    assert told(store, who) == {"level": "expert", "language": ""}
    assert client.get(LABEL).status_code == 200
    # with a new question only that one is open, and what was said before is there
    with store.write() as tx:
        about.tell(tx, who, [about.question("age")], {})
    assert '<option value="expert" selected>' in client.get(ABOUT).text


def test_saying_nothing_is_an_answer(studio) -> None:
    store, client = studio
    who = visitor(store, client, "anna")
    assert tell(client) == 303
    assert told(store, who) == {"level": "", "language": ""}
    assert client.get(LABEL).status_code == 200


def test_what_is_no_choice_is_refused_and_nothing_is_kept(studio) -> None:
    store, client = studio
    who = visitor(store, client, "anna")
    assert tell(client, level="exprt", language="German") == 422
    assert tell(client, language="x" * 101) == 422
    assert told(store, who) == {}


def test_spaces_do_not_keep_a_choice_from_being_chosen(studio) -> None:
    store, client = studio
    who = visitor(store, client, "anna")
    asked = about.question("field:  law  and  order | art")
    assert asked.choices == ("law and order", "art")
    with store.write() as tx:
        about.tell(tx, who, [asked], {"field": "law  and order"})
    assert told(store, who) == {"field": "law and order"}


def test_one_can_change_it_on_ones_own_page(studio) -> None:
    store, client = studio
    who = visitor(store, client, "anna")
    tell(client, level="expert", language="German")
    assert 'value="German"' in client.get("/me").text
    assert tell(client, "/me/about", level="lay", height="tall") == 303
    assert told(store, who) == {"level": "lay", "language": "German"}


def test_answers_of_one_person_are_not_those_of_another(studio) -> None:
    store, client = studio
    anna = visitor(store, client, "anna")
    tell(client, level="expert")
    bert = visitor(store, client, "bert")
    assert client.get(LABEL).status_code == 303
    assert told(store, bert) == {}
    assert told(store, anna)["level"] == "expert"


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        (["level", "level: a | b"], "one is asked twice"),
        (["level: expert"], "give two or more different ones"),
        (["level: a | a"], "give two or more different ones"),
        (["level:"], "give two or more different ones"),
        (["<b>level</b>"], "no name of what is asked"),
        ([f"a{number}" for number in range(13)], "13 things are asked"),
    ],
)
def test_questions_that_cannot_be_asked_are_refused(lines: list[str], match: str) -> None:
    with pytest.raises(DataError, match=match):
        about.questions(lines)
