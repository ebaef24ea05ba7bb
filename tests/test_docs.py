"""Documents are true: their commands parse, their code runs, their links lead somewhere."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from heedful.cli.app import app
from heedful.config import RewardConfig, check

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = page.read_text()
        found += [
            (page.name, body) for body in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
        ]
    return found


def commands() -> list[tuple[str, str]]:
    lines = [(name, line) for name, body in blocks("console") for line in body.splitlines()]
    return [(name, line[2:]) for name, line in lines if line.startswith("$ heedful ")]


@pytest.mark.parametrize(("page", "command"), commands())
def test_every_command_in_the_docs_parses(page: str, command: str) -> None:
    arguments = shlex.split(command.partition("#")[0])[1:]
    group: Any = typer.main.get_command(app)
    while hasattr(group, "commands"):
        arguments = getattr(group, "with_default", list)(arguments)
        name = arguments.pop(0)
        found = group.commands.get(name)
        assert found is not None, f"{page}: heedful has no command {name!r}"
        group = found
    group.make_context("heedful", arguments, resilient_parsing=False)


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_every_python_block_runs(page: str, code: str, tmp_path: Path, cache: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"HEEDFUL_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{page}: {done.stderr[-800:]}"


@pytest.mark.parametrize(("page", "text"), blocks("toml"))
def test_every_config_in_the_docs_is_accepted(page: str, text: str) -> None:
    check(RewardConfig, {"data": "test"} | tomllib.loads(text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_local_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_picture_is_shown_and_all_of_them_are_small() -> None:
    pictures = set((ROOT / "docs").rglob("*.png"))
    named = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(
            r"""[("]((?:docs/|pages/)?[\w-]+(?:/[\w-]+)?\.png)""", page.read_text()
        )
    }
    assert pictures - named == set()
    assert sum(one.stat().st_size for one in pictures) < 3_000_000


def test_every_picture_has_words_for_those_who_cannot_see_it() -> None:
    for page in PAGES:
        text = page.read_text()
        assert re.search(r"!\[\s*\]\(", text) is None, page.name
        for tag in re.findall(r"<img[^>]*>", text):
            assert re.search(r'alt="[^"]{10,}"', tag), f"{page.name}: {tag}"
            source = re.search(r'src="([^"]+)"', tag)
            assert source is not None, f"{page.name}: {tag}"
            assert (page.parent / source[1]).exists(), f"{page.name}: {tag}"


def leaves(command: Any, path: str) -> list[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        return [(path, command)]
    return [x for n, c in command.commands.items() for x in leaves(c, f"{path} {n}")]


ALL_COMMANDS = leaves(typer.main.get_command(app), "heedful")


def test_every_command_is_documented_with_an_example() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    for path, command in ALL_COMMANDS:
        assert f"`{path}`" in page, path
        assert f"Example: {path}" in (command.help or ""), path


def test_the_commands_said_to_lack_json_are_those_that_do() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    (said,) = re.findall(r"With `--json`, which all but (.*?) take", page, re.DOTALL)
    assert {f"heedful {name}" for name in re.findall(r"`(\w+)`", said)} == {
        path
        for path, command in ALL_COMMANDS
        if not any("--json" in option.opts for option in command.params)
    }


def test_the_tree_in_the_readme_names_every_package() -> None:
    text = (ROOT / "README.md").read_text()
    for package in sorted((ROOT / "heedful").iterdir()):
        if package.is_dir() and not package.name.startswith("__"):
            assert f"  {package.name}/" in text, package.name


def test_tables_of_results_are_the_measured_rows() -> None:
    file = ROOT / "benchmarks" / "tables.py"
    specification = importlib.util.spec_from_file_location("benchmark_tables", file)
    assert specification is not None
    assert specification.loader is not None
    tables = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tables)
    page = (ROOT / "docs" / "results.md").read_text()
    for make in tables.TABLES:
        table = "\n".join(make())
        assert table in page, f"{make.__name__}: run python benchmarks/tables.py"
        page = page.replace(table, "")
    untold = {part.partition("\n")[0] for part in page.split("\n## ") if "\n|---" in part}
    (named,) = re.findall(r"nothing checks\s+them: (.*?)\.\n", page, re.DOTALL)
    assert untold == set(re.findall(r"\*(.+?)\*", named))
