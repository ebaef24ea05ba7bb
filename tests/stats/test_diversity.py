import math

import pytest

from heedful.stats.diversity import distinct_n, self_similarity, unique_rate


def test_distinct_n_matches_a_hand_count():
    texts = ["the cat sat", "The cat ran"]
    assert distinct_n(texts, 1) == 4 / 6
    assert distinct_n(texts, 2) == 3 / 4


def test_distinct_n_does_not_join_texts():
    assert distinct_n(["a b", "c d"], 2) == 1


def test_distinct_n_of_texts_that_are_too_short_is_undefined():
    assert math.isnan(distinct_n(["one", ""], 2))


def test_unique_rate_counts_exact_copies():
    assert unique_rate(["a", "a", "b", "A"]) == 0.75
    assert math.isnan(unique_rate([]))


def test_self_similarity_matches_a_hand_count():
    assert self_similarity(["a b c", "b c d"], n=2) == pytest.approx(1 / 3)


def test_self_similarity_spans_copies_to_strangers():
    assert self_similarity(["a b c"] * 3) == 1
    assert self_similarity(["a b", "c d", "e f"]) == 0


def test_self_similarity_of_texts_that_are_too_short_compares_them_whole():
    assert self_similarity(["yes", "yes", "no"], n=2) == pytest.approx(1 / 3)


def test_self_similarity_of_one_text_is_undefined():
    assert math.isnan(self_similarity(["a b c"]))
