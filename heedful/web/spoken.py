"""What an answer says, in a few words: completions are letters, in the task's order."""

from collections.abc import Callable, Mapping, Sequence

from heedful.forms.pairwise import BOTH_BAD
from heedful.registry import Registry
from heedful.types import JSON

Names = Mapping[str, str]  # the letter of each completion
LETTERS = "ABCDEFGHI"
STRENGTHS = {1: "slightly", 2: "clearly", 3: "much"}
MARKS = {1: "good", 0: "neutral", -1: "bad"}


def letters(completion_ids: Sequence[str]) -> dict[str, str]:
    """The letter of each completion."""
    return dict(zip(completion_ids, LETTERS, strict=False))


def pairwise(payload: Mapping[str, JSON], names: Names) -> str:
    """``A better``, ``B much better``, ``tie`` or ``both bad``."""
    preferred = payload["preferred"]
    if preferred is None:
        return "tie"
    if preferred == BOTH_BAD:
        return "both bad"
    how = STRENGTHS.get(payload.get("strength", 0), "")
    return " ".join(filter(None, (names[preferred], how, "better")))


def ranking(payload: Mapping[str, JSON], names: Names) -> str:
    """``A > B = C``."""
    return " > ".join(" = ".join(sorted(names[one] for one in group)) for group in payload["ranks"])


def rating(payload: Mapping[str, JSON], names: Names) -> str:
    """``A helpful 4, honest 5; B helpful 2``."""
    return _by_answer(
        {
            names[one]: [f"{criterion} {score}" for criterion, score in sorted(scores.items())]
            for one, scores in payload["ratings"].items()
        }
    )


def flags(payload: Mapping[str, JSON], names: Names) -> str:
    """``A bias 2 (only men)``, or ``nothing wrong``."""
    said = {
        names[one]: [
            f"{flag.replace('_', ' ')} {value['severity']}"
            + (f" ({value['note']})" if "note" in value else "")
            for flag, value in sorted(found.items())
        ]
        for one, found in payload["flags"].items()
        if found
    }
    return _by_answer(said) or "nothing wrong"


def demonstration(payload: Mapping[str, JSON], names: Names) -> str:  # noqa: ARG001 - one shown
    """``accepted``, ``not accepted`` or ``rewritten``."""
    if "written" in payload:
        return "rewritten"
    return "accepted" if payload["accepted"] else "not accepted"


def critique(payload: Mapping[str, JSON], names: Names) -> str:  # noqa: ARG001 - one shown
    """The critique itself."""
    return str(payload["critique"])


def steps(payload: Mapping[str, JSON], names: Names) -> str:  # noqa: ARG001 - one shown
    """``1 good, 2 bad, stopped``."""
    said = [f"{number} {MARKS[mark]}" for number, mark in enumerate(payload["labels"], start=1)]
    return ", ".join([*said, "stopped"] if payload.get("first_error") else said)


SPOKEN: Registry[Callable[[Mapping[str, JSON], Names], str]] = Registry(
    "answer in words",
    {
        "pairwise": pairwise,
        "ranking": ranking,
        "rating": rating,
        "flags": flags,
        "demonstration": demonstration,
        "critique": critique,
        "steps": steps,
    },
)


def _by_answer(said: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{name} {', '.join(said[name])}" for name in sorted(said))
