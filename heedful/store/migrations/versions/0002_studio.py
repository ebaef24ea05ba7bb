"""What the studio needs: projects, people, slots and who saw what."""

import sqlalchemy as sa
from alembic import op

from heedful.store.append_only import allow_updates, refuse_updates

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_APPEND_ONLY = ("guidelines", "audit")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "role in ('owner', 'reviewer', 'annotator', 'reader')", name=op.f("ck_users_role")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name", name=op.f("uq_users_name")),
    )
    op.create_table(
        "credentials",
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind in ('link', 'session', 'key')", name=op.f("ck_credentials_kind")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_credentials_user_id")),
        sa.PrimaryKeyConstraint("secret_hash", name=op.f("pk_credentials")),
    )
    op.create_index(op.f("ix_credentials_user_id"), "credentials", ["user_id"], unique=False)
    op.create_table(
        "projects",
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("form", sa.String(), nullable=False),
        sa.Column("overlap", sa.Integer(), nullable=False),
        sa.Column("lease_seconds", sa.Integer(), nullable=False),
        sa.Column("is_paused", sa.Boolean(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["dataset"], ["datasets.name"], name=op.f("fk_projects_dataset")),
        sa.PrimaryKeyConstraint("dataset", name=op.f("pk_projects")),
    )
    op.create_table(
        "assignments",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("annotator", sa.String(), nullable=False),
        sa.Column("shown_order", sa.JSON(), nullable=False),
        sa.Column("guideline", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("draft", sa.JSON(), nullable=True),
        sa.Column("skip_reason", sa.String(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state in ('open', 'submitted', 'skipped')", name=op.f("ck_assignments_state")
        ),
        sa.ForeignKeyConstraint(["annotator"], ["users.id"], name=op.f("fk_assignments_annotator")),
        sa.ForeignKeyConstraint(
            ["project"], ["projects.dataset"], name=op.f("fk_assignments_project")
        ),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_assignments_task_id")),
        sa.PrimaryKeyConstraint("project", "task_id", "annotator", name=op.f("pk_assignments")),
    )
    op.create_index(
        "ix_assignments_annotator",
        "assignments",
        ["annotator", "project", "state", "changed_at"],
        unique=False,
    )
    op.create_table(
        "guidelines",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"], ["projects.dataset"], name=op.f("fk_guidelines_project")
        ),
        sa.PrimaryKeyConstraint("project", "version", name=op.f("pk_guidelines")),
    )
    op.create_table(
        "slots",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Float(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
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
    op.create_index("ix_slots_holder", "slots", ["holder", "state"], unique=False)
    op.create_index(
        "ix_slots_queue", "slots", ["project", "state", "priority", "task_id"], unique=False
    )
    op.create_index("ix_slots_until", "slots", ["until"], unique=False)
    op.create_table(
        "submissions",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("annotation_id", sa.String(), nullable=False),
        sa.Column("is_surplus", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["annotation_id"], ["annotations.id"], name=op.f("fk_submissions_annotation_id")
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_submissions")),
    )
    op.create_index(
        op.f("ix_submissions_annotation_id"), "submissions", ["annotation_id"], unique=False
    )
    for table in _APPEND_ONLY:
        refuse_updates(table)


def downgrade() -> None:
    """Undo."""
    for table in _APPEND_ONLY:
        allow_updates(table)
    op.drop_index(op.f("ix_submissions_annotation_id"), table_name="submissions")
    op.drop_table("submissions")
    op.drop_index("ix_slots_until", table_name="slots")
    op.drop_index("ix_slots_queue", table_name="slots")
    op.drop_index("ix_slots_holder", table_name="slots")
    op.drop_table("slots")
    op.drop_table("guidelines")
    op.drop_index("ix_assignments_annotator", table_name="assignments")
    op.drop_table("assignments")
    op.drop_table("projects")
    op.drop_index(op.f("ix_credentials_user_id"), table_name="credentials")
    op.drop_table("credentials")
    op.drop_table("users")
    op.drop_table("audit")
