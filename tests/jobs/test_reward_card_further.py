"""Every form of feedback on a card, other wordings, writers, and annotators who lean."""

from collections.abc import Sequence

import numpy as np
import pytest

from heedful.data import testing
from heedful.data.collate import Advance, silent
from heedful.data.examples import answer, feedback_trees
from heedful.data.reading import compared
from heedful.jobs.fit.measuring import feedback_metrics
from heedful.jobs.models import ModelRef, open_trunk
from heedful.jobs.reward_card.answers import measure_answers
from heedful.jobs.reward_card.feedback import pairs_of, singles_of
from heedful.jobs.reward_card.measure import About, Further, measure
from heedful.jobs.reward_card.people import Background, side_key
from heedful.jobs.reward_card.rewriting import reworded
from heedful.jobs.reward_card.scoring import score_pairs
from heedful.model.trunk import Trunk
from heedful.monitor.report import render
from heedful.monitor.reward_card import RewardCard, findings
from heedful.monitor.reward_report import reward_report
from heedful.reward.scorers import Counts, Scored, TrainedScorer
from heedful.types import Annotation, Feedback, Preference, Prompt, Scale

ABOUT = About(model="m", data="d", scale="made up", seed=0, num_learned=0)
TEXTS = ("yes", "perhaps", "no", "go away")


def said(
    scale: Scale, values: Sequence[float], number: int = 0, form: str = "", **more: str
) -> Feedback:
    texts = [answer(one) for one in TEXTS[: len(values)]]
    prompt = Prompt.of(f"question {number}")
    return Feedback(prompt=prompt, responses=tuple(texts), scale=scale, values=tuple(values),
                    form=form, annotation_ids=(f"ann_{number}",), **more)  # fmt: skip


def stated(rows: Sequence[Preference]) -> list[tuple[str, str]]:
    return [(row.chosen[0].content, row.rejected[0].content) for row in rows]


MIXED = [
    said("order", [0, 1]),
    said("order", [0, 1, 1, 2], 1),
    said("rating", [5, 2, 2], 2, "rating", criterion="helpful"),
    said("thumb", [1, 0], 3),
    said("thumb", [1, 1, 0], 3),
    said("order", [0, 0], 4),
    said("thumb", [0, 0], 5, "pairwise"),
    said("thumb", [1], 6),
    said("rating", [3], 7, "rating", criterion="helpful"),
]


def test_every_form_gives_the_pairs_that_a_fit_counts_as_its_accuracy() -> None:
    given = pairs_of(MIXED)
    tokenizer = open_trunk(ModelRef(base="test"), dtype="float32").tokenizer
    trees = feedback_trees(tokenizer, MIXED, max_tokens=500).trees
    assert len(given.pairs) == sum(len(compared(tree).pairs) for tree in trees)
    assert {form: given.forms.count(form) for form in given.forms} == {
        "pairwise": 1, "ranking": 5, "rating: helpful": 2, "thumbs": 3,
    }  # fmt: skip
    assert given.without_pair == {
        "tie": 1, "both_bad": 1, "rated_alike_or_alone": 1, "thumbs_alike_or_alone": 1,
    }  # fmt: skip
    by_thumbs = given.pairs[-3:]
    assert stated(by_thumbs) == [("yes", "perhaps"), ("yes", "no"), ("perhaps", "no")]
    assert {row.annotation_ids for row in by_thumbs} == {()}
    assert given.pairs[0].annotation_ids == ("ann_0",)


@pytest.fixture(scope="module")
def trunk() -> Trunk:
    made = open_trunk(ModelRef(base="test"), dtype="float32")
    made.add_adapter("reward", rank=4, alpha=8.0, seed=1)
    made.add_head("reward", std=0.5, seed=0, pooling="mean")
    return made


def test_concordance_is_the_one_that_the_fit_reports(trunk: Trunk) -> None:
    rows = [said("rating", [5, 1 + n % 3, 2], n, "rating", criterion="kind") for n in range(6)]
    rows += [said("thumb", [n % 2], n) for n in range(6)]
    scorer = TrainedScorer(trunk, max_tokens=256)
    found = {one.name: one for one in measure_answers(scorer, singles_of(rows), 3, [])}
    trees = feedback_trees(trunk.tokenizer, rows, max_tokens=256).trees
    expected = feedback_metrics(trunk, trees, 256, seed=3)
    assert set(found) == {"kind", "thumbs"}
    for name, one in found.items():
        order = one.concordance
        assert order.value == pytest.approx(expected[f"concordance_{name}"])
        assert [order.low, order.high] == pytest.approx(expected[f"concordance_{name}_ci"])


class Counting:
    """Scores an answer by one thing that can be counted in it."""

    reads_pairs = False
    counts: Counts = "pairs"
    scale = "counted"

    def __init__(self, what: str) -> None:
        self.what = what

    def score(self, pairs: Sequence[Preference], advance: Advance = silent) -> Scored:
        advance(len(pairs))
        sides = [[row.chosen[0].content.count(self.what), row.rejected[0].content.count(self.what)]
                 for row in pairs]  # fmt: skip
        table = np.array(sides, dtype=float)
        return Scored(
            pairs=tuple(range(len(pairs))), chosen=table[:, :1], rejected=table[:, 1:], drops={}
        )


