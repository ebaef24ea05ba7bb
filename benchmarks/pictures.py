"""Take the pictures of docs/pages.md: every page of the studio, on a store with real answers.

    python benchmarks/pictures.py --data pandalm-human.jsonl.gz --work pictures

Imports PandaLM's pairs, fits a reward model and a policy (minutes on two cores; what is in
``--work`` already is not made again), invites people, has them answer questions in every form, and
visits each page with Chromium. ``--only NAME ...`` takes some of the pictures anew.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palette import CHROMIUM, small
from pictures_store import Person, fill, import_pairs, train

DOCS = Path(__file__).parents[1] / "docs"
PORT = 8397
WIDTH, PHONE = 1280, 390
MARGIN = 24  # below the last thing on a page

Step = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture: the page of a path, after a step on it; at most ``height`` of it."""

    path: str
    step: Step = lambda page: None  # noqa: ARG005 - most pages are shown as they are
    height: int = 860
    width: int = WIDTH
    scheme: str = "light"
    who: str = "ada"


def keys(*pressed: str) -> Step:
    """Press keys, each after the time in which a new item takes none."""

    def press(page: Any) -> None:
        for key in pressed:
            page.wait_for_timeout(350)
            page.keyboard.press(key)
        page.wait_for_timeout(1500)  # a draft is saved

    return press


def click(name: str) -> Step:
    """Follow the first link of a list."""

    def go(page: Any) -> None:
        page.locator(name).first.click()
        page.wait_for_load_state("networkidle")

    return go


def drag(page: Any) -> None:
    """Drag the third card to the top, half of the way."""
    box = page.locator("[data-ranking] > li").nth(2).locator(".grip").bounding_box()
    x, y = box["x"] + 20, box["y"] + 20
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 10, y - 90, steps=5)


def offline(page: Any) -> None:
    """Lose the line and answer all that the browser holds."""
    page.get_by_role("button", name="Go on").click()  # who is asked about themselves first
    page.locator("#saved[data-state=saved]").wait_for()
    page.wait_for_timeout(1000)
    page.context.set_offline(True)
    keys("1", "2", "1")(page)
    page.locator(".kept").wait_for()


def compare(page: Any) -> None:
    """Put the policy beside another model that writes."""
    names = page.locator("select[name=a] option").all_inner_texts()
    writing = [one for one in names if "(policy)" in one or "(base)" in one]
    page.locator("select[name=a]").select_option(label=writing[0])
    page.locator("select[name=b]").select_option(label=writing[1])
    page.get_by_role("button", name="Compare").click()
    page.wait_for_load_state("networkidle")


def write(text: str) -> Step:
    """Write into what the form asks for."""

    def type_it(page: Any) -> None:
        keys("e")(page)
        page.keyboard.type(text)
        page.wait_for_timeout(1500)

    return type_it


LABEL = "/projects/{}/label"
SHOTS = {
    "home": Shot("/"),
    "pairwise": Shot(LABEL.format("support")),
    "pairwise-dark": Shot(LABEL.format("support"), scheme="dark"),
    "pairwise-phone": Shot(LABEL.format("support"), width=PHONE, height=844),
    "guidelines": Shot(LABEL.format("support"), keys("g")),
    "keys": Shot(LABEL.format("support"), keys("?")),
    "ranking": Shot(LABEL.format("best-of-four"), drag),
    "ranking-phone": Shot(LABEL.format("best-of-four"), width=PHONE, height=844),
    "rating": Shot(LABEL.format("three-criteria"), keys("4", "5", "5", "2")),
    "flags": Shot(LABEL.format("what-is-wrong"), keys("2")),
    "edit": Shot(
        LABEL.format("write-it-better"),
        write("\n\nChange the password first: others may have read it."),
    ),
    "critique": Shot(
        LABEL.format("what-to-change"),
        write("It is on the safe side, but it does not say how it was reckoned."),
    ),
    "steps": Shot(LABEL.format("sums"), keys("1", "1")),
    "offline": Shot(LABEL.format("support"), offline, who="finn", height=420),
    "no-work": Shot(LABEL.format("sums"), who="ben", height=420),
    "about": Shot("/projects/support/about", who="hugo"),
    "new-project": Shot("/projects/new"),
    "project": Shot("/projects/support", height=1500),
    "known-answers": Shot("/projects/support/gold"),
    "who-is-in": Shot("/projects/support/people"),
    "disagreements": Shot("/projects/best-of-four/disagreements"),
    "quality": Shot("/projects/pandalm/quality", height=1600),
    "quality-dark": Shot("/projects/pandalm/quality", scheme="dark"),
    "quality-phone": Shot("/projects/pandalm/quality", width=PHONE, height=844),
    "patterns": Shot("/projects/pandalm/patterns", height=1500),
    "leaderboard": Shot("/projects/pandalm/leaderboard", height=1200),
    "data": Shot("/data"),
    "data-set": Shot("/data/pandalm"),
    "item": Shot("/data/pandalm?disagreement=1&text=email", click(".prompt-cell a"), height=1500),
    "import": Shot("/import"),
    "export": Shot("/data/pandalm/export?format=trl"),
    "chats": Shot("/chat"),
    "chat": Shot("/chat", click("main li a")),
    "endpoints": Shot("/chat/endpoints"),
    "runs": Shot("/runs"),
    "run": Shot("/runs", click("a[href*='/runs/run_']:has-text('ppo')"), height=1600),
    "run-dark": Shot("/runs", click("a[href*='/runs/run_']:has-text('ppo')"), scheme="dark"),
    "models": Shot("/models"),
    "model": Shot("/models", click("a[href*='/models/mdl_']:has-text('policy')"), height=1500),
    "compare": Shot("/models", compare, height=1400),
    "jobs": Shot("/jobs"),
    "new-job": Shot("/jobs/new?kind=fit_reward"),
    "people": Shot("/people"),
    "me": Shot("/me", height=1200),
    "audit": Shot("/audit"),
    "sign-in": Shot("/sign-in", who="nobody", height=560),
    "invitation": Shot("", who="nobody", height=560),
}


