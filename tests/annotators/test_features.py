import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.annotators import features

ON_UNIT = [
    features.variety,
    features.complete,
    features.fluent,
    features.tangible,
    features.sentiment,
    features.readable,
]
# any code points, half surrogate pairs included, beside text that looks like an answer
TEXTS = st.one_of(
    st.text(st.characters(), max_size=120),
    st.lists(
        st.sampled_from(
            ["please", "Thank you!", "NOT", "but", "1.", "-", "**", "\n", "\ufffd", "no"]
        ),
        max_size=30,
    ).map(" ".join),
)


@pytest.mark.parametrize("feature", ON_UNIT)
@given(text=TEXTS)
def test_feature_is_in_the_unit_interval_on_any_text(feature, text: str) -> None:
    assert 0.0 <= feature(text) <= 1.0


def test_words_keep_contractions_and_figures_and_drop_punctuation() -> None:
    assert features.words("Don't panic: 2 eggs_now!") == ["don't", "panic", "2", "eggs", "now"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0.0), (5, 0.5), (10, 1.0), (20, 1.0), (24, 0.5), (28, 0.0), (90, 0.0)],
)
def test_within_falls_to_0_at_no_words_and_over_fade_above(value: int, expected: float) -> None:
    assert features.within(value, 10, 20, fade=8) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0.0), ("one", 1.0), ("a b c d", 1.0), ("a b a b a", 0.5), ("no no no no no", 0.25)],
)
def test_variety_is_the_share_of_distinct_word_pairs(text: str, expected: float) -> None:
    assert features.variety(text) == expected


@pytest.mark.parametrize("text", ["Done.", 'He said "done."', "Done?)", "Done!\u201d\n"])
def test_complete_is_1_when_a_sentence_ends(text: str) -> None:
    assert features.complete(text) == 1.0


@pytest.mark.parametrize("text", ["", "Done and", "1.5 of", "Done. And"])
def test_complete_is_less_when_the_text_is_cut_off(text: str) -> None:
    assert features.complete(text) == 0.4


def test_fluent_counts_function_words_up_to_a_quarter() -> None:
    assert features.fluent("The cat sat on the mat.") == 1.0
    assert features.fluent("cat mat the hat rat bat pat sat") == pytest.approx(0.5)
    assert features.fluent("cat mat hat rat") == 0.0


def test_tangible_falls_to_0_at_one_abstract_word_in_five() -> None:
    assert features.tangible("put the red mug here") == 1.0
    assert features.tangible("put the red mug on the kitchen shelf, a solution") == 0.5
    assert features.tangible("the situation is of significance") == 0.0


def test_readable_of_one_syllable_words_is_easy_and_of_long_words_is_hard() -> None:
    # Flesch: 206.835 - 1.015 * 6 - 84.6 * 1 = 116.1, above the 90 that counts as very easy
    assert features.readable("The cat sat on the mat.") == 1.0
    assert features.readable("Organizational considerations necessitate deliberation.") == 0.0


def test_readable_is_the_flesch_formula_between_its_bounds() -> None:
    text = "The garden has water and summer flowers near the little window."
    syllables = [1, 2, 1, 2, 1, 2, 2, 1, 1, 2, 2]
    assert [features.num_syllables(word) for word in features.words(text)] == syllables
    ease = 206.835 - 1.015 * 11 - 84.6 * sum(syllables) / 11
    assert features.readable(text) == pytest.approx((ease - 30) / 60)


def test_sentiment_ranks_praise_above_neutral_above_blame() -> None:
    praise, neutral, blame = map(features.sentiment, ["A great idea!", "A table.", "A bad idea."])
    assert praise > neutral == 0.5 > blame


def test_share_of_counts_different_whole_phrases() -> None:
    phrases = ("thank you", "hope", "glad")
    assert features.share_of("Thank you, thank you!", phrases, enough=2) == 0.5
    assert features.share_of("Hopeless.", phrases, enough=2) == 0.0
    assert features.share_of("Glad, I hope. Thank you.", phrases, enough=2) == 1.0


def test_features_are_finite_on_a_very_long_text() -> None:
    text = "Good but not bad. " * 500
    assert all(math.isfinite(feature(text)) for feature in ON_UNIT)
