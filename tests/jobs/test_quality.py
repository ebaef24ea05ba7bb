"""Summaries of a project: planted faults are seen, careful people spared, nothing invented."""

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fresh import fresh_store

from heedful.errors import MissingError
from heedful.forms import FORMS
from heedful.jobs import quality as summaries_of
from heedful.jobs.quality import compute, copies
from heedful.jobs.quality.agreement import agreement, cohen
from heedful.jobs.quality.levels import above_others, centred, levels, linked
from heedful.jobs.quality.people import shares_right
from heedful.jobs.quality.reading import Answers, read
from heedful.stats.intervals import wilson
from heedful.stats.raters import rater_offsets
from heedful.stats.votes import encode_votes
from heedful.store import (
    Store,
    Transaction,
    annotations,
    completions,
    people,
    projects,
    summaries,
)
from heedful.store.extras import Tally
from heedful.types import Annotation, Completion, Message, Project, Prompt, Task, User
from heedful.web.quality import SMALL, is_stale

NUM_PEOPLE, NUM_TASKS, OVERLAP = 10, 420, 4
GUESSER, LEFTIST, ORIGINAL, COPY = "p7", "p8", "p1", "p2"
HOSTILE = 'import:<script>alert("x")</script>'
GOOD, BAD = "Water the roses early. " * 4, "No idea."


def task(form: str, number: int, texts: tuple[str, ...] = (GOOD, BAD)) -> tuple[Task, list[Any]]:
    topic = ("garden roses soil", "python error loop")[number % 2]
    prompt = Prompt.of(f"Question {number} about {topic}?")
    sides = [
        Completion(
            prompt=prompt,
            messages=(Message(role="assistant", content=f"{text} {number}"),),
            model=HOSTILE if place else "import:kind",
        )
        for place, text in enumerate(texts)
    ]
    ids = tuple(one.id for one in sides)
    return Task(form=form, prompt=prompt, completion_ids=ids), sides


def put(store: Store, form: str, tasks: list[Any], answers: list[Annotation]) -> None:
    with store.write() as tx:
        projects.add(tx, Project(dataset="support", title="Support", form=form, overlap=2))
        completions.add(tx, [side for _, sides in tasks for side in sides])
        projects.add_tasks(tx, "support", [one for one, _ in tasks])
        annotations.add(tx, answers)


def answer(
    task: Task, who: str, payload: dict[str, Any], *, swapped: bool = False, **more: Any
) -> Annotation:
    shown = task.completion_ids[::-1] if swapped else task.completion_ids
    return Annotation(
        task_id=task.id, annotator=who, source="human", payload=payload, shown_order=shown, **more
    )


def crowd() -> tuple[list[Any], list[Annotation]]:
    """Ten people: one guesses, one clicks left, one copies another; the rest are right in 85 %."""
    rng = np.random.default_rng(5)
    tasks, answers = [], []
    for number in range(NUM_TASKS):
        texts = (GOOD, BAD) if rng.random() < 0.5 else (BAD, GOOD)
        one, sides = task("pairwise", number, texts)
        tasks.append((one, sides))
        best = texts.index(GOOD)
        others = rng.permutation([0, 3, 4, 5, 6, 7, 8, 9])[: OVERLAP - 2]
        said: dict[str, int] = {}
        for who in [1, 2, *others] if number % 2 else rng.permutation(NUM_PEOPLE)[:OVERLAP]:
            name, left = f"p{who}", int(rng.random() < 0.5)  # which one stands on the left
            choice = best if rng.random() < 0.85 else 1 - best
            if name == GUESSER:
                choice = int(rng.random() < 0.5)
            elif name == LEFTIST and rng.random() < 0.8:
                choice = left
            elif name == COPY and ORIGINAL in said:
                choice = said[ORIGINAL]
            said[name] = choice
            answers.append(
                answer(
                    one, name, {"preferred": one.completion_ids[choice]},
                    swapped=bool(left), seconds=float(rng.lognormal(2.3, 0.4)),
                )
            )  # fmt: skip
    return tasks, answers


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with fresh_store(tmp_path_factory.mktemp("quality") / "heedful.db") as opened:
        with opened.write() as tx:
            for number in range(NUM_PEOPLE):
                level = {"level": "expert" if number < 5 else "lay"}
                user = User(id=f"p{number}", name=f"Person {number}", role="annotator")
                people.add(tx, User(**{**_fields(user), "attributes": level}))
        put(opened, "pairwise", *crowd())
        yield opened


