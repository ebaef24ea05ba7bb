"""What a reward card says of scores whose faults are known, and of real ones."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fresh import fresh_store
from scipy.special import expit

from heedful.config import PreferenceConfig, RewardCardConfig, RewardConfig, resolve
from heedful.data import testing
from heedful.data.collate import Advance, silent
from heedful.data.examples import answer
from heedful.data.snapshot import freeze
from heedful.errors import ConfigError, DataError, MissingError
from heedful.exchange.importing import import_preferences
from heedful.jobs.fit import FitResult, fit_preference, fit_reward
from heedful.jobs.reward_card import reward_card
from heedful.jobs.reward_card.measure import About, Further, measure
from heedful.jobs.reward_card.people import Background, read_background
from heedful.jobs.reward_card.scoring import score_pairs
from heedful.jobs.snapshot import make_snapshot
from heedful.monitor.report import read_report_data, render
from heedful.monitor.reward_card import RewardCard, findings
from heedful.monitor.reward_report import main_figures, reward_report
from heedful.reward.scorers import Counts, Scored
from heedful.stats.intervals import Interval
from heedful.store import Store, annotations, people, runs, tasks
from heedful.store import models as model_table
from heedful.types import Annotation, Feedback, Preference, Prompt, User

ABOUT = About(model="m", data="d", scale="made up", seed=0, num_learned=0)
FLAGS = {"data": "test", "model": "test"}


def pair(number: int, chosen: str = "yes", rejected: str = "no", *ids: str) -> Preference:
    return Preference(
        prompt=Prompt.of(f"question {number}"),
        chosen=answer(chosen),
        rejected=answer(rejected),
        annotation_ids=ids,
    )


def scored(deltas: Sequence[float]) -> Scored:
    gaps = np.asarray(deltas, dtype=float).reshape(len(deltas), -1)
    return Scored(
        pairs=tuple(range(len(gaps))), chosen=gaps / 2, rejected=-gaps / 2, drops={}
    )  # fmt: skip


def rules(card: RewardCard) -> set[str]:
    return {one.rule for one in findings(card)}


def judged(rng: np.random.Generator, num: int, quality: float, length: float) -> list[Preference]:
    """Pairs whose better answer is longer by ``length`` in log-odds."""
    rows = []
    for number in range(num):
        words = rng.integers(3, 30, size=2)
        likes_first = rng.random() < expit(length * np.sign(words[0] - words[1]) + quality)
        texts = [f"{'word ' * n}{side}" for side, n in zip("ab", words, strict=True)]
        rows.append(pair(number, *(texts if likes_first else texts[::-1])))
    return rows


def num_words(row: Preference) -> tuple[int, int]:
    return len(row.chosen[0].content.split()), len(row.rejected[0].content.split())


def test_a_reward_of_length_alone_is_right_until_length_is_matched() -> None:
    rows = judged(np.random.default_rng(0), 400, 0.0, 1.5)
    card = measure(ABOUT, rows, scored([0.3 * (a - b) for a, b in map(num_words, rows)]),
                   Background())  # fmt: skip
    assert card.accuracy.low > 0.7
    assert card.matched is not None
    assert card.matched.accuracy.value == pytest.approx(0.5, abs=0.01)
    assert card.style is not None
    assert card.style.value > 0.7
    assert max(card.correlations, key=lambda name: card.correlations[name].value) == "length"
    assert {"length", "style"} <= rules(card)
    left = card.without_length
    assert left is not None
    assert left.before.low > 0.9
    assert left.after.low < 0 < left.after.high
    assert left.accuracy.value < card.accuracy.value - 0.1
    page = render(reward_report(card))
    assert "less a curve of length" in page


def test_a_reward_of_quality_is_not_accused_of_length() -> None:
    rng = np.random.default_rng(1)
    rows = judged(rng, 400, 0.0, 0.0)
    card = measure(ABOUT, rows, scored(rng.normal(1.0, 1.0, 400)), Background())
    assert card.matched is not None
    assert card.matched.accuracy.value == pytest.approx(card.accuracy.value, abs=0.03)
    assert not {"length", "style", "chance", "few_pairs"} & rules(card)
    assert card.without_length is not None
    assert card.without_length.accuracy.value == pytest.approx(card.accuracy.value, abs=0.02)


def test_scores_of_log_length_alone_keep_no_order_but_rounding() -> None:
    rows = judged(np.random.default_rng(0), 400, 0.0, 1.5)
    deltas = [float(np.log1p(a) - np.log1p(b)) for a, b in map(num_words, rows)]
    sides = np.array([[np.log1p(n) for n in num_words(row)] for row in rows])
    of_length = replace(scored(deltas), chosen=sides[:, :1], rejected=sides[:, 1:])
    left = measure(ABOUT, rows, of_length, Background()).without_length
    assert left is not None
    assert left.accuracy.value == 0.5


def test_verdicts_on_pairs_stay_those_of_each_pair_without_length() -> None:
    """A judge of pairs gives the middle of three answers one score as winner, one as loser."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(100):
        best, middle, worst = (f"{'word ' * n}{name}" for n, name in zip(
            rng.integers(3, 30, size=3), "abc", strict=True))  # fmt: skip
        rows += [pair(number, best, middle), pair(number, best, worst), pair(number, middle, worst)]
    card = measure(ABOUT, rows, scored([1.0] * 300), Background())
    assert card.accuracy.value == 1
    assert card.without_length is not None
    assert card.without_length.accuracy.value > 0.98


