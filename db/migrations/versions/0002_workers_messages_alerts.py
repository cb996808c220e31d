"""Workers, messages, pauses, alerts, and what an attempt leaves for the next one"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# A failed or dead job raises one alert a transition, in the transaction that ends it.
RECORD_EVENT = """
create or replace function rlfleet.record_job_event() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into rlfleet.job_events (job_id, from_state, to_state, fence, attempt, owner, reason)
        values (new.id, null, new.state, new.fence, new.attempt, new.owner, null);
    elsif (old.state, old.fence, old.attempt) is distinct from (new.state, new.fence, new.attempt) then
        insert into rlfleet.job_events (job_id, from_state, to_state, fence, attempt, owner, reason)
        values (new.id, old.state, new.state, new.fence, new.attempt, new.owner, new.error);
        if new.state in ('failed', 'dead') then
            insert into rlfleet.alerts (name, subject, detail)
            values ('job_' || new.state, 'job ' || new.id,
                    jsonb_build_object('job', new.id, 'kind', new.kind, 'line',
                        (select l.name from rlfleet.lines l where l.id = new.line_id),
                        'attempt', new.attempt, 'fence', new.fence, 'error', new.error));
        end if;
    end if;
    return new;
end $$;
"""

RECORD_EVENT_BEFORE = """
create or replace function rlfleet.record_job_event() returns trigger language plpgsql as $$
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
"""


def upgrade() -> None:
    op.add_column("jobs", sa.Column("devices", sa.Integer(), server_default="1", nullable=False), schema="rlfleet")
    op.add_column("jobs", sa.Column("resume", postgresql.JSONB(), nullable=True), schema="rlfleet")
    op.add_column("jobs", sa.Column("adjust", postgresql.JSONB(), nullable=True), schema="rlfleet")
    op.drop_index("ix_jobs_due", "jobs", schema="rlfleet")
    op.create_index(
        "ix_jobs_running",
        "jobs",
        ["id"],
        schema="rlfleet",
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(
        "ix_jobs_ended",
        "jobs",
        ["kind", "finished_at"],
        schema="rlfleet",
        postgresql_where=sa.text("state in ('failed', 'dead')"),
    )
    for name, columns, which in (
        ("ix_jobs_unsent", ["queue", "priority", "id"], "state = 'queued' and last_sent_at is null"),
        ("ix_jobs_rung", ["queue", "last_sent_at"], "state = 'queued' and last_sent_at is not null"),
    ):
        op.create_index(name, "jobs", columns, schema="rlfleet", postgresql_where=sa.text(which))
    op.create_table(
        "workers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("queues", postgresql.ARRAY(sa.TEXT()), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
        schema="rlfleet",
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("outcome in ('claimed','skipped','requested')", name=op.f("ck_deliveries_outcome")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        schema="rlfleet",
    )
    op.create_index("ix_deliveries_message_id", "deliveries", ["message_id"], schema="rlfleet")
    op.create_index(op.f("ix_deliveries_job_id"), "deliveries", ["job_id"], schema="rlfleet")
    op.create_table(
        "rejections",
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("example", sa.Text(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("reason", "subject", name=op.f("pk_rejections")),
        schema="rlfleet",
    )
    op.create_table(
        "pauses",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_pauses")),
        schema="rlfleet",
    )
    op.create_table(
        "resumes",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("resumed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_resumes")),
        schema="rlfleet",
    )
    op.create_table(
        "alerts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        schema="rlfleet",
    )
    op.create_index(
        "ix_alerts_due", "alerts", ["next_at"], schema="rlfleet", postgresql_where=sa.text("sent_at is null")
    )
    op.execute(RECORD_EVENT)


def downgrade() -> None:
    op.execute(RECORD_EVENT_BEFORE)
    for table in ("alerts", "resumes", "pauses", "rejections", "deliveries", "workers"):
        op.drop_table(table, schema="rlfleet")
    for name in ("ix_jobs_rung", "ix_jobs_unsent", "ix_jobs_ended"):
        op.drop_index(name, "jobs", schema="rlfleet")
    op.drop_index("ix_jobs_running", "jobs", schema="rlfleet")
    op.create_index(
        "ix_jobs_due",
        "jobs",
        ["queue", "priority", "id"],
        schema="rlfleet",
        postgresql_where=sa.text("state = 'queued'"),
    )
    for column in ("adjust", "resume", "devices"):
        op.drop_column("jobs", column, schema="rlfleet")
