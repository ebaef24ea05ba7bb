"""Gold preferences: what simulated annotators like, stated in one sentence and computed.

A gold is the weighted sum of its parts, times the variety of the wording and its fluency, so that
no single trick wins: repeating or heaping up liked words costs more than it brings. Empty text
scores 0. The golds read English; other languages count as gibberish.
"""

import importlib.util
import inspect
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from heedful.annotators import features as f
from heedful.errors import DataError, MissingError
from heedful.registry import Registry, nearest

Part = Callable[[str, str], float]
# What gibberish keeps of its score: little enough to lose to any sentence, and not 0, so that the
# random bytes of the tiny test model still rank.
GIBBERISH_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """A stated preference over answers. Made here or from a user's function, used by annotators.

    ``score(prompt, response)`` is how much a person with this preference likes the response;
    ``parts`` breaks it down for the report.
    """

    name: str
    statement: str
    score: Part
    parts: Callable[[str, str], dict[str, float]]


def weighted_gold(name: str, statement: str, **weighted: tuple[float, Part]) -> Gold:
    """A gold in [0, 1]: the weighted sum of parts, times variety squared and fluency squared."""

    def score(prompt: str, response: str) -> float:
        if not f.words(response):
            return 0.0
        total = sum(weight * part(prompt, response) for weight, part in weighted.values())
        fluency = GIBBERISH_SHARE + (1.0 - GIBBERISH_SHARE) * f.fluent(response) ** 2
        return min(total * f.variety(response) ** 2 * fluency, 1.0)

    def parts(prompt: str, response: str) -> dict[str, float]:
        values = {part: value(prompt, response) for part, (_, value) in weighted.items()}
        return values | {"variety": f.variety(response), "fluent": f.fluent(response)}

    return Gold(name=name, statement=statement, score=score, parts=parts)


COURTESY = (
    "please", "thank you", "thanks", "glad", "happy to", "hope", "welcome", "good luck",
    "congratulations", "sorry", "wonderful", "great", "lovely", "best wishes", "kind", "enjoy",
    "feel free", "take care", "appreciate",
)  # fmt: skip
HEDGES = (
    "maybe", "perhaps", "might", "various", "several", "some", "many", "often", "generally",
    "it depends", "can vary", "in general", "overall", "a variety of", "important to",
)  # fmt: skip
EXAMPLES = ("for example", "such as", "for instance", "like", "including", "try", "use", "add")


def _of(feature: Callable[[str], float]) -> Part:
    """A part that looks at the response alone."""
    return lambda _, response: feature(response)


def _length(low: int, high: int, fade: int) -> Part:
    return _of(lambda response: f.within(len(f.words(response)), low, high, fade=fade))


def _named(phrases: tuple[str, ...]) -> Part:
    return _of(lambda response: f.share_of(response, phrases, enough=3))


def _figures(response: str) -> float:
    return min(len(re.findall(r"\d+", response)) / 3, 1.0)


def _no_hedging(response: str) -> float:
    return 1.0 - f.share_of(response, HEDGES, enough=3)


def _no_markup(response: str) -> float:
    marks = len(f.LIST_MARK.findall(response)) + len(f.MARKUP.findall(response))
    return max(0.0, 1.0 - marks / 2)


GOLDS: Registry[Gold] = Registry("gold")


def _gold(name: str, statement: str, **weighted: tuple[float, Part]) -> None:
    GOLDS.add(name, weighted_gold(name, statement, **weighted))


_gold(
    "kind",
    "Warm and courteous: positive in tone, with thanks, wishes or encouragement, in 12 to 45 "
    "words, without repetition.",
    tone=(0.4, _of(f.sentiment)),
    courtesy=(0.4, _named(COURTESY)),
    length=(0.2, _length(12, 45, 12)),
)
_gold(
    "concise",
    "Brief and finished: a whole answer in 5 to 18 words, easy words, without repetition.",
    length=(0.6, _length(5, 18, 18)),
    finished=(0.3, _of(f.complete)),
    readable=(0.1, _of(f.readable)),
)
_gold(
    "plain",
    "Plain language: short words and short sentences (Flesch reading ease), running text "
    "without lists or markup, at least 10 words, without repetition.",
    readable=(0.7, _of(f.readable)),
    running=(0.15, _of(_no_markup)),
    length=(0.15, _length(10, 60, 10)),
)
_gold(
    "concrete",
    "Concrete: figures, examples and things to do instead of abstract words and hedging, in 10 to "
    "45 words, without repetition.",
    figures=(0.25, _of(_figures)),
    examples=(0.2, _named(EXAMPLES)),
    tangible=(0.25, _of(f.tangible)),
    no_hedging=(0.15, _of(_no_hedging)),
    length=(0.15, _length(10, 45, 10)),
)


def resolve_gold(name: str) -> Gold:
    """A shipped gold by name, or ``FILE.py:FUNCTION`` with ``f(prompt, response) -> float``.

    The file is code that the user names; its docstring's first line becomes the statement.
    """
    file, colon, function = name.rpartition(":")
    if not colon:
        return GOLDS[name]
    path = Path(file)
    if not path.is_file():
        raise MissingError(f"gold file {file} does not exist; give FILE.py:FUNCTION")
    specification = importlib.util.spec_from_file_location(f"heedful_gold_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise DataError(f"gold file {file} is not a Python file; give FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses in the file look their module up
    try:
        specification.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError) as error:
        raise DataError(f"gold file {file} cannot be loaded: {error}") from None
    score = getattr(module, function, None)
    if not callable(score):
        names = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        hint = nearest(function, names) if names else "it defines no function"
        raise MissingError(f"gold file {file} has no function {function!r}; {hint}")
    _check_arguments(score, name)
    statement = (inspect.getdoc(score) or f"As computed by {function} in {path.name}.").split("\n")
    return user_gold(f"{path.stem}:{function}", statement[0], score)


def _check_arguments(function: Callable[..., object], name: str) -> None:
    """Refuse a function that cannot take a prompt and a response, before anything is sampled."""
    try:
        inspect.signature(function).bind("prompt", "response")
    except TypeError as error:
        raise DataError(
            f"gold {name} cannot be called with (prompt, response): {error}; "
            "define it as FUNCTION(prompt: str, response: str) -> float"
        ) from None


def user_gold(name: str, statement: str, function: Part) -> Gold:
    """A gold from a user's function; every value is checked to be a finite number."""

    def score(prompt: str, response: str) -> float:
        value: object = function(prompt, response)
        number = _finite(value)
        if number is None:
            raise DataError(
                f"gold {name} returned {value!r:.80} for the response {response[:60]!r}; it must "
                "return a finite number"
            )
        return number

    def parts(prompt: str, response: str) -> dict[str, float]:
        return {"score": score(prompt, response), "variety": f.variety(response)}

    return Gold(name=name, statement=statement, score=score, parts=parts)


def _finite(value: object) -> float | None:
    """The value as a finite float, or None for anything else (an integer may be too large)."""
    if not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