def test_the_temperatures_of_two_halves_mend_each_other_and_leave_accuracy() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(0.0, 1.5, 2000)
    sign = np.where(rng.random(2000) < expit(truth), 1, -1)  # the chosen side is first
    rows = [pair(number) for number in range(2000)]
    card = measure(ABOUT, rows, scored(3 * truth * sign), Background())
    kept = card.scaling
    assert kept is not None
    assert kept.temperature == pytest.approx(3, abs=0.3)
    assert kept.halves == pytest.approx((3, 3), abs=0.4)
    assert kept.halves[0] != kept.halves[1]
    assert min(kept.halves) < kept.temperature < max(kept.halves)
    assert kept.after.accuracy == card.accuracy
    assert card.measured.ece > 0.1
    assert kept.after.ece < kept.after.ece_floor + 0.02
    assert kept.after.nll < card.measured.nll
    assert "calibration" not in rules(card)


def test_equal_scores_are_counted_and_said() -> None:
    deltas = np.where(np.arange(200) % 4 == 0, 0.0, np.random.default_rng(0).normal(1, 1, 200))
    card = measure(ABOUT, [pair(n) for n in range(200)], scored(deltas), Background())
    assert card.num_alike == 50
    said = next(one for one in findings(card) if one.rule == "scored_alike")
    assert said.cause.startswith("50 of 200 pairs have the same score on both sides")


def test_a_model_that_is_surely_worse_than_a_coin_is_not_called_chance() -> None:
    deltas = np.random.default_rng(0).normal(-1, 1, 200)
    card = measure(ABOUT, [pair(n) for n in range(200)], scored(deltas), Background())
    assert "below_chance" in rules(card)
    assert "chance" not in rules(card)
    assert findings(card)[0].rule == "below_chance"


def test_a_model_that_is_always_right_has_no_temperature_and_says_so() -> None:
    card = measure(ABOUT, [pair(n) for n in range(60)], scored(np.ones(60)), Background())
    assert card.scaling is None
    assert any(note.startswith("No temperature: all pairs are ranked") for note in card.notes)
    assert card.mistakes == []
    assert "few_pairs" in rules(card)


