import html
import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from reading import complaints, find, parsed, printed, shown

from heedful.types import Message
from heedful.web import render
from heedful.web.render import (
    HIDDEN,
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_MARKS,
    blinded,
    code_css,
    conversation,
    markdown,
    masked,
    masked_call,
    preformatted,
    visible,
)


def seconds(text: str) -> float:
    start = time.process_time()
    markdown(text)
    return time.process_time() - start


HOSTILE = [
    "<script>alert(1)</script>",
    "<ScRiPt\n>alert(1)</sCrIpT >",
    "<scr<script>ipt>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<img/src=x/onerror=alert(1)//",
    "<svg onload=alert(1)><animate onbegin=alert(1) attributeName=x></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    '<math><annotation-xml encoding="text/html"><script>alert(1)</script></annotation-xml></math>',
    "<math><maction actiontype=statusline xlink:href=javascript:alert(1)>x</maction></math>",
    "<style>@import 'http://evil.example/x.css';</style>",
    "<link rel=stylesheet href=http://evil.example/x.css>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<form action=http://evil.example><input name=a autofocus onfocus=alert(1)></form>",
    "<base href=http://evil.example/>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<object data=javascript:alert(1)></object><embed src=x>",
    "<details open ontoggle=alert(1)>x</details>",
    "<body onload=alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "<div style='position:fixed;inset:0;background:url(http://evil.example)'>x</div>",
    "<!-- --><script>alert(1)</script><!-- -->",
    "<!--><img src=x onerror=alert(1)>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?php echo 1 ?><!DOCTYPE html>",
    "<template><script>alert(1)</script></template><noscript><p title='</noscript><img src=x>'>",
    "</pre></code></div></body><script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](<java\tscript:alert(1)>)",
    "[x](<java script:alert(1)>)",
    "[x](&#106;avascript:alert(1))",
    "[x](&#x6A;avascript&colon;alert(1))",
    "[x](java&Tab;script:alert(1))",
    "[x](java&NewLine;script:alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](&#1;javascript:alert(1))",
    "[x](%6Aavascript:alert(1))",
    "[x](javascript&#58;alert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "![x](data:image/svg+xml;base64,PHN2Zz48L3N2Zz4=)",
    "![x](javascript:alert(1))",
    "[x](file:///etc/passwd)",
    "[x](//evil.example)",
    "[x](/admin/delete)",
    "[x](#top)",
    "[x](\\\\evil.example)",
    "[x](blob:http://a.example/1)",
    "<javascript:alert(1)>",
    "<data:text/html,x>",
    "[x][r]\n\n[r]: javascript:alert(1)",
    '[x](http://a.example "\\"onmouseover=alert(1) x=\\"")',
    "[x](http://a.example 'a\"><script>alert(1)</script>')",
    '[x](http://a.example/"onmouseover=alert(1))',
    "[x](http://a.example/'><script>alert(1)</script>)",
    '![x" onerror="alert(1)](http://a.example/x.png)',
    "![<script>alert(1)</script>](http://a.example/x.png)",
    '![a](http://a.example/x.png"onerror="alert(1))',
    "[![a](http://a.example/i.png)](javascript:alert(1))",
    "[a ![b](javascript:alert(1)) c](http://a.example)",
    "[a [b](http://b.example) c](http://a.example)",
    "[a <http://b.example> c](http://a.example)",
    "`<script>alert(1)</script>`",
    "```html\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\nx\n```',
    '```x" onclick="alert(1)\nx\n```',
    "    <script>alert(1)</script>",
    "$<script>alert(1)</script>$",
    r"$\text{<script>alert(1)</script>}$",
    r"$\text{</mtext></math><script>alert(1)</script>}$",
    r"$\href{javascript:alert(1)}{x}$",
    r"$\url{javascript:alert(1)}$",
    r"$\style{x}{y}\class{x}{y}\cssId{x}{y}$",
    r"$\begin{align}x\label{a}\end{align}\eqref{a}$",
    r"$\unicode{60}script\unicode{62}$",
    r"$\color{red;background:url(http://evil.example)}x$",
    r"$\htmlData{onclick=alert(1)}{x}\includegraphics{http://evil.example/x.png}$",
    "$$\n</code></pre><script>alert(1)</script>\n$$",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "&amp;lt;script&amp;gt;",
    "<scr\x00ipt>alert(1)</scr\x00ipt>",
    "[x](java\x00script:alert(1))",
    "\ud83d<script>\udc00",
    "| <script>alert(1)</script> | x |\n|---|---|\n| <img src=x onerror=alert(1)> | y | z |",
    "<a\u2028href=javascript:alert(1)>x</a>",
    "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_gives_only_listed_elements(text: str) -> None:
    assert complaints(markdown(text)) == []
    message = Message(
        role="assistant",
        content=text,
        tool_calls=(text, json.dumps({"function": {"name": text, "arguments": text}})),
    )
    for turn in conversation([message, Message(role="tool", content=text, name=text)]):
        assert complaints(turn.body) == []
        for call in turn.tool_calls:
            assert (
                complaints(Markup("<p>{}</p><pre>{}</pre>").format(call.name, call.arguments)) == []
            )


def test_the_check_itself_finds_what_it_looks_for() -> None:
    assert complaints("<p><script>1</script></p>") == ["script", "script"]
    assert complaints("<p onclick=1></p>") == ["p onclick", "p onclick"]
    assert "link to javascript:1" in complaints('<a href="javascript:1">x</a>')
    assert complaints("<!-- x -->") == ["a comment", "a comment"]
    assert complaints("<math><mtext><img></mtext></math>")


PIECES = [
    *["<", ">", '"', "'", "&", "&#", "&#x3c;", "&lt;", ";", "/", "=", ":", "\\", "\x00", "\u202e"],
    *["<script>", "</script>", "<svg ", "<math>", "<style>", "<!--", "-->", "<a href=", " onload="],
    *["javascript:", "data:", "http://a", "mailto:a", "[", "]", "](", ")", "![", "]: ", "`", "```"],
    *["\n", "\n\n", "    ", " ", "\t", "- ", "1. ", "> ", "# ", "|", "-|-", "*", "**", "_", "~~"],
    *["$", "$$", "\\(", "\\)", "\\[", "\\]", "\\frac{", "{", "}", "^", "\\text{", "\\begin{align}"],
    *[
        "\\end{align}",
        "\\color{red}",
        "\\left(",
        "html\n",
        "python\n",
        "a",
        "0",
        "é",
        "ש",
        "\ud800",
    ],
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_no_mix_of_markup_gives_an_unlisted_element(text: str) -> None:
    assert complaints(markdown(text)) == []


BLOCKS = [
    "\n",
    "\n\n",
    "> ",
    "- ",
    "1. ",
    "    ",
    "# ",
    "```\n",
    "```zebra\n",
    "|",
    "\n-|-\n",
    "$$",
]
SPANS = ["*", "_", "~~", "`", " ", "$", "[", "](http://a.b)", "](", ")", "]: ", "![", "<", ">", "&"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*BLOCKS, *SPANS, "zebra", "zebra"]), max_size=30).map("".join))
def test_no_word_is_hidden(text: str) -> None:
    assert shown(markdown(text)).count("zebra") >= text.count("zebra")