def _fields(user: User) -> dict[str, Any]:
    return {name: getattr(user, name) for name in ("id", "name", "role")}


@pytest.fixture(scope="module")
def quality(store: Store) -> dict[str, Any]:
    return dict(compute(store, "support", "quality").data)


def test_who_guesses_leans_or_copies_is_flagged_and_nobody_else(quality: dict[str, Any]) -> None:
    flagged = {one["person"]: " ".join(one["flags"]) for one in quality["people"] if one["flags"]}
    assert set(flagged) == {GUESSER, LEFTIST, ORIGINAL, COPY}
    assert "guessing" in flagged[GUESSER]
    assert "leans to the left" in flagged[LEFTIST]
    assert "more than skill explains" in flagged[COPY]


def test_agreement_has_every_measure_with_its_interval(quality: dict[str, Any]) -> None:
    found = {one["measure"]: one["interval"] for one in quality["agreement"]}
    assert set(found) == {"raw", "fleiss", "nominal"}  # two labels have no order to speak of
    for one in found.values():
        assert one["low"] < one["value"] < one["high"]
        assert one["num"] <= NUM_TASKS
    assert found["raw"]["num"] == found["nominal"]["num"] == NUM_TASKS
    assert {one["kappa"]["num"] >= 10 for one in quality["cohen"]} == {True}


def test_the_same_votes_are_searched_for_copies_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []
    monkeypatch.setattr(copies, "SEARCHED", {})
    monkeypatch.setattr(copies, "copied_pairs", lambda votes: (searched.append(votes), ())[1])
    asked = [[f"task {n}" for n in range(3) for _ in "ab"], list("ababab"), list("xyxxyy")]
    votes = encode_votes(*asked)
    again = encode_votes(*asked)
    other = encode_votes(*asked[:2], list("xyxxyx"))
    for one in (votes, again, other, votes):
        copies.search(one)
    assert searched == [votes, other]
    for number in range(copies.KEPT):
        copies.search(encode_votes([f"{number}", "t"], ["a", "b"], ["x", "y"]))
        copies.search(encode_votes(["t"] * 2, [f"{number}", "b"], ["x", "y"]))
    assert len(copies.SEARCHED) == copies.KEPT


def test_copied_answers_count_once_in_agreement_and_ranking(
    store: Store, quality: dict[str, Any]
) -> None:
    with store.read() as tx:
        answers = read(tx, "support")
    first, second = (
        set(answers.task[answers.annotator == answers.annotators.index(who)].tolist())
        for who in (ORIGINAL, COPY)
    )
    (pair,) = quality["copies"]
    assert pair["num_common"] == len(first & second) > 200
    assert quality["num_copied"] == len(first & second)
    assert compute(store, "support", "leaderboard").data["num_copied"] == len(first & second)
    said: dict[int, list[int]] = {}
    for task, label, who in zip(
        answers.task[answers.vote_answer], answers.votes.label, answers.votes.annotator, strict=True
    ):
        if answers.annotators[who] != COPY or task not in first:
            said.setdefault(task, []).append(label)
    alike = [a == b for one in said.values() for a, b in combinations(one, 2)]
    shown = next(one["interval"] for one in quality["agreement"] if one["measure"] == "raw")
    assert shown["value"] == pytest.approx(np.mean(alike), abs=0.01)


