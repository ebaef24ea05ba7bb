"""Every kind of page in a real browser: reachable by keys, legible on a phone, nothing cut off."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from studio import DAY, serving, visitor
from test_runs import trained

from heedful.jobs.quality import compute
from heedful.store import (
    Store,
    annotations,
    completions,
    datasets,
    jobs,
    models,
    open_store,
    people,
    projects,
    runs,
    tasks,
)
from heedful.types import Annotation, Completion, Message, Project, Prompt, Task, User
from heedful.web.app import create_app
from heedful.web.sign_in import make_link

__all__ = ["trained"]  # a fixture
# of the browser's driver about its own event loop
pytestmark = pytest.mark.filterwarnings("ignore")
PHONE = 390
TABLE = "| name | what it costs |\n|---|---|\n| roses | twelve euros by the dozen |\n"
LONG = "W" * 120


def fill(store: Store) -> str:
    """A project of three people's answers, and one task of it; a title that nothing breaks."""
    asked, said = [], []
    with store.write() as tx:
        for number in range(24):
            prompt = Prompt.of(f"Which of the offers is better, number {number}?")
            sides = [
                Completion(
                    prompt=prompt,
                    messages=(Message(role="assistant", content=f"{TABLE}\n{number} {model}"),),
                    model=f"import:{model}",
                )
                for model in ("kind", "curt")
            ]
            completions.add(tx, sides)
            ids = tuple(one.id for one in sides)
            asked.append(Task(form="pairwise", prompt=prompt, completion_ids=ids))
            said += [
                Annotation(
                    task_id=asked[-1].id,
                    annotator=f"usr_{who}",
                    source="human",
                    payload={"preferred": ids[(number + place) % 3 == 0], "strength": 1},
                    shown_order=ids,
                    seconds=4.0 + number,
                )
                for place, who in enumerate(("ann", "bob", "cy"))
            ]
        for name in ("ann", "bob", "cy"):
            people.add(tx, User(id=f"usr_{name}", name=name, role="annotator"))
        projects.add(tx, Project(dataset="offers", title=LONG, form="pairwise"))
        tasks.add(tx, asked)
        datasets.add_tasks(tx, "offers", [one.id for one in asked])
        annotations.add(tx, said)
        jobs.add(tx, "fit_reward", {"name": "waits"}, who="usr_ada", key="k")
    for kind in ("quality", "patterns", "leaderboard"):
        compute(store, "offers", kind)  # type: ignore[arg-type]
    return asked[0].id


@pytest.fixture
def pages(trained: Path, browser: Any) -> Iterator[tuple[Any, str, list[str]]]:
    """A signed-in owner's context, the address of the studio, and a page of every kind."""
    with open_store(trained / "heedful.db") as store:
        client = TestClient(create_app(store), follow_redirects=False)
        with store.read() as tx:
            is_new = people.find(tx, "olga") is None
        if is_new:
            visitor(store, client, "olga", "owner")
            fill(store)
        with store.read() as tx:
            task = tasks.by_dataset(tx, "offers")[0].task.id
            made = [f"/models/{one.id}" for one in models.newest(tx, limit=9)]
            ran = [f"/runs/{one.id}" for one in runs.newest(tx, limit=9)]
        project = "/projects/offers"
        addresses = [
            "/", "/data", "/data/offers", f"/data/offers/items/{task}", "/data/offers/export",
            f"{project}/quality", f"{project}/patterns", f"{project}/leaderboard",
            "/people", "/audit", "/jobs", "/chat", "/chat/endpoints", "/runs", *ran,
            "/models", *made, "/me",
        ]  # fmt: skip
        with serving(client) as address:
            context = browser.new_context(bypass_csp=True)
            opened = context.new_page()
            opened.goto(f"{address}/sign-in/{make_link(store, 'olga', valid=DAY)}")
            opened.get_by_role("button", name="Sign in as olga").click()
            opened.get_by_role("heading", name="Projects").wait_for()
            yield opened, address, addresses
            context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, 1280])
def test_axe_finds_nothing_and_no_page_is_wider_than_the_screen(
    pages: tuple[Any, str, list[str]], scheme: Any, width: int
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page, address, paths = pages
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 844})
    faults = {}
    for path in paths:
        page.goto(address + path)
        page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        found = Axe().run(page).response
        assert len(found["passes"]) > 10
        wide = page.evaluate("document.documentElement.scrollWidth")
        wrong = [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]]
        if wrong or wide > width:
            faults[path] = (wide, wrong)
    assert faults == {}


def test_nothing_stands_on_the_border_of_its_card(pages: tuple[Any, str, list[str]]) -> None:
    page, address, paths = pages
    page.set_viewport_size({"width": 1280, "height": 800})
    for path in paths:
        page.goto(address + path)
        room = page.locator(".card").evaluate_all(
            "all => all.map(one => parseFloat(getComputedStyle(one).paddingLeft))"
        )
        assert min(room, default=8.0) >= 8, path


def test_words_of_a_phone_are_whole_and_figures_keep_their_names(
    pages: tuple[Any, str, list[str]],
) -> None:
    page, address, paths = pages
    page.set_viewport_size({"width": PHONE, "height": 844})
    (item,) = (path for path in paths if "/items/" in path)
    page.goto(address + item)
    for words in ("slightly", "better", "twelve", "by"):
        heights = page.evaluate(
            """word => {
                const found = [], walk = document.createTreeWalker(document.body, 4);
                for (let node; (node = walk.nextNode());) {
                    const at = node.data.search(new RegExp(`\\\\b${word}\\\\b`));
                    if (at < 0) continue;
                    const range = document.createRange();
                    range.setStart(node, at); range.setEnd(node, at + word.length);
                    found.push(range.getClientRects().length);
                }
                return found;
            }""",
            words,
        )
        assert heights, words
        assert max(heights) == 1, words
    for path, name in (("/runs", "took"), ("/models", "measured"), ("/audit", "which")):
        page.goto(address + path)
        cell = page.locator(f"td[data-name='{name}']").first
        written = cell.evaluate("one => getComputedStyle(one, '::before').content")
        assert name in written
    page.goto(f"{address}/people")
    for button in page.get_by_role("button", name="Change").all():
        box = button.bounding_box()
        assert box["x"] + box["width"] <= PHONE
