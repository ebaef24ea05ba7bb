"""Other wordings of an answer that should change nothing of what it is worth.

Each is a stated, deterministic change of form. They leave code and addresses alone and give the
text back unchanged where there is nothing to change. They are no paraphrases by a writer: a model
that keeps its order under all of them may still be moved by other words for the same thing.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from heedful.types import Message

KEPT = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+)", re.DOTALL)
BULLETS = re.compile(r"(?m)(?:^[ \t]*[-*•][ \t]+\S.*(?:\n|\Z))+")
BULLET = re.compile(r"^[ \t]*[-*•][ \t]+")
SENTENCE_GAP = re.compile(r"(?<=[a-z0-9)][.!?]) (?=[A-Z])")
MARKS = re.compile(r"\*\*|__|(?m:^#{1,6}[ \t]+)")
QUOTED = re.compile(r'"([^"\n]{1,200})"')
APOSTROPHE = re.compile(r"(?<=[A-Za-z])'(?=[A-Za-z])")
# spelt-out form by contraction, of those that can stand for one thing only
CONTRACTIONS: Mapping[str, str] = {
    "don't": "do not", "doesn't": "does not", "didn't": "did not", "isn't": "is not",
    "aren't": "are not", "wasn't": "was not", "weren't": "were not", "can't": "cannot",
    "couldn't": "could not", "shouldn't": "should not", "wouldn't": "would not",
    "won't": "will not", "haven't": "have not", "hasn't": "has not", "hadn't": "had not",
    "i'm": "I am", "you're": "you are", "we're": "we are", "they're": "they are",
    "i've": "I have", "you've": "you have", "we've": "we have", "they've": "they have",
    "i'll": "I will", "you'll": "you will", "we'll": "we will", "they'll": "they will",
}  # fmt: skip
# American and British stems, and the endings that both take
SPELLINGS: tuple[tuple[str, str, str], ...] = (
    *((f"{stem}or", f"{stem}our", "|s|ed|ing|al|able|ite|ites|ful|less|ly|hood|s'")
      for stem in ("col", "behavi", "fav", "hon", "lab", "neighb", "hum", "flav", "rum")),
    *((f"{stem}iz", f"{stem}is", "e|es|ed|ing|ation|ations|er|ers")
      for stem in ("organ", "real", "recogn", "apolog", "summar", "minim", "maxim", "critic",
                   "emphas", "priorit", "general", "special", "memor", "util", "personal")),
    *((f"{stem}yz", f"{stem}ys", "e|ed|ing") for stem in ("anal", "paral")),
    *((f"{stem}l", f"{stem}ll", "ed|ing|er|ers")
      for stem in ("trave", "cance", "labe", "mode", "leve", "counse")),
    ("center", "centre", "|s"), ("theater", "theatre", "|s"), ("fiber", "fibre", "|s"),
    ("defense", "defence", "|s"), ("offense", "offence", "|s"), ("gray", "grey", "|s"),
    ("skeptic", "sceptic", "|s|al|ism"), ("aluminum", "aluminium", ""), ("mom", "mum", "|s"),
)  # fmt: skip
TO_BRITISH = {f"{us}{end}": f"{gb}{end}" for us, gb, ends in SPELLINGS for end in ends.split("|")}
TO_AMERICAN = {gb: us for us, gb in TO_BRITISH.items()}
CONTRACTED = {spelt.lower(): short for short, spelt in CONTRACTIONS.items()}


def outside_code(change: Callable[[str], str]) -> Callable[[str], str]:
    """The change applied to everything but code and addresses."""

    def apply(text: str) -> str:
        parts = KEPT.split(text)  # what is kept stands at odd places
        return "".join(part if place % 2 else change(part) for place, part in enumerate(parts))

    return apply


def words_for(words: Mapping[str, str]) -> Callable[[str], str]:
    """Replaces whole words, in the case that they were written in."""
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)

    def as_written(found: re.Match[str]) -> str:
        old = found[0]
        new = words[old.lower()]
        if len(old) > 1 and old.isupper():
            return new.upper()
        if old[0].isupper():
            return new[0].upper() + new[1:]
        return new

    return lambda text: pattern.sub(as_written, text)


def sentences_of_bullets(text: str) -> str:
    """A list with bullets as a line of sentences, in its order."""

    def run_on(found: re.Match[str]) -> str:
        lines = found[0].splitlines()
        said = [BULLET.sub("", line).rstrip() for line in lines]
        closed = [line if line[-1] in ".!?:;" else f"{line}." for line in said]
        return " ".join(closed) + ("\n" if found[0].endswith("\n") else "")

    return BULLETS.sub(run_on, text)


def typographic(text: str) -> str:
    """Curly quotes and apostrophes, and an ellipsis for three dots."""
    quoted = QUOTED.sub("\N{LEFT DOUBLE QUOTATION MARK}\\1\N{RIGHT DOUBLE QUOTATION MARK}", text)
    curled = APOSTROPHE.sub("\N{RIGHT SINGLE QUOTATION MARK}", quoted)
    return curled.replace("...", "\N{HORIZONTAL ELLIPSIS}")


REWRITES: Mapping[str, Callable[[str], str]] = {
    "two spaces after a sentence": outside_code(lambda text: SENTENCE_GAP.sub("  ", text)),
    "bullets as sentences": outside_code(sentences_of_bullets),
    "no bold, no headings": outside_code(lambda text: MARKS.sub("", text)),
    "contractions spelt out": outside_code(words_for(CONTRACTIONS)),
    "contracted": outside_code(words_for(CONTRACTED)),
    "typographic punctuation": outside_code(typographic),
    "British spelling": outside_code(words_for(TO_BRITISH)),
    "American spelling": outside_code(words_for(TO_AMERICAN)),
}


def rewritten(answer: tuple[Message, ...], name: str) -> tuple[Message, ...]:
    """An answer in another wording; messages of tools stay as they are."""
    change = REWRITES[name]
    return tuple(
        replace(one, content=change(one.content)) if one.role == "assistant" else one
        for one in answer
    )
