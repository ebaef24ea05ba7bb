"""What the tests in a browser share: Debian's Chromium, driven by Playwright."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import CHROMIUM, Site, sign_in
from studio import make_studio, serving


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (apt install chromium-headless-shell)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    asked = getattr(request, "param", {"num_tasks": 8})
    store, client = make_studio(tmp_path, **asked)
    with store, serving(client) as address:
        yield Site(store, address, asked.get("form", "pairwise"))


@pytest.fixture
def page(browser: Any, site: Site) -> Iterator[Any]:
    """A page of an annotator who has just signed in by link."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield sign_in(context, site, "ann")
    context.close()