def test_one_prompt_cannot_be_split_and_is_measured_all_the_same() -> None:
    rows = [pair(0, f"a{n}", f"b{n}") for n in range(3)]
    card = measure(ABOUT, rows, scored([1.0, 2.0, -1.0]), Background())
    assert card.scaling is None
    assert card.accuracy.value == pytest.approx(2 / 3)
    assert any("cannot be split" in note for note in card.notes)
    render(reward_report(card))


def test_the_slices_of_a_kind_hold_every_pair_once() -> None:
    rng = np.random.default_rng(3)
    rows = judged(rng, 200, 0.0, 0.0)
    long = replace(rows[0], prompt=Prompt(messages=rows[0].prompt.messages * 3))
    rows[0] = long
    card = measure(ABOUT, rows, scored(rng.normal(0.5, 1.0, 200)), Background())
    kinds = {one.kind for one in card.slices}
    assert {"longer answer", "length", "turns", "topic"} >= kinds
    assert {"longer answer", "length", "turns"} <= kinds
    for kind in kinds:
        assert sum(s.measured.accuracy.num for s in card.slices if s.kind == kind) == 200
    turns = [(s.name, s.measured.accuracy.num) for s in card.slices if s.kind == "turns"]
    assert turns == [("1 turn", 199), ("3 turns", 1)]
    lengths = [s.name for s in card.slices if s.kind == "length"]
    assert [name.split()[0] for name in lengths][::2] == ["up", "above"]
    (few,) = [one for one in findings(card) if one.rule == "few_in_slice"]
    assert "turns: 3 turns (1 pairs" in few.cause
    assert any(note.startswith("No slices by source") for note in card.notes)


def test_a_slice_where_the_model_fails_is_named() -> None:
    rows = judged(np.random.default_rng(4), 300, 0.0, 0.0)
    gaps = [1.0 if a <= b or n % 3 == 0 else -1.0 for n, (a, b) in enumerate(map(num_words, rows))]
    (weak,) = [
        one
        for one in findings(measure(ABOUT, rows, scored(gaps), Background()))
        if one.rule == "weak_slice"
    ]
    assert "longer answer: chosen" in weak.cause
    assert "longer answer: rejected" not in weak.cause


def test_the_surest_mistake_stands_first_and_once() -> None:
    rows = [pair(0), pair(1, "good", "bad", "a"), pair(1, "good", "bad", "b"), pair(2)]
    card = measure(ABOUT, rows, scored([1.0, -2.0, -2.0, -0.5]), Background())
    assert [one.prompt for one in card.mistakes] == ["question 1", "question 2"]
    first = card.mistakes[0]
    assert (first.chosen, first.rejected, first.annotations) == ("good", "bad", ("a",))
    assert first.confidence == pytest.approx(expit(2.0))


def test_pairs_judged_both_ways_are_counted() -> None:
    rows = [pair(0, "a", "b"), pair(0, "b", "a"), pair(1, "a", "b"), pair(1, "a", "b")]
    card = measure(ABOUT, rows, scored([1.0, -1.0, 1.0, 1.0]), Background())
    assert card.num_contradicted == 1
    assert "contradicted" in rules(card)


def test_members_that_disagree_on_errors_are_certified_and_others_are_not() -> None:
    rng = np.random.default_rng(5)
    rows = [pair(n) for n in range(400)]
    mean = rng.normal(1.0, 1.0, 400)
    honest = mean[:, None] + np.where(mean < 0, 1.0, 0.1)[:, None] * [1, -1]
    card = measure(ABOUT, rows, scored(honest), Background())
    assert card.doubt is not None
    assert (card.doubt.num_members, card.doubt.detection.value) == (2, 1.0)
    assert "uncertainty" not in rules(card)
    agreed, *_, disputed = card.doubt.bins
    assert agreed.high < disputed.low
    assert (agreed.error.value, disputed.error.value) == (0.0, 1.0)
    assert sum(one.error.num for one in card.doubt.bins) == 400
    blind = mean[:, None] + rng.random(400)[:, None] * [1, -1]
    assert "uncertainty" in rules(measure(ABOUT, rows, scored(blind), Background()))
    one = measure(ABOUT, rows, scored(mean), Background())
    assert one.doubt is None
    assert any(note.startswith("No uncertainty against error: the model has one") for note in
               one.notes)  # fmt: skip