def test_agreement_knows_how_many_tasks_it_is_of_not_how_many_items() -> None:
    rng = np.random.default_rng(0)
    said = rng.choice(["good", "bad"], (2, 40)).repeat(6, axis=1)  # alike on a task's six items
    said[1, rng.random(240) < 0.5] = said[0, 0]
    items = [f"{number:03}" for number in range(240)]
    votes = encode_votes(items * 2, ["ann"] * 240 + ["bob"] * 240, said.ravel().tolist())
    task, alone = np.arange(240) // 6, np.arange(240)

    def widths(item_task: Any) -> list[float]:
        rng = np.random.default_rng(1)
        found = agreement(votes, item_task, ("bad", "good"), [], rng)
        found += [{"interval": one["kappa"]} for one in cohen(votes, item_task, rng)]
        return [one["interval"].high - one["interval"].low for one in found]

    assert all(np.array(widths(task)) > 1.3 * np.array(widths(alone)))


def test_side_pace_slices_and_hours_are_those_of_the_answers(
    store: Store, quality: dict[str, Any]
) -> None:
    with store.read() as tx:
        answers = read(tx, "support")
    assert quality["num_answers"] == NUM_TASKS * OVERLAP == len(answers.task)
    assert quality["pace"]["value"] == pytest.approx(np.median(answers.seconds), rel=1e-5)
    assert 3 < quality["hours"]["value"] < 7
    decided = answers.pairs.points != 0.5
    left = (answers.pairs.points == 1) == answers.pairs.is_first_left
    assert quality["side"]["value"] == pytest.approx(left[decided].mean(), rel=1e-5)
    (by_level,) = quality["groups"]
    assert [one["group"] for one in by_level["shares"]] == ["expert", "lay"]
    assert sum(one["num_tasks"] for one in quality["topics"]) == NUM_TASKS
    words = [set(one["name"].split(", ")) for one in quality["topics"]]
    own = {"garden", "roses", "soil"}, {"python", "error", "loop"}
    assert len(words) >= 2
    assert all(any(found <= one for one in own) for found in words)


def test_what_is_kept_is_json_without_names_of_models_on_the_quality_page(
    store: Store, quality: dict[str, Any]
) -> None:
    text = json.dumps(quality, allow_nan=False)
    assert "script" not in text.replace("noscript", "")
    with store.read() as tx:
        kept = summaries.get(tx, "support", "quality")
    assert kept is not None
    assert kept.data == quality
    assert kept.num_answers == NUM_TASKS * OVERLAP


def test_the_leaderboard_ranks_with_style_and_cap_and_escapes_names(store: Store) -> None:
    data = compute(store, "support", "leaderboard").data
    assert data["num_comparisons"] == NUM_TASKS * OVERLAP - data["num_copied"]
    assert data["caps"] == [100]
    plain = next(one for one in data["rankings"] if not one["style"] and one["cap"] is None)
    assert {row["name"] for row in plain["rows"]} == {"kind", HOSTILE.removeprefix("import:")}
    assert {one["cap"] for one in data["rankings"]} == {None, 100}
    assert "<script>" not in plain["figure"]["svg"]
    assert " style=" not in plain["figure"]["svg"]
    assert plain["figure"]["spec"]["layer"]


def test_patterns_find_what_was_planted_and_count_each_pair_once(store: Store) -> None:
    data = compute(store, "support", "patterns").data
    assert data["num_preferences"] <= NUM_TASKS  # four answers to a pair are one decision
    assert "are longer" in data["sure"]
    assert data["network"]["accuracy"]["low"] > 0.75
    assert len(data["network"]["looks_at"]) == 15
    assert len(data["features"]) == 15


@pytest.mark.parametrize("num", [0, 1, 19, 20])
def test_patterns_wait_for_twenty_preferences(tmp_path: Path, num: int) -> None:
    with fresh_store(tmp_path / "heedful.db") as few:
        tasks = [task("pairwise", number) for number in range(25)]
        put(few, "pairwise", tasks, [
            answer(one, "ann", {"preferred": one.completion_ids[0]}) for one, _ in tasks[:num]
        ])  # fmt: skip
        data = compute(few, "support", "patterns").data
        assert data["num_preferences"] == num
        assert bool(data["features"]) == (num >= 20)
        for kind in ("quality", "leaderboard"):
            json.dumps(dict(compute(few, "support", kind).data), allow_nan=False)  # type: ignore[arg-type]


