"""What golds measure in a text: total functions into [0, 1], on any unicode, gibberish included."""

import functools
import itertools
import re
from typing import Any

WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
SENTENCE_END = re.compile(r"[.!?]+[\"')\]\u2019\u201d]*(?:\s|$)")
LIST_MARK = re.compile(r"(?m)^\s*(?:[-*•#]|\d+[.)])\s")
MARKUP = re.compile(r"\*\*|__|`|(?m:^#+ )")
ABSTRACT = re.compile(
    r"\w{3,}(?:[ts]ion|ment|ness|ity|ance|ence|ism|ship)s?|\w{4,}(?:ive|ial|ical)"
)
# English grammar's closed classes: at least 0.29 of the words of every readable sampled answer of
# SmolLM2-135M-Instruct, and at most 0.21 of its garbled ones (36 demo prompts, two samples each).
FUNCTION_WORDS = frozenset(
    """a about after all an and any are as at be because been before but by can could did do does
    for from had has have he her him his how i if in into is it its just me more my no not of off
    on one or our out over she should so than that the their them then there these they this those
    to up was we were what when where which while who why will with would you your
    """.split()  # noqa: SIM905 - a hundred quoted words are harder to read
)
FLUENT_SHARE = 0.25


def words(text: str) -> list[str]:
    """Lower-case words; digits count as words."""
    return WORD.findall(text.lower())


def num_sentences(text: str) -> int:
    """Sentences that end with a mark; at least 1 for a text with words."""
    return max(len(SENTENCE_END.findall(text)), 1)


def within(value: float, low: float, high: float, *, fade: float) -> float:
    """1 inside ``low`` to ``high``; below, linear down to 0 at 0; above, to 0 over ``fade``."""
    if value < low:
        return max(0.0, value / low)
    return max(0.0, 1.0 - max(value - high, 0.0) / fade)


def variety(text: str) -> float:
    """Share of distinct word pairs: 1 for no repetition, near 0 for one phrase again and again."""
    tokens = words(text)
    pairs = list(itertools.pairwise(tokens))
    return len(set(pairs)) / len(pairs) if pairs else float(bool(tokens))


def complete(text: str) -> float:
    """1 when the text ends a sentence, 0.4 when it is cut off."""
    return 1.0 if re.search(r"[.!?][\"')\]\u2019\u201d]*$", text.strip()) else 0.4


def fluent(text: str) -> float:
    """1 for English sentences, near 0 for gibberish and heaps of keywords.

    Judged by the share of function words and contractions, which neither has.
    """
    tokens = words(text)
    if not tokens:
        return 0.0
    num_function = sum(token in FUNCTION_WORDS or not token.isalnum() for token in tokens)
    return min(num_function / len(tokens) / FLUENT_SHARE, 1.0)


def tangible(text: str) -> float:
    """1 without abstract words (``-tion``, ``-ness``), 0 when they are a fifth or more."""
    tokens = words(text)
    num_abstract = sum(bool(ABSTRACT.fullmatch(token)) for token in tokens)
    return max(0.0, 1.0 - 5.0 * num_abstract / max(len(tokens), 1))


def sentiment(text: str) -> float:
    """VADER's compound valence on [0, 1]; 0.5 is neutral."""
    return 0.5 + 0.5 * float(_vader().polarity_scores(text)["compound"])


def readable(text: str) -> float:
    """Flesch reading ease on [0, 1]: 0 at 30 (difficult), 1 at 90 (very easy)."""
    tokens = words(text)
    if not tokens:
        return 0.0
    syllables = sum(num_syllables(token) for token in tokens)
    ease = 206.835 - 1.015 * len(tokens) / num_sentences(text) - 84.6 * syllables / len(tokens)
    return min(max((ease - 30.0) / 60.0, 0.0), 1.0)


def num_syllables(word: str) -> int:
    """Syllables of one word by its hyphenation points (American English patterns)."""
    return len(_hyphenation().positions(word)) + 1


def share_of(text: str, phrases: tuple[str, ...], *, enough: int) -> float:
    """Number of different ``phrases`` in the text, as a share of ``enough``; at most 1."""
    padded = f" {' '.join(words(text))} "
    return min(sum(f" {phrase} " in padded for phrase in phrases) / enough, 1.0)


@functools.cache
def _vader() -> Any:
    from vaderSentiment.vaderSentiment import (
        SentimentIntensityAnalyzer,
    )

    return SentimentIntensityAnalyzer()


@functools.cache
def _hyphenation() -> Any:
    import pyphen

    return pyphen.Pyphen(lang="en_US")
