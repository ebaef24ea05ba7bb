import re
from pathlib import Path

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from starlette.testclient import TestClient
from studio import DAY, csrf_of, make_studio, routes, visitor

from heedful.errors import ConfigError
from heedful.store import keys, people, projects, tables
from heedful.types import User
from heedful.web.access import PERMISSIONS, NotAllowedError
from heedful.web.people import LINK_SUFFICES
from heedful.web.serving import address_of, listen
from heedful.web.sign_in import ATTEMPTS, WINDOW_SECONDS, Attempts, make_link

PUBLIC = {"/content.css", "/sign-in", "/sign-in/{secret}", "/sign-out"}


@pytest.fixture
def studio(tmp_path: Path):
    store, client = make_studio(tmp_path)
    with store:
        yield store, client


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2 at its cheapest: how much work it makes is pwdlib's to say and no claim of ours."""
    quick = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),))
    monkeypatch.setattr(PasswordHash, "recommended", lambda: quick)


def test_every_route_but_the_sign_in_pages_refuses_strangers(studio) -> None:
    _, client = studio
    found = routes(client)
    assert len(found) > 12
    for method, path in found:
        if path in PUBLIC:
            continue
        address = re.sub(r"\{\w+\}", "0", path)
        answer = client.request(method, address, headers={"accept": "application/json"})
        assert answer.status_code == 401, (method, path)
        assert answer.json()["error"]["code"] == "sign_in_needed"
        in_browser = client.request(method, address, headers={"accept": "text/html"})
        assert in_browser.headers["location"] == "/sign-in"


def test_a_route_without_a_mark_is_closed_even_to_owners(studio) -> None:
    store, client = studio
    client.app.get("/forgotten")(lambda: "open")  # type: ignore[attr-defined]
    visitor(store, client, "ada", "owner")
    assert client.get("/forgotten").status_code == 403


def test_a_link_signs_in_once_and_looking_does_not_use_it_up(studio) -> None:
    store, client = studio
    link = f"/sign-in/{make_link(store, 'ada', valid=DAY)}"
    for _ in range(2):
        assert "Sign in as ada" in client.get(link).text
    assert client.post(link).status_code == 303
    assert client.get("/").status_code == 200
    client.cookies.clear()
    assert client.post(link).status_code == 403
    assert client.get("/").status_code == 401


@pytest.mark.parametrize(
    ("wanted", "to"),
    [
        ("/projects/support/label", "/projects/support/label"),
        ("//example.com", "/"),
        ("https://example.com", "/"),
        ("/\\example.com", "/"),
        ("javascript:alert(1)", "/"),
    ],
)
def test_a_link_goes_on_to_a_page_of_ours_only(studio, wanted: str, to: str) -> None:
    store, client = studio
    link = f"/sign-in/{make_link(store, 'ada', valid=DAY)}"
    page = client.get(link, params={"next": wanted}).text
    assert f'name="next" value="{to}"' in page
    assert client.post(link, data={"next": wanted}).headers["location"] == to


def test_password_sign_in_and_its_limit(studio) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    with store.write() as tx:
        people.change(tx, "usr_ada", password_hash=PasswordHash.recommended().hash("right one"))
    client.cookies.clear()

    def attempt(name: str, password: str) -> int:
        return client.post("/sign-in", data={"name": name, "password": password}).status_code

    assert attempt("ada", "wrong") == 403
    assert attempt("nobody", "wrong") == 403
    assert attempt("ada", "right one") == 303
    codes = [attempt("ada", "wrong") for _ in range(ATTEMPTS)]
    assert codes[-1] == 429
    last = client.post("/sign-in", data={"name": "ada", "password": "right one"})
    assert last.status_code == 429
    assert "too many tries" in last.text
    with store.read() as tx:
        lines = people.history(tx, limit=50)
    refused = {(line.who, line.subject) for line in lines if line.what == "refused sign-in"}
    assert refused == {("usr_ada", "ada"), ("", "nobody")}
    assert "wrong" not in str(lines)


