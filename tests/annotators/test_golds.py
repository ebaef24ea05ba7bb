import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.annotators.golds import GOLDS
from heedful.errors import ConfigError

GIBBERISH = [
    "xq zzvb bnmkj hjkl wrtp qqq pfft zxcv bnm ghjk lkj trwq.",
    "\ufffd\x03 q\x1f7 kz\ufffdp ~~ vv\x02 9 \ufffd\ufffd wq",
    "please thanks glad hope welcome congratulations sorry wonderful great lovely kind enjoy",
    "1 2 3 such as try use add including 4 5 6",
    "\u0434\u0430 \u043d\u0435\u0442 \u043c\u043e\u0436\u0435\u0442 \u0431\u044b\u0442\u044c.",
]
REPEATED = [
    "please " * 20,
    "Thank you so much! " * 8,
    "Try 3 eggs, for example. " * 7,
    "I am glad. " * 12,
    "the the the the the the the the the the the the",
]

# For each gold: a prompt and answers in the style of a small model, best first.
RANKED = {
    "kind": [
        (
            "I failed my driving test today and I feel terrible.",
            [
                "I am so sorry to hear that! Many great drivers fail the first time. Take care of "
                "yourself tonight, and good luck with the next test. I hope it goes well!",
                "I am sorry that you failed. It is a good idea to rest tonight and to practise "
                "parking again with a friend before the next test.",
                "A driving test has several parts. You can book another test after ten days and "
                "you will have to bring the same papers with you.",
                "You failed because you are a bad and careless driver. It is a terrible result "
                "and you will probably fail the next test, too.",
            ],
        ),
        (
            "Reply to a customer who complains that her parcel came late.",
            [
                "Thank you for writing to us, and sorry for the delay. We appreciate your patience "
                "and hope that you will enjoy the lovely lamp.",
                "The parcel was late because of the weather on the way. We have told the driver "
                "about it and will look into the route next week.",
                "Late parcels are not our problem. You are wrong to complain, and we hate to read "
                "angry letters like this awful one.",
            ],
        ),
    ],
    "concise": [
        (
            "Why does ice float on water?",
            [
                "Ice floats because it is lighter than the same amount of water.",
                "Ice floats on water because of the way in which water freezes. When it gets cold, "
                "it takes up more room than it did before.",
                "Ice is one of the most fascinating materials on the planet and there are many "
                "reasons why it floats. When the temperature falls below the freezing point, the "
                "molecules of water begin to arrange themselves in a pattern that",
            ],
        ),
        (
            "How often should I wash my pillows?",
            [
                "Wash them two or three times a year.",
                "Wash them two or three times a",
                "Wash.",
            ],
        ),
    ],
    "plain": [
        (
            "What is inflation, in plain words?",
            [
                "When things cost more each year, we call it inflation. You can buy less with the "
                "same coin. Bread that cost two now costs three.",
                "Inflation describes how the prices of things go up over time, so that the money "
                "in your pocket buys fewer things than before.",
                "Inflation is a macroeconomic phenomenon that represents a sustained appreciation "
                "of the aggregate price level and a corresponding deterioration of purchasing "
                "capability.",
            ],
        ),
        (
            "How do I get a coffee stain out of a white shirt?",
            [
                "Rinse it in cold water. Rub in some soap. Let it sit for a while and then wash "
                "the shirt as you like.",
                "- Rinse it in cold water.\n- Rub in some **soap**.\n- Let it sit for a while and "
                "then wash the shirt as you like.",
            ],
        ),
    ],
    "concrete": [
        (
            "What can I make for dinner with eggs, rice and one onion?",
            [
                "Try egg fried rice: fry 1 onion for 5 minutes, add 2 cups of cooked rice and 3 "
                "eggs, and use a pinch of salt. For example, serve it in a bowl.",
                "Fry the onion in a pan, add the cooked rice and stir in 2 eggs until they are "
                "firm.",
                "There are many options and it depends on your preferences. In general, a "
                "combination of various ingredients might be a satisfying solution for the "
                "situation.",
            ],
        ),
        (
            "How can our team have shorter meetings?",
            [
                "Set a timer for 20 minutes, use a list of 3 questions, and try standing up, such "
                "as at a bar table in the hall.",
                "Ask people to read the notes before they come, and end when the list is done.",
                "Communication and organisation are important to the effectiveness of a meeting, "
                "and often some consideration of the situation is generally an improvement.",
            ],
        ),
    ],
}
FAIR = (
    "That sounds like a good plan. You could start with 2 small pots of basil on a sunny shelf "
    "and, for example, water them in the morning. I hope you enjoy it!"
)
CASES = [(name, *case) for name, cases in RANKED.items() for case in cases]


