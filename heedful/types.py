"""The nouns: frozen records that cross module borders. Imports nothing of heedful.

Each docstring says who makes the record and who uses it. Ids are content hashes, so making the
same record twice gives the same id and writing it twice adds nothing.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, NamedTuple, get_args

Role = Literal["system", "user", "assistant", "tool"]
Source = Literal["human", "model", "rule", "simulated"]
SOURCES: tuple[Source, ...] = get_args(Source)
Scale = Literal["order", "rating", "thumb", "flag"]
AnnotationKind = Literal["answer", "repeat", "gold", "adjudication"]
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
JSON = Any  # a JSON value: the payload of a form, a resolved config
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def content_id(prefix: str, content: JSON) -> str:
    """``prefix_`` and 16 hex digits of the SHA-256 of the canonical JSON of ``content``."""
    return f"{prefix}_{hashlib.sha256(_CANONICAL.encode(content).encode()).hexdigest()[:16]}"


class Named:
    """A record whose ``id`` is ``PREFIX_`` and a hash of its ``content``, taken once."""

    __slots__ = ("_id",)
    PREFIX: ClassVar[str]
    _id: str

    @property
    def id(self) -> str:
        """Content hash, ``PREFIX_…``: equal for equal content, in every process."""
        try:
            return self._id
        except AttributeError:
            object.__setattr__(self, "_id", content_id(self.PREFIX, self.content()))
            return self._id

    def content(self) -> JSON:
        """What two records must share to be the same."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation. Made by import and serving, used by everything.

    ``tool_calls`` are JSON texts; a tool's result says by ``tool_call_id`` which call it answers.
    ``name`` is the speaker's or the tool's. ``Message(role="user", content="Hello")``
    """

    role: Role
    content: str
    tool_calls: tuple[str, ...] = ()
    tool_call_id: str = ""
    name: str = ""


def messages_json(messages: tuple[Message, ...]) -> list[dict[str, JSON]]:
    """The messages as plain JSON, without empty fields; the form that is hashed and stored."""
    rows = []
    for message in messages:
        row: dict[str, JSON] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            row["tool_calls"] = list(message.tool_calls)
        if message.tool_call_id:
            row["tool_call_id"] = message.tool_call_id
        if message.name:
            row["name"] = message.name
        rows.append(row)
    return rows


def messages_from_json(rows: list[dict[str, JSON]]) -> tuple[Message, ...]:
    """Inverse of ``messages_json``."""
    return tuple(
        Message(
            role=row["role"],
            content=row["content"],
            tool_calls=tuple(row.get("tool_calls") or ()),
            tool_call_id=row.get("tool_call_id") or "",
            name=row.get("name") or "",
        )
        for row in rows
    )


def last_text(messages: Sequence[Message]) -> str:
    """What was said last; empty when nobody said anything."""
    return messages[-1].content if messages else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt(Named):
    """What a model answers: a conversation that ends with a user's turn.

    Made by import, serving and jobs; used by engines and tasks.
    ``Prompt(messages=(Message(role="user", content="Hello"),))``
    """

    PREFIX = "prm"
    messages: tuple[Message, ...]
    tools: tuple[str, ...] = ()

    def content(self) -> JSON:
        """The conversation and its tools."""
        return {"messages": messages_json(self.messages), "tools": list(self.tools)}

    @classmethod
    def of(cls, text: str) -> "Prompt":
        """The short case: one user message."""
        return cls(messages=(Message(role="user", content=text),))


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to sample. Made by jobs and serving, used by engines.

    Temperature is above 0. ``top_k`` (0: all), ``top_p`` in (0, 1] and ``min_p`` in [0, 1] leave
    unlikely tokens out. An answer ends before the first of the ``stop`` strings. It depends on
    ``seed``, not on its batch-mates.
    """

    max_new_tokens: int
    temperature: float = 1.0
    seed: int = 0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()

    @property
    def truncates(self) -> bool:
        """Can a token be left out?"""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What an engine returns for one request.

    ``logprobs[t]`` is the log-probability of ``token_ids[t]`` at the sampling temperature and
    before truncation, in nats. Both include the end-of-turn token, or the tokens of a stop string,
    when ``finish_reason`` is ``stop``; ``text`` does not. ``cancelled`` is what a listener ended.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: Literal["stop", "length", "cancelled"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion(Named):
    """An answer to a prompt. Made by jobs, serving and import; shown in tasks.

    ``model`` is the id of the ModelVersion that wrote it (``mdl_…``), or ``import:NAME`` for text
    of unknown origin. ``draw`` tells apart several samples of one prompt.
    """

    PREFIX = "cmp"
    prompt: Prompt
    messages: tuple[Message, ...]
    model: str
    draw: int = 0
    finish_reason: str = "stop"
    params: Mapping[str, JSON] = field(default_factory=dict)

    def content(self) -> JSON:
        """Text, author, and how and how often it was drawn; not why it ended."""
        return {
            "prompt": self.prompt.id,
            "messages": messages_json(self.messages),
            "model": self.model,
            "draw": self.draw,
            "params": dict(self.params),
        }

    @property
    def text(self) -> str:
        """The answer's last message."""
        return last_text(self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Named):
    """A question for an annotator about completions of one prompt. Made by jobs and import.

    ``reason`` says why these completions were chosen (``random``, ``import``, ...).
    """

    PREFIX = "tsk"
    form: str
    prompt: Prompt
    completion_ids: tuple[str, ...]
    guideline: str = ""
    slots: int = 1
    priority: float = 0.0
    reason: str = "random"

    def content(self) -> JSON:
        """What is asked about what; not of how many, nor when or why."""
        return {
            "form": self.form,
            "completions": list(self.completion_ids),
            "guideline": self.guideline,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation(Named):
    """One raw answer to a task, never rewritten: an edit is a new revision.

    Made by pages, import and annotators; forms turn it into preferences. ``payload`` is as the
    form wrote it; ``shown_order`` lists completion ids from left to right as the annotator saw
    them. A simulated annotator has ``source="simulated"`` and a name that starts with
    ``simulated:``. Of the kinds only an ``answer`` is a vote: a ``repeat`` is the same question
    once more, a ``gold`` answers one whose answer is known, an ``adjudication`` outranks the votes.
    """

    PREFIX = "ann"
    task_id: str
    annotator: str
    source: Source
    payload: Mapping[str, JSON]
    shown_order: tuple[str, ...]
    revision: int = 0
    seconds: float | None = None
    kind: AnnotationKind = "answer"

    def content(self) -> JSON:
        """Who said what of what; not how it was shown, nor how long it took."""
        said: dict[str, JSON] = {
            "task": self.task_id,
            "annotator": self.annotator,
            "payload": dict(self.payload),
            "revision": self.revision,
        }
        return said | ({"kind": self.kind} if self.kind != "answer" else {})


def standing_adjudication(
    said: Iterable[Annotation], times: Mapping[str, datetime]
) -> Annotation | None:
    """Of the answers to a task the adjudication that outranks them; None without any.

    It is the newest of the reviewers' newest ones, by time and then by id.
    """
    rulings = sorted(
        (one for one in said if one.kind == "adjudication"), key=lambda one: one.revision
    )
    newest = {one.annotator: one for one in rulings}.values()
    return max(newest, key=lambda one: (times.get(one.id, _LONG_AGO), one.id), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An item of a dataset with all that is known of it: a task, or (``task`` None) a bare prompt.

    Made by the store and by import, written by export. ``annotations`` are every revision, by
    annotator and revision; ``times`` says when each was stored, by annotation id.
    """

    prompt: Prompt
    task: Task | None = None
    completions: Mapping[str, Completion] = field(default_factory=dict)
    annotations: tuple[Annotation, ...] = ()
    times: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The id of the task, or of the bare prompt."""
        return self.task.id if self.task else self.prompt.id

    @property
    def newest(self) -> tuple[Annotation, ...]:
        """What stands: an adjudication, otherwise the newest answer of each annotator."""
        ruling = standing_adjudication(self.annotations, self.times)
        if ruling is not None:
            return (ruling,)
        votes = [one for one in self.annotations if one.kind == "answer"]
        return tuple({one.annotator: one for one in votes}.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """A derived comparison: ``chosen`` is better than ``rejected`` for ``prompt``.

    Made by forms, used by data. ``margin`` is the stated strength (0 when none was asked),
    ``probability`` how likely the claim holds, ``weight`` multiplies the loss, ``annotation_ids``
    say who said so.
    """

    prompt: Prompt
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    margin: float = 0.0
    probability: float = 1.0
    weight: float = 1.0
    annotation_ids: tuple[str, ...] = ()

    def swap(self) -> "Preference":
        """The opposite claim; every pairwise loss flips its sign under it."""
        return Preference(
            prompt=self.prompt,
            chosen=self.rejected,
            rejected=self.chosen,
            margin=self.margin,
            probability=self.probability,
            weight=self.weight,
            annotation_ids=self.annotation_ids,
        )

    def as_feedback(self) -> "Feedback":
        """The same claim as an order of two; who gave it is no longer known."""
        return Feedback(
            prompt=self.prompt,
            responses=(self.chosen, self.rejected),
            scale="order",
            values=(0.0, 1.0),
            margin=self.margin,
            probability=self.probability,
            weight=self.weight,
            form="pairwise",
            annotation_ids=self.annotation_ids,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What one annotation says of answers to a prompt, before anything is turned into pairs.

    Made by forms, used by ``fit reward``. Each response has one of the ``values``; ``scale`` says
    what they are: places in an ``order`` (0 is best, equal places tie), a ``rating`` on
    ``criterion`` (more is better), a ``thumb`` (1 good, 0 bad), or how severe a ``flag`` is, whose
    name is the ``criterion`` (0: looked for and not found). ``margin`` is the stated strength of an
    order of two, ``probability`` how likely it holds. ``form`` and ``source`` say who was asked
    what and ``annotator`` is the id of who answered; empty: not known.
    """

    prompt: Prompt
    responses: tuple[tuple[Message, ...], ...]
    scale: Scale
    values: tuple[float, ...]
    criterion: str = ""
    margin: float = 0.0
    probability: float = 1.0
    weight: float = 1.0
    form: str = ""
    source: str = ""
    annotator: str = ""
    annotation_ids: tuple[str, ...] = ()


class Part(NamedTuple):
    """A named output of a reward model: a ``score``, or the log-odds of a ``flag``.

    Made by ``data.reading``, used by ``model.parts``. ``Part("polite", "score")``
    """

    name: str
    kind: Literal["score", "flag"]


OVERALL = "overall"  # the part that comparisons, thumbs and ratings on no criterion teach


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """An answer worth imitating. Made by forms and import, used by SFT."""

    prompt: Prompt
    response: tuple[Message, ...]
    weight: float = 1.0
    annotation_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Named):
    """A frozen set of training rows. Made by jobs, used by train; one Parquet file.

    ``kind`` is that of ``Feedback``, ``Preference``, ``Demonstration`` or ``Prompt``; ``rows_hash``
    covers the content and the order; ``drops`` counts the rows left out, by rule.
    """

    PREFIX = "snp"
    kind: Literal["feedback", "preference", "demonstration", "prompt"]
    dataset: str
    num_rows: int
    rows_hash: str
    path: str
    parents: tuple[str, ...] = ()
    drops: Mapping[str, int] = field(default_factory=dict)

    def content(self) -> JSON:
        """The rows and where they come from; not the file."""
        return {"kind": self.kind, "dataset": self.dataset, "rows": self.rows_hash}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion(Named):
    """A set of weights with its lineage. Made by jobs, used by routing, reports and trace.

    ``role`` is ``base``, ``policy`` or ``reward``. ``parents`` are model ids (the base, the
    reward it was optimised against), ``snapshot`` the data it learned from (or None for a base).
    """

    PREFIX = "mdl"
    role: Literal["base", "policy", "reward"]
    name: str
    weights_hash: str
    path: str
    parents: tuple[str, ...] = ()
    snapshot: str | None = None
    run: str | None = None

    def content(self) -> JSON:
        """The weights and what they were made from; not name and place."""
        return {
            "role": self.role,
            "weights": self.weights_hash,
            "parents": list(self.parents),
            "snapshot": self.snapshot,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Named):
    """One execution of ``fit`` or ``evaluate``: its directory, config and outcome."""

    PREFIX = "run"
    kind: str
    path: str
    config: Mapping[str, JSON]
    snapshot: str | None = None
    status: Literal["running", "finished", "failed"] = "running"

    def content(self) -> JSON:
        """The kind and the resolved config."""
        return {"kind": self.kind, "config": dict(self.config)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence(Named):
    """A measured claim about a model. Made by evaluate and guards; gates and reports use it.

    ``value`` with its 95 % interval ``low`` to ``high`` over ``num`` observations.
    """

    PREFIX = "evd"
    model: str
    test: str
    value: float
    low: float
    high: float
    num: int
    detail: Mapping[str, JSON] = field(default_factory=dict)

    def content(self) -> JSON:
        """All of it; whole numbers count as floats, as a database returns them."""
        numbers = {name: float(getattr(self, name)) for name in ("value", "low", "high")}
        return asdict(self) | numbers | {"detail": dict(self.detail)}


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasMove:
    """An alias that was pointed at a model. Made by promote and rollback, used by routing.

    ``from_model`` is None for a new alias; ``evidence`` is the id of what justified the move.
    """

    alias: str
    from_model: str | None
    to_model: str
    who: str
    why: str
    evidence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something a guard noticed. Made by guards and monitor, shown on pages and reports."""

    rule: str
    level: Literal["info", "warning", "error"]
    value: float
    cause: str
    remedy: str


UserRole = Literal["owner", "reviewer", "annotator", "reader"]


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person of the studio. Made by owners, named by annotations through ``id``.

    ``attributes`` are what a project asks of annotators, such as language or expertise.
    """

    id: str
    name: str
    role: UserRole
    attributes: Mapping[str, str] = field(default_factory=dict)
    is_active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """How people are asked about the tasks of a dataset. Made in the studio or by ``ask``.

    Every new task gets ``overlap`` slots. ``criteria`` are what a rating rates, ``attributes`` what
    annotators are asked about themselves, ``masked`` the phrases that are hidden in answers. Of the
    items that a person gets, ``gold_share`` have a known answer and ``repeat_share`` are asked once
    more with the sides reversed. ``strategy`` says which task is begun next, but for
    ``random_share`` of them. Who has not yet answered ``qualify_with`` known answers gets nothing
    else, and who hit less than ``qualify_at`` of them gets nothing more.
    """

    dataset: str
    title: str
    form: str
    overlap: int = 1
    lease_seconds: int = 600
    is_paused: bool = False
    warning: str = ""
    criteria: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()
    gold_share: float = 0.05
    repeat_share: float = 0.04
    strategy: str = "random"
    random_share: float = 0.2
    qualify_with: int = 0
    qualify_at: float = 0.8
