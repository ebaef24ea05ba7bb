"""What somebody wrote stays in its place on a labelling page, whatever it is."""

from typing import Any

import pytest
from browsing import Site, ask, sign_in

from heedful.forms import FORMS

# of the browser's driver about its own event loop
pytestmark = pytest.mark.filterwarnings("ignore")

TABLE = "|" + " heading |" * 8 + "\n|" + "---|" * 8 + "\n|" + " several words |" * 8
CODE = "```python\n" + "value = " + " + ".join(["number"] * 60) + "\n```"
HEBREW = "\u05e9\u05dc\u05d5\u05dd \u05dc\u05db\u05d5\u05dc\u05dd."


ANSWERS = [TABLE, CODE, "b" * 600, f"{HEBREW}\n\n- {HEBREW}"]


@pytest.fixture
def hard(browser: Any, site: Site) -> Any:
    most = FORMS[site.form].num_completions[1]
    ask(site, ["a" * 600], ANSWERS[:most] if most > 1 else ["\n\n".join(ANSWERS)])
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield sign_in(context, site, "ann")
    context.close()


@pytest.mark.parametrize("site", [{"num_tasks": 0, "form": one} for one in FORMS], indirect=True)
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_page_nor_a_prompt_than_its_card(hard: Any, width: int) -> None:
    hard.set_viewport_size({"width": width, "height": 900})
    assert hard.evaluate("document.documentElement.scrollWidth") == width
    assert hard.locator(".prompt").evaluate("one => one.scrollWidth - one.clientWidth") == 0


@pytest.mark.parametrize("site", [{"num_tasks": 0, "form": "ranking"}], indirect=True)
def test_text_from_right_to_left_begins_at_the_right(hard: Any) -> None:
    right = "all => all.map(one => Math.round(one.getBoundingClientRect().right))"
    text = hard.locator(".candidate", has_text=HEBREW).locator(".prose p, .prose ul")
    place = hard.locator(".candidate", has_text=HEBREW).locator(".prose")
    assert set(text.evaluate_all(right)) == set(place.evaluate_all(right))


@pytest.mark.parametrize("site", [{"form": "rating"}], indirect=True)
def test_a_scale_of_five_is_one_line_on_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    tops = "all => [...new Set(all.map(one => one.getBoundingClientRect().top))].length"
    assert page.locator(".scale").first.locator("label").evaluate_all(tops) == 1
