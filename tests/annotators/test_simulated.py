import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.annotators.golds import GOLDS, resolve_gold, user_gold
from heedful.annotators.simulated import (
    SimulatedAnnotator,
    compare_blind,
    judge,
    label_ceiling,
    uniform,
)
from heedful.errors import ConfigError, DataError
from heedful.forms.pairwise import Pairwise
from heedful.types import Completion, Message, Prompt, Task

NUM_TASKS = 2000
SIGMAS = 4  # a fair draw lies outside about once in 16,000 seeds; the seeds here are fixed
LENGTH = user_gold("length", "Longer is better.", lambda _, response: float(len(response)))

Pair = tuple[Task, Mapping[str, Completion]]


def pair(number: int, *texts: str, form: str = "pairwise") -> Pair:
    prompt = Prompt.of(f"Question {number}?")
    completions = [
        Completion(
            prompt=prompt,
            messages=(Message(role="assistant", content=text),),
            model="import:test",
            draw=draw,
        )
        for draw, text in enumerate(texts)
    ]
    by_id = {completion.id: completion for completion in completions}
    return Task(form=form, prompt=prompt, completion_ids=tuple(by_id)), by_id


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [pair(n, "short", "rather longer") for n in range(NUM_TASKS)]


def assert_binomial(count: int, rate: float) -> None:
    spread = SIGMAS * (NUM_TASKS * rate * (1 - rate)) ** 0.5
    assert abs(count - NUM_TASKS * rate) <= spread


def is_right(task: Task, preferred: str) -> bool:
    return preferred == task.completion_ids[1]


def test_simulated_annotation_is_named_as_such_and_valid_for_the_form(pairs: list[Pair]) -> None:
    for name in GOLDS:
        annotator = SimulatedAnnotator(gold=resolve_gold(name))
        for task, completions in pairs[:20]:
            annotation = annotator.annotate(task, completions)
            assert (annotation.source, annotation.annotator) == ("simulated", f"simulated:{name}")
            assert annotation.task_id == task.id
            Pairwise().validate(annotation.payload, task.completion_ids)


def test_simulated_annotator_without_noise_prefers_what_the_gold_scores_higher() -> None:
    task, completions = pair(0, "tiny", "a far longer answer")
    annotation = SimulatedAnnotator(gold=LENGTH, noise=0.0).annotate(task, completions)
    assert annotation.payload == {"preferred": task.completion_ids[1]}


def test_simulated_annotator_with_noise_1_always_errs(pairs: list[Pair]) -> None:
    annotator = SimulatedAnnotator(gold=LENGTH, noise=1.0)
    assert not any(
        is_right(task, annotator.annotate(task, completions).payload["preferred"])
        for task, completions in pairs[:50]
    )


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_simulated_noise_lies_within_binomial_bounds(pairs: list[Pair], noise: float) -> None:
    annotator = SimulatedAnnotator(gold=LENGTH, noise=noise, seed=3)
    wrong = [
        not is_right(task, annotator.annotate(task, completions).payload["preferred"])
        for task, completions in pairs
    ]
    assert_binomial(sum(wrong), noise)
    assert wrong == [annotator.is_flipped(task.id) for task, _ in pairs]


def test_simulated_accuracy_of_a_perfect_reward_is_the_label_ceiling(pairs: list[Pair]) -> None:
    annotator = SimulatedAnnotator(gold=LENGTH, noise=0.2)
    right = sum(
        is_right(task, annotator.annotate(task, completions).payload["preferred"])
        for task, completions in pairs
    )
    assert_binomial(right, label_ceiling(0.2))


def test_label_ceiling_is_what_noise_leaves() -> None:
    assert [label_ceiling(noise) for noise in (0.0, 0.1, 0.5)] == [1.0, 0.9, 0.5]


def test_simulated_payload_holds_the_preference_and_nothing_else(pairs: list[Pair]) -> None:
    annotator = SimulatedAnnotator(gold=LENGTH, noise=0.5)
    for task, completions in pairs[:50]:
        annotation = annotator.annotate(task, completions)
        assert set(annotation.payload) == {"preferred"}
        assert annotation.seconds is None


def test_simulated_order_is_balanced_and_independent_of_the_flip(pairs: list[Pair]) -> None:
    annotator = SimulatedAnnotator(gold=LENGTH, noise=0.5, seed=1)
    swapped = [
        annotator.annotate(task, completions).shown_order != task.completion_ids
        for task, completions in pairs
    ]
    flipped = [annotator.is_flipped(task.id) for task, _ in pairs]
    assert_binomial(sum(swapped), 0.5)
    assert_binomial(sum(s == f for s, f in zip(swapped, flipped, strict=True)), 0.5)


