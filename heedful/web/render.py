"""Untrusted text to safe HTML: prompts, answers and tool calls. Must not import torch or the store.

Two walls, each enough alone: the Markdown parser escapes raw HTML and refuses links that are not
``http``, ``https`` or ``mailto``; a sanitiser that allows only the elements made here comes after
it. Nothing is loaded from elsewhere, since an image would tell its server who reads.

What is dear to compute is limited by size, not by time, so that a text always looks the same.
What is above a limit is shown plainly; nothing is cut, and nothing a model wrote is hidden.
Parsers are imported at first use: commands that show no page do not wait for them.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from html import escape, unescape
from typing import TYPE_CHECKING

from markupsafe import Markup

from heedful.types import JSON, Message, Role
from heedful.web import formula
from heedful.web.formula import Env, line_of

if TYPE_CHECKING:
    import nh3
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_core import StateCore
    from markdown_it.token import Token
    from pygments.lexer import Lexer

# Text above one of these is shown as it is. Up to them a page takes about a second at worst; an
# ordinary answer of 200,000 characters has about 10,000 marks.
MAX_CHARACTERS = 200_000
MAX_MARKS = 12_000  # characters that make work for the parser
MAX_QUOTED = 12_000  # lines times the depth of quotes: every line is tried at every depth
MAX_DEPTH = 40  # of nested elements; the parser would drop what lies deeper
MAX_COLOURED = 10_000  # characters of code in a text; lexers can take quadratic time
MAX_COLOURED_BLOCK = 5_000
# Several people are asked about the same answers within minutes, so the last ones are kept drawn.
NUM_KEPT = 256
MAX_KEPT = 8_000  # characters of a text

# Lexers that stay under 0.3 s on the worst 5,000 characters that we found. Java is coloured as C#,
# which shares most of its words: Java's own lexer needs four times as long.
LANGUAGES = (
    "python py javascript js typescript ts json bash sh shell c cpp c++ csharp c# java rust rs go "
    "sql html css xml yaml yml toml ruby rb php swift kotlin lua diff latex tex"
)

# Phrases by which an answer tells who wrote it. Plain names such as Claude, Gemini or Llama are
# also people, stars and animals: give them as phrases where the prompts allow it.
IDENTITY_PHRASES = (
    "Chat GPT",
    "GPT-3",
    "GPT-3.5",
    "GPT-4",
    "GPT-4o",
    "GPT-5",
    "Open AI",
    "Anthropic",
    "as Claude",
    "I am Claude",
    "I'm Claude",
    "Google Bard",
    "Google Gemini",
    "Google DeepMind",
    "Meta AI",
    "Meta Llama",
    "Mistral AI",
    "Deep Seek",
    "Qwen",
    "Alibaba Cloud",
    "SmolLM",
    "SmolLM2",
    "Hugging Face",
)
HIDDEN = "⟦hidden⟧"
# What may stand between the letters and the words of a phrase without a reader noticing.
WITHIN_WORDS = r"[*_~`\\\u00ad\u200b-\u200d\u2060\ufeff]{0,6}"
BETWEEN_WORDS = r"(?:[\s\-\u2010-\u2014*_~`\\\u00ad\u200b-\u200d\u2060\ufeff]|&nbsp;){0,6}"
DISGUISES = re.compile(r"[&\\*_~`\[<$]")  # without these Markdown shows the letters that it has
MAX_LAYERS = 4  # of disguises that are taken off
INLINE = "em|strong|s|code|a|span|mi|mo|mn|mtext|math|mrow"
IN_TAG = r"""(?:[^<>"']|"[^"]*"|'[^']*')*"""
APART = "\n" * 7  # more than may stand between words

# Controls, characters that reorder their neighbours, and characters without any ink. Joiners and
# variation selectors stay, since scripts and emoji need them, and so do MathML's operators.
UNSEEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f"
    r"\u2028-\u202e\u2060\u2065-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f]"
)
QUOTES = re.compile(r"^[ \t>*+\-\d.)]*", re.MULTILINE)  # what may stand before a line's text
MARKS = re.compile(r"[\n\[\]!*_~|<&$\\]")
SURROGATE = re.compile(r"[\ud800-\udfff]")
SAFE_URL = re.compile(r"(?:https?://|mailto:)[^\s]", re.IGNORECASE)

# Everything that may come out, and with which attributes; classes are listed in _cleaner.
TEXT_ELEMENTS = (
    "p h1 h2 h3 h4 h5 h6 blockquote ul ol li hr br em strong s code pre a div span "
    "table thead tbody tr th td"
)
ATTRIBUTES = {
    "*": "dir",
    "a": "href title",
    "ol": "start",
    "pre": "title",
    "math": "display",
    "mfrac": "displaystyle scriptlevel linethickness",
    "mi": "mathvariant",
    "mo": "form stretchy symmetric lspace rspace minsize maxsize movablelimits",
    "mover": "accent",
    "mpadded": "width height",
    "mrow": "displaystyle scriptlevel",
    "mspace": "width",
    "mstyle": "displaystyle scriptlevel",
    "mtable": "displaystyle scriptlevel",
    "munder": "accentunder",
    "munderover": "accent accentunder",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a tool, for a template. Made by ``conversation``, used by pages.

    ``arguments`` goes into ``<pre class="code"><code>``: indented JSON, coloured. A malformed call
    has the name ``?`` and shows its whole text there.
    ``ToolCall(id="call_1", name="search", arguments=Markup("{}"))``
    """

    id: str
    name: str
    arguments: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A message, for a template. Made by ``conversation``, used by pages.

    ``Turn(role="user", label="Person", body=Markup("<p>Hello</p>"), tool_calls=())``
    """

    role: Role
    label: str
    body: Markup
    tool_calls: tuple[ToolCall, ...]


def conversation(messages: Sequence[Message]) -> list[Turn]:
    """One turn per message, in order; a tool's result is named after the call it answers."""
    names: dict[str, str] = {}
    turns = []
    for message in messages:
        calls = tuple(_tool_call(text) for text in message.tool_calls)
        names |= {call.id: call.name for call in calls}
        is_result = message.role == "tool"
        turns.append(
            Turn(
                role=message.role,
                label=_label(message, names),
                body=preformatted(message.content) if is_result else markdown(message.content),
                tool_calls=calls,
            )
        )
    return turns


def markdown(text: str) -> Markup:
    r"""Safe HTML of CommonMark with tables, strikethrough, coloured code and mathematics.

    Mathematics (``$x$``, ``$$x$$``, ``\(x\)``, ``\[x\]``) becomes MathML, or stays as it was
    written where it does not parse. Definitions of references are shown as written and do not
    link, since CommonMark would hide them. Text above ``MAX_CHARACTERS``, ``MAX_MARKS``,
    ``MAX_QUOTED`` or ``MAX_DEPTH`` comes back as ``preformatted``.
    """
    return _kept(text) if len(text) <= MAX_KEPT else _drawn(text)


def _drawn(text: str) -> Markup:
    if len(text) > MAX_CHARACTERS or len(MARKS.findall(text)) > MAX_MARKS:
        return preformatted(text)
    if text.count("\n") * max(start.count(">") for start in QUOTES.findall(text)) > MAX_QUOTED:
        return preformatted(text)
    parser = _parser()
    env: Env = {"maths": formula.MAX_MATHS, "coloured": MAX_COLOURED}
    tokens = parser.parse(SURROGATE.sub("\ufffd", text), env)
    if _depth(tokens) >= MAX_DEPTH:
        return preformatted(text)
    return _safe(parser.renderer.render(tokens, parser.options, env))


_kept = lru_cache(NUM_KEPT)(_drawn)


def preformatted(text: str) -> Markup:
    """The text as it is, monospaced."""
    if not text:
        return Markup("")
    # Parsers skip a line break that follows <pre>, so the first one is ours.
    return Markup(f'<pre class="plain" dir="auto">\n{visible(escape(text))}</pre>')  # noqa: S704  (escaped)


def masked(text: str, phrases: Sequence[str] = IDENTITY_PHRASES) -> str:
    """The text with each phrase as whole words, in any case, replaced by ``HIDDEN``.

    Words of a phrase may be written together, apart or with hyphens: ``GPT-4`` also finds
    ``gpt 4``. Marks of Markdown and characters without ink may stand within, as in
    ``Chat**GPT**``. Longer phrases go first.
    """
    pattern = _any_of(tuple(phrases))
    return pattern.sub(_hidden, text) if pattern else text


@lru_cache(64)
def _any_of(phrases: tuple[str, ...]) -> re.Pattern[str] | None:
    """What finds any of the phrases; None when they have no words."""
    parted = ([part for part in re.split(r"[\s-]+", phrase) if part] for phrase in phrases)
    words = [parts for parts in parted if parts]
    if not words:
        return None
    words.sort(key=lambda parts: -sum(map(len, parts)))
    choices = "|".join(
        BETWEEN_WORDS.join(WITHIN_WORDS.join(map(re.escape, part)) for part in parts)
        for parts in words
    )
    # Not \b: in _ChatGPT_ the underscores are emphasis.
    return re.compile(rf"(?<![^\W_])(?:{choices})(?![^\W_])", re.IGNORECASE)


def _hidden(found: re.Match[str]) -> str:
    """The mark of a phrase, with the marks of emphasis in it, so that those around have a match."""
    marks = "".join(re.findall(r"[*~`]+", found[0]))
    is_closed_later = marks and found.string.startswith(marks, found.end())
    return marks + HIDDEN if is_closed_later else HIDDEN + marks


def blinded(text: str, phrases: Sequence[str]) -> str:
    """Markdown without the phrases, neither as it is written nor as ``markdown`` shows it.

    Where hiding them in the source does not do, because they are spelled with entities, escapes or
    links, the text comes back as what a reader would see of it, without its format.
    """
    text = masked(text, phrases)
    for _ in range(MAX_LAYERS):
        if not phrases or not DISGUISES.search(text):
            return text
        seen = _seen(text)
        hidden = masked(seen, phrases)
        if hidden == seen:
            return text
        text = re.sub(r"\n{3,}", "\n\n", hidden).strip()
    return HIDDEN


def _seen(text: str) -> str:
    """What a reader sees of Markdown: its text, and what links and titles say."""
    html = str(markdown(text))
    told = re.findall(r'(?:href|title)="([^"]*)"', html)
    plain = re.sub(rf"</?(?:{INLINE})\b{IN_TAG}>", "", html)
    plain = re.sub(rf"<{IN_TAG}>", APART, plain)
    return unescape(APART.join([plain, *told]))


def masked_call(text: str, phrases: Sequence[str]) -> str:
    """A tool call's JSON text, masked also where JSON writes a phrase with escapes.

    JSON within its strings, such as OpenAI's arguments, is masked the same way. What needs no
    masking comes back letter by letter.
    """
    try:
        value = _parsed(text)
        hidden = _masked_value(value, phrases)
        if hidden != value:
            text = json.dumps(hidden, ensure_ascii=False)
    except RecursionError:
        pass  # nested beyond what is parsed for a page; the text itself is masked all the same
    return masked(text, phrases)


def with_id(text: str, named: Callable[[str], str]) -> str:
    """A tool call's JSON text with another id; one without an id comes back as it is."""
    match _parsed(text):
        case {"id": str(id_), **rest}:
            return json.dumps({"id": named(id_), **rest}, ensure_ascii=False)
    return text


def _masked_value(value: JSON, phrases: Sequence[str]) -> JSON:
    if isinstance(value, str):
        return masked_call(value, phrases) if value[:1] in "{[" else masked(value, phrases)
    if isinstance(value, list):
        return [_masked_value(one, phrases) for one in value]
    if isinstance(value, dict):
        return {masked(key, phrases): _masked_value(one, phrases) for key, one in value.items()}
    return value


def visible(text: str) -> str:
    """The text with characters that hide or reorder others written out: ``⟦U+202E⟧``.

    Right-to-left text itself is untouched. Half a surrogate pair, which no page can hold, becomes
    the replacement character.
    """
    text = SURROGATE.sub("\ufffd", text)
    return UNSEEN.sub(lambda found: f"⟦U+{ord(found[0]):04X}⟧", text)


def code_css() -> str:
    """Colours of code under ``.code``, for light and dark pages."""
    from pygments.formatters.html import HtmlFormatter

    blocks = []
    for scheme, style in (("light", "default"), ("dark", "github-dark")):
        rules = "\n".join(HtmlFormatter(style=style).get_token_style_defs(".code"))
        blocks.append(f"@media (prefers-color-scheme: {scheme}) {{\n{rules}\n}}\n")
    return "".join(blocks)


def _label(message: Message, names: dict[str, str]) -> str:
    if message.role == "tool":
        return visible(f"Tool {message.name or names.get(message.tool_call_id, '')}".strip())
    return {"user": "Person", "assistant": "Assistant", "system": "System"}[message.role]


def _tool_call(text: str) -> ToolCall:
    """A call in OpenAI's shape; one with other keys is shown whole, so that none is hidden."""
    match _parsed(text):
        case {"function": {"name": str(name), "arguments": arguments, **more}, **rest} if (
            not more and rest.keys() <= {"id", "type", "index"}
        ):
            code = _indented(_parsed(arguments) if isinstance(arguments, str) else arguments)
            if code is not None:
                html = _coloured(code, "json", {"coloured": MAX_COLOURED})
            elif isinstance(arguments, str):
                html = escape(arguments)
            else:
                html = escape(json.dumps(arguments, ensure_ascii=False))
            return ToolCall(id=str(rest.get("id", "")), name=visible(name), arguments=_safe(html))
    return ToolCall(id="", name="?", arguments=_safe(escape(text)))


def _parsed(text: str) -> JSON:
    """The value of a JSON text, or None where showing it would differ from what was written."""
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except (ValueError, RecursionError):
        return None


def _distinct(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _indented(value: JSON) -> str | None:
    """Indented JSON, or None when there is none or its indents would fill memory."""
    if value is None:
        return None
    encoder = json.JSONEncoder(indent=2, ensure_ascii=False, allow_nan=False)
    parts, length = [], 0
    try:
        for part in encoder.iterencode(value):
            parts.append(part)
            length += len(part)
            if length > MAX_CHARACTERS:
                return None
    except (ValueError, RecursionError):
        return None
    return "".join(parts)


def _safe(html: str) -> Markup:
    return Markup(visible(_cleaner().clean(SURROGATE.sub("\ufffd", html))))  # noqa: S704  (the sanitiser has run)


@cache
def _cleaner() -> "nh3.Cleaner":
    import nh3
    from pygments.token import STANDARD_TYPES

    classes = {name for name in STANDARD_TYPES.values() if name}
    sides = {"left", "center", "right"}
    return nh3.Cleaner(
        tags=set(f"{TEXT_ELEMENTS} {formula.ELEMENTS}".split()),
        attributes={name: set(names.split()) for name, names in ATTRIBUTES.items()},
        allowed_classes={
            "a": {"image"},
            "code": {"math"},
            "div": {"math"},
            "pre": {"code", "math"},
            "span": classes,
            "td": sides,
            "th": sides,
            "mrow": formula.ENCLOSURES,
            "mtable": formula.CLASSES,
            "mtd": formula.CLASSES,
        },
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
        url_schemes={"http", "https", "mailto"},
        url_relative="deny",
    )


@cache
def _parser() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_DEPTH})
    parser.enable(["table", "strikethrough"]).disable("reference")
    parser.validateLink = lambda url: SAFE_URL.match(url) is not None  # type: ignore[method-assign]
    parser.block.ruler.at("table", _parse_table, {"alt": ["paragraph", "reference"]})
    parser.core.ruler.push("dress", _dress)
    parser.add_render_rule("fence", _render_code)
    parser.add_render_rule("code_block", _render_code)
    formula.install(parser)
    return parser


def _depth(tokens: Sequence["Token"]) -> int:
    depth = deepest = 0
    for token in tokens:
        for part in (token, *(token.children or ())):
            depth += part.nesting
            deepest = max(deepest, depth)
    return deepest


def _dress(state: "StateCore") -> None:
    """Give blocks their writing direction and cells their side; turn images into links."""
    for token in state.tokens:
        if token.nesting == 1 and token.level == 0:
            token.attrSet("dir", "auto")
        if style := token.attrs.pop("style", None):  # only the side of a table's cell
            token.attrSet("class", str(style).removeprefix("text-align:"))
        if token.children:
            token.children = _with_plain_links(token.children)


def _with_plain_links(tokens: Sequence["Token"]) -> list["Token"]:
    """Images become links with their alternative text, links without text show their address."""
    from markdown_it.token import Token

    kept: list[Token] = []
    num_links = 0  # that are open: 0 or 1
    for token in tokens:
        num_links += token.nesting if token.type.startswith("link_") else 0
        if token.type == "link_close" and kept[-1].type == "link_open":
            kept.append(Token("text", "", 0, content=str(kept[-1].attrs["href"])))
        if token.type != "image":
            kept.append(token)
            continue
        label = Token("text", "", 0, content=token.content or str(token.attrs["src"]))
        attrs = {"href": token.attrs.pop("src"), "class": "image"} | token.attrs
        link = Token("link_open", "a", 1, attrs=attrs)
        kept += [label] if num_links else [link, label, Token("link_close", "a", -1)]
    return kept


def _parse_table(state: "StateBlock", start: int, end: int, silent: bool) -> bool:
    """A table, with the cells that GitHub's rule drops because the header has fewer."""
    from markdown_it.rules_block.table import escapedSplit, table

    first = len(state.tokens)
    is_table = table(state, start, end, silent)
    made = state.tokens[first:]  # nothing when silent
    del state.tokens[first:]
    num_columns = sum(token.type == "th_open" for token in made)
    cells: list[str] = []
    for token in made:
        if token.type == "tr_open" and token.map:
            cells = escapedSplit(line_of(state, token.map[0]))
            cells = cells[1:] if cells[0] == "" else cells
            cells = cells[:-1] if cells[-1:] == [""] else cells
        if token.type == "tr_close":
            for cell in cells[num_columns:]:
                state.push("td_open", "td", 1)
                content = state.push("inline", "", 0)
                content.content, content.children = cell.strip(), []
                state.push("td_close", "td", -1)
        state.tokens.append(token)
    return is_table


def _render_code(
    _self: object, tokens: Sequence["Token"], index: int, _options: object, env: Env
) -> str:
    return _code_block(tokens[index].content, tokens[index].info.strip(), env)


def _code_block(code: str, info: str, env: Env) -> str:
    """A block of code; the first word of ``info`` is its language, all of it its title."""
    language = info.split(maxsplit=1)[0].lower() if info else ""
    title = f' title="{escape(info)}"' if info else ""
    return (
        f'<pre class="code" dir="ltr"{title}><code>{_coloured(code, language, env)}</code></pre>\n'
    )


def _coloured(code: str, language: str, env: Env) -> str:
    if language not in LANGUAGES.split() or len(code) > min(MAX_COLOURED_BLOCK, env["coloured"]):
        return escape(code)
    from pygments import highlight
    from pygments.formatters.html import HtmlFormatter

    env["coloured"] -= max(len(code), 100)  # a short block has its fixed cost too
    return str(highlight(code, _lexer(language), HtmlFormatter(nowrap=True)))


@cache
def _lexer(language: str) -> "Lexer":
    from pygments.lexers import get_lexer_by_name

    return get_lexer_by_name(
        "csharp" if language == "java" else language, stripnl=False, ensurenl=False
    )
