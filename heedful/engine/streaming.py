"""Text as it becomes certain, for people who watch an answer being written."""

from collections.abc import Callable, Sequence

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """Pieces of an answer's text; joined they are the whole text, and none is ever taken back.

    What may still change is held: the bytes of an unfinished character, and what may turn out to
    be the beginning of a stop string.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str]) -> None:
        self.decode = decode
        self.stops = stops
        self.said = ""

    def push(self, token_ids: Sequence[int]) -> str:
        """What the tokens so far make certain and was not said before."""
        text = self.decode(token_ids).rstrip(INCOMPLETE)
        return self.say(text[: len(text) - held_back(text, self.stops)])

    def end(self, text: str) -> str:
        """The rest of the final text."""
        return self.say(text)

    def say(self, text: str) -> str:
        """The part of ``text`` that is new."""
        if not text.startswith(self.said):
            return ""
        new = text[len(self.said) :]
        self.said = text
        return new


def held_back(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of ``text`` that begins, or is, one of the stop strings."""
    longest = max(map(len, stops), default=0)
    for size in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return size
    return 0
