"""The labelling page in a real browser."""

import json
from itertools import permutations
from typing import Any

import pytest
from browsing import GRACE, Site, orders_of, press, sign_in, wait_saved
from studio import DAY

from heedful.web.sign_in import make_link

# of the browser's driver about its own event loop
pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_stint_by_keyboard_alone_stores_what_was_pressed(page: Any, site: Site) -> None:
    keys = ["1", "2", "t", "b", "Shift+Digit1", "Shift+Digit2", "ArrowLeft", "ArrowRight"]
    for number, key in enumerate(keys):
        page.get_by_text(f"Question {number}?").wait_for()
        press(page, key)
    page.get_by_text("Everything in this project is answered").wait_for()
    wait_saved(page)
    found = []
    for one in site.answers():
        preferred = one.payload["preferred"]
        place = one.shown_order.index(preferred) if preferred in one.shown_order else preferred
        found.append((place, one.payload.get("strength", 0)))
        assert one.seconds >= GRACE / 1000
    wanted = [(0, 0), (1, 0), (None, 0), ("both_bad", 0), (0, 3), (1, 3), (0, 0), (1, 0)]
    assert sorted(found, key=repr) == sorted(wanted, key=repr)


ORDERS = list(permutations(range(4)))


@pytest.mark.parametrize(
    "site", [{"num_tasks": 24, "form": "ranking", "num_shown": 4}], indirect=True
)
def test_every_order_of_four_is_stored_as_it_was_pressed(page: Any, site: Site) -> None:
    for number, order in enumerate(ORDERS):
        page.get_by_text(f"Question {number}?").wait_for()
        page.wait_for_timeout(GRACE)
        for place in order:
            page.keyboard.press(f"{place + 1}")
        page.keyboard.press("Enter")
    page.get_by_text("Everything in this project is answered").wait_for()
    wait_saved(page)
    assert orders_of(site) == [[[place] for place in order] for order in ORDERS]


@pytest.mark.parametrize(
    "site", [{"num_tasks": 24, "form": "ranking", "num_shown": 4}], indirect=True
)
def test_every_order_of_four_is_stored_as_it_was_dragged(page: Any, site: Site) -> None:
    page.set_viewport_size({"width": 1280, "height": 1400})
    for number, order in enumerate(ORDERS):
        page.get_by_text(f"Question {number}?").wait_for()
        for at, place in enumerate(order):
            wanted = page.locator(f"[data-ranking] > li[data-place='{place}']")
            there = page.locator("[data-ranking] > li").nth(at)
            if at or there.get_attribute("data-place") != str(place):
                wanted.drag_to(there, target_position={"x": 300, "y": 3})
        shown = page.locator("[data-ranking] > li").evaluate_all(
            "all => all.map(one => Number(one.dataset.place))"
        )
        assert shown == list(order)
        page.get_by_role("button", name="Submit the ranking").click()
    page.get_by_text("Everything in this project is answered").wait_for()
    wait_saved(page)
    assert orders_of(site) == [[[place] for place in order] for order in ORDERS]


@pytest.mark.parametrize(
    "site", [{"num_tasks": 1, "form": "ranking", "num_shown": 4}], indirect=True
)
def test_shift_ties_and_backspace_takes_back(page: Any, site: Site) -> None:
    page.wait_for_timeout(GRACE)
    for key in ("3", "Shift+Digit1", "2", "4", "Backspace", "Shift+Digit4", "Enter"):
        page.keyboard.press(key)
    page.get_by_text("Everything in this project is answered").wait_for()
    wait_saved(page)
    (found,) = orders_of(site)
    assert [sorted(group) for group in found] == [[0, 2], [1, 3]]


def one_of(form: str) -> dict[str, Any]:
    return {"num_tasks": 1, "form": form, "num_shown": 1}


