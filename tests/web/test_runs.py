import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fresh import fresh_store
from starlette.testclient import TestClient
from studio import visitor

from heedful.config import EvaluateConfig, PPOConfig, Rollouts
from heedful.jobs.evaluate import evaluate
from heedful.jobs.fit import fit_ppo
from heedful.store import Store, models, open_store, run_files, runs
from heedful.types import Evidence, ModelVersion, Run
from heedful.web.app import create_app


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that knows a finished PPO run and its evaluation."""
    root = tmp_path_factory.mktemp("trained")
    rollouts = Rollouts(
        num_rollouts=2, prompts_per_rollout=2, samples_per_prompt=2, max_new_tokens=4
    )
    with fresh_store(root / "heedful.db") as store:
        config = PPOConfig(data="test", model="test", reward="gold:kind", rollouts=rollouts)
        fit_ppo(config, root / "policy", store=store)
        measured = EvaluateConfig(
            data="test", model=str(root / "policy"), gold="kind", num_prompts=4, max_new_tokens=4
        )
        evaluate(measured, root / "evaluation", store=store)
    return root


@pytest.fixture
def studio(trained: Path) -> Iterator[tuple[Store, TestClient, Path]]:
    with open_store(trained / "heedful.db") as store:
        client = TestClient(create_app(store), follow_redirects=False)
        with store.read() as tx:
            from heedful.store import people

            known = people.find(tx, "ada")
        if known is None:
            visitor(store, client, "ada", "reader")
        else:
            from studio import DAY

            from heedful.web.sign_in import make_link

            client.post(f"/sign-in/{make_link(store, 'ada', valid=DAY)}")
        yield store, client, trained


def run_of(store: Store, kind: str) -> str:
    with store.read() as tx:
        return next(one.id for one in runs.newest(tx, limit=9) if one.run.kind == kind)


def test_the_list_names_every_run_with_its_state_and_main_figure(studio) -> None:
    _, client, root = studio
    html = client.get("/runs").text
    assert html.count('class="state finished"') == 2
    told = json.loads((root / "evaluation" / "result.json").read_text())
    assert f"{100 * told['win_rate']:.1f} %" in html
    listed = client.get("/api/runs").json()
    assert [(one["kind"], one["state"]) for one in listed] == [
        ("evaluate", "finished"),
        ("ppo", "finished"),
    ]
    assert client.get("/api/runs", params={"before": listed[0]["id"]}).json() == listed[1:]
    assert len(client.get("/api/runs?limit=1").json()) == 1


def test_runs_and_models_say_what_a_figure_is_in_one_way_of_writing(studio) -> None:
    store, client, root = studio
    told = json.loads((root / "evaluation" / "result.json").read_text())
    share = f"{100 * told['win_rate']:.1f} %"
    low, high = told["win_rate_ci"]
    interval = f"{100 * low:.1f} to {100 * high:.1f} %"
    listed = client.get("/runs").text
    page = client.get(f"/runs/{run_of(store, 'evaluate')}").text
    for html in (listed, page):
        assert f"win rate, judged by {told['judge']}" in html
    assert "<h1>Evaluation</h1>" in page
    assert "evaluate evaluation" not in re.sub("<[^>]+>", "", listed).lower()
    assert "number prompts" not in page
    assert "number learned" not in page
    assert "length relative to the start" in page
    assert not re.search(r"reward -\d", page)
    with store.read() as tx:
        policy = next(one for one in models.newest(tx, limit=9) if one.version.role == "policy")
    for address in ("/models", f"/models/{policy.id}"):
        html = client.get(address).text
        assert share in html, address
        assert interval in html, address


def test_a_run_page_shows_curves_with_their_data_samples_and_lineage(studio) -> None:
    store, client, root = studio
    run = run_of(store, "ppo")
    html = client.get(f"/runs/{run}").text
    assert html.count("<svg") == 4  # what the run itself shows beside its bar
    steps = run_files.read_metrics(root / "policy")
    assert f'role="img" aria-label="Metrics. {len(steps)} rows' in html
    assert "style=" not in html
    assert "<script>" not in html
    rows = run_files.read_rollout(root / "policy", 1)
    assert all(f"reward {row['reward']:.2f}" in html for row in rows[:1])
    assert "Rollout 1 of 1" in html
    assert re.search(r'href="/models/mdl_\w+">policy</a>', html)
    assert client.get(f"/runs/{run}?metrics=all").text.count("<svg") > 8
    told = client.get(f"/api/runs/{run}").json()
    assert [one["kind"] for one in told["lineage"]] == ["base model", "run", "policy"]
    measured = client.get(f"/api/runs/{run}/metrics", params={"first": 1}).json()
    assert measured == {"rows": steps[1:], "next": None}
    samples = client.get(f"/api/runs/{run}/samples", params={"rollout": 0}).json()
    assert samples["rollouts"] == [0, 1]
    first = run_files.read_rollout(root / "policy", 0)[0]
    assert samples["samples"][0]["prompt"] == first["prompt"]


def test_an_evaluation_shows_start_and_policy_beside_each_other(studio) -> None:
    store, client, root = studio
    told = client.get(f"/api/runs/{run_of(store, 'evaluate')}/samples").json()["samples"]
    rows = json.loads((root / "evaluation" / "result.json").read_text())["samples"]
    start = [row["text"] for row in rows if row["arm"] == "start"]
    policy = [row["text"] for row in rows if row["arm"] == "policy"]
    assert [[answer[1] for answer in one["answers"]] for one in told] == [
        list(pair) for pair in zip(start, policy, strict=True)
    ]


def test_a_report_is_served_without_any_power(studio) -> None:
    store, client, root = studio
    address = f"/runs/{run_of(store, 'ppo')}/files/report.html"
    assert client.get(f"/api{address}").content == client.get(address).content
    answer = client.get(address)
    assert answer.text == (root / "policy" / "report.html").read_text()
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox")
    assert "allow-scripts" not in policy
    assert "allow-same-origin" not in policy
    assert "default-src 'none'" in policy


@pytest.mark.parametrize(
    "name",
    ["..%2F..%2Fheedful.db", "%2Fetc%2Fpasswd", "model", ".lock", "checkpoints", "report.html%00"],
)
def test_no_other_file_leaves_a_run(studio, name: str) -> None:
    store, client, _ = studio
    answer = client.get(f"/runs/{run_of(store, 'ppo')}/files/{name}")
    assert answer.status_code == 404
    assert client.get(f"/runs/..%2F/files/{name}").status_code == 404
    assert client.get(f"/api/runs/{run_of(store, 'ppo')}/files/{name}").status_code == 404


def test_a_link_in_a_run_directory_leads_nowhere(studio, tmp_path: Path) -> None:
    store, client, root = studio
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "report.html").symlink_to(root / "heedful.db")
    row = Run(kind="sft", path=str(tmp_path / "run"), config={"out": "linked"})
    with store.write() as tx:
        runs.start(tx, row)
    answer = client.get(f"/runs/{row.id}/files/report.html")
    assert answer.status_code == 422
    with store.write() as tx:
        runs.finish(tx, row.id, failed=True)
        tx.connection.exec_driver_sql(f"delete from runs where id = '{row.id}'")


def unfinished(store: Store, path: Path, num_rows: int) -> str:
    """A run of 10 steps of which some are done, the last just now."""
    path.mkdir(exist_ok=True)
    started = time.time() - 10 * num_rows
    plan = run_files.Plan(
        num_steps=10, first_step=0, started_at=started, shown={"train/loss": "loss"}
    )
    (path / run_files.PLAN).write_text(plan.to_json())
    rows = [json.dumps({"step": step, "train/loss": 1.0 / (step + 1)}) for step in range(num_rows)]
    (path / run_files.METRICS).write_text("".join(f"{row}\n" for row in rows))
    record = Run(kind="sft", path=str(path), config={"model": "m", "data": "d", "out": str(path)})
    with store.write() as tx:
        runs.start(tx, record)
    return record.id


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[tuple[Store, TestClient]]:
    with fresh_store(tmp_path / "heedful.db") as store:
        client = TestClient(create_app(store), follow_redirects=False)
        visitor(store, client, "ada", "owner")
        yield store, client


def test_a_running_run_tells_the_time_left_and_an_abandoned_one_that_it_is(
    owner: Any, tmp_path: Path
) -> None:
    store, client = owner
    run = unfinished(store, tmp_path / "run", 4)
    assert client.get(f"/api/runs/{run}").json()["state"] == "interrupted"
    assert "Its process is gone" in client.get(f"/runs/{run}").text
    with run_files.hold(tmp_path / "run"):
        told = client.get(f"/api/runs/{run}").json()
        assert told["state"] == "running"
        assert told["num_done"] == 4
        assert told["seconds_left"] == pytest.approx(60, abs=2)  # 10 s a step
        assert "step 4 of 10" in client.get(f"/runs/{run}").text
    with store.write() as tx:
        runs.finish(tx, run, failed=True)
    assert client.get(f"/api/runs/{run}").json()["state"] == "failed"


def test_the_live_part_comes_only_when_it_is_new(owner: Any, tmp_path: Path) -> None:
    store, client = owner
    run = unfinished(store, tmp_path / "run", 2)
    with run_files.hold(tmp_path / "run"):
        html = client.get(f"/runs/{run}/live").text
        stamp = re.search(r'data-stamp="([^"]+)"', html).group(1)  # type: ignore[union-attr]
        assert client.get(f"/runs/{run}/live", params={"have": stamp}).status_code == 204
        unfinished(store, tmp_path / "run", 3)
        newer = client.get(f"/runs/{run}/live", params={"have": stamp})
        assert newer.status_code == 200
        assert "step 3 of 10" in newer.text
        assert newer.text.count("<svg") == 1


def test_a_long_curve_is_drawn_from_means(owner: Any, tmp_path: Path) -> None:
    from heedful.web.run_view import drawn

    rows = [{"step": step, "train/loss": float(step)} for step in range(1200)]
    means = drawn(rows)
    assert len(means) == 400
    assert means[0] == {"step": 0, "train/loss": 1.0}
    assert means[-1]["train/loss"] == pytest.approx(1198.0)
    assert drawn(rows[:400]) == rows[:400]


def test_annotators_see_neither_runs_nor_models(studio) -> None:
    store, client, _ = studio
    visitor(store, client, f"ann-{time.time_ns()}", "annotator")
    run = run_of(store, "ppo")
    for path in ("/runs", f"/runs/{run}", f"/runs/{run}/live", f"/runs/{run}/files/report.html",
                 f"/api/runs/{run}/files/report.html", "/models", "/models/compare?a=x&b=y",
                 "/api/runs", "/api/models", "/api/models/compare?a=x&b=y"):  # fmt: skip
        assert client.get(path).status_code == 403, path
    assert "Runs" not in client.get("/").text


def test_models_show_lineage_and_evidence_and_stand_side_by_side(studio) -> None:
    _, client, _ = studio
    listed = client.get("/api/models").json()
    assert [one["role"] for one in listed] == ["policy", "base"]
    policy, base = listed
    assert policy["parents"] == [base["id"]]
    assert [one["kind"] for one in policy["lineage"]] == ["base model", "policy"]
    (claim,) = policy["evidence"]
    assert claim["low"] <= claim["value"] <= claim["high"]
    html = client.get(f"/models/{policy['id']}").text
    assert "win rate on data it may have learned from" in html
    assert html.count("<svg") == 1
    assert f'href="/runs/{policy["run"]}"' in html
    both = client.get("/models/compare", params={"a": policy["id"], "b": base["id"]}).text
    assert "Answers to the same prompts" in both
    assert "win rate on data it may have learned from" in both
    told = client.get("/api/models/compare", params={"a": policy["id"], "b": base["id"]}).json()
    assert [one["id"] for one in told["models"]] == [policy["id"], base["id"]]
    (measured,) = told["evidence"]
    assert measured == {"test": claim["test"], "values": [claim, None]}
    assert len(told["answers"]) == both.count("<article") > 0
    for pair in told["answers"]:
        assert {one["role"] for one in pair["prompt"]} == {"user"}
        assert [one["role"] for (one,) in pair["messages"]] == ["assistant", "assistant"]
    same = client.get("/models/compare", params={"a": base["id"], "b": base["id"]})
    assert same.headers["location"] == f"/models/{base['id']}"
    for odd in ("mdl_", "nothing", policy["id"][:-1]):
        assert client.get(f"/models/{odd}").status_code == 404


def test_versions_of_a_name_are_numbered(owner: Any) -> None:
    store, client = owner
    with store.write() as tx:
        for weights in ("w1", "w2"):
            models.add(
                tx, ModelVersion(role="base", name="chatty", weights_hash=weights, path="/m")
            )
        models.set_alias(tx, "live", models.get(tx, "chatty").id, who="ada", why="better")
    html = client.get("/models").text
    assert "chatty, version 2" in html
    assert '<span class="chip">live</span>' in html
    assert {one["names"]["chatty"] for one in client.get("/api/models").json()} == {1, 2}


def test_two_processes_do_not_work_on_one_run(tmp_path: Path, monkeypatch: Any) -> None:
    from heedful.errors import ResourceError

    monkeypatch.setattr(run_files, "LOCK_SECONDS", 0.05)
    with (
        run_files.hold(tmp_path),
        pytest.raises(ResourceError, match="another process works on"),
        run_files.hold(tmp_path),
    ):
        pass
    assert not run_files.is_held(tmp_path)


def test_a_reward_models_page_shows_the_newest_card(owner: Any) -> None:
    store, client = owner
    model = ModelVersion(role="reward", name="kind", weights_hash="a" * 32, path="/nowhere")
    with store.write() as tx:
        models.add(tx, model)
    bare = client.get(f"/models/{model.id}").text
    assert f"heedful evaluate reward {model.id}" in bare
    assert "The whole card" not in bare
    for value, data in ((0.6, "old"), (0.7, "<new>")):
        detail = {"data": data, "run": "run_1", "card": {"accuracy": f"{value} shown"}}
        with store.write() as tx:
            runs.add_evidence(
                tx,
                Evidence(
                    model=model.id, test="accuracy on held-out data", value=value, low=0.5,
                    high=0.8, num=50, detail=detail,
                ),
            )  # fmt: skip
    html = client.get(f"/models/{model.id}").text
    assert "0.7 shown" in html
    assert "0.6 shown" not in html
    assert "&lt;new&gt;" in html
    assert 'href="/runs/run_1"' in html
