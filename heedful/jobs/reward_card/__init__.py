"""``evaluate reward``: what a reward is worth on pairs that it has not seen, as a page and JSON."""

from heedful.jobs.reward_card.job import reward_card

__all__ = ["reward_card"]