class PreferFirst:
    """A judge that reads both sides and likes the first one, but for every fifth pair."""

    reads_pairs = True
    counts: Counts = "pairs"
    scale = "judge"

    def score(self, pairs: Sequence[Preference], advance: Advance = silent) -> Scored:
        advance(len(pairs))
        fair = [n % 5 == 0 and (1.0 if row.chosen[0].content == "yes" else -1.0)
                for n, row in enumerate(pairs)]  # fmt: skip
        return scored([one or 1.0 for one in fair])


def test_a_judge_that_follows_the_order_is_found_out() -> None:
    rows = [pair(number) for number in range(100)]
    plain, orders = score_pairs(PreferFirst(), rows)
    card = measure(ABOUT, rows, plain, Background(), further=Further(orders=orders))
    assert card.swap is not None
    assert card.accuracy.value == pytest.approx(0.6)  # its liking for the first place is averaged
    assert card.swap.value == pytest.approx(0.2)
    assert "swap" in rules(card)
    assert "Swap consistency" in render(reward_report(card))
    alone = measure(ABOUT, rows, plain, Background())
    assert alone.swap is None
    assert any(note.startswith("No swap consistency: every answer") for note in alone.notes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with fresh_store(tmp_path / "s.db") as opened:
        yield opened


def crowd(path: Path, num: int = 60) -> Path:
    """Three people about each pair: the first two say 1, the third 2 on every third pair."""
    lines = ["prompt,answer_1,answer_2,judgement,annotator"]
    for n in range(num):
        said = {"ann": 1, "bob": 1, "cid": 2 if n % 3 == 0 else 1}
        lines += [f"question {n},yes {n},no {n},{one},{who}" for who, one in said.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def rows_of(store: Store, dataset: str, directory: Path) -> list[Preference]:
    from heedful.data.snapshot import read_snapshot

    rows = read_snapshot(make_snapshot(store, dataset, "preference", directory).path)
    return [row for row in rows if isinstance(row, Preference)]


def test_the_human_ceiling_is_that_of_people_who_judged_the_same_pairs(
    store: Store, tmp_path: Path
) -> None:
    import_preferences(store, "csv", [crowd(tmp_path / "c.csv")], dataset="crowd")
    with store.write() as tx:
        people.add(tx, User(id="ann", name="Ann", role="annotator", attributes={"field": "law"}))
        people.add(tx, User(id="bob", name="Bob", role="annotator", attributes={"field": "art"}))
    rows = rows_of(store, "crowd", tmp_path)
    likes_yes = [1.0 if row.chosen[0].content.startswith("yes") else -1.0 for row in rows]
    card = measure(ABOUT, rows, scored(likes_yes), read_background(store, rows))
    found = card.people
    assert found is not None
    assert found.ceiling is not None
    assert found.ceiling.lead is not None
    # of 9 answers to three pairs, 6 have agreeing others; on the odd pair two see a tie, one 0
    assert found.ceiling.human.value == pytest.approx((6 + 0.5 + 0.5) / 9)
    assert found.ceiling.model is not None
    assert found.ceiling.model.value == pytest.approx((6 + 0.5 + 0.5 + 1) / 9)
    assert found.agreement.value == pytest.approx((1 + 1 + 1 / 3) / 3)
    assert found.best_low.value <= found.best_high.value
    assert found.majority is not None
    assert (found.majority.value, found.majority.num) == (1.0, 60)
    assert card.accuracy.value == pytest.approx(8 / 9)
    groups = {s.name: s.measured.accuracy for s in card.slices if s.kind == "annotators by field"}
    assert {name: one.num for name, one in groups.items()} == {
        "law": 60,
        "art": 60,
        "not known": 60,
    }
    assert groups["not known"].value == pytest.approx(2 / 3)


def test_without_overlap_the_ceiling_comes_from_who_was_asked_twice(
    store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "one.csv"
    lines = [f"question {n},yes {n},no {n},1,ann" for n in range(20)]
    file.write_text("\n".join(["prompt,answer_1,answer_2,judgement,annotator", *lines]) + "\n")
    import_preferences(store, "csv", [file], dataset="one")
    rows = rows_of(store, "one", tmp_path)
    bare = measure(ABOUT, rows, scored(np.ones(20)), read_background(store, rows))
    assert bare.people is None
    assert any(note.startswith("No human ceiling") for note in bare.notes)
    with store.write() as tx:
        asked = tasks.by_dataset(tx, "one")[:10]
        repeats = []
        for n, one in enumerate(asked):
            (said,) = one.annotations
            other = next(c for c in one.task.completion_ids if c != said.payload["preferred"])
            again = said.payload["preferred"] if n < 8 else other
            repeats.append(
                Annotation(
                    task_id=one.task.id, annotator="ann", source="human", kind="repeat",
                    payload={"preferred": again}, shown_order=said.shown_order, revision=1,
                )
            )  # fmt: skip
        annotations.add(tx, repeats)
    found = measure(ABOUT, rows, scored(np.ones(20)), read_background(store, rows)).people
    assert found is not None
    assert (found.agreement.value, found.agreement.num) == (0.8, 10)
    assert found.best_low.value == 0.8
    assert found.best_high.value == pytest.approx((1 + 0.6**0.5) / 2)
    assert found.ceiling is None


def test_the_report_shows_every_figure_of_the_card(store: Store, tmp_path: Path) -> None:
    import_preferences(store, "csv", [crowd(tmp_path / "c.csv")], dataset="crowd")
    with store.write() as tx:
        people.add(tx, User(id="ann", name="Ann", role="annotator", attributes={"field": "law"}))
    rows = rows_of(store, "crowd", tmp_path)
    rng = np.random.default_rng(6)
    card = measure(
        replace(ABOUT, num_learned=7), rows, scored(rng.normal(0.6, 1, (180, 3))),
        read_background(store, rows),
    )  # fmt: skip
    page = render(reward_report(card))
    for text in (
        "Accuracy beside the agreement of people", "Reliability, as scored",
        "Reliability, after scaling", "What the score goes with", "Accuracy by slice",
        "Uncertainty against error", "Errors by uncertainty", "Mistakes", "What it does not say",
        "7 pairs were left out",
    ):  # fmt: skip
        assert text in page, text
    assert not re.search(r"\bnan\b", re.sub(r'base64,[^"]*', "", page), re.IGNORECASE)
    (tmp_path / "report.html").write_text(page)
    data = read_report_data(tmp_path / "report.html")
    for name in ("Reliability, as scored", "Reliability, after scaling"):
        assert sum(row["pairs"] for row in data[name]) == 180
    assert main_figures(card)["pairs"] == "180"


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    """A reward model of the first half of the test pairs."""
    root = tmp_path_factory.mktemp("reward")
    data = freeze(testing.preferences()[:16], "preference", root).path
    overrides = ["held_out_share=0", "epochs=2"]
    config = resolve(RewardConfig, overrides=overrides, flags=FLAGS | {"data": data})
    return fit_reward(config, root / "reward")


def unseen(directory: Path, first: int = 16) -> str:
    return freeze(testing.preferences()[first:], "preference", directory).path


def test_a_card_is_a_page_a_result_and_evidence_of_the_model(
    reward: FitResult, store: Store, tmp_path: Path
) -> None:
    config = RewardCardConfig(model=reward.run, data=unseen(tmp_path, 12))
    result = reward_card(config, tmp_path / "card", store=store)
    assert (result["num_held_out"], result["num_learned"]) == (16, 4)
    assert json.loads((tmp_path / "card" / "result.json").read_text()) == result
    assert "4 pairs were left out" in (tmp_path / "card" / "report.html").read_text()
    lines = (tmp_path / "card" / "scores.jsonl").read_text().splitlines()
    pairs = [json.loads(line) for line in lines]
    right = sum(one["chosen"][0] > one["rejected"][0] for one in pairs)
    assert result["accuracy"] == pytest.approx(right / 16)
    assert {one["prompt"] for one in pairs} == {row.id for row in testing.prompts()[16:]}
    with store.read() as tx:
        version = model_table.at_path(tx, str(Path(reward.run).resolve()))
        assert version is not None
        evidence = runs.evidence_of(tx, version)
        (run,) = runs.list_all(tx)
    accuracy = next(one for one in evidence if one.test == "accuracy on held-out data")
    assert (accuracy.value, accuracy.num) == (result["accuracy"], 16)
    assert accuracy.detail["card"]["pairs"] == "16"
    assert accuracy.detail["run"] == run.id
    assert (run.kind, run.status) == ("reward_card", "finished")
    assert reward_card(config, tmp_path / "card", store=store) == result


def test_prompts_that_are_nearly_learned_are_counted_and_accuracy_is_told_without_them(
    store: Store, tmp_path: Path
) -> None:
    def write(name: str, asked: Sequence[str]) -> None:
        rows = [f"{one},yes,no,{1 if n % 3 else 2},ann" for n, one in enumerate(asked)]
        file = tmp_path / f"{name}.csv"
        file.write_text("\n".join(["prompt,answer_1,answer_2,judgement,annotator", *rows, ""]))
        import_preferences(store, "csv", [file], dataset=name)

    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 9)) for _ in range(200)]
    learned, new = (
        [f"{first} " + " ".join(words[5 * n : 5 * n + 5]) for n in range(place, place + 20)]
        for first, place in (("where", 0), ("whence", 20))
    )
    write("taught", learned)
    asked = [*new[:12], *(f"{one.upper()}?" for one in learned[12:])]
    write("asked", asked)
    flags = {"data": "taught", "backbone": "features"}
    config = resolve(RewardConfig, overrides=["held_out_share=0"], flags=flags)
    fitted = fit_reward(config, tmp_path / "reward", store=store)
    config = RewardCardConfig(model=fitted.run, data="asked")
    result = reward_card(config, tmp_path / "card", store=store)
    assert (result["num_learned"], result["num_held_out"]) == (0, 20)
    assert result["num_nearly_learned"] == 8
    yes = np.array([n % 3 > 0 for n in range(20)])
    right = yes if result["accuracy"] > 0.5 else ~yes  # all answers are the same two
    assert result["accuracy"] == pytest.approx(right.mean())
    assert result["card"]["near"]["apart"]["value"] == pytest.approx(right[:12].mean())
    said = next(one for one in result["warnings"] if one["rule"] == "near_leakage")
    assert said["cause"].startswith("8 of 20 pairs have a prompt that is nearly equal to one that")
    data = make_snapshot(store, "asked", "preference", tmp_path).path
    away = reward_card(RewardCardConfig(model=fitted.run, data=data), tmp_path / "away")
    assert "num_nearly_learned" not in away
    thumbs = [
        Feedback(prompt=Prompt.of(one), responses=(answer("yes"),), scale="thumb", values=(n % 2,))
        for n, one in enumerate(asked)
    ]
    data = freeze(thumbs, "feedback", tmp_path).path
    alone = reward_card(
        RewardCardConfig(model=fitted.run, data=data), tmp_path / "alone", store=store
    )
    assert (alone["accuracy_is"], alone["num_nearly_learned"]) == ("concordance_thumbs", 8)
    assert "near_leakage" in {one["rule"] for one in alone["warnings"]}