def main() -> None:
    """Make what is missing, then take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("pictures"))
    parser.add_argument("--out", type=Path, default=DOCS / "pages")
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    options.work.mkdir(exist_ok=True)
    options.out.mkdir(exist_ok=True)
    trained, store = options.work / "trained.db", options.work / "heedful.db"
    done = options.work / "trained"
    if not done.exists():
        import_pairs(str(trained), options.data, options.work)
        train(str(trained), options.work)
        done.touch()
    for old in options.work.glob("heedful.db*"):
        old.unlink()
    for left in options.work.glob("runs/job_*"):
        shutil.rmtree(left)
    shutil.copy(trained, store)
    with studio(str(store), options.work / "runs") as (address, link):
        owner = Person(address, link)
        fill(owner, address, options.data)
        take(owner, address, options.out, options.only or list(SHOTS))


@contextmanager
def studio(store: str, runs: Path) -> Iterator[tuple[str, str]]:
    """A studio with a worker; its address and the link of its owner."""
    command = [sys.executable, "-m", "heedful", "up", "--store", store, "--runs", str(runs),
               "--port", str(PORT), "--name", "ada"]  # fmt: skip
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert running.stdout is not None
        lines = [running.stdout.readline().split() for _ in range(2)]
        yield lines[0][1], lines[1][2]
    finally:
        running.terminate()
        running.wait()


def take(owner: Person, address: str, out: Path, names: list[str]) -> None:
    """Visit the pages of some pictures and keep what they show."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        links = {who: invitation(owner, who) for who in {SHOTS[one].who for one in names}}
        states: dict[str, Any] = {"nobody": None}
        for name in names:
            shot = SHOTS[name]
            if shot.who not in states:
                states[shot.who] = signed_in(browser, links[shot.who])
            context = browser.new_context(
                viewport={"width": shot.width, "height": min(shot.height, 860)},
                color_scheme=shot.scheme,
                storage_state=states[shot.who],
                has_touch=shot.width == PHONE,
            )
            page = context.new_page()
            page.goto(f"{address}{shot.path}" if shot.path else links["nobody"])
            page.wait_for_load_state("networkidle")
            if page.locator("#figures").count():
                page.locator("#figures:not([data-state=computing])").wait_for(timeout=300_000)
            shot.step(page)
            (out / f"{name}.png").write_bytes(small(picture(page, shot), blank(browser)))
            context.close()
            print(name, (out / f"{name}.png").stat().st_size, flush=True)
        browser.close()


def invitation(owner: Person, who: str) -> str:
    """A link that signs a person in, who is made when new."""
    role = "owner" if who == "ada" else "annotator"
    name = "iris" if who == "nobody" else who
    for one in owner.call("GET", "/people"):
        if one["name"] == name:
            return link_of(owner, one["id"])
    link: str = owner.call("POST", "/people", name=name, role=role)["link"]
    return link


def link_of(owner: Person, person: str) -> str:
    """A new link for somebody who is known."""
    token = owner.http.headers["x-csrf-token"]
    page = owner.http.post(f"/people/{person}", data={"csrf": token, "action": "link"}).text
    return page.split('value="http')[1].split('"')[0].join(("http", ""))


def signed_in(browser: Any, link: str) -> Any:
    """The cookies of somebody who came by a link."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(link)
    page.locator("main button").click()
    page.wait_for_load_state("networkidle")
    state = context.storage_state()
    context.close()
    return state


def blank(browser: Any) -> Any:
    """A page on which pictures are read; of ours none may, by their policy."""
    for context in browser.contexts:
        for page in context.pages:
            if page.url == "about:blank":
                return page
    return browser.new_context().new_page()


def picture(page: Any, shot: Shot) -> bytes:
    """What is seen, down to the end of the page or to the height of the picture."""
    is_bar = (
        shot.width == WIDTH
        and page.locator(".bar").count()
        and not page.locator(".more[open]").count()
    )
    ends = ".bar" if is_bar else "main, main > *"
    end = page.locator(ends).evaluate_all(
        "all => Math.max(...all.map(one => one.getBoundingClientRect().bottom + scrollY))"
    )
    height = min(shot.height, max(round(end) + (0 if is_bar else MARGIN), 360))
    page.set_viewport_size({"width": shot.width, "height": height})
    page.wait_for_timeout(400)
    taken: bytes = page.screenshot()
    return taken


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s")