def test_cells_beyond_the_header_are_shown() -> None:
    cells = find(markdown("a|b\n-|-\n1|2|3|4\n|5|\n> x|y\n"), "td")
    assert [cell.text for cell in cells] == ["1", "2", "3", "4", "5", None]


@pytest.mark.parametrize("num", [1, MAX_DEPTH - 2, MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 300])
@pytest.mark.parametrize("mark", ["> ", "- ", "1. ", "*a **b "])
def test_nothing_is_lost_in_deep_nesting(mark: str, num: int) -> None:
    assert "zebra" in shown(markdown(mark * num + "zebra" + " c** d*" * num))


def test_reference_definitions_stay_in_sight() -> None:
    assert "note to the reader" in shown(markdown("[//]: # (note to the reader)"))


def test_images_become_links_and_load_nothing() -> None:
    page = markdown('![a *cat*](https://a.example/cat.png "tall")')
    (link,) = find(page, "a")
    assert link.attrib == {
        "class": "image",
        "href": "https://a.example/cat.png",
        "rel": "noopener noreferrer nofollow",
        "target": "_blank",
        "title": "tall",
    }
    assert link.text == "a *cat*"


def test_an_image_within_a_link_is_its_text() -> None:
    (link,) = find(markdown("[![a cat](https://a.example/cat.png)](https://b.example)"), "a")
    assert (link.text, link.get("href")) == ("a cat", "https://b.example")