@pytest.mark.parametrize(
    ("site", "keys", "wanted"),
    [
        (one_of("rating"), "4 5 ArrowUp 2 3 Enter",
         {"ratings": {"ID": {"helpful": 4, "honest": 2, "harmless": 3}}}),
        (one_of("flags"), "ArrowDown 2 Enter",
         {"flags": {"ID": {"bias": {"severity": 2}}}}),
        (one_of("flags"), "Enter", {"flags": {}}),
        (one_of("demonstration"), "1", {"accepted": "ID"}),
        (one_of("demonstration"), "2", {"accepted": None}),
        (one_of("demonstration"), "e Control+a B e t t e r Control+Enter", {"written": "Better"}),
        (one_of("critique"), "e N o Control+Enter", {"critique": "No"}),
        (one_of("steps"), "3 Enter", {"labels": [-1]}),
        (one_of("steps"), "c W h y Escape 1 Enter", {"labels": [1], "comment": "Why"}),
    ],
    indirect=["site"],
)  # fmt: skip
def test_every_form_can_be_answered_by_keys_alone(
    page: Any, site: Site, keys: str, wanted: dict[str, Any]
) -> None:
    page.wait_for_timeout(GRACE)
    for key in keys.split():
        page.keyboard.press(key)
    page.get_by_text("Everything in this project is answered").wait_for()
    wait_saved(page)
    (found,) = site.answers()
    assert json.loads(json.dumps(found.payload).replace(found.shown_order[0], "ID")) == wanted


def test_answers_given_offline_arrive_when_the_line_is_back(page: Any, site: Site) -> None:
    page.context.set_offline(True)
    press(page, "1")
    press(page, "2")
    page.locator("#saved", has_text="offline, 2 kept here").wait_for()
    assert site.answers() == []
    page.context.set_offline(False)
    wait_saved(page)
    assert len(site.answers()) == 2


def test_answers_that_were_not_sent_survive_closing_the_page(page: Any, site: Site) -> None:
    page.route("**/answers", lambda route: route.abort())
    press(page, "1")
    page.locator("#saved", has_text="1 not saved yet").wait_for()
    other = page.context.new_page()
    page.close()
    assert site.answers() == []
    other.goto(f"{site.address}/projects/support/label")
    wait_saved(other)
    assert len(site.answers()) == 1


def test_undo_goes_back_to_the_answer_and_changes_it(page: Any, site: Site) -> None:
    press(page, "1")
    page.get_by_text("Question 1?").wait_for()
    wait_saved(page)
    press(page, "u")
    page.get_by_text("choose again to change it").wait_for()
    press(page, "t")
    page.get_by_text("Question 1?").wait_for()
    wait_saved(page)
    (one,) = site.answers()
    assert (one.revision, one.payload) == (1, {"preferred": None})


def test_keys_typed_into_a_text_are_text(page: Any, site: Site) -> None:
    press(page, "e")
    page.get_by_label("Then judge the two above").type("1tb2 better")
    page.get_by_text("draft saved").wait_for()
    assert site.answers() == []
    page.reload()
    assert page.locator("textarea[name=written]").input_value() == "1tb2 better"
    page.locator("textarea[name=written]").focus()
    page.keyboard.press("Control+Enter")
    page.get_by_text("Question 1?").wait_for()
    wait_saved(page)
    (one,) = site.answers()
    assert one.payload == {"preferred": "both_bad", "written": "1tb2 better"}


def test_a_key_held_down_or_meant_for_the_item_before_answers_nothing(
    page: Any, site: Site
) -> None:
    page.wait_for_timeout(GRACE)
    page.keyboard.press("1")
    page.keyboard.press("1")  # at once: within the grace of the next item
    page.get_by_text("Question 1?").wait_for()
    wait_saved(page)
    assert len(site.answers()) == 1


def test_the_page_fits_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    boxes = page.locator(".bar button").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().height)"
    )
    assert min(boxes) >= 44


def test_the_list_of_keys_names_every_key_of_the_page(page: Any) -> None:
    press(page, "?")
    shown = page.locator("#keys-list dd").all_inner_texts()
    assert [
        text
        for text in shown
        if text in ("A better", "About equal", "Both bad", "Write the right one")
    ] == ["A better", "About equal", "Both bad", "Write the right one"]
    page.keyboard.press("Escape")
    page.locator("#keys").wait_for(state="hidden")