def test_golds_are_at_least_four_and_every_gold_has_ranked_examples() -> None:
    assert len(GOLDS) >= 4
    assert set(GOLDS) == set(RANKED)


@pytest.mark.parametrize(("name", "prompt", "answers"), CASES)
def test_gold_ranks_the_written_out_answers(name: str, prompt: str, answers: list[str]) -> None:
    scores = [GOLDS[name].score(prompt, answer) for answer in answers]
    assert all(better > worse for better, worse in pairwise(scores)), scores


@pytest.mark.parametrize("trick", GIBBERISH + REPEATED)
@pytest.mark.parametrize("name", GOLDS)
def test_gold_scores_a_trick_below_the_best_and_half_a_fair_answer(name: str, trick: str) -> None:
    gold = GOLDS[name]
    score = gold.score("", trick)
    assert score < 0.5 * gold.score("", FAIR)
    assert all(score < gold.score("", best) for _, (best, *_) in RANKED[name])


@pytest.mark.parametrize("text", ["", " \n\t", "...", "\U0001f35b\U0001f35b", "\x00\x01"])
@pytest.mark.parametrize("name", GOLDS)
def test_gold_scores_0_without_words(name: str, text: str) -> None:
    assert GOLDS[name].score("Why?", text) == 0.0


@pytest.mark.parametrize("name", GOLDS)
def test_gold_still_ranks_gibberish_so_the_test_model_gives_preferences(name: str) -> None:
    scores = {GOLDS[name].score("", text) for text in GIBBERISH}
    assert len(scores) > 1
    assert 0.0 not in scores


@pytest.mark.parametrize("name", GOLDS)
@given(prompt=st.text(st.characters(), max_size=20), text=st.text(st.characters(), max_size=150))
def test_gold_is_in_the_unit_interval_and_repeatable_on_any_text(
    name: str, prompt: str, text: str
) -> None:
    score = GOLDS[name].score(prompt, text)
    assert 0.0 <= score <= 1.0
    assert GOLDS[name].score(prompt, text) == score


@pytest.mark.parametrize("name", GOLDS)
@given(text=st.text(st.characters(), max_size=150))
def test_gold_parts_are_finite_and_in_the_unit_interval_on_any_text(name: str, text: str) -> None:
    values = GOLDS[name].parts("", text).values()
    assert all(math.isfinite(value) and 0.0 <= value <= 1.0 for value in values)


@pytest.mark.parametrize("name", GOLDS)
def test_gold_parts_are_several_and_end_with_variety_and_fluency(name: str) -> None:
    parts = list(GOLDS[name].parts("", FAIR))
    assert len(parts) >= 4
    assert parts[-2:] == ["variety", "fluent"]


@pytest.mark.parametrize("name", GOLDS)
def test_gold_states_itself_in_one_sentence(name: str) -> None:
    statement = GOLDS[name].statement
    assert GOLDS[name].name == name
    assert statement.endswith(".")
    assert ". " not in statement
    assert "\n" not in statement


def test_kind_score_is_the_weighted_sum_of_its_parts_for_a_fluent_varied_answer() -> None:
    text = "Thanks! I hope that you enjoy the lovely walk to the old mill by the sea."
    parts = GOLDS["kind"].parts("", text)
    assert (parts["courtesy"], parts["length"]) == (1.0, 1.0)
    assert (parts["variety"], parts["fluent"]) == (1.0, 1.0)
    assert GOLDS["kind"].score("", text) == pytest.approx(0.4 * parts["tone"] + 0.4 + 0.2)


def test_unknown_gold_offers_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="unknown gold 'concize'; did you mean 'concise'"):
        GOLDS["concize"]