def test_signing_out_ends_the_session_on_the_server(studio) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    session = client.cookies["heedful_session"]
    client.post("/sign-out", data={"csrf": csrf_of(client.get("/").text)})
    client.cookies.set("heedful_session", session)
    assert client.get("/").status_code == 401
    with store.read() as tx:
        assert people.history(tx, limit=1)[0].what == "signed out"


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ({"sec-fetch-site": "cross-site"}, True),
        ({"origin": "https://evil.example"}, True),
        ({"origin": "null"}, True),
        ({"origin": "http://testserver"}, False),
        ({"origin": "http://behind.a.proxy", "sec-fetch-site": "same-origin"}, False),
        ({}, False),
    ],
)
def test_another_site_signs_nobody_in_or_out(studio, headers, is_refused: bool) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    answer = client.post("/sign-out", headers=headers)
    assert answer.status_code == (403 if is_refused else 303)
    assert client.get("/").status_code == (200 if is_refused else 401)
    link = f"/sign-in/{make_link(store, 'ben', valid=DAY)}"
    assert client.post(link, headers=headers).status_code == (403 if is_refused else 303)


def test_somebody_switched_off_waits_as_long_as_anybody(studio, monkeypatch) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    hashed = PasswordHash.recommended().hash("right one")
    with store.write() as tx:
        off = User(id="usr_off", name="off", role="reader", is_active=False)
        people.add(tx, off, password_hash=hashed)
    verified = []
    monkeypatch.setattr(PasswordHash, "verify", lambda *_: verified.append(1) or True)
    answer = client.post("/sign-in", data={"name": "off", "password": "right one"})
    assert (answer.status_code, verified) == (403, [1])


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_odd_tokens_and_errors_that_nobody_foresaw_have_the_one_shape(
    studio, monkeypatch, accept: str
) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    head = {"accept": accept, "x-csrf-token": b"\xe9"}
    answers = [client.post("/goal/begin", headers=head)]
    monkeypatch.setattr(people, "list_all", lambda _: 1 / 0)
    answers.append(client.get("/people", headers={"accept": accept}))
    assert [one.status_code for one in answers] == [403, 500]
    for one in answers:
        assert one.headers["x-frame-options"] == "DENY"
        if accept == "text/html":
            assert "<h1>" in one.text
        else:
            assert one.json()["error"]["message"]


@pytest.mark.parametrize("role", [None, "annotator", "owner"])
def test_only_who_may_import_sends_a_large_body_and_only_there(studio, role) -> None:
    store, client = studio
    token = {}
    if role:
        visitor(store, client, "ada", role)
        token = {"x-csrf-token": csrf_of(client.get("/me").text)}
    sent = {"files": {"file": ("a.jsonl", b"x" * 3_000_000)}, "data": {"format": "trl"}}
    assert (client.post("/import", **sent, headers=token).status_code == 413) is (role != "owner")
    for path in ("/sign-in/import", "/projects/import", "/data/import"):
        assert client.post(path, **sent, headers=token).status_code == 413


def test_a_change_without_the_pages_token_is_refused_and_changes_nothing(studio) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    fields = {"title": "Forged", "form": "pairwise"}
    for extra in ({}, {"csrf": ""}, {"csrf": "0" * 64}):
        assert client.post("/projects/new", data=fields | extra).status_code == 403
    assert "Forged" not in client.get("/").text
    token = csrf_of(client.get("/").text)
    assert client.post("/projects/new", data=fields | {"csrf": token}).status_code == 303
    assert "Forged" in client.get("/").text


def test_the_cookie_is_kept_from_scripts_and_other_sites(studio) -> None:
    store, client = studio
    answer = client.post(f"/sign-in/{make_link(store, 'ada', valid=DAY)}")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


@pytest.mark.parametrize(
    ("role", "opens"),
    [
        ("owner", {"/", "/projects/support/label", "/projects/support", "/projects/new"}),
        ("reviewer", {"/", "/projects/support/label"}),
        ("annotator", {"/", "/projects/support/label"}),
        ("reader", {"/"}),
    ],
)
def test_a_role_opens_what_it_should_and_nothing_else(studio, role, opens: set[str]) -> None:
    store, client = studio
    visitor(store, client, "ada", role)
    pages = ("/", "/projects/support/label", "/projects/support", "/projects/new")
    assert {path for path in pages if client.get(path).status_code == 200} == opens
    assert role in PERMISSIONS


