"""Which queued jobs could begin at this moment if a worker were free: one definition for pages, metrics and alerts."""

from db.tables.jobs import HELD_TO_THE_END

LEFT = "(select max(e.at) from rlfleet.job_events e where e.job_id = {}.id and e.from_state = 'running')"
"""When the job, which does not run, last did; null where it never did."""

READY = f"""
    select j.id, j.queue, j.kind,
           greatest(j.run_at, (select max(d.finished_at) from rlfleet.jobs d where d.id = any(j.after)),
                    (select r.resumed_at from rlfleet.resumes r where r.kind = j.kind),
                    case when j.fence > 0 then {LEFT.format("j")} end,
                    case when j.kind = 'train' then greatest(
                        (select max(d.finished_at) from rlfleet.jobs d
                          where d.line_id = j.line_id and d.kind = 'train' and d.{HELD_TO_THE_END}),
                        (select max({LEFT.format("d")}) from rlfleet.jobs d
                          where d.line_id = j.line_id and d.kind = 'train' and d.state in ('queued', 'cancelled')
                            and d.fence > 0)) end) as due_at
      from rlfleet.jobs j
     where j.state = 'queued' and j.run_at <= now() and not j.cancel_requested
       and not exists (select 1 from rlfleet.pauses p where p.kind = j.kind)
       and (cardinality(j.after) = 0 or not exists (
           select 1 from rlfleet.jobs d where d.id = any(j.after) and d.state <> 'succeeded'))
       -- One training of a line at a time: the one that was rung, else the first, as db.dispatch rings them.
       and not (j.kind = 'train' and exists (
           select 1 from rlfleet.jobs o
            where o.line_id = j.line_id and o.kind = 'train' and o.id <> j.id and o.state in ('queued', 'running')
              and (o.state = 'running' or (
                  o.run_at <= now() and not o.cancel_requested and o.devices <= j.devices
                  and (o.last_sent_at is null, o.priority, o.id) < (j.last_sent_at is null, j.priority, j.id)
                  and (cardinality(o.after) = 0 or not exists (
                      select 1 from rlfleet.jobs d where d.id = any(o.after) and d.state <> 'succeeded'))))))
"""  # noqa: S608 (of constants)
"""A job is due since ``due_at``: its time has come, what it comes after is done, nobody has it, its kind is not paused
any more, and no other training has its line.
"""
