"""Groups of annotators that a reward model has a part for each: who belongs where.

In Chakraborty 2024 (arXiv:2402.08925) groups are found by EM; here they are what annotators said of
themselves.
"""

import re
import sys
from collections import Counter
from dataclasses import replace

from heedful.config import RewardLoss
from heedful.data.examples import Encoded
from heedful.data.parts import with_groups
from heedful.errors import ConfigError, DataError
from heedful.registry import nearest
from heedful.store import people
from heedful.store.database import Store


def group_name(attribute: str, value: str) -> str:
    """What the part of a group is called, ``level:expert``; without signs that a mix has."""
    return re.sub(r"[\s=>,]+", "-", f"{attribute}:{value}")


def grouped(encoded: Encoded, loss: RewardLoss, store: Store | None) -> Encoded:
    """The same with the group of who gave each order; says on stderr which groups there are.

    Whose attribute is not known teaches the overall part alone. Raises ``ConfigError`` without a
    store, ``DataError`` for an attribute that nobody has.
    """
    if loss.heads != "groups":
        return encoded
    assert loss.group_by is not None
    if store is None:
        raise ConfigError("loss.heads is 'groups', and a store knows who is in which; give --store")
    with store.read() as tx:
        attributes = {user.id: user.attributes for user in people.list_all(tx)}
    of_all = [attributes.get(annotator, {}) for annotator in encoded.annotators]
    names = {
        number: group_name(loss.group_by, own[loss.group_by])
        for number, own in enumerate(of_all)
        if own.get(loss.group_by)
    }
    if not names:
        known = sorted({name for own in of_all for name in own})
        hint = nearest(loss.group_by, known) if known else "ask for it in the project"
        raise DataError(
            f"none of {len(of_all)} annotators has the attribute {loss.group_by!r}; {hint}"
        )
    counts = sorted(Counter(names.values()).items())
    said = ", ".join(f"{name} of {num}" for name, num in counts)
    without = len(of_all) - len(names)
    rest = f"; {without} without the attribute teach the overall part alone" if without else ""
    print(f"groups of annotators: {said}{rest}", file=sys.stderr)
    return replace(encoded, trees=[with_groups(tree, names) for tree in encoded.trees])
