"""Checks every shape in the annotations of heedful.maths at run time, in this test process."""

import sys

import torch
from jaxtyping import install_import_hook

# Tensors here have tens of elements; threads waiting for each other cost ten times the work.
torch.set_num_threads(1)

# What an earlier test directory has imported unchecked is imported again, checked.
for name in [name for name in sys.modules if name.startswith("heedful.maths")]:
    del sys.modules[name]

install_import_hook("heedful.maths", "beartype.beartype")
