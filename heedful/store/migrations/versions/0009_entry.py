"""Who was let into a project that asks entry questions, by whom and when."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; nothing is decided about people who are there."""
    op.add_column("participants", sa.Column("is_qualified", sa.Boolean(), nullable=True))
    op.add_column("participants", sa.Column("decided_by", sa.String(), nullable=True))
    decided_at = sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True)
    op.add_column("participants", decided_at)


def downgrade() -> None:
    """Undo."""
    for name in ("decided_at", "decided_by", "is_qualified"):
        op.drop_column("participants", name)
