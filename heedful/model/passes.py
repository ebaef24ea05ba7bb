"""The forward pass of any architecture: transformers' own, entered late, left early, or repeated.

Attention is ours, through transformers' registry (``attention.py``).
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from heedful.model.attention import NAME, Layout
from heedful.tensors import Stem


@dataclass(frozen=True, slots=True)
class Run:
    """How far one pass goes, where it starts, and which of its layers are computed again.

    It ends after ``depth`` layers: normed if these are all, raw before. A ``stem`` that holds
    states saves its layers, an empty one is filled on the way. Layers from ``again`` on keep their
    input only and run a second time for the backward pass, inside ``acting``.
    """

    depth: int
    stem: Stem | None = None
    again: int | None = None
    acting: Callable[[], AbstractContextManager[None]] = nullcontext


class _Exit(Exception):  # noqa: N818 - a signal that ends a forward pass early, not an error
    def __init__(self, states: Tensor) -> None:
        self.states = states


def pass_over(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    """A decoder layer that does nothing."""
    return hidden_states


class BaseForward:
    """The base as transformers wrote it, run as far as a role needs."""

    def __init__(self, model: Any) -> None:
        self.model = model
        number = model.config.num_hidden_layers
        lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
        self.layers = next(each for each in lists if len(each) == number)

    def __call__(
        self, token_ids: Int[Tensor, "N"], position_ids: Int[Tensor, "N"], layout: Layout, run: Run
    ) -> Float[Tensor, "N D"]:
        """Last hidden states of a packed row."""
        # stock attention would ignore the layout and let sequences see each other
        assert self.model.config._attn_implementation == NAME
        try:
            with ExitStack() as changes:
                if run.depth < len(self.layers):
                    changes.enter_context(self.ending_after(run.depth))
                if run.stem is not None:
                    changes.enter_context(self.on_stem(run.stem))
                if run.again is not None:
                    changes.enter_context(self.recomputing(run))
                states: Tensor = self.model.base_model(
                    input_ids=token_ids[None],
                    position_ids=position_ids[None],
                    use_cache=False,
                    layout=layout,
                ).last_hidden_state
        except _Exit as left:
            states = left.states
        return states[0]

    @contextmanager
    def ending_after(self, num_layers: int) -> Iterator[None]:
        """Leave the pass after so many layers."""

        def leave(_: nn.Module, __: Any, output: Any) -> None:
            raise _Exit(output[0] if isinstance(output, tuple) else output)

        handle = self.layers[num_layers - 1].register_forward_hook(leave)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def on_stem(self, stem: Stem) -> Iterator[None]:
        """Fill an empty stem on the way, or pass over the layers whose outcome it holds."""
        passed = self.layers[: stem.num_layers] if stem.states is not None else ()

        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            # a layer takes its states by position in some architectures, by name in others
            given = args[0] if args else kwargs["hidden_states"]
            if stem.states is None:
                stem.states = given[0].detach()
                return None
            if args:
                return (stem.states[None], *args[1:]), kwargs
            return args, kwargs | {"hidden_states": stem.states[None]}

        for layer in passed:
            layer.forward = pass_over
        handle = self.layers[stem.num_layers].register_forward_pre_hook(enter, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()
            for layer in passed:
                del layer.forward

    @contextmanager
    def recomputing(self, run: Run) -> Iterator[None]:
        """Let layers keep their input only, and run again in the backward pass."""
        layers = self.layers[run.again : run.depth]

        def again(forward: Callable[..., Any]) -> Callable[..., Any]:
            def act(*args: Any, **kwargs: Any) -> Any:
                # the backward pass comes when nobody acts any more
                with run.acting():
                    return forward(*args, **kwargs)

            return partial(checkpoint, act, use_reentrant=False, preserve_rng_state=False)

        for layer in layers:
            layer.forward = again(layer.forward)
        try:
            yield
        finally:
            for layer in layers:
                del layer.forward
