"""Draw the pictures of docs/results.md from the rows in benchmarks/results/.

python benchmarks/plots.py
python benchmarks/palette.py docs/*.png  # a third of the bytes
"""

from pathlib import Path
from typing import Any

from tables import learned_from, rows, settings_of, spoken

from heedful.monitor.charts import HALF, inline
from heedful.monitor.svg import PALETTE, themed

DOCS = Path(__file__).parents[1] / "docs"
BOTH = ("heedful", "peer at its best setting")
MOST_LEARNED = 1000  # pairs of hh-harmless: its picture is of fits to half of them


def bench() -> Any:
    """Seconds a step and peak memory of both sides, by workload."""
    import altair as alt

    found = [row | {"dtype": run["dtype"]} for run in rows("bench") for row in run["rows"]]
    names = [f"{row['workload']}, {row['dtype']}" for row in found]
    data = [
        {
            "workload": name,
            "side": side,
            "seconds": one["median_seconds"],
            "memory": one["peak_gb"],
        }
        for name, row in zip(names, found, strict=True)
        for side, one in zip(BOTH, (row["ours"], row["peers"][row["best_setting"]]), strict=True)
    ]
    colours = alt.Scale(domain=list(BOTH), range=[PALETTE["accent"], PALETTE["b"]])

    def panel(field: str, title: str, form: str) -> Any:
        base = alt.Chart(inline(data)).encode(
            y=alt.Y("workload:N", sort=names, title=None),
            yOffset=alt.YOffset("side:N", sort=list(BOTH)),
            x=alt.X(f"{field}:Q", title=title, axis=alt.Axis(tickCount=5)),
        )
        bars = base.mark_bar(cornerRadiusEnd=3).encode(
            color=alt.Color("side:N", scale=colours, legend=alt.Legend(orient="top"))
        )
        text = base.mark_text(align="left", dx=4, color=PALETTE["soft"], fontSize=11).encode(
            text=alt.Text(f"{field}:Q", format=form)
        )
        return (bars + text).properties(width=HALF, height=44 * len(names))

    return panel("seconds", "seconds a step, median", ".1f") | panel("memory", "peak GB", ".1f")


def selection() -> Any:
    """Accuracy by labels of three strategies, a panel a world; bands are intervals over seeds."""
    import altair as alt

    shown = {"local D-optimal": "accent", "BALD": "b", "random": "soft"}
    data = [
        {
            "world": row["world"],
            "strategy": row["strategy"],
            "labels": labels,
            "accuracy": value,
            "low": low,
            "high": high,
        }
        for row in rows("selection")
        if row["strategy"] in shown
        for labels, value, (low, high) in zip(
            row["labels"], row["curve"], row["curve_ci"], strict=True
        )
    ]
    colours = alt.Scale(domain=list(shown), range=[PALETTE[name] for name in shown.values()])

    def panel(world: str) -> Any:
        mine = [one for one in data if one["world"] == world]
        base = alt.Chart(inline(mine)).encode(
            x=alt.X("labels:Q", title=f"simulated labels, {world} world"),
            color=alt.Color("strategy:N", scale=colours, legend=alt.Legend(orient="top")),
        )
        axis = alt.Y("accuracy:Q", title="accuracy", scale=alt.Scale(domain=[0.6, 1], clamp=True))
        band = base.mark_area(opacity=0.18).encode(
            y=alt.Y("low:Q", scale=alt.Scale(domain=[0.6, 1], clamp=True), title="accuracy"),
            y2="high:Q",
        )
        return (band + base.mark_line().encode(y=axis)).properties(width=HALF, height=240)

    return panel("even") | panel("uneven")


def label_noise() -> Any:
    """Points of accuracy lost by loss, a panel a world; bars are intervals over seeds."""
    import altair as alt

    shown = {
        "plain": "soft",
        "constant error, rate known": "b",
        "annotators' reliability": "accent",
    }
    data = [
        {
            "world": row["world"],
            "loss": row["loss"],
            "lost": 100 * row["lost"],
            "low": 100 * row["lost_ci"][0],
            "high": 100 * row["lost_ci"][1],
        }
        for row in rows("label_noise")
        if row["what"] == "effect" and row["loss"] in shown
    ]
    worlds = list(dict.fromkeys(one["world"] for one in data))
    colours = alt.Scale(domain=list(shown), range=[PALETTE[name] for name in shown.values()])
    base = alt.Chart(inline(data)).encode(
        y=alt.Y("world:N", sort=worlds, title=None, axis=alt.Axis(labelLimit=300)),
        yOffset=alt.YOffset("loss:N", sort=list(shown)),
        color=alt.Color("loss:N", scale=colours, legend=alt.Legend(orient="top", title=None)),
    )
    title = "points of accuracy lost to unspoiled labels, simulated annotators"
    bars = base.mark_rule(strokeWidth=6, opacity=0.3, strokeCap="round").encode(
        x=alt.X("low:Q", title=title, scale=alt.Scale(zero=True)), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=80, opacity=1).encode(x="lost:Q")
    return (bars + points).properties(width=2 * HALF, height=56 * len(worlds))


