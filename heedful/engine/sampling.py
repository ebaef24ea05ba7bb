"""From logits to a token: truncation, inverse-CDF draws, and stop strings. Pure functions."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heedful.errors import NumericsError
from heedful.types import SamplingParams


def draw_tokens(
    logits: Float[Tensor, "R V"],
    uniforms: Float[Tensor, "R"],
    params: Sequence[SamplingParams] = (),
) -> tuple[Int[Tensor, "R"], Float[Tensor, "R"]]:
    """Inverse-CDF sampling: ``uniforms`` in [0, 1) pick tokens, truncated as ``params`` say.

    Returns token ids and their log-probabilities under the whole distribution, which is what a
    trainer recomputes; raises ``NumericsError`` on non-finite logits.
    """
    top = logits.amax(dim=-1, keepdim=True)
    # one array of [R, V], reused in place: a step's time is spent on memory
    weights = (logits - top).exp_()
    if any(one.truncates for one in params):
        whole = weights.sum(dim=-1, keepdim=True)
        weights = truncate(
            weights.div_(whole),
            top_k=torch.tensor([one.top_k or logits.shape[1] for one in params]).to(logits.device),
            top_p=torch.tensor([one.top_p for one in params]).to(logits),
            min_p=torch.tensor([one.min_p for one in params]).to(logits),
        )
        cumulative = weights.cumsum_(dim=-1)
    else:
        cumulative = weights.cumsum_(dim=-1)
        whole = cumulative[:, -1:]
    if not torch.isfinite(whole).all():
        raise NumericsError(
            "logits are not finite: the model's weights or adapter have diverged; lower the "
            "learning rate and restart from a checkpoint"
        )
    total = cumulative[:, -1:]
    # below the total, or a uniform that rounds to 1 would pick a token of probability 0
    below = torch.nextafter(total, torch.zeros_like(total))
    threshold = torch.minimum(uniforms[:, None].to(total.dtype) * total, below)
    tokens = torch.searchsorted(cumulative, threshold, right=True)
    logprobs = logits.gather(-1, tokens) - top - whole.log()
    return tokens.squeeze(-1), logprobs.squeeze(-1)


def truncate(
    probabilities: Float[Tensor, "R V"],
    *,
    top_k: Int[Tensor, "R"],
    top_p: Float[Tensor, "R"],
    min_p: Float[Tensor, "R"],
) -> Float[Tensor, "R V"]:
    """Zero every token that fails one of three tests, each on the whole distribution.

    Among the ``top_k`` likeliest; less than ``top_p`` of the mass on likelier tokens (Holtzman
    2020, arXiv:1904.09751); at least ``min_p`` times the likeliest (Nguyen 2024,
    arXiv:2407.01082). The likeliest token always stays. Not renormalised.
    """
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    ranks = torch.arange(ordered.shape[1], device=ordered.device)
    likelier = ordered.cumsum(dim=-1) - ordered
    kept = (
        (ranks < top_k[:, None])
        & (likelier < top_p[:, None])
        & (ordered >= min_p[:, None] * ordered[:, :1])
    )
    kept[:, 0] = True
    return torch.zeros_like(probabilities).scatter(1, order, ordered * kept)


def stop_place(text: str, stops: Sequence[str]) -> int | None:
    """Where the first stop string begins in ``text``; None without one."""
    places = [place for place in map(text.find, stops) if place >= 0]
    return min(places, default=None)
