"""Tasks come first that are like those which a reward model got wrong."""

import json
from pathlib import Path

import pytest

from heedful.data.examples import answer
from heedful.data.snapshot import freeze
from heedful.errors import DataError
from heedful.jobs.reward_card.slices import Question
from heedful.jobs.slice_ranking import card_slices, score_by_slice
from heedful.select import slice_scores
from heedful.stats.intervals import wilson
from heedful.store import open_store
from heedful.store.tasks import AnsweredTask
from heedful.types import Completion, Preference, Prompt, Task


def shown(number: int, text: str) -> AnsweredTask:
    prompt = Prompt.of(f"new question {number}")
    made = [Completion(prompt=prompt, messages=answer(f"{text}{n}"), model="import:x", draw=n)
            for n in range(2)]  # fmt: skip
    task = Task(form="pairwise", prompt=prompt, completion_ids=tuple(one.id for one in made))
    return AnsweredTask(task=task, completions={one.id: one for one in made}, annotations=())


def test_tasks_like_those_that_the_model_got_wrong_come_first(tmp_path: Path) -> None:
    texts = {"short": "a ", "long": "a " * 30}
    rows = [
        Preference(prompt=Prompt.of(f"q{n}"), chosen=answer(f"{text}{n}"),
                   rejected=answer(f"{text}no")).as_feedback()
        for n, text in enumerate([texts["short"], texts["long"]] * 30)
    ]  # fmt: skip
    freeze(rows, "feedback", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"config": {"data": "d", "seed": 0}}))
    lines = [
        {"pair": n, "prompt": row.prompt.id, "delta": 1.0 - 2.0 * (n % 2)}
        for n, row in enumerate(rows)
    ]
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    with open_store(tmp_path / "s.db") as store:
        asked = [shown(0, texts["short"]), shown(1, texts["long"])]
        short, long = score_by_slice(store, tmp_path, asked).values()
        kinds, accuracy = card_slices(store, tmp_path)
        wrong = next(one for one in accuracy.values() if one.value == 0)
        assert long == pytest.approx(1 - wrong.high, abs=1e-2)
        assert short == 0
        question = Question(prompt=rows[0].prompt, form="pairwise", words=2, writers="not known")
        (length,) = [kind for kind in kinds if kind.name == "length"]
        assert length.place is not None
        assert length.place(question) == length.of[0]
        assert {kind.name for kind in kinds if kind.place is None} <= {"longer answer"}
        # a command that was refused the directory leaves its rows there
        for number in range(8):
            freeze([*rows[number + 1 :], rows[number]], "feedback", tmp_path)
        assert card_slices(store, tmp_path)[1] == accuracy
        (tmp_path / "scores.jsonl").write_text(json.dumps(lines[1] | {"prompt": "prm_none"}) + "\n")
        with pytest.raises(DataError, match="scores of other pairs"):
            card_slices(store, tmp_path)


def test_a_slice_with_few_answers_is_not_sought_for_its_noise() -> None:
    accuracy = {
        ("turns", "1"): wilson(60, 100),
        ("turns", "2"): wilson(0, 2),
        ("topic", "x"): wilson(99, 100),
    }
    tasks = [[("turns", "1"), ("topic", "x")], [("turns", "2")], [("turns", "3")], [("turns", "1")]]
    scores = slice_scores(tasks, accuracy)
    assert scores[0] == pytest.approx(1 - wilson(60, 100).high, abs=2e-3)
    assert scores[3] > scores[0] > scores[2] == 0
    assert scores[1] == pytest.approx((1 - wilson(0, 2).high) * 1.001)
