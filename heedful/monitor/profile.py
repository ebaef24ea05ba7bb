"""Where the time of a run went, by phase, from its metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
PREFIX = "profile/"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseCost:
    """Totals of one phase. ``share`` is of the seconds of all phases; None: not measured."""

    phase: str
    seconds: float
    share: float
    tokens: int
    tokens_per_second: float | None
    gflops_per_second: float | None
    share_of_peak: float | None
    peak_gb: float | None


def phase_costs(rows: Sequence[Row], *, peak_flops: float | None = None) -> list[PhaseCost]:
    """Phases from the most to the least expensive.

    ``peak_flops`` is what a square matrix product reaches on the same machine.
    """
    sums: dict[str, dict[str, float]] = {}
    for row in rows:
        for key, value in row.items():
            phase, _, unit = key.removeprefix(PREFIX).rpartition("_")
            if not key.startswith(PREFIX) or unit not in ("seconds", "tokens", "flops", "gb"):
                continue
            if unit == "gb":
                phase = phase.removesuffix("_peak")
            own = sums.setdefault(phase, {})
            own[unit] = max(own.get(unit, 0.0), value) if unit == "gb" else own.get(unit, 0) + value
    timed = {phase: own for phase, own in sums.items() if "seconds" in own}
    total = sum(own["seconds"] for own in timed.values())
    costs = [cost(phase, own, total, peak_flops) for phase, own in timed.items()]
    return sorted(costs, key=lambda one: -one.seconds)


def cost(phase: str, own: Mapping[str, float], total: float, peak_flops: float | None) -> PhaseCost:
    """One phase's totals and rates."""
    seconds, tokens, flops = own["seconds"], own.get("tokens", 0.0), own.get("flops", 0.0)
    rate = flops / seconds if flops and seconds else None
    return PhaseCost(
        phase=phase,
        seconds=seconds,
        share=seconds / total if total else 0.0,
        tokens=int(tokens),
        tokens_per_second=tokens / seconds if tokens and seconds else None,
        gflops_per_second=rate / 1e9 if rate else None,
        share_of_peak=rate / peak_flops if rate and peak_flops else None,
        peak_gb=own.get("gb"),
    )


def packing_density(rows: Sequence[Row]) -> float | None:
    """Tokens that padded rows without shared prompts would hold, per token computed."""
    padded = sum(row.get("profile/update_padded_tokens", 0) for row in rows)
    packed = sum(row.get("profile/update_tokens", 0) for row in rows)
    return padded / packed if packed else None
