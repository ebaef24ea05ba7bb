"""Rendered text as a browser reads it, and what of it is not on our list."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree.ElementTree import Element

import html5lib

TEXT = "p h1 h2 h3 h4 h5 h6 blockquote ul ol li hr br em strong s code pre a div span"
TABLE = "table thead tbody tr th td"
MATHS = (
    "math mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts mroot mrow mspace msqrt "
    "mstyle msub msubsup msup mtable mtd mtext mtr munder munderover"
)
ELEMENTS = set(f"{TEXT} {TABLE} {MATHS}".split())
ATTRIBUTES = (
    "accent accentunder class dir display displaystyle form height href linethickness lspace "
    "mathvariant maxsize minsize movablelimits rel rspace scriptlevel start stretchy symmetric "
    "target title width"
)
URL = re.compile(r"(https?://|mailto:)", re.IGNORECASE)


def parsed(page: str) -> Element:
    """As a browser reads it, MathML included."""
    return html5lib.parseFragment(page, treebuilder="etree", namespaceHTMLElements=False)


def complaints(page: str) -> list[str]:
    """What a browser would find that is not on our list, also after a second reading."""
    again = html5lib.serialize(parsed(page), tree="etree", omit_optional_tags=False)
    found = []
    for element in [*parsed(page).iter(), *parsed(again).iter()]:
        if element.tag == "DOCUMENT_FRAGMENT":
            continue
        name = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else "a comment"
        if name not in ELEMENTS:
            found.append(name)
        for attribute, value in element.attrib.items():
            if attribute not in ATTRIBUTES.split():
                found.append(f"{name} {attribute}")
            if attribute == "href" and not URL.match(value):
                found.append(f"link to {value}")
        if "href" in element.attrib and (
            element.get("rel") != "noopener noreferrer nofollow"
            or element.get("target") != "_blank"
        ):
            found.append("link without rel or target")
    return found


def shown(page: str) -> str:
    """All that a reader can see or hover over."""
    parts = []
    for element in parsed(page).iter():
        parts += [element.get("href", ""), element.get("title", ""), element.text or ""]
        parts.append(element.tail or "")
    return "".join(parts)


def find(page: str, name: str) -> list[Element]:
    return [element for element in parsed(page).iter() if str(element.tag).endswith(name)]


def printed(command: str) -> str:
    """What a fresh Python prints."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
