"""Models ranked by what people prefer: with and without style, with and without a cap on votes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from heedful.annotators.text_patterns import STYLE, style
from heedful.jobs.quality import figures
from heedful.jobs.quality.copies import find, leave_out
from heedful.jobs.quality.plain import attempt
from heedful.jobs.quality.reading import Answers
from heedful.monitor import charts
from heedful.stats.comparisons import Comparisons
from heedful.stats.leaderboard import Leaderboard, leaderboard
from heedful.store import Transaction, columns

Row = dict[str, Any]
Array = NDArray[np.float64]
CAPS = (100, 1000)
MIN_COMPARISONS = 20  # fewer make intervals of thousands of points
MIN_APART = 30
AT_ONCE = 20_000
SIDE = "standing on the left"


def summarise(tx: Transaction, answers: Answers) -> Row:
    """A ranking for every combination of style control and vote cap that changes something."""
    notes: list[str] = []
    num_answers = len(answers.task)
    answers = leave_out(answers, find(answers, notes))
    comparisons = answers.comparisons
    data: Row = {
        "form": answers.form.name,
        "needed": MIN_COMPARISONS,
        "num_copied": num_answers - len(answers.task),
        "num_comparisons": 0,
        "num_ties": 0,
        "num_people": 0,
        "caps": [],
        "rankings": [],
        "figures": [],
        "notes": notes,
    }
    if comparisons is None:
        notes.append(
            "No ranking: it takes answers of at least two models to one prompt, compared by people."
        )
        return data
    data |= {
        "num_comparisons": len(comparisons.points),
        "num_ties": int((comparisons.points == 0.5).sum()),
        "num_people": len(np.unique(comparisons.annotator)),
    }
    if len(comparisons.points) < MIN_COMPARISONS:
        return data
    most = int(np.bincount(comparisons.annotator).max())
    caps = [cap for cap in CAPS if cap < most]
    names = columns.names(tx, comparisons.candidates)
    clusters = [str(code) for code in _prompts(answers)]
    swaying, gaps = style_gaps(tx, answers)
    for cap in (None, *caps):
        what = f"ranking{f' with a cap of {cap}' if cap else ''}"
        ranking = attempt(
            notes,
            what,
            lambda cap=cap: leaderboard(comparisons, vote_cap=cap, clusters=clusters),  # type: ignore[misc]
        )
        if ranking is not None:
            if all(one.rank is None for one in ranking.standings):
                notes.append(f"No ranks in the {what}: it rests on one prompt; it needs more.")
            data["rankings"].append(_ranking(ranking, names, (), cap))
            styled = _at_equal_style(comparisons, cap, clusters, swaying, gaps)
            if styled is None:
                notes.append(f"No {what} at equal style: style and side decide everything alone.")
            else:
                data["rankings"].append(_ranking(styled[0], names, styled[1], cap))
    data["caps"] = caps
    return data


def _at_equal_style(
    comparisons: Comparisons,
    cap: int | None,
    clusters: list[str],
    swaying: tuple[str, ...],
    gaps: Array,
) -> tuple[Leaderboard, tuple[str, ...]] | None:
    """The ranking and what it holds equal; the rarest features are left out until it is finite."""
    kept = list(np.argsort(-(gaps != 0).sum(axis=0), kind="stable"))
    while kept:
        try:
            ranking = leaderboard(comparisons, vote_cap=cap, style=gaps[:, kept], clusters=clusters)
        except ValueError:
            kept.pop()
        else:
            return ranking, tuple(swaying[code] for code in kept)
    return None


def style_gaps(tx: Transaction, answers: Answers) -> tuple[tuple[str, ...], Array]:
    """Names and columns of what may sway people besides the model.

    Left minus right over the sum of both for every feature of style that varies enough; ones for
    the side.
    """
    pairs, rows = answers.pairs, answers.compared
    ids = answers.shown.completions
    used = np.unique(np.concatenate([pairs.first[rows], pairs.second[rows]]))
    place = {ids[code]: code for code in used}
    values = np.zeros((len(ids), len(STYLE)))
    for start in range(0, len(used), AT_ONCE):
        wanted = [ids[code] for code in used[start : start + AT_ONCE]]
        for one, text in columns.completion_texts(tx, wanted):
            values[place[one]] = style(text)
    first, second = values[pairs.first[rows]], values[pairs.second[rows]]
    total = first + second
    gap = np.divide(first - second, total, out=np.zeros_like(total), where=total > 0)
    gap[~pairs.is_first_left[rows]] *= -1
    # what differs in a handful of pairs cannot be told from the pairs themselves
    varies = np.flatnonzero((gap != 0).sum(axis=0) >= MIN_APART)
    names = (*(tuple(STYLE)[code] for code in varies), SIDE)
    return names, np.column_stack([gap[:, varies], np.ones(len(gap))])


def _prompts(answers: Answers) -> Any:
    return answers.shown.prompt[answers.pairs.first[answers.compared]]


def _ranking(
    ranking: Leaderboard, names: dict[str, str], swaying: tuple[str, ...], cap: int | None
) -> Row:
    rows = [
        {
            "id": one.candidate,
            "name": names[one.candidate],
            "rank": one.rank,
            "rating": one.rating,
        }
        for one in ranking.standings
    ]
    key = f"ranking-{'style' if ranking.style else 'plain'}-{cap or 'all'}"
    drawn = [
        figures.row_of(names[one.candidate], one.rating) for one in ranking.standings if one.rank
    ]
    return {
        "style": bool(ranking.style),
        "cap": cap,
        "num_used": ranking.num_used,
        "rows": rows,
        "worth": [
            {"feature": name, "points": one}
            for name, one in zip(swaying, ranking.style, strict=False)
        ],
        "figure": _figure(key, drawn[: figures.MAX_ROWS]) if drawn else None,
    }


def _figure(key: str, rows: list[Row]) -> Row:
    words = "; ".join(
        f"{row['name']}: {row['value']:.0f}, 95 % interval {row['low']:.0f} to {row['high']:.0f}"
        for row in rows
    )
    return figures.figure(
        key,
        "Ratings",
        "Points with 95 % intervals. 400 points are odds of 10 to 1; the mean is 1000.",
        f"{words}.",
        charts.ratings(rows, title="rating"),
        rows,
    )
