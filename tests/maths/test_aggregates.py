import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from heedful.maths.aggregates import (
    group_mean,
    length_penalised,
    mean_minus_variance,
    penalised,
    standardise,
    vetoed,
    weighted_sum,
    worst_case,
    worst_group,
)

from .world import make_world


def random(seed: int, *shape: int):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spearman(x, y) -> float:
    ranks = [np.argsort(np.argsort(side)) for side in (x, y)]
    return float(np.corrcoef(*ranks)[0, 1])


def test_standardised_heads_weigh_the_same_whatever_their_scale():
    heads = random(0, 500, 2)
    scaled = heads * torch.tensor([100.0, 0.1]) + 7
    weights = torch.tensor([1.0, 1.0]).double()
    for each in (heads, scaled):
        same = standardise(each, each.mean(0), each.std(0))
        torch.testing.assert_close(same.mean(0), torch.zeros(2).double(), atol=1e-9, rtol=0)
        torch.testing.assert_close(same.std(0), torch.ones(2).double())
    one, other = (standardise(x, x.mean(0), x.std(0)) for x in (heads, scaled))
    torch.testing.assert_close(weighted_sum(one, weights), weighted_sum(other, weights))


def test_changed_weights_move_the_optimal_policy_as_enumerated():
    world = make_world()
    logprobs = world.logprobs(world.random_logits(0))
    heads = torch.stack([world.random_rewards(1), world.random_rewards(2)], dim=-1).double()
    means = []
    for weight in (0.0, 0.5, 1.0):
        mixed = weighted_sum(heads, torch.tensor([weight, 1 - weight]).double())
        policy = torch.softmax(logprobs + mixed / 0.5, dim=-1)
        by_head = torch.exp(2 * weight * heads[:, 0]) * torch.exp(2 * (1 - weight) * heads[:, 1])
        by_hand = logprobs.exp() * by_head
        torch.testing.assert_close(policy, by_hand / by_hand.sum())
        means.append(float(policy @ heads[:, 0]))
    assert means == sorted(means)


def test_planted_criteria_that_are_orthogonal_stay_so():
    heads = random(0, 20_000, 3)
    same = standardise(heads, heads.mean(0), heads.std(0))
    assert (torch.corrcoef(same.T) - torch.eye(3)).abs().max() < 0.1


def test_a_head_that_says_the_same_of_all_is_refused():
    with pytest.raises(ValueError, match=r"deviation 0\.0"):
        standardise(torch.zeros(2, 2), torch.zeros(2), torch.tensor([1.0, 0.0]))


def test_group_mean_serves_the_larger_group_and_max_min_both():
    """Two opposed groups, 80 and 20 %; policies over three answers, solved exactly."""
    rewards = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [0.2, 0.2]]).double()
    shares = torch.tensor([0.8, 0.2]).double()
    assert int(group_mean(rewards, shares).argmax()) == 0
    # max t with sum_y p(y) r(y, g) >= t for both groups
    best = linprog(
        c=[0, 0, 0, -1],
        A_ub=np.column_stack([-rewards.T.numpy(), [1, 1]]),
        b_ub=[0, 0],
        A_eq=[[1, 1, 1, 0]],
        b_eq=[1],
        bounds=[(0, None)] * 3 + [(None, None)],
    )
    # Multiplicative weights on the rewards of the worst group, iterates averaged.
    logits, total = torch.zeros(3).double(), torch.zeros(3).double()
    for step in range(1, 1501):
        policy = torch.softmax(logits, dim=-1)
        total += policy
        # A batch in which each answer occurs as often as the policy gives it.
        gradient = worst_group(policy[:, None] * 3 * rewards) / (3 * policy)
        logits = logits + gradient / step**0.5
    reached = float((total / 1500 @ rewards).min())
    assert reached == pytest.approx(-best.fun, abs=0.02)
    assert reached == pytest.approx(0.2, abs=0.02)


def test_group_mean_without_shares_weighs_groups_alike():
    heads = random(0, 4, 3)
    torch.testing.assert_close(group_mean(heads), heads.mean(-1))