def test_links_and_images_without_text_show_their_address() -> None:
    links = find(markdown("[](http://a.example) ![](http://b.example)"), "a")
    assert [link.text for link in links] == ["http://a.example", "http://b.example"]


@pytest.mark.parametrize(
    "url", ["http://a.example", "HTTPS://a.example/x?y=1", "mailto:a@b.example"]
)
def test_links_keep_allowed_schemes(url: str) -> None:
    assert [link.get("href") for link in find(markdown(f"[x]({url})"), "a")] == [url]


def test_tables_have_sides_as_classes() -> None:
    page = markdown("| n | x |\n|--:|:-:|\n| 1 | ~~2~~ |")
    assert page == (
        '<table dir="auto">\n<thead>\n<tr>\n<th class="right">n</th>\n<th class="center">x</th>\n'
        '</tr>\n</thead>\n<tbody>\n<tr>\n<td class="right">1</td>\n'
        '<td class="center"><s>2</s></td>\n</tr>\n</tbody>\n</table>\n'
    )


def test_code_is_coloured_by_classes() -> None:
    assert markdown('```python\nreturn "<b>"\n```') == (
        '<pre class="code" dir="ltr" title="python"><code><span class="k">return</span> '
        '<span class="s2">"&lt;b&gt;"</span>\n</code></pre>\n'
    )


def test_code_of_an_unknown_language_stays_plain() -> None:
    assert markdown("```zebra\n<b>\n```") == (
        '<pre class="code" dir="ltr" title="zebra"><code>&lt;b&gt;\n</code></pre>\n'
    )


def test_code_keeps_its_characters() -> None:
    code = "\n\n  def f(x):\n\treturn x  # é ש\n\n"
    (block,) = find(markdown(f"```py\n{code}```"), "code")
    assert "".join(block.itertext()) == code


@pytest.mark.parametrize(
    "character", [*"\u202a\u202b\u202c\u202d\u202e", *"\u2066\u2067\u2068\u2069"]
)
@pytest.mark.parametrize(
    "template", ["a{}b", "`a{}b`", "```\na{}b\n```", "$\\text{{a{}b}}$", "# a{}b"]
)
def test_characters_that_reorder_text_are_written_out(template: str, character: str) -> None:
    for written in (character, f"&#{ord(character)};"):
        page = markdown(template.format(written))
        assert character not in html.unescape(page)
    assert f"⟦U+{ord(character):04X}⟧" in shown(markdown(template.format(character)))
    assert character not in preformatted(character)


def test_right_to_left_text_and_emoji_stay() -> None:
    text = "שלום עולם، می‌خواهم 👩‍👩‍👧 ❤️"
    assert visible(text) == text
    assert markdown(text) == f'<p dir="auto">{text}</p>\n'


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_shown_and_stays_so(text: str) -> None:
    page = preformatted(text)
    assert complaints(page) == []
    assert visible(visible(text)) == visible(text)
    expected = visible(text).replace("\r\n", "\n").replace("\r", "\n")
    assert "".join(parsed(page).itertext()) == expected


