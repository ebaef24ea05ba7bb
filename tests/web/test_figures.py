"""Pages of figures: who sees them, what they say before and while figures are made."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from studio import make_studio, visitor

from heedful.jobs.quality import compute
from heedful.store import Store, annotations, completions, datasets, projects, summaries, tasks
from heedful.store.summaries import KINDS, Summary
from heedful.types import Annotation, Completion, Message, Project, Prompt, Task
from heedful.web import computing as computing_module
from heedful.web import quality
from heedful.web.computing import Computing, Job


class Asked:
    """Stands where the process is; computes at once, or never."""

    def __init__(self, store: Store, *, at_once: bool = True) -> None:
        self.store, self.at_once, self.jobs = store, at_once, []  # type: ignore[var-annotated]

    def ask(self, job: Job) -> None:
        self.jobs.append(job)
        if self.at_once:
            compute(self.store, job.project, job.kind)

    def is_waiting(self, job: Job) -> bool:
        return job in self.jobs and not self.at_once

    def failure(self, job: Job) -> str | None:  # noqa: ARG002 - as the real one
        return None


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[tuple[Store, TestClient, Asked]]:
    store, client = make_studio(tmp_path, num_tasks=30)
    with store:
        yield store, client, replaced(store, client)


def replaced(store: Store, client: TestClient, **how: Any) -> Asked:
    client.app.state.computing = Asked(store, **how)  # type: ignore[attr-defined]
    return client.app.state.computing  # type: ignore[attr-defined,no-any-return]


def answer_all(store: Store, people: tuple[str, ...] = ("ann", "bob", "cy")) -> None:
    with store.write() as tx:
        for place, one in enumerate(tasks.by_dataset(tx, "support")):
            ids = one.task.completion_ids
            annotations.add(tx, [
                Annotation(
                    task_id=one.task.id, annotator=who, source="human", shown_order=ids,
                    payload={"preferred": ids[(place + number * (place % 3 == 0)) % 2]},
                    seconds=4.0 + place,
                )
                for number, who in enumerate(people)
            ])  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["", "/api"])
def test_only_who_may_view_results_sees_figures(studio: Any, kind: str, prefix: str) -> None:
    store, client, _ = studio
    address = f"{prefix}/projects/support/{kind}"
    for role, status in (("annotator", 403), ("reader", 200), ("reviewer", 200), ("owner", 200)):
        visitor(store, client, f"a_{role}", role)  # type: ignore[arg-type]
        assert client.get(address).status_code == status, role
    assert client.get(f"{prefix}/projects/nothing/{kind}").status_code == 404


@pytest.mark.parametrize("kind", KINDS)
def test_a_project_without_answers_says_so(studio: Any, kind: str) -> None:
    store, client, _ = studio
    visitor(store, client, "rea", "reader")
    page = client.get(f"/projects/support/{kind}")
    assert 'Rests on <b class="num">0</b> stored answers' in page.text
    assert "<script>" not in page.text
    assert "style=" not in page.text


def test_pages_show_what_was_computed_and_what_it_rests_on(studio: Any) -> None:
    store, client, asked = studio
    answer_all(store)
    visitor(store, client, "rea", "reader")
    page = client.get("/projects/support/quality?rate=30").text
    for said in ("90</b> stored answers", "Krippendorff", "Alike beyond skill", "hours", "<svg"):
        assert said in page
    assert "20 preferences" not in client.get("/projects/support/patterns").text
    assert len(asked.jobs) == 2
    client.get("/projects/support/quality")
    assert len(asked.jobs) == 2  # nothing changed, nothing is computed
    answer_all(store, ("dan",))
    assert "120</b> stored" in client.get("/projects/support/quality").text


def test_the_api_gives_figures_as_specs_with_their_rows_and_the_cost(studio: Any) -> None:
    store, client, _ = studio
    answer_all(store)
    visitor(store, client, "rea", "reader")
    found = client.get("/api/projects/support/quality?rate=36").json()
    assert (found["state"], found["num_answers"], found["kind"]) == ("fresh", 90, "quality")
    assert found["cost"]["value"] == pytest.approx(36 * found["data"]["hours"]["value"])
    (figure,) = found["data"]["figures"]
    assert "svg" not in figure
    assert figure["spec"]["layer"]
    assert figure["rows"]
    assert client.get("/api/projects/support/quality?rate=-1").status_code == 422
    ranked = client.get("/api/projects/support/leaderboard").json()
    assert ranked["data"]["notes"]  # one author: nothing to rank, and it says so


def test_a_ranking_on_one_prompt_needs_more_prompts_and_ranks_nobody(studio: Any) -> None:
    store, client, _ = studio
    prompt = Prompt.of("The only question?")
    left, right = (
        Completion(
            prompt=prompt,
            messages=(Message(role="assistant", content=f"Answer of {model}"),),
            model=f"import:{model}",
        )
        for model in ("kind", "curt")
    )
    one = Task(form="pairwise", prompt=prompt, completion_ids=(left.id, right.id))
    with store.write() as tx:
        completions.add(tx, [left, right])
        projects.add_tasks(tx, "support", [one])
        annotations.add(tx, [
            Annotation(
                task_id=one.id, annotator=f"usr_{number}", source="human",
                payload={"preferred": left.id if number < 15 else right.id},
                shown_order=one.completion_ids,
            )
            for number in range(21)
        ])  # fmt: skip
    visitor(store, client, "rea", "reader")
    page = client.get("/projects/support/leaderboard").text
    assert page.count("needs more prompts") == 2
    assert "No ranks in the ranking" in page
    (ranking, *_) = client.get("/api/projects/support/leaderboard").json()["data"]["rankings"]
    assert {row["rank"] for row in ranking["rows"]} == {None}
    assert client.get("/projects/support/leaderboard?style=true").status_code == 200


def test_patterns_of_a_form_without_preferences_lead_to_quality(tmp_path: Path) -> None:
    for form, says in (("flags", "This form gives no preferences"), ("rating", "20 more pref")):
        (tmp_path / form).mkdir()
        store, client = make_studio(tmp_path / form, form=form, num_shown=1)
        with store:
            replaced(store, client)
            visitor(store, client, "rea", "reader")
            page = client.get("/projects/support/patterns").text
            assert says in page, form
            assert ("20 more" in page) == (form == "rating")


def test_ratings_show_how_far_above_others_somebody_rates_instead_of_sides(tmp_path: Path) -> None:
    store, client = make_studio(tmp_path, form="rating", num_tasks=30, num_shown=1)
    with store:
        replaced(store, client)
        with store.write() as tx:
            for place, one in enumerate(tasks.by_dataset(tx, "support")):
                (shown,) = one.task.completion_ids
                annotations.add(tx, [
                    Annotation(
                        task_id=one.task.id, annotator=who, source="human", shown_order=(shown,),
                        payload={"ratings": {shown: {"helpful": 2 + place % 2 + more}}},
                    )
                    for who, more in (("ann", 0), ("bob", 0), ("mild", 2))
                ])  # fmt: skip
        visitor(store, client, "rea", "reader")
        page = client.get("/projects/support/quality").text
        assert "points above the usual</th>" in page
        assert "rates 2.0 to 2.0 points above the usual on the same answers" in page
        assert "left side</th>" not in page
        people = client.get("/api/projects/support/quality").json()["data"]["people"]
        assert {one["person"]: round(one["level"]["value"], 1) for one in people} == {
            "ann": 0.0,
            "bob": 0.0,
            "mild": 2.0,
        }
        assert [one["person"] for one in people if one["flags"]] == ["mild"]
        assert "Nobody has answered the same task" not in page


def test_a_summary_counts_what_was_answered_in_good_english(studio: Any) -> None:
    store, client, _ = studio
    with store.write() as tx:
        one = tasks.by_dataset(tx, "support")[0].task
        said = {"preferred": one.completion_ids[0]}
        annotations.add(tx, [
            Annotation(
                task_id=one.id, annotator="ann", source="human", payload=said,
                shown_order=one.completion_ids,
            )
        ])  # fmt: skip
    visitor(store, client, "rea", "reader")
    assert "1 answer by 1 person to 1 task<" in client.get("/projects/support/quality").text


def imported(store: Store) -> None:
    """What ``support`` asks, answered elsewhere, as a project without tasks for people."""
    answer_all(store)
    with store.write() as tx:
        projects.add(tx, Project(dataset="brought", title="Brought", form="pairwise"))
        datasets.add_tasks(tx, "brought", [one.task.id for one in tasks.by_dataset(tx, "support")])


def test_an_imported_project_says_how_many_answers_it_has(studio: Any) -> None:
    store, client, _ = studio
    imported(store)
    visitor(store, client, "rea", "reader")
    assert "90 imported answers; no tasks wait for people" in client.get("/").text
    page = client.get("/projects/brought/quality").text
    assert "imported; no tasks wait for people" in page
    assert "90 answers by 3 people to 30 tasks" in page


def test_a_reader_is_led_to_what_they_may_see(studio: Any) -> None:
    store, client, _ = studio
    for role in ("reader", "annotator", "reviewer", "owner"):
        visitor(store, client, f"a_{role}", role)
        found = re.search(r'<h2><a href="([^"]+)">Support</a>', client.get("/").text)
        assert found is not None
        assert client.get(found[1]).status_code == 200, role


def test_few_comparisons_make_no_ratings(studio: Any) -> None:
    store, client, _ = studio
    prompt = Prompt.of("Which?")
    sides = [
        Completion(
            prompt=prompt,
            messages=(Message(role="assistant", content=f"Answer of {model}"),),
            model=f"import:{model}",
        )
        for model in ("kind", "curt")
    ]
    one = Task(form="pairwise", prompt=prompt, completion_ids=tuple(side.id for side in sides))
    with store.write() as tx:
        completions.add(tx, sides)
        projects.add_tasks(tx, "support", [one])
        annotations.add(tx, [
            Annotation(
                task_id=one.id, annotator=f"usr_{place}", source="human",
                payload={"preferred": sides[place].id}, shown_order=one.completion_ids,
            )
            for place in range(2)
        ])  # fmt: skip
    visitor(store, client, "rea", "reader")
    page = client.get("/projects/support/leaderboard").text
    assert "18 more comparisons to go" in page
    assert "rating" not in page.lower().replace("separating", "")


def test_a_large_project_never_waits(studio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store, client, _ = studio
    answer_all(store)
    monkeypatch.setattr(quality, "SMALL", 10)
    asked = replaced(store, client, at_once=False)
    visitor(store, client, "rea", "reader")
    started = time.monotonic()
    page = client.get("/projects/support/quality").text
    assert time.monotonic() - started < quality.PATIENCE / 2
    assert "The first figures are on their way" in page
    assert 'data-state="computing"' in page
    assert asked.jobs == [Job("support", "quality")]
    assert client.get("/api/projects/support/quality").json()["data"] is None


def test_when_a_summary_is_stale() -> None:
    now = datetime.now(UTC)

    def kept(seconds: float, minutes: float) -> Summary:
        return Summary(
            project="p", kind="quality", data={}, num_answers=9000, num_done=9000,
            seconds=seconds, computed_at=now - timedelta(minutes=minutes),
        )  # fmt: skip

    few, many = 100, quality.SMALL + 1
    assert quality.is_stale(None, few, 0, now)
    assert quality.is_stale(kept(1, 0), few, 9000, now)  # small: by the count alone
    assert not quality.is_stale(kept(1, 0.5), many, 9001, now)  # not every second
    assert quality.is_stale(kept(1, 2), many, 9001, now)
    assert not quality.is_stale(kept(1, 30), many, 9000, now)  # nothing new
    assert quality.is_stale(kept(1, 61), many, 9000, now)  # changed answers fill no slot
    assert not quality.is_stale(kept(60, 10), many, 9001, now)  # it took a minute


def wait_for(computing: Computing, job: Job) -> None:
    until = time.monotonic() + 60
    while computing.is_waiting(job):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_process_beside_the_server_computes_reports_errors_and_survives_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = make_studio(tmp_path, num_tasks=30)
    answer_all(store)
    computing, job, lost = Computing(store), Job("support", "quality"), Job("support", "patterns")
    try:
        computing.ask(job)
        computing.ask(job)
        assert computing.is_waiting(job)
        wait_for(computing, job)
        assert computing.failure(job) is None
        with store.read() as tx:
            kept = summaries.get(tx, "support", "quality")
        assert kept is not None
        assert kept.num_answers == 90
        missing = Job("nothing", "quality")
        computing.ask(missing)
        wait_for(computing, missing)
        assert "nothing" in (computing.failure(missing) or "")
        process = computing._process
        assert process is not None
        process.kill()
        computing.ask(lost)
        wait_for(computing, lost)
        with store.read() as tx:
            assert summaries.get(tx, "support", "quality") == kept  # whole, as before
        monkeypatch.setattr(computing_module, "RETRY_SECONDS", 0.0)
        computing.ask(lost)
        wait_for(computing, lost)
        assert computing.failure(lost) is None
    finally:
        computing.close()
        store.close()
