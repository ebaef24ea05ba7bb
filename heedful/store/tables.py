"""The tables. Ids are content hashes (``types.py``); ``created_at`` is never part of an id.

SQLite and PostgreSQL get the same definitions; ``migrations/`` creates them.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcTime(TypeDecorator[datetime]):
    """An aware time in UTC. SQLite forgets the zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002 - the signature is SQLAlchemy's
    ) -> datetime | None:
        """Refuse naive times: their zone would be a guess."""
        assert value is None or value.tzinfo is not None
        return value.astimezone(UTC) if value else None

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002 - the signature is SQLAlchemy's
    ) -> datetime | None:
        """Attach UTC where the database returned a naive time."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def _created_at() -> Column[datetime]:
    return Column("created_at", UtcTime, nullable=False)


def _partial(name: str, *columns: str, where: str) -> Index:
    """An index over some rows only; a query has to state ``where`` literally to use it."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


prompts = Table(
    "prompts",
    metadata,
    Column("id", String, primary_key=True),
    Column("messages", JSON, nullable=False),
    Column("tools", JSON, nullable=False),
    _created_at(),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("dataset", String, ForeignKey("datasets.name"), nullable=False),
    Column("num_rows", Integer, nullable=False),
    Column("rows_hash", String, nullable=False),
    Column("path", String, nullable=False),
    Column("drops", JSON, nullable=False),
    _created_at(),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("path", String, nullable=False),
    Column("config", JSON, nullable=False),
    Column("snapshot_id", String, ForeignKey("snapshots.id")),
    Column("status", String, nullable=False),
    Column("finished_at", UtcTime),
    _created_at(),
    CheckConstraint("status in ('running', 'finished', 'failed')", name="status"),
)

model_versions = Table(
    "model_versions",
    metadata,
    Column("id", String, primary_key=True),
    Column("role", String, nullable=False),
    Column("weights_hash", String, nullable=False),
    Column("path", String, nullable=False),
    Column("snapshot_id", String, ForeignKey("snapshots.id"), index=True),
    Column("run_id", String, ForeignKey("runs.id"), index=True),
    _created_at(),
    CheckConstraint("role in ('base', 'policy', 'reward')", name="role"),
)

# The same weights may be registered under a second name; the newest row of a name wins.
model_names = Table(
    "model_names",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("name", String, nullable=False),
    Column("model_id", String, ForeignKey("model_versions.id"), nullable=False, index=True),
    _created_at(),
    UniqueConstraint("name", "model_id"),
)

