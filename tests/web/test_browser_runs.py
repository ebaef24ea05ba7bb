"""The pages of runs and models in a real browser."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from browsing import CHROMIUM
from studio import DAY
from test_runs import trained, unfinished

from heedful.store import Store, open_store, run_files, runs
from heedful.web.app import create_app
from heedful.web.sign_in import make_link

__all__ = ["trained"]  # a fixture
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt install chromium)"),
    pytest.mark.filterwarnings("ignore"),  # of the browser's driver about its own event loop
]


@pytest.fixture
def site(trained: Path) -> Iterator[tuple[Store, str]]:
    with open_store(trained / "heedful.db") as store:
        server = uvicorn.Server(uvicorn.Config(create_app(store), port=0, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield store, f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join()


def signed_in(browser: Any, site: tuple[Store, str], **options: Any) -> Any:
    store, address = site
    page = browser.new_context(**options).new_page()
    page.goto(f"{address}/sign-in/{make_link(store, 'ada', valid=DAY)}")
    page.get_by_role("button", name="Sign in as ada").click()
    page.get_by_role("heading", name="Projects").wait_for()
    return page


def test_a_running_run_draws_itself_on_without_a_reload(
    browser: Any, site: tuple[Store, str], tmp_path: Path
) -> None:
    store, address = site
    run = unfinished(store, tmp_path / "run", 2)
    page = signed_in(browser, site)
    with run_files.hold(tmp_path / "run"):
        page.goto(f"{address}/runs/{run}")
        page.evaluate("window.stays = true")
        page.get_by_text("step 2 of 10").wait_for()
        with (tmp_path / "run" / run_files.METRICS).open("a") as stream:
            stream.write(json.dumps({"step": 2, "train/loss": 0.25}) + "\n")
        page.get_by_text("step 3 of 10").wait_for(timeout=15_000)
        assert page.locator("#live svg").count() == 1
        assert page.evaluate("window.stays") is True
    with store.write() as tx:
        runs.finish(tx, run, failed=True)
    page.locator(".state.failed").first.wait_for(timeout=15_000)
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_every_page_fits_a_phone(
    browser: Any, site: tuple[Store, str], scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    store, address = site
    with store.read() as tx:
        known = [f"/runs/{one.id}" for one in runs.newest(tx, limit=3)]
    page = signed_in(browser, site, color_scheme=scheme, bypass_csp=True)
    page.goto(f"{address}/models")
    links = page.locator("tbody td:first-child a").evaluate_all("all => all.map(a => a.pathname)")
    both = "/models/compare?a={}&b={}".format(*(link.rpartition("/")[2] for link in links[:2]))
    for path in ("/runs", *known, "/models", *links, both):
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(address + path)
        found = Axe().run(page).response
        assert len(found["passes"]) > 10
        assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == [], path
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
    page.context.close()
