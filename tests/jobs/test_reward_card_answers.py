"""The card of ratings and thumbs: figures on simulated people, and the card of a data set."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from fresh import fresh_store
from scipy.special import expit

from heedful.cli.evaluate import card_lines
from heedful.config import RewardCardConfig, RewardConfig, resolve
from heedful.data import testing
from heedful.data.collate import Advance, silent
from heedful.data.examples import answer
from heedful.data.snapshot import freeze
from heedful.jobs.fit import FitResult, fit_reward
from heedful.jobs.reward_card import NoPairsError, reward_card
from heedful.jobs.reward_card.answers import measure_answers
from heedful.jobs.reward_card.feedback import singles_of
from heedful.monitor.answer_card import AnswerCard, answer_card_findings, answer_report
from heedful.monitor.answer_figures import AnswerFigures
from heedful.monitor.report import render
from heedful.reward.scorers import Asked, Counts, Rated, Scored
from heedful.store import models as model_table
from heedful.store import runs
from heedful.types import Feedback, Preference, Prompt


def rated(
    number: int, text: str, value: float, *, who: str = "", criterion: str = "helpful"
) -> Feedback:
    scale = "rating" if criterion else "thumb"
    return Feedback(prompt=Prompt.of(f"question {number}"), responses=(answer(text),), scale=scale,
                    values=(value,), criterion=criterion, form=scale, annotator=who)  # fmt: skip


class Known:
    """Scores answers by their text."""

    reads_pairs = False
    counts: Counts = "answers"
    scale = "known"

    def __init__(self, scores: Mapping[str, float]) -> None:
        self.scores = scores

    def score(self, pairs: Sequence[Preference], advance: Advance = silent) -> Scored:
        raise AssertionError(f"no pair is asked about, but {len(pairs)} with {advance}")

    def rate(self, asked: Sequence[Asked], advance: Advance = silent) -> Rated:
        advance(len(asked))
        return Rated(scores={n: self.scores[said[0].content] for n, (_, said) in enumerate(asked)},
                     drops={})  # fmt: skip


def figures_of(
    rows: Sequence[Feedback], scores: Mapping[str, float]
) -> tuple[AnswerFigures, list[str]]:
    notes: list[str] = []
    (found,) = measure_answers(Known(scores), singles_of(rows), 0, notes)
    return found, notes


def test_ratings_by_three_people_have_a_ceiling_that_the_truth_passes_and_noise_does_not() -> None:
    rng = np.random.default_rng(0)
    quality = rng.normal(size=200)
    rows = [
        rated(
            n // 2, f"text {n}", float(np.clip(round(3 + quality[n] + rng.normal()), 1, 5)), who=who
        )
        for n in range(200)
        for who in ("ann", "bob", "cy")
    ]
    truth = {f"text {n}": float(quality[n]) for n in range(200)}
    found, notes = figures_of(rows, truth)
    assert (found.num, found.num_answers, found.num_prompts) == (600, 200, 100)
    assert found.people is not None
    assert found.people.lead is not None
    assert found.people.lead.low > 0
    assert found.concordance.low > 0.6
    assert found.correlations["spearman"].low > found.correlations["kendall"].value - 0.1 > 0.3
    assert found.within is not None
    assert found.within.share.low > 0.6
    assert found.within.share.num + found.within.num_judged_alike == 100
    assert notes == []
    noise = dict(zip(truth, rng.normal(size=200).tolist(), strict=True))
    lost, _ = figures_of(rows, noise)
    assert lost.people is not None
    assert lost.people.lead is not None
    assert lost.people.lead.high < 0
    assert lost.correlations["spearman"].low < 0 < lost.correlations["spearman"].high
    rules = {one.rule for one in answer_card_findings(card_of([lost]))}
    assert {"chance_on_ratings", "below_raters", "no_pairs"} <= rules


def card_of(found: Sequence[AnswerFigures], num_learned: int | None = 0) -> AnswerCard:
    return AnswerCard(model="m", data="d", scale="known", seed=0, num_learned=num_learned,
                      answers=found, without_pair={}, notes=["No topics: few."])  # fmt: skip


def test_thumbs_have_the_area_under_the_curve_and_chances_that_mean_what_they_say() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=1500)
    up = rng.random(1500) < expit(0.5 + 1.5 * scores)
    rows = [rated(n, f"text {n}", float(up[n]), criterion="") for n in range(1500)]
    found, notes = figures_of(rows, {f"text {n}": float(scores[n]) for n in range(1500)})
    assert found.correlations == {}
    above = scores[up][:, None] > scores[~up][None, :]
    assert found.concordance.value == pytest.approx(above.mean())
    assert found.thumbs is not None
    assert found.thumbs.share_up == pytest.approx(up.mean())
    best = -np.mean(np.log(np.where(up, expit(0.5 + 1.5 * scores), expit(-0.5 - 1.5 * scores))))
    assert found.thumbs.measured.nll == pytest.approx(best, abs=0.01)
    assert found.thumbs.measured.nll < found.thumbs.plain_nll
    assert found.thumbs.measured.ece < found.thumbs.measured.ece_floor + 0.03
    assert {note.partition(":")[0] for note in notes} == {
        "No order of thumbs within prompts", "No human ceiling of thumbs",
    }  # fmt: skip
    page = render(answer_report(card_of([found], None)))
    for text in ("Order of rated answers", "Chances of a thumb up", "It is not known whether"):
        assert text in page


def test_thumbs_that_a_score_separates_have_no_curve_and_say_so() -> None:
    rows = [rated(n, f"text {n}", float(n % 2), criterion="") for n in range(60)]
    found, notes = figures_of(rows, {f"text {n}": float(n % 2) for n in range(60)})
    assert found.concordance.value == 1.0
    assert found.thumbs is None
    assert any("chances of a thumb up" in note for note in notes)


def test_equal_scores_have_no_rank_correlation_and_a_page_all_the_same() -> None:
    found, _ = figures_of(ratings(), {f"an answer {n} of {n % 5}": 0.0 for n in range(12)})
    assert found.concordance.value == 0.5
    assert np.isnan(found.correlations["spearman"].value)
    assert "no variation" in render(answer_report(card_of([found])))


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    root = tmp_path_factory.mktemp("reward")
    data = freeze(testing.preferences()[:16], "preference", root).path
    flags = {"data": data, "model": "test"}
    config = resolve(RewardConfig, overrides=["held_out_share=0", "epochs=1"], flags=flags)
    return fit_reward(config, root / "reward")


def ratings(num: int = 12, values: Sequence[float] = (1, 4, 5)) -> list[Feedback]:
    return [
        rated(n, f"an answer {n} of {n % 5}", values[n % len(values)], who=who)
        for n in range(num)
        for who in ("ann", "bob")
    ]


def test_a_data_set_of_ratings_alone_has_a_card_and_evidence(
    reward: FitResult, tmp_path: Path
) -> None:
    store = fresh_store(tmp_path / "store.db")
    rows = [*ratings(), *(rated(20 + n, f"so {n}", n % 2, criterion="") for n in range(8))]
    data = freeze(rows, "feedback", tmp_path).path
    result = reward_card(
        RewardCardConfig(model=reward.run, data=data), tmp_path / "card", store=store
    )
    assert result["accuracy_is"] == "concordance_helpful"
    assert result["accuracy"] == result["concordance_helpful"]
    low, high = result["spearman_helpful_ci"]
    assert low <= result["spearman_helpful"] <= high
    # both people always agree
    assert result["human_spearman_helpful"] == pytest.approx(1.0)
    assert result["num_held_out"] == 24
    assert json.loads((tmp_path / "card" / "result.json").read_text()) == result
    assert "Order of rated answers" in (tmp_path / "card" / "report.html").read_text()
    assert not (tmp_path / "card" / "scores.jsonl").exists()
    said = "\n".join(card_lines(result))
    assert "order of helpful  " in said
    assert "Spearman with helpful" in said
    assert "judgements  24" in said
    with store.read() as tx:
        version = model_table.at_path(tx, str(Path(reward.run).resolve()))
        assert version is not None
        one, other = sorted(runs.evidence_of(tx, version), key=lambda one: one.test)
    assert one.test == "concordance with helpful on held-out data"
    assert one.detail["card"]["order of helpful"]
    assert "card" not in other.detail


def test_a_mixed_set_keeps_its_pairs_and_adds_ratings(reward: FitResult, tmp_path: Path) -> None:
    pairs = [
        Feedback(prompt=row.prompt, responses=(row.chosen, row.rejected), scale="order",
                 values=(0, 1), form="pairwise")
        for row in testing.preferences()[16:]
    ]  # fmt: skip
    data = freeze([*pairs, *ratings()], "feedback", tmp_path).path
    result = reward_card(RewardCardConfig(model=reward.run, data=data), tmp_path / "card")
    assert "accuracy_is" not in result
    assert result["num_held_out"] == len(pairs)
    assert "kendall_helpful" in result
    assert "Order of rated answers" in (tmp_path / "card" / "report.html").read_text()


def flagged(number: int, text: str, severity: float, kind: str = "bias") -> Feedback:
    return Feedback(prompt=Prompt.of(f"question {number}"), responses=(answer(text),), scale="flag",
                    values=(severity,), criterion=kind, form="flags", annotator="ann")  # fmt: skip


def test_flags_alone_have_a_card_of_their_order(reward: FitResult, tmp_path: Path) -> None:
    rows = [flagged(n, f"an answer {n} of {n % 5}", n % 4) for n in range(20)]
    rows += [flagged(n, f"an answer {n} of {n % 5}", 0, "toxic") for n in range(20)]
    data = freeze(rows, "feedback", tmp_path).path
    result = reward_card(RewardCardConfig(model=reward.run, data=data), tmp_path / "card")
    assert result["accuracy_is"] == "concordance_flags_of_bias"
    assert not any("toxic" in name for name in result)  # nobody raised it
    assert result["num_held_out"] == 20
    assert "order of flags of bias" in "\n".join(card_lines(result))
    assert "Ratings, thumbs and flags" in (tmp_path / "card" / "report.html").read_text()


def test_a_reward_that_prefers_what_was_flagged_is_warned_of() -> None:
    rows = [flagged(n, f"text {n}", float(n % 3)) for n in range(60)]
    likes, _ = figures_of(rows, {f"text {n}": float(n % 3) for n in range(60)})
    assert likes.concordance.value == pytest.approx(0.0)
    assert likes.correlations == {}
    rules = {one.rule for one in answer_card_findings(card_of([likes]))}
    assert "prefers_flagged" in rules
    avoids, _ = figures_of(rows, {f"text {n}": -float(n % 3) for n in range(60)})
    assert avoids.concordance.value == pytest.approx(1.0)
    blind, _ = figures_of(rows, {f"text {n}": float(n % 2) for n in range(60)})
    for found in (avoids, blind):
        rules = {one.rule for one in answer_card_findings(card_of([found]))}
        assert not rules & {"prefers_flagged", "chance_on_ratings", "against_ratings"}


def test_flags_come_after_ratings(reward: FitResult, tmp_path: Path) -> None:
    rows = [*ratings(), *(flagged(40 + n, f"so {n}", n % 2) for n in range(20))]
    data = freeze(rows, "feedback", tmp_path).path
    result = reward_card(RewardCardConfig(model=reward.run, data=data), tmp_path / "card")
    assert result["accuracy_is"] == "concordance_helpful"
    assert "concordance_flags_of_bias" in result


def test_nothing_to_measure_is_refused_with_the_reason(reward: FitResult, tmp_path: Path) -> None:
    alike = freeze(ratings(values=[3]), "feedback", tmp_path).path
    with pytest.raises(
        NoPairsError, match=r"24 rated_alike_or_alone; nor ratings, thumbs or flags that"
    ):
        reward_card(RewardCardConfig(model=reward.run, data=alike), tmp_path / "out")
    differ = freeze(ratings(), "feedback", tmp_path).path
    judge = {"url": "http://localhost:1/v1", "ask": "choice"}
    with pytest.raises(NoPairsError, match=r"judge\.ask is 'choice', and such scores compare"):
        reward_card(RewardCardConfig(model="m", data=differ, judge=judge), tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("result.json"))
