"""Evaluations in shards, decisions by people, releases in stages, pins and kill switches, and calls that failed"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = "rlfleet"

OLD_KEY = ("checkpoint_id", "task_set_hash", "judge", "prompt_hash")
KEY = ("checkpoint_sha256", "task_set_hash", "judge", "prompt_hash", "against", "sample", "first")

HASHED = """
update rlfleet.evaluations e set checkpoint_sha256 = c.sha256 from rlfleet.checkpoints c where c.id = e.checkpoint_id
"""
TWICE = """
update rlfleet.evaluations e set against = '#' || e.id from rlfleet.evaluations o
 where o.id < e.id and o.checkpoint_sha256 = e.checkpoint_sha256 and o.task_set_hash = e.task_set_hash
   and o.judge = e.judge and o.prompt_hash = e.prompt_hash
"""
"""Equal weights were evaluated again as another version. The first verdict on a scenario counts, and all are kept."""
UNDECIDED = """
do $$
declare one record; made bigint;
begin
    for one in select r.* from rlfleet.releases r left join rlfleet.decisions d on d.id = r.decision_id
                where d.version_id is distinct from r.version_id order by r.id loop
        insert into rlfleet.decisions (line_id, version_id, policy, released, reason, evidence, actor, created_at)
        values (one.line_id, one.version_id, 'person', true, one.reason, '{}', 'unknown', one.created_at)
        returning id into made;
        update rlfleet.releases set decision_id = made where id = one.id;
    end loop;
end $$
"""
PART = """
delete from rlfleet.evaluations where sample > 0 or first > 0 or (against <> '' and not starts_with(against, '#'))
"""
BY_PERSON = """
update rlfleet.releases r set decision_id = null from rlfleet.decisions d where d.id = r.decision_id and d.job_id is null
"""

TRAINED_MODELS = """
create or replace view rlfleet.trained_models as
select v.id, l.name as line, v.name as "modelId", 'v1.0.' || v.number as version, v.base_model as "baseModel",
       v.job_id::text as "trainingBatch",
       case when r.live then 'deployed' when r.first_at is not null then 'archived'
            else case v.state when 'candidate' then 'training' when 'rejected' then 'failed' else v.state end
            end as status,
       v.state, v.reason, r.first_at as "deployedAt", case when not r.live then r.last_end end as "archivedAt",
       c.uri as "storagePath", c.sha256, e.accuracy, e.counts as "evalMetrics", e.judged_at as "lastBenchmarked",
       e.evaluations as "benchmarkCount", p.name as parent, v.erased_at, v.created_at as "createdAt"
  from rlfleet.versions v join rlfleet.lines l on l.id = v.line_id
  join rlfleet.checkpoints c on c.id = v.checkpoint_id
  left join rlfleet.versions p on p.id = v.parent_id
  left join lateral (select min(o.created_at) as first_at, max(o.ended_at) as last_end,
                            bool_or(o.ended_at is null) as live
                       from rlfleet.releases o where o.version_id = v.id) r on true
  left join lateral (select count(*) as evaluations, max(o.judged_at) as judged_at,
                            (array_agg(o.k::double precision / nullif(o.n, 0) order by o.id desc))[1] as accuracy,
                            jsonb_agg(jsonb_build_object('split', o.split, 'environment', o.environment,
                                                         'k', o.k, 'n', o.n) order by o.id) as counts
                       from ({evaluations}) o) e on true
"""
BY_SHARD = """
select max(id) as id, task_set ->> 'split' as split, task_set ->> 'environment' as environment,
       sum(k)::bigint as k, sum(n)::bigint as n, max(created_at) as judged_at
  from rlfleet.evaluations where checkpoint_sha256 = c.sha256 group by task_set, judge, prompt_hash, against
"""
BY_VERSION = """
select id, task_set ->> 'split' as split, task_set ->> 'environment' as environment, k, n, created_at as judged_at
  from rlfleet.evaluations where version_id = v.id
"""
MODEL_DEPLOYMENTS = """
create view rlfleet.model_deployments as
select o.id, l.name as line, v.name as "modelId", o.stage, o.share, o.reason, o.decision_id,
       o.created_at as "deployedAt", o.ended_at as "undeployedAt", o.ended_at is null as "isActive"{more}
  from rlfleet.releases o join rlfleet.versions v on v.id = o.version_id join rlfleet.lines l on l.id = o.line_id
