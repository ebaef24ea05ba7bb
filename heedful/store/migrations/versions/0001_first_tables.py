"""The first tables, and the triggers that keep annotations and alias moves append only."""

import sqlalchemy as sa
from alembic import op

from heedful.store.append_only import allow_updates, refuse_updates

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


_APPEND_ONLY = ("annotations", "alias_moves")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "datasets",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_datasets")),
    )
    op.create_table(
        "prompts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("messages", sa.JSON(), nullable=False),
        sa.Column("tools", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompts")),
    )
    op.create_table(
        "snapshots",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("num_rows", sa.Integer(), nullable=False),
        sa.Column("rows_hash", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("drops", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["dataset"], ["datasets.name"], name=op.f("fk_snapshots_dataset")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshots")),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("form", sa.String(), nullable=False),
        sa.Column("prompt_id", sa.String(), nullable=False),
        sa.Column("guideline", sa.String(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Float(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_tasks_prompt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
        sa.UniqueConstraint("id", "prompt_id", name=op.f("uq_tasks_id_prompt_id")),
    )
    op.create_index(op.f("ix_tasks_prompt_id"), "tasks", ["prompt_id"], unique=False)
    op.create_table(
        "annotations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("annotator", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("shown_order", sa.JSON(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "source in ('human', 'model', 'rule', 'simulated')", name=op.f("ck_annotations_source")
        ),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_annotations_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotations")),
        sa.UniqueConstraint(
            "task_id",
            "annotator",
            "revision",
            name=op.f("uq_annotations_task_id_annotator_revision"),
        ),
    )
    op.create_table(
        "dataset_items",
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("item_id", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=True),
        sa.Column("prompt_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(task_id is null) <> (prompt_id is null)", name=op.f("ck_dataset_items_one_item")
        ),
        sa.CheckConstraint(
            "item_id = coalesce(task_id, prompt_id)", name=op.f("ck_dataset_items_item_id")
        ),
        sa.ForeignKeyConstraint(
            ["dataset"], ["datasets.name"], name=op.f("fk_dataset_items_dataset")
        ),
        sa.ForeignKeyConstraint(
            ["prompt_id"], ["prompts.id"], name=op.f("fk_dataset_items_prompt_id")
        ),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_dataset_items_task_id")),
        sa.PrimaryKeyConstraint("dataset", "item_id", name=op.f("pk_dataset_items")),
    )
    op.create_index(
        op.f("ix_dataset_items_prompt_id"), "dataset_items", ["prompt_id"], unique=False
    )
    op.create_index(op.f("ix_dataset_items_task_id"), "dataset_items", ["task_id"], unique=False)
    op.create_table(
        "runs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("snapshot_id", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status in ('running', 'finished', 'failed')", name=op.f("ck_runs_status")
        ),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["snapshots.id"], name=op.f("fk_runs_snapshot_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_table(
        "snapshot_parents",
        sa.Column("snapshot_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["snapshots.id"], name=op.f("fk_snapshot_parents_parent_id")
        ),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["snapshots.id"], name=op.f("fk_snapshot_parents_snapshot_id")
        ),
        sa.PrimaryKeyConstraint("snapshot_id", "position", name=op.f("pk_snapshot_parents")),
    )
    op.create_index(
        op.f("ix_snapshot_parents_parent_id"), "snapshot_parents", ["parent_id"], unique=False
    )
    op.create_table(
        "snapshot_prompts",
        sa.Column("snapshot_id", sa.String(), nullable=False),
        sa.Column("prompt_id", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["prompt_id"], ["prompts.id"], name=op.f("fk_snapshot_prompts_prompt_id")
        ),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["snapshots.id"], name=op.f("fk_snapshot_prompts_snapshot_id")
        ),
        sa.PrimaryKeyConstraint("snapshot_id", "prompt_id", name=op.f("pk_snapshot_prompts")),
    )
    op.create_index(
        "ix_snapshot_prompts_prompt_id", "snapshot_prompts", ["prompt_id"], unique=False
    )
    op.create_table(
        "model_versions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("weights_hash", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("snapshot_id", sa.String(), nullable=True),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "role in ('base', 'policy', 'reward')", name=op.f("ck_model_versions_role")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_model_versions_run_id")),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["snapshots.id"], name=op.f("fk_model_versions_snapshot_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_versions")),
    )
    op.create_index(op.f("ix_model_versions_run_id"), "model_versions", ["run_id"], unique=False)
    op.create_index(
        op.f("ix_model_versions_snapshot_id"), "model_versions", ["snapshot_id"], unique=False
    )
    op.create_table(
        "snapshot_annotations",
        sa.Column("snapshot_id", sa.String(), nullable=False),
        sa.Column("annotation_id", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["annotation_id"],
            ["annotations.id"],
            name=op.f("fk_snapshot_annotations_annotation_id"),
        ),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["snapshots.id"], name=op.f("fk_snapshot_annotations_snapshot_id")
        ),
        sa.PrimaryKeyConstraint(
            "snapshot_id", "annotation_id", name=op.f("pk_snapshot_annotations")
        ),
    )
    op.create_index(
        "ix_snapshot_annotations_annotation_id",
        "snapshot_annotations",
        ["annotation_id"],
        unique=False,
    )
    op.create_table(
        "completions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("prompt_id", sa.String(), nullable=False),
        sa.Column("messages", sa.JSON(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=True),
        sa.Column("origin", sa.String(), nullable=True),
        sa.Column("draw", sa.Integer(), nullable=False),
        sa.Column("finish_reason", sa.String(), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(model_id is null) <> (origin is null)", name=op.f("ck_completions_one_author")
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["model_versions.id"], name=op.f("fk_completions_model_id")
        ),
        sa.ForeignKeyConstraint(
            ["prompt_id"], ["prompts.id"], name=op.f("fk_completions_prompt_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_completions")),
        sa.UniqueConstraint("id", "prompt_id", name=op.f("uq_completions_id_prompt_id")),
    )
    op.create_index(op.f("ix_completions_model_id"), "completions", ["model_id"], unique=False)
    op.create_index(op.f("ix_completions_prompt_id"), "completions", ["prompt_id"], unique=False)
    op.create_table(
        "evidence",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("test", sa.String(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("low", sa.Float(), nullable=False),
        sa.Column("high", sa.Float(), nullable=False),
        sa.Column("num", sa.Integer(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["model_versions.id"], name=op.f("fk_evidence_model_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence")),
    )
    op.create_index(op.f("ix_evidence_model_id"), "evidence", ["model_id"], unique=False)
    op.create_table(
        "model_names",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["model_versions.id"], name=op.f("fk_model_names_model_id")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_model_names")),
        sa.UniqueConstraint("name", "model_id", name=op.f("uq_model_names_name_model_id")),
    )
    op.create_index(op.f("ix_model_names_model_id"), "model_names", ["model_id"], unique=False)
    op.create_table(
        "model_parents",
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["model_versions.id"], name=op.f("fk_model_parents_model_id")
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["model_versions.id"], name=op.f("fk_model_parents_parent_id")
        ),
        sa.PrimaryKeyConstraint("model_id", "position", name=op.f("pk_model_parents")),
    )
    op.create_index(
        op.f("ix_model_parents_parent_id"), "model_parents", ["parent_id"], unique=False
    )
    op.create_table(
        "alias_moves",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("from_id", sa.String(), nullable=True),
        sa.Column("to_id", sa.String(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("evidence_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["evidence_id"], ["evidence.id"], name=op.f("fk_alias_moves_evidence_id")
        ),
        sa.ForeignKeyConstraint(
            ["from_id"], ["model_versions.id"], name=op.f("fk_alias_moves_from_id")
        ),
        sa.ForeignKeyConstraint(
            ["to_id"], ["model_versions.id"], name=op.f("fk_alias_moves_to_id")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_alias_moves")),
    )
    op.create_index(op.f("ix_alias_moves_alias"), "alias_moves", ["alias"], unique=False)
    op.create_index(op.f("ix_alias_moves_to_id"), "alias_moves", ["to_id"], unique=False)
    op.create_table(
        "task_completions",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("completion_id", sa.String(), nullable=False),
        sa.Column("prompt_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["completion_id", "prompt_id"],
            ["completions.id", "completions.prompt_id"],
            name=op.f("fk_task_completions_completion_id_prompt_id"),
        ),
        sa.ForeignKeyConstraint(
            ["task_id", "prompt_id"],
            ["tasks.id", "tasks.prompt_id"],
            name=op.f("fk_task_completions_task_id_prompt_id"),
        ),
        sa.PrimaryKeyConstraint("task_id", "position", name=op.f("pk_task_completions")),
        sa.UniqueConstraint(
            "task_id", "completion_id", name=op.f("uq_task_completions_task_id_completion_id")
        ),
    )
    op.create_index(
        op.f("ix_task_completions_completion_id"),
        "task_completions",
        ["completion_id"],
        unique=False,
    )
    for table in _APPEND_ONLY:
        refuse_updates(table)


def downgrade() -> None:
    """Undo."""
    for table in _APPEND_ONLY:
        allow_updates(table)
    op.drop_index(op.f("ix_task_completions_completion_id"), table_name="task_completions")
    op.drop_table("task_completions")
    op.drop_index(op.f("ix_alias_moves_to_id"), table_name="alias_moves")
    op.drop_index(op.f("ix_alias_moves_alias"), table_name="alias_moves")
    op.drop_table("alias_moves")
    op.drop_index(op.f("ix_model_parents_parent_id"), table_name="model_parents")
    op.drop_table("model_parents")
    op.drop_index(op.f("ix_model_names_model_id"), table_name="model_names")
    op.drop_table("model_names")
    op.drop_index(op.f("ix_evidence_model_id"), table_name="evidence")
    op.drop_table("evidence")
    op.drop_index(op.f("ix_completions_prompt_id"), table_name="completions")
    op.drop_index(op.f("ix_completions_model_id"), table_name="completions")
    op.drop_table("completions")
    op.drop_index("ix_snapshot_annotations_annotation_id", table_name="snapshot_annotations")
    op.drop_table("snapshot_annotations")
    op.drop_index(op.f("ix_model_versions_snapshot_id"), table_name="model_versions")
    op.drop_index(op.f("ix_model_versions_run_id"), table_name="model_versions")
    op.drop_table("model_versions")
    op.drop_index("ix_snapshot_prompts_prompt_id", table_name="snapshot_prompts")
    op.drop_table("snapshot_prompts")
    op.drop_index(op.f("ix_snapshot_parents_parent_id"), table_name="snapshot_parents")
    op.drop_table("snapshot_parents")
    op.drop_table("runs")
    op.drop_index(op.f("ix_dataset_items_task_id"), table_name="dataset_items")
    op.drop_index(op.f("ix_dataset_items_prompt_id"), table_name="dataset_items")
    op.drop_table("dataset_items")
    op.drop_table("annotations")
    op.drop_index(op.f("ix_tasks_prompt_id"), table_name="tasks")
    op.drop_table("tasks")
    op.drop_table("snapshots")
    op.drop_table("prompts")
    op.drop_table("datasets")
