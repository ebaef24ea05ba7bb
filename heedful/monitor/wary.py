"""What every card of a reward begins with: what to be wary of, and what nobody can claim."""

from collections.abc import Iterable, Iterator

from heedful.monitor.records import Note, Section
from heedful.types import Finding

ALL_FINE = Finding(
    rule="none",
    level="info",
    value=0.0,
    cause="Nothing to be wary of was found.",
    remedy="That is no proof: read the mistakes.",
)
_GRAVITY = {"error": 0, "warning": 1, "info": 2}


def gravest_first(findings: Iterable[Finding]) -> list[Finding]:
    """Errors, then warnings, then what is only worth knowing; each in the order given."""
    return sorted(findings, key=lambda one: _GRAVITY[one.level])


def unknown_leakage(num_learned: int | None) -> Iterator[Finding]:
    """A warning when it could not be told how much was learned from (None)."""
    if num_learned is None:
        yield Finding(
            rule="leakage_unknown",
            level="warning",
            value=float("nan"),
            cause="It is not known whether the model was fitted to these prompts, so nothing here "
            "is a claim about held-out data.",
            remedy="Measure it on a data set that it cannot have seen.",
        )


def no_claim(num_learned: int | None) -> str:
    """The same as a card's notice; empty when it is known."""
    if num_learned is not None:
        return ""
    return (
        "It is not known whether the model was fitted to these prompts: no claim about held-out "
        "data."
    )


def wary_section(findings: Iterable[Finding]) -> Section:
    """All that was found, or that nothing was."""
    return Section(
        title="What to be wary of",
        short="Warnings",
        blocks=[Note(finding=one) for one in findings] or [Note(finding=ALL_FINE)],
    )
