from pathlib import Path

import pytest

from heedful.annotators.golds import GOLDS, resolve_gold
from heedful.errors import ConfigError, DataError, MissingError, UserError

FILE = '''"""A user's golds."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Weights:
    length: float = 2.0


def short(prompt: str, response: str) -> float:
    """Shorter is better.

    And this line is not shown.
    """
    return -Weights().length * len(response)


def undocumented(prompt, response):
    return 1


def text(prompt, response):
    return "good"


def not_a_number(prompt, response):
    return float("nan")


def endless(prompt, response):
    return float("inf")


def huge(prompt, response):
    return 10**400


def nothing(prompt, response):
    pass


def one_argument(response):
    return 0.0


CONSTANT = 1.0
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize("name", GOLDS)
def test_resolve_gold_finds_a_shipped_gold_by_name(name: str) -> None:
    assert resolve_gold(name) is GOLDS[name]


def test_resolve_gold_loads_a_function_with_the_first_docstring_line(file: Path) -> None:
    gold = resolve_gold(f"{file}:short")
    assert (gold.name, gold.statement) == ("mine:short", "Shorter is better.")
    assert gold.score("Hello", "four") == -8.0
    assert gold.parts("Hello", "four") == {"score": -8.0, "variety": 1.0}


def test_resolve_gold_without_docstring_states_where_it_comes_from(file: Path) -> None:
    gold = resolve_gold(f"{file}:undocumented")
    assert gold.statement == "As computed by undocumented in mine.py."
    assert isinstance(gold.score("", ""), float)


def test_resolve_gold_refuses_an_unknown_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'kind'"):
        resolve_gold("kindd")


def test_resolve_gold_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"absent\.py does not exist; give FILE\.py:FUNCTION"):
        resolve_gold(f"{tmp_path}/absent.py:short")


def test_resolve_gold_refuses_a_directory(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="does not exist"):
        resolve_gold(f"{tmp_path}:short")


def test_resolve_gold_refuses_a_file_that_is_not_python(tmp_path: Path) -> None:
    path = tmp_path / "gold.txt"
    path.write_text("def short(prompt, response): return 0.0")
    with pytest.raises(DataError, match="is not a Python file"):
        resolve_gold(f"{path}:short")


def test_resolve_gold_offers_the_nearest_function(file: Path) -> None:
    with pytest.raises(MissingError, match="has no function 'shrot'; did you mean 'short'"):
        resolve_gold(f"{file}:shrot")


def test_resolve_gold_refuses_a_constant(file: Path) -> None:
    with pytest.raises(MissingError, match="has no function 'CONSTANT'"):
        resolve_gold(f"{file}:CONSTANT")


@pytest.mark.parametrize(
    ("source", "seen"),
    [("def broken(:", "invalid syntax"), ("import no_such_module", "no_such_module"), ("x", "'x'")],
)
def test_resolve_gold_refuses_a_file_that_does_not_load(
    tmp_path: Path, source: str, seen: str
) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(DataError, match=f"cannot be loaded: .*{seen}"):
        resolve_gold(f"{path}:short")


def test_resolve_gold_refuses_a_function_of_one_argument_before_it_is_used(file: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be called with \(prompt, response\)"):
        resolve_gold(f"{file}:one_argument")


@pytest.mark.parametrize("function", ["text", "not_a_number", "endless", "huge", "nothing"])
def test_user_gold_refuses_a_value_that_is_no_finite_number(file: Path, function: str) -> None:
    gold = resolve_gold(f"{file}:{function}")
    with pytest.raises(DataError, match=rf"mine:{function} returned .* response 'An answer\.'"):
        gold.score("", "An answer.")


def test_errors_of_resolve_gold_are_the_users_with_exit_code_2(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        resolve_gold(f"{tmp_path}/absent.py:short")
    assert caught.value.exit_code == 2
