"""Statistics of projects as they were computed."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "summaries",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("num_answers", sa.Integer(), nullable=False),
        sa.Column("num_done", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "kind in ('quality', 'patterns', 'leaderboard')", name=op.f("ck_summaries_kind")
        ),
        sa.ForeignKeyConstraint(
            ["project"], ["projects.dataset"], name=op.f("fk_summaries_project")
        ),
        sa.PrimaryKeyConstraint("project", "kind", name=op.f("pk_summaries")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("summaries")
