import numpy as np
import pytest

from heedful.stats.raters import NOISE_OF_ALL, rater_offsets


def ratings(seed: int, sizes: list[int], *, spread: float):
    rng = np.random.default_rng(seed)
    offsets = spread * rng.normal(size=len(sizes))
    person = np.repeat(np.arange(len(sizes)), sizes)
    residuals = 0.4 + offsets[person] + 0.8 * rng.normal(size=len(person))
    return offsets, [f"ann_{p:02}" for p in person], residuals


def values(found) -> np.ndarray:
    return np.array([one.value for one in found.by_annotator.values()])


def test_rater_offsets_recover_planted_ones():
    offsets, people, residuals = ratings(0, [40] * 20, spread=0.6)
    found = rater_offsets(people, residuals)
    assert np.corrcoef(values(found), offsets)[0, 1] > 0.95
    # The spread of 20 draws has a standard error of a sixth of itself.
    assert found.spread == pytest.approx(0.6, abs=0.3)
    assert np.mean(list(found.noise.values())) == pytest.approx(0.8, abs=0.06)


def test_rater_offsets_equal_the_posterior_mean_by_matrices():
    _, people, residuals = ratings(1, [2, 5, 30, 9], spread=1.0)
    found = rater_offsets(people, residuals)
    member = (np.array(people)[:, None] == np.unique(people)).astype(float)
    noise = np.array([found.noise[one] for one in people])
    covariance = found.spread**2 * member @ member.T + np.diag(noise**2)
    inverse = np.linalg.inv(covariance)
    common = inverse.sum(axis=0) @ residuals / inverse.sum()
    expected = found.spread**2 * member.T @ inverse @ (residuals - common)
    np.testing.assert_allclose(values(found), expected)


def test_rater_offsets_of_equal_sizes_have_the_textbook_components():
    _, people, residuals = ratings(2, [10] * 8, spread=0.7)
    table = residuals.reshape(8, 10)
    within = table.var(axis=1, ddof=1).mean()
    between = 10 * table.mean(axis=1).var(ddof=1)
    found = rater_offsets(people, residuals)
    own = (9 * table.var(axis=1, ddof=1) + NOISE_OF_ALL * within) / (9 + NOISE_OF_ALL)
    np.testing.assert_allclose(list(found.noise.values()), np.sqrt(own))
    assert found.spread**2 == pytest.approx((between - within) / 10)


def test_rater_offsets_intervals_cover_the_planted_ones():
    covered = []
    for seed in range(40):
        offsets, people, residuals = ratings(seed, [5] * 30, spread=0.6)
        found = rater_offsets(people, residuals).by_annotator.values()
        covered += [i.low <= b <= i.high for i, b in zip(found, offsets, strict=True)]
    assert 0.9 < np.mean(covered) < 0.98


def test_rater_offsets_intervals_cover_those_of_who_guesses_and_of_who_does_not():
    """With one noise for all, those of a guesser among nine covered three in five."""
    noise, covered = np.array([0.5] * 9 + [2.0]), []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        offsets, person = 0.4 * rng.normal(size=10), np.repeat(np.arange(10), 30)
        residuals = offsets[person] + noise[person] * rng.normal(size=300)
        found = rater_offsets([f"ann_{one}" for one in person], residuals).by_annotator.values()
        centre = offsets - offsets.mean()
        covered.append([i.low <= b <= i.high for i, b in zip(found, centre, strict=True)])
    guesser, others = np.mean(covered, axis=0)[-1], np.mean(covered, axis=0)[:-1]
    assert 0.9 < guesser < 0.99
    assert 0.9 < others.mean() < 0.99


def test_rater_offsets_of_who_gave_few_ratings_are_pulled_to_zero():
    people = ["few"] * 2 + ["many"] * 50 + ["other"] * 50
    residuals = np.tile([0.9, 1.1], 51)
    residuals[52:] -= 2
    residuals[::2] += 0.5
    found = rater_offsets(people, residuals).by_annotator
    assert 0 < found["few"].value < found["many"].value


@pytest.mark.parametrize("people", [["a", "a", "a"], ["a", "b", "c"]])
def test_rater_offsets_refuse_what_cannot_tell_people_from_noise(people):
    with pytest.raises(ValueError, match="need at least 2 people"):
        rater_offsets(people, [1.0, 2.0, 3.0])


def test_rater_offsets_of_ratings_that_are_all_alike_are_zero():
    assert (values(rater_offsets(["a", "a", "b"], [0.0, 0.0, 0.0])) == 0).all()
