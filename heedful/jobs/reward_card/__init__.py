"""``evaluate reward``: what a reward is worth on pairs that it has not seen, as a page and JSON."""

from heedful.jobs.reward_card.job import NoPairsError, reward_card

__all__ = ["NoPairsError", "reward_card"]
