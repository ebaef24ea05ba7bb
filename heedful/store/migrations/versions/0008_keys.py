"""Who answers with an API key: a person, a model or a rule."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; keys that are there are people's."""
    source = sa.Column("source", sa.String(), nullable=False, server_default="human")
    op.add_column("credentials", source)


def downgrade() -> None:
    """Undo."""
    op.drop_column("credentials", "source")
