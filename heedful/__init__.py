"""Heedful turns people's preferences into a better language model.

Public entry points live in the package of their noun: ``heedful.maths`` for formulas,
``heedful.jobs`` for whole stages (``fit_reward``, ``fit_ppo``, ``evaluate``, ``demo``).
"""

__version__ = "0.1.0"