def test_two_cards_of_one_seed_are_alike(reward: FitResult, tmp_path: Path) -> None:
    config = RewardCardConfig(model=reward.run, data=unseen(tmp_path))
    assert reward_card(config, tmp_path / "a") == reward_card(config, tmp_path / "b")


def test_a_file_is_measured_and_not_imported(
    reward: FitResult, store: Store, tmp_path: Path
) -> None:
    file = crowd(tmp_path / "crowd.csv", 10)
    with file.open("a") as stream:
        stream.write("question 0,yes 0,no 0,tie,dan\nquestion 1,yes 1,no 1,mine,eve\n")
    config = RewardCardConfig(model=reward.run, data=str(file), format="csv")
    result = reward_card(config, tmp_path / "card", store=store)
    assert result["num_held_out"] == 30
    assert result["num_prompts"] == 10
    assert result["without_pair"] == {"tie": 1, "wrong_judgement": 1}
    assert "no pair: wrong judgement" in (tmp_path / "card" / "report.html").read_text()
    assert result["human_accuracy"] is not None
    with store.read() as tx:
        from heedful.store import datasets

        assert not datasets.exists(tx, "crowd")


def test_the_subsets_of_a_file_are_slices_and_their_mean_stands_beside_the_accuracy(
    reward: FitResult, tmp_path: Path
) -> None:
    sizes = {"safety": 6, "chat": 3, "maths": 1}
    asked = [name for name, num in sizes.items() for _ in range(num)]
    rows = [
        {"prompt": f"question {n}", "chosen": f"yes {n}", "rejected": f"no {n}", "subset": name}
        for n, name in enumerate(asked)
    ]
    file = tmp_path / "bench.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    config = RewardCardConfig(model=reward.run, data=str(file), format="trl")
    result = reward_card(config, tmp_path / "card")
    found = {
        one["name"]: one["measured"]["accuracy"]
        for one in result["card"]["slices"]
        if one["kind"] == "subset"
    }
    assert {name: one["num"] for name, one in found.items()} == sizes
    lines = (tmp_path / "card" / "scores.jsonl").read_text().splitlines()
    right = [(np.sign(json.loads(line)["delta"]) + 1) / 2 for line in lines]
    for name, one in found.items():
        assert one["value"] == np.mean([right[n] for n in range(10) if asked[n] == name])
    assert result["mean_of_subsets"] == pytest.approx(np.mean([o["value"] for o in found.values()]))
    assert "mean of subsets" in (tmp_path / "card" / "report.html").read_text()
    del rows[0]["subset"]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    partly = reward_card(config, tmp_path / "partly")
    assert "mean_of_subsets" not in partly
    assert any(one["kind"] == "large subsets" for one in partly["card"]["slices"])