def test_pages_forbid_foreign_scripts_and_frames(studio) -> None:
    _, client = studio
    answer = client.get("/sign-in")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "<script>" not in answer.text
    assert "style=" not in answer.text


def test_an_api_key_acts_within_its_scopes_and_needs_no_token(studio) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    client.cookies.clear()
    with store.write() as tx:
        people.grant(tx, "hk_1", "key", "usr_ada", valid=None, scopes=("label", "enter"))
    header = {"authorization": "Bearer hk_1"}
    assert client.post("/projects/support/items", headers=header).status_code == 200
    assert client.post("/projects/support/heartbeat", headers=header).status_code == 200
    assert client.get("/projects/support", headers=header).status_code == 403
    assert client.get("/", headers={"authorization": "Bearer wrong"}).status_code == 401


def test_a_huge_body_is_refused_before_it_is_read(studio) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    answer = client.post("/projects/new", data={"title": "x" * 3_000_000})
    assert answer.status_code == 413


def invite(client: TestClient, name: str, role: str = "annotator") -> str:
    """Invite somebody as an owner; the path of their link."""
    token = csrf_of(client.get("/people").text)
    page = client.post("/people", data={"csrf": token, "name": name, "role": role}).text
    return "/sign-in/" + page.split("/sign-in/")[1].split('"')[0]


def act(client: TestClient, person: str, action: str) -> int:
    token = csrf_of(client.get("/people").text)
    return client.post(f"/people/{person}", data={"csrf": token, "action": action}).status_code


def test_an_invited_person_signs_in_by_their_link_sets_a_password_and_comes_back(studio) -> None:
    store, owner = studio
    visitor(store, owner, "ada", "owner")
    link = invite(owner, "ben")
    assert link not in owner.get("/people").text  # shown once
    guest = TestClient(owner.app, follow_redirects=False)
    assert guest.post(link).status_code == 303
    assert guest.get("/projects/support/label").status_code == 200
    assert guest.get("/people").status_code == 403
    token = csrf_of(guest.get("/me").text)
    short = guest.post("/me/password", data={"csrf": token, "password": "short"})
    assert short.status_code == 422
    assert (
        guest.post("/me/password", data={"csrf": token, "password": "long enough"}).status_code
        == 303
    )
    assert guest.get("/").status_code == 200  # this session stays
    again = TestClient(owner.app, follow_redirects=False)
    assert (
        again.post("/sign-in", data={"name": "ben", "password": "long enough"}).status_code == 303
    )


def set_password(client: TestClient, **fields: str) -> int:
    token = csrf_of(client.get("/me").text)
    return client.post("/me/password", data={"csrf": token, **fields}).status_code


def test_who_has_a_password_states_it_to_change_it_unless_a_link_just_let_them_in(studio) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    assert "Current password" not in client.get("/me").text
    assert set_password(client, password="long enough") == 303
    client.cookies.clear()
    client.post("/sign-in", data={"name": "ada", "password": "long enough"})
    assert "Current password" in client.get("/me").text
    assert set_password(client, password="another one") == 422
    assert set_password(client, password="another one", current="wrong") == 422
    assert set_password(client, password="another one", current="long enough") == 303
    client.cookies.clear()
    client.post(f"/sign-in/{make_link(store, 'ada', valid=DAY)}")
    assert set_password(client, password="the third one") == 303
    with store.write() as tx:
        a_while_ago = tx.now - LINK_SUFFICES - DAY
        tx.connection.execute(tables.credentials.update().values(created_at=a_while_ago))
    assert set_password(client, password="the fourth one") == 422


def test_a_forgotten_account_is_not_changed_or_let_in_again(studio) -> None:
    store, owner = studio
    visitor(store, owner, "ada", "owner")
    owner.post(invite(owner, "ben"))
    with store.write() as tx:
        people.add(tx, User(id=f"{people.GONE}1", name=f"{people.GONE}1", role="owner"))
    visitor(store, owner, "bea", "owner")
    for action in ("on", "owner", "link"):
        assert act(owner, f"{people.GONE}1", action) == 404


