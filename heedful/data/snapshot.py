"""A snapshot's file: frozen training rows in Parquet, readable by any tool that reads Parquet.

Columns are lists of ``{role, content, ...}`` plus ids; the file's metadata holds the hash
of the rows, which reading checks. Imports no store: ``jobs/snapshot.py`` joins the two.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from heedful.errors import ConfigError, DataError, MissingError, ResourceError
from heedful.types import (
    JSON,
    Demonstration,
    Feedback,
    Preference,
    Prompt,
    messages_from_json,
    messages_json,
)

Kind = Literal["feedback", "preference", "demonstration", "prompt"]
Example = Feedback | Preference | Demonstration | Prompt
T = TypeVar("T", bound=Example)

_MESSAGES = pa.list_(
    pa.struct(
        [
            ("role", pa.string()),
            ("content", pa.string()),
            ("tool_calls", pa.list_(pa.string())),
            ("tool_call_id", pa.string()),
            ("name", pa.string()),
        ]
    )
)
_PROMPT: dict[str, Any] = {
    "prompt_id": pa.string(),
    "prompt": _MESSAGES,
    "tools": pa.list_(pa.string()),
}
_SOURCE: dict[str, Any] = {"weight": pa.float64(), "annotation_ids": pa.list_(pa.string())}
SCHEMAS: dict[str, Any] = {
    "feedback": pa.schema(
        _PROMPT
        | {
            "responses": pa.list_(_MESSAGES),
            "scale": pa.string(),
            "values": pa.list_(pa.float64()),
            "criterion": pa.string(),
            "margin": pa.float64(),
            "probability": pa.float64(),
            "form": pa.string(),
            "source": pa.string(),
            "annotator": pa.string(),
        }
        | _SOURCE
    ),
    "preference": pa.schema(
        _PROMPT
        | {
            "chosen": _MESSAGES,
            "rejected": _MESSAGES,
            "margin": pa.float64(),
            "probability": pa.float64(),
        }
        | _SOURCE
    ),
    "demonstration": pa.schema(_PROMPT | {"response": _MESSAGES} | _SOURCE),
    "prompt": pa.schema(_PROMPT),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """What ``freeze`` wrote: the file's path and the hash of its rows."""

    path: str
    rows_hash: str


def prompt_of(row: Example) -> Prompt:
    """The prompt of any training row."""
    return row if isinstance(row, Prompt) else row.prompt


def split_by_prompt(rows: Sequence[T], held_out_share: float, seed: int) -> tuple[list[T], list[T]]:
    """Rows to train on and rows held out; no prompt is on both sides.

    A prompt's side depends on its hash and the seed alone: it stays there when rows are added.
    The share is of prompts and met on average. Raises ``ConfigError`` for a share outside
    [0, 1), ``DataError`` when a share above 0 leaves a side empty.
    """
    if not 0 <= held_out_share < 1:
        raise ConfigError(f"held_out_share is {held_out_share}; choose from 0 to below 1")
    limit = int(held_out_share * 2**64)
    train: list[T] = []
    held_out: list[T] = []
    for row in rows:
        (held_out if _place(prompt_of(row).id, seed) < limit else train).append(row)
    if held_out_share and not (train and held_out):
        raise DataError(
            f"{len(rows)} rows about {len({prompt_of(row).id for row in rows})} prompts cannot be "
            f"split by prompt with held_out_share {held_out_share}: {len(train)} rows to train on, "
            f"{len(held_out)} held out; add prompts or change share or seed"
        )
    return train, held_out


def split_three_ways(
    rows: Sequence[T], held_out_share: float, seed: int
) -> tuple[list[T], list[T], list[T]]:
    """Rows to train on, to calibrate on and to test on; no prompt is in two of them.

    The first part is that of ``split_by_prompt``; the held-out rows are halved by prompt once more.
    Raises as ``split_by_prompt``, for either cut.
    """
    train, held_out = split_by_prompt(rows, held_out_share, seed)
    calibrate, test = split_by_prompt(held_out, 0.5, seed + 1)
    return train, calibrate, test


def freeze(
    rows: Sequence[Example],
    kind: Kind,
    directory: Path | str,
) -> Frozen:
    """Write the rows, in this order, to ``directory/KIND-HASH.parquet``.

    The name appears only when the file is complete. Raises ``ResourceError`` on a full disk.
    """
    lines = [_to_row(row) for row in rows]
    rows_hash = _hash(lines)
    path = Path(directory).absolute() / f"{kind}-{rows_hash[:16]}.parquet"
    metadata = {"heedful.kind": kind, "heedful.rows_hash": rows_hash}
    table = pa.Table.from_pylist(lines, schema=SCHEMAS[kind].with_metadata(metadata))
    _write(table, path)
    return Frozen(path=str(path), rows_hash=rows_hash)


