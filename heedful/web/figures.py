"""Blocks of reports on pages: the same charts, tables and facts, with nothing inline."""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from markupsafe import Markup

from heedful.monitor import html
from heedful.monitor.records import Block

MAX_KEPT = 64


def block(value: Block, name: str) -> Markup:
    """A block as HTML; ``name`` keeps its ids apart. Sizes are the style sheet's business."""
    # the pages' policy forbids style attributes, and a static report has no other way to size
    return Markup(re.sub(r' style="[^"]*"', "", html.render_block(value, name)))  # noqa: S704


class Drawings:
    """The newest pages' drawings: a chart costs more than a page, and curves are looked at often.

    One at a time draws, so that a dozen readers of a running run do not slow it down.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Markup] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, draw: Callable[[], Markup]) -> Markup:
        """The drawing under a key, made when it is not there."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = draw()
                if len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]
