"""Stints by keys alone on forms with several answers, steps or turns, and what ends them."""

from typing import Any

import pytest
from browsing import GRACE, Site, ask, orders_of, press, sign_in, wait_saved

# of the browser's driver about its own event loop
pytestmark = pytest.mark.filterwarnings("ignore")

DONE = "Everything in this project is answered"


def asked_by(form: str, num_shown: int, num_tasks: int = 1) -> dict[str, Any]:
    return {"num_tasks": num_tasks, "form": form, "num_shown": num_shown}


def type_keys(page: Any, keys: str) -> None:
    page.wait_for_timeout(GRACE)
    for key in keys.split():
        page.keyboard.press(key)


def wait_done(page: Any) -> None:
    page.get_by_text(DONE).wait_for()
    wait_saved(page)


@pytest.mark.parametrize("site", [asked_by("ranking", 4)], indirect=True)
def test_an_unfinished_ranking_says_what_is_missing_and_goes_on_by_keys(
    page: Any, site: Site
) -> None:
    for key in ("1", "2", "Enter"):
        press(page, key)
    page.get_by_role("alert").get_by_text("2 answers have no place yet.").wait_for()
    assert page.evaluate("document.activeElement.tagName") == "BODY"
    press(page, "3")
    page.get_by_role("alert").wait_for(state="hidden")
    press(page, "Enter")
    page.get_by_role("alert").get_by_text("1 answer has no place yet.").wait_for()
    assert site.answers() == []
    press(page, "4")
    press(page, "Enter")
    page.get_by_text("Everything in this project is answered").wait_for()
    wait_saved(page)
    assert orders_of(site) == [[[0], [1], [2], [3]]]


@pytest.mark.parametrize("site", [asked_by("ranking", 4, 2)], indirect=True)
def test_a_ranking_takes_keys_while_one_of_its_places_has_the_focus(page: Any, site: Site) -> None:
    for order in ("4231", "3124"):
        page.locator("[data-ranking] select").nth(2).focus()
        for key in (*order[:3], "Backspace", "Enter", *order[2:], "Enter"):
            press(page, key)
        page.get_by_role("alert").wait_for(state="hidden")
    page.get_by_text("Everything in this project is answered").wait_for()
    wait_saved(page)
    assert orders_of(site) == [[[3], [1], [2], [0]], [[2], [0], [1], [3]]]


@pytest.mark.parametrize("site", [asked_by("ranking", 4)], indirect=True)
def test_answers_of_a_ranking_are_called_by_the_same_letter_for_everybody(page: Any) -> None:
    answers = page.locator("[data-ranking] > li")
    names = answers.evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
    assert names == ["Answer A", "Answer B", "Answer C", "Answer D"]
    assert page.locator("[data-ranking] .tag").all_inner_texts() == ["A", "B", "C", "D"]
    assert page.locator("[data-ranking] kbd").all_inner_texts() == ["1", "2", "3", "4"]


@pytest.mark.parametrize("site", [asked_by("flags", 2, 2)], indirect=True)
def test_keys_reach_every_flag_of_two_answers(page: Any, site: Site) -> None:
    down = "ArrowDown " * 7
    for number in range(2):
        page.get_by_text(f"Question {number}?").wait_for()
        type_keys(page, f"2 e S o Escape {down} ArrowUp 3 0 Enter")
    wait_done(page)
    for one in site.answers():
        first, second = one.shown_order
        assert one.payload["flags"] == {
            first: {"hallucination": {"severity": 2, "note": "So"}},
            second: {"bias": {"severity": 3}},
        }


@pytest.mark.parametrize("site", [asked_by("rating", 2, 2)], indirect=True)
def test_a_rating_of_two_answers_marks_its_first_gap(page: Any, site: Site) -> None:
    for number in range(2):
        page.get_by_text(f"Question {number}?").wait_for()
        type_keys(page, "5 4 ArrowDown 2 1 Enter")
        page.get_by_role("alert").get_by_text("2 lines have no rating yet.").wait_for()
        type_keys(page, "3 ArrowDown ArrowDown 1 Enter")
    wait_done(page)
    for one in site.answers():
        first, second = one.shown_order
        assert one.payload["ratings"] == {
            first: {"helpful": 5, "honest": 4, "harmless": 3},
            second: {"helpful": 2, "honest": 1, "harmless": 1},
        }


def steps_page(page: Any, site: Site) -> None:
    ask(site, ["How many?"], ["One.\n\nTwo.\n\nThree.\n\nFour.\n\nFive."])
    page.reload()
    page.get_by_text("How many?").wait_for()
    wait_saved(page)