def test_text_above_a_limit_is_shown_whole_and_plain() -> None:
    for text in ("*a* " * (MAX_CHARACTERS // 4 + 1), "[" * (MAX_MARKS + 1)):
        page = markdown(text)
        assert page == preformatted(text)
        assert "".join(parsed(page).itertext()) == text


def test_a_long_answer_takes_about_a_second() -> None:
    part = (
        "Some *words* and `code`, as an answer has them, with $x_1$ once in a while. " + "so " * 60
    )
    text = f"## Heading\n\n{part}\n\n- one\n- two\n\n```python\nx = f(1)\n```\n\n" * 600
    assert 150_000 < len(text) <= MAX_CHARACTERS
    assert find(markdown(text), "h2")
    assert seconds(text) < 5  # about 0.5 s; room for a loaded machine


MARKUP = [
    *["[", "![", "[a](", ">", "$", "$$", "$x ", "\\(", "\\[", "\\(\\[", "*_", "**a ", "`a", "\\"],
    *["<", "<a ", "<!--", "<http://a> ", "- ", "_", "&", "|"],
]
LINES = ["$$a\n", "\\[\n", "- a\n", "> ", "a|b\n-|-\n1|2|3\n", "```py\nx\n```\n"]
SLOW_TO_COLOUR = [
    "```java\n" + "a b " * 1200 + "\n```\n",
    '```js\n"' + '"\\' * 2400 + "\n```\n",
    "```go\n" + '\\"' * 2400 + "\n```\n",
]


@pytest.mark.parametrize("unit", [*MARKUP, *LINES, *SLOW_TO_COLOUR, "$" + "'" * 3000 + "$ "])
def test_repeated_markup_takes_bounded_time(unit: str) -> None:
    # 10,000 characters: quadratic work would take minutes at the limit, and shows here already.
    assert seconds((unit * 10_000)[: max(10_000, 3 * len(unit))]) < 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("As ChatGPT, I", f"As {HIDDEN}, I"),
        ("_chatgpt_ **CHAT GPT**", f"_{HIDDEN}_ **{HIDDEN}**"),
        ("gpt4, GPT-4 and GPT 4o", f"{HIDDEN}, {HIDDEN} and {HIDDEN}"),
        ("OpenAI's", f"{HIDDEN}'s"),
        ("I'm Claude.", f"{HIDDEN}."),
        (
            "Claude Monet, the Gemini twins and a llama",
            "Claude Monet, the Gemini twins and a llama",
        ),
        ("XChatGPTs", "XChatGPTs"),
        ("", ""),
    ],
)
def test_masked_hides_who_answers(text: str, expected: str) -> None:
    assert masked(text) == expected


def test_masked_takes_phrases_literally() -> None:
    assert masked("a.c abc C++ x", ["a.c", "c++", " "]) == f"{HIDDEN} abc {HIDDEN} x"
    assert masked("text", []) == "text"
    assert masked("big model one", ["model", "big model"]) == f"{HIDDEN} one"


def test_a_phrase_without_a_word_hides_nothing() -> None:
    for text in ("", "a - b", "--"):
        assert masked(text, ["-", " - ", "--"]) == text
    assert masked("GPT", ["GPT-"]) == HIDDEN


@settings(deadline=None)
@given(st.text(max_size=60), st.lists(st.text(min_size=1, max_size=8), max_size=4))
def test_masked_text_has_nothing_left_to_hide(text: str, phrases: list[str]) -> None:
    usable = [phrase for phrase in phrases if not set(phrase.casefold()) & set(HIDDEN)]
    once = masked(text, usable)
    assert masked(once, usable) == once


def test_stylesheet_has_both_schemes_and_every_rule_under_code() -> None:
    css = code_css()
    assert re.findall(r"prefers-color-scheme: (\w+)", css) == ["light", "dark"]
    rules = [line for line in css.splitlines() if "{" in line and not line.startswith("@")]
    assert len(rules) > 100
    assert all(rule.startswith(".code .") for rule in rules)


