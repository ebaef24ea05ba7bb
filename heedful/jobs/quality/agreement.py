"""How far people agree, by every usual measure, with intervals."""

from collections import Counter
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from heedful.jobs.quality.plain import attempt
from heedful.stats.agreement_intervals import (
    cohen_kappa_interval,
    fleiss_kappa_interval,
    krippendorff_alpha_interval,
    raw_agreement,
)
from heedful.stats.copying import first_votes
from heedful.stats.votes import Codes, Votes

NUM_COHEN_PAIRS = 6
MIN_COMMON = 10
Row = dict[str, Any]


def agreement(
    votes: Votes,
    item_task: Codes,
    order: tuple[str, ...],
    notes: list[str],
    rng: np.random.Generator,
) -> list[Row]:
    """One row a measure: its name, what it says and its interval over tasks.

    ``item_task[i]`` is the task of item i: its completions by several criteria go together.
    """
    counts = votes.counts()
    num_labels = counts.sum(axis=1)
    if not (num_labels >= 2).any():
        notes.append("No agreement: no task has answers of two people yet.")
        return []
    raw = raw_agreement(counts, clusters=item_task)
    rows = [_row("raw", "Two people say the same", "share of pairs of answers", raw)]
    modal = Counter(num_labels[num_labels >= 2].astype(int).tolist()).most_common(1)[0][0]
    often = num_labels == modal
    fleiss = fleiss_kappa_interval(counts[often], clusters=item_task[often], rng=rng)
    rows.append(
        _row("fleiss", "Fleiss' kappa", f"on what {modal} people answered, beyond chance", fleiss)
    )
    nominal = krippendorff_alpha_interval(counts, clusters=item_task, rng=rng)
    rows.append(
        _row("nominal", "Krippendorff's alpha, nominal", "gaps allowed, beyond chance", nominal)
    )
    places = [place for place, name in enumerate(votes.categories) if name in order]
    values = [order.index(votes.categories[place]) for place in places]
    ordered = counts[:, places]
    if len(places) > 2 and (ordered.sum(axis=1) >= 2).any():
        said = ", ".join(votes.categories[place] for place in places)
        for level, what in (("ordinal", "order counts"), ("interval", "equal steps")):
            alpha = attempt(
                notes,
                f"alpha on the {level} level",
                lambda level=level: krippendorff_alpha_interval(  # type: ignore[misc]
                    ordered, values, clusters=item_task, level=level, rng=rng
                ),
            )
            if alpha is not None:
                title = f"Krippendorff's alpha, {level}"
                rows.append(_row(level, title, f"{what}: {said}", alpha))
    return rows


def cohen(votes: Votes, item_task: Codes, rng: np.random.Generator) -> list[Row]:
    """Cohen's kappa of the pairs with the most items in common, most first."""
    once = first_votes(votes)
    num_people = len(once.annotators)
    seen = csr_array(
        (np.ones(len(once.item)), (once.item, once.annotator)),
        shape=(len(once.items), num_people),
    )
    common = np.triu((seen.T @ seen).toarray(), k=1)
    order = np.argsort(-common, axis=None, kind="stable")[:NUM_COHEN_PAIRS]
    rows = []
    for first, second in zip(*np.unravel_index(order, common.shape), strict=True):
        if common[first, second] < MIN_COMMON:
            break
        items, *labels = _in_common(once, int(first), int(second))
        rows.append(
            {
                "people": [once.annotators[first], once.annotators[second]],
                "kappa": cohen_kappa_interval(*labels, clusters=item_task[items], rng=rng),
            }
        )
    return rows


def _in_common(votes: Votes, first: int, second: int) -> tuple[Codes, Codes, Codes]:
    """Items that both judged, and what each said."""
    one, two = (np.flatnonzero(votes.annotator == person) for person in (first, second))
    items, a, b = np.intersect1d(votes.item[one], votes.item[two], return_indices=True)
    return items, votes.label[one[a]], votes.label[two[b]]


def _row(key: str, name: str, about: str, interval: Any) -> Row:
    return {"measure": key, "name": name, "about": about, "interval": interval}