def test_only_the_newest_revision_counts(tmp_path: Path) -> None:
    with fresh_store(tmp_path / "heedful.db") as few:
        made = [task("pairwise", number) for number in range(2)]
        first, second = (one for one, _ in made)
        put(few, "pairwise", made, [
            answer(first, "ann", {"preferred": "both_bad"}),
            answer(first, "ann", {"preferred": first.completion_ids[1]}, revision=1),
            answer(first, "bob", {"preferred": None}),
            answer(second, "ann", {"preferred": second.completion_ids[0]}, swapped=True),
        ])  # fmt: skip
        with few.read() as tx:
            found = read(tx, "support")
        assert found.votes is not None
        assert sorted(found.votes.categories[code] for code in found.votes.label) == [
            "first", "second", "tie",
        ]  # fmt: skip
        assert sorted(found.pairs.points) == [0.0, 0.5, 1.0]
        (won,) = np.flatnonzero(found.pairs.points == 1)
        assert found.annotators[found.annotator[found.pairs.answer[won]]] == "ann"
        assert not found.pairs.is_first_left[won]


def test_circles_are_counted_by_person_and_know_how_many_prompts_they_are_of(
    tmp_path: Path,
) -> None:
    """Four answers a prompt: ``ann`` runs in a circle on the first of three prompts only."""
    made: list[Any] = []
    answers = []
    for number in range(3):
        shown, sides = task("pairwise", number, ("a", "b", "c", "d"))
        for first, second in combinations(range(4), 2):
            ids = (shown.completion_ids[first], shown.completion_ids[second])
            one = Task(form="pairwise", prompt=shown.prompt, completion_ids=ids)
            made.append((one, sides))
            is_back = number == 0 and (first, second) == (0, 2)
            answers.append(answer(one, "ann", {"preferred": ids[int(is_back)]}))
            if first == 0:
                answers.append(answer(one, "bob", {"preferred": ids[0]}))
    with fresh_store(tmp_path / "heedful.db") as few:
        put(few, "pairwise", made, answers)
        data = compute(few, "support", "quality").data
        share, by_person = data["cycles"]["share"], {r["person"]: r for r in data["people"]}
        assert (share["value"], share["num"]) == (pytest.approx(1 / 12, rel=1e-4), 12)
        assert by_person["ann"]["cycles"] == share
        assert by_person["bob"]["cycles"] is None
        # twelve triples, but three prompts
        assert share["high"] > wilson(1, 12).high + 0.1


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_a_quality_page(tmp_path: Path, form: str) -> None:
    with fresh_store(tmp_path / "heedful.db") as few:
        num = FORMS[form].num_completions[0]
        made = [task(form, number, (GOOD, BAD)[:num]) for number in range(24)]
        num_kinds = min(2, len(FORMS[form].examples(made[0][0].completion_ids)))
        put(few, form, made, [
            answer(one, who, FORMS[form].examples(one.completion_ids)[place % num_kinds])
            for number, (one, _) in enumerate(made)
            for who, place in (("ann", number % 2), ("bob", 0), ("cy", 0))
        ])  # fmt: skip
        found = {kind: dict(compute(few, "support", kind).data) for kind in summaries.KINDS}
        data = found["quality"]
        assert data["num_answers"] == 72
        measures = {one["measure"] for one in data["agreement"]}
        assert measures >= ({"raw", "nominal"} if form != "critique" else set())
        json.dumps(found, allow_nan=False)