@pytest.mark.parametrize("site", [asked_by("steps", 1, 0)], indirect=True)
def test_steps_say_which_has_no_label_and_the_mark_goes_there(page: Any, site: Site) -> None:
    steps_page(page, site)
    type_keys(page, "1 1 ArrowDown 2 Enter")
    page.get_by_role("alert").get_by_text("2 steps have no label yet.").wait_for()
    assert "Step 3" in page.locator(".scale.marked").inner_text()
    type_keys(page, "3 ArrowDown 1 Enter")
    wait_done(page)
    (one,) = site.answers()
    assert one.payload == {"labels": [1, 1, -1, 0, 1]}


@pytest.mark.parametrize("site", [asked_by("steps", 1, 0)], indirect=True)
def test_steps_end_at_the_first_bad_one_by_a_key(page: Any, site: Site) -> None:
    steps_page(page, site)
    switch = page.get_by_label("Stop at the first bad step").bounding_box()
    assert switch["y"] < page.locator(".steps").bounding_box()["y"]
    type_keys(page, "f 1 ArrowDown 3 Enter")
    page.get_by_role("alert").get_by_text("1 step has no label yet.").wait_for()
    type_keys(page, "2 Enter")
    wait_done(page)
    (one,) = site.answers()
    assert one.payload == {"labels": [1, 0, -1], "first_error": True}


@pytest.mark.parametrize("site", [asked_by("steps", 1, 0)], indirect=True)
def test_without_scripts_a_step_without_a_label_is_named(browser: Any, site: Site) -> None:
    ask(site, ["How many?"], ["One.\n\nTwo.\n\nThree."])
    context = browser.new_context(java_script_enabled=False)
    page = sign_in(context, site, "ann", waits=False)
    page.get_by_role("radio", name="good").nth(0).check()
    page.get_by_role("radio", name="bad", exact=True).nth(2).check()
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("1 of 3 steps have no label, step 2 first").wait_for()
    assert page.get_by_role("radio", name="bad", exact=True).nth(2).is_checked()
    page.get_by_role("radio", name="neutral").nth(1).check()
    page.get_by_role("button", name="Submit").click()
    page.get_by_text(DONE).wait_for()
    context.close()
    (one,) = site.answers()
    assert one.payload == {"labels": [1, 0, -1]}


@pytest.mark.parametrize("site", [asked_by("pairwise", 2, 2)], indirect=True)
def test_the_last_answer_is_undone_from_where_nothing_is_left(page: Any, site: Site) -> None:
    for key in ("1", "2"):
        press(page, key)
    wait_done(page)
    press(page, "u")
    page.get_by_text("Question 1?").wait_for()
    press(page, "u")
    page.get_by_text("Question 0?").wait_for()
    press(page, "n")
    wait_done(page)
    press(page, "u")
    page.get_by_text("Question 1?").wait_for()
    press(page, "t")
    wait_done(page)
    assert sorted(one.revision for one in site.answers()) == [0, 1]


def test_what_undo_shows_can_be_left_for_the_task_before_it(page: Any, site: Site) -> None:
    for key in ("1", "2"):
        press(page, key)
    page.get_by_text("Question 2?").wait_for()
    wait_saved(page)
    for number in (1, 0):
        press(page, "u")
        page.get_by_text(f"Question {number}?").wait_for()
    press(page, "n")
    page.get_by_text("Question 2?").wait_for()
    assert [one.revision for one in site.answers()] == [0, 0]


def test_without_scripts_undo_goes_back_further_and_on_again(browser: Any, site: Site) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = sign_in(context, site, "ann", waits=False)
    for number in range(3):
        page.get_by_text(f"Question {number}?").wait_for()
        page.get_by_role("button", name="About equal").click()
    for number in (2, 1, 0):
        page.get_by_role("link", name="Undo").click()
        page.get_by_text(f"Question {number}?").wait_for()
    assert page.get_by_role("link", name="Undo").count() == 0
    assert page.get_by_text("Undo goes no further back").is_visible()
    page.get_by_role("link", name="Leave it as it is").click()
    page.get_by_text("Question 3?").wait_for()
    context.close()


@pytest.mark.parametrize("site", [asked_by("pairwise", 2, 0)], indirect=True)
@pytest.mark.parametrize("has_scripts", [True, False])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_long_conversation_begins_with_its_last_turn(
    browser: Any, site: Site, has_scripts: bool, width: int
) -> None:
    earlier = [f"Turn {number}. " + "Some words. " * 60 for number in range(4)]
    ask(site, [*earlier, "And now?"], ["This", "That"])
    context = browser.new_context(
        java_script_enabled=has_scripts, viewport={"width": width, "height": 800}
    )
    page = sign_in(context, site, "ann", waits=has_scripts)
    prompt = page.locator(".prompt").bounding_box()
    last = page.get_by_text("And now?").bounding_box()
    assert prompt["y"] <= last["y"]
    assert last["y"] + last["height"] <= prompt["y"] + prompt["height"]
    line = page.get_by_text("4 earlier turns").bounding_box()
    assert abs(line["y"] - prompt["y"]) < 3
    context.close()


