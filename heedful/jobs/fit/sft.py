"""``fit sft``: imitate demonstrations."""

from collections.abc import Sequence
from pathlib import Path

import torch

from heedful.config import SFTConfig
from heedful.data.collate import Advance, Tree, packed, silent
from heedful.data.examples import demonstration_trees
from heedful.data.snapshot import split_by_prompt
from heedful.jobs.fit.base import (
    FitResult,
    Plan,
    example_source,
    load_rows,
    longest_text,
    open_for,
    run_fit,
    split,
    usable,
)
from heedful.jobs.fit.policy import add_policy, prove_policy, with_adapter_of_start
from heedful.jobs.progress import progress
from heedful.model.forward import logprobs_of
from heedful.model.trunk import Trunk
from heedful.store.database import Store
from heedful.train import algorithms
from heedful.types import JSON


def fit_sft(
    config: SFTConfig, out: Path, *, store: Store | None = None, profile: bool = False
) -> FitResult:
    """Supervised fine-tuning on demonstrations; reports held-out NLL before and after."""
    config = with_adapter_of_start(config, store)
    data = load_rows(store, config.data, "demonstration", out)

    def build() -> Plan:
        ref, trunk, reference = open_for(config, store)
        add_policy(config, trunk, reference)
        longest = longest_text(config, trunk)
        read = demonstration_trees(trunk.tokenizer, data.rows, max_tokens=longest)
        encoded = usable(read, "demonstrations", longest)
        kept, held = split(encoded, *split_by_prompt(data.rows, config.held_out_share, config.seed))
        source = example_source(kept, config, trunk, "tokens")
        limit = config.batch.tokens_per_micro_step

        def finish() -> dict[str, JSON]:
            with progress("held-out NLL", 2 * len(held)) as advance:
                return {
                    "num_train": len(kept),
                    "num_held_out": len(held),
                    "drops": dict(encoded.drops),
                    "held_out_nll": mean_nll(trunk, held, "policy", limit, advance),
                    "held_out_nll_start": mean_nll(trunk, held, reference, limit, advance),
                }

        return Plan(
            trunk=trunk,
            algorithm=algorithms.sft(),
            held_out=held,
            source=source,
            refs=(ref,),
            shown={"policy/nll_nats": "nll", "policy/entropy_nats": "entropy"},
            prove=lambda: prove_policy(trunk, kept, reference),
            finish=finish,
        )

    return run_fit("sft", config, out, store, data, build, profile=profile)


@torch.no_grad()
def mean_nll(
    trunk: Trunk,
    trees: Sequence[Tree],
    role: str | None,
    max_tokens: int,
    advance: Advance = silent,
) -> float | None:
    """Token-mean NLL of responses; None without any."""
    total, count = 0.0, 0
    for batch in packed(trees, trunk.device, max_tokens, advance):
        total -= logprobs_of(trunk, batch, role).sum().item()
        count += batch.num_tokens
    return total / count if count else None
