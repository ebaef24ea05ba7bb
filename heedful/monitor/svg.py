"""Charts as pictures: one theme, SVG whose colours follow the page, and PNG for documents.

A chart is drawn with the light palette. In the page every palette colour becomes the CSS variable
of the same name, so that one SVG serves light, dark and print.
"""

import re
from collections.abc import Mapping
from typing import Any

# Each differs from its variable in report.css by one step of blue, and occurs nowhere else.
PALETTE: Mapping[str, str] = {
    "ink": "#1f2429",
    "soft": "#59636b",
    "line": "#e3e0d9",
    "paper": "#fffefc",
    "accent": "#0d6e6f",
    "a": "#3559b9",
    "b": "#a4531c",
}
# The generic family is the only one that every machine can draw; the page overrides it.
FONT = "sans-serif"


_SOFT, _LINE = PALETTE["soft"], PALETTE["line"]
THEME: Mapping[str, Any] = {
    "background": "transparent",
    "padding": 2,
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": _SOFT,
        "titleColor": _SOFT,
        "gridColor": _LINE,
        "domainColor": _LINE,
        "tickColor": _LINE,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "tickSize": 4,
        "labelFlush": False,
    },
    "axisY": {"labelPadding": 5},
    "title": {
        "color": PALETTE["ink"],
        "fontSize": 12.5,
        "fontWeight": 600,
        "anchor": "start",
        "subtitleColor": _SOFT,
        "subtitleFontSize": 11,
        "offset": 8,
    },
    "legend": {"labelColor": _SOFT, "labelFontSize": 11, "orient": "top", "title": None},
}


def themed(chart: Any, **config: Any) -> dict[str, Any]:
    """The chart's specification in the house style; ``config`` replaces parts of the theme."""
    # the tests check charts against the schema, which takes a quarter of the time of drawing them
    spec: dict[str, Any] = chart.to_dict(validate=False)
    spec["config"] = {**THEME, **config}
    return spec


def to_svg(chart: Any, prefix: str) -> str:
    """The chart as an inline SVG; ``prefix`` keeps its ids apart from those of other charts."""
    import vl_convert

    # axes and all stay within the width, which is what the page scales
    fit = {"autosize": {"type": "fit-x", "contains": "padding"}}
    svg: str = vl_convert.vegalite_to_svg(themed(chart) | fit)
    return for_page(svg, prefix)


def for_page(svg: str, prefix: str) -> str:
    """Colours as variables, own ids, the size free, marks with titles instead of ARIA labels."""
    for variable, colour in PALETTE.items():
        svg = svg.replace(f'="{colour}"', f'="var(--{variable})"')
    # the label of a mark shows on hover; lines are labelled by their first point only: dropped
    svg = re.sub(
        r'<path aria-label="([^"]*)" role="graphics-symbol" aria-roledescription="(?!line|area)'
        r'[^"]*"([^>]*?)/>',
        r"<path\2><title>\1</title></path>",
        svg,
    )
    svg = re.sub(r' (?:aria-[a-z]+|role|xmlns(?::xlink)?|version|class)="[^"]*"', "", svg)
    svg = re.sub(r'<path d="(?:M0,0h0v0h0Z)?"[^>]*/>', "", svg)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = svg.replace("url(#", f"url(#{prefix}-")
    return _scaled(svg)


def _scaled(svg: str) -> str:
    """The size becomes the view box's: the page may shrink a chart, and enlarge it a little."""
    width = float(re.findall(r'<svg[^>]*? width="([\d.]+)"', svg)[0])
    svg = re.sub(r'(<svg[^>]*?) width="[\d.]+" height="[\d.]+"', r"\1", svg, count=1)
    style = f'style="max-width:{1.2 * width:.0f}px"'
    return svg.replace("<svg", f'<svg aria-hidden="true" focusable="false" {style}', 1)