def press_as(page: Any, code: str, key: str, *, shift: bool = False) -> None:
    """A key of another layout: where it is, and what it writes."""
    page.wait_for_timeout(GRACE)
    event = {"code": code, "key": key, "shiftKey": shift, "bubbles": True, "cancelable": True}
    page.evaluate("one => document.body.dispatchEvent(new KeyboardEvent('keydown', one))", event)


def test_digits_are_where_they_are_on_any_layout(page: Any, site: Site) -> None:
    wanted = []
    for number, (code, key, shift, place, strength) in enumerate((
        ("Digit1", "&", False, 0, 0), ("Digit2", "é", False, 1, 0), ("Digit2", "2", True, 1, 3),
        ("Numpad2", "2", False, 1, 0))):  # fmt: skip
        page.get_by_text(f"Question {number}?").wait_for()
        press_as(page, code, key, shift=shift)
        wanted.append((place, strength))
    page.get_by_text("Question 4?").wait_for()
    wait_saved(page)
    found = [
        (one.shown_order.index(one.payload["preferred"]), one.payload.get("strength", 0))
        for one in site.answers()
    ]
    assert sorted(found) == sorted(wanted)


def test_single_keys_can_be_switched_off_and_stay_off(page: Any, site: Site) -> None:
    press(page, "?")
    page.get_by_label("Single keys judge and open").uncheck()
    page.keyboard.press("Escape")
    page.reload()
    wait_saved(page)
    press(page, "1")
    page.wait_for_timeout(GRACE)
    assert page.get_by_text("Question 0?").is_visible()
    assert site.answers() == []
    page.get_by_role("link", name="Keys").click()
    page.get_by_label("Single keys judge and open").check()
    page.get_by_role("button", name="Close").click()
    press(page, "1")
    page.get_by_text("Question 1?").wait_for()


def test_without_scripts_there_is_no_control_that_does_nothing(browser: Any, site: Site) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = sign_in(context, site, "ann", waits=False)
    assert page.get_by_text("Question 0?").is_visible()
    assert not page.locator("#guidelines-button").is_visible()
    assert not page.locator("[data-key='?']").is_visible()
    assert page.get_by_text("Guidelines, version 1").is_visible()
    context.close()


def test_what_is_typed_is_not_announced_and_the_end_is(page: Any, site: Site) -> None:
    page.evaluate(
        "window.heard = []; new MutationObserver(() => heard.push(said.textContent))"
        ".observe(said, {childList: true})"
    )
    press(page, "e")
    page.keyboard.type("Better so")
    page.locator("#saved").get_by_text("draft saved").wait_for()
    assert page.evaluate("heard") == []
    page.keyboard.press("Control+Enter")
    for number in range(1, 8):
        page.get_by_text(f"Question {number}?").wait_for()
        press(page, "1")
    page.get_by_text("Everything in this project is answered").wait_for()
    assert page.evaluate("document.activeElement.tagName") == "H1"


def test_the_open_guidelines_are_not_under_the_header_of_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.locator("#guidelines summary").click()
    box = page.locator("#guidelines summary").bounding_box()
    top = page.evaluate("([x, y]) => document.elementFromPoint(x, y).tagName",
                        [box["x"] + 20, box["y"] + 5])  # fmt: skip
    assert top == "SUMMARY"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("site", [{"form": form, "num_shown": n} for form, n in (
    ("pairwise", 2), ("ranking", 4), ("rating", 2), ("flags", 2), ("demonstration", 1),
    ("critique", 1), ("steps", 1))], indirect=True)  # fmt: skip
def test_axe_finds_nothing_on_a_labelling_page(browser: Any, site: Site, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto(f"{site.address}/sign-in/{make_link(site.store, 'ada', valid=DAY)}")
    page.get_by_role("button", name="Sign in as ada").click()
    settings = ("/", "/projects/support", "/projects/new", "/people", "/me", "/audit", "/sign-in")
    figures = tuple(f"/projects/support/{kind}" for kind in ("quality", "patterns", "leaderboard"))
    for path in ("/projects/support/label", *settings, *figures):
        page.goto(site.address + path)
        found = Axe().run(page).response
        assert len(found["passes"]) > 10
        assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == [], path
        if site.form != "pairwise":
            break  # the other pages do not depend on the form
    context.close()
