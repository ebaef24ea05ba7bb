"""A studio in process: the real app on a real SQLite file, and people who visit it."""

import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import uvicorn
from fastapi.routing import APIRoute
from fresh import fresh_store
from starlette.testclient import TestClient

from heedful.store import Store, Transaction, completions, people, projects
from heedful.types import Completion, Message, Project, Prompt, Task, User, UserRole
from heedful.web.app import create_app
from heedful.web.sign_in import make_link

SECRET_MODEL = "import:secret-model-name"
DAY = timedelta(days=1)


def make_studio(
    path: Path, *, num_tasks: int = 4, form: str = "pairwise", num_shown: int = 2
) -> tuple[Store, TestClient]:
    """A project ``support`` of one form, and nobody signed in."""
    store = fresh_store(path / "heedful.db")
    with store.write() as tx:
        projects.add(tx, Project(dataset="support", title="Support", form=form))
        projects.write_guideline(tx, "support", "Prefer the **kinder** one.", author="usr_o")
        new = [task(tx, number, form, num_shown) for number in range(num_tasks)]
        projects.add_tasks(tx, "support", new)
    return store, TestClient(create_app(store, rng=random.Random(1)), follow_redirects=False)


def task(tx: Transaction, number: int, form: str, num_shown: int) -> Task:
    prompt = Prompt.of(f"Question {number}?")
    shown = [
        Completion(
            prompt=prompt,
            messages=(Message(role="assistant", content=f"Answer {number} {side} <b>bold</b>"),),
            model=SECRET_MODEL,
        )
        for side in ("left", "right", "third", "fourth")[:num_shown]
    ]
    completions.add(tx, shown)
    return Task(
        form=form,
        prompt=prompt,
        completion_ids=tuple(one.id for one in shown),
        priority=float(-number),
    )


def visitor(store: Store, client: TestClient, name: str, role: UserRole = "annotator") -> str:
    """Sign a new person in on this client; returns their id."""
    with store.write() as tx:
        people.add(tx, User(id=f"usr_{name}", name=name, role=role))
    client.cookies.clear()
    answer = client.post(f"/sign-in/{make_link(store, name, valid=DAY)}")
    assert answer.status_code == 303, answer.text
    return f"usr_{name}"


class Fields(HTMLParser):
    """The hidden fields of the first form with a class."""

    def __init__(self, wanted: str) -> None:
        super().__init__()
        self.wanted, self.inside, self.found = wanted, False, {}

    def handle_starttag(self, tag: str, attrs: list) -> None:  # type: ignore[type-arg]
        values = dict(attrs)
        if tag == "form":
            self.inside = self.wanted in (values.get("class") or "")
        if self.inside and tag == "input" and values.get("type") == "hidden":
            self.found.setdefault(values["name"], values.get("value") or "")

    @classmethod
    def of(cls, html: str, wanted: str = "answer-form") -> dict[str, str]:
        parser = cls(wanted)
        parser.feed(html)
        return dict(parser.found)


def csrf_of(html: str) -> str:
    return re.search(r'name="csrf" (?:content|value)="(\w+)"', html).group(1)  # type: ignore[union-attr]


@contextmanager
def serving(client: TestClient) -> Iterator[str]:
    """The app of a client behind a real server; its address."""
    server = uvicorn.Server(uvicorn.Config(client.app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def routes(client: TestClient) -> list[tuple[str, str]]:
    """Every route that is ours, as its method and path."""
    found = []
    pending = list(client.app.routes)  # type: ignore[attr-defined]
    while pending:
        route = pending.pop()
        if isinstance(route, APIRoute):
            found += [(method, route.path) for method in route.methods]
        else:
            pending += getattr(getattr(route, "original_router", route), "routes", None) or []
    return found
