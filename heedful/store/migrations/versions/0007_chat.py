"""Conversations with models."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "chat_endpoints",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_endpoints")),
        sa.UniqueConstraint("name", name=op.f("uq_chat_endpoints_name")),
    )
    op.create_table(
        "chats",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("targets", sa.JSON(), nullable=False),
        sa.Column("max_new_tokens", sa.Integer(), nullable=False),
        sa.Column("temperature", sa.Float(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["who"], ["users.id"], name=op.f("fk_chats_who")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chats")),
    )
    op.create_index("ix_chats_who", "chats", ["who", "created_at"])
    op.create_table(
        "chat_turns",
        sa.Column("chat", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("said", sa.String(), nullable=False),
        sa.Column("chosen", sa.String(), nullable=True),
        sa.Column("answer", sa.String(), nullable=True),
        sa.Column("rated", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["chat"], ["chats.id"], name=op.f("fk_chat_turns_chat")),
        sa.PrimaryKeyConstraint("chat", "number", name=op.f("pk_chat_turns")),
    )
    op.create_table(
        "chat_drafts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("chat", sa.String(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("completion", sa.String(), nullable=True),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state in ('waiting', 'running', 'done', 'failed')", name=op.f("ck_chat_drafts_state")
        ),
        sa.CheckConstraint(
            "(state = 'done') = (completion is not null)", name=op.f("ck_chat_drafts_completion")
        ),
        sa.ForeignKeyConstraint(
            ["chat", "turn"],
            ["chat_turns.chat", "chat_turns.number"],
            name=op.f("fk_chat_drafts_chat_turn"),
        ),
        sa.ForeignKeyConstraint(
            ["completion"], ["completions.id"], name=op.f("fk_chat_drafts_completion")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_drafts")),
        sa.UniqueConstraint("chat", "turn", "place", name=op.f("uq_chat_drafts_chat_turn_place")),
    )
    op.create_index(op.f("ix_chat_drafts_completion"), "chat_drafts", ["completion"])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("chat_drafts", "chat_turns", "chats", "chat_endpoints"):
        op.drop_table(table)
