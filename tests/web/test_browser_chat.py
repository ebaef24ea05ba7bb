"""The chat in a real browser: answers appear as they are written, and keys judge them."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from browsing import CHROMIUM
from endpoint import Endpoint, serving
from fresh import fresh_store
from studio import DAY
from test_studio_chat import answers_of

from heedful.store import Store, chat
from heedful.web.app import create_app
from heedful.web.sign_in import make_link

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt install chromium)"),
    pytest.mark.filterwarnings("ignore"),  # of the browser's driver about its own event loop
]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as known:
        yield known


@pytest.fixture
def site(tmp_path: Path, endpoint: Endpoint) -> Iterator[tuple[Store, str]]:
    with fresh_store(tmp_path / "heedful.db") as store:
        with store.write() as tx:
            for name in ("plain", "fancy"):
                chat.add_endpoint(tx, name, endpoint.address, "tiny", key="k", who="usr_ada")
        server = uvicorn.Server(uvicorn.Config(create_app(store), port=0, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield store, f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join()


def begin(browser: Any, site: tuple[Store, str], *, other: str = "", **options: Any) -> Any:
    """Sign in as an owner and begin a conversation with ``plain``."""
    store, address = site
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(15_000)
    page.goto(f"{address}/sign-in/{make_link(store, 'ada', valid=DAY)}")
    page.get_by_role("button", name="Sign in as ada").click()
    page.goto(f"{address}/chat")
    page.locator("select[name=target]").select_option(label="plain (elsewhere)")
    if other:
        page.locator("select[name=other]").select_option(label=f"{other} (elsewhere)")
    page.get_by_role("button", name="Begin").click()
    page.locator(".composer textarea").wait_for()
    page.wait_for_load_state()  # keys work once the script has run
    return page


def say(page: Any, text: str) -> None:
    page.locator(".composer textarea").fill(text)
    page.keyboard.press("Control+Enter")


def test_an_answer_appears_as_it_is_written_and_is_judged_and_edited_by_keys(
    browser: Any, site: tuple[Store, str], endpoint: Endpoint
) -> None:
    store, _ = site
    endpoint.answers, endpoint.pause = ["one two three four five six"], 0.4
    page = begin(browser, site)
    say(page, "Count!")
    page.get_by_text("one two", exact=False).wait_for()
    assert page.get_by_text("five six").count() == 0  # it is still being written
    page.get_by_role("paragraph").get_by_text("one two three four five six").wait_for()
    page.locator("[data-key=u]").wait_for()
    page.locator("body").click(position={"x": 5, "y": 300})
    page.keyboard.press("u")
    page.locator("[data-key=u][aria-pressed=true]").wait_for()
    page.keyboard.press("Escape")  # the composer has the focus after a reload
    page.keyboard.press("e")
    page.locator("details[data-edit] textarea").fill("One to six.")
    page.keyboard.press("Control+Enter")
    page.get_by_text("edited by you").wait_for()
    (one,) = answers_of(store, "chat-answers")
    assert (one.payload, one.revision) == ({"written": "One to six."}, 1)
    page.context.close()


def test_enter_in_a_reason_rates_nothing_and_the_thumb_takes_the_reason(
    browser: Any, site: tuple[Store, str]
) -> None:
    store, _ = site
    for options in ({}, {"java_script_enabled": False}):
        before = len(answers_of(store, "chat-answers"))
        page = begin(browser, site, **options)
        page.locator(".composer textarea").fill("Hello?")
        page.get_by_role("button", name="Send").click()
        while not page.locator(".thumbs").count():
            page.wait_for_timeout(200)
            page.reload()
        page.get_by_label("Why, optional").fill("too short")
        page.keyboard.press("Enter")
        page.keyboard.press("Control+Enter")
        page.wait_for_timeout(300)
        assert len(answers_of(store, "chat-answers")) == before
        page.get_by_role("button", name="Bad").click()
        page.locator("button[aria-pressed=true]").wait_for()
        newest = answers_of(store, "chat-answers")
        assert len(newest) == before + 1
        assert {str(one.payload) for one in newest} == {
            "{'accepted': None, 'comment': 'too short'}"
        }
        page.context.close()


def test_two_drafts_are_chosen_between_by_a_number_and_named_only_then(
    browser: Any, site: tuple[Store, str]
) -> None:
    store, _ = site
    page = begin(browser, site, other="fancy")
    say(page, "Hello?")
    page.locator("[data-key='2']").wait_for()
    assert page.locator("#talk").get_by_text("fancy").count() == 0
    second = page.locator(".draft .prose").nth(1).inner_text()
    page.locator("body").click(position={"x": 5, "y": 300})
    page.keyboard.press("2")
    page.get_by_text("The other draft").wait_for()
    assert page.locator(".draft > .prose").inner_text() == second
    (answer,) = answers_of(store, "chat-drafts")
    assert answer.payload["preferred"] == answer.shown_order[1]
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_chat_and_it_fits_a_phone(
    browser: Any, site: tuple[Store, str], scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = begin(browser, site, other="fancy", color_scheme=scheme, bypass_csp=True)
    _, address = site

    def check() -> None:
        page.set_viewport_size({"width": 1280, "height": 800})
        found = Axe().run(page).response
        assert len(found["passes"]) > 10
        assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == [], page.url
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, page.url
        page.set_viewport_size({"width": 1280, "height": 800})

    check()
    say(page, "Hello?")
    page.locator("[data-key='1']").wait_for()
    check()
    page.locator("[data-key='1']").click()
    page.get_by_text("The other draft").wait_for()
    check()
    for path in ("/chat", "/chat/endpoints", "/jobs", "/jobs/new?kind=fit_ppo"):
        page.goto(address + path)
        check()
    page.context.close()
