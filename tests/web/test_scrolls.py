"""What is wider than its place within an answer is reached and scrolled by keys."""

from typing import Any

import pytest
from browsing import GRACE, Site, ask, sign_in

# of the browser's driver about its own event loop
pytestmark = pytest.mark.filterwarnings("ignore")

CODE = "```python\n" + "value = " + " + ".join(["number"] * 60) + "\n```\n\n"
TABLE = "| a | b |\n|---|---|\n| " + "W" * 300 + " | x |\n\n"
FORMULA = "$$" + "+".join("abcdefghijklmnopqrstuvwxyz" * 5) + "$$\n\n"
NARROW = "```python\nx = 1\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n$$a + b$$\n"
BLOCKS = ".candidate :is(pre, table, div.math)"
NO_TASKS = {"num_tasks": 0}


@pytest.fixture
def wide(browser: Any, site: Site) -> Any:
    """A pair of which one answer has a wide block of every kind, and the other narrow ones."""
    ask(site, ["Which?"], [CODE + TABLE + FORMULA, NARROW])
    context = browser.new_context(viewport={"width": 1280, "height": 900}, bypass_csp=True)
    yield sign_in(context, site, "ann")
    context.close()


@pytest.mark.parametrize("site", [NO_TASKS], indirect=True)
def test_only_blocks_that_scroll_are_stops_of_the_tab_key_with_names(wide: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    wide.locator(f"{BLOCKS}[tabindex]").nth(2).wait_for()
    found = wide.locator(BLOCKS).evaluate_all(
        "all => all.map(one => [one.tagName, one.scrollWidth > one.clientWidth, one.tabIndex])"
    )
    assert sorted(found) == [
        ["DIV", False, -1], ["DIV", True, 0], ["PRE", False, -1], ["PRE", True, 0],
        ["TABLE", False, -1], ["TABLE", True, 0],
    ]  # fmt: skip
    for role, name in (("group", "Code"), ("table", "Table"), ("group", "Formula")):
        assert wide.get_by_role(role, name=name, exact=True).count() == 1
    violations = Axe().run(wide).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in violations] == []


@pytest.mark.parametrize("site", [NO_TASKS], indirect=True)
def test_arrows_scroll_a_block_that_has_the_focus_and_judge_nothing(wide: Any, site: Site) -> None:
    wide.locator(f"{BLOCKS}[tabindex]").nth(2).wait_for()
    wide.wait_for_timeout(GRACE)
    for _ in range(8):
        wide.keyboard.press("Tab")
        if wide.evaluate("document.activeElement.tagName") == "PRE":
            break
    for _ in range(4):
        wide.keyboard.press("ArrowRight")
    wide.wait_for_function("document.activeElement.scrollLeft > 50")
    assert wide.get_by_text("Which?").count() == 1
    wide.keyboard.press("1")
    wide.get_by_text("Everything in this project is answered").wait_for()
    assert len(site.answers()) == 1


@pytest.mark.parametrize("site", [NO_TASKS], indirect=True)
def test_a_block_is_a_stop_as_long_as_it_does_not_fit(browser: Any, site: Site) -> None:
    ask(site, ["Which?"], [f"```\n{'x' * 50}\n```", "No code."])
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = sign_in(context, site, "ann")
    code = page.locator(".candidate pre")
    for width, stops in ((1280, 0), (390, 1), (1280, 0)):
        page.set_viewport_size({"width": width, "height": 900})
        page.locator(".candidate pre[tabindex]").nth(0).wait_for(
            state="visible" if stops else "detached"
        )
        assert code.count() == 1
    context.close()
