"""Where the learned numbers between scores and answers start: at their best for the first scores.

A threshold that starts elsewhere would pull the adapter towards itself before it has moved.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from heedful.config import RewardLoss
from heedful.data.collate import Advance, Tree, packed, silent
from heedful.data.reading import Reading
from heedful.model.forward import forward
from heedful.model.trunk import Trunk
from heedful.tensors import Batch, Outputs
from heedful.train import crowd, raters
from heedful.train.objectives import Objective

# keeps a slope finite where the first scores tell good from bad without a mistake
PULL = 1e-3


def new_links(loss: RewardLoss, reading: Reading) -> dict[str, Tensor]:
    """The links that a run needs: of annotators, of ties, of each criterion and of thumbs."""
    links = crowd.new_skills(len(reading.crowd)) if reading.crowd else {}
    if loss.ties != "drop":
        links["tie"] = torch.zeros(())
    for criterion, levels in reading.levels.items():
        name = f"rating/{criterion}"
        is_ordinal = loss.ratings == "ordinal"
        links[f"{name}/log_slope"] = torch.zeros(())
        links[f"{name}/shift"] = torch.tensor(0.0 if is_ordinal else sum(levels) / len(levels))
        if people := reading.raters.get(criterion):
            links[raters.name_of(criterion)] = torch.zeros(len(people))
        if is_ordinal and len(levels) > 2:
            links[f"{name}/gaps"] = torch.full((len(levels) - 2,), math.log(math.expm1(1.0)))
    if reading.thumbs:
        links["thumb/log_slope"] = torch.zeros(())
        links["thumb/threshold"] = torch.zeros(())
    return links


def start_links(
    trunk: Trunk,
    trees: Sequence[Tree],
    objective: Objective,
    *,
    role: str,
    max_tokens: int,
    advance: Advance = silent,
) -> None:
    """Set the role's links to the minimum of the objective at the scores as they are now."""
    links = trunk.links.get(role, {})
    if not links:
        return
    scored = []
    with torch.no_grad():
        for batch in packed(trees, trunk.device, max_tokens, advance):
            scored.append((batch, forward(trunk, batch, role, {"scores"})))
    fit_links(links, scored, objective)


def fit_links(
    links: Mapping[str, Tensor], scored: Sequence[tuple[Batch, Outputs]], objective: Objective
) -> None:
    """Set links to the minimum of the objective on batches with these outputs."""
    count = sum(batch.judgement_weight for batch, _ in scored)
    start = {name: value.detach().clone() for name, value in links.items()}
    own = {name: value.clone().requires_grad_(True) for name, value in start.items()}
    search = torch.optim.LBFGS(own.values(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        total = torch.zeros((), device=scored[0][0].token_ids.device)
        for batch, outputs in scored:
            total = total + objective(replace(outputs, links=own), batch)[0]
        away = sum((own[name] - start[name]).square().sum() for name in own)
        value: Tensor = total / count + PULL * away
        value.backward()  # type: ignore[no-untyped-call]
        return value

    search.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, value in own.items():
            links[name].copy_(value)
