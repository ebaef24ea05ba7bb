"""A mix in words: ``helpful=2,polite=0.5,bias=1,unsafe>0.5``.

A weight is worth so many deviations of its score; a penalty takes so many times the probability of
its flag; above its limit a flag is a veto.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch

from heedful.config import RewardLoss
from heedful.errors import ConfigError
from heedful.model.adapter_files import AdapterCard
from heedful.model.parts import Mix
from heedful.model.trunk import Trunk
from heedful.registry import nearest
from heedful.types import OVERALL, Part

VETO_ABOVE = 0.5  # probability, where no limit is given
EXAMPLE = "write for example helpful=2,polite=0.5,unsafe>0.5"


class Term(NamedTuple):
    """``bias=1`` or ``unsafe>0.5``."""

    name: str
    sign: Literal["=", ">"]
    number: float


def parse_mix(text: str) -> list[Term]:
    """The terms of a mix; raises ``ConfigError`` for what is none, or is stated twice."""
    terms: list[Term] = []
    for piece in text.split(","):
        found = re.fullmatch(r"\s*([^\s=>]+)\s*(=|>)\s*(\S+)\s*", piece)
        try:
            number = float(found.group(3)) if found else math.nan
        except ValueError:
            number = math.nan
        if found is None or not math.isfinite(number):
            raise ConfigError(f"mix {text!r} has {piece!r}, which is no weight; {EXAMPLE}")
        sign: Literal["=", ">"] = "=" if found.group(2) == "=" else ">"
        term = Term(found.group(1), sign, number)
        if (term.name, sign) in {(one.name, one.sign) for one in terms}:
            raise ConfigError(f"mix {text!r} states {term.name}{sign} twice; state it once")
        terms.append(term)
    return terms


def default_mix(parts: Sequence[Part], loss: RewardLoss) -> Mix:
    """The overall score alone, or where there is none every criterion alike; and all flags."""
    scores = [part.name for part in parts if part.kind == "score"]
    flags = [part.name for part in parts if part.kind == "flag"]
    chosen = [OVERALL] if OVERALL in scores else scores
    return Mix(
        weights=dict.fromkeys(chosen, 1.0),
        penalties=dict.fromkeys(flags, 1.0) if loss.flags == "penalty" else {},
        limits=dict.fromkeys(flags, VETO_ABOVE) if loss.flags == "veto" else {},
    )


def mixed(parts: Sequence[Part], start: Mix, text: str) -> Mix:
    """``start`` changed by a mix in words.

    Scores that are named replace all weights; a flag that is named replaces its own penalty and
    limit, and other flags stay, so that no veto goes unasked. Raises ``ConfigError`` for a part
    that is not there, a negative penalty, a limit outside 0 to 1, a limit on a score, and for a mix
    in which nothing weighs.
    """
    terms = parse_mix(text)
    kinds = {part.name: part.kind for part in parts}
    for term in terms:
        check_term(term, kinds)
    named = {term.name for term in terms}
    stated = {term.name: term.number for term in terms if kinds[term.name] == "score"}
    penalties = {name: value for name, value in start.penalties.items() if name not in named}
    limits = {name: value for name, value in start.limits.items() if name not in named}
    for term in terms:
        if kinds[term.name] == "flag":
            (penalties if term.sign == "=" else limits)[term.name] = term.number
    mix = Mix(
        weights=weighing(stated or start.weights),
        penalties=weighing(penalties),
        limits={name: value for name, value in limits.items() if value < 1},
    )
    # a limit alone tells no two answers apart that pass it
    if not mix.weights and not mix.penalties:
        raise ConfigError(
            f"mix {text!r} leaves every weight at 0, so all answers would be alike; give one of "
            f"{', '.join(kinds)} a weight"
        )
    return mix


def weighing(values: Mapping[str, float]) -> dict[str, float]:
    """The entries that are not 0."""
    return {name: value for name, value in values.items() if value != 0}


def check_term(term: Term, kinds: Mapping[str, str]) -> None:
    """Refuse a term that the parts have no place for."""
    if term.name not in kinds:
        raise ConfigError(
            f"mix has {term.name!r}, which is no part of this model; {nearest(term.name, kinds)}"
        )
    if kinds[term.name] == "score":
        if term.sign == ">":
            raise ConfigError(
                f"mix has {term.name}>{term.number:g}, and only flags have a limit; write "
                f"{term.name}=WEIGHT"
            )
    elif term.sign == "=" and term.number < 0:
        raise ConfigError(
            f"mix has {term.name}={term.number:g}; the penalty of a flag is at least 0, or what is "
            "wrong with an answer would be rewarded"
        )
    elif term.sign == ">" and not 0 <= term.number <= 1:
        raise ConfigError(
            f"mix has {term.name}>{term.number:g}; the limit of a flag is a probability, from 0 to "
            "1, and 1 vetoes nothing"
        )


def in_words(mix: Mix) -> str:
    """The mix as ``mixed`` reads it."""
    stated = [f"{name}={value:g}" for name, value in (*mix.weights.items(), *mix.penalties.items())]
    return ",".join([*stated, *(f"{name}>{value:g}" for name, value in mix.limits.items())])


def check_mix(card: AdapterCard, name: str, text: str | None) -> None:
    """Refuse a mix that the model ``name`` cannot have; needs no model."""
    if text is None:
        return
    if not card.parts:
        raise ConfigError(
            f"{name} has one score and no parts, so {text!r} has nothing to mix; fit it with "
            "loss.heads=criteria or loss.flags=penalty"
        )
    assert card.mix is not None
    mixed(card.parts, card.mix, text)


def remixed(trunk: Trunk, role: str, card: AdapterCard, text: str | None) -> AdapterCard:
    """The card of a loaded role whose parts are mixed as ``text`` says; None leaves them.

    Mean and deviation of the card become those of the new reward on the sample.
    """
    check_mix(card, role, text)
    if text is None:
        return card
    assert card.mix is not None
    parts = replace(trunk.parts[role], mix=mixed(card.parts, card.mix, text))
    trunk.parts[role] = parts
    mean, std = parts.moments()
    return replace(card, mix=parts.mix, mean=mean, std=std)


def check_linear(card: AdapterCard, name: str, text: str | None) -> None:
    """Refuse a mix that one linear output cannot compute; needs no model."""
    if card.mix is None:
        return
    mix = card.mix if text is None else mixed(card.parts, card.mix, text)
    if mix.is_linear:
        return
    flags = sorted({*mix.penalties, *mix.limits})
    kind = "a veto" if mix.limits else "a penalty on a probability"
    out = ",".join(f"{flag}=0" for flag in flags)
    raise ConfigError(
        f"{name} mixes {in_words(mix)}: {kind} bends the reward, and a classifier has one linear "
        f"output; leave the flags out with --mix {out}, or use heedful serve reward"
    )


@torch.no_grad()
def fold(trunk: Trunk, role: str) -> None:
    """Make one output of the parts of a role whose mix is linear: the reward that it mixes."""
    parts = trunk.parts.pop(role, None)
    if parts is None:
        return
    coefficients, constant = parts.linear()
    old = trunk.heads[role]
    head = trunk.add_head(role, std=0.0, seed=0, pooling=trunk.pooling[role])
    head.weight.copy_(coefficients @ old.weight)
    head.bias.fill_(float(coefficients @ old.bias) + constant)
