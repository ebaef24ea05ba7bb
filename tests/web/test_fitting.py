"""From a project's page to a fit: what there is to learn from, and for whom the way is open."""

from pathlib import Path
from typing import Any

import pytest
from studio import csrf_of, make_studio, visitor

from heedful.store import Store, annotations, datasets, feedback, models, projects, snapshots
from heedful.store import tasks as task_store
from heedful.types import Annotation, Message, ModelVersion, Project, Prompt, Snapshot
from heedful.web.fitting import ENOUGH, job_name


@pytest.fixture
def studio(tmp_path: Path):
    store, client = make_studio(tmp_path, num_tasks=12)
    with store:
        visitor(store, client, "olga", "owner")
        yield store, client


def answer(store: Store, num: int, annotator: str = "ann", **more: Any) -> None:
    """The first ``num`` tasks answered by somebody: the first completion."""
    with store.write() as tx:
        asked = [one.task for one in task_store.by_dataset(tx, "support")][:num]
        annotations.add(
            tx,
            [
                Annotation(
                    task_id=one.id,
                    annotator=annotator,
                    source="human",
                    payload={"preferred": one.completion_ids[0]} | more,
                    shown_order=one.completion_ids,
                )
                for one in asked
            ],
        )


def told(client) -> dict[str, Any]:  # type: ignore[no-untyped-def]
    return client.get("/api/projects/support/feedback").json()  # type: ignore[no-any-return]


def test_the_way_to_a_fit_opens_with_enough_judgements(studio) -> None:
    store, client = studio
    assert "Reward model" not in client.get("/projects/support").text
    answer(store, ENOUGH - 1)
    page = client.get("/projects/support").text
    assert f"<b>{ENOUGH - 1}</b> judgements" in page
    assert "kind=fit_reward" not in page
    answer(store, 1, "ben")
    page = client.get("/projects/support").text
    href = "/jobs/new?kind=fit_reward&amp;data=support&amp;name=support-reward"
    assert f'href="{href}"' in page
    form = client.get(href.replace("&amp;", "&")).text
    assert '<option value="support" selected>' in form
    assert 'value="support-reward"' in form
    assert told(client) == {
        "judgements": ENOUGH, "is_exact": True, "enough": ENOUGH, "reward_model": None,
    }  # fmt: skip


def test_what_is_counted_is_what_a_snapshot_would_hold(studio, tmp_path: Path) -> None:
    from heedful.jobs.snapshot import make_snapshot

    store, client = studio
    answer(store, 5)
    answer(store, 3, "ben", preferred=None)
    answer(store, 2, "cleo", preferred=None, written="Better than both.")
    made = make_snapshot(store, "support", "feedback", tmp_path)
    assert told(client)["judgements"] == made.num_rows == 5 + 3 + 2 * 3


def test_ratings_open_the_way_to_a_fit_too(tmp_path: Path) -> None:
    store, client = make_studio(tmp_path, num_tasks=ENOUGH, form="rating", num_shown=1)
    with store:
        visitor(store, client, "olga", "owner")
        with store.write() as tx:
            asked = [one.task for one in task_store.by_dataset(tx, "support")]
            said = [
                Annotation(
                    task_id=one.id,
                    annotator="ann",
                    source="human",
                    payload={"ratings": {one.completion_ids[0]: {"overall": 1 + number % 5}}},
                    shown_order=one.completion_ids,
                )
                for number, one in enumerate(asked)
            ]
            annotations.add(tx, said)
        assert told(client)["judgements"] == ENOUGH
        assert "kind=fit_reward" in client.get("/projects/support").text


def test_a_count_of_very_many_is_a_lower_bound(studio) -> None:
    store, _ = studio
    answer(store, 8)
    with store.read() as tx:
        found = feedback.count(tx, "support", most=6)
        assert (found.num, found.is_exact) == (6, False)
        assert feedback.count(tx, "support", most=8).is_exact


def test_the_newest_reward_model_of_the_project_is_linked(studio) -> None:
    store, client = studio
    with store.write() as tx:
        projects.add(tx, Project(dataset="other", title="Other", form="pairwise"))
        datasets.add_tasks(tx, "other", [])
        for number, (dataset, role) in enumerate(
            [("support", "reward"), ("support", "reward"), ("support", "policy"),
             ("other", "reward")]
        ):  # fmt: skip
            frozen = Snapshot(kind="preference", dataset=dataset, num_rows=1, rows_hash=f"{number}",
                              path="/s")  # fmt: skip
            snapshots.save(tx, frozen)
            models.add(tx, ModelVersion(role=role, name=f"made-{number}", weights_hash=f"{number}",
                                        path="/m", snapshot=frozen.id))  # type: ignore[arg-type]  # fmt: skip
    newest = told(client)["reward_model"]
    with store.read() as tx:
        ids = [models.get(tx, name).id for name in ("made-0", "made-1")]
    assert newest in ids
    assert f'href="/models/{newest}"' in client.get("/projects/support").text


def test_who_reads_results_may_ask_and_annotators_may_not(studio) -> None:
    store, client = studio
    for role, status in (("reader", 200), ("annotator", 403)):
        visitor(store, client, role, role)  # type: ignore[arg-type]
        assert client.get("/api/projects/support/feedback").status_code == status


@pytest.mark.parametrize(
    ("project", "name"),
    [("support", "support-reward"), ("a.b_c", "a-b-c-reward"), ("x" * 80, "x" * 50 + "-reward")],
)
def test_a_job_is_named_after_its_project(project: str, name: str) -> None:
    from heedful.web.job_specs import NAME

    assert job_name(project) == name
    assert NAME.fullmatch(name)


def test_a_job_offers_each_thing_once_and_only_what_it_can_use(studio) -> None:
    store, client = studio
    with store.write() as tx:
        datasets.add_prompts(
            tx, "bare", [Prompt(messages=(Message(role="user", content="Hello?"),))]
        )
        models.add(tx, ModelVersion(role="base", name="test", weights_hash="0", path="test"))
    fit = client.get("/jobs/new?kind=fit_reward").text
    assert fit.count(">test (base)<") == 1
    assert '<option value="test" >test</option>' not in fit
    assert 'value="support"' in fit
    assert 'value="bare"' not in fit  # nobody can have answered it
    assert 'value="bare"' in client.get("/jobs/new?kind=fit_ppo").text


def test_a_refused_job_keeps_what_was_typed(studio) -> None:
    _, client = studio
    form = client.get("/jobs/new?kind=fit_reward").text
    fields = {"csrf": csrf_of(form), "kind": "fit_reward", "name": "Capital", "epochs": "7"}
    fields |= {"data": "support", "model": "test", "held_out_share": "0.3", "seed": "5"}
    refused = client.post("/jobs/new", data=fields, headers={"accept": "text/html"})
    assert refused.status_code == 422
    assert "Not queued: name is &#39;Capital&#39;; use small letters" in refused.text
    for value in ("Capital", "7", "0.3", "5"):
        assert f'value="{value}"' in refused.text
    assert client.post("/jobs/new", data=fields).json()["error"]["code"] == "data"
