"""Indices for looking through the data: by annotator, and by the origin of answers."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indices."""
    op.create_index("ix_annotations_annotator", "annotations", ["annotator", "task_id"])
    op.create_index("ix_completions_origin", "completions", ["origin"])


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_completions_origin", table_name="completions")
    op.drop_index("ix_annotations_annotator", table_name="annotations")
