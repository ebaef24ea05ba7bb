"""Nothing that somebody answered or typed is lost, and nobody answers for somebody else."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from browsing import Site, press, sign_in, wait_saved
from sqlalchemy import select, update

from heedful.store import assignments, desks, people, projects, queue, tables, undo
from heedful.types import User
from heedful.web.render import HIDDEN

# of the browser's driver about its own event loop
pytestmark = pytest.mark.filterwarnings("ignore")

REFUSAL = {"error": {"code": "data", "message": "That is too long"}}
STATED = "Object.fromEntries(new FormData(document.querySelector('.answer-form')))"
KEPT = "Object.keys(localStorage).filter((name) => name.startsWith('heedful-outbox'))"


FILL_STORAGE = """() => {
  window.setItem = Storage.prototype.setItem;
  Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError"); };
}"""


def wait_sent(page: Any) -> None:
    """Until the browser keeps nothing."""
    for _ in range(100):
        if not page.evaluate(KEPT):
            return
        page.wait_for_timeout(100)
    raise AssertionError(page.evaluate(KEPT))


def write(page: Any, text: str) -> None:
    """Type into the better answer of a pair."""
    press(page, "e")
    page.keyboard.type(text)


def stored(site: Site) -> list[Any]:
    """Every revision of every answer, oldest first."""
    with site.store.read() as tx:
        rows = select(tables.annotations).order_by(tables.annotations.c.created_at)
        return list(tx.connection.execute(rows))


def stated(page: Any) -> dict[str, str]:
    found = page.evaluate(STATED)
    return {name: found[name] for name in found if name not in ("key", "seconds", "csrf")}


def test_a_refused_answer_comes_back_as_it_was_typed_and_says_why(page: Any, site: Site) -> None:
    write(page, f"Ask {HIDDEN} instead")
    page.keyboard.press("Control+Enter")
    page.get_by_role("alert").get_by_text("stands for a hidden phrase").wait_for()
    text = page.locator("textarea[name=written]")
    assert text.input_value() == f"Ask {HIDDEN} instead"
    assert page.get_by_text("Question 0?").is_visible()
    assert "chosen" in page.locator("button[value=both_bad]").get_attribute("class")
    page.locator("#saved").get_by_text("not accepted yet").wait_for()
    wait_sent(page)
    page.reload()  # now the server has it
    assert text.input_value() == f"Ask {HIDDEN} instead"
    text.fill("Ask me instead")
    text.press("Control+Enter")
    page.get_by_text("Question 1?").wait_for()
    wait_saved(page)
    (one,) = stored(site)
    assert one.payload == {"preferred": "both_bad", "written": "Ask me instead"}


@pytest.mark.parametrize(
    ("site", "keys"),
    [
        ({"num_tasks": 2, "form": "rating", "num_shown": 2}, "5 4 3 1 2 3"),
        ({"num_tasks": 2, "form": "ranking", "num_shown": 4}, "3 1 4 2"),
        ({"num_tasks": 2, "form": "flags", "num_shown": 1}, "ArrowDown 2 e w h y Escape"),
        ({"num_tasks": 2, "form": "steps", "num_shown": 1}, "3"),
        ({"num_tasks": 2, "form": "critique", "num_shown": 1}, "e N o Escape"),
    ],
    indirect=["site"],
)
def test_every_kind_of_field_comes_back_after_a_refusal(page: Any, site: Site, keys: str) -> None:
    for key in [*keys.split(), "c", "s", "o", "Escape"]:
        press(page, key)
    if site.form == "steps":
        page.get_by_label("Stop at the first bad step").check()
    before = stated(page)
    page.route("**/answers", lambda route: route.fulfill(status=422, json=REFUSAL), times=1)
    press(page, "Enter")
    page.get_by_role("alert").get_by_text("That is too long").wait_for()
    assert stated(page) == before
    press(page, "Enter")
    page.get_by_text("Question 1?").wait_for()
    wait_saved(page)
    (one,) = stored(site)
    assert one.payload["comment"] == "so"


def test_a_refusal_waits_until_nobody_is_typing(page: Any, site: Site) -> None:
    waiting: list[Any] = []
    page.route("**/answers", lambda route: waiting.append(route))
    write(page, "The first")
    page.keyboard.press("Control+Enter")
    page.get_by_text("Question 1?").wait_for()
    write(page, "The sec")
    waiting[0].fulfill(status=422, json=REFUSAL)
    page.unroute("**/answers")
    page.locator("#refused").get_by_text("1 refused").wait_for()
    page.keyboard.type("ond")
    assert page.get_by_text("Question 1?").is_visible()
    assert "written: The first" in page.get_by_label("What you stated").input_value()
    page.get_by_role("button", name="Show it").click()
    page.get_by_text("Question 0?").wait_for()
    page.locator("#refused").wait_for(state="hidden")
    text = page.locator("textarea[name=written]")
    assert text.input_value() == "The first"
    text.press("Control+Enter")
    page.get_by_text("Question 1?").wait_for()
    assert text.input_value() == "The second"
    text.press("Control+Enter")
    page.get_by_text("Question 2?").wait_for()
    wait_saved(page)
    assert [one.payload["written"] for one in stored(site)] == ["The first", "The second"]


def test_a_refused_answer_whose_task_cannot_be_shown_is_kept_and_readable(
    page: Any, site: Site
) -> None:
    gone = {"error": {"code": "missing", "message": "not given to you"}}
    page.route("**/answers", lambda route: route.fulfill(status=422, json=REFUSAL))
    page.route("**/tasks/*", lambda route: route.fulfill(status=404, json=gone))
    write(page, "Hours of work")
    page.keyboard.press("Control+Enter")
    page.locator("#saved").get_by_text("1 refused").wait_for()
    assert "Hours of work" in page.get_by_label("What you stated").input_value()
    assert page.get_by_text("That is too long").is_visible()
    page.reload()
    page.locator("#saved").get_by_text("1 refused").wait_for()
    assert "Hours of work" in page.get_by_label("What you stated").input_value()
    page.unroute("**/answers")
    page.get_by_role("button", name="Send again").click()
    wait_saved(page)
    (one,) = stored(site)
    assert one.payload["written"] == "Hours of work"


def test_on_a_shared_browser_nobody_sends_the_answers_of_somebody_else(
    page: Any, site: Site
) -> None:
    page.context.route("**/answers", lambda route: route.abort())
    press(page, "1")
    page.locator("#saved", has_text="1 not saved yet").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    # a page that closes while a request of its is being refused may leave the driver waiting
    page.context.unroute("**/answers")
    page.close()
    theirs = sign_in(page.context, site, "ben")
    press(theirs, "2")
    wait_saved(theirs)
    assert [one.annotator for one in stored(site)] == ["usr_ben"]
    theirs.close()
    mine = sign_in(page.context, site, "ann")
    wait_sent(mine)
    assert [one.annotator for one in stored(site)] == ["usr_ben", "usr_ann"]


def test_a_page_left_open_does_not_answer_as_who_signed_in_after(page: Any, site: Site) -> None:
    theirs = sign_in(page.context, site, "ben")
    press(page, "1")
    page.locator("#saved", has_text="1 kept here").wait_for()
    assert stored(site) == []
    theirs.close()
    again = sign_in(page.context, site, "ann")
    wait_sent(again)
    assert [one.annotator for one in stored(site)] == ["usr_ann"]


def test_two_tabs_of_one_person_lose_nothing(page: Any, site: Site) -> None:
    other = page.context.new_page()
    other.goto(f"{site.address}/projects/support/label")
    wait_saved(other)
    page.context.set_offline(True)
    for tab, key in ((page, "1"), (other, "2"), (page, "t"), (other, "b")):
        tab.bring_to_front()
        press(tab, key)
    assert len(page.evaluate(KEPT)) == 4
    page.context.set_offline(False)
    for tab in (page, other):
        wait_sent(tab)
        wait_saved(tab)
    found = stored(site)
    assert len(found) == 4  # one of them twice: a change of mind
    assert {one.payload["preferred"] for one in found} >= {None, "both_bad"}


def test_an_answer_that_the_browser_cannot_keep_stays_on_screen(page: Any, site: Site) -> None:
    write(page, "Much better")
    page.evaluate(FILL_STORAGE)
    page.keyboard.press("Control+Enter")
    page.get_by_role("alert").get_by_text("storage is full").wait_for()
    text = page.locator("textarea[name=written]")
    assert text.input_value() == "Much better"
    assert stored(site) == []
    page.evaluate("() => { Storage.prototype.setItem = window.setItem; }")
    text.press("Control+Enter")
    page.get_by_text("Question 1?").wait_for()
    wait_saved(page)
    assert len(stored(site)) == 1


def test_a_line_that_hangs_is_given_up_and_tried_again(page: Any, site: Site) -> None:
    page.add_init_script(
        "const timeout = AbortSignal.timeout; AbortSignal.timeout = () => timeout(400)"
    )
    page.reload()
    wait_saved(page)
    page.route("**/answers", lambda _: None, times=1)
    press(page, "1")
    page.locator("#saved", has_text="1 not saved yet").wait_for()
    wait_saved(page)
    assert len(stored(site)) == 1


def test_an_answer_that_the_server_breaks_on_does_not_hold_up_those_behind_it(
    page: Any, site: Site
) -> None:
    broken: list[str] = []

    def answer(route: Any) -> None:
        key = route.request.post_data.split("key=")[1].split("&")[0]
        broken.append(key)
        if key == broken[0] and broken.count(key) < 3:
            route.fulfill(status=500, body="{}")
        else:
            route.continue_()

    page.route("**/answers", answer)
    press(page, "1")
    page.get_by_text("Question 1?").wait_for()
    press(page, "1")
    page.locator("#saved", has_text="1 not saved yet").wait_for()
    assert len(stored(site)) == 1
    wait_saved(page)
    assert len(stored(site)) == 2


def test_a_change_of_mind_never_overtakes_the_answer_that_it_changes(page: Any, site: Site) -> None:
    press(page, "1")
    page.get_by_text("Question 1?").wait_for()
    wait_saved(page)
    broken: list[str] = []

    def answer(route: Any) -> None:
        key = route.request.post_data.split("key=")[1].split("&")[0]
        broken.append(key)
        if key == broken[0] and broken.count(key) < 3:
            route.fulfill(status=500, body="{}")
        else:
            route.continue_()

    page.route("**/answers", answer)
    for judgement in ("2", "t"):
        press(page, "u")
        page.get_by_text("choose again to change it").wait_for()
        press(page, judgement)
        page.locator("#saved", has_text="not saved yet").wait_for()
    wait_saved(page)
    assert broken == [broken[0]] * 3 + [broken[-1]]
    newest = max(stored(site), key=lambda one: one.revision)
    assert (newest.revision, newest.payload["preferred"]) == (2, None)


def test_a_draft_does_not_follow_its_answer(page: Any, site: Site) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(f"{request.method} {request.url}"))
    write(page, "Quick")
    page.keyboard.press("Control+Enter")
    page.get_by_text("Question 1?").wait_for()
    page.wait_for_timeout(1200)
    assert [one for one in sent if one.startswith("PUT")] == []
    with site.store.read() as tx:
        ((task, _),) = undo.recent(tx, "support", "usr_ann")
        assert queue.get(tx, "support", "usr_ann", task).draft is None


def test_a_saved_draft_does_not_hide_that_answers_wait(page: Any, site: Site) -> None:
    page.route("**/answers", lambda route: route.abort())
    press(page, "1")
    page.locator("#saved", has_text="1 not saved yet").wait_for()
    with page.expect_response("**/drafts/*"):
        write(page, "Next")
    page.wait_for_function("document.querySelector('#saved').innerText !== 'saving'")
    assert page.locator("#saved").inner_text() == "1 not saved yet"


def test_undo_keeps_what_was_typed_into_the_item_it_leaves(page: Any, site: Site) -> None:
    press(page, "1")
    page.get_by_text("Question 1?").wait_for()
    wait_saved(page)
    write(page, "Half a th")
    page.keyboard.press("Escape")
    press(page, "u")
    page.get_by_text("choose again to change it").wait_for()
    press(page, "2")
    page.get_by_text("Question 1?").wait_for()
    assert page.locator("textarea[name=written]").input_value() == "Half a th"


@pytest.mark.parametrize(
    "site", [{"num_tasks": 2, "form": "ranking", "num_shown": 4}], indirect=True
)
def test_undo_keeps_places_of_the_item_it_leaves(page: Any, site: Site) -> None:
    for key in ("1", "2", "3", "4", "Enter", "4", "2"):
        press(page, key)
    wait_saved(page)
    before = stated(page)
    press(page, "u")
    page.get_by_text("choose again to change it").wait_for()
    press(page, "Enter")
    page.get_by_text("Question 1?").wait_for()
    assert stated(page) == before
    for key in ("1", "3", "Enter"):
        press(page, key)
    page.get_by_text("Everything in this project is answered").wait_for()


@pytest.mark.parametrize("way", ["reload", "back"])
def test_a_refresh_in_the_middle_of_an_answer_keeps_it(page: Any, site: Site, way: str) -> None:
    write(page, "Not quite fin")
    if way == "reload":
        page.reload()
    else:
        page.get_by_role("link", name="heedful").click()
        page.get_by_role("link", name="Answer").wait_for()
        page.go_back()
    text = page.locator("textarea[name=written]")
    text.wait_for()
    assert text.input_value() == "Not quite fin"
    page.get_by_text("draft saved").wait_for()
    text.press("Control+Enter")
    page.get_by_text("Question 1?").wait_for()
    wait_saved(page)
    assert [one.payload["written"] for one in stored(site)] == ["Not quite fin"]


@pytest.mark.parametrize("site", [{"num_tasks": 1}], indirect=True)
@pytest.mark.parametrize("is_taken", [True, False])
def test_an_answer_after_its_lease_ran_out_is_kept(page: Any, site: Site, is_taken: bool) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    with site.store.write() as tx:
        tx.connection.execute(update(tables.slots).values(until=long_ago))
        if is_taken:
            people.add(tx, User(id="usr_ben", name="ben", role="annotator"))
    if is_taken:
        with site.store.write() as tx:
            found = queue.lease(tx, "support", "usr_ben", count=1, rng=random.Random(0))
            assert isinstance(found, list)
            answer = {"preferred": None}
            queue.submit(
                tx, "support", "usr_ben", found[0].task_id, answer, key="ben", seconds=None
            )
    press(page, "1")
    page.get_by_text("Everything in this project is answered").wait_for()
    wait_saved(page)
    with site.store.read() as tx:
        sent = tables.submissions.c
        surplus = tx.connection.scalar(select(sent.is_surplus).where(sent.key != "ben"))
    assert [one.annotator for one in stored(site)][-1] == "usr_ann"
    assert surplus is is_taken


def test_the_drawer_shows_the_guidelines_that_the_answer_is_tied_to(page: Any, site: Site) -> None:
    drawer = page.locator("#guidelines .prose")
    page.wait_for_timeout(300)  # until items are held ahead
    with site.store.write() as tx:
        projects.write_guideline(tx, "support", "Prefer the *shorter* one.", author="usr_o")
    shown = {}
    for number in range(4):
        page.get_by_text(f"Question {number}?").wait_for()
        task = page.locator(".answer-form").get_attribute("data-task")
        shown[task] = (drawer.text_content() or "").strip()
        press(page, "1")
    wait_saved(page)
    texts = {1: "Prefer the kinder one.", 2: "Prefer the shorter one."}
    with site.store.read() as tx:
        tied = {task: queue.get(tx, "support", "usr_ann", task).guideline for task in shown}
    assert shown == {task: texts[version] for task, version in tied.items()}
    assert set(tied.values()) == {1, 2}
    press(page, "u")
    page.get_by_text("choose again to change it").wait_for()
    for number in (2, 1, 0):
        press(page, "u")
        page.get_by_text(f"Question {number}?").wait_for()
    assert (drawer.text_content() or "").strip() == texts[1]
    page.reload()
    wait_saved(page)
    assert (drawer.text_content() or "").strip() == texts[2]


@pytest.mark.parametrize("site", [{"num_tasks": 1}], indirect=True)
def test_a_page_whose_last_answer_was_refused_and_is_gone_is_not_blank(
    page: Any, site: Site
) -> None:
    page.route("**/answers", lambda route: route.fulfill(status=422, json=REFUSAL))
    page.route("**/tasks/*", lambda route: route.fulfill(status=404, json=REFUSAL))
    press(page, "1")
    page.get_by_text("Nothing else is left for now").wait_for()
    assert "choice: 0" in page.get_by_label("What you stated").input_value()


@pytest.mark.parametrize("site", [{"num_tasks": 1}], indirect=True)
def test_the_first_answer_and_its_repeat_are_two_items(page: Any, site: Site) -> None:
    """Undo shows the first one while the repeat is on screen; neither takes the other's place."""
    press(page, "1")
    page.get_by_text("Everything in this project is answered").wait_for()
    wait_sent(page)
    with site.store.write() as tx:
        ((task, _),) = undo.recent(tx, "support", "usr_ann")
        first = queue.get(tx, "support", "usr_ann", task).shown_order
        order = list(reversed(first))
        desk = desks.enter(tx, "support", "usr_ann")
        assignments.give(tx, desk, task, datetime.now(UTC), order=order, kind="repeat")
    page.reload()
    page.get_by_text("Question 0?").wait_for()
    write(page, "Half")
    page.keyboard.press("Escape")
    press(page, "u")
    page.get_by_text("choose again to change it").wait_for()
    press(page, "2")
    text = page.locator("textarea[name=written]")
    page.get_by_text("choose again to change it").wait_for(state="hidden")
    assert text.input_value() == "Half"
    text.fill("")
    page.keyboard.press("Escape")
    press(page, "2")
    page.get_by_text("Everything in this project is answered").wait_for()
    wait_sent(page)
    said = [(one.kind, one.shown_order, one.payload["preferred"]) for one in stored(site)]
    assert said == [
        ("answer", list(first), first[0]),
        ("answer", list(first), first[1]),
        ("repeat", order, first[0]),
    ]


@pytest.mark.parametrize(
    ("key", "most", "judge"), [("e", 20_000, "1"), ("c", 4_000, "2")], ids=["written", "comment"]
)
def test_a_text_that_is_too_long_is_refused_whole_not_cut(
    page: Any, site: Site, key: str, most: int, judge: str
) -> None:
    press(page, key)
    page.evaluate("text => document.execCommand('insertText', false, text)", "w" * (most + 1))
    page.keyboard.press("Escape")
    press(page, judge)
    page.get_by_text(f"shorten it to at most {most}").wait_for()
    assert site.answers() == []
    press(page, key)
    assert page.evaluate("document.activeElement.value.length") == most + 1
    page.keyboard.press("Backspace")
    page.keyboard.press("Escape")
    press(page, judge)
    wait_saved(page)
    (one,) = site.answers()
    assert "w" * most in one.payload.values()
