"""Answers that copy another person's: found once, and left out where each must count once."""

from dataclasses import replace

import numpy as np

from heedful.jobs.quality.plain import attempt
from heedful.jobs.quality.reading import Answers
from heedful.stats.copying import PairAgreement, copied_pairs, without_copies

MIN_PEOPLE = 3  # with two, nobody can say who is right


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
    return attempt(notes, "search for copied answers", lambda: copied_pairs(votes)) or ()


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