def test_a_person_who_is_switched_off_is_out_at_once(studio) -> None:
    store, owner = studio
    visitor(store, owner, "ada", "owner")
    guest = TestClient(owner.app, follow_redirects=False)
    guest.post(invite(owner, "ben"))
    with store.read() as tx:
        found = people.find(tx, "ben")
    assert found is not None
    assert act(owner, found[0].id, "off") == 200
    assert guest.get("/").status_code == 401
    assert act(owner, found[0].id, "on") == 200
    assert guest.get("/").status_code == 401  # old sessions do not come back


def test_owners_cannot_lock_everybody_out_and_odd_actions_are_refused(studio) -> None:
    store, owner = studio
    visitor(store, owner, "ada", "owner")
    for action in ("off", "reader", "king"):
        assert act(owner, "usr_ada", action) == 422
    assert act(owner, "usr_none", "off") == 404
    assert owner.get("/people").status_code == 200


def test_the_log_tells_who_invited_whom(studio) -> None:
    store, owner = studio
    visitor(store, owner, "ada", "owner")
    invite(owner, "ben", "reviewer")
    page = owner.get("/audit").text
    assert "made person" in page
    assert "role: reviewer" in page
    assert '<td data-name="who">ada</td>' in page


def test_tries_to_sign_in_are_forgotten_after_their_window_and_kept_per_app(studio) -> None:
    now = 0.0
    attempts = Attempts(lambda: now)
    for number in range(1000):
        attempts.check(f"10.0.0.{number}")
    for _ in range(ATTEMPTS):
        attempts.check("mine")
    with pytest.raises(NotAllowedError, match="wait a minute"):
        attempts.check("mine")
    now = WINDOW_SECONDS + 1
    attempts.check("mine")
    assert list(attempts.by_address) == ["mine"]
    _, client = studio
    assert client.app.state.attempts.by_address == {}


def test_a_key_is_made_on_ones_own_page_shown_once_and_revoked(studio) -> None:
    store, client = studio
    visitor(store, client, "ann")
    token = csrf_of(client.get("/me").text)
    fields = {"csrf": token, "name": "judge", "scopes": ["enter", "label"], "source": "model"}
    shown = client.post("/me/keys", data=fields).text
    secret = shown.split('value="hk_')[1].split('"')[0]
    again = client.get("/me").text
    assert secret not in again
    assert "judge" in again
    assert ">model<" in again
    bot = TestClient(client.app, headers={"authorization": f"Bearer hk_{secret}"})
    assert bot.post("/projects/support/items").status_code == 200
    with store.read() as tx:
        (one,) = keys.list_active(tx, "usr_ann")
    assert one.id == keys.id_of(f"hk_{secret}")
    assert client.post(f"/keys/{one.id}/revoke", data={"csrf": token}).status_code == 303
    assert bot.post("/projects/support/items").status_code == 401
    assert client.post("/me/keys", data=fields | {"scopes": ["manage"]}).status_code == 422
    assert client.post("/me/keys", data=fields | {"days": "0"}).status_code == 422
    assert client.post("/me/keys", data=fields | {"name": " "}).status_code == 422


def test_an_owner_sees_and_revokes_everybodys_keys_and_the_log_tells(studio) -> None:
    store, client = studio
    visitor(store, client, "ben")
    with store.write() as tx:
        people.grant(tx, "hk_ben", "key", "usr_ben", valid=DAY, name="bens key", scopes=("enter",))
    visitor(store, client, "ann")
    other = keys.id_of("hk_ben")
    token = csrf_of(client.get("/me").text)
    assert client.post(f"/keys/{other}/revoke", data={"csrf": token}).status_code == 404
    visitor(store, client, "ada", "owner")
    page = client.get("/people").text
    assert "bens key" in page
    fields = {"csrf": csrf_of(page), "on": "people"}
    answer = client.post(f"/keys/{other}/revoke", data=fields)
    assert answer.headers["location"] == "/people"
    assert "bens key" not in client.get("/people").text
    assert "revoked key" in client.get("/audit").text
    with store.read() as tx:
        assert people.bearer(tx, "hk_ben", "key") is None


