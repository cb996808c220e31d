"""Why a version has no verdicts, and what a person can do about it."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import lines
from db.tables import Line, Version

# The newest first, of those a person must look at before those that are under way.
JOBS = text("""
    select id, state, error from rlfleet.jobs
     where line_id = :line and kind = 'evaluate' and inputs ->> 'version' = :version
     order by state in ('failed', 'dead', 'cancelled') desc, id desc limit 1
""")
OF_A_RUN = text("""
    select exists (
        select 1 from rlfleet.datasets d join rlfleet.dataset_windows o on o.dataset_id = d.id
          join rlfleet.windows w on w.id = o.window_id
         where d.job_id = :job and w.run_id is not null)
""")


def why(session: Session, version: Version) -> str:
    """The job that is to evaluate it, or that its line evaluates nothing, in words."""
    row = session.execute(JOBS, {"line": version.line_id, "version": version.name}).one_or_none()
    if row is not None:
        failed = row.state in ("failed", "dead", "cancelled")
        error = f" ({row.error})" if row.error else ""
        return f"job {row.id} is {row.state}{error}; `rlfleet jobs {'requeue' if failed else 'show'} {row.id}`"
    line = session.get_one(Line, version.line_id)
    config = lines.config_of(line)
    of_a_run = session.execute(OF_A_RUN, {"job": version.job_id}).scalar_one()
    if config.validation is None and config.held_out is None and not of_a_run:
        return f"line {line.name} evaluates nothing: give it [validation] or [held_out]"
    return "no evaluation of it is asked for; `rlfleet status` says what the line waits for"
