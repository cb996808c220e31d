"""Which queued jobs could begin at this moment if a worker were free: one definition for pages, metrics and alerts."""

READY = """
    select j.id, j.queue, j.kind,
           greatest(j.run_at, (select max(d.finished_at) from rlfleet.jobs d where d.id = any(j.after)),
                    case when j.kind = 'train' then (
                        select max(d.finished_at) from rlfleet.jobs d
                         where d.line_id = j.line_id and d.kind = 'train' and d.state <> 'queued') end) as due_at
      from rlfleet.jobs j
     where j.state = 'queued' and j.run_at <= now() and not j.cancel_requested
       and not exists (select 1 from rlfleet.pauses p where p.kind = j.kind)
       and (cardinality(j.after) = 0 or not exists (
           select 1 from rlfleet.jobs d where d.id = any(j.after) and d.state <> 'succeeded'))
       -- One training of a line at a time: the one that was rung, else the first, as db.dispatch rings them.
       and not (j.kind = 'train' and exists (
           select 1 from rlfleet.jobs o
            where o.line_id = j.line_id and o.kind = 'train' and o.id <> j.id
              and (o.state = 'running' or (
                  o.state = 'queued' and o.run_at <= now() and not o.cancel_requested and o.devices <= j.devices
                  and (o.last_sent_at is null, o.priority, o.id) < (j.last_sent_at is null, j.priority, j.id)
                  and (cardinality(o.after) = 0 or not exists (
                      select 1 from rlfleet.jobs d where d.id = any(o.after) and d.state <> 'succeeded'))))))
"""
"""A job is due since ``due_at``: its time has come, what it comes after is done, and no other training has its line."""
