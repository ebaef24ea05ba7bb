r"""Formulas in Markdown: ``$...$``, ``$$...$$``, ``\(...\)`` and ``\[...\]`` as MathML.

Rules for markdown-it's parser. A formula that cannot be converted, or is above a limit, stays as it
was written. No attribute that a sanitiser would have to understand comes out, and no style.
"""

import re
from collections.abc import MutableMapping, Sequence
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token
    from math_core import LatexToMathML

Env = MutableMapping[str, Any]  # the parser's scratch space for one text; holds our budgets

MAX_MATHS = 30_000  # characters of formulas in a text; MathML is up to 80 times as long
MAX_FORMULA = 4_000
# Commands and groups in a formula. The converter recurses on the machine's stack and a stack of
# 1 MiB holds at least 500 levels of groups, or 300 of groups and commands in turn.
MAX_FORMULA_DEPTH = 300

# Possessive, and never over a second opener: every attempt is linear and attempts do not overlap.
FORMULA = re.compile(
    r"\$\$(?P<double>(?:[^\\$]|\\.)++)\$\$"
    r"|\$(?!\s)(?P<single>(?:[^\\$]|\\.)++)(?<!\s)\$(?!\d)"  # prices are no formulas
    r"|\\\((?P<round>(?:[^\\]|\\[^()])++)\\\)"
    r"|\\\[(?P<square>(?:[^\\]|\\[^][])++)\\\]",
    re.DOTALL,
)
CLOSERS = {"$$": "$$", r"\[": r"\]"}
NESTING = re.compile(r"\\[A-Za-z]|\{")
# A macro could grow without bound between the check of a formula and its conversion.
DEFINITION = re.compile(r"\\(?:[egx]?def(?![a-z])|(?:new|renew|provide)command|let|Declare)")
MATH_STYLES = {  # what the converter writes into style attributes, and our class for it
    "text-align: left": "left",
    "text-align: right": "right",
    "padding-left:1em": "gap",
    "border-top": "line-above",
    "border-right": "line-after",
    "width: 100%": "wide",
    "width: 50%": "margin",
}
ENCLOSURES = {"box", "updiagonalstrike", "downdiagonalstrike", "horizontalstrike"}
CLASSES = set(MATH_STYLES.values())
ELEMENTS = (
    "math mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts mroot mrow mspace msqrt "
    "mstyle msub msubsup msup mtable mtd mtext mtr munder munderover"
)


def install(parser: "MarkdownIt") -> None:
    """Teach a parser formulas; its scratch space holds ``maths``, the characters still allowed."""
    parser.block.ruler.before(
        "fence", "math_block", _parse_math_block, {"alt": ["paragraph", "blockquote", "list"]}
    )
    parser.inline.ruler.before("escape", "math", _parse_math)
    parser.add_render_rule("math", _render_math)


def math_css() -> str:
    """Alignment, lines and boxes of formulas, which MathML Core leaves to the stylesheet."""
    return """\
div.math { overflow: auto hidden; padding-block: 3px; }
math .left { text-align: left; padding-left: 0; }
math .right { text-align: right; padding-right: 0; }
math .gap { padding-left: 1em; }
math .line-above { border-top: 0.05em solid; }
math .line-after { border-right: 0.05em solid; }
math .wide { width: 100%; }
math .margin { width: 50%; }
math .box { border: 0.06em solid; padding: 0.2em 0.3em; }
math .horizontalstrike { text-decoration: line-through; }
math .updiagonalstrike {
  background: linear-gradient(to top left, #0000 48%, currentcolor 48% 52%, #0000 52%);
}
math .downdiagonalstrike {
  background: linear-gradient(to top right, #0000 48%, currentcolor 48% 52%, #0000 52%);
}
"""


def line_of(state: "StateBlock", line: int) -> str:
    """A line of the block without its indentation and trailing space."""
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].rstrip()


def _parse_math(state: "StateInline", silent: bool) -> bool:
    found = FORMULA.match(state.src, state.pos, min(state.pos + MAX_FORMULA, state.posMax))
    if found is None:
        return False
    if not silent:
        assert found.lastgroup is not None
        token = state.push("math", "math", 0)
        token.content, token.markup = found[found.lastgroup], found[0]
        token.meta = {"is_display": found.lastgroup in ("double", "square")}
    state.pos = found.end()
    return True


def _parse_math_block(state: "StateBlock", start: int, end: int, silent: bool) -> bool:
    r"""Lines from one that begins with ``$$`` or ``\[`` to the first that closes it."""
    opener = line_of(state, start)[:2]
    if opener not in CLOSERS or state.is_code_block(start):
        return False
    line = _closing_line(state, start, end, opener)
    if line is None:
        return False
    if not silent:
        token = state.push("math", "math", 0)
        token.block, token.map = True, [start, line + 1]
        token.markup = state.getLines(start, line + 1, state.sCount[start], False).strip()
        token.content = token.markup[2:-2]
        token.meta = {"is_display": True}
        state.line = line + 1
    return True


def _closing_line(state: "StateBlock", start: int, end: int, opener: str) -> int | None:
    """None at an empty line, the end of the block, or text on the same line after the closer."""
    closer = CLOSERS[opener]
    for line in range(start, end):
        text = line_of(state, line)
        if not text or state.sCount[line] < state.blkIndent:
            return None
        rest = text[2:] if line == start else text
        if closer in rest:
            is_last = rest.endswith(closer) and rest.count(closer) == 1
            return line if is_last and text != opener + closer else None
        if rest.startswith(opener):
            return None
    return None


def _render_math(
    _self: object, tokens: Sequence["Token"], index: int, _options: object, env: Env
) -> str:
    token = tokens[index]
    mathml = _mathml(token.content, is_display=token.meta["is_display"], env=env)
    if token.block:
        literal = f'<pre class="math" dir="ltr"><code>{escape(token.markup)}</code></pre>\n'
        return f'<div class="math">{mathml}</div>\n' if mathml else literal
    return mathml or f'<code class="math" dir="ltr">{escape(token.markup)}</code>'


def _mathml(source: str, *, is_display: bool, env: Env) -> str | None:
    """MathML without style attributes, or None where the formula cannot be converted."""
    from math_core import LatexError

    if len(source) > min(MAX_FORMULA, env["maths"]) or DEFINITION.search(source):
        return None
    if len(NESTING.findall(source)) > MAX_FORMULA_DEPTH:
        return None
    env["maths"] -= len(source)
    try:
        mathml = _converter().convert_with_local_state(source.strip(), displaystyle=is_display)
    except LatexError:
        return None
    mathml = re.sub(r' style="([^"]*)"', _as_class, mathml)
    mathml = re.sub(r'<menclose notation="([^"]*)"', r'<mrow class="\1"', mathml)
    return mathml.replace("</menclose>", "</mrow>")


@cache
def _converter() -> "LatexToMathML":
    from math_core import LatexToMathML

    return LatexToMathML(fancy_error=False, max_expansions=MAX_FORMULA_DEPTH)


def _as_class(style: re.Match[str]) -> str:
    names = [name for text, name in MATH_STYLES.items() if text in style[1]]
    return f' class="{" ".join(names)}"' if names else ""
