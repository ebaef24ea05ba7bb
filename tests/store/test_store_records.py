import time
from datetime import UTC, datetime

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from store_samples import BASE, answer, pair, prefer

from heedful.errors import DataError, MissingError
from heedful.store import Store, annotations, completions, datasets, models, open_store, tables
from heedful.store import tasks as task_store
from heedful.types import Completion, Message, ModelVersion, Prompt, Task


def fill(store: Store, num: int) -> list[Task]:
    pairs = [pair(number) for number in range(num)]
    with store.write() as tx:
        completions.add(tx, [side for _, sides in pairs for side in sides])
        task_store.add(tx, [task for task, _ in pairs])
        datasets.add_tasks(tx, "set", [task.id for task, _ in pairs])
        annotations.add(tx, [prefer(task) for task, _ in pairs])
    return [task for task, _ in pairs]


def test_completion_written_and_read_is_the_same_record(store: Store) -> None:
    prompt = Prompt(
        messages=(
            Message(role="system", content="Ünïcode \u2028 \x00 \U0001f600"),
            Message(role="assistant", content="", tool_calls=('{"name":"f"}',)),
            Message(role="user", content="go"),
        ),
        tools=('{"type":"function"}',),
    )
    written = Completion(
        prompt=prompt,
        messages=(Message(role="assistant", content="ok"),),
        model="import:test",
        draw=3,
        finish_reason="length",
        params={"temperature": 0.7, "seed": 1},
    )
    with store.write() as tx:
        completions.add(tx, [written])
    with store.read() as tx:
        assert completions.get(tx, [written.id]) == {written.id: written}


def test_adding_twice_counts_only_new_rows(store: Store) -> None:
    _, sides = pair(1)
    _, more = pair(2)
    with store.write() as tx:
        assert completions.add(tx, sides) == 2
        assert completions.add(tx, sides + more + more) == 2
    with store.read() as tx:
        assert completions.by_models(tx, "import:test") == sorted(
            sides + more, key=lambda one: one.id
        )


def test_completion_of_an_unregistered_model_is_refused(store: Store) -> None:
    stray = answer(Prompt.of("q"), "a", model="mdl_0123456789abcdef")
    with pytest.raises(MissingError, match="mdl_0123456789abcdef"), store.write() as tx:
        completions.add(tx, [stray])


def test_completion_of_a_registered_model_is_listed_by_model(store: Store) -> None:
    written = answer(Prompt.of("q"), "a", model=BASE.id)
    with store.write() as tx:
        models.add(tx, BASE)
        completions.add(tx, [written, answer(Prompt.of("q"), "a")])
        assert completions.by_models(tx, BASE.id) == [written]


def test_failed_transaction_leaves_nothing(store: Store) -> None:
    _, sides = pair(1)

    def fail_halfway() -> None:
        with store.write() as tx:
            completions.add(tx, sides)
            completions.get(tx, ["cmp_none"])

    with pytest.raises(MissingError, match="cmp_none"):
        fail_halfway()
    with store.read() as tx:
        assert completions.by_models(tx, "import:test") == []


def test_task_without_its_completions_is_refused(store: Store) -> None:
    task, _ = pair(1)
    with store.write() as tx:
        completions.add_prompts(tx, [task.prompt])
    with pytest.raises(MissingError, match="completions first"), store.write() as tx:
        task_store.add(tx, [task])


def test_task_about_the_answers_to_another_prompt_is_refused(store: Store) -> None:
    task, sides = pair(1)
    stray = Task(form="pairwise", prompt=Prompt.of("another"), completion_ids=task.completion_ids)
    with store.write() as tx:
        completions.add(tx, sides)
        completions.add_prompts(tx, [stray.prompt])
    with pytest.raises(MissingError, match="answer the task's prompt"), store.write() as tx:
        task_store.add(tx, [stray])


def test_task_with_one_completion_twice_is_refused(store: Store) -> None:
    task, sides = pair(1)
    with store.write() as tx:
        completions.add(tx, sides)
    twice = Task(form="pairwise", prompt=task.prompt, completion_ids=(sides[0].id,) * 2)
    with pytest.raises(DataError, match="takes 2 different ones"), store.write() as tx:
        task_store.add(tx, [twice])


def test_dataset_lists_tasks_completions_and_answers_in_order_of_id(store: Store) -> None:
    tasks = fill(store, 5)
    with store.read() as tx:
        listed = task_store.by_dataset(tx, "set")
        shown = completions.by_dataset(tx, "set")
    assert [one.task for one in listed] == sorted(tasks, key=lambda task: task.id)
    assert all(tuple(one.completions) == one.task.completion_ids for one in listed)
    assert all(one.annotations == (prefer(one.task),) for one in listed)
    assert len(shown) == 10


def test_dataset_name_with_a_typo_offers_the_nearest(store: Store) -> None:
    fill(store, 1)
    with store.read() as tx, pytest.raises(MissingError, match="did you mean 'set'"):
        datasets.require(tx, "sett")