def test_gold_and_repeats_come_as_counts_and_are_absent_without_them() -> None:
    assert shares_right({}) is None
    assert shares_right({"ann": Tally(hits=0, trials=0)}) is None
    found = shares_right(
        {
            "bob": Tally(hits=3, trials=4),
            "eve": Tally(hits=0, trials=0),
            "ann": Tally(hits=9, trials=10),
        }
    )
    assert found is not None
    assert found.overall.num == 14
    assert found.by_annotator["ann"].value == 0.9


def test_an_unknown_project_is_missing(store: Store) -> None:
    with pytest.raises(MissingError, match="suport"):
        compute(store, "suport", "quality")


@pytest.fixture
def mixed(tmp_path: Path) -> Iterator[Store]:
    """Two votes, and a repeat that is none."""
    with fresh_store(tmp_path / "heedful.db") as store:
        made = [task("pairwise", number) for number in range(2)]
        one, other = (asked for asked, _ in made)
        put(store, "pairwise", made, [
            answer(one, "ann", {"preferred": None}),
            answer(one, "ann", {"preferred": None}, revision=1, kind="repeat"),
            answer(other, "ann", {"preferred": None}),
        ])  # fmt: skip
        yield store


@pytest.mark.parametrize("kind", summaries.KINDS)
def test_a_summary_rests_on_all_that_a_page_counts(mixed: Store, kind: summaries.Kind) -> None:
    compute(mixed, "support", kind)
    with mixed.read() as tx:
        kept = summaries.get(tx, "support", kind)
        num = summaries.count_answers(tx, "support", up_to=SMALL + 1)
        assert num == 3
        assert not is_stale(kept, num, summaries.count_done(tx, "support"), tx.now)


