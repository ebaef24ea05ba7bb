"""Feedback forms. ``FORMS[task.form]`` validates answers and turns them into training rows.

May import the nouns, errors and registry; the store and everything above may import it.
"""

from heedful.forms.base import Form
from heedful.forms.demonstration import DemonstrationForm
from heedful.forms.pairwise import Pairwise
from heedful.registry import Registry

FORMS: Registry[Form] = Registry(
    "form", {"pairwise": Pairwise(), "demonstration": DemonstrationForm()}
)

__all__ = ["FORMS", "Form"]
