"""Offsets of raters: the likelihood written out, planted ones found again, what they mend."""

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime, minimize_scalar
from scipy.special import expit
from scipy.stats import spearmanr

from heedful.config import RewardLoss
from heedful.data.collate import Said, Tree, collate
from heedful.data.reading import learned, plan_reading
from heedful.errors import ConfigError, DataError
from heedful.maths.judgements import offset_prior
from heedful.tensors import Batch, Outputs
from heedful.train import raters
from heedful.train.links import new_links
from heedful.train.objectives import feedback_reward

CPU = torch.device("cpu")
OFFSETS = RewardLoss(rater_offsets=True)
THRESHOLDS = np.array([-2.0, -0.5, 0.6, 1.9])  # of a rating from 1 to 5, with mean 0


def tree(number: int, *given: tuple[int, int, float], criterion: str = "kind") -> Tree:
    """A prompt with the ratings (annotator, response, value)."""
    return Tree(
        id=str(number),
        prompt=(1,),
        responses=((2,), (3,)),
        said=tuple(
            Said(
                scale="rating",
                responses=(response,),
                values=(value,),
                criterion=criterion,
                annotator=annotator,
            )
            for annotator, response, value in given
        ),
    )


TREES = [
    tree(0, (4, 0, 1.0), (9, 0, 3.0), (4, 1, 2.0)),
    tree(1, (9, 0, 2.0), (9, 1, 1.0), (7, 1, 3.0)),
]
RATINGS = [(0, 0, 0), (0, 2, 2), (1, 0, 1), (2, 2, 1), (3, 2, 0), (3, 1, 2)]  # row, who, class
NUM = np.array([2, 1, 3])  # ratings of annotators 4, 7 and 9


def batch_of(trees: list[Tree], loss: RewardLoss = OFFSETS) -> Batch:
    reading = plan_reading(loss, trees)
    return collate([one for given in trees if (one := learned(given, reading))], CPU)


def by_hand(at: np.ndarray) -> float:
    """Minus the log likelihood and prior at scores, offsets, log slope, shift and one gap."""
    scores, offsets, log_slope, shift, gap = at[:4], at[4:7], *at[7:]
    width = np.log1p(np.exp(gap))
    ends = np.array([-np.inf, -width / 2 - shift, width / 2 - shift, np.inf])
    total = (offsets**2).sum() / 2
    for row, who, place in RATINGS:
        lead = ends - (scores[row] * np.exp(log_slope) + offsets[who])
        total -= np.log(expit(lead[place + 1]) - expit(lead[place]))
    return float(total)


def test_the_objective_is_likelihood_and_prior_written_out_and_so_is_its_gradient() -> None:
    at = np.array([0.4, -0.3, 1.1, 0.2, 0.5, -1.0, 0.3, 0.2, -0.1, 0.7])
    values = torch.tensor(at, requires_grad=True)
    links = {
        "rating/kind/offsets": values[4:7],
        "rating/kind/log_slope": values[7],
        "rating/kind/shift": values[8],
        "rating/kind/gaps": values[9:],
    }
    outputs = Outputs(scores=values[:4], links=links)
    total, metrics = feedback_reward(OFFSETS)(outputs, batch_of(TREES))
    total.backward()
    assert total.item() == pytest.approx(by_hand(at), rel=1e-6)
    numeric = approx_fprime(at, by_hand, 1e-6)
    np.testing.assert_allclose(values.grad, numeric, atol=1e-5)
    assert "reward/rater_prior_loss" in metrics


def test_every_rating_knows_its_annotator_by_number_and_shares_sum_to_one() -> None:
    marks = batch_of(TREES).ratings["kind"]
    assert marks.judges is not None
    assert marks.judges.skills.tolist() == [who for _, who, _ in RATINGS]
    shares = torch.zeros(3).index_add(0, marks.judges.skills, marks.judges.shares)
    np.testing.assert_allclose(shares, 1.0, atol=1e-6)
    assert new_links(OFFSETS, plan_reading(OFFSETS, TREES))["rating/kind/offsets"].shape == (3,)


def test_without_offsets_batches_know_nobody() -> None:
    assert batch_of(TREES, RewardLoss()).ratings["kind"].judges is None
    assert "rating/kind/offsets" not in new_links(RewardLoss(), plan_reading(RewardLoss(), TREES))


def test_the_prior_is_half_the_squared_deviations() -> None:
    found = offset_prior(torch.tensor([0.0, 1.0, -3.0]), spread=2.0)
    assert found.tolist() == pytest.approx([0.0, 0.125, 1.125])
    with pytest.raises(ValueError, match="must be above 0"):
        offset_prior(torch.zeros(1), spread=0.0)


