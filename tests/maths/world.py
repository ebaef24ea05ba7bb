"""A language small enough to list: every response, its probability, and the exact optimum.

Token 0 ends the response. A response is cut after ``max_tokens``. The policy is a table of logits,
one row per prefix, so nothing is approximated and every expectation is a sum.
"""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

END = 0


@dataclass(frozen=True)
class World:
    """All N responses, right-padded to T, and the row of the logit table behind each token."""

    tokens: Tensor  # [N, T] int
    mask: Tensor  # [N, T] bool
    states: Tensor  # [N, T] int
    num_states: int
    num_tokens: int

    def random_logits(self, seed: int, scale: float = 1.0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        shape = (self.num_states, self.num_tokens)
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

    def random_rewards(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(len(self.tokens), generator=generator, dtype=torch.float64)

    def token_logprobs(self, logits: Tensor) -> Tensor:
        """[N, T]; NaN on padding, so that a formula which reads padding cannot pass."""
        chosen = logits.log_softmax(-1)[self.states, self.tokens]
        return torch.where(self.mask, chosen, torch.nan)

    def logprobs(self, logits: Tensor) -> Tensor:
        """[N], the log-probability of each response."""
        chosen = logits.log_softmax(-1)[self.states, self.tokens]
        return torch.where(self.mask, chosen, 0.0).sum(1)

    def kl(self, logits: Tensor, ref_logits: Tensor) -> Tensor:
        logprobs = self.logprobs(logits)
        return (logprobs.exp() * (logprobs - self.logprobs(ref_logits))).sum()

    def expected(self, logits: Tensor, values: Tensor) -> Tensor:
        return (self.logprobs(logits).exp() * values).sum()

    def objective(self, logits: Tensor, ref_logits: Tensor, rewards: Tensor, beta: float) -> Tensor:
        return self.expected(logits, rewards) - beta * self.kl(logits, ref_logits)

    def sample(self, logits: Tensor, num: int, generator: torch.Generator) -> Tensor:
        """Indices of ``num`` responses drawn from the policy."""
        probabilities = self.logprobs(logits).exp()
        return torch.multinomial(probabilities, num, replacement=True, generator=generator)

    def scores(self, logits: Tensor) -> Tensor:
        """[N, S * V], the gradient of each response's log-probability in the logits."""
        jacobian = torch.autograd.functional.jacobian(self.logprobs, logits)
        return jacobian.flatten(1)


def make_world(num_tokens: int = 3, max_tokens: int = 3) -> World:
    words = range(1, num_tokens)
    prefixes = [prefix for t in range(max_tokens) for prefix in product(words, repeat=t)]
    row = {prefix: i for i, prefix in enumerate(prefixes)}
    ended = [(*prefix, END) for prefix in prefixes]
    cut = list(product(words, repeat=max_tokens))
    tokens = torch.zeros(len(ended + cut), max_tokens, dtype=torch.long)
    states = torch.zeros_like(tokens)
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    for i, response in enumerate(ended + cut):
        for t, token in enumerate(response):
            tokens[i, t], states[i, t], mask[i, t] = token, row[response[:t]], True
    return World(tokens, mask, states, len(prefixes), num_tokens)


def tilted(ref_logprobs: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """Log-probabilities of the optimum ``pi* ~ pi_ref exp(r / beta)``."""
    return (ref_logprobs + rewards / beta).log_softmax(0)


def total_variation(logprobs: Tensor, other: Tensor) -> float:
    return float((logprobs.exp() - other.exp()).abs().sum() / 2)