@pytest.mark.parametrize(
    ("title", "status"),
    [("New", 422), ("!?", 422), ("a" * 200, 303), ("a" * 201, 422), ("Проект", 303), ("Café", 303)],
)
def test_a_title_becomes_a_name_that_does_in_an_address(studio, title: str, status: int) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    token = csrf_of(client.get("/").text)
    fields = {"csrf": token, "title": title, "form": "pairwise"}
    answer = client.post("/projects/new", data=fields)
    assert answer.status_code == status
    if status == 303:
        assert client.get(answer.headers["location"]).status_code == 200


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_a_refused_project_keeps_what_was_typed_and_changes_none_that_is_there(
    studio, accept: str
) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    token = csrf_of(client.get("/").text)
    fields = {"csrf": token, "title": "Mail", "form": "rating", "guidelines": "Kindly."}
    assert client.post("/projects/new", data=fields).status_code == 303
    typed = fields | {"guidelines": "<Another> long text"}
    refused = client.post("/projects/new", data=typed, headers={"accept": accept})
    assert refused.status_code == 422
    assert "is there already; choose another name" in refused.text
    if accept == "text/html":
        assert "&lt;Another&gt; long text</textarea>" in refused.text
        assert 'value="Mail"' in refused.text
        assert "<option selected>rating</option>" in refused.text
    with store.read() as tx:
        assert projects.guideline(tx, "mail").text == "Kindly."


def test_a_taken_name_is_refused_in_plain_words(studio) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    token = csrf_of(client.get("/people").text)
    fields = {"csrf": token, "name": "ada", "role": "reader"}
    refused = client.post("/people", data=fields).json()
    assert refused["error"]["message"] == "the name 'ada' is taken; choose another"
    page = client.post("/people", data=fields, headers={"accept": "text/html"})
    assert page.status_code == 422
    assert "Not invited: the name &#39;ada&#39; is taken; choose another." in page.text
    assert 'maxlength="60" value="ada"' in page.text
    assert "<option selected>reader</option>" in page.text
    nameless = client.post("/people", data={"csrf": token, "role": "reader"})
    assert nameless.json()["error"]["message"] == "a person's name is empty; name them"


def test_settings_say_that_they_are_saved_and_keep_what_was_refused(studio) -> None:
    store, client = studio
    visitor(store, client, "ada", "owner")
    token = csrf_of(client.get("/").text)
    fields = {"csrf": token, "title": "Ratings", "form": "rating", "criteria": "kind\r\n brief "}
    place = client.post("/projects/new", data=fields).headers["location"]
    with store.read() as tx:
        assert projects.get(tx, "ratings").criteria == ("kind", "brief")
    typed = {"csrf": token, "title": "Other", "overlap": "2", "guidelines": "Typed by hand"}
    refused = client.post(place, data=typed | {"criteria": "Kind!"})
    assert refused.status_code == 422
    assert "Not saved: " in refused.text
    assert "Typed by hand</textarea>" in refused.text
    assert ">Kind!</textarea>" in refused.text
    with store.read() as tx:
        assert projects.get(tx, "ratings").title == "Ratings"
    saved = client.post(place, data=typed | {"criteria": "kind\nhonest"})
    assert "Saved." in client.get(saved.headers["location"]).text
    with store.read() as tx:
        assert projects.get(tx, "ratings").criteria == ("kind", "honest")
        assert projects.guideline(tx, "ratings").text == "Typed by hand"


@pytest.mark.parametrize(
    ("host", "opened"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")],
)
def test_the_address_that_is_printed_can_be_opened_on_this_machine(host: str, opened: str) -> None:
    try:
        listener = listen(host, 0)
    except ConfigError:
        if ":" not in host:
            raise
        pytest.skip("no IPv6 here")
    with listener:
        port = listener.getsockname()[1]
        assert address_of(listener) == f"http://{opened}:{port}"