def rated(rng: np.random.Generator, scores: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Classes 0 to 4 of simulated raters, who add their offsets to the scores."""
    below = expit(THRESHOLDS - (scores + offsets)[:, None])
    return (rng.random(len(scores))[:, None] > below).sum(axis=1)


def losses_of(scores: np.ndarray, classes: np.ndarray):  # type: ignore[no-untyped-def]
    from heedful.maths.judgements import ordinal

    given, said = torch.tensor(scores), torch.tensor(classes)
    return lambda own: ordinal(given + own, said, torch.tensor(THRESHOLDS))


def test_planted_offsets_are_found_again_and_intervals_cover_them() -> None:
    """Drawn from the prior, so an interval is one of the posterior and covers 95 in 100."""
    covered, num_people, found_all, truth_all = 0, 40, [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=num_people)
        who = np.repeat(np.arange(num_people), 60)
        scores = rng.normal(size=len(who))
        classes = rated(rng, scores, truth[who])
        found = raters.fitted_offsets(
            losses_of(scores, classes),
            torch.tensor(who),
            torch.ones(len(who), dtype=torch.float64),
            num_annotators=num_people,
        )
        covered += sum(one.low <= b <= one.high for one, b in zip(found, truth, strict=True))
        found_all += [one.value for one in found]
        truth_all += truth.tolist()
        assert {one.num for one in found} == {60}
    assert np.corrcoef(found_all, truth_all)[0, 1] > 0.95
    assert 0.9 <= covered / len(truth_all) <= 0.99


def test_an_offset_is_the_minimum_that_a_line_search_finds() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=9)
    classes = rated(rng, scores, np.full(9, -1.5))
    at = losses_of(scores, classes)
    (found,) = raters.fitted_offsets(
        at, torch.zeros(9, dtype=torch.long), torch.ones(9, dtype=torch.float64), num_annotators=1
    )
    peer = minimize_scalar(
        lambda b: float(at(torch.full((9,), b, dtype=torch.float64)).sum()) + b**2 / 2,
        bounds=(-5, 5),
        options={"xatol": 1e-10},
        method="bounded",
    )
    assert found.value == pytest.approx(peer.x, abs=1e-6)


def test_somebody_who_always_says_the_most_has_a_finite_offset() -> None:
    at = losses_of(np.zeros(500), np.full(500, 4))
    (found,) = raters.fitted_offsets(
        at, torch.zeros(500, dtype=torch.long), torch.ones(500, dtype=torch.float64),
        num_annotators=1,
    )  # fmt: skip
    assert 3 < found.low < found.high < 12


@pytest.mark.parametrize("seed", range(3))
def test_strict_raters_of_good_answers_hide_quality_until_their_offsets_are_learned(
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    num = 120
    quality = rng.normal(size=2 * num)
    trees = []
    for n in range(num):
        given = []
        for response in (0, 1):
            good = quality[2 * n + response] > 0
            # most good answers go to the strict rater, most bad ones to the mild one
            people = {0 if (rng.random() < 0.85) == good else 1, int(rng.integers(2, 5))}
            for who in people:
                offset = {0: -1.5, 1: 1.5}.get(who, 0.0)
                value = rated(rng, quality[[2 * n + response]] * 1.5, np.array([offset]))[0]
                given.append((who, response, float(value)))
        trees.append(tree(n, *given))

    def order(loss: RewardLoss) -> tuple[float, dict[str, torch.Tensor]]:
        batch = batch_of(trees, loss)
        links = {
            name: one.clone().requires_grad_(True)
            for name, one in new_links(loss, plan_reading(loss, trees)).items()
        }
        scores = torch.zeros(2 * num, requires_grad=True)
        search = torch.optim.LBFGS(
            [scores, *links.values()], max_iter=300, line_search_fn="strong_wolfe"
        )

        def closure() -> torch.Tensor:
            search.zero_grad()
            total = feedback_reward(loss)(Outputs(scores=scores, links=links), batch)[0]
            total = total + scores.square().sum() / 2
            total.backward()
            return total

        search.step(closure)
        return float(spearmanr(scores.detach(), quality).statistic), links

    with_offsets, links = order(OFFSETS)
    without, _ = order(RewardLoss())
    assert with_offsets > without + 0.02
    strict, mild, *usual = links["rating/kind/offsets"].tolist()
    assert strict < min(usual) - 0.5
    assert mild > max(usual) + 0.5


def test_offsets_that_nothing_tells_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"loss\.ratings is 'regression'"):
        feedback_reward(RewardLoss(rater_offsets=True, ratings="regression"))
    alone = [tree(0, (1, 0, 2.0), (1, 1, 3.0))]
    with pytest.raises(
        DataError, match="no criterion of 1 was rated by two annotators, where all who"
    ):
        plan_reading(OFFSETS, alone)
    # of two criteria the one that two people rated has offsets
    both = [*TREES, tree(2, (4, 0, 1.0), (4, 1, 2.0), criterion="short")]
    assert set(plan_reading(OFFSETS, both).raters) == {"kind"}
