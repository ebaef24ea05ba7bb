"""A queue whose size does not matter, and answers of other kinds than votes."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STARTED = "state = 'open' and turn is not null"


def upgrade() -> None:
    """Make the tables, and fill them from what is in the old ones."""
    op.execute(
        "alter table annotations add column kind varchar default 'answer' not null "
        "constraint ck_annotations_kind "
        "check (kind in ('answer', 'repeat', 'gold', 'adjudication'))"
    )
    _make_counts()
    _make_items()
    op.execute("create table old_slots as select * from slots")
    op.drop_table("slots")
    _make_slots()
    op.execute("create table old_assignments as select * from assignments")
    op.drop_table("assignments")
    _make_assignments()
    _make_golds()
    for statement in _FILL:
        op.execute(statement)
    op.drop_table("old_slots")
    op.drop_table("old_assignments")


def _make_counts() -> None:
    op.create_table(
        "queues",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("num_turns", sa.Integer(), nullable=False),
        *_counts(),
        sa.ForeignKeyConstraint(["project"], ["projects.dataset"], name=op.f("fk_queues_project")),
        sa.PrimaryKeyConstraint("project", name=op.f("pk_queues")),
    )
    op.create_table(
        "participants",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("annotator", sa.String(), nullable=False),
        *_counts(),
        sa.Column("num_given", sa.Integer(), nullable=False),
        sa.Column("num_answered", sa.Integer(), nullable=False),
        sa.Column("cursor_urgency", sa.Float(), nullable=True),
        sa.Column("cursor_turn", sa.Integer(), nullable=True),
        sa.Column("cursor_turns", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["annotator"], ["users.id"], name=op.f("fk_participants_annotator")
        ),
        sa.ForeignKeyConstraint(
            ["project"], ["projects.dataset"], name=op.f("fk_participants_project")
        ),
        sa.PrimaryKeyConstraint("project", "annotator", name=op.f("pk_participants")),
    )


def _counts() -> list[sa.Column[int]]:
    names = ("num_open", "num_leased", "num_done")
    return [sa.Column(name, sa.Integer(), nullable=False) for name in names]


def _make_items() -> None:
    op.create_table(
        "queue_items",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("urgency", sa.Float(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=True),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("scored_by", sa.String(), nullable=True),
        sa.Column("probability", sa.Float(), nullable=True),
        sa.Column("drawn_by", sa.String(), nullable=True),
        sa.Column("is_disputed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"], ["projects.dataset"], name=op.f("fk_queue_items_project")
        ),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_queue_items_task_id")),
        sa.PrimaryKeyConstraint("project", "task_id", name=op.f("pk_queue_items")),
    )
    op.create_index("ix_queue_items_task_id", "queue_items", ["task_id"])
    fresh, scored = "place is not null", ["project", "scored_by", "urgency", "score", "task_id"]
    _partial("ix_queue_items_fresh", "queue_items", ["project", "urgency", "place"], fresh)
    _partial("ix_queue_items_scored", "queue_items", scored, f"{fresh} and score is not null")
    _partial("ix_queue_items_disputed", "queue_items", ["project", "task_id"], "is_disputed")


def _make_slots() -> None:
    op.create_table(
        "slots",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("urgency", sa.Float(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=True),
        sa.Column("holder", sa.String(), nullable=True),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state = 'leased') = (until is not null)", name=op.f("ck_slots_until")),
        sa.CheckConstraint("(state = 'open') = (holder is null)", name=op.f("ck_slots_holder")),
        sa.CheckConstraint("state in ('open', 'leased', 'done')", name=op.f("ck_slots_state")),
        sa.ForeignKeyConstraint(["holder"], ["users.id"], name=op.f("fk_slots_holder")),
        sa.ForeignKeyConstraint(["project"], ["projects.dataset"], name=op.f("fk_slots_project")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_slots_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_slots")),
        sa.UniqueConstraint(
            "project", "task_id", "number", name=op.f("uq_slots_project_task_id_number")
        ),
    )
    _partial("ix_slots_started", "slots", ["project", "urgency", "turn"], STARTED)
    _partial("ix_slots_reopened", "slots", ["project", "turn", "urgency"], STARTED)
    _partial("ix_slots_holder", "slots", ["holder", "project"], "state = 'leased'")
    _partial("ix_slots_until", "slots", ["project", "until"], "state = 'leased'")


def _make_assignments() -> None:
    op.create_table(
        "assignments",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("annotator", sa.String(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("shown_order", sa.JSON(), nullable=False),
        sa.Column("guideline", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("draft", sa.JSON(), nullable=True),
        sa.Column("skip_reason", sa.String(), nullable=True),
        sa.Column("given", sa.Integer(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state in ('open', 'submitted', 'skipped')", name=op.f("ck_assignments_state")
        ),
        sa.CheckConstraint(
            "kind in ('answer', 'repeat', 'gold', 'adjudication')", name=op.f("ck_assignments_kind")
        ),
        sa.CheckConstraint(
            "round = case kind when 'repeat' then 1 when 'adjudication' then 2 else 0 end",
            name=op.f("ck_assignments_round"),
        ),
        sa.ForeignKeyConstraint(["annotator"], ["users.id"], name=op.f("fk_assignments_annotator")),
        sa.ForeignKeyConstraint(
            ["project"], ["projects.dataset"], name=op.f("fk_assignments_project")
        ),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_assignments_task_id")),
        sa.PrimaryKeyConstraint(
            "project", "task_id", "annotator", "round", name=op.f("pk_assignments")
        ),
    )
    columns = ["annotator", "project", "state", "changed_at", "given"]
    op.create_index("ix_assignments_annotator", "assignments", columns)
    op.create_index("ix_assignments_answered", "assignments", ["annotator", "project", "answered"])


def _make_golds() -> None:
    op.create_table(
        "golds",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.dataset"], name=op.f("fk_golds_project")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_golds_task_id")),
        sa.PrimaryKeyConstraint("project", "task_id", name=op.f("pk_golds")),
    )


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)


_FILL = (
    # A task was begun when one of its slots is not open, or somebody was given it.
    """
    insert into queue_items (project, task_id, urgency, place, is_disputed)
    select project, task_id, -priority,
           row_number() over (partition by project, priority order by task_id) - 1, false
    from old_slots s
    where number = 0
      and not exists (select 1 from old_slots o where o.project = s.project
                      and o.task_id = s.task_id and o.state <> 'open')
      and not exists (select 1 from old_assignments a where a.project = s.project
                      and a.task_id = s.task_id)
    """,
    """
    insert into queue_items (project, task_id, urgency, is_disputed)
    select project, task_id, -priority, false from old_slots s
    where number = 0
      and not exists (select 1 from queue_items i where i.project = s.project
                      and i.task_id = s.task_id)
    """,
    """
    insert into slots (project, task_id, number, urgency, state, turn, holder, until)
    select s.project, s.task_id, s.number, -s.priority, s.state,
           case when i.place is null then
                row_number() over (partition by s.project order by s.task_id, s.number) end,
           s.holder, s.until
    from old_slots s join queue_items i on i.project = s.project and i.task_id = s.task_id
    """,
    """
    insert into queues (project, num_turns, num_open, num_leased, num_done)
    select p.dataset, (select count(*) from slots s where s.project = p.dataset),
           (select count(*) from slots s where s.project = p.dataset and s.state = 'open'),
           (select count(*) from slots s where s.project = p.dataset and s.state = 'leased'),
           (select count(*) from slots s where s.project = p.dataset and s.state = 'done')
    from projects p
    """,
    """
    insert into assignments (project, task_id, annotator, round, kind, shown_order, guideline,
                             state, draft, skip_reason, given, answered, changed_at, created_at)
    select project, task_id, annotator, 0, 'answer', shown_order, guideline, state, draft,
           skip_reason,
           row_number() over (partition by project, annotator order by created_at, task_id),
           case when state = 'submitted' then row_number() over (
                partition by project, annotator, state order by changed_at, task_id) end,
           changed_at, created_at
    from old_assignments
    """,
    """
    insert into participants (project, annotator, num_open, num_leased, num_done, num_given,
                              num_answered, cursor_turns)
    select project, annotator, 0, 0, 0, count(*), count(answered), 0
    from assignments group by project, annotator
    """,
)


def downgrade() -> None:
    """Refuse: without the kinds of answers, repeats would become votes."""
    raise NotImplementedError("0003 has no way back; restore a copy from before it")