def test_importing_is_cheap() -> None:
    modules = ("torch", "markdown_it", "pygments", "nh3", "math_core")
    assert (
        printed(f"""
import sys, heedful.web.render
print([name for name in {modules} if name in sys.modules])
""")
        == "[]"
    )


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        ('{"a": "GPT-4"}', '{"a": "⟦hidden⟧"}'),
        ('{"GPT-4": [1.0, "x"]}', '{"⟦hidden⟧": [1.0, "x"]}'),
        (r'{"a": "caf\u00e9 ai!"}', '{"a": "⟦hidden⟧!"}'),
        (r'{"a": "{\"b\": \"\\u0047PT-4\"}"}', '{"a": "{\\"b\\": \\"⟦hidden⟧\\"}"}'),
        ('{"a":1,  "b":2.50}', '{"a":1,  "b":2.50}'),
        ("not JSON, GPT-4", "not JSON, ⟦hidden⟧"),
        ('{"a": 1, "a": "GPT-4"}', '{"a": 1, "a": "⟦hidden⟧"}'),
        ("[" * 100_000 + '"GPT-4"', "[" * 100_000 + '"⟦hidden⟧"'),
        ("", ""),
    ],
)
def test_a_tool_call_is_masked_however_json_writes_it(call: str, wanted: str) -> None:
    assert masked_call(call, ("GPT-4", "Café AI")) == wanted


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        ("> " * 30 + "a\n" * 1000, True),
        (("> " * 10 + "a\n" * 500 + "\n") * 5, True),
        ("- > " * 15 + "a\n" * 2000, True),
        ("> quoted\n" * 2000, False),
        (">> quoted\n> less\n\nanswer\n" * 300, False),
    ],
)
def test_deep_quotes_of_many_lines_are_shown_plainly(text: str, is_plain: bool) -> None:
    assert (markdown(text) == preformatted(text)) is is_plain


@pytest.mark.parametrize(
    "text",
    [
        "I am Chat**GPT**.", "I am **Chat**GPT.", "I am Chat&#71;PT.", "I am GPT\\-4.",
        "I am Open&nbsp;AI's.", "I am **GPT**-4.", "I am Chat[GPT](https://example.com).",
        "I am [it](https://example.com/ 'Chat&#71;PT').", "I am Chat&amp;#71;PT and Chat&#71;PT.",
        "I am Chat\u200bGPT.", "I am `Chat`GPT.", "I am C*h*atGPT.", "I am ~~Chat~~GPT.",
    ],
)  # fmt: skip
def test_no_disguise_of_a_hidden_phrase_reaches_the_reader(text: str) -> None:
    phrases = ("Chat GPT", "GPT-4", "Open AI")
    hidden = blinded(text, phrases)
    assert HIDDEN in hidden
    shown = re.sub(r"<[^>]*>", "", markdown(hidden))
    for form in (hidden, html.unescape(shown), html.unescape(str(markdown(hidden)))):
        assert masked(form, phrases) == form


def test_hiding_a_phrase_keeps_the_format_around_it() -> None:
    text = "# One\n\n- **Chat GPT** and `code`\n- Chat**GPT** said **GPT**-4 is *fine*\n"
    hidden = blinded(text, ("Chat GPT", "GPT-4"))
    assert hidden == (
        "# One\n\n- **⟦hidden⟧** and `code`\n- **⟦hidden⟧** said **⟦hidden⟧** is *fine*\n"
    )
    for plain in ("a &amp; b \\* c", "[x](https://example.com)", "| GPT | 4 |\n|-|-|\n| GPT | 4 |"):
        assert blinded(plain, ("Chat GPT", "GPT-4")) == plain


def test_the_last_short_texts_are_kept_drawn_and_long_ones_are_not() -> None:
    render._kept.cache_clear()
    assert render.markdown("*a*") is render.markdown("*a*")
    long = "a " * render.MAX_KEPT
    assert render.markdown(long) == render.markdown(long)
    assert render._kept.cache_info().currsize == 1
