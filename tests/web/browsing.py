"""A studio that runs, and a real browser in which somebody labels."""

import shutil
from collections.abc import Sequence
from typing import Any

from studio import DAY

from heedful.store import Store, completions, people, projects, tasks
from heedful.types import Completion, Message, Prompt, Task, User
from heedful.web.sign_in import make_link

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
GRACE = 350  # milliseconds in which a new item takes no key


class Site:
    """A running studio and its store."""

    def __init__(self, store: Store, address: str, form: str) -> None:
        self.store, self.address, self.form = store, address, form

    def answers(self) -> list[Any]:
        with self.store.read() as tx:
            return [one for t in tasks.by_dataset(tx, "support") for one in t.annotations]


def sign_in(context: Any, site: Site, name: str, *, waits: bool = True) -> Any:
    """A labelling page of a person who has just signed in by link, made when new."""
    with site.store.write() as tx:
        if people.find(tx, name) is None:
            people.add(tx, User(id=f"usr_{name}", name=name, role="annotator"))
    opened = context.new_page()
    opened.set_default_timeout(15_000)
    opened.goto(f"{site.address}/sign-in/{make_link(site.store, name, valid=DAY)}")
    opened.get_by_role("button", name=f"Sign in as {name}").click()
    opened.goto(f"{site.address}/projects/support/label")
    if waits:  # without scripts nothing is saved behind the page
        wait_saved(opened)
    return opened


def ask(site: Site, turns: Sequence[str], answers: Sequence[str]) -> None:
    """Queue a task about a conversation of which a person said the first turn and the last."""
    said = [
        Message(role="assistant" if at % 2 else "user", content=text)
        for at, text in enumerate(turns)
    ]
    prompt = Prompt(messages=tuple(said))
    shown = [
        Completion(
            prompt=prompt,
            messages=(Message(role="assistant", content=text),),
            model="import:other",
        )
        for text in answers
    ]
    with site.store.write() as tx:
        completions.add(tx, shown)
        asked = Task(form=site.form, prompt=prompt, completion_ids=tuple(one.id for one in shown))
        projects.add_tasks(tx, "support", [asked])


def press(page: Any, key: str) -> None:
    page.wait_for_timeout(GRACE)
    page.keyboard.press(key)


def wait_saved(page: Any) -> None:
    page.locator("#saved[data-state=saved]").wait_for()


def orders_of(site: Site) -> list[list[list[int]]]:
    """The ranking of every question in order, as places on the page."""
    with site.store.read() as tx:
        asked = tasks.by_dataset(tx, "support")
    asked.sort(key=lambda one: -one.task.priority)
    return [
        [[answer.shown_order.index(each) for each in group] for group in answer.payload["ranks"]]
        for one in asked
        for answer in one.annotations
    ]
