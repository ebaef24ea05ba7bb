"""Formulas in text: what becomes MathML, and what is shown as written."""

import threading

import pytest
from markupsafe import Markup
from reading import find, printed, shown

from heedful.web.formula import MAX_FORMULA, MAX_MATHS, math_css
from heedful.web.render import markdown


@pytest.mark.parametrize(
    ("text", "display"),
    [("$x^2$", None), ("$$x^2$$", "block"), (r"\(x^2\)", None), (r"\[x^2\]", "block")],
)
def test_mathematics_becomes_mathml(text: str, display: str | None) -> None:
    for page in (markdown(f"so {text} it is"), markdown(text), markdown(f"- so\n  {text}")):
        (formula,) = find(page, "math")
        assert "".join(formula.itertext()) == "x2"
        assert formula.get("display") == display


def test_aligned_equations_over_lines_become_mathml() -> None:
    text = "So\n\\[\n\\begin{aligned} a &= b \\\\ c &= d \\end{aligned}\n\\]\nholds."
    assert markdown(text) == (
        '<p dir="auto">So</p>\n<div class="math"><math display="block"><mtable displaystyle="true" '
        'scriptlevel="0"><mtr><mtd class="right"><mi>a</mi></mtd><mtd class="left"><mo>=</mo>'
        '<mi>b</mi></mtd></mtr><mtr><mtd class="right"><mi>c</mi></mtd><mtd class="left">'
        '<mo>=</mo><mi>d</mi></mtd></mtr></mtable></math></div>\n<p dir="auto">holds.</p>\n'
    )


def test_mathematics_in_a_quote_leaves_out_the_marks() -> None:
    (formula,) = find(markdown("> $$\n> x\n> + y\n> $$"), "math")
    assert "".join(formula.itertext()) == "x+y"


def test_a_box_is_drawn_by_the_stylesheet() -> None:
    assert '<mrow class="box"><mn>5</mn></mrow>' in markdown(r"$\boxed{5}$")
    assert "math .box" in math_css()


@pytest.mark.parametrize(
    "text",
    [
        r"$\nosuch{x}$",
        r"$\frac{a$",
        r"\(\def\a{\a\a}\a\)",
        "$$x^y^z$$",
        "$" + "{" * 400 + "}" * 400 + "$",
        "$" + r"\sqrt " * 400 + "x$",
    ],
)
def test_mathematics_that_does_not_parse_is_shown_as_written(text: str) -> None:
    for page in (markdown(f"so {text} it is"), markdown(text)):
        assert find(page, "math") == []
        (code,) = find(page, "code")
        assert code.text == text


def test_formulas_beyond_the_limits_are_shown_as_written() -> None:
    long = "x+" * MAX_FORMULA
    assert long in shown(markdown(f"$$\n{long}\n$$"))
    page = markdown(("$" + "y" * 999 + "$\n\n") * (MAX_MATHS // 999 + 1))
    assert page.count("<math>") == MAX_MATHS // 999
    assert "y" * 999 in page


@pytest.mark.parametrize(
    "text",
    ["$5 and $10", "from $20-$30", "costs $5, not $ 6", r"\$x\$", "a $ b $ c", "$", "$$", "$$$$"],
)
def test_prices_are_no_formulas(text: str) -> None:
    page = markdown(text)
    assert find(page, "math") == []
    assert find(page, "code") == []


def test_code_is_no_formula() -> None:
    assert find(markdown("`$x$`\n\n```\n$$x$$\n```\n\n    $$x$$"), "math") == []


def test_formulas_convert_in_other_threads() -> None:
    pages: list[Markup] = []
    thread = threading.Thread(target=lambda: pages.append(markdown("$x$ `a` **b**")))
    thread.start()
    thread.join()
    assert pages == [markdown("$x$ `a` **b**")]


def test_the_deepest_formula_allowed_fits_a_small_stack() -> None:
    assert (
        printed("""
import threading
from heedful.web.formula import MAX_FORMULA_DEPTH as n
from heedful.web.render import markdown
def show():
    for mark, num in (("{", n), ("\\\\bar{", n // 2), ("\\\\boxed{", n // 2), ("x^{", n)):
        print(markdown("$" + mark * num + "x" + "}" * num + "$").count("<math>"), end="")
markdown("x")
threading.stack_size(1 << 20)
thread = threading.Thread(target=show)
thread.start()
thread.join()
""")
        == "1111"
    )
