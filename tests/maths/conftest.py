"""Imports the maths under jaxtyping, so that every call in these tests checks its shapes."""

import sys

from jaxtyping import install_import_hook

# Modules that an earlier test directory has imported unchecked are imported again, checked.
for name in [name for name in sys.modules if name.startswith("heedful.maths")]:
    del sys.modules[name]

with install_import_hook("heedful.maths", "beartype.beartype"):
    from heedful.maths import (  # noqa: F401
        advantages,
        bestofn,
        kl,
        masked,
        policy,
        preference,
        returns,
        reward,
    )