@pytest.mark.parametrize("site", [asked_by("pairwise", 2, 0)], indirect=True)
def test_a_last_turn_that_is_long_itself_begins_at_its_start(page: Any, site: Site) -> None:
    ask(site, ["Hello", "Yes?", "First words. " + "Some words.\n\n" * 60], ["This", "That"])
    page.reload()
    wait_saved(page)
    prompt = page.locator(".prompt").bounding_box()
    first = page.get_by_text("First words.").bounding_box()
    assert prompt["y"] < first["y"] < prompt["y"] + 120


@pytest.mark.parametrize("site", [asked_by("pairwise", 2, 0)], indirect=True)
def test_a_short_conversation_has_no_earlier_turns_to_find(page: Any, site: Site) -> None:
    ask(site, ["Hello", "Yes?", "Why?"], ["This", "That"])
    page.reload()
    page.get_by_text("Hello").wait_for()
    assert not page.get_by_text("2 earlier turns").is_visible()


@pytest.mark.parametrize("site", [asked_by("pairwise", 2, 1)], indirect=True)
def test_offline_the_page_says_where_the_answers_are(page: Any, site: Site) -> None:
    page.context.set_offline(True)
    press(page, "1")
    page.get_by_text("Your answer is kept here; the next task comes").wait_for()
    page.context.set_offline(False)
    wait_done(page)
    assert len(site.answers()) == 1


def test_offline_three_answers_are_counted_and_work_goes_on_later(page: Any, site: Site) -> None:
    page.wait_for_timeout(GRACE)
    page.context.set_offline(True)
    for key in ("1", "2", "t"):
        press(page, key)
    text = "Your 3 answers are kept here; the next task comes when the line is back."
    page.get_by_role("heading", name=text).wait_for()
    page.context.set_offline(False)
    page.get_by_text("Question 3?").wait_for()
    wait_saved(page)
    assert len(site.answers()) == 3


def test_another_tab_that_answers_the_task_on_screen_is_told_of(page: Any, site: Site) -> None:
    other = page.context.new_page()
    other.goto(f"{site.address}/projects/support/label")
    wait_saved(other)
    press(page, "1")
    other.get_by_role("alert").get_by_text("You answered this in another tab").wait_for()
    press(other, "n")
    other.get_by_text("Question 1?").wait_for()
    wait_saved(page)
    assert [one.revision for one in site.answers()] == [0]


KEYS = {
    "pairwise": ("t", "⇧1", "← →", "Ctrl Enter", "Esc"),
    "ranking": ("1", "2", "⇧ 1 … 2", "⌫", "Enter", "Esc"),
    "rating": ("1 … 5", "↑ ↓", "Enter", "Esc"),
    "flags": ("0 … 3", "↑ ↓", "e", "Enter", "Esc"),
    "demonstration": ("1", "2", "Ctrl Enter", "Esc"),
    "critique": ("Ctrl Enter", "Esc"),
    "steps": ("1 2 3", "↑ ↓", "f", "Enter", "Esc"),
}


@pytest.mark.parametrize("site", [
    asked_by(form, 2 if form in ("pairwise", "ranking", "rating", "flags") else 1)
    for form in KEYS
], indirect=True)  # fmt: skip
def test_the_list_of_keys_names_those_of_the_form(page: Any, site: Site) -> None:
    press(page, "?")
    shown = page.locator("#keys-list dt").all_inner_texts()
    assert set(KEYS[site.form]) - set(shown) == set()


@pytest.mark.parametrize("width", [1000, 1280, 1920])
def test_the_open_guidelines_cover_nothing(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    press(page, "g")
    left = page.locator("#guidelines").bounding_box()["x"]
    ends = page.locator(".candidate, .bar button, .prompt").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().right)"
    )
    assert len(ends) >= 9
    assert max(ends) <= left


SHOWN_TWICE = [asked_by(form, 2, 0) for form in ("ranking", "rating", "flags")]


@pytest.mark.parametrize("site", [*SHOWN_TWICE, asked_by("steps", 1, 0)], indirect=True)
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_in_what_the_page_says_and_all_of_it_fits(
    browser: Any, site: Site, width: int
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    long = "Some words. " * 60
    answers = ["First.\n\nSecond."] if site.form == "steps" else ["This", "That"]
    ask(site, [long, long, "And now?"], answers)
    context = browser.new_context(bypass_csp=True, viewport={"width": width, "height": 800})
    page = sign_in(context, site, "ann")
    press(page, "3" if site.form == "flags" else "Enter")
    page.locator(".note input:visible, [role=alert]").first.wait_for()

    def check() -> None:
        violations = Axe().run(page).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in violations] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    check()
    type_keys(page, "1 2 Enter" if site.form in ("ranking", "steps") else "1 1 1 1 1 1 Enter")
    page.get_by_text(DONE).wait_for()
    wait_saved(page)
    check()
    press(page, "u")
    page.get_by_text("choose again to change it").wait_for()
    check()
    context.close()
