"""What golds measure in a text: total functions into [0, 1], on any unicode, gibberish included."""

import functools
import re
from typing import Any

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
SENTENCE_END = re.compile(r"[.!?]+(?:[\"')\]]*)(?:\s|$)")
LIST_MARK = re.compile(r"(?m)^\s*(?:[-*•#]|\d+[.)])\s")
MARKUP = re.compile(r"\*\*|__|`|(?m:^#+ )")


def words(text: str) -> list[str]:
    """Lower-case words; digits count as words."""
    return WORD.findall(text.lower())


def num_sentences(text: str) -> int:
    """Sentences that end with a mark; at least 1 for a text with words."""
    return max(len(SENTENCE_END.findall(text)), 1)


def within(value: float, low: float, high: float, *, fade: float) -> float:
    """1 inside ``low`` to ``high``, falling linearly to 0 over ``fade`` outside."""
    outside = max(low - value, value - high, 0.0)
    return max(0.0, 1.0 - outside / fade)


def variety(text: str) -> float:
    """Share of distinct word pairs: 1 for no repetition, near 0 for one phrase again and again."""
    tokens = words(text)
    pairs = list(zip(tokens, tokens[1:], strict=False))
    return len(set(pairs)) / len(pairs) if pairs else float(bool(tokens))


def complete(text: str) -> float:
    """1 when the text ends a sentence, 0.4 when it is cut off."""
    return 1.0 if re.search(r"[.!?][\"')\]]*$", text.strip()) else 0.4


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
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


@functools.cache
def _hyphenation() -> Any:
    import pyphen

    return pyphen.Pyphen(lang="en_US")
