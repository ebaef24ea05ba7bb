"""From logits to a token: truncation, inverse-CDF draws, and stop strings. Pure functions."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from heedful.errors import NumericsError
from heedful.types import SamplingParams

BLOCK = 256  # tokens whose probabilities are summed before one of them is looked for


def draw_tokens(
    logits: Float[Tensor, "R V"],
    uniforms: Float[Tensor, "R"],
    params: Sequence[SamplingParams] = (),
) -> tuple[Int[Tensor, "R"], Float[Tensor, "R"]]:
    """Inverse-CDF sampling: ``uniforms`` in [0, 1) pick tokens, truncated as ``params`` say.

    Returns token ids and their log-probabilities under the whole distribution, which is what a
    trainer recomputes; raises ``NumericsError`` on non-finite logits.
    """
    probabilities = torch.softmax(logits, dim=-1, dtype=torch.float32)
    weights = probabilities
    if any(one.truncates for one in params):
        weights = truncate(
            probabilities,
            top_k=torch.tensor([one.top_k or logits.shape[1] for one in params]).to(logits.device),
            top_p=torch.tensor([one.top_p for one in params]).to(probabilities),
            min_p=torch.tensor([one.min_p for one in params]).to(probabilities),
        )
    tokens = inverse_cdf(weights, uniforms)
    return tokens, probabilities.gather(-1, tokens[:, None]).squeeze(-1).log()


def inverse_cdf(weights: Float[Tensor, "R V"], uniforms: Float[Tensor, "R"]) -> Int[Tensor, "R"]:
    """The place in every row where the running sum passes ``uniforms`` of the whole.

    By blocks and then in one of them: sums are vectorised, running sums are not, and only what is
    read once is as large as ``weights``. Raises ``NumericsError`` on a sum that is not finite.
    """
    if rest := -weights.shape[1] % BLOCK:
        weights = pad(weights, (0, rest))
    blocks = weights.view(len(weights), -1, BLOCK)
    sums = blocks.sum(dim=-1).cumsum(dim=-1)
    total = sums[:, -1:]
    if not torch.isfinite(total).all():
        raise NumericsError(
            "logits are not finite: the model's weights or adapter have diverged; lower the "
            "learning rate and restart from a checkpoint"
        )
    wanted = torch.minimum(uniforms[:, None].to(total.dtype) * total, below(total))
    block = torch.searchsorted(sums, wanted, right=True)
    before = torch.where(block > 0, sums.gather(1, (block - 1).clamp(min=0)), 0)
    own = blocks[torch.arange(len(block), device=block.device), block[:, 0]].cumsum(dim=-1)
    within = torch.minimum(wanted - before, below(own[:, -1:]))
    place = torch.searchsorted(own, within, right=True)
    return (block * BLOCK + place).squeeze(-1)


def below(totals: Tensor) -> Tensor:
    """The next smaller number: a uniform that rounds to 1 would pick a token of probability 0."""
    return torch.nextafter(totals, torch.zeros_like(totals))


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