def test_a_policy_is_measured_by_the_reward_that_it_implies(tmp_path: Path) -> None:
    overrides = ["held_out_share=0", "epochs=4", "optimiser.learning_rate=1e-2"]
    data = freeze(testing.preferences()[:16], "preference", tmp_path).path
    flags = FLAGS | {"data": data}
    policy = fit_preference(
        resolve(PreferenceConfig, overrides=overrides, flags=flags), tmp_path / "dpo"
    )
    given = {"model": policy.run, "data": unseen(tmp_path)}
    one = reward_card(RewardCardConfig(**given, beta=0.1), tmp_path / "a")
    ten = reward_card(RewardCardConfig(**given, beta=1.0), tmp_path / "b")
    assert one["accuracy"] == ten["accuracy"] > 0.9
    deltas = [
        [line["chosen"][0] - line["rejected"][0]
         for line in map(json.loads, (tmp_path / name / "scores.jsonl").read_text().splitlines())]
        for name in "ab"
    ]  # fmt: skip
    assert np.allclose(10 * np.array(deltas[0]), deltas[1], atol=1e-4)
    with pytest.raises(DataError, match=r"is a policy and no reward model.*--beta"):
        reward_card(RewardCardConfig(**given), tmp_path / "c")


def test_what_is_no_reward_or_no_pair_is_refused_in_one_line(
    reward: FitResult, store: Store, tmp_path: Path
) -> None:
    def measured(**settings: object) -> None:
        given = {"model": reward.run, "data": unseen(tmp_path)} | settings
        reward_card(RewardCardConfig(**given), tmp_path / "out", store=store)

    with pytest.raises(DataError, match="test is no reward model"):
        measured(model="test")
    with pytest.raises(DataError, match=r"is a reward model and beta is 0\.1"):
        measured(beta=0.1)
    with pytest.raises(MissingError, match="'nosuch' is not in the store"):
        measured(data="nosuch")
    with pytest.raises(DataError, match=r"pairs\.csv is a file; say how it is written"):
        measured(data=str(crowd(tmp_path / "pairs.csv")))
    with pytest.raises(ConfigError, match="did you mean 'csv'"):
        measured(data=str(tmp_path / "pairs.csv"), format="cvs")
    with pytest.raises(MissingError, match=r"gone\.csv does not exist"):
        measured(data="gone.csv", format="csv")
    prompts = freeze(testing.prompts(), "prompt", tmp_path).path
    with pytest.raises(DataError, match="has prompt rows"):
        measured(data=prompts)
    learned = freeze(testing.preferences()[:3], "preference", tmp_path).path
    with pytest.raises(DataError, match="fitted to the prompts of all 3 rows"):
        measured(data=learned)
    alike = freeze([pair(1, "same", "same"), pair(2, "so", "so")], "preference", tmp_path).path
    with pytest.raises(DataError, match=r"none of 2 pairs can be scored.*identical_sides: 2"):
        measured(data=alike)
    assert not (tmp_path / "out" / "result.json").exists()