def reward_hh() -> Any:
    """Held-out accuracy with its interval, and minutes of processor, by setting and for TRL."""
    import altair as alt

    def named(row: dict[str, Any]) -> str:
        if "peer" in row:
            version = row["peer"].partition(" Reward")[0].upper()
            return f"{version}, rate {spoken(row['learning_rate'])}"
        told = [one for one in settings_of(row) if one not in ("bfloat16", "tokens 1024")]
        return ", ".join(told if len(told) > 1 else ["the default", *told])

    data = [
        {
            "settings": named(row),
            "side": "TRL" if "peer" in row else "heedful",
            "accuracy": 100 * row["accuracy"],
            "low": 100 * row["accuracy_ci"][0],
            "high": 100 * row["accuracy_ci"][1],
            "minutes": row["cpu_seconds"] / 60,
        }
        for row in rows("reward_hh_choice") + rows("reward_hh_choice_trl")
        if learned_from(row) < MOST_LEARNED and row["seed"] == 0
    ]
    data.sort(key=lambda one: (one["side"] == "TRL", -one["accuracy"]))
    names = [one["settings"] for one in data]
    colours = alt.Scale(domain=["heedful", "TRL"], range=[PALETTE["accent"], PALETTE["b"]])

    def panel(*, shows_names: bool) -> Any:
        labels = alt.Axis(labelLimit=330) if shows_names else None
        return alt.Chart(inline(data)).encode(
            y=alt.Y("settings:N", sort=names, title=None, axis=labels),
            color=alt.Color("side:N", scale=colours, legend=alt.Legend(orient="top", title=None)),
        )

    title = "right on pairs held out, %, 95 % interval"
    scale = alt.Scale(domain=[58, 72])
    spans = panel(shows_names=True).mark_rule(strokeWidth=6, opacity=0.3, strokeCap="round")
    points = panel(shows_names=True).mark_point(filled=True, size=80, opacity=1)
    accuracy = spans.encode(x=alt.X("low:Q", title=title, scale=scale), x2="high:Q")
    accuracy += points.encode(x=alt.X("accuracy:Q", title=title, scale=scale))
    bars = panel(shows_names=False).mark_bar(cornerRadiusEnd=3, size=14)
    minutes = bars.encode(x=alt.X("minutes:Q", title="minutes of processor"))
    size = {"width": HALF, "height": 30 * len(names)}
    return accuracy.properties(**size) | minutes.properties(**size)


def growth() -> Any:
    """Seconds and memory of a GRPO step, by completion length and by group size."""
    import altair as alt

    found = rows("growth")
    shortest = min(row["length"] for row in found)
    usual = found[0]["group"]

    def panel(data: list[dict[str, Any]], x: str, title: str) -> Any:
        base = alt.Chart(inline(data)).encode(x=alt.X(f"{x}:Q", title=title))
        seconds = base.mark_line(
            point={"color": PALETTE["accent"]}, color=PALETTE["accent"]
        ).encode(y=alt.Y("seconds:Q", title="seconds a step", scale=alt.Scale(zero=True)))
        memory = base.mark_line(point={"color": PALETTE["b"]}, color=PALETTE["b"]).encode(
            y=alt.Y("peak_gb:Q", title="peak GB", scale=alt.Scale(zero=True))
        )
        size = {"width": HALF, "height": 150}
        return seconds.properties(**size) & memory.properties(**size)

    kept = [
        {name: row[name] for name in ("length", "group", "seconds", "peak_gb")} for row in found
    ]
    by_length = [row for row in kept if row["group"] == usual]
    by_group = sorted(
        (row for row in kept if row["length"] == shortest), key=lambda row: row["group"]
    )
    return panel(by_length, "length", f"new tokens, {usual} answers") | panel(
        by_group, "group", f"answers of {shortest} tokens"
    )


def ppo_learning() -> Any:
    """Reward against KL, and along the rollouts, ours and TRL's."""
    import altair as alt

    data = [
        {"side": row["side"], "run": f"{row['side']} {number}", **point, "rollout": place}
        for number, row in enumerate(rows("ppo_learning"))
        for place, point in enumerate(row["curve"])
    ]
    sides = list(dict.fromkeys(one["side"] for one in data))
    colours = alt.Scale(domain=sides, range=[PALETTE["accent"], PALETTE["b"]])

    def panel(x: str, title: str, *, is_line: bool) -> Any:
        chart = alt.Chart(inline(data))
        return (
            (chart.mark_line(point=True) if is_line else chart.mark_circle(size=70))
            .encode(
                x=alt.X(f"{x}:Q", title=title),
                y=alt.Y("reward:Q", title="reward", scale=alt.Scale(zero=False)),
                detail="run:N",
                order="rollout:Q",
                color=alt.Color("side:N", scale=colours, legend=alt.Legend(orient="top")),
            )
            .properties(width=HALF, height=240)
        )

    return panel("kl_nats", "KL to the start, nats", is_line=False) | panel(
        "rollout", "rollout", is_line=True
    )


def main() -> None:
    """Write every picture."""
    import vl_convert

    for make in (bench, selection, label_noise, reward_hh, growth, ppo_learning):
        spec = themed(make(), background=PALETTE["paper"])
        (DOCS / f"{make.__name__}.png").write_bytes(vl_convert.vegalite_to_png(spec, scale=2))


if __name__ == "__main__":
    main()
