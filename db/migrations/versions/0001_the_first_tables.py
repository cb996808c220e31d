"""The first tables"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

RECORD_EVENT = """
create function rlfleet.record_job_event() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into rlfleet.job_events (job_id, from_state, to_state, fence, attempt, owner, reason)
        values (new.id, null, new.state, new.fence, new.attempt, new.owner, null);
    elsif (old.state, old.fence, old.attempt) is distinct from (new.state, new.fence, new.attempt) then
        insert into rlfleet.job_events (job_id, from_state, to_state, fence, attempt, owner, reason)
        values (new.id, old.state, new.state, new.fence, new.attempt, new.owner, new.error);
    end if;
    return new;
end $$;
create trigger record_job_event after insert or update on rlfleet.jobs
    for each row execute function rlfleet.record_job_event();
"""


def upgrade() -> None:
    op.create_table(
        "calls",
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("trajectory_id", sa.Text(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=True),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("prompt_token_ids", postgresql.ARRAY(sa.Integer()), nullable=True),
        sa.Column("token_ids", postgresql.ARRAY(sa.Integer()), nullable=True),
        sa.Column("logprobs", postgresql.ARRAY(sa.REAL()), nullable=True),
        sa.Column("temperature", sa.Double(), nullable=True),
        sa.Column("finish_reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(prompt_token_ids is null) = (token_ids is null) and (token_ids is null) = (logprobs is null) and (token_ids is null or cardinality(token_ids) = cardinality(logprobs))",
            name=op.f("ck_calls_tokens_together"),
        ),
        sa.PrimaryKeyConstraint("call_id", name=op.f("pk_calls")),
        schema="rlfleet",
    )
    op.create_index(
        op.f("ix_calls_trajectory_id_turn"), "calls", ["trajectory_id", "turn"], unique=False, schema="rlfleet"
    )
    op.create_table(
        "engines",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_engines")),
        schema="rlfleet",
    )
    op.create_table(
        "lines",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lines")),
        sa.UniqueConstraint("name", name=op.f("uq_lines_name")),
        schema="rlfleet",
    )
    op.create_table(
        "schedule_slots",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slot_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", "slot_at", name=op.f("pk_schedule_slots")),
        schema="rlfleet",
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("line_id", sa.BigInteger(), nullable=False),
        sa.Column("dedup_key", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("inputs", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("after", postgresql.ARRAY(sa.BIGINT()), server_default="{}", nullable=False),
        sa.Column("priority", sa.Integer(), server_default="100", nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("max_attempts", sa.Integer(), server_default="3", nullable=False),
        sa.Column("interruptions", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("run_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sends", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("progress", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state = 'running') = (lease_until is not null)", name=op.f("ck_jobs_lease")),
        sa.CheckConstraint(
            "state in ('queued','running','succeeded','failed','dead','cancelled')", name=op.f("ck_jobs_state")
        ),
        sa.CheckConstraint("attempt between 0 and max_attempts", name=op.f("ck_jobs_attempt")),
        sa.ForeignKeyConstraint(["line_id"], ["rlfleet.lines.id"], name=op.f("fk_jobs_line_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("kind", "line_id", "dedup_key", name=op.f("uq_jobs_kind_line_id_dedup_key")),
        schema="rlfleet",
    )
    op.create_index(
        "ix_jobs_due",
        "jobs",
        ["queue", "priority", "id"],
        unique=False,
        schema="rlfleet",
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "uq_jobs_training_serial",
        "jobs",
        ["line_id"],
        unique=True,
        schema="rlfleet",
        postgresql_where=sa.text("state = 'running' and kind = 'train'"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("line_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), server_default="running", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("base_version_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state in ('running','finished','stopped')", name=op.f("ck_runs_state")),
        sa.ForeignKeyConstraint(
            ["base_version_id"], ["rlfleet.versions.id"], name=op.f("fk_runs_base_version_id"), use_alter=True
        ),
        sa.ForeignKeyConstraint(["line_id"], ["rlfleet.lines.id"], name=op.f("fk_runs_line_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("name", name=op.f("uq_runs_name")),
        schema="rlfleet",
    )
    op.create_index(op.f("ix_runs_line_id"), "runs", ["line_id"], unique=False, schema="rlfleet")
    op.create_table(
        "checkpoints",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("base_uri", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("metrics", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind in ('full','adapter')", name=op.f("ck_checkpoints_kind")),
        sa.ForeignKeyConstraint(["job_id"], ["rlfleet.jobs.id"], name=op.f("fk_checkpoints_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checkpoints")),
        sa.UniqueConstraint("job_id", "step", name=op.f("uq_checkpoints_job_id_step")),
        schema="rlfleet",
    )
    op.create_table(
        "datasets",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("line_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("manifest", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["rlfleet.jobs.id"], name=op.f("fk_datasets_job_id")),
        sa.ForeignKeyConstraint(["line_id"], ["rlfleet.lines.id"], name=op.f("fk_datasets_line_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("job_id", name=op.f("uq_datasets_job_id")),
        schema="rlfleet",
    )
    op.create_table(
        "job_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("from_state", sa.Text(), nullable=True),
        sa.Column("to_state", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["rlfleet.jobs.id"], name=op.f("fk_job_events_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_events")),
        schema="rlfleet",
    )
    op.create_index(op.f("ix_job_events_job_id"), "job_events", ["job_id"], unique=False, schema="rlfleet")
    op.create_table(
        "windows",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("line_id", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("round", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state in ('open','closed','collected','scored','trained','skipped')", name=op.f("ck_windows_state")
        ),
        sa.ForeignKeyConstraint(["line_id"], ["rlfleet.lines.id"], name=op.f("fk_windows_line_id")),
        sa.ForeignKeyConstraint(["run_id"], ["rlfleet.runs.id"], name=op.f("fk_windows_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_windows")),
        sa.UniqueConstraint("line_id", "name", name=op.f("uq_windows_line_id_name")),
        schema="rlfleet",
    )
    op.create_index(op.f("ix_windows_run_id"), "windows", ["run_id"], unique=False, schema="rlfleet")
    op.create_table(
        "dataset_windows",
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("window_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["rlfleet.datasets.id"], name=op.f("fk_dataset_windows_dataset_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["window_id"], ["rlfleet.windows.id"], name=op.f("fk_dataset_windows_window_id")),
        sa.PrimaryKeyConstraint("dataset_id", "window_id", name=op.f("pk_dataset_windows")),
        schema="rlfleet",
    )
    op.create_table(
        "quarantine",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("line_id", sa.BigInteger(), nullable=False),
        sa.Column("window_id", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("row", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("excerpt", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["line_id"], ["rlfleet.lines.id"], name=op.f("fk_quarantine_line_id")),
        sa.ForeignKeyConstraint(["window_id"], ["rlfleet.windows.id"], name=op.f("fk_quarantine_window_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
        sa.UniqueConstraint("line_id", "source", "row", "field", name=op.f("uq_quarantine_line_id_source_row_field")),
        schema="rlfleet",
    )
    op.create_index(op.f("ix_quarantine_window_id"), "quarantine", ["window_id"], unique=False, schema="rlfleet")
    op.create_table(
        "trajectories",
        sa.Column("trajectory_id", sa.Text(), nullable=False),
        sa.Column("line_id", sa.BigInteger(), nullable=False),
        sa.Column("window_id", sa.BigInteger(), nullable=False),
        sa.Column("scenario_id", sa.Text(), nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("reward", sa.Double(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("abs(reward) < 'infinity'::float8", name=op.f("ck_trajectories_reward_finite")),
        sa.ForeignKeyConstraint(["line_id"], ["rlfleet.lines.id"], name=op.f("fk_trajectories_line_id")),
        sa.ForeignKeyConstraint(["window_id"], ["rlfleet.windows.id"], name=op.f("fk_trajectories_window_id")),
        sa.PrimaryKeyConstraint("trajectory_id", name=op.f("pk_trajectories")),
        schema="rlfleet",
    )
    op.create_index(
        op.f("ix_trajectories_window_id_scenario_id"),
        "trajectories",
        ["window_id", "scenario_id"],
        unique=False,
        schema="rlfleet",
    )
    op.create_table(
        "versions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("line_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="candidate", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("checkpoint_id", sa.BigInteger(), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("base_model", sa.Text(), nullable=False),
        sa.Column("manifest", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state in ('candidate','ready','rejected')", name=op.f("ck_versions_state")),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["rlfleet.checkpoints.id"], name=op.f("fk_versions_checkpoint_id")),
        sa.ForeignKeyConstraint(["job_id"], ["rlfleet.jobs.id"], name=op.f("fk_versions_job_id")),
        sa.ForeignKeyConstraint(["line_id"], ["rlfleet.lines.id"], name=op.f("fk_versions_line_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["rlfleet.versions.id"], name=op.f("fk_versions_parent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_versions")),
        sa.UniqueConstraint("job_id", name=op.f("uq_versions_job_id")),
        sa.UniqueConstraint("line_id", "number", name=op.f("uq_versions_line_id_number")),
        sa.UniqueConstraint("name", name=op.f("uq_versions_name")),
        schema="rlfleet",
    )
    op.create_table(
        "dataset_trajectories",
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("trajectory_id", sa.Text(), nullable=False),
        sa.Column("group", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["rlfleet.datasets.id"], name=op.f("fk_dataset_trajectories_dataset_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["trajectory_id"],
            ["rlfleet.trajectories.trajectory_id"],
            name=op.f("fk_dataset_trajectories_trajectory_id"),
        ),
        sa.PrimaryKeyConstraint("dataset_id", "trajectory_id", name=op.f("pk_dataset_trajectories")),
        schema="rlfleet",
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("line_id", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=True),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("stable_id", sa.BigInteger(), nullable=True),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("released", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["rlfleet.jobs.id"], name=op.f("fk_decisions_job_id")),
        sa.ForeignKeyConstraint(["line_id"], ["rlfleet.lines.id"], name=op.f("fk_decisions_line_id")),
        sa.ForeignKeyConstraint(["run_id"], ["rlfleet.runs.id"], name=op.f("fk_decisions_run_id")),
        sa.ForeignKeyConstraint(["stable_id"], ["rlfleet.versions.id"], name=op.f("fk_decisions_stable_id")),
        sa.ForeignKeyConstraint(["version_id"], ["rlfleet.versions.id"], name=op.f("fk_decisions_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decisions")),
        sa.UniqueConstraint("job_id", name=op.f("uq_decisions_job_id")),
        schema="rlfleet",
    )
    op.create_table(
        "evaluations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("checkpoint_id", sa.BigInteger(), nullable=False),
        sa.Column("task_set", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("task_set_hash", sa.Text(), nullable=False),
        sa.Column("judge", sa.Text(), nullable=False),
        sa.Column("prompt_hash", sa.Text(), nullable=False),
        sa.Column("ids_sha256", sa.Text(), nullable=False),
        sa.Column("k", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("missing", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"], ["rlfleet.checkpoints.id"], name=op.f("fk_evaluations_checkpoint_id")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["rlfleet.jobs.id"], name=op.f("fk_evaluations_job_id")),
        sa.ForeignKeyConstraint(["version_id"], ["rlfleet.versions.id"], name=op.f("fk_evaluations_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluations")),
        sa.UniqueConstraint(
            "checkpoint_id",
            "task_set_hash",
            "judge",
            "prompt_hash",
            name=op.f("uq_evaluations_checkpoint_id_task_set_hash_judge_prompt_hash"),
        ),
        sa.UniqueConstraint("job_id", name=op.f("uq_evaluations_job_id")),
        schema="rlfleet",
    )
    op.create_index(op.f("ix_evaluations_version_id"), "evaluations", ["version_id"], unique=False, schema="rlfleet")
    op.create_table(
        "scores",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("trajectory_id", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("method_version", sa.Text(), nullable=False),
        sa.Column("input_hash", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("rubric_hash", sa.Text(), nullable=True),
        sa.Column("judge", sa.Text(), nullable=True),
        sa.Column("cost", sa.Double(), nullable=True),
        sa.Column("explanation", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["trajectory_id"],
            ["rlfleet.trajectories.trajectory_id"],
            name=op.f("fk_scores_trajectory_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scores")),
        sa.UniqueConstraint(
            "trajectory_id",
            "method",
            "method_version",
            "input_hash",
            name=op.f("uq_scores_trajectory_id_method_method_version_input_hash"),
        ),
        schema="rlfleet",
    )
    op.create_table(
        "turns",
        sa.Column("trajectory_id", sa.Text(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("action", sa.Text(), nullable=True),
        sa.Column("reward", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["trajectory_id"],
            ["rlfleet.trajectories.trajectory_id"],
            name=op.f("fk_turns_trajectory_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("trajectory_id", "turn", name=op.f("pk_turns")),
        schema="rlfleet",
    )
    op.create_table(
        "releases",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("line_id", sa.BigInteger(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("decision_id", sa.BigInteger(), nullable=True),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("share", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("stage in ('canary','stable')", name=op.f("ck_releases_stage")),
        sa.CheckConstraint("share between 0 and 100", name=op.f("ck_releases_share")),
        sa.ForeignKeyConstraint(["decision_id"], ["rlfleet.decisions.id"], name=op.f("fk_releases_decision_id")),
        sa.ForeignKeyConstraint(["line_id"], ["rlfleet.lines.id"], name=op.f("fk_releases_line_id")),
        sa.ForeignKeyConstraint(["version_id"], ["rlfleet.versions.id"], name=op.f("fk_releases_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
        schema="rlfleet",
    )
    op.create_index(
        "uq_releases_live",
        "releases",
        ["line_id", "stage"],
        unique=True,
        schema="rlfleet",
        postgresql_where=sa.text("ended_at is null"),
    )
    op.create_table(
        "verdicts",
        sa.Column("evaluation_id", sa.BigInteger(), nullable=False),
        sa.Column("scenario_id", sa.Text(), nullable=False),
        sa.Column("sample", sa.SmallInteger(), nullable=False),
        sa.Column("right", sa.Boolean(), nullable=True),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("turns", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["rlfleet.evaluations.id"], name=op.f("fk_verdicts_evaluation_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "scenario_id", "sample", name=op.f("pk_verdicts")),
        schema="rlfleet",
    )
    op.create_foreign_key(
        op.f("fk_runs_base_version_id"),
        "runs",
        "versions",
        ["base_version_id"],
        ["id"],
        source_schema="rlfleet",
        referent_schema="rlfleet",
    )
    op.execute(RECORD_EVENT)


def downgrade() -> None:
    op.execute("drop function rlfleet.record_job_event() cascade")
    op.drop_constraint(op.f("fk_runs_base_version_id"), "runs", schema="rlfleet")
    op.drop_table("verdicts", schema="rlfleet")
    op.drop_index(
        "uq_releases_live", table_name="releases", schema="rlfleet", postgresql_where=sa.text("ended_at is null")
    )
    op.drop_table("releases", schema="rlfleet")
    op.drop_table("turns", schema="rlfleet")
    op.drop_table("scores", schema="rlfleet")
    op.drop_index(op.f("ix_evaluations_version_id"), table_name="evaluations", schema="rlfleet")
    op.drop_table("evaluations", schema="rlfleet")
    op.drop_table("decisions", schema="rlfleet")
    op.drop_table("dataset_trajectories", schema="rlfleet")
    op.drop_table("versions", schema="rlfleet")
    op.drop_index(op.f("ix_trajectories_window_id_scenario_id"), table_name="trajectories", schema="rlfleet")
    op.drop_table("trajectories", schema="rlfleet")
    op.drop_index(op.f("ix_quarantine_window_id"), table_name="quarantine", schema="rlfleet")
    op.drop_table("quarantine", schema="rlfleet")
    op.drop_table("dataset_windows", schema="rlfleet")
    op.drop_index(op.f("ix_windows_run_id"), table_name="windows", schema="rlfleet")
    op.drop_table("windows", schema="rlfleet")
    op.drop_index(op.f("ix_job_events_job_id"), table_name="job_events", schema="rlfleet")
    op.drop_table("job_events", schema="rlfleet")
    op.drop_table("datasets", schema="rlfleet")
    op.drop_table("checkpoints", schema="rlfleet")
    op.drop_index(op.f("ix_runs_line_id"), table_name="runs", schema="rlfleet")
    op.drop_table("runs", schema="rlfleet")
    op.drop_index(
        "uq_jobs_training_serial",
        table_name="jobs",
        schema="rlfleet",
        postgresql_where=sa.text("state = 'running' and kind = 'train'"),
    )
    op.drop_index("ix_jobs_due", table_name="jobs", schema="rlfleet", postgresql_where=sa.text("state = 'queued'"))
    op.drop_table("jobs", schema="rlfleet")
    op.drop_table("schedule_slots", schema="rlfleet")
    op.drop_table("lines", schema="rlfleet")
    op.drop_table("engines", schema="rlfleet")
    op.drop_index(op.f("ix_calls_trajectory_id_turn"), table_name="calls", schema="rlfleet")
    op.drop_table("calls", schema="rlfleet")