def test_pairs_with_equal_sides_are_counted_and_left_out(reward: FitResult, tmp_path: Path) -> None:
    rows = [*testing.preferences()[16:], pair(1, "same", "same")]
    data = freeze(rows, "preference", tmp_path).path
    result = reward_card(RewardCardConfig(model=reward.run, data=data), tmp_path / "card")
    assert (result["num_held_out"], result["drops"]) == (16, {"identical_sides": 1})


def test_length_is_not_blamed_where_accuracy_without_it_is_as_high() -> None:
    rows = judged(np.random.default_rng(5), 16, 0.0, 0.0)
    card = measure(ABOUT, rows, scored([1.0] * 13 + [-1.0] * 3), Background())
    assert card.matched is not None
    assert card.accuracy.low > 0.5
    for value, is_blamed in ((0.9, False), (card.accuracy.value, False), (0.5, True)):
        found = Interval(value=value, low=0.4, high=1.0, num=16)
        one = replace(card, matched=replace(card.matched, accuracy=found))
        assert ("length" in rules(one)) == is_blamed


def test_a_pair_that_was_rated_by_several_criteria_is_one_mistake() -> None:
    rows = [pair(0), pair(1, "good", "bad"), pair(1, "good", "bad")]
    forms = ["rating: helpful", "rating: helpful", "rating: polite"]
    card = measure(
        ABOUT, rows, scored([1.0, -2.0, -2.0]), Background(), further=Further(forms=forms)
    )
    assert [one.prompt for one in card.mistakes] == ["question 1"]


def test_features_of_style_are_not_fitted_to_a_handful_of_answers() -> None:
    rng = np.random.default_rng(0)
    texts = ["Sorry! I can not.", "- one\n- two", "Why? 3 things, and **more** of them.", "fine"]
    rows = [pair(n, f"{texts[n % 4]} {n}", texts[(n + 1) % 4]) for n in range(60)]
    few, many = (
        measure(ABOUT, rows[:num], scored(rng.normal(size=num)), Background()) for num in (8, 60)
    )
    assert few.style is None
    assert any(note.startswith("No share of style: 16 answers of 8 prompts") for note in few.notes)
    assert many.style is not None
