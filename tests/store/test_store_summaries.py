"""Summaries that are kept, and reading a project in columns."""

from datetime import UTC, datetime, timedelta

import pytest
from store_samples import pair, prefer

from heedful.errors import MissingError
from heedful.store import Store, annotations, columns, completions, models, projects, summaries
from heedful.store.summaries import Summary
from heedful.types import ModelVersion, Project


def summary(data: dict[str, object], num_answers: int = 3) -> Summary:
    return Summary(
        project="support", kind="quality", data=data, num_answers=num_answers, num_done=2,
        seconds=0.5,
    )  # fmt: skip


@pytest.fixture
def project(store: Store) -> Store:
    made = [pair(number) for number in range(3)]
    with store.write() as tx:
        projects.add(tx, Project(dataset="support", title="Support", form="pairwise"))
        completions.add(tx, [side for _, sides in made for side in sides])
        projects.add_tasks(tx, "support", [task for task, _ in made])
        projects.add(tx, Project(dataset="other", title="Other", form="pairwise"))
        for task, _ in made:
            annotations.add(tx, [prefer(task), prefer(task, 1, annotator="bob")])
        annotations.add(tx, [prefer(made[0][0], 1, revision=1)])
    return store


def test_the_newest_summary_of_a_kind_replaces_the_one_before(project: Store) -> None:
    with project.write() as tx:
        assert summaries.get(tx, "support", "quality") is None
        summaries.put(tx, summary({"alpha": 0.5, "low": None}))
        first = summaries.get(tx, "support", "quality")
        summaries.put(tx, summary({"alpha": 0.6}, num_answers=7))
    with project.read() as tx:
        second = summaries.get(tx, "support", "quality")
        assert summaries.get(tx, "support", "patterns") is None
        assert summaries.get(tx, "other", "quality") is None
    assert first is not None
    assert first.data == {"alpha": 0.5, "low": None}
    assert second is not None
    assert (second.data, second.num_answers, second.num_done) == ({"alpha": 0.6}, 7, 2)
    assert second.computed_at is not None
    assert datetime.now(UTC) - second.computed_at < timedelta(minutes=1)


def test_a_summary_of_an_unknown_project_is_refused(store: Store) -> None:
    with pytest.raises(MissingError, match="summaries"), store.write() as tx:
        summaries.put(tx, summary({}))


def test_answers_are_counted_up_to_a_bound_with_their_revisions(project: Store) -> None:
    with project.read() as tx:
        assert summaries.count_answers(tx, "support", up_to=100) == 7
        assert summaries.count_answers(tx, "support", up_to=4) == 4
        assert summaries.count_answers(tx, "other", up_to=100) == 0
        assert summaries.count_done(tx, "support") == 0


def test_columns_give_every_answer_and_what_was_shown(project: Store) -> None:
    with project.read() as tx:
        rows = list(columns.answers(tx, "support"))
        shown = list(columns.shown(tx, "support"))
        assert list(columns.answers(tx, "other")) == []
        texts = dict(columns.completion_texts(tx, [one.completion for one in shown]))
        prompts = dict(columns.prompt_texts(tx, [one.prompt for one in shown]))
    assert len(rows) == 7
    assert {one.annotator for one in rows} == {"ann", "bob"}
    assert sorted(one.revision for one in rows)[-1] == 1
    assert all(one.payload["preferred"] in one.shown_order for one in rows)
    assert {(one.task, one.position) for one in shown} == {
        (task, place) for task in {one.task for one in shown} for place in (0, 1)
    }
    assert {one.author for one in shown} == {"import:test"}
    assert sorted(texts.values()) == ["no 0", "no 1", "no 2", "yes 0", "yes 1", "yes 2"]
    assert sorted(prompts.values()) == ["question 0", "question 1", "question 2"]


def test_authors_have_their_newest_name(store: Store) -> None:
    first = ModelVersion(role="base", name="old", weights_hash="w1", path="/m")
    second = ModelVersion(role="base", name="new", weights_hash="w1", path="/m")
    with store.write() as tx:
        models.add(tx, first)
        models.add(tx, second)
        assert columns.names(tx, [first.id, "import:hand"]) == {
            first.id: "new", "import:hand": "hand",
        }  # fmt: skip
