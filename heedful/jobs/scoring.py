"""``heedful score``: the reward of every completion in a file, in order."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import jinja2

from heedful.data.collate import Tree
from heedful.data.formats import FORMATS, Drop, Judged, Record, RowDropped, read_files
from heedful.data.formats import conversation as talk
from heedful.data.formats.base import Row, labels
from heedful.data.formats.conversation import Turns
from heedful.data.formats.reading import json_rows, opened
from heedful.errors import DataError
from heedful.exchange.exporting import write_pieces
from heedful.jobs.progress import Advance, progress
from heedful.jobs.rewards import AnyReward
from heedful.types import Demonstration, Preference, Prompt

ASKED = "completions"  # rows of trl, and {"prompt", "completions": [...]}
NAMED_BY_SUFFIX = ("parquet", "csv")
EXPECTS = "rows of prompt and completion or completions, or a format of docs/data.md"
MAX_DROPS = 10_000  # that are kept one by one; all are counted
PASSES = 8  # forward passes between two writes
Asked = tuple[Prompt, Mapping[str, Turns]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A row to score: the completions of a prompt by name. Made by ``questions``."""

    file: str
    line: int
    prompt: Prompt
    completions: Mapping[str, Turns]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The reward of one completion: the line it stands on and what the file calls it there.

    ``parts`` are those of a model with several, by name. ``uncertainty`` is the deviation of the
    members of an ensemble, in units of the reward. ``vetoed_by`` are the flags above their limits,
    None where the mix has no limit.
    """

    line: int
    completion: str
    reward: float
    parts: Mapping[str, float] = field(default_factory=dict)
    uncertainty: float | None = None
    vetoed_by: tuple[str, ...] | None = None

    def as_json(self) -> str:
        """The line of the output; a single score has none but the reward."""
        fields = asdict(self)
        return json.dumps({key: one for key, one in fields.items() if one not in ({}, None)})


@dataclass(slots=True, kw_only=True)
class ScoreResult:
    """What was scored and what was left out. ``drops`` are the first, ``rules`` counts all.

    ``mix`` is how the parts of the model made the rewards; None for one score. A flag above its
    limit holds down ``num_vetoed`` completions, None: the mix has no limit.
    """

    format: str
    num_rows: int = 0
    num_scored: int = 0
    total: float = 0.0
    num_vetoed: int | None = None
    mix: str | None = None
    drops: list[Drop] = field(default_factory=list)
    rules: Counter[str] = field(default_factory=Counter)

    @property
    def mean(self) -> float:
        """Mean reward of what was scored; 0 when that is nothing."""
        return self.total / max(self.num_scored, 1)

    def drop(self, one: Drop) -> None:
        """Count a row that was left out."""
        self.rules[one.rule] += 1
        if len(self.drops) < MAX_DROPS:
            self.drops.append(one)


def score_file(
    load: Callable[[], AnyReward],
    path: Path,
    *,
    format: str | None = None,
    out: Path | None = None,
    write: Callable[[str], object] = print,
) -> ScoreResult:
    """Score a file line by line; the whole of it is checked before ``load`` loads the model.

    The scores are JSON Lines. The file ``out`` appears when it is complete; without it, every line
    is given to ``write`` at once. Rows without a completion and rows that the model cannot read are
    dropped and counted. Raises ``DataError`` for a broken line or when no row is left.
    """
    result = ScoreResult(format=format or detect(path))
    num_usable = 0
    for one in questions(path, result.format):
        result.num_rows += 1
        if isinstance(one, Drop):
            result.drop(one)
        else:
            num_usable += 1
    if not num_usable:
        raise DataError(
            f"{path} has no completion to score in {result.num_rows} rows; dropped by rule: "
            f"{dict(result.rules)}"
        )
    model = load()
    result.mix = model.mix
    with progress("score", num_usable) as advance:
        asked = (one for one in questions(path, result.format) if isinstance(one, Question))
        lines = (one.as_json() for one in scores(model, asked, result, advance))
        if out is not None:
            write_pieces((f"{line}\n".encode() for line in lines), out)
        else:
            for line in lines:
                write(line)
    return result


def scores(
    model: AnyReward, asked: Iterable[Question], result: ScoreResult, advance: Advance
) -> Iterator[Score]:
    """The scores of rows in order, a few forward passes at a time; ``result`` counts."""
    full = PASSES * model.tokens_per_pass
    held: list[tuple[Question, Tree]] = []
    room = full
    for one in asked:
        tree = encoded(model, one)
        if isinstance(tree, Drop):
            result.drop(tree)
            advance(1)
            continue
        held.append((one, tree))
        room -= tree.num_tokens
        if room <= 0:
            yield from scored(model, held, result, advance)
            held, room = [], full
    yield from scored(model, held, result, advance)


def scored(
    model: AnyReward,
    held: Sequence[tuple[Question, Tree]],
    result: ScoreResult,
    advance: Advance,
) -> Iterator[Score]:
    """The scores of rows that are read together."""
    judged = model.judge([tree for _, tree in held])
    for (one, _), values in zip(held, judged, strict=True):
        for name, value in zip(one.completions, values, strict=True):
            result.num_scored += 1
            result.total += value.reward
            if value.vetoed_by is not None:
                result.num_vetoed = (result.num_vetoed or 0) + bool(value.vetoed_by)
            yield Score(line=one.line, completion=name, **value._asdict())
        advance(1)


def encoded(model: AnyReward, one: Question) -> Tree | Drop:
    """A row as token ids, or why the model cannot read it."""
    place, answers = f"line {one.line}", list(one.completions.values())
    try:
        tree = model.tree(place, one.prompt, answers)
    except (DataError, jinja2.TemplateError) as error:
        return Drop(rule="not_rendered", file=one.file, line=one.line, detail=str(error))
    longest = len(tree.prompt) + max(map(len, tree.responses))
    if longest > model.max_tokens:
        seen = f"{longest} tokens; {model.reader} reads {model.max_tokens}"
        return Drop(rule="too_long", file=one.file, line=one.line, detail=seen)
    return tree


def questions(path: Path, format: str) -> Iterator[Question | Drop]:
    """The rows of a file, or why one is left out; ``DataError`` names a line that is broken."""
    if format == ASKED:
        for line, row in json_rows(path):
            yield _question(str(path), line, partial(read_asked, row))
        return
    for one in read_files(format, [path]):
        if isinstance(one, Drop):
            yield one
        else:
            yield _question(one.file, one.line, partial(completions_of, one.record))


def _question(file: str, line: int, read: Callable[[], Asked]) -> Question | Drop:
    try:
        prompt, completions = read()
    except RowDropped as drop:
        return Drop(rule=drop.rule, file=file, line=line, detail=drop.detail)
    return Question(file=file, line=line, prompt=prompt, completions=completions)


def completions_of(record: Record) -> Asked:
    """The completions of a record by name; ``RowDropped`` when it has none."""
    if isinstance(record, Preference):
        return record.prompt, {"chosen": record.chosen, "rejected": record.rejected}
    if isinstance(record, Demonstration):
        return record.prompt, {"completion": record.response}
    if isinstance(record, Judged) and record.candidates:
        return record.prompt, {name: one.messages for name, one in record.candidates.items()}
    raise RowDropped("no_completion", "there is a prompt and nothing that answers it")


def read_asked(row: Row) -> Asked:
    """A row of a prompt and its completions, texts or messages; raises ``RowDropped``.

    A row that lists none is one of ``trl``: a prompt and its completion, or a pair.
    """
    if "completions" not in row:
        return completions_of(FORMATS["trl"].parse(row))
    prompt = talk.said("prompt", row.get("prompt"), "user")
    talk.check_prompt(prompt)
    given = row.get("completions")
    if not isinstance(given, list) or not given:
        raise RowDropped("no_completion", "completions is no list, or an empty one")
    answers = [talk.answer(f"completions[{n}]", one) for n, one in enumerate(given, start=1)]
    asked = Prompt(messages=prompt, tools=talk.tools(row.get("tools")))
    return asked, dict(zip(labels(len(answers)), answers, strict=True))


def detect(path: Path) -> str:
    """The format of a file, by its name or by its first row; raises ``DataError``."""
    for name in NAMED_BY_SUFFIX:
        if f".{name}" in path.suffixes:
            return name
    with opened(path) as file:
        if file.read(64).lstrip().startswith(b'{"heedful"'):
            return "json"
    row: Row = next((row for _, row in json_rows(path)), {})
    if not row:
        raise DataError(f"{path} is empty; expected {EXPECTS}")
    if {"prompt", "completions"} <= row.keys() and "ranks" not in row and "form" not in row:
        return ASKED
    for format in FORMATS.values():
        if format.name not in NAMED_BY_SUFFIX and format.recognises(row):
            return ASKED if format.name == "trl" else format.name
    keys = ", ".join(sorted(row))
    raise DataError(f"{path} has rows with the keys {keys}; expected {EXPECTS}")


@contextmanager
def spooled(stream: BinaryIO) -> Iterator[Path]:
    """What comes through a pipe as a file, which can be read twice."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "stdin"
        with path.open("wb") as file:
            shutil.copyfileobj(stream, file)
        yield path
