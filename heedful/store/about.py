"""What projects ask annotators about themselves, such as language or expertise, and what they say.

A project's line is a name, ``language``, or a name with choices, ``level: expert | lay``; choices
keep groups comparable. Whoever would rather not say has said so with an empty answer.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import select

from heedful.errors import DataError
from heedful.registry import nearest
from heedful.store import people, tables
from heedful.store.database import Transaction
from heedful.types import Project

MAX_QUESTIONS, MAX_ANSWER = 12, 100
NAME = r"[^\W\d_][\w -]{0,39}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Something that annotators are asked; any text will do where there are no ``choices``."""

    name: str
    choices: tuple[str, ...] = ()


def question(line: str) -> Question:
    """A question from its line; raises ``DataError``."""
    name, colon, rest = (part.strip() for part in line.partition(":"))
    # as answers are kept, or one with two spaces would never be among its choices
    choices = tuple(" ".join(one.split()) for one in rest.split("|") if one.strip())
    if not re.fullmatch(NAME, name):
        raise DataError(
            f"{name!r:.80} is no name of what is asked; begin with a letter and use at most 40 "
            "letters, digits, spaces, '_' and '-'"
        )
    if colon and (len(set(choices)) < max(len(choices), 2) or max(map(len, choices)) > MAX_ANSWER):
        raise DataError(
            f"{name!r} has the choices {rest!r:.80}; give two or more different ones of at most "
            f"{MAX_ANSWER} characters, such as expert | lay"
        )
    return Question(name=name, choices=choices)


def questions(lines: Iterable[str]) -> list[Question]:
    """The questions of a project; raises ``DataError`` for too many, or one that is asked twice."""
    found = [question(line) for line in lines]
    names = [one.name for one in found]
    if len(names) > MAX_QUESTIONS:
        raise DataError(f"{len(names)} things are asked of annotators; ask at most {MAX_QUESTIONS}")
    if len(set(names)) < len(names):
        raise DataError(f"{', '.join(names)}: one is asked twice; ask each once")
    return found


def unasked(project: Project, told: Mapping[str, str]) -> list[Question]:
    """The questions of a project that somebody has not seen yet."""
    return [one for one in questions(project.attributes) if one.name not in told]


def asked(tx: Transaction) -> list[Question]:
    """Everything that any project asks, each name once, with the choices of the newest."""
    query = select(tables.projects.c.settings).order_by(tables.projects.c.created_at)
    lines = [line for own in tx.connection.scalars(query) for line in own.get("attributes", ())]
    found = {one.name: one for one in map(question, lines)}
    return [found[name] for name in sorted(found)]


def tell(tx: Transaction, who: str, of: Iterable[Question], given: Mapping[str, str]) -> None:
    """Keep what a person says to these questions; one without an answer is kept as not told.

    Raises ``DataError`` for an answer that is no choice, or too long.
    """
    said = {one.name: " ".join(given.get(one.name, "").split()) for one in of}
    for one in of:
        told = said[one.name]
        if one.choices and told and told not in one.choices:
            raise DataError(f"{one.name} is {told!r:.80}; {nearest(told, one.choices)}")
        if len(told) > MAX_ANSWER:
            raise DataError(f"{one.name} has {len(told)} characters; {MAX_ANSWER} at most")
    if said:
        before = people.get(tx, who).attributes
        people.change(tx, who, attributes={**before, **said})
