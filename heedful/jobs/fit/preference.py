"""``fit preference``: direct preference optimisation."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from heedful.config import PreferenceConfig
from heedful.data.collate import Tree
from heedful.data.examples import preference_trees
from heedful.data.snapshot import split_by_prompt
from heedful.jobs.fit.accuracy import accuracy_of
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
from heedful.reward.implicit import implicit_scores
from heedful.store.database import Store
from heedful.tensors import Batch
from heedful.train import algorithms
from heedful.train.phases import Phases
from heedful.types import JSON


def fit_preference(
    config: PreferenceConfig, out: Path, *, store: Store | None = None, profile: bool = False
) -> FitResult:
    """Direct preference optimisation; reports held-out implicit-reward accuracy."""
    config = with_adapter_of_start(config, store)
    data = load_rows(store, config.data, "preference", out)

    def build() -> Plan:
        algorithm = algorithms.direct(loss=config.loss, params=config.params)
        ref, trunk, reference = open_for(config, store)
        add_policy(config, trunk, reference)
        longest = longest_text(config, trunk)
        read = preference_trees(trunk.tokenizer, data.rows, max_tokens=longest)
        encoded = usable(read, "preferences", longest)
        kept, held = split(encoded, *split_by_prompt(data.rows, config.held_out_share, config.seed))

        def with_reference(batches: Sequence[Batch], phases: Phases) -> list[Batch]:
            with phases("reference", tokens=sum(batch.num_packed for batch in batches)):
                stemmed = [replace(one, stem=trunk.stem("policy", reference)) for one in batches]
                return [
                    replace(one, ref_logprobs=logprobs_of(trunk, one, reference)) for one in stemmed
                ]

        return Plan(
            trunk=trunk,
            algorithm=algorithm,
            held_out=held,
            source=example_source(kept, config, trunk, "pairs", with_reference),
            refs=(ref,),
            shown={
                "preference/loss_nats": "loss",
                "preference/accuracy_rate": "accuracy",
                "preference/margin_nats": "margin",
            },
            prove=lambda: prove_policy(trunk, kept, reference),
            finish=lambda: (
                implicit_accuracy(trunk, held, reference, config.batch.tokens_per_micro_step)
                | {"drops": dict(encoded.drops)}
            ),
        )

    return run_fit("preference", config, out, store, data, build, profile=profile)


def implicit_accuracy(
    trunk: Trunk,
    trees: Sequence[Tree],
    reference: str | None,
    max_tokens: int,
) -> dict[str, JSON]:
    """Share of held-out pairs whose chosen side gained more log-probability."""
    with progress("held-out pairs", len(trees)) as advance:
        gains = implicit_scores(
            trunk, trees, reference, beta=1.0, max_tokens=max_tokens, advance=advance
        )
    deltas = [
        scores[chosen] - scores[rejected]
        for tree, scores in zip(trees, gains, strict=True)
        for chosen, rejected in tree.pairs
    ]
    return accuracy_of(deltas, trees)
