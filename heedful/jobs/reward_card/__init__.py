"""``evaluate reward``: a reward on feedback that it has not seen, as a page and JSON."""

from heedful.jobs.reward_card.held_out import NoPairsError
from heedful.jobs.reward_card.job import reward_card

__all__ = ["NoPairsError", "reward_card"]
