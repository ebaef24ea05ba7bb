"""``demo --human`` from end to end: a real studio on a real port, answered over HTTP."""

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from heedful.config import DemoConfig
from heedful.errors import ConfigError
from heedful.jobs import demo, demo_people
from heedful.jobs.demo import run_demo
from heedful.monitor.report import read_report_data
from heedful.store import annotations, open_store, runs
from heedful.store.tracing import trace

CONFIG = DemoConfig(model="test", budget="small", human=True)


class Person:
    """Somebody at the studio of a demo that runs in a thread."""

    def __init__(self, out: Path, *, wanted: int = 100) -> None:
        self.said: list[str] = []
        self.result: dict[str, Any] = {}
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(out, wanted))
        self.thread.start()
        link = self.wait_for(r"label here +(\S+)").group(1)
        self.address = re.match(r"http://[^/]+", link).group()  # type: ignore[union-attr]
        self.browser = httpx.Client(base_url=self.address, timeout=60)
        page = self.browser.get(link)
        fields = hidden(page.text, r'<form method="post" action="/sign-in/.*?</form>')
        entered = self.browser.post(httpx.URL(link).path, data=fields)
        assert entered.headers["location"] == "/projects/demo/label"

    def _run(self, out: Path, wanted: int) -> None:
        try:
            self.result = run_demo(CONFIG, out, say=self.said.append, wanted=wanted)
        except BaseException as error:
            self.error = error

    def wait_for(self, pattern: str) -> re.Match[str]:
        return until(lambda: re.search(pattern, "\n".join(self.said)), self)

    def answer(self, number: int) -> None:
        """Judge so many pairs on the page, as a browser without scripts does."""
        for _ in range(number):
            page = self.browser.get("/projects/demo/label").text
            fields = hidden(page, r'<form[^>]*class="answer-form".*?</form>')
            told = self.browser.post("/projects/demo/answers", data=fields | {"choice": "0"})
            assert told.status_code == 303, told.text

    def begin(self) -> None:
        page = self.browser.get("/goal").text
        fields = hidden(page, r'<form method="post" action="/goal/begin".*?</form>')
        assert self.browser.post("/goal/begin", data=fields).status_code == 303

    def finish(self) -> dict[str, Any]:
        self.browser.close()
        self.thread.join(300)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error
        return self.result


def until(look: Callable[[], Any], person: Person) -> Any:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and person.error is None:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError((person.said, person.error))


def hidden(html: str, form: str) -> dict[str, str]:
    (text,) = re.findall(form, html, re.DOTALL)[:1]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_people, "POLL_SECONDS", 0.05)


def test_answers_given_on_the_page_train_the_policy_and_judge_it_blind(tmp_path: Path) -> None:
    out = tmp_path / "out"
    person = Person(out)
    person.answer(4)
    person.begin()
    person.wait_for("4 answers prefer one side; training needs at least 10")
    assert "training needs at least 10" in person.browser.get("/goal").text
    person.answer(26)
    assert "30 of 100 answers" in person.browser.get("/goal").text
    person.begin()
    person.wait_for(r"\[3/5\] PPO")
    assert "Training on your answers" in person.browser.get("/goal").text
    result = person.finish()
    assert result["annotators"] == "human"
    assert result["judge"] == "reward model (proxy)"
    assert result["gold"] is None
    assert result["labels"] == {"comparisons": 30, "strict": 30, "ties": 0, "people": 1}
    text = (out / "report.html").read_text()
    assert "simulated" not in text
    assert "a proxy" in text
    data = read_report_data(out / "report.html")
    win, control = data["Reward model's win rate against the start policy"]
    assert win["value"] == result["win_rate"]
    assert control["low"] <= 0.5 <= control["high"]
    with open_store(out / "heedful.db") as store:
        with store.read() as tx:
            given = [a for g in annotations.latest_by_dataset(tx, "demo").values() for a in g]
            states = {one.run.kind: one.run.status for one in runs.newest(tx, limit=9)}
            (claim,) = runs.evidence_of(tx, result["policy"])
        assert {one.source for one in given} == {"human"}
        assert states == {"reward": "finished", "ppo": "finished", "evaluate": "finished"}
        assert claim.test == "win_rate on held-out data, by the reward model (proxy)"
        told = trace(store, result["policy"]).render()
        assert "30 annotations by usr_" in told  # the whole chain, down to who answered
    judge_blind(out, result)


def judge_blind(out: Path, result: dict[str, Any]) -> None:
    """Prefer the policy in 3 of 4 blind comparisons; the demo tells so when it is run again."""
    import random

    from heedful.store import people, queue, tasks

    with open_store(out / "heedful.db") as store, store.write() as tx:
        (owner,) = people.list_all(tx)
        views = queue.lease(tx, "demo-blind", owner.id, count=4, rng=random.Random(0))
        assert isinstance(views, list)
        for number, view in enumerate(views):
            shown = tasks.get(tx, [view.task_id])[view.task_id].completions
            authors = {row.model: key for key, row in shown.items()}
            old = next(key for model, key in authors.items() if model != result["policy"])
            chosen = authors[result["policy"]] if number else old
            payload = {"preferred": chosen}
            queue.submit(
                tx, "demo-blind", owner.id, view.task_id, payload, key=f"k{number}", seconds=1.0
            )
    said: list[str] = []
    again = run_demo(CONFIG, out, say=said.append)
    assert again["human_win_rate"] == 0.75
    assert again["human_comparisons"] == 4
    assert any("the policy wins 75.0 % of 4" in line for line in said)


ENOUGH = 39  # of the 48 prompts 10 are held out, and each is asked about once at first


class StoppedError(Exception):
    pass


def test_an_interrupted_human_demo_goes_on_with_the_answers_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def stopped(*_: Any, **__: Any) -> Any:
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(demo, "fit_ppo", stopped)
        person = Person(out, wanted=ENOUGH)
        person.answer(ENOUGH)  # as many as were wanted: nobody has to press anything
        with pytest.raises(StoppedError):
            person.finish()
    with open_store(out / "heedful.db") as store, store.read() as tx:
        before = len(annotations.latest_by_dataset(tx, "demo"))
    said: list[str] = []
    result = run_demo(CONFIG, out, say=said.append)
    assert not any("label here" in line for line in said)
    assert result["labels"]["comparisons"] == ENOUGH
    with open_store(out / "heedful.db") as store, store.read() as tx:
        assert len(annotations.latest_by_dataset(tx, "demo")) == before


def test_too_few_wanted_answers_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--answers is 3"):
        run_demo(CONFIG, tmp_path / "out", say=lambda _: None, wanted=3)
