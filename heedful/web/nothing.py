"""Why there is no task, in words for the person who asked for one."""

from markupsafe import Markup

from heedful.store.queue import Nothing
from heedful.types import Project
from heedful.web.pages import fragment

WORDS = {
    "no_tasks": "This project has no tasks yet.",
    "paused": "This project is paused.",
    "all_done": "Everything in this project is answered. Thank you!",
    "all_leased": "Others hold what is left. If they leave, it comes back.",
    "answered_all_open": "You have answered all you can; the rest waits for other people.",
    "not_qualified": "This project has no tasks for you.",
    "no_entry_questions": "This project is not ready for you yet.",
}
MORE = {
    "not_qualified": "It lets people in by some questions at the start, and you did not pass them. "
    "That happens to careful people too, and what you answered is kept. If you think it is a "
    "mistake, ask the person who invited you: they can let you in.",
    "no_entry_questions": "It asks everybody some questions first, and there are too few of them. "
    "Ask the person who invited you: they can add some, or let you in.",
}


def card(found: Nothing, project: Project, num_own: int, num_disputed: int = 0) -> Markup:
    """The card that stands in place of a task, for somebody with so many answers.

    ``num_disputed`` tasks are there to be settled, for who may.
    """
    return fragment(
        "nothing.html",
        text=WORDS[found.reason],
        more=MORE.get(found.reason),
        retry_seconds=found.retry_seconds,
        project=project,
        num_own=num_own,
        num_disputed=num_disputed,
    )


def in_words(found: Nothing) -> str:
    """The same as one text."""
    return " ".join(filter(None, (WORDS[found.reason], MORE.get(found.reason))))