def test_shares_that_are_none_are_refused():
    with pytest.raises(ValueError, match="sum to 1"):
        group_mean(torch.zeros(2, 2), torch.tensor([0.8, 0.8]))


def test_worst_group_is_one_group_and_worst_case_answer_by_answer():
    heads = torch.tensor([[3.0, 0.0], [-1.0, 0.5]])
    assert worst_group(heads).tolist() == [0.0, 0.5]
    assert worst_case(heads).tolist() == [0.0, -1.0]


def test_identical_members_make_all_aggregates_equal():
    members = random(0, 5, 1).expand(5, 4)
    for combined in (worst_case(members), mean_minus_variance(members, penalty=0.5)):
        torch.testing.assert_close(combined, members[:, 0])


@pytest.mark.parametrize("ddof", [0, 1])
def test_mean_minus_variance_equals_numpy(ddof):
    members = random(0, 6, 4)
    expected = members.numpy().mean(-1) - 0.3 * members.numpy().var(-1, ddof=ddof)
    np.testing.assert_allclose(mean_minus_variance(members, penalty=0.3, ddof=ddof), expected)


def test_conservative_aggregates_pick_answers_that_are_better_in_truth():
    """Best of 256 under proxies whose errors are heavy where the gold is not measured."""
    picked: dict[str, list[float]] = {"single": [], "mean": [], "variance": [], "worst": []}
    disagreements, errors = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        gold = rng.normal(size=256)
        spread = rng.exponential(size=(256, 1))
        members = torch.from_numpy(gold[:, None] + spread * rng.normal(size=(256, 5)))
        for name, scores in {
            "single": members[:, 0],
            "mean": members.mean(-1),
            "variance": mean_minus_variance(members, penalty=0.5),
            "worst": worst_case(members),
        }.items():
            picked[name].append(gold[int(scores.argmax())])
        disagreements.append(members.var(-1).numpy())
        errors.append((members.mean(-1).numpy() - gold) ** 2)
    single, mean, variance, worst = (np.array(x) for x in picked.values())
    for better, poorer in ((mean, single), (variance, mean), (worst, mean)):
        gain = better - poorer
        assert gain.mean() > 2 * gain.std() / len(gain) ** 0.5
    assert spearman(np.concatenate(disagreements), np.concatenate(errors)) > 0.3


def test_one_member_has_no_variance():
    with pytest.raises(ValueError, match="the ensemble has 1 members"):
        mean_minus_variance(torch.zeros(2, 1), penalty=0.5)
    with pytest.raises(ValueError, match="would reward what members dispute"):
        mean_minus_variance(torch.zeros(2, 2), penalty=-0.5)


def test_a_larger_penalty_flags_fewer_of_the_picks():
    scores = random(0, 300, 8)
    flags = torch.sigmoid(random(1, 300, 8, 1) + scores[..., None])
    rates = []
    for penalty in (0.0, 1.0, 2.0, 4.0, 8.0):
        best = penalised(scores, flags, torch.tensor([penalty]).double()).argmax(1, keepdim=True)
        rates.append(float(flags[..., 0].gather(1, best).mean()))
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0] - 0.1


def test_a_negative_penalty_is_refused():
    with pytest.raises(ValueError, match="or a flag is a reward"):
        penalised(torch.zeros(1), torch.zeros(1, 1), torch.tensor([-1.0]))


def test_a_veto_holds_an_answer_at_the_floor_and_never_lifts_it():
    scores = torch.tensor([5.0, 5.0, -9.0])
    flags = torch.tensor([[0.1, 0.6], [0.1, 0.4], [0.9, 0.9]])
    limits = torch.tensor([1.0, 0.5])
    assert vetoed(scores, flags, limits, floor=-4.0).tolist() == [-4.0, 5.0, -9.0]


def test_length_penalty_takes_a_planted_slope_out_of_the_reward():
    lengths = random(0, 1000)
    quality = random(1, 1000)
    torch.testing.assert_close(
        length_penalised(quality + 0.8 * lengths, lengths, per_unit=0.8), quality
    )
