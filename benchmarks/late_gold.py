"""A gold written after the demo's defaults were frozen: do they carry over to a new preference?"""

from heedful.annotators import features as f

READER = frozenset({"you", "your", "you're", "you'll", "yours", "yourself", "let's"})
WRITER = frozenset({"i", "i'm", "i've", "i'll", "my", "me", "we", "our", "us"})


def personal(_: str, response: str) -> float:
    """Talks to the reader: says "you" and asks back, not about itself, in 10 to 50 words."""
    words = f.words(response)
    if not words:
        return 0.0
    reader = min(sum(word in READER for word in words) / 4, 1.0)
    writer = min(sum(word in WRITER for word in words) / 3, 1.0)
    asks = float("?" in response)
    length = f.within(len(words), 10, 50, fade=10)
    wanted = 0.45 * reader + 0.2 * asks + 0.2 * (1.0 - writer) + 0.15 * length
    return wanted * f.variety(response) ** 2 * f.fluent(response) ** 2
