"""Numbers that describe an answer in terms people use: what patterns are looked for in."""

import math
import re
from collections.abc import Callable, Mapping

from heedful.annotators import features as f
from heedful.annotators.golds import COURTESY, HEDGES

REFUSALS = (
    "i can't", "i cannot", "i can not", "i'm unable", "i am unable", "i won't", "i'm not able",
    "as an ai", "i'm sorry but", "i am sorry but", "i apologize but",
)  # fmt: skip
FIRST_PERSON = re.compile(r"\b(?:I|me|my|mine)\b")


def length(text: str) -> float:
    """Logarithm of one more than the number of words: twice as long counts alike at any length."""
    return math.log1p(len(f.words(text)))


def sentence_length(text: str) -> float:
    """Words per sentence, logarithm."""
    return math.log1p(len(f.words(text)) / f.num_sentences(text))


def _named(phrases: tuple[str, ...]) -> Callable[[str], float]:
    """How many different phrases occur."""
    plain = tuple(phrase.replace("\u2019", "'") for phrase in phrases)
    return lambda text: (
        len(plain) * f.share_of(text.replace("\u2019", "'"), plain, enough=len(plain))
    )


def _found(pattern: re.Pattern[str]) -> Callable[[str], float]:
    return lambda text: math.log1p(len(pattern.findall(text)))


PATTERNS: Mapping[str, Callable[[str], float]] = {
    "length": length,
    "long sentences": sentence_length,
    "easy to read": f.readable,
    "positive tone": f.sentiment,
    "lists": _found(f.LIST_MARK),
    "bold, headings, code": _found(f.MARKUP),
    "hedging": _named(HEDGES),
    "courtesy": _named(COURTESY),
    "refusals": _named(REFUSALS),
    "first person": _found(FIRST_PERSON),
    "figures": _found(re.compile(r"\d+")),
    "questions": _found(re.compile(r"\?")),
    "exclamations": _found(re.compile("!")),
    "abstract words": lambda text: 1.0 - f.tangible(text),
    "varied wording": f.variety,
}
# what is said of the preferred answers when they have more of a feature, and when less
WORDS: Mapping[str, tuple[str, str]] = {
    "length": ("are longer", "are shorter"),
    "long sentences": ("have longer sentences", "have shorter sentences"),
    "easy to read": ("are easier to read", "are harder to read"),
    "positive tone": ("sound more positive", "sound less positive"),
    "lists": ("have more lists", "have fewer lists"),
    "bold, headings, code": ("have more formatting", "have less formatting"),
    "hedging": ("hedge more", "hedge less"),
    "courtesy": ("are more courteous", "are less courteous"),
    "refusals": ("refuse more", "refuse less"),
    "first person": ("speak more of themselves", "speak less of themselves"),
    "figures": ("give more figures", "give fewer figures"),
    "questions": ("ask more", "ask less"),
    "exclamations": ("exclaim more", "exclaim less"),
    "abstract words": ("use more abstract words", "use fewer abstract words"),
    "varied wording": ("repeat themselves less", "repeat themselves more"),
}
STYLE: Mapping[str, Callable[[str], float]] = {
    "length": lambda text: float(len(f.words(text))),
    "lists": lambda text: float(len(f.LIST_MARK.findall(text))),
    "bold, headings, code": lambda text: float(len(f.MARKUP.findall(text))),
}


def describe(text: str) -> list[float]:
    """The values of ``PATTERNS`` in their order."""
    return [measure(text) for measure in PATTERNS.values()]


def style(text: str) -> list[float]:
    """The values of ``STYLE`` in their order; far quicker than ``describe``."""
    return [measure(text) for measure in STYLE.values()]