def test_simulated_shown_order_lists_the_tasks_completions(pairs: list[Pair]) -> None:
    for task, completions in pairs[:50]:
        shown = SimulatedAnnotator(gold=LENGTH).annotate(task, completions).shown_order
        assert sorted(shown) == sorted(task.completion_ids)


def test_simulated_answers_do_not_depend_on_order_or_on_earlier_answers(
    pairs: list[Pair],
) -> None:
    forward = SimulatedAnnotator(gold=LENGTH, noise=0.4, seed=5)
    answers = {task.id: forward.annotate(task, completions) for task, completions in pairs[:200]}
    shuffled = random.Random(0).sample(pairs[:200], 120)
    resumed = SimulatedAnnotator(gold=LENGTH, noise=0.4, seed=5)
    for task, completions in shuffled:
        assert resumed.annotate(task, completions) == answers[task.id]


def test_simulated_seed_changes_which_labels_are_flipped(pairs: list[Pair]) -> None:
    first, second = (
        {t.id for t, _ in pairs if SimulatedAnnotator(gold=LENGTH, seed=s).is_flipped(t.id)}
        for s in (0, 1)
    )
    assert len(first & second) < 0.5 * len(first)


def test_simulated_tie_stays_a_tie_whatever_the_noise() -> None:
    task, completions = pair(0, "same size", "size same")
    annotation = SimulatedAnnotator(gold=LENGTH, noise=1.0).annotate(task, completions)
    assert annotation.payload == {"preferred": None}
    assert Pairwise().undecided(annotation.payload) == "tie"


@pytest.mark.parametrize("noise", [-0.1, 1.5, float("nan"), float("inf")])
def test_simulated_annotator_refuses_a_noise_that_is_no_probability(noise: float) -> None:
    with pytest.raises(ConfigError, match=r"noise is .*; it must be from 0 to 1"):
        SimulatedAnnotator(gold=LENGTH, noise=noise)


def test_simulated_annotator_refuses_another_form() -> None:
    task, completions = pair(0, "a", "bb", "ccc", form="ranking")
    with pytest.raises(DataError, match="has the form 'ranking'"):
        SimulatedAnnotator(gold=LENGTH).annotate(task, completions)


@given(st.text(st.characters(), max_size=20), st.integers(0, 2**32))
def test_uniform_is_a_repeatable_number_from_0_to_1_for_any_key(text: str, seed: int) -> None:
    draw = uniform("key", seed, text)
    assert 0.0 <= draw < 1.0
    assert uniform("key", seed, text) == draw


def test_compare_blind_gives_1_for_a_win_half_for_a_tie_0_for_a_loss() -> None:
    outcomes = compare_blind(LENGTH, ["p", "q", "r"], ["aaa", "aa", "a"], ["bb", "bb", "bb"], 0)
    assert outcomes == [1.0, 0.5, 0.0]


@given(
    st.lists(st.tuples(*[st.text(st.characters(), max_size=8)] * 3), max_size=12),
    st.integers(0, 99),
)
def test_compare_blind_mirrors_when_the_sides_are_exchanged(
    rows: list[tuple[str, str, str]], seed: int
) -> None:
    prompts, a, b = ([row[column] for row in rows] for column in range(3))
    forward = compare_blind(LENGTH, prompts, a, b, seed)
    assert compare_blind(LENGTH, prompts, b, a, seed) == [1.0 - value for value in forward]


def test_compare_blind_shows_each_side_left_and_right_equally_often() -> None:
    # the judge scores the left text first, so the calls tell which text it saw on the left
    seen: list[str] = []

    def score(prompt: str, response: str) -> float:
        seen.append(response)
        return 0.0

    gold = user_gold("spy", "Likes nothing.", score)
    prompts = [str(number) for number in range(NUM_TASKS)]
    compare_blind(gold, prompts, ["a"] * NUM_TASKS, ["b"] * NUM_TASKS, seed=0)
    assert_binomial(seen[::2].count("a"), 0.5)


def test_compare_blind_refuses_lists_of_different_length() -> None:
    with pytest.raises(ValueError, match="zip"):
        compare_blind(LENGTH, ["p"], ["a", "b"], ["c"], 0)


def test_judge_names_left_right_or_tie() -> None:
    assert [judge(LENGTH, "p", *sides) for sides in (("aa", "b"), ("a", "bb"), ("a", "b"))] == [
        1.0,
        0.0,
        0.5,
    ]
