"""From a question to a reward model: ask, answer as people do, learn."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fresh import fresh_store
from sqlalchemy import select
from transformers import AutoTokenizer

from heedful.config import RewardCardConfig, RewardConfig, resolve
from heedful.data import testing
from heedful.errors import DataError, MissingError
from heedful.jobs import ranking
from heedful.jobs.asking import Sampling, ask, num_shown, read_prompts
from heedful.jobs.fit import fit_reward
from heedful.jobs.ranking import rank
from heedful.jobs.reward_card import reward_card
from heedful.jobs.rewards import export_classifier
from heedful.store import Store, people, picking, projects, queue, tables, tasks
from heedful.store.queue import Nothing
from heedful.types import Project, Prompt, User

PROJECT = Project(dataset="support", title="Support", form="pairwise")
SAMPLING = Sampling(num_samples=2, max_new_tokens=8)


@pytest.fixture
def store(tmp_path: Path):
    with fresh_store(tmp_path / "heedful.db") as opened:
        yield opened


def answer_all(store: Store, who: str) -> int:
    done = 0
    with store.write() as tx:
        people.add(tx, User(id=who, name=who, role="annotator"))
    while True:
        with store.write() as tx:
            found = queue.lease(tx, "support", who, count=3, rng=random.Random(done))
            if isinstance(found, Nothing):
                return done
            for one in found:
                texts = tasks.get(tx, [one.task_id])[one.task_id].completions
                best = max(one.shown_order, key=lambda each: len(texts[each].text))
                answer = {"preferred": best}
                queue.submit(tx, "support", who, one.task_id, answer, key=one.task_id, seconds=1.0)
                done += 1


def test_what_people_answer_becomes_a_reward_model(store: Store, tmp_path: Path) -> None:
    asked = ask(store, PROJECT, testing.prompts()[:12], ["test"], SAMPLING)
    assert (asked.num_prompts, asked.num_completions, asked.num_tasks) == (12, 24, 12)
    assert answer_all(store, "usr_a") == 12
    flags = {"data": "support", "model": "test"}
    config = resolve(RewardConfig, overrides=["held_out_share=0.25", "pooling=last"], flags=flags)
    fitted = fit_reward(config, tmp_path / "reward", store=store)
    assert fitted.metrics["num_train"] + fitted.metrics["num_held_out"] == 12


def test_asking_again_adds_nothing_and_keeps_the_projects_settings(store: Store) -> None:
    ask(store, PROJECT, testing.prompts()[:3], ["test"], SAMPLING)
    with store.write() as tx:
        projects.change(tx, replace(PROJECT, title="Renamed", overlap=2))
    assert ask(store, PROJECT, testing.prompts()[:3], ["test"], SAMPLING).num_tasks == 0
    assert ask(store, PROJECT, testing.prompts()[:4], ["test"], SAMPLING).num_tasks == 1
    with store.read() as tx:
        assert projects.get(tx, "support").title == "Renamed"
        assert queue.progress(tx, "support", "nobody").num_slots == 3 + 2


def test_an_answer_does_not_depend_on_the_other_prompts(store: Store) -> None:
    first, second = testing.prompts()[:2]
    ask(store, PROJECT, [first, second], ["test"], SAMPLING)
    assert ask(store, PROJECT, [second], ["test"], SAMPLING).num_tasks == 0


def test_another_form_is_refused_before_anything_is_sampled(store: Store) -> None:
    ask(store, PROJECT, testing.prompts()[:1], ["test"], SAMPLING)
    with pytest.raises(DataError, match="name another project"):
        ask(store, replace(PROJECT, form="ranking"), testing.prompts()[:1], ["none"], SAMPLING)


def test_a_name_that_does_not_do_in_an_address_is_refused_before_sampling(store: Store) -> None:
    with pytest.raises(DataError, match="does not do in an address"):
        ask(store, replace(PROJECT, dataset="a/b"), testing.prompts()[:1], ["none"], SAMPLING)
    with store.read() as tx:
        assert projects.list_all(tx) == []


@pytest.mark.parametrize(
    ("form", "candidates", "shown"),
    [("pairwise", 2, 2), ("pairwise", 4, 2), ("ranking", 5, 5), ("critique", 3, 1)],
)
def test_a_task_shows_what_its_form_takes(form: str, candidates: int, shown: int) -> None:
    assert num_shown(form, candidates) == shown


@pytest.mark.parametrize(("candidates", "said"), [(1, "at least 2 answers"), (10, "make 45 tasks")])
def test_too_few_or_far_too_many_candidates_are_refused(candidates: int, said: str) -> None:
    with pytest.raises(DataError, match=said):
        num_shown("pairwise", candidates)


def test_prompts_come_from_a_file_once_each(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "b"}, {"prompt": "a"}, {"prompt": "b"}, {"prompt": " "}, {"promt": "c"}]
    file.write_text("\n".join(map(json.dumps, rows)))
    read = read_prompts(store, str(file), tmp_path)
    assert read.prompts == [Prompt.of("b"), Prompt.of("a")]
    assert read.drops == {"empty_prompt": 1, "missing_key": 1}
    with pytest.raises(MissingError, match="does not exist"):
        read_prompts(store, str(tmp_path / "none.jsonl"), tmp_path)


def test_reward_models_say_which_task_comes_next(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = testing.prompts()
    ask(store, PROJECT, prompts[:12], ["test"], SAMPLING)
    answer_all(store, "usr_a")
    with pytest.raises(DataError, match="choose disagreement, bald, margin, d_optimal or by_slice"):
        rank(store, "support")
    with pytest.raises(DataError, match="strategy is 'bold'; did you mean 'bald'"):
        rank(store, "support", strategy="bold")
    with pytest.raises(DataError, match="needs 1 reward models"):
        rank(store, "support", strategy="d_optimal")
    for seed in (0, 1):
        flags = {"data": "support", "model": "test", "seed": seed}
        config = resolve(
            RewardConfig, overrides=["held_out_share=0.25", "pooling=last"], flags=flags
        )
        fit_reward(config, tmp_path / f"reward{seed}", store=store)
    ask(store, PROJECT, prompts[12:18], ["test"], SAMPLING)
    with store.write() as tx:
        people.add(tx, User(id="usr_b", name="b", role="annotator"))
    # a task that somebody was given is ranked no more
    for strategy, num_models, num_tasks in (("d_optimal", 1, 6), ("disagreement", 2, 5)):
        ranked = rank(store, "support", strategy=strategy)
        assert (ranked.num_tasks, len(ranked.models)) == (num_tasks, num_models)
        with store.read() as tx:
            items = tables.queue_items.c
            query = select(items.task_id, items.score).where(items.scored_by == strategy)
            scores = {row.task_id: row.score for row in tx.connection.execute(query)}
        assert len(scores) == num_tasks
        assert min(scores.values()) > 0
        wanted = replace(PROJECT, strategy=strategy, random_share=0.01)
        with store.write() as tx:
            projects.change(tx, wanted)
            left = set(picking.fresh_tasks(tx, "support"))
            (view,) = queue.lease(tx, "support", "usr_b", count=1, rng=Never(0))  # type: ignore[misc]
            assert scores[view.task_id] == max(scores[one] for one in left)
            queue.skip(tx, "support", "usr_b", view.task_id, "no")
    # beside what was answered a task teaches less
    gains = []
    for most in (0, ranking.MAX_KNOWN):
        monkeypatch.setattr(ranking, "MAX_KNOWN", most)
        rank(store, "support", strategy="d_optimal")
        with store.read() as tx:
            query = select(items.score).where(items.scored_by == "d_optimal")
            gains.append(max(row.score for row in tx.connection.execute(query)))
    assert gains[1] < gains[0]
    # the members of one ensemble are enough, when it is the newest
    several = ["held_out_share=0.25", "ensemble.members=3"]
    config = resolve(RewardConfig, overrides=several, flags={"data": "support", "model": "test"})
    fitted = fit_reward(config, tmp_path / "ensemble", store=store)
    ranked = rank(store, "support", strategy="disagreement")
    assert (ranked.models, ranked.num_tasks) == ((fitted.model,), 4)
    with store.read() as tx:
        query = select(items.score).where(items.scored_by == "disagreement")
        own = {row.score for row in tx.connection.execute(query)} - set(scores.values())
    assert len(own) == 4
    assert min(own) > 0
    assert rank(store, "support", strategy="d_optimal").models == (fitted.model,)
    for strategy, low, high in (("bald", 0.0, np.log(2)), ("margin", -np.inf, 0.0)):
        assert rank(store, "support", strategy=strategy).models == (fitted.model,)
        with store.read() as tx:
            query = select(items.score).where(items.scored_by == strategy)
            left = [row.score for row in tx.connection.execute(query)]
        assert len(set(left)) == 4
        assert low < min(left)
        assert max(left) <= high
    # an exported reward says of tasks what it said before, alone and beside another model
    directory = export_classifier(str(tmp_path / "reward0"), store, tmp_path / "out").path
    for strategy, beside in (
        ("margin", []),
        ("disagreement", [str(tmp_path / "reward1")]),
        ("bald", [str(tmp_path / "reward1")]),
    ):
        found = []
        for name in (str(tmp_path / "reward0"), directory):
            ranked = rank(store, "support", strategy=strategy, names=[name, *beside])
            assert (ranked.num_tasks, ranked.num_left_out) == (4, 0)
            with store.read() as tx:
                query = select(items.task_id, items.score).where(items.scored_by == strategy)
                found.append({row.task_id: row.score for row in tx.connection.execute(query)})
        assert found[1] == pytest.approx(found[0], rel=1e-2, abs=1e-4), strategy
    # what cannot be read has no score, also none of an earlier time
    for name in (str(tmp_path / "reward0"), directory):
        rank(store, "support", strategy="margin", names=[name])
        ranked = rank(store, "support", strategy="margin", names=[name], max_tokens=3)
        assert (ranked.num_tasks, ranked.num_left_out) == (0, 4)
        with store.read() as tx:
            query = select(items.score, items.scored_by).where(items.place.is_not(None))
            assert set(tx.connection.execute(query)) == {(None, None)}
    refusing = tmp_path / "refusing"
    shutil.copytree(directory, refusing)
    for file in refusing.glob("*"):
        if file.name in ("chat_template.jinja", "tokenizer_config.json"):
            file.unlink()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.chat_template = "{{ raise_exception('no roses') }}"
    tokenizer.save_pretrained(refusing)
    with pytest.raises(DataError, match="refuses all 4 tasks, the first because: no roses"):
        rank(store, "support", strategy="margin", names=[str(refusing)])
    with pytest.raises(DataError, match=r"out is none; name one"):
        rank(store, "support", strategy="d_optimal", names=[directory])
    with pytest.raises(MissingError, match="'test' is no reward model"):
        rank(store, "support", strategy="margin", names=["test"])
    told = {"model": str(tmp_path / "reward0"), "data": "support", "num_rewritten": 0}
    with pytest.raises(MissingError, match="by_slice needs a reward card"):
        rank(store, "support", strategy="by_slice")
    reward_card(RewardCardConfig(**told), tmp_path / "card", store=store)
    by_card = rank(store, "support", strategy="by_slice")
    assert (by_card.num_tasks, Path(str(by_card.card)).name) == (4, "card")
    with store.write() as tx:
        projects.change(tx, replace(PROJECT, strategy="by_slice", random_share=0.1))
        (view,) = queue.lease(tx, "support", "usr_b", count=1, rng=Never(0))  # type: ignore[misc]
        query = select(items.probability, items.drawn_by).where(items.task_id == view.task_id)
        assert tuple(tx.connection.execute(query).one()) == (0.1 / 4 + 0.9, "by_slice")


class Never(random.Random):
    """Never takes the random share."""

    def random(self) -> float:
        return 0.999


def test_tasks_that_show_one_answer_have_no_margin(store: Store) -> None:
    rated = Project(dataset="rated", title="Rated", form="rating")
    prompts = testing.prompts()
    ask(store, rated, prompts[:2], ["test"], Sampling(num_samples=1, max_new_tokens=8))
    with pytest.raises(DataError, match="all 2 tasks of project 'rated' show one answer"):
        rank(store, "rated", strategy="margin", names=["gold:kind"])
    ask(store, rated, prompts[2:4], ["test"], SAMPLING)
    ranked = rank(store, "rated", strategy="margin", names=["gold:kind"])
    assert (ranked.num_tasks, ranked.num_left_out) == (2, 2)
