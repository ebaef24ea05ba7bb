"""Rankings put into order by a finger, a pen or a mouse, in a real browser."""

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import pytest
from browsing import Site, ask, orders_of, sign_in, wait_saved

# of the browser's driver about its own event loop
pytestmark = pytest.mark.filterwarnings("ignore")

DONE = "Everything in this project is answered"
CARDS = "[data-ranking] > li"
FOUR = {"num_tasks": 1, "form": "ranking", "num_shown": 4}


class Finger:
    """Touches of a screen, as the browser gets them from its system."""

    def __init__(self, page: Any) -> None:
        self.page, self.session = page, page.context.new_cdp_session(page)

    def touch(self, kind: str, *at: float) -> None:
        points = [{"x": at[0], "y": at[1]}] if at else []
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def swipe(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.touch("touchStart", *start)
        for share in (0.2, 0.4, 0.6, 0.8, 1, 1):  # at rest in the end, as no fling is
            self.touch("touchMove", *(a + share * (b - a) for a, b in zip(start, end, strict=True)))
            self.page.wait_for_timeout(16)
        self.touch("touchEnd")


@pytest.fixture
def phone(browser: Any, site: Site) -> Iterator[Any]:
    """The page of an annotator on a phone without a mouse or keys."""
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, bypass_csp=True
    )
    yield sign_in(context, site, "ann")
    context.close()


def grip(page: Any, place: int) -> tuple[float, float]:
    return centre(page.locator(f"{CARDS}[data-place='{place}'] .grip"))


def centre(found: Any) -> tuple[float, float]:
    box = found.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def shown(page: Any) -> list[int]:
    found = page.locator(CARDS).evaluate_all("all => all.map(one => Number(one.dataset.place))")
    return list(found)


def places(page: Any) -> list[str]:
    return list(page.locator(f"{CARDS} select").evaluate_all("all => all.map(one => one.value)"))


def top_of(page: Any, at: int) -> float:
    return float(page.locator(CARDS).nth(at).bounding_box()["y"]) + 3


@pytest.mark.parametrize("site", [FOUR | {"num_tasks": 24}], indirect=True)
def test_every_order_of_four_is_stored_as_a_finger_dragged_it(phone: Any, site: Site) -> None:
    phone.set_viewport_size({"width": 390, "height": 1400})
    finger = Finger(phone)
    orders = list(permutations(range(4)))
    for number, order in enumerate(orders):
        phone.get_by_text(f"Question {number}?").wait_for()
        for at, place in enumerate(order):
            if at == 0 or shown(phone)[at] != place:
                start = grip(phone, place)
                finger.swipe(start, (start[0], top_of(phone, at)))
        assert shown(phone) == list(order)
        phone.get_by_role("button", name="Submit the ranking").tap()
    phone.get_by_text(DONE).wait_for()
    wait_saved(phone)
    assert orders_of(site) == [[[place] for place in order] for order in orders]


@pytest.mark.parametrize("site", [FOUR | {"num_tasks": 0}], indirect=True)
def test_a_swipe_beside_the_grips_scrolls_and_orders_nothing(phone: Any, site: Site) -> None:
    ask(site, ["Which?"], [f"{name}. " + "Some words. " * 60 for name in ("One", "Two", "Six")])
    phone.reload()
    phone.locator(CARDS).first.wait_for()
    Finger(phone).swipe((150, 600), (150, 300))
    phone.wait_for_function("scrollY > 100")
    assert places(phone) == ["", "", ""]
    assert shown(phone) == [0, 1, 2]


@pytest.mark.parametrize("site", [FOUR | {"num_tasks": 0}], indirect=True)
def test_the_page_scrolls_along_to_places_that_are_out_of_sight(phone: Any, site: Site) -> None:
    ask(site, ["Which?"], [f"{name}. " + "Some words. " * 60 for name in ("One", "Two", "Six")])
    phone.reload()
    phone.locator(CARDS).first.wait_for()
    finger, (x, y) = Finger(phone), grip(phone, 0)
    assert top_of(phone, 2) > 844
    finger.touch("touchStart", x, y)
    finger.touch("touchMove", x, 720)
    phone.wait_for_function(
        "getComputedStyle(document.querySelector('[data-place=\"0\"]')).order === '2'"
    )
    finger.touch("touchEnd")
    assert shown(phone) == [1, 2, 0]
    assert places(phone) == ["1", "2", "3"]
    assert phone.evaluate("scrollY") > 500


@pytest.mark.parametrize("site", [FOUR], indirect=True)
def test_a_tie_is_made_of_a_dragged_order_by_its_places(phone: Any, site: Site) -> None:
    phone.set_viewport_size({"width": 390, "height": 1400})
    start = grip(phone, 3)
    Finger(phone).swipe(start, (start[0], top_of(phone, 0)))
    assert places(phone) == ["1", "2", "3", "4"]
    for place, rank in ((0, "1"), (1, "2"), (2, "2")):
        phone.locator(f"{CARDS}[data-place='{place}'] select").select_option(rank)
    phone.get_by_role("button", name="Submit the ranking").tap()
    phone.get_by_text(DONE).wait_for()
    wait_saved(phone)
    (found,) = orders_of(site)
    assert [sorted(group) for group in found] == [[0, 3], [1, 2]]


@pytest.mark.parametrize("site", [FOUR], indirect=True)
@pytest.mark.parametrize("end", ["touchCancel", "Escape"])
def test_a_drag_that_is_broken_off_changes_nothing(phone: Any, end: str) -> None:
    finger, (x, y) = Finger(phone), grip(phone, 0)
    finger.touch("touchStart", x, y)
    finger.touch("touchMove", x, y + 200)
    phone.locator(f"{CARDS}.dragged").wait_for()
    if end == "touchCancel":
        finger.touch("touchCancel")
    else:
        phone.keyboard.press("Escape")
        finger.touch("touchEnd")
    assert phone.locator(f"{CARDS}.dragged").count() == 0
    assert shown(phone) == [0, 1, 2, 3]
    assert places(phone) == ["", "", "", ""]


@pytest.mark.parametrize("site", [FOUR], indirect=True)
@pytest.mark.parametrize("pointer", ["pen", "mouse"])
def test_a_pen_and_a_mouse_drag_by_the_grip(page: Any, pointer: str) -> None:
    session = page.context.new_cdp_session(page)
    (x, start), end = grip(page, 2), top_of(page, 0)
    for kind, y in (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)):
        event = {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
        session.send("Input.dispatchMouseEvent", event | {"pointerType": pointer})
    assert shown(page) == [2, 0, 1, 3]
    assert places(page) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("site", [FOUR], indirect=True)
def test_a_click_on_an_answer_is_no_drag(page: Any) -> None:
    page.locator(CARDS).nth(1).click()
    assert places(page) == ["", "", "", ""]
