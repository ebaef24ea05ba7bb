"""Which tasks are worth asking next: scores from reward models, as formulas over arrays.

Imports no torch and no store: jobs bring scores and features in, the queue draws by what comes out.
``simulation`` measures how many labels a strategy saves, with simulated annotators.
"""

from heedful.select.by_slice import slice_scores
from heedful.select.d_optimal import design_gains, pair_information
from heedful.select.disagreement import bald, closeness, margin_variance
from heedful.select.optimal import Design, label_counts, label_sequence, optimal_design
from heedful.select.projected import projected_weights

__all__ = [
    "Design",
    "bald",
    "closeness",
    "design_gains",
    "label_counts",
    "label_sequence",
    "margin_variance",
    "optimal_design",
    "pair_information",
    "projected_weights",
    "slice_scores",
]