def hash_rows(rows: Iterable[Example]) -> str:
    """The hash that ``freeze`` would give these rows."""
    return _hash(map(_to_row, rows))


def read_snapshot(path: Path | str) -> list[Example]:
    """The rows of a snapshot; the hash is checked first.

    Raises ``MissingError`` without the file, ``DataError`` when it was changed or is no snapshot.
    """
    table, kind, rows_hash = _read(Path(path))
    lines: list[dict[str, Any]] = table.to_pylist()
    if _hash([_canonical(line) for line in lines]) != rows_hash:
        raise DataError(f"{path} was changed after it was written; make the snapshot again")
    return [_from_row(kind, line) for line in lines]


def _place(prompt_id: str, seed: int) -> int:
    """Where a prompt stands among the 2**64 places; those below a limit are held out."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{prompt_id}".encode()).digest()[:8])


def _to_row(row: Example) -> dict[str, JSON]:
    prompt = prompt_of(row)
    line: dict[str, JSON] = {
        "prompt_id": prompt.id,
        "prompt": messages_json(prompt.messages),
        "tools": list(prompt.tools),
    }
    if isinstance(row, Prompt):
        return line
    line |= {"weight": float(row.weight), "annotation_ids": list(row.annotation_ids)}
    if isinstance(row, Demonstration):
        return line | {"response": messages_json(row.response)}
    if isinstance(row, Feedback):
        return line | {
            "responses": [messages_json(one) for one in row.responses],
            "scale": row.scale,
            "values": [float(value) for value in row.values],
            "criterion": row.criterion,
            "margin": float(row.margin),
            "probability": float(row.probability),
            "form": row.form,
            "source": row.source,
            "annotator": row.annotator,
        }
    sides = {"chosen": messages_json(row.chosen), "rejected": messages_json(row.rejected)}
    return line | sides | {"margin": float(row.margin), "probability": float(row.probability)}


def _canonical(line: dict[str, Any]) -> dict[str, JSON]:
    """A row as ``_to_row`` made it: Parquet returns absent fields as null."""
    keys = ("prompt", "chosen", "rejected", "response")
    whole = {key: messages_json(messages_from_json(line[key])) for key in keys if key in line}
    if "responses" in line:
        several = [messages_json(messages_from_json(one)) for one in line["responses"]]
        return line | whole | {"responses": several}
    return line | whole


def _from_row(kind: str, line: dict[str, Any]) -> Example:
    prompt = Prompt(messages=messages_from_json(line["prompt"]), tools=tuple(line["tools"]))
    if kind == "prompt":
        return prompt
    weight, ids = line["weight"], tuple(line["annotation_ids"])
    if kind == "demonstration":
        response = messages_from_json(line["response"])
        return Demonstration(prompt=prompt, response=response, weight=weight, annotation_ids=ids)
    if kind == "feedback":
        return Feedback(
            prompt=prompt,
            responses=tuple(messages_from_json(one) for one in line["responses"]),
            scale=line["scale"],
            values=tuple(line["values"]),
            criterion=line["criterion"],
            margin=line["margin"],
            probability=line.get("probability", 1.0),  # as below
            weight=weight,
            form=line["form"],
            source=line["source"],
            annotator=line.get("annotator", ""),  # files of earlier versions have no such column
            annotation_ids=ids,
        )
    return Preference(
        prompt=prompt,
        chosen=messages_from_json(line["chosen"]),
        rejected=messages_from_json(line["rejected"]),
        margin=line["margin"],
        probability=line.get("probability", 1.0),
        weight=weight,
        annotation_ids=ids,
    )


def _hash(lines: Iterable[dict[str, JSON]]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        text = json.dumps(line, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()


def _write(table: Any, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            pq.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # the directory itself may be what is in the way
            temporary.unlink(missing_ok=True)
        raise ResourceError(
            f"could not write {path}: {error.strerror}; free space or choose another directory"
        ) from error


def _read(path: Path) -> tuple[Any, str, str]:
    if not path.is_file():
        raise MissingError(f"snapshot {path} does not exist; make it again")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        seen = str(error).splitlines()[0]
        raise DataError(f"{path} is not a Parquet file ({seen}); make the snapshot again") from (
            error
        )
    metadata = table.schema.metadata or {}
    kind = metadata.get(b"heedful.kind", b"").decode()
    if kind not in SCHEMAS:
        raise DataError(f"{path} is no snapshot: its metadata has kind {kind!r}; make one")
    return table, kind, metadata[b"heedful.rows_hash"].decode()
