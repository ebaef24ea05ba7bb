"""Topics: planted groups of texts are found and named by their words."""

import numpy as np
import pytest

from heedful.stats.topics import NO_TOPIC, find_topics

THEMES = (
    "garden soil plants water roses compost seeds spring",
    "python function loop error string variable compile debug",
    "invoice refund delivery parcel order customer payment receipt",
)


def texts(seed, num=150):
    rng = np.random.default_rng(seed)
    theme = rng.integers(0, 3, num)
    made = [
        "please tell me about " + " ".join(rng.choice(THEMES[k].split(), 5, replace=False))
        for k in theme
    ]
    return made, theme, rng


@pytest.mark.parametrize("seed", range(4))
def test_planted_topics_are_found_and_named_by_their_words(seed):
    made, theme, rng = texts(seed)
    found = find_topics(made, 3, rng=rng, ignored={"please"})
    assigned = found.assign(made)
    for k in range(3):
        own = assigned[theme == k]
        topic = np.bincount(own).argmax()
        assert (own == topic).mean() > 0.95
        assert set(found.names[topic].split(", ")) <= set(THEMES[k].split())


def test_a_text_without_known_words_has_no_topic():
    made, _, rng = texts(0)
    found = find_topics(made, 3, rng=rng)
    assert found.assign(["", "12 34", "zebra", "roses"]).tolist()[:3] == [NO_TOPIC] * 3
    assert found.assign(["roses"])[0] != NO_TOPIC


def test_too_few_texts_are_refused():
    with pytest.raises(ValueError, match="share words"):
        find_topics(["one", "two", "three"], 2, rng=np.random.default_rng(0))