def test_a_score_that_counts_bold_is_found_out_by_taking_it_away() -> None:
    rows = [
        Preference(
            prompt=Prompt.of(f"q{n}"), chosen=answer("**Yes** it is"), rejected=answer(f"no {n}")
        )
        for n in range(60)
    ]
    notes: list[str] = []
    scorer = Counting("**")
    scored, _ = score_pairs(scorer, rows)
    (one,) = reworded(scorer, rows, scored, notes, num_pairs=40, seed=0)
    assert (one.name, one.kept.value, one.kept.num) == ("no bold, no headings", 0.0, 40)
    assert one.change is not None
    assert (one.change.value, one.typical) == (2.0, 2.0)
    assert any("British spelling" in note for note in notes)
    card = measure(ABOUT, rows, scored, Background(), further=Further(rewordings=[one]))
    (warning,) = [one for one in findings(card) if one.rule == "rewording"]
    assert "no bold, no headings: 0.0 %" in warning.cause
    assert "Consistency under other wordings" in render(reward_report(card))
    assert reworded(scorer, rows, scored, notes, num_pairs=0, seed=0) == []
    fair = Counting("it")
    again = reworded(fair, rows, score_pairs(fair, rows)[0], [], num_pairs=40, seed=0)
    assert [one.kept.value for one in again] == [1.0]


def scored(chosen: Sequence[float], rejected: Sequence[float]) -> Scored:
    first, last = (np.array(side, dtype=float).reshape(-1, 1) for side in (chosen, rejected))
    return Scored(pairs=tuple(range(len(first))), chosen=first, rejected=last, drops={})


def rules(card: RewardCard) -> dict[str, str]:
    return {one.rule: one.cause for one in findings(card)}


def test_answers_that_score_like_none_of_the_fit_are_named_by_their_writer() -> None:
    rows = [
        Preference(prompt=Prompt.of(f"q{n}"), chosen=answer("a"), rejected=answer("b"))
        for n in range(50)
    ]
    writers = {side_key(row.prompt, row.chosen): "mdl_1" for row in rows}
    writers |= {side_key(row.prompt, row.rejected): "mdl_2" for row in rows}
    background = Background(writers=writers, names={"mdl_1": "old", "mdl_2": "new"})
    rng = np.random.default_rng(0)
    known = rng.normal(1.0, 0.5, 50)
    values = scored(known, known - 3)
    further = Further(moments=(1.0, 0.5), learned_writers=frozenset({"mdl_1"}))
    card = measure(ABOUT, rows, values, background, further=further)
    assert [(one.name, one.num, one.is_learned) for one in card.writers] == [
        ("old", 50, True), ("new", 50, False),
    ]  # fmt: skip
    assert card.writers[0].mean == pytest.approx(known.mean())
    assert "of the answers by new score more than two" in rules(card)["off_policy"]
    page = render(reward_report(card))
    assert "Scores by writer" in page
    assert "off_policy" not in rules(measure(ABOUT, rows, values, background))


def test_who_chooses_by_the_side_by_length_or_against_all_is_named() -> None:
    rng = np.random.default_rng(1)
    rows, annotations = [], {}
    people = ("ann", "bob", "first", "long", "odd")
    for n in range(120):
        texts = ["word " * 9 + "good", "bad"] if n % 2 else ["good", "word " * 9 + "bad"]
        order = ("cmp_a", "cmp_b") if rng.random() < 0.5 else ("cmp_b", "cmp_a")
        for who in people:
            likes_good = rng.random() < 0.9
            if who == "first":
                likes_good = order[0] == "cmp_a"
            elif who == "long":
                likes_good = n % 2 == 1
            elif who == "odd":
                likes_good = not likes_good
            key = f"ann_{who}_{n}"
            annotations[key] = Annotation(
                task_id=f"tsk_{n}", annotator=who, source="human", shown_order=order,
                payload={"preferred": "cmp_a" if likes_good else "cmp_b"},
            )  # fmt: skip
            sides = [answer(text) for text in (texts if likes_good else texts[::-1])]
            rows.append(Preference(prompt=Prompt.of(f"q{n}"), chosen=sides[0], rejected=sides[1],
                                   annotation_ids=(key,)))  # fmt: skip
    values = scored(np.ones(len(rows)), np.zeros(len(rows)))
    card = measure(ABOUT, rows, values, Background(said=annotations))
    found = {(one.annotator, one.rule) for one in card.leans}
    assert {("first", "side"), ("long", "length"), ("odd", "alone")} <= found
    assert not {who for who, _ in found} & {"ann", "bob"}
    causes = [one.cause for one in findings(card) if one.rule == "biased_annotator"]
    assert any(cause.startswith("first chooses the answer shown first in 100") for cause in causes)
    few = scored(np.ones(150), np.zeros(150))
    assert not measure(ABOUT, rows[:150], few, Background(said=annotations)).leans


def test_test_pairs_are_feedback_too() -> None:
    rows = [row.as_feedback() for row in testing.preferences()]
    assert [one.chosen for one in pairs_of(rows).pairs] == [
        one.chosen for one in testing.preferences()
    ]
