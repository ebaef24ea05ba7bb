"""Feedback forms. ``FORMS[task.form]`` validates answers and turns them into training rows.

May import the nouns, errors and registry; the store and everything above may import it.
"""

from heedful.forms.base import Form
from heedful.forms.critique import Critique
from heedful.forms.demonstration import DemonstrationForm
from heedful.forms.flags import Flags
from heedful.forms.pairwise import Pairwise
from heedful.forms.ranking import RankingForm
from heedful.forms.rating import RatingForm
from heedful.forms.steps import Steps
from heedful.registry import Registry

FORMS: Registry[Form] = Registry(
    "form",
    {
        "pairwise": Pairwise(),
        "ranking": RankingForm(),
        "rating": RatingForm(),
        "flags": Flags(),
        "demonstration": DemonstrationForm(),
        "critique": Critique(),
        "steps": Steps(),
    },
)

__all__ = ["FORMS", "Form"]
