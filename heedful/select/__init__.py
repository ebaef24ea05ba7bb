"""Which tasks are worth asking next: scores from reward models, as formulas over arrays.

Imports no torch and no store: jobs bring scores and features in, the queue draws by what comes out.
"""

from heedful.select.d_optimal import design_gains
from heedful.select.disagreement import margin_variance

__all__ = ["design_gains", "margin_variance"]
