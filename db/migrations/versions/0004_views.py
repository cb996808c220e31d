"""Views to read under the names, and where there are such with the columns, that users of an older system know

Each joins at least two tables, so Postgres refuses to write through it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TRAINING_WINDOWS = """
create view rlfleet.training_windows as
select w.id, l.name as line, w.name as "windowId", w.state, w.reason, r.name as run, w.round, w.starts_at, w.ends_at,
       (select count(*) from rlfleet.trajectories t where t.window_id = w.id and t.at = w.starts_at) as trajectories,
       (select count(distinct t.scenario_id) from rlfleet.trajectories t
         where t.window_id = w.id and t.at = w.starts_at) as scenario_groups,
       (select count(*) from rlfleet.trajectories t
         where t.window_id = w.id and t.at = w.starts_at
           and exists (select 1 from rlfleet.scores s where s.trajectory_id = t.trajectory_id)) as scored,
       (select count(*) from rlfleet.quarantine q where q.window_id = w.id) as quarantined,
       w.created_at as "createdAt"
  from rlfleet.windows w join rlfleet.lines l on l.id = w.line_id left join rlfleet.runs r on r.id = w.run_id
"""

TRAINING_JOBS = """
create view rlfleet.training_jobs as
select j.id, l.name as line, j.id::text as "batchId",
       (select string_agg(one, ',' order by place)
          from jsonb_array_elements_text(j.inputs -> 'windows') with ordinality as u(one, place)) as "scenarioId",
       coalesce(v.base_model, l.config ->> 'base_model') as "baseModel", v.name as "modelVersion",
       (select json_agg(t.trajectory_id order by t."group" collate "C", t.trajectory_id collate "C")::text
          from rlfleet.dataset_trajectories t where t.dataset_id = d.id) as "trajectoryIds",
       (select json_agg(t.score order by t."group" collate "C", t.trajectory_id collate "C")::text
          from rlfleet.dataset_trajectories t where t.dataset_id = d.id) as "rewardsJson",
       (c.metrics ->> 'loss')::double precision as "trainingLoss",
       case j.state when 'queued' then 'pending' when 'running' then 'training' when 'succeeded' then 'completed'
            when 'cancelled' then 'cancelled' else 'failed' end as status,
       j.state, j.attempt, j.config ->> 'objective' as objective, j.error,
       j.created_at as "createdAt", j.started_at as "startedAt", j.finished_at as "completedAt"
  from rlfleet.jobs j join rlfleet.lines l on l.id = j.line_id
  left join rlfleet.datasets d on d.job_id = j.id
  left join rlfleet.versions v on v.job_id = j.id
  left join rlfleet.checkpoints c on c.id = v.checkpoint_id
 where j.kind = 'train'
"""

TRAINING_DATASETS = """
create view rlfleet.training_datasets as
select d.id, l.name as line, d.job_id::text as "batchId", v.name as "modelVersion", d.sha256,
       array(select w.name from rlfleet.dataset_windows o join rlfleet.windows w on w.id = o.window_id
              where o.dataset_id = d.id order by w.starts_at, w.id) as windows,
       (select count(*) from rlfleet.dataset_trajectories t where t.dataset_id = d.id) as trajectories,
       (select count(distinct t."group") from rlfleet.dataset_trajectories t
         where t.dataset_id = d.id) as scenario_groups,
       (d.manifest ->> 'left_out')::bigint as left_out,
       (select json_agg(t.trajectory_id order by t."group" collate "C", t.trajectory_id collate "C")::text
          from rlfleet.dataset_trajectories t where t.dataset_id = d.id) as "trajectoryIds",
       (select json_agg(t.score order by t."group" collate "C", t.trajectory_id collate "C")::text
          from rlfleet.dataset_trajectories t where t.dataset_id = d.id) as "rewardsJson",
       d.erased_at, d.created_at as "createdAt"
  from rlfleet.datasets d join rlfleet.lines l on l.id = d.line_id left join rlfleet.versions v on v.job_id = d.job_id
"""

RULER_SCORES = """
create view rlfleet.ruler_scores as
select s.id, l.name as line, s.trajectory_id as "trajectoryId", w.name as "windowId", s.judge as "judgeModel",
       s.method, s.method_version as "judgeVersion", s.score as "overallScore",
       case when s.compared_in is not null
            then rank() over (partition by s.compared_in, s.judge, s.method, s.method_version, s.rubric_hash
                              order by s.score desc) end as rank,
       s.compared_in as "groupId", s.explanation as reasoning, s.rubric_hash, s.cost, s.created_at as "judgedAt"
  from rlfleet.scores s join rlfleet.trajectory_keys k on k.trajectory_id = s.trajectory_id
  join rlfleet.windows w on w.id = k.window_id join rlfleet.lines l on l.id = k.line_id
 where s.judge is not null
"""

TRAINED_MODELS = """
create view rlfleet.trained_models as
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
  left join lateral (select count(*) as evaluations, max(o.created_at) as judged_at,
                            (array_agg(o.k::double precision / nullif(o.n, 0) order by o.id desc))[1] as accuracy,
                            jsonb_agg(jsonb_build_object('split', o.task_set ->> 'split', 'environment',
                                o.task_set ->> 'environment', 'k', o.k, 'n', o.n) order by o.id) as counts
                       from rlfleet.evaluations o where o.version_id = v.id) e on true
"""

MODEL_DEPLOYMENTS = """
create view rlfleet.model_deployments as
select o.id, l.name as line, v.name as "modelId", o.stage, o.share, o.reason, o.decision_id,
       o.created_at as "deployedAt", o.ended_at as "undeployedAt", o.ended_at is null as "isActive"
  from rlfleet.releases o join rlfleet.versions v on v.id = o.version_id join rlfleet.lines l on l.id = o.line_id
"""

VIEWS = {
    "training_windows": TRAINING_WINDOWS,
    "training_jobs": TRAINING_JOBS,
    "training_datasets": TRAINING_DATASETS,
    "ruler_scores": RULER_SCORES,
    "trained_models": TRAINED_MODELS,
    "model_deployments": MODEL_DEPLOYMENTS,
}


def upgrade() -> None:
    for statement in VIEWS.values():
        op.execute(sa.text(statement.replace(":", r"\:")))


def downgrade() -> None:
    for name in VIEWS:
        op.execute(f"drop view rlfleet.{name}")