def test_prompts_of_a_dataset_are_bare_ones_and_those_of_tasks(store: Store) -> None:
    (task,) = fill(store, 1)
    with store.write() as tx:
        assert datasets.add_prompts(tx, "set", [Prompt.of("bare"), task.prompt]) == 2
        prompts = completions.prompts_by_dataset(tx, "set")
        assert datasets.count_items(tx) == {"set": 3}
    assert {one.messages[0].content for one in prompts} == {"bare", "question 0"}
    assert len(prompts) == 2


def test_highest_revision_of_each_annotator_counts(store: Store) -> None:
    (task,) = fill(store, 1)
    other = prefer(task, 0, annotator="bea")
    edit = prefer(task, 1, revision=1)
    with store.write() as tx:
        assert annotations.add(tx, [edit, other]) == 2
        assert annotations.latest(tx, [task.id]) == [edit, other]


def test_second_answer_at_the_same_revision_is_refused(store: Store) -> None:
    (task,) = fill(store, 1)
    with pytest.raises(DataError, match="raise the revision"), store.write() as tx:
        annotations.add(tx, [prefer(task, 1)])


@pytest.mark.parametrize("table", ["annotations", "alias_moves"])
def test_append_only_table_refuses_update(store: Store, table: str) -> None:
    fill(store, 1)
    with store.write() as tx:
        models.add(tx, BASE)
        models.set_alias(tx, "live", BASE.id, who="me", why="first")
    with pytest.raises(DBAPIError, match="append only"), store.write() as tx:
        tx.connection.execute(text(f"update {table} set created_at = created_at"))


def test_annotation_that_its_form_refuses_is_not_stored(store: Store) -> None:
    (task,) = fill(store, 1)
    wrong = prefer(task, annotator="bea")
    wrong = type(wrong)(
        task_id=task.id,
        annotator="bea",
        source="human",
        payload={"preferred": "cmp_other"},
        shown_order=task.completion_ids,
    )
    with pytest.raises(DataError, match="cmp_other"), store.write() as tx:
        annotations.add(tx, [wrong])


def test_annotation_of_an_unknown_task_is_refused(store: Store) -> None:
    task, _ = pair(1)
    with pytest.raises(MissingError, match=task.id), store.write() as tx:
        annotations.add(tx, [prefer(task)])


def test_simulated_source_and_name_go_together(store: Store) -> None:
    (task,) = fill(store, 1)
    good = prefer(task, annotator="simulated:kind")
    lie = type(good)(
        task_id=task.id,
        annotator="simulated:kind",
        source="human",
        payload=good.payload,
        shown_order=task.completion_ids,
    )
    with pytest.raises(DataError, match="simulated"), store.write() as tx:
        annotations.add(tx, [lie])


def test_rows_carry_the_time_of_the_clock(database: str) -> None:
    moment = datetime(2020, 2, 29, 12, tzinfo=UTC)
    with open_store(database, clock=lambda: moment) as store, store.write() as tx:
        completions.add_prompts(tx, [Prompt.of("q")])
        assert tx.connection.scalar(select(tables.prompts.c.created_at)) == moment


def test_same_weights_under_two_names_are_one_version(store: Store) -> None:
    again = ModelVersion(role="base", name="second", weights_hash="w0", path="/elsewhere")
    with store.write() as tx:
        assert models.add(tx, BASE) == 1
        assert models.add(tx, again) == 0
        assert models.get(tx, "second") == again
        assert models.get(tx, "tiny").id == BASE.id
        assert len(models.list_all(tx)) == 1


def test_model_is_found_by_id_prefix_name_and_alias(store: Store) -> None:
    child = ModelVersion(
        role="policy", name="tiny", weights_hash="w1", path="/p", parents=(BASE.id,)
    )
    with store.write() as tx:
        models.add(tx, BASE)
        models.add(tx, child)
        models.set_alias(tx, "live", BASE.id, who="me", why="start")
        models.set_alias(tx, "live", child.id, who="me", why="better")
        moves = models.alias_moves(tx, "live")
        assert models.get(tx, BASE.id[:8]) == BASE
        assert models.get(tx, "tiny") == child
        assert models.get(tx, "live") == child
        assert models.aliases(tx) == {"live": child.id}
    assert [(one.from_model, one.to_model) for one in moves] == [
        (None, BASE.id),
        (BASE.id, child.id),
    ]


def test_ambiguous_model_prefix_lists_the_matches(store: Store) -> None:
    child = ModelVersion(role="policy", name="p", weights_hash="w1", path="/p")
    with store.write() as tx:
        models.add(tx, BASE)
        models.add(tx, child)
        with pytest.raises(MissingError, match=f"{child.id}.*give more|give more") as caught:
            models.get(tx, "mdl_")
    assert BASE.id in str(caught.value)
    assert child.id in str(caught.value)


def test_unknown_model_name_offers_the_nearest(store: Store) -> None:
    with store.write() as tx:
        models.add(tx, BASE)
        with pytest.raises(MissingError, match="did you mean 'tiny'"):
            models.get(tx, "tinny")


def test_ten_thousand_rows_are_added_in_seconds(store: Store) -> None:
    pairs = [pair(number) for number in range(3334)]
    sides = [side for _, both in pairs for side in both]
    started = time.perf_counter()
    with store.write() as tx:
        assert completions.add(tx, sides) == 6668  # and 3334 prompts
    # Far above the usual second, so that a busy machine does not fail it.
    assert time.perf_counter() - started < 15
