"""The workloads of ``heedful bench``: the same job for both sides, as one JSON file.

A side is a program that reads a job and prints, as its last line, a JSON object with ``seconds``
(one number per measured step), ``peak_gb`` and ``version``.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heedful.data.formats import read_files
from heedful.errors import DataError
from heedful.prompts import demo_prompts
from heedful.registry import Registry
from heedful.types import Message, Preference


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One row of the table: what a step is, and how much of it.

    ``kind`` says what a job carries: ``prompts`` or ``pairs``; ``count`` of them make a step.
    """

    name: str
    step: str
    kind: str
    count: int
    samples_per_prompt: int = 1
    max_new_tokens: int = 0
    max_tokens: int = 256


WORKLOADS: Registry[Workload] = Registry(
    "workload",
    {
        work.name: work
        for work in (
            Workload(
                name="ppo",
                step="16 prompts, 48 new tokens, one epoch; reference, reward and critic",
                kind="prompts",
                count=16,
                max_new_tokens=48,
            ),
            Workload(
                name="grpo",
                step="4 prompts with 4 answers each, 48 new tokens, KL to the reference, a rule",
                kind="prompts",
                count=4,
                samples_per_prompt=4,
                max_new_tokens=48,
            ),
            Workload(name="dpo", step="8 pairs of at most 256 tokens", kind="pairs", count=8),
            Workload(name="reward", step="8 pairs of at most 256 tokens", kind="pairs", count=8),
            Workload(name="sft", step="8 dialogues of at most 256 tokens", kind="pairs", count=8),
            Workload(
                name="generate",
                step="128 prompts, at most 96 new tokens, until the end of turn",
                kind="prompts",
                count=128,
                max_new_tokens=96,
            ),
        )
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one process does. ``model`` is a directory that transformers can load."""

    workload: str
    model: str
    dtype: str
    adapter: str
    warmup: int
    steps: int
    seed: int
    count: int
    samples_per_prompt: int
    max_new_tokens: int
    max_tokens: int
    temperature: float = 1.0
    learning_rate: float = 1e-5
    rank: int = 16
    alpha: float = 32.0
    kl_coef: float = 0.05
    prompts: list[str] = field(default_factory=list)
    pairs: list[dict[str, list[dict[str, str]]]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Job":
        """The job in a JSON file."""
        return cls(**json.loads(path.read_text()))


def make_job(
    work: Workload,
    *,
    model: str,
    tokenizer: Any,
    dtype: str,
    adapter: str,
    seed: int,
    steps: int,
    warmup: int,
    data: Path | None,
) -> Job:
    """A job with enough fresh examples for every step; ``data`` is a file of HH transcripts."""
    wanted = work.count * (steps + warmup)
    prompts: list[str] = []
    pairs: list[dict[str, list[dict[str, str]]]] = []
    if work.kind == "prompts":
        source = list(first_turns(data)) if data else [row.text for row in demo_prompts()]
        prompts = repeated(source, wanted, seed)
    else:
        source_pairs = pairs_of(data) if data else made_up_pairs()
        short = [pair for pair in source_pairs if fits(tokenizer, pair, work.max_tokens)]
        pairs = repeated(short, wanted, seed)
    return Job(
        workload=work.name,
        model=model,
        dtype=dtype,
        adapter=adapter,
        warmup=warmup,
        steps=steps,
        seed=seed,
        count=work.count,
        samples_per_prompt=work.samples_per_prompt,
        max_new_tokens=work.max_new_tokens,
        max_tokens=work.max_tokens,
        prompts=prompts,
        pairs=pairs,
    )


def repeated(source: Sequence[Any], wanted: int, seed: int) -> list[Any]:
    """``wanted`` of ``source`` from a place that depends on the seed, round and round."""
    if not source:
        raise DataError("the file holds nothing that fits into a step; give another --data")
    start = seed * wanted % len(source)
    return list(itertools.islice(itertools.cycle(source), start, start + wanted))


def preferences(data: Path) -> Iterator[Preference]:
    """The preferences of a file of HH transcripts."""
    for one in read_files("hh", [data]):
        record = getattr(one, "record", None)
        if isinstance(record, Preference):
            yield record


def first_turns(data: Path) -> Iterator[str]:
    """First human turns of 20 to 200 characters."""
    for record in preferences(data):
        text = record.prompt.messages[0].content
        if 20 <= len(text) <= 200:
            yield text


def pairs_of(data: Path) -> list[dict[str, list[dict[str, str]]]]:
    """Whole dialogues, both sides."""
    return [
        {
            "prompt": plain(record.prompt.messages),
            "chosen": plain(record.chosen),
            "rejected": plain(record.rejected),
        }
        for record in preferences(data)
    ]


def made_up_pairs() -> list[dict[str, list[dict[str, str]]]]:
    """Pairs for timing without a file: answers are made of other prompts and mean nothing."""
    texts = [row.text for row in demo_prompts()]
    return [
        {
            "prompt": [{"role": "user", "content": text}],
            "chosen": [{"role": "assistant", "content": " ".join(texts[i + 1 : i + 3 + i % 7])}],
            "rejected": [{"role": "assistant", "content": " ".join(texts[i + 2 : i + 3 + i % 5])}],
        }
        for i, text in enumerate(texts[:-10])
    ]


def plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages as the dicts that chat templates take."""
    return [{"role": message.role, "content": message.content} for message in messages]


def fits(tokenizer: Any, pair: dict[str, list[dict[str, str]]], max_tokens: int) -> bool:
    """Whether both whole dialogues keep within the limit."""
    return all(
        len(
            tokenizer.apply_chat_template(pair["prompt"] + pair[side], return_dict=True)[
                "input_ids"
            ]
        )
        <= max_tokens
        for side in ("chosen", "rejected")
    )