def test_a_summary_of_before_somebody_was_forgotten_is_not_kept(
    mixed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def summarise(tx: Transaction, answers: Answers) -> dict[str, Any]:
        """Names a person until they are forgotten, right after they were read."""
        if people.num_forgotten(tx):
            return {"people": []}
        with mixed.write() as other:
            summaries.delete_all(other)
            people.log(other, "usr_own", people.FORGOT, "gone_1")
        return {"people": ["ann"]}

    monkeypatch.setitem(summaries_of.SUMMARISE, "quality", summarise)  # type: ignore[arg-type]
    assert compute(mixed, "support", "quality").data == {"people": []}
    with mixed.read() as tx:
        kept = summaries.get(tx, "support", "quality")
    assert kept is not None
    assert kept.data == {"people": []}


def rated(offsets: dict[str, float], seed: int = 0) -> tuple[list[Any], list[Annotation]]:
    """Sixty tasks with two answers on two criteria, three of the people on each."""
    rng, people = np.random.default_rng(seed), sorted(offsets)
    tasks, answers = [], []
    for number in range(60):
        one, sides = task("rating", number)
        tasks.append((one, sides))
        for who in rng.choice(people, size=3, replace=False):
            ratings = {
                completion: {
                    criterion: int(np.clip(round(worth + offsets[who] + 0.5 * rng.normal()), 1, 5))
                    for criterion in ("helpful", "honest")
                }
                for completion, worth in zip(one.completion_ids, (3.5, 2.5), strict=True)
            }
            answers.append(answer(one, str(who), {"ratings": ratings}))
    return tasks, answers


def test_who_rates_higher_than_others_is_found_and_the_rest_is_spared(tmp_path: Path):
    offsets = {"ann": 0.1, "bob": 0.0, "cat": -0.1, "dan": 0.0, "eve": 1.2}
    with fresh_store(tmp_path / "quality.db") as store:
        put(store, "rating", *rated(offsets))
        rows = {one["person"]: one for one in compute(store, "support", "quality").data["people"]}
    for who, b in offsets.items():  # the median person's is 0; the scale ends at 5
        level = rows[who]["level"]
        assert level["low"] - 0.1 < b < level["high"] + 0.1
    far = "points above the usual on the same answers"
    flags = {who: row["flags"] for who, row in rows.items() if row["flags"]}
    assert list(flags) == ["eve"]
    assert "by guessing, or because their ratings lie apart" in flags["eve"][0]
    assert far in flags["eve"][1]


def test_levels_count_a_task_once_however_much_it_rates(tmp_path: Path):
    with fresh_store(tmp_path / "quality.db") as store:
        put(store, "rating", *rated(dict.fromkeys("abc", 0.0)))
        with store.read() as tx:
            found = levels(read(tx, "support"))
    assert found is not None
    assert {one.num for one in found.by_annotator.values()} == {60}


def test_levels_equal_least_squares_and_their_intervals_cover_the_planted_ones():
    covered, planted = [], np.array([0.0, 0.0, 0.0, 0.4, -0.6, 1.5, 0.2, -0.2])
    for seed in range(20):
        rng = np.random.default_rng(seed)
        people = np.array([rng.choice(8, size=2, replace=False) for _ in range(240)])
        item, person = np.repeat(np.arange(240), 2), people.ravel()
        points = rng.normal(size=240)[item] + planted[person] + 0.7 * rng.normal(size=480)
        above = above_others(points, item, person)
        design = np.concatenate([np.eye(240)[item], np.eye(8)[person]], axis=1)
        slow = np.linalg.lstsq(design, points, rcond=None)[0][240:]
        means = np.bincount(person, weights=above) / np.bincount(person)
        np.testing.assert_allclose(means - means.mean(), slow - slow.mean(), atol=5e-3)
        names = [str(one) for one in person]
        found = centred(
            rater_offsets(names, above).by_annotator, list("01234567"), np.zeros(8, dtype=int)
        )
        usual = np.median(planted)
        covered += [found[str(k)].low <= b - usual <= found[str(k)].high
                    for k, b in enumerate(planted)]  # fmt: skip
    assert 0.9 <= np.mean(covered) <= 1.0


def test_one_generous_person_does_not_make_the_others_strict(tmp_path: Path):
    with fresh_store(tmp_path / "quality.db") as store:
        put(store, "rating", *rated({"ann": 0.0, "bob": 0.0, "eve": 1.2}))
        rows = {one["person"]: one for one in compute(store, "support", "quality").data["people"]}
    assert [who for who in ["ann", "bob", "eve"] if rows[who]["flags"]] == ["eve"]
    assert abs(rows["ann"]["level"]["value"]) < 0.2


def test_who_guesses_ratings_stands_out_for_both(tmp_path: Path):
    rng = np.random.default_rng(2)
    tasks, answers = [], []
    for number in range(150):
        one, sides = task("rating", number)
        tasks.append((one, sides))
        worth = rng.integers(3, 6, size=2)
        for who in ("ann", "bob", "cat", "gus"):
            said = rng.integers(1, 6, size=2) if who == "gus" else worth
            ratings = {
                completion: {"helpful": int(points)}
                for completion, points in zip(one.completion_ids, said, strict=True)
            }
            answers.append(answer(one, who, {"ratings": ratings}))
    with fresh_store(tmp_path / "quality.db") as store:
        put(store, "rating", tasks, answers)
        rows = {one["person"]: one for one in compute(store, "support", "quality").data["people"]}
    assert any("by guessing, or" in one for one in rows["gus"]["flags"])
    assert any("points below the usual" in one for one in rows["gus"]["flags"])
    assert not any(rows[who]["flags"] for who in ("ann", "bob", "cat"))


def test_people_whom_no_shared_answer_links_are_compared_among_themselves():
    item = np.array([0, 0, 1, 1, 2, 2])
    person = np.array([0, 1, 1, 0, 2, 3])
    group = linked(item, person)
    assert group[0] == group[1] != group[2] == group[3]


def test_nobody_has_a_level_where_nobody_rates_what_others_rate(tmp_path: Path):
    tasks, answers = rated(dict.fromkeys("abc", 0.0))
    alone = list({one.task_id: one for one in answers}.values())
    with fresh_store(tmp_path / "quality.db") as store:
        put(store, "rating", tasks, alone)
        data = compute(store, "support", "quality").data
    assert [one["level"] for one in data["people"]] == [None] * 3
