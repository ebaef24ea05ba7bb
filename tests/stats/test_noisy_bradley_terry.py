from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import check_grad

from heedful.stats.comparisons import encode_comparisons
from heedful.stats.noisy_bradley_terry import _Posterior, noisy_bradley_terry
from heedful.stats.ranking import bradley_terry_strengths

SCORES = np.array([-1.5, -0.5, 0.0, 0.7, 1.3])


def planted(seed, *, skill, lean, num_each=300):
    """Comparisons of five models by annotators with these skills and leans to the left."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(len(skill)), num_each)
    left = rng.integers(0, 5, len(person))
    right = (left + rng.integers(1, 5, len(person))) % 5
    margin = np.array(skill)[person] * (SCORES[left] - SCORES[right]) + np.array(lean)[person]
    won = rng.random(len(person)) < 1 / (1 + np.exp(-margin))
    return encode_comparisons(
        [f"m{i}" for i in left], [f"m{i}" for i in right], won, [f"a{a}" for a in person]
    )


def test_noisy_bradley_terry_without_noise_is_bradley_terry():
    data = planted(0, skill=[1.0] * 4, lean=[0.0] * 4, num_each=100)
    fit = noisy_bradley_terry(data, score_scale=1e4, skill_scale=1e-4, lean_scale=1e-4)
    wins = np.zeros((5, 5))
    np.add.at(wins, (data.left, data.right), data.points)
    np.add.at(wins, (data.right, data.left), 1 - data.points)
    ours = np.array([s.value for s in fit.scores])
    np.testing.assert_allclose(ours - ours.mean(), np.log(bradley_terry_strengths(wins)), atol=1e-4)


def test_noisy_bradley_terry_recovers_planted_parameters():
    skill = [1.0, 1.0, 1.0, 0.9, 1.2, 0.0, 0.0, -1.0]
    lean = [0.0, 0.6, 0.0, -0.4, 0.0, 0.0, 0.5, 0.0]
    fit = noisy_bradley_terry(planted(1, skill=skill, lean=lean, num_each=500))
    ours = np.array([s.value for s in fit.scores])
    assert np.corrcoef(ours, SCORES)[0, 1] > 0.99
    # Standard errors at 500 answers: 0.08 of a skill, 0.025 of a share; priors pull by as much.
    scale = (ours @ SCORES) / (SCORES @ SCORES)
    np.testing.assert_allclose([s.value * scale for s in fit.skill], skill, atol=0.25)
    left = 1 / (1 + np.exp(-np.array(lean)))
    np.testing.assert_allclose([s.value for s in fit.left_share], left, atol=0.07)


def test_intervals_cover_planted_parameters_as_often_as_they_say():
    covered = []
    for seed in range(12):
        lean = np.random.default_rng(seed).normal(0.2, 0.3, 8)
        fit = noisy_bradley_terry(planted(seed, skill=[1.0] * 8, lean=lean, num_each=150))
        true = 1 / (1 + np.exp(-lean))
        covered += [s.low <= t <= s.high for s, t in zip(fit.left_share, true, strict=True)]
        covered += [s.low <= 1 <= s.high for s in fit.skill]
        covered += [s.low <= t <= s.high for s, t in zip(fit.scores, SCORES, strict=True)]
    # 252 intervals, dependent within a fit.
    assert np.mean(covered) > 0.9


def test_a_planted_five_point_left_bias_is_found_in_the_mean_lean():
    lean = [np.log(0.55 / 0.45)] * 20
    fit = noisy_bradley_terry(planted(0, skill=[1.0] * 20, lean=lean, num_each=150))
    assert 0.5 < fit.mean_left_share.low < 0.55 < fit.mean_left_share.high


def test_swapped_sides_mirror_the_lean_and_keep_the_rest():
    data = planted(2, skill=[1.0, 0.5], lean=[0.5, 0.0], num_each=80)
    people = [data.annotators[a] for a in data.annotator]
    left, right = ([data.candidates[c] for c in side] for side in (data.left, data.right))
    swapped = encode_comparisons(right, left, 1 - data.points, people)
    ours, mirrored = noisy_bradley_terry(data), noisy_bradley_terry(swapped)
    for a, b in zip(ours.scores + ours.skill, mirrored.scores + mirrored.skill, strict=True):
        assert b.value == pytest.approx(a.value, abs=1e-4)
    for a, b in zip(ours.left_share, mirrored.left_share, strict=True):
        assert b.value == pytest.approx(1 - a.value, abs=1e-4)


def test_gradient_and_curvature_equal_finite_differences():
    data = planted(3, skill=[1.0, 0.3], lean=[0.2, 0.0], num_each=30)
    posterior = _Posterior(comparisons=data, scales=(3.0, 0.5, 0.5))
    x = np.random.default_rng(0).normal(size=10)
    loss, gradient = (lambda z, k=k: posterior.loss_and_gradient(z)[k] for k in (0, 1))
    assert check_grad(loss, gradient, x) < 1e-4
    steps = 1e-5 * np.eye(10)
    numeric = np.stack([(gradient(x + h) - gradient(x - h)) / 2e-5 for h in steps])
    np.testing.assert_allclose(posterior.hessian(x), numeric, atol=1e-6)


def test_models_and_people_without_a_comparison_stay_where_the_priors_put_them():
    seen = planted(0, skill=[1.0, 1.0], lean=[0.0, 0.0], num_each=40)
    more = replace(seen, candidates=(*seen.candidates, "z"), annotators=(*seen.annotators, "zoe"))
    known, fit = noisy_bradley_terry(seen), noisy_bradley_terry(more)
    assert (fit.scores[-1].num, fit.skill[-1].num, fit.left_share[-1].num) == (0, 0, 0)
    assert fit.scores[-1].value == pytest.approx(0, abs=1e-4)
    assert fit.skill[-1].value == pytest.approx(1, abs=1e-4)
    for ours, theirs in zip(fit.scores[:-1], known.scores, strict=True):
        assert ours.value == pytest.approx(theirs.value, abs=1e-3)


def test_noisy_bradley_terry_refuses_too_many_candidates():
    names = [str(i) for i in range(5001)]
    data = encode_comparisons(names[:-1], names[1:], [1.0] * 5000, ["a"] * 5000)
    with pytest.raises(ValueError, match="compare models instead of completions"):
        noisy_bradley_terry(data)


@pytest.mark.parametrize(
    ("left", "right", "points", "message"),
    [
        (["a"], ["a"], [1.0], "'a' is compared with itself"),
        (["a"], ["b"], [2.0], "points are outside 0 to 1"),
        (["a"], ["b"], [np.nan], "points are outside 0 to 1"),
        (["a"], [], [1.0], "1 left, 0 right"),
    ],
)
def test_comparisons_refuse_what_is_no_comparison(left, right, points, message):
    with pytest.raises(ValueError, match=message):
        encode_comparisons(left, right, points, ["p"] * len(points))
