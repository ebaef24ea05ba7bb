"""How configurations are read and checked: one pydantic section per table, refused in one line."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from heedful.errors import ConfigError, MissingError
from heedful.registry import nearest


class Section(BaseModel):
    """Frozen, and strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


C = TypeVar("C", bound=Section)


def listed(data: str | Iterable[str] | None) -> str:
    """The data sets of a config in words: ``a, b``."""
    return ", ".join((data,) if isinstance(data, str) else data or ())


def resolve(
    kind: type[C],
    *,
    file: Path | None = None,
    overrides: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> C:
    """The config: defaults < ``file`` < ``overrides`` (``kl.coef=0.1``) < flags that are set."""
    values: dict[str, Any] = read_toml(file) if file else {}
    for text in overrides:
        assign(values, text)
    values |= {key: value for key, value in (flags or {}).items() if value is not None}
    return check(kind, values)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML (or resolved JSON) file."""
    try:
        text = path.read_text()
    except OSError as error:
        raise MissingError(f"config file {path}: {error.strerror}; give an existing file") from None
    try:
        values: dict[str, Any] = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"config file {path} cannot be parsed: {error}") from None
    return values


def assign(values: dict[str, Any], text: str) -> None:
    """Apply one dotted override, for example ``optimiser.learning_rate=1e-4``."""
    key, equals, literal = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {text!r} is not KEY=VALUE; write for example seed=1")
    *parents, name = key.strip().lstrip("-").split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override {text!r}: {parent!r} is a value, not a section")
    values[name] = parse_literal(literal)


def parse_literal(literal: str) -> Any:
    """A TOML value where it is one, otherwise the text itself."""
    try:
        return tomllib.loads(f"value = {literal}")["value"]
    except tomllib.TOMLDecodeError:
        return literal


def check(kind: type[C], values: Mapping[str, Any]) -> C:
    """Validate; the first problem becomes a one-line ``ConfigError``."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        problem = error.errors()[0]
        place = _dotted(kind, problem["loc"])
        if problem["type"] == "extra_forbidden":
            names = _names_at(kind, problem["loc"][:-1])
            hint = nearest(str(problem["loc"][-1]), names)
            raise ConfigError(f"unknown config key {place!r}; {hint}") from None
        if problem["type"] == "missing":
            raise ConfigError(f"config key {place!r} is required; set it in the file") from None
        said = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "value_error" and isinstance(problem["input"], Mapping):
            raise ConfigError(said) from None  # keys that do not go together
        said = said[:1].lower() + said[1:]
        raise ConfigError(f"config key {place!r} is {problem['input']!r}: {said}") from None


def _dotted(kind: type[Section], path: tuple[int | str, ...]) -> str:
    """The key as a person writes it: without the tags of the types that its value could have."""
    parts: list[str] = []
    for place, part in enumerate(path):
        parts.append(str(part))
        field = kind.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if get_origin(annotation) is dict:
            parts += [str(key) for key in path[place + 1 : place + 2]]
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            break
        kind = annotation
    return ".".join(parts)


def _names_at(kind: type[Section], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        annotation = kind.model_fields[str(part)].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, Section)
        kind = annotation
    return list(kind.model_fields)
