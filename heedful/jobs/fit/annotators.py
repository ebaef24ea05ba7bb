"""What a fit says of the reliability of annotators: before it starts, and in its result."""

import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from heedful.config import RewardLoss
from heedful.data.collate import Advance, Mark, Tree, marked, packed
from heedful.data.reading import Reading
from heedful.jobs.progress import progress
from heedful.maths.reward import label_evidence
from heedful.model.forward import forward
from heedful.model.trunk import Trunk
from heedful.monitor.reward_card import FEW_OF_ANNOTATOR
from heedful.stats.intervals import Interval
from heedful.tensors import Marks
from heedful.train import crowd, raters
from heedful.train.objectives import chosen_and_rejected, rating_losses
from heedful.types import JSON, Feedback


def announce(taught: Sequence[Tree], reading: Reading) -> None:
    """Say of whom reliability and offsets are learned, and of how many from little."""
    for criterion, people in reading.raters.items():
        num = sum(len(tree.ratings.get(criterion, ())) for tree in taught)
        print(
            f"how high {len(people)} annotators rate {criterion or 'answers'} is learned from "
            f"{num} ratings",
            file=sys.stderr,
        )
    num_annotators = len(reading.crowd)
    if not num_annotators:
        return
    counts = Counter(judge.skill for tree in taught for judge in tree.judges)
    few = sum(num < FEW_OF_ANNOTATOR for num in counts.values())
    said = f"reliability of {num_annotators} annotators is learned from {counts.total()} pairs"
    if few:
        said += f"; {few} gave fewer than {FEW_OF_ANNOTATOR} and stay near the mean of all"
    print(said, file=sys.stderr)


def reliabilities_of(
    trunk: Trunk,
    taught: Sequence[Tree],
    reading: Reading,
    names: Sequence[str],
    rows: Sequence[Feedback],
    *,
    max_tokens: int,
) -> dict[str, JSON]:
    """The reliability of each annotator given the final scores, on the pairs that were learned.

    ``names`` are the ids behind the numbers in the reading. Empty where none is learned.
    """
    if not reading.crowd:
        return {}
    trees = [tree for tree in taught if tree.pairs]
    with progress("reliability", len(trees)) as advance:
        leads = pair_leads(trunk, trees, max_tokens, advance)
    each, mean = crowd.reliabilities(
        leads,
        torch.tensor([judge.skill for tree in trees for judge in tree.judges]),
        torch.tensor([weight for tree in trees for weight in tree.weights]),
        num_annotators=len(reading.crowd),
        probabilities=torch.tensor([one for tree in trees for one in tree.probabilities]),
    )
    sources = {row.annotator: row.source for row in rows}
    found: list[JSON] = [
        {
            "annotator": names[number],
            "source": sources[names[number]],
            **named("reliability", one),
            "num_pairs": one.num,
        }
        for number, one in zip(reading.crowd, each, strict=True)
    ]
    return {**named("mean_reliability", mean), "annotators": found}


def offsets_of(
    trunk: Trunk,
    loss: RewardLoss,
    taught: Sequence[Tree],
    reading: Reading,
    names: Sequence[str],
    rows: Sequence[Feedback],
    *,
    max_tokens: int,
) -> dict[str, JSON]:
    """How much higher each annotator rates, by criterion, given the final scores and thresholds.

    In log-odds, on the ratings that were learned; ``names`` are the ids behind the numbers in the
    reading. Empty where no offset is learned.
    """
    trees = [tree for tree in taught if any(name in reading.raters for name in tree.ratings)]
    if not trees:
        return {}
    with progress("offsets of raters", len(trees)) as advance:
        rated = ratings_scored(trunk, trees, reading.raters, max_tokens, advance)
    links = {name: one.detach().cpu().double() for name, one in trunk.links["reward"].items()}
    sources = {row.annotator: row.source for row in rows}
    found: dict[str, JSON] = {}
    for criterion, people in reading.raters.items():
        scores, marks = rated[criterion]
        assert marks.judges is not None

        def losses_at(
            own: Tensor, scores: Tensor = scores, marks: Marks = marks, criterion: str = criterion
        ) -> Tensor:
            slope = links[f"rating/{criterion}/log_slope"].exp()
            alone = replace(marks, judges=None)
            return rating_losses(scores + own / slope, alone, criterion, loss, links)

        each = raters.fitted_offsets(
            losses_at, marks.judges.skills, marks.weights.double(), num_annotators=len(people)
        )
        found[criterion or "ratings"] = [
            {
                "annotator": names[number],
                "source": sources[names[number]],
                **named("offset", one),
                "num_ratings": one.num,
            }
            for number, one in zip(people, each, strict=True)
        ]
    return {"rater_offsets": found}


@torch.no_grad()
def ratings_scored(
    trunk: Trunk,
    trees: Sequence[Tree],
    criteria: Collection[str],
    max_tokens: int,
    advance: Advance,
) -> dict[str, tuple[Tensor, Marks]]:
    """By criterion the score behind every rating, in float64, and the ratings."""
    scores: dict[str, list[Tensor]] = {}
    marks: dict[str, list[Mark]] = {}
    for batch in packed(trees, trunk.device, max_tokens, advance):
        outputs = forward(trunk, batch, "reward", {"scores"})
        assert outputs.scores is not None
        for criterion in criteria:
            if criterion in batch.ratings:
                own = outputs.parts.get(criterion, outputs.scores)
                scores.setdefault(criterion, []).append(own[batch.ratings[criterion].rows].cpu())
    for tree in trees:
        for criterion in criteria:
            marks.setdefault(criterion, []).extend(tree.ratings.get(criterion, ()))
    return {
        criterion: (torch.cat(found).double(), marked(marks[criterion], torch.device("cpu")))
        for criterion, found in scores.items()
    }


@torch.no_grad()
def pair_leads(trunk: Trunk, trees: Sequence[Tree], max_tokens: int, advance: Advance) -> Tensor:
    """The lead of each pair, as far as it speaks for its label beside the stated strength."""
    leads = []
    for batch in packed(trees, trunk.device, max_tokens, advance):
        chosen, rejected = chosen_and_rejected(
            forward(trunk, batch, "reward", {"scores"}).scores, batch
        )
        assert batch.margins is not None
        leads.append(label_evidence(chosen - rejected, batch.margins).cpu())
    return torch.cat(leads)


def named(name: str, one: Interval) -> dict[str, JSON]:
    """A number and its interval under the names of results."""
    return {name: round(one.value, 4), f"{name}_ci": [round(one.low, 4), round(one.high, 4)]}