"""
STAGED = ', o.place, o.ended_reason as "undeployReason"'


def upgrade() -> None:
    """Add what there was no place for. A release without a decision on its version gets one that says so."""
    op.add_column("evaluations", sa.Column("checkpoint_sha256", sa.Text()), schema=SCHEMA)
    op.add_column("evaluations", sa.Column("against", sa.Text(), server_default="", nullable=False), schema=SCHEMA)
    for column in (sa.Column("sample", sa.SmallInteger()), sa.Column("first", sa.Integer())):
        column.server_default, column.nullable = sa.DefaultClause("0"), False
        op.add_column("evaluations", column, schema=SCHEMA)
    op.execute(HASHED)
    op.alter_column("evaluations", "checkpoint_sha256", nullable=False, schema=SCHEMA)
    op.drop_constraint(f"uq_evaluations_{'_'.join(OLD_KEY)}", "evaluations", schema=SCHEMA)
    op.execute(TWICE)
    op.create_unique_constraint("uq_evaluations_shard", "evaluations", list(KEY), schema=SCHEMA)
    op.add_column("checkpoints", sa.Column("removed_at", sa.DateTime(timezone=True)), schema=SCHEMA)
    op.add_column("verdicts", sa.Column("type", sa.Text(), server_default="", nullable=False), schema=SCHEMA)
    op.add_column("verdicts", sa.Column("rival_right", sa.Boolean()), schema=SCHEMA)
    op.add_column("verdicts", sa.Column("reason", sa.Text()), schema=SCHEMA)
    _run_states("'running','paused','finished','stopped'")
    op.add_column("runs", sa.Column("patient_from", sa.Integer(), server_default="0", nullable=False), schema=SCHEMA)
    op.add_column(
        "runs", sa.Column("finishing", sa.Boolean(), server_default=sa.text("false"), nullable=False), schema=SCHEMA
    )
    _decisions()
    _releases()
    _failures()
    _views(BY_SHARD, STAGED)


def _views(evaluations: str, more: str) -> None:
    op.execute(sa.text(TRAINED_MODELS.format(evaluations=evaluations).replace(":", r"\:")))
    op.execute("drop view rlfleet.model_deployments")
    op.execute(MODEL_DEPLOYMENTS.format(more=more))


def _run_states(states: str) -> None:
    op.drop_constraint(op.f("ck_runs_state"), "runs", schema=SCHEMA)
    op.create_check_constraint(op.f("ck_runs_state"), "runs", f"state in ({states})", schema=SCHEMA)


def _decisions() -> None:
    for column in ("job_id", "fence"):
        op.alter_column("decisions", column, nullable=True, schema=SCHEMA)
    for name in ("actor", "approval", "approved_by"):
        op.add_column("decisions", sa.Column(name, sa.Text()), schema=SCHEMA)
    op.add_column("decisions", sa.Column("approved_at", sa.DateTime(timezone=True)), schema=SCHEMA)
    op.create_check_constraint(
        op.f("ck_decisions_approval"),
        "decisions",
        "approval in ('waiting','given','refused','superseded')",
        schema=SCHEMA,
    )
    op.create_check_constraint(
        op.f("ck_decisions_author"), "decisions", "(job_id is null) = (actor is not null)", schema=SCHEMA
    )


def _releases() -> None:
    op.execute(UNDECIDED)
    op.alter_column("releases", "decision_id", nullable=False, schema=SCHEMA)
    op.add_column("releases", sa.Column("place", sa.SmallInteger(), server_default="0", nullable=False), schema=SCHEMA)
    op.add_column("releases", sa.Column("plan", sa.dialects.postgresql.JSONB()), schema=SCHEMA)
    op.add_column("releases", sa.Column("looked", sa.dialects.postgresql.JSONB()), schema=SCHEMA)
    op.add_column("releases", sa.Column("looked_at", sa.DateTime(timezone=True)), schema=SCHEMA)
    op.add_column("releases", sa.Column("ended_reason", sa.Text()), schema=SCHEMA)
    op.create_unique_constraint(op.f("uq_versions_line_id_id"), "versions", ["line_id", "id"], schema=SCHEMA)
    op.create_foreign_key(
        op.f("fk_releases_line_id_version_id"),
        "releases",
        "versions",
        ["line_id", "version_id"],
        ["line_id", "id"],
        source_schema=SCHEMA,
        referent_schema=SCHEMA,
    )
    op.create_unique_constraint(op.f("uq_decisions_version_id_id"), "decisions", ["version_id", "id"], schema=SCHEMA)
    op.create_foreign_key(
        op.f("fk_releases_version_id_decision_id"),
        "releases",
        "decisions",
        ["version_id", "decision_id"],
        ["version_id", "id"],
        source_schema=SCHEMA,
        referent_schema=SCHEMA,
    )
    op.create_table(
        "controls",
        sa.Column("line_id", sa.BigInteger(), sa.ForeignKey(f"{SCHEMA}.lines.id", name="fk_controls_line_id")),
        sa.Column("killed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("pinned_id", sa.BigInteger(), sa.ForeignKey(f"{SCHEMA}.versions.id", name="fk_controls_pinned_id")),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("line_id", name="pk_controls"),
        schema=SCHEMA,
    )
    op.create_foreign_key(
        op.f("fk_controls_line_id_pinned_id"),
        "controls",
        "versions",
        ["line_id", "pinned_id"],
        ["line_id", "id"],
        source_schema=SCHEMA,
        referent_schema=SCHEMA,
    )


def _failures() -> None:
    op.create_table(
        "call_failures",
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked", sa.Boolean(), nullable=False),
        sa.Column("unit", sa.Text()),
        sa.PrimaryKeyConstraint("call_id", name="pk_call_failures"),
        schema=SCHEMA,
    )
    op.create_index("ix_call_failures_model", "call_failures", ["line", "model", "at"], schema=SCHEMA)
    op.create_index("ix_call_failures_unit", "call_failures", ["unit"], schema=SCHEMA)
    included = ["trajectory_id", "agent_id", "created_at"]
    op.create_index("ix_calls_model", "calls", ["model", "at"], schema=SCHEMA, postgresql_include=included)


def downgrade() -> None:
    """Take it away, with evaluations that are parts; decisions of people leave their releases."""
    op.drop_index("ix_calls_model", "calls", schema=SCHEMA)
    _views(BY_VERSION, "")
    op.drop_table("call_failures", schema=SCHEMA)
    op.execute("update rlfleet.runs set state = 'running' where state = 'paused'")
    for column in ("finishing", "patient_from"):
        op.drop_column("runs", column, schema=SCHEMA)
    _run_states("'running','finished','stopped'")
    op.drop_table("controls", schema=SCHEMA)
    op.drop_constraint(op.f("fk_releases_version_id_decision_id"), "releases", schema=SCHEMA)
    op.drop_constraint(op.f("uq_decisions_version_id_id"), "decisions", schema=SCHEMA)
    op.drop_constraint(op.f("fk_releases_line_id_version_id"), "releases", schema=SCHEMA)
    op.drop_constraint(op.f("uq_versions_line_id_id"), "versions", schema=SCHEMA)
    for column in ("ended_reason", "looked_at", "looked", "plan", "place"):
        op.drop_column("releases", column, schema=SCHEMA)
    op.alter_column("releases", "decision_id", nullable=True, schema=SCHEMA)
    op.execute(BY_PERSON)
    op.execute("delete from rlfleet.decisions where job_id is null")
    for constraint in ("author", "approval"):
        op.drop_constraint(f"ck_decisions_{constraint}", "decisions", schema=SCHEMA)
    for column in ("approved_at", "approved_by", "approval", "actor"):
        op.drop_column("decisions", column, schema=SCHEMA)
    for column in ("job_id", "fence"):
        op.alter_column("decisions", column, nullable=False, schema=SCHEMA)
    op.drop_column("checkpoints", "removed_at", schema=SCHEMA)
    op.execute(PART)
    for column in ("reason", "rival_right", "type"):
        op.drop_column("verdicts", column, schema=SCHEMA)
    op.drop_constraint("uq_evaluations_shard", "evaluations", schema=SCHEMA)
    op.create_unique_constraint(f"uq_evaluations_{'_'.join(OLD_KEY)}", "evaluations", list(OLD_KEY), schema=SCHEMA)
    for column in ("first", "sample", "against", "checkpoint_sha256"):
        op.drop_column("evaluations", column, schema=SCHEMA)
