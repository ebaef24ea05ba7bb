"""The data set called ``test``: synthetic preferences that a tiny model can learn in seconds.

The chosen side is lower case and ends with "please"; the rejected side shouts.
"""

from heedful.data.examples import answer
from heedful.types import Demonstration, Preference, Prompt

NAME = "test"
THINGS = ("tea", "rain", "a cat", "bread", "the sea", "a song", "snow", "a map")
ASKS = ("tell me about", "what is", "describe", "say something on")


def preferences() -> list[Preference]:
    """32 pairs, one per prompt."""
    rows = []
    for number, (ask, thing) in enumerate((a, t) for a in ASKS for t in THINGS):
        rows.append(
            Preference(
                prompt=Prompt.of(f"{ask} {thing}"),
                chosen=answer(f"{thing} is good, please"),
                rejected=answer(f"{thing.upper()} NO {number}"),
            )
        )
    return rows


def demonstrations() -> list[Demonstration]:
    """The chosen sides."""
    return [Demonstration(prompt=row.prompt, response=row.chosen) for row in preferences()]


def prompts() -> list[Prompt]:
    """The prompts alone."""
    return [row.prompt for row in preferences()]