model_parents = Table(
    "model_parents",
    metadata,
    Column("model_id", String, ForeignKey("model_versions.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("parent_id", String, ForeignKey("model_versions.id"), nullable=False, index=True),
)

# A completion was written by a registered model, or came from an ``import:NAME``.
completions = Table(
    "completions",
    metadata,
    Column("id", String, primary_key=True),
    Column("prompt_id", String, ForeignKey("prompts.id"), nullable=False, index=True),
    Column("messages", JSON, nullable=False),
    Column("model_id", String, ForeignKey("model_versions.id"), index=True),
    Column("origin", String, index=True),
    Column("draw", Integer, nullable=False),
    Column("finish_reason", String, nullable=False),
    Column("params", JSON, nullable=False),
    _created_at(),
    CheckConstraint("(model_id is null) <> (origin is null)", name="one_author"),
    UniqueConstraint("id", "prompt_id"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", String, primary_key=True),
    Column("form", String, nullable=False),
    Column("prompt_id", String, ForeignKey("prompts.id"), nullable=False, index=True),
    Column("guideline", String, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("priority", Float, nullable=False),
    Column("reason", String, nullable=False),
    _created_at(),
    UniqueConstraint("id", "prompt_id"),
)

# The pair of keys proves that every completion of a task answers the task's prompt.
task_completions = Table(
    "task_completions",
    metadata,
    Column("task_id", String, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("completion_id", String, nullable=False, index=True),
    Column("prompt_id", String, nullable=False),
    ForeignKeyConstraint(["task_id", "prompt_id"], ["tasks.id", "tasks.prompt_id"]),
    ForeignKeyConstraint(
        ["completion_id", "prompt_id"], ["completions.id", "completions.prompt_id"]
    ),
    UniqueConstraint("task_id", "completion_id"),
)

# Append only: a trigger refuses UPDATE; an edit is a row with a higher revision. ``kind`` says what
# an answer is for: only an ``answer`` is a vote.
annotations = Table(
    "annotations",
    metadata,
    Column("id", String, primary_key=True),
    Column("task_id", String, ForeignKey("tasks.id"), nullable=False),
    Column("annotator", String, nullable=False),
    Column("source", String, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("shown_order", JSON, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("seconds", Float),
    _created_at(),
    Column("kind", String, nullable=False, server_default="answer"),
    CheckConstraint("kind in ('answer', 'repeat', 'gold', 'adjudication')", name="kind"),
    CheckConstraint("source in ('human', 'model', 'rule', 'simulated')", name="source"),
    UniqueConstraint("task_id", "annotator", "revision"),
    Index("ix_annotations_annotator", "annotator", "task_id"),
)

datasets = Table("datasets", metadata, Column("name", String, primary_key=True), _created_at())

# An item is a task (with its answers) or a bare prompt; ``item_id`` repeats that id as the key.
dataset_items = Table(
    "dataset_items",
    metadata,
    Column("dataset", String, ForeignKey("datasets.name"), primary_key=True),
    Column("item_id", String, primary_key=True),
    Column("task_id", String, ForeignKey("tasks.id"), index=True),
    Column("prompt_id", String, ForeignKey("prompts.id"), index=True),
    _created_at(),
    CheckConstraint("(task_id is null) <> (prompt_id is null)", name="one_item"),
    CheckConstraint("item_id = coalesce(task_id, prompt_id)", name="item_id"),
)

snapshot_parents = Table(
    "snapshot_parents",
    metadata,
    Column("snapshot_id", String, ForeignKey("snapshots.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("parent_id", String, ForeignKey("snapshots.id"), nullable=False, index=True),
)

snapshot_annotations = Table(
    "snapshot_annotations",
    metadata,
    Column("snapshot_id", String, ForeignKey("snapshots.id"), primary_key=True),
    Column("annotation_id", String, ForeignKey("annotations.id"), primary_key=True),
    Column("split", String, nullable=False),
    Index("ix_snapshot_annotations_annotation_id", "annotation_id"),
)

snapshot_prompts = Table(
    "snapshot_prompts",
    metadata,
    Column("snapshot_id", String, ForeignKey("snapshots.id"), primary_key=True),
    Column("prompt_id", String, ForeignKey("prompts.id"), primary_key=True),
    Column("split", String, nullable=False),
    Index("ix_snapshot_prompts_prompt_id", "prompt_id"),
)

evidence = Table(
    "evidence",
    metadata,
    Column("id", String, primary_key=True),
    Column("model_id", String, ForeignKey("model_versions.id"), nullable=False, index=True),
    Column("test", String, nullable=False),
    Column("value", Float, nullable=False),
    Column("low", Float, nullable=False),
    Column("high", Float, nullable=False),
    Column("num", Integer, nullable=False),
    Column("detail", JSON, nullable=False),
    _created_at(),
)

# Append only as well: an alias points where its newest move says.
alias_moves = Table(
    "alias_moves",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("alias", String, nullable=False, index=True),
    Column("from_id", String, ForeignKey("model_versions.id")),
    Column("to_id", String, ForeignKey("model_versions.id"), nullable=False, index=True),
    Column("who", String, nullable=False),
    Column("why", String, nullable=False),
    Column("evidence_id", String, ForeignKey("evidence.id")),
    _created_at(),
)

# A project is a dataset whose tasks people answer, and how they are asked.
projects = Table(
    "projects",
    metadata,
    Column("dataset", String, ForeignKey("datasets.name"), primary_key=True),
    Column("title", String, nullable=False),
    Column("form", String, nullable=False),
    Column("overlap", Integer, nullable=False),
    Column("lease_seconds", Integer, nullable=False),
    Column("is_paused", Boolean, nullable=False),
    Column("settings", JSON, nullable=False),
    _created_at(),
)

# Append only: an edit is a version more.
guidelines = Table(
    "guidelines",
    metadata,
    Column("project", String, ForeignKey("projects.dataset"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("text", String, nullable=False),
    Column("author", String, nullable=False),
    _created_at(),
)

users = Table(
    "users",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("role", String, nullable=False),
    Column("password_hash", String),
    Column("attributes", JSON, nullable=False),
    Column("is_active", Boolean, nullable=False),
    _created_at(),
    CheckConstraint("role in ('owner', 'reviewer', 'annotator', 'reader')", name="role"),
)

# Whoever shows the secret is the user; only its hash is kept.
credentials = Table(
    "credentials",
    metadata,
    Column("secret_hash", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("user_id", String, ForeignKey("users.id"), nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("source", String, nullable=False, server_default="human"),
    Column("expires_at", UtcTime),
    Column("ended_at", UtcTime),
    _created_at(),
    CheckConstraint("kind in ('link', 'session', 'key')", name="kind"),
)

# The queue of a project. ``num_turns`` counts when slots were opened; the other counts are those of
# no person. Whoever changes the order locks this row.
queues = Table(
    "queues",
    metadata,
    Column("project", String, ForeignKey("projects.dataset"), primary_key=True),
    Column("num_turns", Integer, nullable=False),
    Column("num_open", Integer, nullable=False),
    Column("num_leased", Integer, nullable=False),
    Column("num_done", Integer, nullable=False),
)

# One annotator in one project. The slot counts are what this person's actions added (below zero
# when they took), so that only the sum over a project has a meaning and nobody waits for another.
# Started slots before the cursor are none of theirs, unless opened after ``cursor_turns``. Whether
# they are in, where entry questions are asked: null while undecided; ``decided_by`` is the owner
# who decided by hand.
participants = Table(
    "participants",
    metadata,
    Column("project", String, ForeignKey("projects.dataset"), primary_key=True),
    Column("annotator", String, ForeignKey("users.id"), primary_key=True),
    Column("num_open", Integer, nullable=False),
    Column("num_leased", Integer, nullable=False),
    Column("num_done", Integer, nullable=False),
    Column("num_given", Integer, nullable=False),
    Column("num_answered", Integer, nullable=False),
    Column("cursor_urgency", Float),
    Column("cursor_turn", Integer),
    Column("cursor_turns", Integer, nullable=False),
    Column("is_qualified", Boolean),
    Column("decided_by", String),
    Column("decided_at", UtcTime),
)

# A task in the queue of a project. ``urgency`` is minus its priority: the least comes first. Those
# of one urgency that nobody was given are numbered by ``place`` from 0 without gaps, so that one
# can be drawn uniformly; ``probability`` and ``drawn_by`` say how it was drawn.
queue_items = Table(
    "queue_items",
    metadata,
    Column("project", String, ForeignKey("projects.dataset"), primary_key=True),
    Column("task_id", String, ForeignKey("tasks.id"), primary_key=True),
    Column("urgency", Float, nullable=False),
    Column("place", Integer),
    Column("score", Float),
    Column("scored_by", String),
    Column("probability", Float),
    Column("drawn_by", String),
    Column("is_disputed", Boolean, nullable=False),
    _partial("ix_queue_items_fresh", "project", "urgency", "place", where="place is not null"),
    _partial(
        "ix_queue_items_scored",
        "project",
        "scored_by",
        "urgency",
        "score",
        "task_id",
        where="place is not null and score is not null",
    ),
    _partial("ix_queue_items_disputed", "project", "task_id", where="is_disputed"),
    Index("ix_queue_items_task_id", "task_id"),
)

# A place for one answer. Free when open, or when its lease has run out. ``turn`` is when it was
# opened after its task was first given to somebody; none before.
slots = Table(
    "slots",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project", String, ForeignKey("projects.dataset"), nullable=False),
    Column("task_id", String, ForeignKey("tasks.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("urgency", Float, nullable=False),
    Column("state", String, nullable=False),
    Column("turn", Integer),
    Column("holder", String, ForeignKey("users.id")),
    Column("until", UtcTime),
    CheckConstraint("state in ('open', 'leased', 'done')", name="state"),
    CheckConstraint("(state = 'open') = (holder is null)", name="holder"),
    CheckConstraint("(state = 'leased') = (until is not null)", name="until"),
    UniqueConstraint("project", "task_id", "number"),
    _partial(
        "ix_slots_started",
        "project",
        "urgency",
        "turn",
        where="state = 'open' and turn is not null",
    ),
    _partial(
        "ix_slots_reopened",
        "project",
        "turn",
        "urgency",
        where="state = 'open' and turn is not null",
    ),
    _partial("ix_slots_holder", "holder", "project", where="state = 'leased'"),
    _partial("ix_slots_until", "project", "until", where="state = 'leased'"),
)

# What one annotator saw of a task: the order is drawn once and stays. ``round`` 1 is the task once
# more, 2 its adjudication; ``given`` and ``answered`` number what this person was given and what
# they answered in the project.
assignments = Table(
    "assignments",
    metadata,
    Column("project", String, ForeignKey("projects.dataset"), primary_key=True),
    Column("task_id", String, ForeignKey("tasks.id"), primary_key=True),
    Column("annotator", String, ForeignKey("users.id"), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("kind", String, nullable=False),
    Column("shown_order", JSON, nullable=False),
    Column("guideline", Integer),
    Column("state", String, nullable=False),
    Column("draft", JSON),
    Column("skip_reason", String),
    Column("given", Integer, nullable=False),
    Column("answered", Integer),
    Column("changed_at", UtcTime, nullable=False),
    _created_at(),
    CheckConstraint("state in ('open', 'submitted', 'skipped')", name="state"),
    CheckConstraint("kind in ('answer', 'repeat', 'gold', 'adjudication')", name="kind"),
    CheckConstraint(
        "round = case kind when 'repeat' then 1 when 'adjudication' then 2 else 0 end",
        name="round",
    ),
    Index("ix_assignments_annotator", "annotator", "project", "state", "changed_at", "given"),
    Index("ix_assignments_answered", "annotator", "project", "answered"),
)

# Tasks whose answer is known: asked to measure people, never sent to them.
golds = Table(
    "golds",
    metadata,
    Column("project", String, ForeignKey("projects.dataset"), primary_key=True),
    Column("task_id", String, ForeignKey("tasks.id"), primary_key=True),
    Column("payload", JSON, nullable=False),
    Column("author", String, nullable=False),
    _created_at(),
)

# The key that a browser made for an answer, so that sending it twice stores it once.
submissions = Table(
    "submissions",
    metadata,
    Column("key", String, primary_key=True),
    Column("annotation_id", String, ForeignKey("annotations.id"), nullable=False, index=True),
    Column("is_surplus", Boolean, nullable=False),
    _created_at(),
)

# Append only: who did what.
audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("who", String, nullable=False),
    Column("what", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("detail", JSON, nullable=False),
    _created_at(),
)

# Statistics as they were computed; the newest of a kind replaces the one before.
summaries = Table(
    "summaries",
    metadata,
    Column("project", String, ForeignKey("projects.dataset"), primary_key=True),
    Column("kind", String, primary_key=True),
    Column("data", JSON, nullable=False),
    Column("num_answers", Integer, nullable=False),
    Column("num_done", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    _created_at(),
    CheckConstraint("kind in ('quality', 'patterns', 'leaderboard')", name="kind"),
)

# Work for a worker; leased while it is done.
jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("state", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("worker", String),
    Column("until", UtcTime),
    Column("progress", JSON, nullable=False),
    Column("result", JSON, nullable=False),
    Column("error", String, nullable=False),
    Column("is_unwanted", Boolean, nullable=False),
    Column("who", String, nullable=False),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    _created_at(),
    CheckConstraint(
        "state in ('waiting', 'running', 'finished', 'failed', 'cancelled')", name="state"
    ),
    CheckConstraint("(state = 'running') = (until is not null)", name="until"),
    Index("ix_jobs_queue", "state", "created_at"),
)

# OpenAI-compatible addresses that owners registered; ``secret`` is their key, sent nowhere else.
chat_endpoints = Table(
    "chat_endpoints",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("url", String, nullable=False),
    Column("model", String, nullable=False),
    Column("secret", String, nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("who", String, nullable=False),
    _created_at(),
)

chats = Table(
    "chats",
    metadata,
    Column("id", String, primary_key=True),
    Column("who", String, ForeignKey("users.id"), nullable=False),
    Column("title", String, nullable=False),
    Column("targets", JSON, nullable=False),
    Column("max_new_tokens", Integer, nullable=False),
    Column("temperature", Float, nullable=False),
    _created_at(),
    Index("ix_chats_who", "who", "created_at"),
)

chat_turns = Table(
    "chat_turns",
    metadata,
    Column("chat", String, ForeignKey("chats.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("said", String, nullable=False),
    Column("chosen", String),
    Column("answer", String),
    Column("rated", String, nullable=False),
    _created_at(),
)

# An answer while it is written; when it is done it is a completion.
chat_drafts = Table(
    "chat_drafts",
    metadata,
    Column("id", String, primary_key=True),
    Column("chat", String, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("place", Integer, nullable=False),
    Column("target", String, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("text", String, nullable=False),
    Column("completion", String, ForeignKey("completions.id"), index=True),
    Column("error", String, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    _created_at(),
    ForeignKeyConstraint(["chat", "turn"], ["chat_turns.chat", "chat_turns.number"]),
    CheckConstraint("state in ('waiting', 'running', 'done', 'failed')", name="state"),
    CheckConstraint("(state = 'done') = (completion is not null)", name="completion"),
    UniqueConstraint("chat", "turn", "place"),
)
