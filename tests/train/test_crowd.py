"""Reliability of annotators: the likelihood, its maximum and its intervals against slow oracles."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime, minimize
from scipy.special import expit, logit

from heedful.config import RewardLoss, check
from heedful.data.collate import Judge, Said, Tree, collate
from heedful.data.reading import learned, plan_reading
from heedful.errors import ConfigError, DataError
from heedful.maths.reward import label_evidence
from heedful.stats.comparisons import encode_comparisons
from heedful.stats.noisy_bradley_terry import noisy_bradley_terry
from heedful.tensors import Outputs
from heedful.train import crowd
from heedful.train.links import new_links
from heedful.train.objectives import feedback_reward

CPU = torch.device("cpu")
RELIABILITY = RewardLoss(annotators="reliability")


def tree(number: int, *orders: tuple[int, tuple[int, ...]], **more: float) -> Tree:
    """A prompt with answers of which annotators say orders, best first."""
    num = max(response for _, order in orders for response in order) + 1
    return Tree(
        id=str(number),
        prompt=(1,),
        responses=tuple((2 + response,) for response in range(num)),
        said=tuple(
            Said(
                scale="order",
                responses=order,
                values=tuple(map(float, range(len(order)))),
                annotator=annotator,
                **more,  # type: ignore[arg-type]
            )
            for annotator, order in orders
        ),
    )


TREES = [
    tree(0, (3, (0, 1)), (5, (1, 0)), (3, (0, 2, 1))),
    tree(1, (7, (0, 1)), (5, (0, 1)), margin=1.0),
]
SCORES = np.array([0.4, -0.3, 1.1, 0.2, -0.9])
PAIRS = [  # chosen, rejected, margin, weight, skill: annotators 3, 5 and 7 stand in order
    (0, 1, 0.0, 1.0, 0),
    (1, 0, 0.0, 1.0, 1),
    (0, 2, 0.0, 1 / 3, 0),
    (0, 1, 0.0, 1 / 3, 0),
    (2, 1, 0.0, 1 / 3, 0),
    (3, 4, 1.0, 1.0, 2),
    (3, 4, 1.0, 1.0, 1),
]


def by_hand(mean: float, apart: np.ndarray, scores: np.ndarray = SCORES) -> float:
    """Minus the log likelihood and prior, written out."""
    total = ((apart / 1.5) ** 2).sum() / 2 + (mean - 2.0) ** 2 / 2
    for chosen, rejected, margin, weight, who in PAIRS:
        accuracy = (1 + expit(mean + apart[who])) / 2
        lead = scores[chosen] - scores[rejected]
        right, wrong = expit(lead - margin), expit(-lead - margin)
        total -= weight * np.log(accuracy * right + (1 - accuracy) * wrong)
    return float(total)


def read(trees: list[Tree], loss: RewardLoss = RELIABILITY) -> list[Tree]:
    reading = plan_reading(loss, trees)
    return [one for given in trees if (one := learned(given, reading))]


def test_the_objective_is_likelihood_and_prior_written_out() -> None:
    links = {crowd.MEAN: torch.tensor(1.2), crowd.APART: torch.tensor([0.5, -1.0, 0.3])}
    outputs = Outputs(scores=torch.tensor(SCORES), links=links)
    total, metrics = feedback_reward(RELIABILITY)(outputs, collate(read(TREES), CPU))
    expected = by_hand(1.2, np.array([0.5, -1.0, 0.3]))
    assert total.item() == pytest.approx(expected, rel=1e-6)
    assert "reward/annotator_prior_loss" in metrics


def test_the_gradient_of_skills_and_scores_is_the_numeric_one() -> None:
    at = np.array([1.2, 0.5, -1.0, 0.3, *SCORES])
    values = torch.tensor(at, requires_grad=True)
    links = {crowd.MEAN: values[0], crowd.APART: values[1:4]}
    outputs = Outputs(scores=values[4:], links=links)
    feedback_reward(RELIABILITY)(outputs, collate(read(TREES), CPU))[0].backward()
    numeric = approx_fprime(at, lambda x: by_hand(x[0], x[1:4], x[4:]), 1e-6)
    np.testing.assert_allclose(values.grad, numeric, atol=1e-5)


def test_micro_batches_change_no_loss() -> None:
    links = {crowd.MEAN: torch.tensor(1.2), crowd.APART: torch.tensor([0.5, -1.0, 0.3])}
    objective = feedback_reward(RELIABILITY)
    parts = [
        objective(Outputs(scores=torch.tensor(scores), links=links), collate([one], CPU))[0]
        for one, scores in zip(read(TREES), (SCORES[:3], SCORES[3:]), strict=True)
    ]
    expected = by_hand(1.2, np.array([0.5, -1.0, 0.3]))
    assert sum(parts).item() == pytest.approx(expected, rel=1e-6)


def test_who_said_what_stays_with_the_pairs_and_shares_sum_to_one() -> None:
    made = read(TREES)
    assert [judge.skill for one in made for judge in one.judges] == [who for *_, who in PAIRS]
    for skill in range(3):
        shares = [judge.share for one in made for judge in one.judges if judge.skill == skill]
        assert sum(shares) == pytest.approx(1.0)
    assert made[0].judges[0] == Judge(0, pytest.approx(0.5))


def test_without_reliability_batches_know_nobody() -> None:
    assert collate(read(TREES, RewardLoss()), CPU).judges is None
    assert crowd.MEAN not in new_links(RewardLoss(), plan_reading(RewardLoss(), TREES))


LEADS = np.array([0.5, 2.0, 3.0, -1.0, 1.5, -2.5])
WHO = np.array([0, 0, 0, 1, 1, 1])


def posterior(x: np.ndarray, leads: np.ndarray, who: np.ndarray, weights: np.ndarray) -> float:
    accuracy = (1 + expit(x[0] + x[1:][who])) / 2
    chance = accuracy * expit(leads) + (1 - accuracy) * expit(-leads)
    prior = ((x[1:] / 1.5) ** 2).sum() / 2 + (x[0] - 2.0) ** 2 / 2
    return float(prior - (weights * np.log(chance)).sum())


def test_the_most_probable_skills_are_the_best_of_a_grid() -> None:
    weights = np.array([1.0, 0.5, 1.0, 1.0, 2.0, 1.0])
    grid = np.linspace(-3, 4, 15)
    best = min(
        itertools.product(grid, repeat=3),
        key=lambda x: posterior(np.array(x), LEADS, WHO, weights),
    )
    fine = minimize(posterior, best, args=(LEADS, WHO, weights), tol=1e-12).x
    each, mean = crowd.reliabilities(*map(torch.tensor, (LEADS, WHO, weights)), num_annotators=2)
    expected = (1 + expit(fine[0] + fine[1:])) / 2
    np.testing.assert_allclose([one.value for one in each], expected, atol=1e-5)
    assert mean.value == pytest.approx((1 + expit(fine[0])) / 2, abs=1e-5)
    assert [one.num for one in each] == [3, 3]


def test_variances_are_those_of_the_whole_information_matrix() -> None:
    skill, weights = np.array([1.5, -0.5]), np.array([1.0, 0.5, 1.0, 1.0, 2.0, 1.0])
    step = 1e-5

    def chance(skills: np.ndarray) -> np.ndarray:
        accuracy = (1 + expit(skills[WHO])) / 2
        return accuracy * expit(LEADS) + (1 - accuracy) * expit(-LEADS)

    jacobian = np.stack(
        [
            (chance(skill + step * unit) - chance(skill - step * unit)) / (2 * step)
            for unit in np.eye(2)
        ]
    )
    now = chance(skill)
    information = np.zeros((3, 3))  # the mean, and the two skills
    information[1:, 1:] = (jacobian * (weights / (now * (1 - now)))) @ jacobian.T
    for number in (1, 2):
        information[[0, 0, number, number], [0, number, 0, number]] += np.array([1, -1, -1, 1]) / (
            1.5**2
        )
    information[0, 0] += 1.0
    expected = np.diagonal(np.linalg.inv(information))
    given = map(torch.tensor, (skill[WHO], LEADS, WHO, weights))
    each, mean = crowd.variances(*given, num=2)
    np.testing.assert_allclose(each, expected[1:], rtol=1e-7)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-7)


def test_who_gave_few_labels_stays_near_the_mean() -> None:
    rng = np.random.default_rng(0)
    who = np.repeat([0, 1, 2], [600, 600, 3])
    leads = np.abs(rng.normal(0, 3, len(who)))
    wrong = rng.random(len(who)) < 0.1
    wrong[-3:] = True  # three labels, all against the model
    given = torch.tensor(np.where(wrong, -leads, leads)), torch.tensor(who)
    (first, second, few), mean = crowd.reliabilities(*given, torch.ones(len(who)), num_annotators=3)
    assert first.low < 0.9 < first.high
    assert second.low < 0.9 < second.high
    assert few.value > 0.65
    assert few.high > mean.value > few.low
    assert few.high - few.low > 3 * (first.high - first.low)


def test_stated_strengths_do_not_speak_against_who_stated_them() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([1.0, 0.8, 0.6])
    who = np.repeat([0, 1, 2], 800)
    gaps = np.abs(rng.normal(0, 3, len(who)))
    is_right = (rng.random(len(who)) < expit(gaps)) ^ (rng.random(len(who)) > truth[who])
    margins = torch.tensor(rng.integers(0, 4, len(who))).double()
    evidence = label_evidence(torch.tensor(np.where(is_right, gaps, -gaps)), margins)
    given = evidence, torch.tensor(who), torch.ones(len(who))
    each, _ = crowd.reliabilities(*given, num_annotators=3)
    np.testing.assert_allclose([one.value for one in each], truth, atol=0.05)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_labels_that_all_agree_with_the_model_or_all_do_not_stay_inside_the_range(
    sign: float,
) -> None:
    leads = torch.cat([torch.full((200,), 3.0 * sign), torch.full((200,), 2.0)])
    each, _ = crowd.reliabilities(
        leads, torch.arange(400) // 200, torch.ones(400), num_annotators=2
    )
    assert 0.5 < each[0].low < each[0].value < each[0].high < 1
    assert each[0].value == pytest.approx(1.0 if sign > 0 else 0.5, abs=0.06)


def test_annotators_stand_in_the_order_of_noisy_bradley_terry_on_the_same_votes() -> None:
    rng = np.random.default_rng(3)
    truth = np.array([0.55, 0.7, 0.8, 0.9, 0.97])
    scores = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    who = np.repeat(np.arange(5), 400)
    left = rng.integers(0, 5, len(who))
    right = (left + rng.integers(1, 5, len(who))) % 5
    gap = scores[left] - scores[right]
    won = (rng.random(len(who)) < expit(gap)) ^ (rng.random(len(who)) > truth[who])
    other = noisy_bradley_terry(
        encode_comparisons(
            [f"m{i}" for i in left], [f"m{i}" for i in right], won, [f"a{i}" for i in who]
        )
    )
    theirs = [one.value for one in other.skill]
    # one prompt with five answers; the scores are learned with the skills
    trees = [
        tree(0, *((int(a), (int(i), int(j)) if w else (int(j), int(i)))
                  for a, i, j, w in zip(who, left, right, won, strict=True)))
    ]  # fmt: skip
    batch = collate(read(trees), CPU)
    free = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    links = {name: value.double() for name, value in crowd.new_skills(5).items()}
    for value in links.values():
        value.requires_grad_(True)
    search = torch.optim.LBFGS([free, *links.values()], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        search.zero_grad()
        loss = feedback_reward(RELIABILITY)(Outputs(scores=free, links=links), batch)[0]
        loss = loss + free.square().sum() / 18
        loss.backward()
        return loss

    search.step(closure)
    found = ((1 + torch.sigmoid(crowd.skills(links))) / 2).detach().numpy()
    np.testing.assert_allclose(found, truth, atol=0.06)  # 400 labels leave an error of 0.03
    assert np.corrcoef(logit(found), theirs)[0, 1] > 0.95
    ours = free.detach().numpy() - free.detach().numpy().mean()
    np.testing.assert_allclose(ours, scores, atol=0.5)


def test_one_annotator_is_refused_with_what_to_do() -> None:
    alone = [tree(0, (0, (0, 1))), tree(1, (0, (1, 0)))]
    with pytest.raises(DataError, match=r"2 pairs come from 1 annotator.*constant_error"):
        plan_reading(RELIABILITY, alone)
    assert read(alone, RewardLoss())


@pytest.mark.parametrize(
    "more", [{"ties": "davidson"}, {"pairs": "unbiased"}, {"params": {"label_smoothing": 0.1}}]
)
def test_other_likelihoods_of_pairs_are_refused_beside_it(more: dict[str, object]) -> None:
    loss = check(RewardLoss, {"annotators": "reliability", **more})
    with pytest.raises(ConfigError, match=r"own likelihood of pairs"):
        feedback_reward(loss)
