"""The same figures by group of annotators and by topic of prompts."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from heedful.annotators.features import FUNCTION_WORDS
from heedful.jobs.quality.plain import attempt
from heedful.jobs.quality.reading import Answers
from heedful.stats.agreement_intervals import raw_agreement
from heedful.stats.consensus import own_counts
from heedful.stats.groups import compare_groups
from heedful.stats.pace import pace
from heedful.stats.topics import NO_TOPIC, Topics, find_topics
from heedful.stats.votes import Codes, Votes
from heedful.store import Transaction, columns

Row = dict[str, Any]
MAX_SAMPLED = 4000
PROMPTS_PER_TOPIC = 40
MAX_TOPICS = 8


def groups(
    answers: Answers, attributes: Mapping[str, Mapping[str, str]], notes: list[str]
) -> list[Row]:
    """For every attribute of people: how often each group's answers are those of others."""
    votes = answers.votes
    if votes is None:
        return []
    counts = votes.counts()[votes.item] - own_counts(votes)
    total = counts.sum(axis=1)
    same = counts[np.arange(len(total)), votes.label]
    found = []
    for key in sorted({key for own in attributes.values() for key in own}):
        group = [attributes.get(person, {}).get(key, "") for person in votes.annotators]
        has_group = np.array([bool(name) for name in group])
        rows = np.flatnonzero((total > 0) & has_group[votes.annotator])
        if len({group[code] for code in np.unique(votes.annotator[rows])}) < 2:
            continue
        people = votes.annotator[rows]
        compared = attempt(
            notes,
            f"comparison by {key}",
            lambda people=people, rows=rows, group=group: compare_groups(  # type: ignore[misc]
                [group[code] for code in people],
                [votes.annotators[code] for code in people],
                same[rows] / total[rows],
            ),
        )
        if compared is not None:
            found.append(
                {
                    "attribute": key,
                    "shares": [
                        {"group": name, "interval": one} for name, one in compared.shares.items()
                    ],
                    "differences": [
                        {
                            "groups": list(one.groups),
                            "interval": one.difference,
                            "adjusted": one.adjusted,
                        }
                        for one in compared.differences
                    ],
                }
            )
    return found


def topics(
    tx: Transaction,
    answers: Answers,
    distinct: Votes | None,
    notes: list[str],
    rng: np.random.Generator,
) -> list[Row]:
    """Pace, and agreement of ``distinct`` votes, by what the prompt is about; largest first."""
    prompts = answers.shown.prompts
    num_topics = min(MAX_TOPICS, len(prompts) // PROMPTS_PER_TOPIC)
    if num_topics < 2:
        notes.append(
            f"No topics: they take {2 * PROMPTS_PER_TOPIC} prompts; there are {len(prompts)}."
        )
        return []
    drawn = rng.permutation(len(prompts))[:MAX_SAMPLED]
    texts = [text for _, text in sorted(columns.prompt_texts(tx, [prompts[i] for i in drawn]))]
    fitted = attempt(
        notes, "topics", lambda: find_topics(texts, num_topics, rng=rng, ignored=FUNCTION_WORDS)
    )
    if fitted is None:
        return []
    of_prompt = _assign(tx, fitted, prompts)
    of_task = np.array(
        [of_prompt[answers.shown.prompt[places[0]]] for places in answers.shown.by_task]
    )
    counts = distinct.counts() if distinct else None
    rows = [
        _topic(answers, counts, fitted.names[topic] if topic >= 0 else "other", of_task == topic)
        for topic in range(NO_TOPIC, num_topics)
        if (of_task == topic).any()
    ]
    return sorted(rows, key=lambda row: (row["name"] == "other", -row["num_tasks"]))


def _assign(tx: Transaction, fitted: Topics, prompts: tuple[str, ...]) -> Codes:
    place = {prompt: code for code, prompt in enumerate(prompts)}
    found = np.full(len(prompts), NO_TOPIC)
    at_once = 20_000
    for start in range(0, len(prompts), at_once):
        ids, texts = zip(*columns.prompt_texts(tx, prompts[start : start + at_once]), strict=True)
        found[[place[one] for one in ids]] = fitted.assign(texts)
    return found


def _topic(answers: Answers, counts: Any, name: str, is_in: Any) -> Row:
    seconds = answers.seconds[is_in[answers.task]]
    seconds = seconds[~np.isnan(seconds)]
    return {
        "name": name,
        "num_tasks": int(is_in.sum()),
        "num_answers": int(is_in[answers.task].sum()),
        "agreement": _agreement(counts, answers.item_task, is_in[answers.item_task]),
        "pace": pace(seconds) if len(seconds) else None,
    }


def _agreement(counts: Any, item_task: Codes, is_in: Any) -> Any:
    if counts is None or not (counts[is_in].sum(axis=1) >= 2).any():
        return None
    return raw_agreement(counts[is_in], clusters=item_task[is_in])
