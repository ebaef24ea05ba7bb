"""docs/forms.md is true: every form is there, with its question and with valid payloads."""

import json
import re
from pathlib import Path

import pytest

from heedful.forms import FORMS
from heedful.forms.base import MAX_NOTE, MAX_SHOWN, MAX_TEXT
from heedful.forms.flags import FLAGS

PAGE = (Path(__file__).parents[2] / "docs" / "forms.md").read_text()
SECTIONS = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))


def test_page_has_the_registered_forms_in_their_order() -> None:
    assert list(SECTIONS) == list(FORMS)


@pytest.mark.parametrize("name", FORMS)
def test_page_asks_the_forms_question(name: str) -> None:
    assert f"*{FORMS[name].question}*" in SECTIONS[name]


@pytest.mark.parametrize("name", FORMS)
def test_page_shows_valid_payloads_with_every_key_of_the_schema(name: str) -> None:
    lines = "\n".join(re.findall(r"```json\n(.*?)```", SECTIONS[name], re.DOTALL)).splitlines()
    shown = ["cmp_a", "cmp_b", "cmp_c", "cmp_d"][: FORMS[name].num_completions[1]]
    keys = set()
    for line in lines:
        payload = json.loads(line)
        FORMS[name].validate(payload, [one for one in shown if name == "pairwise" or one in line])
        keys |= set(payload)
    assert keys | {"comment"} == set(FORMS[name].schema(shown)["properties"])


@pytest.mark.parametrize("name", FORMS)
def test_page_names_every_rule_by_which_an_example_is_dropped(name: str) -> None:
    form = FORMS[name]
    shown = ["cmp_a", "cmp_b", "cmp_c"][: form.num_completions[1]]
    shown = shown[: max(form.num_completions[0], len(shown))]
    for payload in form.examples(shown):
        rule = form.undecided(payload)
        assert rule is None or f"`{rule}`" in SECTIONS[name]


def test_page_states_the_limits() -> None:
    assert f"{MAX_TEXT:,} characters" in PAGE
    assert f"{MAX_NOTE:,} characters" in PAGE
    assert f"2 to {MAX_SHOWN} completions" in SECTIONS["ranking"]
    for flag in FLAGS:
        assert f"`{flag}`" in SECTIONS["flags"]
