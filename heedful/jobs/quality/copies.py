"""Answers that copy another person's: found once, and left out where each must count once."""

import hashlib
from dataclasses import replace

import numpy as np

from heedful.jobs.quality.plain import attempt
from heedful.jobs.quality.reading import Answers
from heedful.stats.copying import PairAgreement, copied_pairs, without_copies
from heedful.stats.votes import Votes

MIN_PEOPLE = 3  # with two, nobody can say who is right
KEPT = 8  # searches: a project's summaries ask for the same one
SEARCHED: dict[bytes, tuple[PairAgreement, ...]] = {}  # by what was searched, oldest first


def find(answers: Answers, notes: list[str]) -> tuple[PairAgreement, ...]:
    """The pairs of people who agree more than their skills explain."""
    votes = answers.votes
    if (
        votes is None
        or len(votes.annotators) < MIN_PEOPLE
        or len(votes.categories) < 2
        or not (np.bincount(votes.item) >= 2).any()
    ):
        return ()
    return attempt(notes, "search for copied answers", lambda: search(votes)) or ()


def search(votes: Votes) -> tuple[PairAgreement, ...]:
    """``copied_pairs``, which takes a minute for 400,000 votes, once for the same votes."""
    digest = hashlib.sha256(repr((votes.annotators, votes.categories, len(votes.items))).encode())
    for column in (votes.item, votes.annotator, votes.label):
        digest.update(np.ascontiguousarray(column).tobytes())
    key = digest.digest()
    if key not in SEARCHED:
        found = copied_pairs(votes)
        while len(SEARCHED) >= KEPT:
            del SEARCHED[next(iter(SEARCHED))]
        SEARCHED[key] = found
    return SEARCHED[key]


def leave_out(answers: Answers, copies: tuple[PairAgreement, ...]) -> Answers:
    """The answers without those of a pair's second person to tasks that its first answered too.

    A copied answer is no second opinion, whoever copied.
    """
    if not copies:
        return answers
    number = answers.annotators.index
    codes = [(number(one), number(two)) for one, two in (pair.annotators for pair in copies)]
    is_kept = without_copies(answers.task, answers.annotator, codes)
    place = np.cumsum(is_kept) - 1
    of_vote, of_pair = is_kept[answers.vote_answer], is_kept[answers.pairs.answer]
    votes, pairs = answers.votes, answers.pairs
    assert votes is not None  # copies were found in them
    return replace(
        answers,
        task=answers.task[is_kept],
        annotator=answers.annotator[is_kept],
        seconds=answers.seconds[is_kept],
        day=answers.day[is_kept],
        vote_answer=place[answers.vote_answer[of_vote]],
        votes=replace(
            votes,
            item=votes.item[of_vote],
            annotator=votes.annotator[of_vote],
            label=votes.label[of_vote],
        ),
        pairs=replace(
            pairs,
            answer=place[pairs.answer[of_pair]],
            task=pairs.task[of_pair],
            first=pairs.first[of_pair],
            second=pairs.second[of_pair],
            points=pairs.points[of_pair],
            is_first_left=pairs.is_first_left[of_pair],
        ),
    )
