"""``fit``: SFT, reward model, direct preference, PPO and GRPO, in one shape.

Each function takes a config and an output directory and returns a result; calling it again on a
finished directory returns the same result, on an unfinished one it resumes exactly.
"""

from heedful.jobs.fit.base import FitResult, learned_from, load_rows
from heedful.jobs.fit.measuring import feedback_metrics
from heedful.jobs.fit.online import fit_grpo, fit_ppo, open_reward
from heedful.jobs.fit.preference import fit_preference
from heedful.jobs.fit.reward import fit_reward
from heedful.jobs.fit.sft import fit_sft

__all__ = [
    "FitResult",
    "feedback_metrics",
    "fit_grpo",
    "fit_ppo",
    "fit_preference",
    "fit_reward",
    "fit_sft",
    "learned_from",
    "load_rows",
    "open_reward",
]
