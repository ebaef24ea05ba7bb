"""What a labelling page sends, as the payload of a form. One converter per form.

A page speaks of places (0 is the leftmost), never of completions: which completion stands where was
drawn by the server.
"""

from collections.abc import Callable, Mapping, Sequence

from heedful.errors import DataError
from heedful.forms.pairwise import BOTH_BAD, MAX_STRENGTH
from heedful.forms.steps import BAD
from heedful.registry import Registry
from heedful.types import JSON

Fields = Mapping[str, str]
Convert = Callable[[Fields, Sequence[str]], dict[str, JSON]]

MUCH = "+"  # after a side: much better
NAMING = ("preferred", "accepted", "ranks", "ratings", "flags")  # fields that name completions


def pairwise(fields: Fields, shown: Sequence[str]) -> dict[str, JSON]:
    """``choice`` is a place, with ``+`` for much better, or a word; ``written`` may go with it."""
    choice = fields.get("choice", "")
    payload: dict[str, JSON]
    if choice in ("tie", BOTH_BAD):
        payload = {"preferred": None if choice == "tie" else BOTH_BAD}
    else:
        place = choice.removesuffix(MUCH)
        if place not in ("0", "1"):
            raise DataError(f"choice is {choice!r:.40}; send 0 or 1, 0+ or 1+, tie or {BOTH_BAD}")
        payload = {"preferred": shown[int(place)]}
        if choice.endswith(MUCH):
            payload["strength"] = MAX_STRENGTH
    return payload | text(fields, "written")


def ranking(fields: Fields, shown: Sequence[str]) -> dict[str, JSON]:
    """``rank.PLACE`` is a number, 1 the best; equal numbers are a tie."""
    ranks: dict[int, list[str]] = {}
    for place, one in enumerate(shown):
        ranks.setdefault(number(fields, f"rank.{place}"), []).append(one)
    return {"ranks": [ranks[rank] for rank in sorted(ranks)]}


def rating(fields: Fields, shown: Sequence[str]) -> dict[str, JSON]:
    """``rating.PLACE.CRITERION`` is a number from 1 to 5."""
    ratings: dict[str, dict[str, int]] = {one: {} for one in shown}
    for name in fields:
        if name.startswith("rating."):
            one, criterion = placed(name, shown)
            ratings[one][criterion] = number(fields, name)
    return {"ratings": ratings}


def flags(fields: Fields, shown: Sequence[str]) -> dict[str, JSON]:
    """``flag.PLACE.NAME`` is a severity, 0 or nothing for none; ``note.PLACE.NAME`` a note on it.

    Raises ``DataError`` for a note without a severity, which nothing would keep.
    """
    found: dict[str, dict[str, JSON]] = {}
    for name in fields:
        kind, _, place = name.partition(".")
        if kind not in ("flag", "note"):
            continue
        one, flag = placed(name, shown)
        note = text(fields, f"note.{place}", key="note")
        if severity := number(fields, f"flag.{place}") if fields.get(f"flag.{place}") else 0:
            found.setdefault(one, {})[flag] = {"severity": severity} | note
        elif note:
            raise DataError(
                f"there is a note on {flag!r:.40} and no severity; say how bad it is, or clear the "
                "note"
            )
    return {"flags": found}


def demonstration(fields: Fields, shown: Sequence[str]) -> dict[str, JSON]:
    """``choice`` is accept, reject or write, which takes ``written`` in place of ``shown``.

    What was left as it is, is accepted. Raises ``DataError`` for a changed text that is not
    submitted, which nothing would keep.
    """
    choice, written = fields.get("choice", ""), text(fields, "written")
    is_changed = "shown" in fields and written != text(fields, "shown", key="written")
    if choice == "write":
        is_accepted = "shown" in fields and not is_changed
        return {"accepted": shown[0]} if is_accepted else written or {"written": ""}
    if choice not in ("accept", "reject"):
        raise DataError(f"choice is {choice!r:.40}; send accept, reject or write")
    if written and is_changed:
        raise DataError("you changed the text; submit the edited answer, or put the text back")
    return {"accepted": shown[0] if choice == "accept" else None}


def critique(fields: Fields, shown: Sequence[str]) -> dict[str, JSON]:
    """``critique`` is the text."""
    del shown
    return text(fields, "critique") or {"critique": ""}


def steps(fields: Fields, shown: Sequence[str]) -> dict[str, JSON]:
    """``step.NUMBER`` is 1, 0 or -1; with ``first_error`` what follows the first -1 is left out."""
    del shown
    names: list[str] = []
    while (name := f"step.{len(names)}") in fields:
        names.append(name)
    said = [fields[name] for name in names]
    stops = "first_error" in fields and str(BAD) in said
    if stops:
        names = names[: said.index(str(BAD)) + 1]
    gaps = [place for place, name in enumerate(names, start=1) if not fields[name]]
    if gaps:
        raise DataError(
            f"{len(gaps)} of {len(names)} steps have no label, step {gaps[0]} first; say good, "
            "neutral or bad for each, or stop at the first bad step"
        )
    labels = [number(fields, name) for name in names]
    return {"labels": labels} | ({"first_error": True} if stops else {})


CONVERTERS: Registry[Convert] = Registry(
    "labelling page",
    {
        "pairwise": pairwise,
        "ranking": ranking,
        "rating": rating,
        "flags": flags,
        "demonstration": demonstration,
        "critique": critique,
        "steps": steps,
    },
)


def payload_of(form: str, fields: Fields, shown: Sequence[str]) -> dict[str, JSON]:
    """The payload that the fields of a page state, with its comment; raises ``DataError``."""
    return CONVERTERS[form](fields, shown) | text(fields, "comment")


def with_completions(payload: Mapping[str, JSON], shown: Sequence[str]) -> dict[str, JSON]:
    """An answer of the API, with the completions for the places that it names (``"0"`` …).

    What is no place stays as it is; the form refuses what it does not know.
    """
    ids = {str(place): one for place, one in enumerate(shown)}

    def named(value: JSON, depth: int = 2) -> JSON:
        if isinstance(value, str):
            return ids.get(value, value)
        if isinstance(value, list) and depth:
            return [named(one, depth - 1) for one in value]
        if isinstance(value, dict):
            return {ids.get(key, key): one for key, one in value.items()}
        return value

    return {key: named(one) if key in NAMING else one for key, one in payload.items()}


def text(fields: Fields, name: str, *, key: str | None = None) -> dict[str, JSON]:
    """A field's text under ``key`` (its name), or nothing; browsers send lines ended by CR LF."""
    value = fields.get(name, "").replace("\r\n", "\n").strip()
    return {key or name: value} if value else {}


def number(fields: Fields, name: str) -> int:
    """A field's whole number."""
    value = fields.get(name, "")
    try:
        return int(value)
    except ValueError:
        raise DataError(f"{name} is {value!r:.40}; send a whole number") from None


def placed(name: str, shown: Sequence[str]) -> tuple[str, str]:
    """The completion and the rest of a field's name, ``KIND.PLACE.REST``."""
    _, place, rest = [*name.split(".", 2), "", ""][:3]
    if not place.isdecimal() or int(place) >= len(shown):
        raise DataError(f"field {name!r:.60} names place {place!r:.20} of {len(shown)}")
    return shown[int(place)], rest
